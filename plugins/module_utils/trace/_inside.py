# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hops inside the gateway's pods: what each pod's Envoy has for the request, down to the backend. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Chain, Config, Endpoint, Listener, object_name
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates, _match, _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._answers import answered, backend_trouble
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    Facts,
    GatewayPod,
    Manifest,
    ready,
    selected,
)
from ansible_collections.edgeway.istio.plugins.module_utils.trace._gateway_service import the_service
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, HOPS, OK, PER_POD, UNKNOWN, Hop


def pod_hops(facts: Facts) -> list[Hop]:
    if not facts.pods:
        if not facts.snapshot.known("Pod"):
            reason = f"Pods can't be read: {facts.snapshot.refused.get('Pod', 'not asked')}."
            return [Hop(name, UNKNOWN, (reason,)) for name in PER_POD]
        service = the_service(facts)
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
        self.port = _why.target_ports(the_service(facts), facts.target.port, pod.manifest)
        # The answer to another request says nothing of this one
        self.probe = None if facts.target.unasked else facts.probe("pod", pod.name)
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
            objects = [_why.secret_object(name, self.pod)]
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
        request = _match.request_of(target)
        route = _match.route_for(host, request)
        if route is None:
            origins = sorted({object_name(one.origin) for one in host.routes if one.origin})
            self._no_route(
                f"No route of {host.name} takes {request.method} {request.path}.",
                objects=origins, cure=f"Correct the matches in {', '.join(origins) or 'the VirtualService'}.",
            )  # fmt: skip
            return None
        origin = [object_name(route.origin)] if route.origin else []
        shares = ", ".join(f"{name} ({weight})" if len(route.clusters) > 1 else name for name, weight in route.clusters)
        if route.status:
            self._no_route(
                f"The route answers {route.status} itself.", objects=origin,
                cure=f"Remove the fault or direct response from {', '.join(origin) or 'the VirtualService'}.",
            )  # fmt: skip
            return None
        if route.redirects and target.backends and not target.redirects:
            self._no_route(
                "The route redirects.", objects=origin,
                cure=f"Remove it from {', '.join(origin)}, or another Gateway has this name.",
            )  # fmt: skip
            return None
        if route.redirects:
            self.note("route_match", OK, "The route redirects.", objects=origin)
            self._rest("route_match")
            return None
        if not self._expected(route.clusters, origin, f"To {shares}."):
            return None
        self.note("route_match", OK, f"To {shares}.", objects=origin)
        return route.clusters

    def _no_route(self, *evidence: str, objects: Sequence[str], cure: str) -> None:
        """Nothing takes the request where it should go. A request that is only near those it takes tells nothing."""
        if self.target.guessed:
            cure = "Trace a URL that it takes."
            self.note("route_match", UNKNOWN, *evidence, f"{self.target.unasked}.", cure=cure, objects=objects)
        else:
            self.note("route_match", BROKEN, *evidence, cure=cure, objects=objects)
        self._rest("route_match")

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
        self._no_route(
            said, f"The exposure sends to {names}.", objects=origin,
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
            # istiod may keep a cluster for a while after its port has gone
            lacking = [] if config.endpoints.get(name) else _why.no_port(name, self.facts.snapshot)
            if lacking:
                self.note("cluster", BROKEN, f"{name} is left over.", *lacking, cure=_cure(lacking[0]))
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
        host, _subset, port = _why.parts_of(name)
        key = _why.service_of(host)
        rule = object_name(cluster.origin) or "a DestinationRule"
        if cluster.transport == "mutual" and endpoints and not any(one.mutual_tls for one in endpoints):
            return (
                "No endpoint has a sidecar that could answer mutual TLS.",
                f"Remove tls.mode ISTIO_MUTUAL from {rule}.",
            )
        if cluster.transport == "plain" and key and endpoints:
            service = self.facts.snapshot.get("Service", *key)
            pods = [pod for pod in self._backend_pods(key) if _why.has_sidecar(pod)]
            policy = _why.strict(self.facts.snapshot, pods, service, port, self.facts.istiod.root)
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
        trouble = backend_trouble(self.facts, probe, self.pod, endpoints)
        if trouble:
            self.note("backend", BROKEN, *evidence, trouble[0], cure=trouble[1])
        elif probe is None or probe.failure in ("client-certificate", "other"):
            self.note("backend", UNKNOWN, *evidence, "No request was sent to it.")
        else:
            self.note("backend", OK, *evidence, answered(probe))


def _cure(reason: str) -> str:
    return f"Mend this: {reason}"
