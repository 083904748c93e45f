# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of one request, hop by hop, each ok, broken or unknown with its evidence. Pure: facts in, hops out.

The order is the request's own, from the name to the pod behind the gateway; real requests come last, from the inside
out. A hop is broken for its own reasons only: what follows from an earlier one is unknown, or says so. `unknown` is
what may not be read or wasn't asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import (
    Chain,
    Config,
    Endpoint,
    Listener,
    Route,
    VirtualHost,
    object_name,
)
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates, _match, _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    RESERVED,
    Edge,
    Facts,
    GatewayPod,
    Manifest,
    Probe,
    Target,
    is_address,
    leaving,
    ready,
    selected,
)

OK, BROKEN, UNKNOWN = "ok", "broken", "unknown"

HOPS = {
    "dns": "DNS",
    "vip": "VIP",
    "route": "Route to the VIP",
    "service": "Gateway's Service",
    "kube_proxy": "kube-proxy",
    "pod": "Gateway pod",
    "sync": "In step with istiod",
    "listener": "Listener",
    "filter_chain": "Filter chain",
    "certificate": "Certificate",
    "virtual_host": "Virtual host",
    "route_match": "Route",
    "policy": "Policy",
    "cluster": "Cluster",
    "endpoints": "Endpoints",
    "backend": "Backend",
    "probe_pod": "Request at the pod",
    "probe_edge": "Request at the edge's nodePort",
    "probe_vip": "Request through the VIP",
}
"""Every hop with its name for people, in order."""

PER_POD = tuple(HOPS)[list(HOPS).index("pod") : list(HOPS).index("backend") + 1]


@dataclass(frozen=True, slots=True)
class Hop:
    """One step. `at` is the pod or edge where there are several, `objects` are named as `Kind namespace/name`."""

    name: str
    state: str
    evidence: tuple[str, ...] = ()
    cure: str = ""
    at: str = ""
    objects: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return HOPS[self.name]


@dataclass(frozen=True, slots=True)
class Path:
    """What a request takes inside one gateway pod, as far as it comes."""

    listener: Listener | None = None
    chain: Chain | None = None
    host: VirtualHost | None = None
    route: Route | None = None
    clusters: tuple[str, ...] = ()


def path_in(config: Config, port: int | None, target: Target) -> Path:
    """Follow a request through one pod's configuration."""
    found = config.on(port or 0) or [one for one in config.warming if one.port == port]
    listener = next((one for one in found if one.address not in ("127.0.0.1", "::1")), None)
    chain = _match.chain_for(listener, target.host, tls=target.encrypted) if listener is not None else None
    if listener is None or chain is None:
        return Path(listener)
    if chain.kind == "TCP":
        return Path(listener, chain, clusters=tuple(name for name, _weight in chain.clusters))
    host = _match.host_for(config.routes.get(chain.route_config, ()), target.host or "any.invalid")
    route = _match.route_for(host, request_of(target)) if host is not None else None
    clusters = tuple(name for name, weight in route.clusters if weight or len(route.clusters) == 1) if route else ()
    return Path(listener, chain, host, route, clusters)


def request_of(target: Target) -> _match.Request:
    """The target as Envoy sees it."""
    path, _mark, query = target.path.partition("?")
    pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    host = target.host or "any.invalid"
    return _match.Request(host, path, target.method, dict(target.headers), pairs, target.protocol.lower())


def trace(facts: Facts) -> list[Hop]:
    """Return every hop, in order."""
    service = _service(facts)
    found = [_dns(facts), _vip(facts), _route(facts, service), service, _kube_proxy(facts)]
    found += _pods(facts)
    found += _requests(facts)
    return sorted(found, key=lambda hop: list(HOPS).index(hop.name))


def first_broken(hops: Sequence[Hop]) -> Hop | None:
    return next((hop for hop in hops if hop.state == BROKEN), None)


def answers(facts: Facts) -> bool | None:
    """Whether a client gets an answer through the VIP now; None where it wasn't tried."""
    probe = facts.probe("vip")
    return None if probe is None else not _complaint(facts, probe)


# Before the cluster


def _dns(facts: Facts) -> Hop:
    host, found = facts.target.host, facts.dns
    if not host:
        return Hop("dns", OK, ("The exposure has no hostname: clients use the address.",))
    if is_address(host):
        return Hop("dns", OK, (f"{host} is an address already.",))
    if found is None:
        return Hop("dns", UNKNOWN, ("Not asked.",))
    vips = ", ".join(facts.vips)
    said = f"{found.server or 'The resolver'} says {', '.join(found.addresses) or found.error}"
    said += f" (through {', '.join(found.aliases)})." if found.aliases else "."
    cure = f"Have DNS answer {vips} for {host}." if vips else ""
    if found.error in ("nxdomain", "nodata"):
        tail = host.rstrip(".").lower().split(".")
        if not found.chosen and any(".".join(tail[index:]) in RESERVED for index in range(len(tail))):
            return Hop("dns", UNKNOWN, (said, f"{host} lies under a name that public DNS never has (RFC 2606)."), cure)
        return Hop("dns", BROKEN, (said, f"{host} has no address."), cure)
    if found.error or not facts.vips:
        return Hop("dns", UNKNOWN, (said,), "Name a DNS server that answers by the option nameservers.")
    strangers = [address for address in found.addresses if address not in facts.vips]
    if strangers:
        wrong = f"{', '.join(strangers)} {'is' if len(strangers) == 1 else 'are'} not the VIP {vips}."
        return Hop("dns", BROKEN, (said, wrong), cure)
    return Hop("dns", OK, (said,))


def _vip(facts: Facts) -> Hop:
    if not facts.vips:
        return Hop(
            "vip", UNKNOWN, ("No VIP is known.",), "Name it by the option vips, or put it in the Service's status."
        )
    if facts.edges is None:
        return Hop(
            "vip", UNKNOWN, (f"Which edge holds {facts.vips[0]} wasn't asked.",),
            "Run playbooks/trace.yml, which asks the edges over SSH.",
        )  # fmt: skip
    vip = facts.vips[0]
    holders = [edge for edge in facts.edges if vip in edge.held]
    silent = [edge.name for edge in facts.edges if not edge.answered]
    evidence = [f"{vip} is on {' and '.join(edge.name for edge in holders) or 'no edge'}."]
    evidence += [f"{name} doesn't answer over SSH." for name in silent]
    if not holders:
        probe = facts.probe("vip")
        if probe is not None and (probe.connected or probe.failure == "refused"):
            evidence.append("Something answers at it all the same.")
            if silent:
                return Hop("vip", UNKNOWN, tuple(evidence), f"Look on {', '.join(silent)} for it.")
            cure = "Find the machine that has it (ip neigh show on this network) and take it away there."
            return Hop("vip", BROKEN, tuple(evidence), cure)
        cure = (
            "Start keepalived on the edges (playbooks/vip.yml); journalctl --unit keepalived says why it has no holder."
        )
        return Hop("vip", BROKEN, tuple(evidence), cure)
    if len(holders) > 1:
        cure = "Adverts don't pass between them: look at the firewall (protocol 112) and at virtual_router_id."
        return Hop("vip", BROKEN, tuple(evidence), cure)
    return _holder(holders[0], vip, evidence)


def _holder(holder: Edge, vip: str, evidence: list[str]) -> Hop:
    states = dict(holder.states)
    if holder.running is False:
        evidence.append(f"keepalived doesn't run on {holder.name}: no other edge will take over.")
        return Hop(
            "vip", BROKEN, tuple(evidence), f"Start it: systemctl start keepalived on {holder.name}.", holder.name
        )
    if states.get(vip, "MASTER") != "MASTER":
        evidence.append(f"{holder.name}'s keepalived says {states[vip]}.")
        return Hop(
            "vip", BROKEN, tuple(evidence), f"Something else gave {holder.name} the address: restart keepalived there.",
            holder.name,
        )  # fmt: skip
    failed = [name for name, state in holder.checks if state == "failed"] if vip in states else []
    if failed:
        evidence.append(f"Its checks say: {', '.join(failed)} failed; no edge is better.")
        return Hop("vip", BROKEN, tuple(evidence), f"Mend what the check {failed[0]} looks at.", holder.name)
    if vip in states:
        evidence.append(f"keepalived runs there, {states[vip]}" + (", drained." if holder.drained else "."))
    return Hop("vip", OK, tuple(evidence), at=holder.name)


def _route(facts: Facts, service: Hop) -> Hop:
    way, probe = facts.way, facts.probe("vip")
    if way is not None and way.error:
        return Hop(
            "route", BROKEN, (f"This machine has no way to {facts.vips[0]}: {way.error}.",),
            f"Add a route to {facts.vips[0]}: ip route get {facts.vips[0]} shows the one in force.",
        )  # fmt: skip
    evidence = [f"From {way.source}."] if way is not None and way.source else []
    if probe is None:
        return Hop("route", OK if evidence else UNKNOWN, tuple(evidence) or ("Not tried.",))
    if probe.connected or probe.failure == "refused":
        evidence.append(f"{probe.address} {'answers' if probe.connected else 'refuses the connection'}.")
        return Hop("route", OK, tuple(evidence))
    evidence.append(f"{probe.address}: {probe.reason or probe.failure}.")
    holders = {edge.name for edge in facts.edges or () if facts.vips and facts.vips[0] in edge.held}
    reached = [one for one in facts.probes if one.place == "edge" and one.connected and one.at in holders]
    # kube-proxy drops what the Service doesn't let in: that isn't the way's fault
    if reached and service.state != BROKEN:
        evidence.append(f"{reached[0].address} on its holder answers, so the machine and kube-proxy are well.")
        return Hop(
            "route", BROKEN, tuple(evidence),
            f"Look for a firewall on {reached[0].at} or on the way that drops {probe.address}, or a stale ARP entry.",
        )  # fmt: skip
    return Hop("route", UNKNOWN, tuple(evidence), "No holder was reached in another way: see the hops after this one.")


# Service and kube-proxy


def _the_service(facts: Facts) -> Manifest | None:
    return facts.snapshot.get("Service", facts.target.namespace, facts.target.service)


def _dedicated(facts: Facts) -> bool:
    """Whether the edges are machines outside the cluster, which forward to the nodePorts."""
    nodes = {node["metadata"]["name"] for node in facts.snapshot.all("Node")}
    return bool(nodes) and bool(facts.edges) and not any(edge.node in nodes for edge in facts.edges or ())


def _service(facts: Facts) -> Hop:
    target, snapshot = facts.target, facts.snapshot
    name = f"Service {target.namespace}/{target.service}"
    if not snapshot.known("Service"):
        return Hop("service", UNKNOWN, (f"{name} can't be read: {snapshot.refused.get('Service', 'not asked')}.",))
    service = _the_service(facts)
    if service is None:
        cure = "Install the gateway (role istio), or name its Service by the option gateway."
        return Hop("service", BROKEN, (f"{name} doesn't exist.",), cure, objects=(name,))
    spec = service["spec"]
    kind = spec.get("type", "ClusterIP")
    evidence = [f"{name}, {kind}, externalTrafficPolicy {spec.get('externalTrafficPolicy', 'Cluster')}."]

    def broken(reason: str, cure: str) -> Hop:
        return Hop("service", BROKEN, (*evidence, reason), cure, objects=(name,))

    ports = [one for one in spec.get("ports") or () if one.get("protocol", "TCP") == "TCP"]
    port = next((one for one in ports if one["port"] == target.port), None)
    if kind == "ClusterIP" or (kind == "NodePort" and not _dedicated(facts)):
        reason = f"Nothing outside the cluster reaches a {kind} at the VIP."
        return broken(reason, "Install the gateway with type LoadBalancer and loadBalancerClass edgeway.istio/vip.")
    if port is None:
        has = ", ".join(str(one["port"]) for one in ports) or "none"
        return broken(f"It has no port {target.port}; it has {has}.", "Run playbooks/expose.yml, which adds the port.")
    evidence.append(
        f"Port {port['port']} → targetPort {port.get('targetPort')}, nodePort {port.get('nodePort', 'none')}."
    )
    carried = [
        str(one.get("ip") or one.get("hostname"))
        for one in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    ]
    missing = [vip for vip in facts.vips if vip not in carried]
    if kind == "LoadBalancer" and missing and not _dedicated(facts):
        reason = f"Its EXTERNAL-IP is {', '.join(carried) or 'pending'}: kube-proxy doesn't serve {missing[0]}."
        return broken(
            reason, "Run site.yml with the tag gateway_ports, which writes the VIP into the Service's status."
        )
    if target.node_port and port.get("nodePort") != target.node_port:
        reason = f"The exposure pins nodePort {target.node_port}, and the port has {port.get('nodePort', 'none')}."
        return broken(reason, "Run playbooks/expose.yml; it says who has the nodePort if it is taken.")
    ranges = [str(one) for one in spec.get("loadBalancerSourceRanges") or ()]
    if ranges and facts.way is not None and facts.way.source and not _within(facts.way.source, ranges):
        reason = f"loadBalancerSourceRanges {', '.join(ranges)} leave out {facts.way.source}."
        return broken(reason, "Add this client's network to spec.loadBalancerSourceRanges.")
    return _service_pods(facts, service, evidence)


def _within(address: str, ranges: Sequence[str]) -> bool:
    found = ipaddress.ip_address(address)
    networks = [ipaddress.ip_network(one.strip(), strict=False) for one in ranges]
    return any(found.version == network.version and found in network for network in networks)


def _service_pods(facts: Facts, service: Manifest, evidence: list[str]) -> Hop:
    name = _why.named({**service, "kind": "Service"})
    selector = service["spec"].get("selector") or {}
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    there = [
        pod for pod in facts.snapshot.all("Pod")
        if pod["metadata"].get("namespace") == facts.target.namespace and not leaving(pod)
    ]  # fmt: skip
    picked = selected(there, selector)
    if facts.snapshot.known("Pod") and not picked:
        meant = [
            pod["metadata"]["name"]
            for gateway, server in _why.servers(facts.snapshot)
            if int((server.get("port") or {}).get("number") or 0) == facts.target.port
            for pod in selected(there, gateway["spec"].get("selector"))
        ]
        if meant:
            reason = (
                f"It asks for pods with {labels or 'no labels'}, which no pod has; Gateways here are for {meant[0]}."
            )
            cure = f"Give {name} the labels of the gateway's pods."
            return Hop("service", BROKEN, (*evidence, reason), cure, objects=(name,))
    target = next(
        (one.get("targetPort") for one in service["spec"]["ports"] if one["port"] == facts.target.port),
        facts.target.port,
    )
    if isinstance(target, str) and picked and _why.target_ports(service, facts.target.port, picked[0]) is None:
        reason = f"targetPort {target!r} is a name that no port of {picked[0]['metadata']['name']} has."
        return Hop("service", BROKEN, (*evidence, reason), "Write the number that the listener binds.", objects=(name,))
    return Hop("service", OK, tuple(evidence), objects=(name,))


def _kube_proxy(facts: Facts) -> Hop:
    service = _the_service(facts)
    if service is None:
        return Hop("kube_proxy", UNKNOWN, ("There is no Service to ask about.",))
    evidence = []
    for one in facts.proxies:
        count = "" if one.local_endpoints is None else f"{one.local_endpoints} of the gateway's endpoints on it"
        word = {True: "well", False: "not well", None: ""}[one.healthy]
        evidence.append(f"{one.node}: {', '.join(filter(None, (word, count, one.error)))}.")
    pods = [pod for pod in facts.pods if ready(pod.manifest)]
    local = service["spec"].get("externalTrafficPolicy") == "Local"
    holders = [edge for edge in facts.edges or () if facts.vips and facts.vips[0] in edge.held]
    if len(holders) == 1 and not _dedicated(facts):
        node = holders[0].node
        health = next((one for one in facts.proxies if one.node == node), None)
        if health is not None and health.healthy is False:
            cure = f"kubectl --namespace kube-system logs --selector k8s-app=kube-proxy says why on {node}."
            return Hop("kube_proxy", BROKEN, tuple(evidence), cure, node)
        mine = [pod for pod in pods if pod.node == node]
        if local and pods and not mine:
            evidence.append(f"{node} holds the VIP, has no ready gateway pod, and Local sends to pods on {node} alone.")
            here = [_why.trouble(pod.manifest) for pod in facts.pods if pod.node == node]
            cure = f"Mend {here[0]}." if here else f"Run a gateway pod on {node}, or take it out of the edges."
            return Hop("kube_proxy", BROKEN, tuple(evidence), cure, node)
        if local and mine and health is not None and health.local_endpoints == 0:
            evidence.append(f"{mine[0].name} on {node} is ready, and kube-proxy counts none.")
            return Hop("kube_proxy", BROKEN, tuple(evidence), f"Restart kube-proxy on {node}.", node)
    if not evidence:
        return Hop("kube_proxy", UNKNOWN, ("No node was asked.",))
    if all(one.local_endpoints is None and one.healthy is None for one in facts.proxies):
        return Hop(
            "kube_proxy", UNKNOWN, tuple(evidence), "Nodes answer at the health ports only where no firewall is."
        )
    return Hop("kube_proxy", OK, tuple(evidence))


# Gateway pods


def _pods(facts: Facts) -> list[Hop]:
    if not facts.pods:
        if not facts.snapshot.known("Pod"):
            reason = f"Pods can't be read: {facts.snapshot.refused.get('Pod', 'not asked')}."
            return [Hop(name, UNKNOWN, (reason,)) for name in PER_POD]
        service = _the_service(facts)
        if service is None:
            return [Hop("pod", UNKNOWN, ("Without the Service nobody knows the gateway's pods.",))]
        labels = ",".join(f"{key}={value}" for key, value in (service["spec"].get("selector") or {}).items())
        reason = f"No pod in {facts.target.namespace} has {labels}."
        cure = "Scale the gateway's Deployment up, or see in its events why it has no pods."
        return [Hop("pod", BROKEN, (reason,), cure)]
    found: list[Hop] = []
    for pod in facts.pods:
        found += _InPod(facts, pod).hops()
    return found


class _InPod:
    """The hops inside one gateway pod."""

    def __init__(self, facts: Facts, pod: GatewayPod) -> None:
        self.facts, self.pod, self.target = facts, pod, facts.target
        self.port = _why.target_ports(_the_service(facts), facts.target.port, pod.manifest)
        self.probe = facts.probe("pod", pod.name)
        self.found: list[Hop] = []

    def note(self, name: str, state: str, *evidence: str, cure: str = "", objects: Sequence[str] = ()) -> None:
        self.found.append(Hop(name, state, evidence, cure, self.pod.name, tuple(objects)))

    def hops(self) -> list[Hop]:
        self._pod()
        self._sync()
        config = self.pod.config
        if config is None:
            for name in PER_POD[2:]:
                self.note(name, UNKNOWN, f"Its Envoy wasn't read: {self.pod.unread or 'not asked'}.")
        else:
            self._inside(config)
        return self.found

    def _pod(self) -> None:
        node = self.pod.node or "no node"
        if ready(self.pod.manifest):
            self.note("pod", OK, f"Ready on {node}.")
            return
        cure = f"kubectl --namespace {self.target.namespace} describe pod {self.pod.name}"
        self.note("pod", BROKEN, f"{_why.trouble(self.pod.manifest)}, on {node}.", cure=cure)

    def _sync(self) -> None:
        config, istiod, sync = self.pod.config, self.facts.istiod, self.pod.sync
        refused = config.rejected if config is not None else ()
        if refused:
            evidence = [f"Envoy refused {one.kind} {one.name} at {one.at}: {one.reason}" for one in refused]
            cure = "Correct the object behind it, often an EnvoyFilter; what Envoy had before goes on."
            self.note("sync", BROKEN, *evidence, cure=cure)
        elif istiod.ready == 0:
            reason = "No istiod is ready: what is configured goes on, changes don't arrive."
            self.note("sync", BROKEN, reason, cure="kubectl get pods --all-namespaces --selector app=istiod")
        elif sync is not None and sync.behind:
            reason = f"{sync.istiod} has sent {', '.join(sync.behind)}, and this pod hasn't taken them."
            self.note("sync", BROKEN, reason, cure=f"See the pod's log; restart {self.pod.name} if it stays behind.")
        elif sync is not None:
            self.note("sync", OK, f"{sync.istiod} says that it has everything.")
        elif istiod.silent and not istiod.asked:
            reason = f"{', '.join(istiod.silent)} doesn't answer."
            self.note("sync", BROKEN, reason, cure="See istiod's log; restart it if it hangs.")
        elif istiod.asked and not istiod.silent and self.pod.config is not None:
            where = config.discovery if config is not None else ""
            reason = f"{', '.join(istiod.asked)} doesn't know this pod: it isn't connected, and changes don't arrive."
            self.note("sync", BROKEN, reason, cure=f"See why the pod doesn't reach {where or 'istiod'}: its log says.")
        else:
            self.note("sync", UNKNOWN, istiod.forbidden or "istiod wasn't asked.")

    def _rest(self, after: str) -> None:
        for name in PER_POD[PER_POD.index(after) + 1 :]:
            self.note(name, UNKNOWN, f"Not reached: see {HOPS[after].lower()}.")

    def _inside(self, config: Config) -> None:
        listener = self._listener(config)
        if listener is None:
            return self._rest("listener")
        chain = self._chain(listener)
        if chain is None:
            return self._rest("filter_chain")
        self._certificate(config, chain, warming=listener in config.warming)
        clusters = self._http(config, chain) if chain.kind == "HTTP" else self._tcp(chain)
        if clusters is None:
            return None
        self._policy(chain)
        usable = self._clusters(config, clusters)
        endpoints = self._endpoints(config, usable) if usable else None
        if not usable:
            self.note("endpoints", UNKNOWN, "There is no cluster to have any.")
        self._backend(endpoints)
        return None

    def _listener(self, config: Config) -> Listener | None:
        if self.port is None:
            self.note("listener", UNKNOWN, "The Service doesn't say which port it should have.")
            return None
        found = [one for one in config.on(self.port) if one.address not in ("127.0.0.1", "::1")]
        if found:
            self.note("listener", OK, f"{found[0].name} is bound.", objects=self._gateways())
            return found[0]
        waiting = next((one for one in config.warming if one.port == self.port), None)
        if waiting is not None:
            missing = sorted({name for one in waiting.chains for name in one.secrets if name not in config.secrets})
            if missing:
                # Its certificate is what is broken
                self.note("listener", OK, f"{waiting.name} waits for {', '.join(missing)} before it takes connections.")
                return waiting
            self.note("listener", BROKEN, f"{waiting.name} isn't active yet.", cure="See the pod's log.")
            return None
        why = _why.no_listener(self.target, self.port, self.pod, self.facts.snapshot)
        bound = ", ".join(str(one.port) for one in config.listeners if one.port not in (15021, 15090)) or "none"
        self.note(
            "listener", BROKEN, f"Nothing is bound to {self.port}; bound are {bound}.", *why,
            cure="Run playbooks/expose.yml." if not why else _cure(why[0]),
        )  # fmt: skip
        return None

    def _gateways(self) -> list[str]:
        return [
            _why.named(gateway)
            for gateway, server in _why.servers(self.facts.snapshot)
            if selected([self.pod.manifest], gateway["spec"].get("selector"))
            and any(_why.fits(host, self.target.host) for host in server.get("hosts") or ())
            and _why.bound(self.facts.snapshot, self.pod.manifest, server["port"]["number"]) == self.port
        ]

    def _chain(self, listener: Listener) -> Chain | None:
        target = self.target
        chain = _match.chain_for(listener, target.host, tls=target.encrypted)
        served = sorted({name for one in listener.chains for name in one.names})
        if chain is None:
            if served and not target.encrypted:
                reason = f"{listener.name} takes TLS alone, and {target.protocol} was asked."
            else:
                reason = (
                    f"No filter chain takes the server name {target.host or '(none)'}; there are {', '.join(served)}."
                )
            why = _why.no_route(target, self.pod, self.facts.snapshot)
            self.note("filter_chain", BROKEN, reason, *why, cure=_cure(why[0]) if why else "Correct the hostnames.")
            return None
        does = ("ends TLS" if chain.tls else "takes it as it comes") + f", {chain.kind}"
        evidence = f"For {', '.join(chain.names) or 'any name'}: {does}."
        wrong = {
            "HTTP": chain.kind != "HTTP" or chain.tls,
            "HTTPS": not chain.tls or chain.kind != "HTTP",
            "TLS": chain.tls or chain.kind != "TCP",
            "TCP": chain.kind != "TCP",
        }[target.protocol]
        if wrong:
            self.note(
                "filter_chain", BROKEN, evidence, f"The exposure is {target.protocol}.", objects=self._gateways(),
                cure="Another Gateway has this port and name with another protocol: publish one of them elsewhere.",
            )  # fmt: skip
            return None
        self.note("filter_chain", OK, evidence, objects=self._gateways())
        return chain

    def _certificate(self, config: Config, chain: Chain, *, warming: bool) -> None:
        if self.target.protocol == "TLS":
            shown = self.probe.certificates if self.probe is not None else ()
            if shown:
                self._one_certificate(shown[0], ["the backend's own certificate"])
            else:
                self.note("certificate", UNKNOWN, "TLS is ended by the backend, which showed none.")
            return
        if not chain.tls:
            self.note("certificate", OK, "Not encrypted.")
            return
        for name in chain.secrets:
            objects = [secret_object(name, self.pod)]
            try:
                found = _certificates.read(config.secrets.get(name, b""))
            except (ValueError, ImportError) as error:
                self.note("certificate", UNKNOWN, f"{name} can't be read: {error}.", objects=objects)
                continue
            if not found:
                why = _why.no_certificate(name, self.pod, self.facts.snapshot)
                held = ", and the listener takes no connection" if warming else ""
                self.note(
                    "certificate", BROKEN, f"Envoy has no certificate {name}{held}.", *why,
                    cure=f"Create or correct {objects[0]}: type kubernetes.io/tls with tls.crt and tls.key.",
                    objects=objects,
                )  # fmt: skip
                continue
            self._one_certificate(found[0], objects)
        if not chain.secrets:
            self.note("certificate", UNKNOWN, "The chain names no Secret.")

    def _one_certificate(self, found: _certificates.Certificate, objects: list[str]) -> None:
        now, host = self.facts.now, self.target.host
        valid = f"{found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d}"
        evidence = [f"{found.subject} for {', '.join(found.names) or 'no name'}, by {found.issuer}, {valid}."]
        cure = f"Put the right certificate into {objects[0]}."
        if host and not found.covers(host):
            evidence.append(f"It isn't for {host}.")
            self.note("certificate", BROKEN, *evidence, cure=cure, objects=objects)
        elif found.not_after < now or found.not_before > now:
            evidence.append("It has expired." if found.not_after < now else "It isn't valid yet.")
            self.note("certificate", BROKEN, *evidence, cure=cure, objects=objects)
        else:
            if found.not_after - now < timedelta(days=14):
                evidence.append(f"It expires in {(found.not_after - now).days} days.")
            self.note("certificate", OK, *evidence, objects=objects)

    def _http(self, config: Config, chain: Chain) -> tuple[tuple[str, int], ...] | None:
        target, snapshot = self.target, self.facts.snapshot
        hosts = config.routes.get(chain.route_config)
        host = _match.host_for(hosts, target.host or "any.invalid") if hosts is not None else None
        if host is None or host.name.startswith("blackhole"):
            served = sorted(
                {name for one in hosts or () for name in one.domains if not one.name.startswith("blackhole")}
            )
            reason = f"{chain.route_config} has no virtual host for {target.host or 'any name'}"
            reason += f"; it has {', '.join(served[:8])}." if served else "."
            if hosts is None:
                reason = f"istiod hasn't sent the routes {chain.route_config}."
            why = _why.no_route(target, self.pod, snapshot)
            self.note("virtual_host", BROKEN, reason, *why, cure=_cure(why[0]) if why else "Run playbooks/expose.yml.")
            self._rest("virtual_host")
            return None
        self.note("virtual_host", OK, f"{host.name} in {chain.route_config}.")
        request = request_of(target)
        route = _match.route_for(host, request)
        if route is None:
            origins = sorted({object_name(one.origin) for one in host.routes if one.origin})
            self.note(
                "route_match", BROKEN, f"No route of {host.name} takes {request.method} {request.path}.",
                objects=origins, cure=f"Correct the matches in {', '.join(origins) or 'the VirtualService'}.",
            )  # fmt: skip
            self._rest("route_match")
            return None
        origin = [object_name(route.origin)] if route.origin else []
        shares = ", ".join(f"{name} ({weight})" if len(route.clusters) > 1 else name for name, weight in route.clusters)
        if route.status:
            self.note(
                "route_match", BROKEN, f"The route answers {route.status} itself.", objects=origin,
                cure=f"Remove the fault or direct response from {', '.join(origin) or 'the VirtualService'}.",
            )  # fmt: skip
            self._rest("route_match")
            return None
        if route.redirects:
            unexpected = bool(target.backends)
            self.note(
                "route_match", BROKEN if unexpected else OK, "The route redirects.", objects=origin,
                cure=f"Remove it from {', '.join(origin)}, or another Gateway has this name." if unexpected else "",
            )  # fmt: skip
            self._rest("route_match")
            return None
        if not self._expected(route.clusters, origin, f"To {shares}."):
            self._rest("route_match")
            return None
        self.note("route_match", OK, f"To {shares}.", objects=origin)
        return route.clusters

    def _expected(self, clusters: Sequence[tuple[str, int]], origin: Sequence[str], said: str) -> bool:
        """Whether a route goes where the exposure says, as far as the exposure is known."""
        wanted = {(one.service, one.port, one.subset) for one in self.target.backends}
        reached = set()
        for name, weight in clusters:
            host, subset, port = _why.parts_of(name)
            key = _why.service_of(host)
            if weight:
                reached.add(("/".join(key) if key else host, port, subset))
        if not wanted or not reached or reached & wanted:
            return True
        names = ", ".join(
            f"{service}:{port}{f' {subset}' if subset else ''}" for service, port, subset in sorted(wanted)
        )
        self.note(
            "route_match", BROKEN, said, f"The exposure sends to {names}.", objects=origin,
            cure=f"{', '.join(origin) or 'Another object'} takes this request: correct it or its order.",
        )  # fmt: skip
        return False

    def _tcp(self, chain: Chain) -> tuple[tuple[str, int], ...] | None:
        self.note("virtual_host", OK, f"{self.target.protocol} has none.")
        shares = ", ".join(name for name, _weight in chain.clusters)
        if not chain.clusters:
            self.note("route_match", BROKEN, "The filter chain leads nowhere.", cure="Run playbooks/expose.yml.")
            self._rest("route_match")
            return None
        if not self._expected(chain.clusters, [], f"To {shares}."):
            self._rest("route_match")
            return None
        self.note("route_match", OK, f"To {shares}.")
        return chain.clusters

    def _policy(self, chain: Chain) -> None:
        probe = self.probe
        denied = [one.partition(" ")[2] for one in chain.policies if one.startswith("DENY")] or [
            one.partition(" ")[2] for one in chain.policies
        ]
        names = [f"AuthorizationPolicy {name}" for name in denied]
        refused = probe is not None and not probe.from_backend and probe.status in (401, 403)
        if refused and probe is not None:
            said = f"{probe.status} {probe.body}".strip() if probe.status else probe.reason
            cure = f"Allow this client in {', '.join(names) or 'the policies on the gateway'}."
            self.note("policy", BROKEN, f"The gateway itself refuses: {said}.", cure=cure, objects=names)
        elif names and chain.kind == "TCP":
            # Envoy asks them when the client's first bytes arrive, and the trace sends none
            reason = f"{', '.join(names)} are asked when the client speaks, which the trace doesn't."
            self.note("policy", UNKNOWN, reason, cure="Try with a real client.", objects=names)
        elif names:
            self.note("policy", OK if probe is not None else UNKNOWN, f"There are {', '.join(names)}.", objects=names)
        else:
            self.note("policy", OK, "None on this listener.")

    def _clusters(self, config: Config, shares: Sequence[tuple[str, int]]) -> list[str]:
        usable = []
        for name, weight in shares:
            if not weight and len(shares) > 1:
                continue
            cluster = config.clusters.get(name)
            if cluster is None or name == "BlackHoleCluster":
                why = _why.no_cluster(name, self.facts.snapshot)
                cure = _cure(why[0]) if why else "Correct the destination in the VirtualService."
                self.note("cluster", BROKEN, f"Envoy has no cluster {name}.", *why, cure=cure)
                continue
            usable.append(name)
            objects = [f"Service {one}" for one in cluster.services]
            objects += [object_name(cluster.origin)] if cluster.origin else []
            trouble, cure = self._transport(config, name)
            spoken = {"auto": "mutual TLS where a sidecar is", "mutual": "mutual TLS", "tls": "TLS"}
            evidence = f"{name}, {spoken.get(cluster.transport, 'plain')}."
            state = BROKEN if trouble else OK
            self.note("cluster", state, evidence, *([trouble] if trouble else []), cure=cure, objects=objects)
        return usable

    def _transport(self, config: Config, name: str) -> tuple[str, str]:
        """What is wrong with the way a cluster speaks to its endpoints, and the cure."""
        cluster, endpoints = config.clusters[name], config.endpoints.get(name, ())
        key = _why.service_of(_why.parts_of(name)[0])
        rule = object_name(cluster.origin) or "a DestinationRule"
        if cluster.transport == "mutual" and endpoints and not any(one.mutual_tls for one in endpoints):
            return (
                "No endpoint has a sidecar that could answer mutual TLS.",
                f"Remove tls.mode ISTIO_MUTUAL from {rule}.",
            )
        if cluster.transport in ("plain", "auto") and key and endpoints:
            pods = [pod for pod in self._backend_pods(key) if cluster.transport == "plain" or not _why.has_sidecar(pod)]
            policy = _why.strict(self.facts.snapshot, [pod for pod in pods if _why.has_sidecar(pod)])
            if policy:
                return f"{policy} takes mutual TLS alone, and this is plain.", f"Remove tls.mode DISABLE from {rule}."
        probe = self.probe
        failed = probe is not None and probe.status == 503 and not probe.from_backend
        if failed and probe is not None and ("TLS" in probe.body or cluster.transport == "tls"):
            # Envoy may keep the reason to itself: then a refused connection looks the same
            return (
                f"The gateway speaks TLS to the backend, and no connection comes up: {probe.body}",
                f"See whether the backend speaks TLS on this port; if not, remove tls from {rule}.",
            )
        return "", ""

    def _backend_pods(self, key: tuple[str, str]) -> list[Manifest]:
        service = self.facts.snapshot.get("Service", *key)
        pods = [pod for pod in self.facts.snapshot.all("Pod") if pod["metadata"].get("namespace") == key[0]]
        return selected(pods, (service or {}).get("spec", {}).get("selector"))

    def _endpoints(self, config: Config, clusters: Sequence[str]) -> list[Endpoint]:
        all_found: list[Endpoint] = []
        for name in clusters:
            found = config.endpoints.get(name, ())
            good = [one for one in found if one.usable]
            evidence = [
                f"{len(good)} of {len(found)} can be used: {', '.join(str(one) for one in found[:6]) or 'none'}."
            ]
            evidence += [f"{one}: {', '.join(one.problems) or one.health.lower()}." for one in found if not one.usable][
                :6
            ]
            # What Envoy alone leaves out is there, and failed when it was used: that is the backend's hop
            ejected = [one for one in found if one.problems and one.health in ("HEALTHY", "UNKNOWN", "DEGRADED")]
            if good or ejected:
                self.note("endpoints", OK, *evidence)
                all_found += good or ejected
                continue
            if name.startswith("outbound|") and config.clusters[name].raw.get("type") == "ORIGINAL_DST":
                self.note("endpoints", OK, "Each connection says itself where it goes.")
                continue
            why = _why.no_endpoints(name, self.facts.snapshot)
            cure = _cure(why[0]) if why else "See whether the backend's pods are ready and take connections."
            self.note("endpoints", BROKEN, *evidence, *why, cure=cure)
        return all_found

    def _backend(self, endpoints: list[Endpoint] | None) -> None:
        probe = self.probe
        if not endpoints:
            self.note("backend", UNKNOWN, "There is no endpoint to ask.")
            return
        workloads = sorted({one.workload for one in endpoints if one.workload})
        evidence = [f"Workload {', '.join(workloads)}."] if workloads else []
        trouble = _backend_trouble(self.facts, probe, self.pod, endpoints)
        if trouble:
            self.note("backend", BROKEN, *evidence, trouble[0], cure=trouble[1])
        elif probe is None or probe.failure in ("client-certificate", "other"):
            self.note("backend", UNKNOWN, *evidence, "No request was sent to it.")
        else:
            self.note("backend", OK, *evidence, _answered(probe))


def secret_object(name: str, pod: GatewayPod) -> str:
    """Name the Secret behind a certificate as istiod calls it: kubernetes://NAME, in the pods' namespace."""
    bare = name.partition("://")[2] or name
    space, _slash, secret = bare.rpartition("/")
    return f"Secret {space or pod.manifest['metadata']['namespace']}/{secret}"


def _cure(reason: str) -> str:
    return f"Mend this: {reason}"


_UPSTREAM = ("upstream connect error", "no healthy upstream", "upstream request timeout", "upstream_reset")


def _backend_trouble(
    facts: Facts, probe: Probe | None, pod: GatewayPod, endpoints: Sequence[Endpoint]
) -> tuple[str, str] | None:  # fmt: skip
    """What is wrong behind the gateway, as its own answer tells, with a cure; None where nothing is."""
    where = ", ".join(str(one) for one in endpoints[:3])
    if endpoints and all(one.problems for one in endpoints) and (probe is None or _poor(probe)):
        return (
            f"{where} failed so often that Envoy leaves it out: {', '.join(endpoints[0].problems)}.",
            "See that its pods listen on the Service's targetPort, on all addresses, and speak this protocol.",
        )
    if probe is None:
        return None
    if probe.from_backend and probe.status == 403 and "RBAC" in probe.body:
        return f"Its sidecar refuses: 403 {probe.body}.", "Allow the gateway in the AuthorizationPolicies there."
    if probe.from_backend and probe.status >= 500:
        return f"It answers {probe.status} itself: {probe.body[:100]}", "See its own log: the request reached it."
    text = probe.body
    if not probe.from_backend and probe.status == 504:
        return f"It doesn't answer in time: {text}", "See why it is slow, or raise the route's timeout."
    if not probe.from_backend and probe.status >= 500 and any(word in text for word in _UPSTREAM):
        return (
            f"{where} can't be reached: {probe.status} {text}",
            "See that its pods listen on the Service's targetPort, on all addresses, and speak this protocol.",
        )
    if probe.failure in ("closed", "reset") and pod.failures:
        return (
            f"{where} refuses connections: {pod.failures} failed while the trace asked.",
            "See that its pods listen on the Service's targetPort and on all addresses.",
        )
    if probe.failure in ("closed", "reset", "tls", "timeout") and not facts.target.protocol.startswith("HTTP"):
        return (
            f"The connection ends without an answer: {probe.reason}.",
            "See the backend's log: the gateway reached it.",
        )
    return None


def _poor(probe: Probe) -> bool:
    return bool(probe.failure) or (probe.status >= 500 and not probe.from_backend)


# Real requests


def _requests(facts: Facts) -> list[Hop]:
    found = []
    for place, name in (("pod", "probe_pod"), ("edge", "probe_edge"), ("vip", "probe_vip")):
        probes = [probe for probe in facts.probes if probe.place == place]
        if not probes:
            found.append(Hop(name, UNKNOWN, ("Not tried.",)))
        found += [_request_hop(facts, name, probe) for probe in probes]
    return found


def _request_hop(facts: Facts, name: str, probe: Probe) -> Hop:
    complaint = _complaint(facts, probe)
    at = probe.at if probe.place != "vip" else ""
    evidence = [f"{probe.address}: {_answered(probe)}"]
    if probe.certificates:
        first = probe.certificates[0]
        trust = {True: ", trusted by this machine", False: ", not trusted by this machine", None: ""}[probe.trusted]
        evidence.append(f"{probe.tls_version}, {first.subject} for {', '.join(first.names)}{trust}.")
    if not complaint:
        return Hop(name, OK, tuple(evidence), at=at)
    if probe.failure == "client-certificate":
        return Hop(name, UNKNOWN, (*evidence, complaint), "The trace has no client certificate to show.", at)
    if probe.place == "edge" and not probe.connected and _elsewhere(facts, probe):
        return Hop(name, OK, (*evidence, "No gateway pod is ready on it, and Local answers on no other edge."), at=at)
    return Hop(name, BROKEN, (*evidence, complaint), "The first broken hop says why.", at)


def _elsewhere(facts: Facts, probe: Probe) -> bool:
    service = _the_service(facts)
    if service is None or service["spec"].get("externalTrafficPolicy") != "Local":
        return False
    nodes = {edge.name: edge.node for edge in facts.edges or ()}
    node = nodes.get(probe.at, probe.at)
    return not any(ready(pod.manifest) and pod.node == node for pod in facts.pods)


def _answered(probe: Probe) -> str:
    if probe.failure:
        return f"{probe.reason or probe.failure}."
    taken = f" in {probe.milliseconds:.0f} ms"
    if probe.status:
        server = probe.headers.get("server", "")
        return f"HTTP {probe.status}{f' by {server}' if server else ''}{taken}."
    if probe.first:
        return f"the server says {probe.first!r}{taken}."
    return f"connected{taken}."


def _complaint(facts: Facts, probe: Probe) -> str:
    """Why an answer is none; empty for a good one. An application's own 404 is an answer, the gateway's isn't."""
    if probe.failure:
        return f"{probe.reason or probe.failure}."
    if probe.status >= 500 or (probe.status in (401, 403, 404) and not probe.from_backend):
        who = "the backend" if probe.from_backend else "the gateway"
        return f"{probe.status} comes from {who}{f': {probe.body[:160]}' if probe.body else ''}."
    if probe.certificates and facts.target.host and not probe.certificates[0].covers(facts.target.host):
        return f"The certificate isn't for {facts.target.host}."
    if probe.certificates and not probe.certificates[0].not_before <= facts.now <= probe.certificates[0].not_after:
        return "The certificate isn't valid now."
    return ""
