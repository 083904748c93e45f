# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings before a gateway: DNS, VIPs, kube-proxy, edges; and above it: istiod, the Gateway API's conditions. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_ready
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import (
    CONTROLLER,
    service_of,
    table_of_route,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._tls import granted
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import View, ready_nodes, target_of
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    UNKNOWN,
    WARNING,
    Manifest,
    Place,
    Workload,
    shown,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import backends_of

_V1_ALONE = {"TLSRoute": (1, 30), "TCPRoute": (1, 31)}
"""From which release on Istio reads no other version of them (istio/istio#59309, istio/istio#60766)."""


def check(view: View) -> None:
    """Look at what is around the gateways."""
    if view.static:
        return
    policies(view)
    addresses(view)
    kube_proxy(view)
    names(view)
    istiod(view)
    classes(view)
    conditions(view)
    versions(view)
    grants(view)


def vips_of(service: Manifest) -> list[str]:
    """Return the addresses outside that a Service answers at."""
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = [str(entry["ip"]) for entry in entries if entry.get("ip")]
    return found + [str(address) for address in (service.get("spec") or {}).get("externalIPs") or ()]


def _leading(view: View) -> Iterator[tuple[Manifest, Workload]]:
    """Return the Services, each once, that lead to listeners somebody wants to hear of."""
    seen: set[str] = set()
    for bound in view.bound:
        if not view.concerns(bound.listener.place):
            continue
        for service in bound.workload.services:
            name = shown(service)
            if name in seen:
                continue
            ends = {target_of(port, bound.workload.pods) for port in service["spec"].get("ports") or ()}
            if ends & set(bound.ports):
                seen.add(name)
                yield service, bound.workload


def policies(view: View) -> None:
    """externalTrafficPolicy Local drops what reaches a node without a gateway pod."""
    for service, workload in _leading(view):
        if service["spec"].get("externalTrafficPolicy") != "Local":
            continue
        without = [edge for edge in view.edges if edge not in ready_nodes(workload)]
        if without:
            view.add(
                "edge-without-gateway",
                WARNING,
                Place(shown(service), "spec.externalTrafficPolicy"),
                f"{', '.join(without)} may hold the VIP and {'have' if len(without) > 1 else 'has'} no ready pod of "
                f"{workload.shown}; with externalTrafficPolicy Local of {shown(service)} connections are dropped "
                "there.",
                "Run a gateway pod on every edge, take the edge out of the group, or use policy Cluster.",
                cluster=True,
            )


def addresses(view: View) -> None:
    """LoadBalancers without an address, and one address and port for two Services."""
    for service, _workload in _leading(view):
        if service["spec"].get("type") == "LoadBalancer" and not vips_of(service):
            view.add(
                "vip-missing",
                WARNING,
                Place(shown(service), "status.loadBalancer"),
                f"{shown(service)} has no external address: kubectl shows <pending>, and no VIP leads to it.",
                "Write the VIP to its status (role gateway_ports, gateway_ports_vips), or see why its controller gives "
                "it none.",
                cluster=True,
            )
    leading = {shown(service) for service, _workload in _leading(view)}
    holders: dict[tuple[str, int], Manifest] = {}
    for _key, service in sorted(view.services.items()):
        for address in vips_of(service):
            for port in service["spec"].get("ports") or ():
                if port.get("protocol", "TCP") != "TCP":
                    continue
                first = holders.setdefault((address, port["port"]), service)
                if first is not service:
                    view.add(
                        "vip-port-shared",
                        ERROR,
                        Place(shown(service), "spec.ports"),
                        f"{shown(first)} and {shown(service)} both have {address} and port {port['port']}: kube-proxy "
                        "serves one of them.",
                        "Give one of them another port, or another VIP.",
                        shown(first),
                        cluster=bool({shown(first), shown(service)} & leading),
                    )


def kube_proxy(view: View) -> None:
    """Settings of kube-proxy that break VIPs or nodePorts."""
    settings: Mapping[str, object] = view.snapshot.kube_proxy
    place = Place("ConfigMap kube-system/kube-proxy", "data")
    ipvs = settings.get("ipvs")
    strict = isinstance(ipvs, Mapping) and ipvs.get("strictARP")
    if settings.get("mode") == "ipvs" and not strict and any(vips_of(one) for one, _workload in _leading(view)):
        view.add(
            "kube-proxy-arp",
            ERROR,
            place,
            "kube-proxy in IPVS mode binds every VIP on every node, and without strictARP all of them answer for it.",
            "Set ipvs.strictARP to true and restart kube-proxy.",
            cluster=True,
        )
    ranges = settings.get("nodePortAddresses")
    pinned = [entry for entry in (view.model.exposures if view.model is not None else ()) if entry.node_port]
    if isinstance(ranges, list) and ranges and (pinned or view.survey) and not _any_node_in(view, ranges):
        view.add(
            "node-port-addresses",
            WARNING,
            place,
            f"kube-proxy serves nodePorts on {', '.join(map(str, ranges))} alone, and no node has such an address.",
            "Correct nodePortAddresses, or write `primary`.",
            cluster=True,
        )


def _any_node_in(view: View, ranges: list[object]) -> bool:
    nodes = view.snapshot.items(snap.NODE)
    if not nodes or "primary" in ranges:
        return True
    found = [
        ipaddress.ip_address(entry["address"])
        for node in nodes
        for entry in (node.get("status") or {}).get("addresses") or ()
        if entry.get("type") == "InternalIP"
    ]
    networks = [ipaddress.ip_network(str(one), strict=False) for one in ranges]
    return any(one in network for one in found for network in networks if one.version == network.version)


def names(view: View) -> None:
    """DNS: names that lead elsewhere, and outside hosts that lead back here."""
    unanswered: list[str] = []
    for entry in view.model.exposures if view.model is not None else ():
        service = entry.service.name if entry.service else entry.gateway.service
        found = view.services.get((entry.gateway.namespace, service))
        vips = set(vips_of(found)) if found is not None else set()
        for hostname in entry.hostnames:
            answer = view.snapshot.dns.get(hostname)
            if answer is None and vips and hostname in view.snapshot.asked:
                unanswered.append(hostname)
            if answer is None or not vips:
                continue
            place = Place(f"DNS {hostname}", f"{entry.at}.hostnames", entry.name)
            if not answer:
                view.add(
                    "dns-missing",
                    WARNING,
                    place,
                    f"`{hostname}` has no address in DNS: clients don't find it.",
                    f"Add a record that points to {', '.join(sorted(vips))}.",
                )
            elif set(answer) - vips:
                elsewhere = ", ".join(address for address in answer if address not in vips)
                part = "" if vips.isdisjoint(answer) else " too, where a part of the clients goes"
                view.add(
                    "dns-elsewhere",
                    WARNING,
                    place,
                    f"`{hostname}` points to {elsewhere}{part}, and the VIP is {', '.join(sorted(vips))}.",
                    "Point the record to the VIP alone, or silence this where another device forwards to it.",
                )
        for backend, at in backends_of(entry):
            answer = view.snapshot.dns.get(backend.fqdn) if backend.outside else None
            place = Place(f"DNS {backend.fqdn}", at, entry.name)
            target = {backend.address} if backend.address else set(answer or ())
            if backend.outside and vips & target:
                view.add(
                    "outside-loop",
                    ERROR,
                    place,
                    f"Backend `{backend.fqdn}` is {', '.join(sorted(vips & target))}, the VIP itself: requests go in "
                    "a circle.",
                    "Give the backend's own `address`.",
                )
            elif backend.outside and not backend.address and answer == ():
                view.add(
                    "outside-unresolved",
                    WARNING,
                    place,
                    f"Backend `{backend.fqdn}` has no address in DNS: requests are answered with 503.",
                    "Correct the name, or give its `address`.",
                )
    if unanswered:
        more = f" and {len(unanswered) - 1} more" if len(unanswered) > 1 else ""
        view.add(
            "unread",
            UNKNOWN,
            Place(f"DNS {unanswered[0]}"),
            f"DNS doesn't answer here for `{unanswered[0]}`{more}, so it isn't known whether it points to the VIP.",
            "Install dnspython and configure a DNS server on the control machine, or silence `unread`.",
            cluster=True,
        )


def istiod(view: View) -> None:
    """Nothing that is published now takes effect while istiod is away."""
    told: set[tuple[str, str]] = set()
    for bound in view.bound:
        workload = bound.workload
        key = (workload.control_plane, workload.revision)
        if key in told or not view.concerns(bound.listener.place):
            continue
        told.add(key)
        running = view.istiods(workload)
        if running and not any(is_ready(pod) for pod in running):
            view.add(
                "istiod-not-ready",
                WARNING,
                Place(shown(running[0])),
                f"No istiod of revision {workload.revision} is ready: {workload.shown} keep what they had, and new "
                "pods of "
                "theirs don't start.",
                "See why istiod doesn't run.",
                cluster=True,
            )


# The Gateway API


def classes(view: View) -> None:
    """GatewayClasses that nobody implements."""
    known = {one["metadata"]["name"]: one for one in view.snapshot.items(snap.CLASS)}
    if view.model is not None and view.model.api == "gateway_api":
        for entry in view.model.exposures:
            name = entry.gateway.class_name
            if entry.gateway.existing or not view.readable(snap.CLASS):
                continue
            place = Place(f"GatewayClass {name}", f"{entry.at}.gateway.class_name", entry.name)
            if name not in known:
                view.add(
                    "gateway-class-missing",
                    WARNING,
                    place,
                    f"There is no GatewayClass `{name}`: nobody looks after the Gateway.",
                    f"Write one that exists ({', '.join(sorted(known)) or 'none yet: istiod makes istio'}).",
                )
            elif (known[name].get("spec") or {}).get("controllerName") != CONTROLLER:
                view.add(
                    "gateway-class-missing",
                    ERROR,
                    place,
                    f"GatewayClass `{name}` isn't Istio's: another controller looks after the Gateway.",
                    "Use class istio.",
                )
    for gateway in view.foreign(snap.API_GATEWAY) if view.survey else ():
        name = str((gateway.get("spec") or {}).get("gatewayClassName"))
        if known and name not in known:
            view.add(
                "gateway-class-missing",
                WARNING,
                Place(shown(gateway), "spec.gatewayClassName"),
                f"There is no GatewayClass `{name}`: nobody looks after {shown(gateway)}.",
                f"Write one that exists ({', '.join(sorted(known))}).",
            )


def conditions(view: View) -> None:
    """What Istio itself says of Gateways and routes that are there."""
    existing = {
        entry.gateway.existing: entry
        for entry in (view.model.exposures if view.model is not None else ())
        if entry.gateway.existing
    }
    for gateway in view.foreign(snap.API_GATEWAY):
        entry = existing.get(f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}")
        if not view.is_istios(gateway) or not (view.survey or entry is not None):
            continue
        for kind in ("Accepted", "Programmed"):
            bad = _condition(gateway, (gateway.get("status") or {}).get("conditions") or (), kind)
            if bad is not None:
                place = Place(shown(gateway), "status.conditions")
                if entry is not None:
                    place = Place(shown(gateway), f"{entry.at}.gateway.existing", entry.name)
                view.add(
                    "gateway-not-programmed",
                    WARNING,
                    place,
                    f"{shown(gateway)} isn't {kind} ({bad.get('reason')}): {bad.get('message')}",
                    "Mend what the condition says, or wait.",
                )
                break
    for key in snap.ROUTES if view.survey else ():
        for route in view.foreign(key):
            for parent in (route.get("status") or {}).get("parents") or ():
                for kind in ("Accepted", "ResolvedRefs"):
                    bad = _condition(route, parent.get("conditions") or (), kind)
                    if bad is None or parent.get("controllerName") != CONTROLLER:
                        continue
                    if not _is_of_another_namespace(view, route, str(bad.get("message"))):
                        view.add(
                            "route-not-accepted",
                            WARNING,
                            Place(shown(route), "status.parents"),
                            f"{shown(route)} isn't {kind} ({bad.get('reason')}): {bad.get('message')}",
                            "Mend what the condition says.",
                        )


def _is_of_another_namespace(view: View, route: Manifest, message: str) -> bool:
    """Whether a backend that Istio doesn't find is a Service elsewhere that the route names by its hostname.

    Istio looks for it in the route's namespace alone (GatewayContext.GetService in
    pilot/pkg/config/kube/gatewaycommon), and sends requests there all the same.
    """
    named = [
        str(reference.get("name"))
        for rule in (route.get("spec") or {}).get("rules") or ()
        for reference in rule.get("backendRefs") or ()
        if reference.get("kind") == "Hostname"
    ]
    return any(message == f"backend({name}) not found" and service_of(name) in view.services for name in named)


def versions(view: View) -> None:
    """Routes in versions that Istio doesn't read any more."""
    for table in view.tables:
        since = _V1_ALONE.get(table.kind)
        if since is None or not view.concerns(table.place):
            continue
        written = [table.object["apiVersion"]] if table.object else view.snapshot.served.get(table.kind, ())
        there = [str(one).rpartition("/")[2] for one in written]
        releases = [view.release(workload) for workload in view.workloads_of(table)]
        reads = [one is not None and one[:2] < since for one in releases]
        if not there or "v1" in there or (reads and all(reads)):
            continue
        known = bool(releases) and None not in releases
        view.add(
            "route-api-old",
            ERROR if known else WARNING,
            table.place,
            f"{table.kind} is served as {there[0]} only, which Istio ignores from {since[0]}.{since[1]} on.",
            "Install newer Gateway API CRDs (TLSRoute is v1 from 1.5, TCPRoute from 1.6).",
        )


def _condition(manifest: Manifest, found: object, kind: str) -> Manifest | None:
    """Return a condition that says no about the object as it is now."""
    generation = manifest["metadata"].get("generation")
    for one in found if isinstance(found, (list, tuple)) else ():
        current = generation is None or one.get("observedGeneration") in (None, generation)
        if one.get("type") == kind and one.get("status") == "False" and current:
            return dict(one)
    return None


def grants(view: View) -> None:
    """Routes that name backends of other namespaces without being allowed to. The list brings its own grants."""
    for key in snap.ROUTES if view.survey else ():
        for route in view.foreign(key):
            table = table_of_route(route)
            for rule in table.rules:
                for target in rule.targets:
                    if not target.granted or target.namespace == table.namespace:
                        continue
                    if not granted(view, route["kind"], table.namespace, "Service", target.namespace, target.service):
                        view.add(
                            "reference-not-granted",
                            ERROR,
                            target.place,
                            f"{shown(route)} names Service {target.namespace}/{target.service} of another namespace, "
                            "and "
                            "no ReferenceGrant there allows it: requests are answered with 500.",
                            f"Create a ReferenceGrant in `{target.namespace}`.",
                            f"Service {target.namespace}/{target.service}",
                        )
