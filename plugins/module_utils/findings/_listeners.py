# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings between a client and a listener: the gateway's pods, its Service and ports, and who else is there. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import (
    Bound,
    View,
    WorkloadKey,
    target_of,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    WARNING,
    Listener,
    Manifest,
    Place,
    Workload,
    made,
    selects,
    shown,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import PROXY_PORTS

# What Istio's own charts open whether or not anything is published there
_INSTALLED = frozenset({80, 443, 15021, 15012, 15017, 15443, 31400, 15090, 15020, 8080, 8443})
NODE_PORTS = range(30000, 32768)


def check(view: View) -> None:
    """Look at every listener that somebody wants to hear of."""
    plaintext(view)
    node_ports(view)
    if view.static:
        return
    pods(view)
    scope(view)
    ports(view)
    clashes(view)
    services(view)


def plaintext(view: View) -> None:
    """HTTP where clients speak TLS: `wrong version number`."""
    for listener in view.listeners:
        if view.concerns(listener.place) and listener.family == "HTTP" and listener.number == 443:
            view.add(
                "plaintext-on-443",
                WARNING,
                listener.port_at,
                "Port 443 is published as plain HTTP, and clients of https:// speak TLS there.",
                "Use protocol HTTPS with a certificate, or another port.",
            )


def node_ports(view: View) -> None:
    """Pinned nodePorts that can't be had, or that take a known one away."""
    for entry in view.model.exposures if view.model is not None else ():
        if entry.node_port is None:
            continue
        place = Place(f"Service {entry.gateway.namespace}/{entry.gateway.service}", f"{entry.at}.node_port", entry.name)
        if entry.node_port not in NODE_PORTS:
            view.add(
                "node-port-range",
                WARNING,
                place,
                f"nodePort {entry.node_port} is outside 30000 to 32767, which clusters allow unless told otherwise.",
                "Choose one of these, or start the API server with another --service-node-port-range.",
            )
        name = entry.service.name if entry.service else entry.gateway.service
        live = next(
            (
                one
                for one in view.snapshot.items(snap.SERVICE)
                if (one["metadata"]["namespace"], one["metadata"]["name"]) == (entry.gateway.namespace, name)
            ),
            None,
        )
        for port in ((live or {}).get("spec") or {}).get("ports") or ():
            known = port.get("nodePort")
            if port["port"] == entry.port and known and known != entry.node_port:
                view.add(
                    "node-port-differs",
                    WARNING,
                    place,
                    f"Port {entry.port} has nodePort {known} now; what uses that number loses it when "
                    f"{entry.node_port} "
                    f"takes its place.",
                    f"Pin {known}, or change its users first.",
                )


# Pods


def pods(view: View) -> None:
    """A Gateway whose selector no pod has, or whose pods don't run."""
    told: set[tuple[object, ...]] = set()
    for listener in view.listeners:
        if not view.concerns(listener.place) or listener.deployed:
            continue
        chosen = [one for one in view.workloads if _chosen(listener, one)]
        labels = tuple(sorted((listener.selector or {}).items()))
        key = (labels, listener.selector is None, listener.services, listener.place.ours)
        if key in told:
            continue
        told.add(key)
        if not chosen:
            chooses = [snap.POD] if listener.selector is not None else [snap.POD, snap.SERVICE]
            if all(view.readable(kind, listener.namespace) for kind in chooses):
                _nobody(view, listener)
        elif not any(workload.ready for workload in chosen):
            _not_ready(view, listener, chosen)


def _chosen(listener: Listener, workload: Workload) -> bool:
    if listener.selector is not None:
        return selects(listener.selector, workload.labels)
    names = {f"{workload.namespace}/{one['metadata']['name']}" for one in workload.services}
    return bool(names & set(listener.services or ()))


def _nobody(view: View, listener: Listener) -> None:
    wanted = ", ".join(f"{key}={value}" for key, value in sorted((listener.selector or {}).items()))
    wanted = wanted or "the selector of " + ", ".join(listener.services or ())
    others = sorted({_short(workload) for workload in view.workloads if workload.ready} | _routers(view))
    cure = (
        f"Use the labels of the gateway that is there ({'; '.join(others)})."
        if others
        else "Install the gateway, or wait for its pods."
    )
    view.add(
        "gateway-no-pods",
        ERROR if others else WARNING,
        listener.place,
        f"No pod has the labels that {listener.place.object} chooses its gateway by ({wanted}), so nobody listens.",
        cure,
    )


def _short(workload: Workload) -> str:
    keys = [key for key in ("istio", "app") if key in workload.labels]
    return ", ".join(f"{key}={workload.labels[key]}" for key in keys) or workload.shown


def _routers(view: View) -> set[str]:
    """Gateways that no Gateway object chooses, as the Services that look like theirs know them."""
    found = set()
    for service in view.services.values():
        selector = (service.get("spec") or {}).get("selector") or {}
        ports = {port["port"] for port in (service.get("spec") or {}).get("ports") or ()}
        if "istio" in selector and selector["istio"] not in ("pilot", "istiod") and 15021 in ports:
            found.add(f"istio={selector['istio']}")
    return found


def _not_ready(view: View, listener: Listener, chosen: list[Workload]) -> None:
    waiting = [pod for workload in chosen for pod in workload.pods]
    names = [shown(pod) for pod in waiting[:3]]
    images = {
        str(container.get("image")) for pod in waiting for container in (pod.get("spec") or {}).get("containers") or ()
    }
    if "auto" in images:
        view.add(
            "gateway-not-injected",
            ERROR,
            listener.place,
            f"{chosen[0].shown} have the image `auto`: istiod never filled in the proxy, so they can't start.",
            "Remove the label istio-injection=disabled from their namespace, or set istio.io/rev to a revision that "
            "runs, and start the pods anew.",
            *names,
        )
        return
    view.add(
        "gateway-not-ready",
        WARNING,
        listener.place,
        f"None of the {len(waiting)} pods of {chosen[0].shown} is ready.",
        "See why they don't start, or whether they reach istiod.",
        *names,
    )


def scope(view: View) -> None:
    """Gateways that istiod keeps from pods of another namespace."""
    for listener in view.listeners:
        if listener.selector is None or not view.concerns(listener.place):
            continue
        for workload in view.workloads:
            if selects(listener.selector, workload.labels) and not view.in_scope(listener, workload):
                view.add(
                    "gateway-out-of-scope",
                    ERROR,
                    listener.place,
                    f"{listener.place.object} chooses {workload.shown}, and istiod keeps Gateways to pods of their own "
                    "namespace (PILOT_SCOPE_GATEWAY_TO_NAMESPACE).",
                    f"Move it to namespace `{workload.namespace}`, or unset that variable.",
                )


# Ports


def ports(view: View) -> None:
    """Listeners that nothing leads to, or that can't be bound."""
    for bound in view.bound:
        listener, workload = bound.listener, bound.workload
        if not view.concerns(listener.place) or listener.deployed:
            continue
        if not view.readable(snap.SERVICE, workload.namespace):
            continue
        if not bound.ports:
            _unknown_port(view, bound)
            continue
        low = [port for port in bound.ports if port < 1024]
        if low and workload.unprivileged:
            view.add(
                "port-privileged",
                ERROR,
                listener.port_at,
                f"Port {listener.number} ends at port {low[0]} of {workload.shown}, which may not bind ports below "
                "1024: "
                "istiod leaves the listener out.",
                f"Give the Service port the targetPort {low[0] + 8000}.",
                *_names(workload),
            )
        reserved = [port for port in bound.ports if port in PROXY_PORTS]
        if reserved:
            view.add(
                "port-reserved",
                ERROR,
                listener.port_at,
                f"Port {listener.number} ends at port {reserved[0]} of {workload.shown}, which Istio's proxy uses "
                "itself.",
                "Choose another port or targetPort.",
                *_names(workload),
            )
        _reached(view, bound)


def _names(workload: Workload) -> list[str]:
    return [shown(service) for service in workload.services]


def _unknown_port(view: View, bound: Bound) -> None:
    listener = bound.listener
    view.add(
        "port-not-on-service",
        ERROR,
        listener.port_at,
        f"{', '.join(listener.services or ())} has no port {listener.number}, and a Gateway that names its Service "
        "gets "
        "the listeners of that Service's ports alone.",
        f"Add port {listener.number} to the Service.",
        *_names(bound.workload),
    )


def _reached(view: View, bound: Bound) -> None:
    listener, workload = bound.listener, bound.workload
    leading = [
        service
        for service in workload.services
        if any(
            target_of(port, workload.pods) in bound.ports
            for port in service["spec"].get("ports") or ()
            if port.get("protocol", "TCP") == "TCP"
        )
    ]
    if not leading and _on_the_node(bound):
        return
    if not leading:
        node_port = next(
            (
                (service, port)
                for service in workload.services
                for port in service["spec"].get("ports") or ()
                if port.get("nodePort") == listener.number
            ),
            None,
        )
        reason = (
            f"No Service in front of {workload.shown} has a port that ends at {bound.ports[0]}, where port "
            f"{listener.number} is bound: clients can't reach it."
        )
        cure = f"Add port {listener.number} to the gateway's Service, or write the port that is there."
        if node_port is not None:
            port = node_port[1]
            reason += f" {listener.number} is the nodePort of port {port['port']}."
            cure = f"Write {port['port']}: Gateways name the Service's port, not the nodePort."
        view.add("port-not-on-service", ERROR, listener.port_at, reason, cure, *_names(workload))
        return
    if listener.ours and all(_inside(service) for service in leading) and not _on_the_node(bound):
        view.add(
            "service-inside",
            WARNING,
            listener.port_at,
            f"{shown(leading[0])} is of type ClusterIP: port {listener.number} can't be reached from outside.",
            "Make it a LoadBalancer with the VIP, or a NodePort.",
            shown(leading[0]),
        )
    found: dict[int, str] = {}
    for service in workload.services:
        for port in service["spec"].get("ports") or ():
            target = target_of(port, workload.pods)
            if port["port"] == listener.number and target is not None and listener.selector is not None:
                found.setdefault(target, shown(service))
    if len(found) > 1:
        ends = " and ".join(f"{target} ({name})" for target, name in found.items())
        view.add(
            "port-ambiguous",
            WARNING,
            listener.port_at,
            f"Port {listener.number} ends at {ends} of the same pods; Istio listens on one of them alone, and not "
            "always the same.",
            "Give all of them the same targetPort.",
            *found.values(),
        )


def _on_the_node(bound: Bound) -> bool:
    """Whether clients reach the pods without a Service: through the node's network, or a port of the node."""
    specs = [pod.get("spec") or {} for pod in bound.workload.pods]
    held = {
        port.get("containerPort")
        for spec in specs
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }
    return any(spec.get("hostNetwork") for spec in specs) or bool(held & set(bound.ports))


def _inside(service: Manifest) -> bool:
    spec = service.get("spec") or {}
    return spec.get("type", "ClusterIP") == "ClusterIP" and not spec.get("externalIPs")


def clashes(view: View) -> None:
    """Listeners of different people on one port of the same pods."""
    groups: dict[tuple[WorkloadKey, int], list[Listener]] = defaultdict(list)
    shown_as: dict[WorkloadKey, Workload] = {}
    for bound in view.bound:
        for port in bound.ports:
            groups[bound.workload.key, port].append(bound.listener)
            shown_as[bound.workload.key] = bound.workload
    told: set[tuple[str, str, str]] = set()
    for (key, port), listeners in groups.items():
        ordered = sorted(listeners, key=lambda one: (_rank(view, one), one.place.path))
        for code, first, second, reason, cure in _pairs(ordered, port, shown_as[key]):
            place = second.port_at if second.ours or not first.ours else first.port_at
            told_as = (code, place.object + place.path, (first if place is second.port_at else second).place.object)
            if told_as not in told:
                told.add(told_as)
                view.add(code, ERROR, place, reason, cure, first.place.object, second.place.object)


def _rank(view: View, listener: Listener) -> tuple[str, str]:
    """Sort as istiod does, the older Gateway first: it wins."""
    if not listener.ours:
        return listener.made
    live = view.live_gateways.get((listener.api, listener.namespace, listener.gateway))
    return made(live) if live is not None else ("9999", f"{listener.gateway}.{listener.namespace}")


def _pairs(
    listeners: list[Listener], port: int, workload: Workload
) -> Iterator[tuple[str, Listener, Listener, str, str]]:  # fmt: skip
    """Return what can't be together: a listener and the first one that it clashes with."""
    where = f"port {port} of {workload.shown}"
    families: dict[str, dict[str, Listener]] = defaultdict(dict)
    names: dict[tuple[str, str], Listener] = {}
    for listener in listeners:
        known = families[listener.bind]
        other = next((one for family, one in known.items() if family != listener.family), None)
        if other is not None and not (other.ours and listener.ours):
            reason = f"{other.place} has {other.protocol} on {where}, and {listener.place} {listener.protocol}"
            reason += ": they can't share it, and the younger Gateway is ignored."
            yield "port-clash", other, listener, reason, "Give one of them another port, with another targetPort."
            continue
        twin = known.get("TCP") if listener.family == "TCP" else None
        if twin is not None and not (twin.ours and listener.ours):
            reason = f"{twin.place} and {listener.place} both have TCP on {where}; hostnames don't separate TCP"
            reason += ", and the younger Gateway is ignored."
            yield "port-clash", twin, listener, reason, "Give each its own port."
            continue
        known.setdefault(listener.family, listener)
        for owner, name in (*listener.hosts, *listener.widened) if listener.encrypted else ():
            holder = names.setdefault((listener.bind, name.lower()), listener)
            if holder is not listener and not (holder.ours and listener.ours):
                yield _same_name(holder, listener, owner, name, where)


def _same_name(
    first: Listener, second: Listener, owner: str, name: str, where: str
) -> tuple[str, Listener, Listener, str, str]:  # fmt: skip
    """Say what happens where two servers with TLS have one hostname.

    istiod compares hosts as they are written, with the namespace that may use them (CheckDuplicates): written
    differently they pass, and Envoy gets two filter chains for one name.
    """
    what = f"`{name}`"
    if not all(name.lower() in (host.lower() for _owner, host in one.hosts) for one in (first, second)):
        what += " (one listener for all names of a certificate)"
    if first.terminates != second.terminates:
        how = {True: "ends TLS", False: "passes TLS through"}
        reason = f"{first.place} {how[first.terminates]} for {what} on {where}, and {second.place} "
        reason += f"{how[second.terminates]}: only one of them can."
        return "tls-mode-clash", first, second, reason, "Drop the name in one of them."
    same = any((theirs, host.lower()) == (owner, name.lower()) for theirs, host in first.hosts)
    harm = "Envoy refuses the whole listener then, and every change to any name on that port is lost"
    if same:
        harm = "the younger Gateway is ignored on that port"
    reason = f"{what} is on {where} twice, by {first.place} and {second.place}; {harm}."
    return "hostname-clash", first, second, reason, "Publish the name by one Gateway, and hang all routes on that."


# Services


def services(view: View) -> None:
    """Ports of Services that lead to gateway pods where nobody listens, and names of ports that no pod has."""
    complete = view.readable(snap.GATEWAY) and view.readable(snap.API_GATEWAY)
    for workload in view.workloads:
        listening = {
            port for bound in view.bound if bound.workload.key == workload.key for port in bound.ports
        } | PROXY_PORTS
        for service in workload.services:
            place = Place(shown(service), "spec.ports")
            for port in service["spec"].get("ports") or ():
                if port.get("protocol", "TCP") != "TCP":
                    continue
                target = target_of(port, workload.pods)
                if target is None:
                    view.add(
                        "target-port-name",
                        WARNING,
                        place,
                        f"Port {port['port']} of {shown(service)} ends at a port named `{port['targetPort']}`, and no "
                        "pod behind it has one.",
                        "Write the number, or name the container's port so.",
                        cluster=_of_list(view, service),
                    )
                elif target not in listening and port["port"] not in _INSTALLED and complete:
                    view.add(
                        "port-without-listener",
                        WARNING,
                        place,
                        f"Port {port['port']} of {shown(service)} ends at {target} of {workload.shown}, where no "
                        "Gateway listens: connections are refused.",
                        f"Publish something on port {port['port']}, or let it end where a listener is "
                        f"({', '.join(str(one) for one in sorted(listening - PROXY_PORTS)[:5]) or 'none yet'}).",
                    )


def _of_list(view: View, service: Manifest) -> bool:
    place = (service["metadata"]["namespace"], service["metadata"]["name"])
    entries = view.model.exposures if view.model is not None else ()
    return any(place == (entry.gateway.namespace, entry.gateway.service) for entry in entries)
