# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings behind a route: Services, their ports and endpoints, subsets, DestinationRules, protocols. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_ready
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import complete, exported
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import View, target_of
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    WARNING,
    Listener,
    Manifest,
    Place,
    Rule,
    Table,
    Target,
    governing_peer,
    injected,
    selects,
    shown,
    takes_mutual_tls,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._rules import destination_rules

# Protocols that Istio reads from a port's appProtocol or name up to its first dash (pkg/config/protocol/instance.go)
_FAMILIES = {
    "http": "http", "http2": "h2", "grpc": "h2", "grpc-web": "h2", "http_proxy": "http",
    "https": "tls", "tls": "tls",
    "tcp": "tcp", "mongo": "tcp", "mysql": "tcp", "redis": "tcp", "hbone": "tcp",
    "udp": "udp",
}  # fmt: skip
_KUBERNETES = {"kubernetes.io/h2c": "h2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "tls"}
# Ports that Istio takes for TCP when nothing else is said (wellKnownPorts in pkg/config/kube/conversion.go)
_KNOWN_TCP = frozenset({25, 53, 3306, 27017})
# Where the server speaks first: FTP, SSH, SMTP, POP3, IMAP, MySQL, VNC
_SERVER_FIRST = frozenset({21, 22, 25, 110, 143, 587, 3306, 33060, 5900})


@dataclass(slots=True)
class _Used:
    """A backend and how it is used: by which families of listeners, and in which gateways' namespaces."""

    target: Target
    table: Table
    rule: Rule
    takes: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    spaces: set[str] = field(default_factory=set)


def check(view: View) -> None:
    """Look at every backend that somebody wants to hear of."""
    if view.static:
        return
    for used in _used(view):
        if used.target.outside:
            continue
        if not used.target.host:
            continue
        service = _service(view, used)
        if service is not None:
            _exported(view, used, service)
            _ports(view, used, service)
        _rules(view, used, service)
    _foreign_rules(view)


def _used(view: View) -> Iterator[_Used]:
    found: dict[tuple[object, ...], _Used] = {}
    for table in view.tables:
        if not view.concerns(table.place):
            continue
        uses = view.uses_of_table[id(table)]
        for rule in table.rules:
            if table.mesh and not any(one.place == rule.place for use in uses for one in use.rules):
                continue  # sidecars alone take it, and they look for rules elsewhere
            for target in rule.targets:
                key = (target.host, target.port, target.subset, target.place.object, target.place.exposure, rule.family)
                used = found.setdefault(key, _Used(target, table, rule))
                for use in uses:
                    if any(one.place == rule.place for one in use.rules):
                        used.takes.add(_how(use.listener))
                        used.numbers.add(use.listener.number)
                        used.spaces |= {bound.workload.namespace for bound in view.bound_to[id(use.listener)]}
    if view.model is not None:
        spaces = {entry.name: entry.gateway.namespace for entry in view.model.exposures}
        for used in found.values():
            if used.table.ours:
                used.takes = used.takes or {"tls" if used.rule.family == "tls" else used.rule.family}
                used.spaces.add(spaces[used.table.place.exposure])
    yield from found.values()


def _how(listener: Listener) -> str:
    return "tls" if listener.encrypted and not listener.terminates else listener.takes


# Services


def _service(view: View, used: _Used) -> Manifest | None:
    """Return the Service that is meant; what isn't there is a finding."""
    target = used.target
    if target.service:
        service = view.services.get((target.namespace, target.service))
        known = service is not None or _entry(view, target.host)
        if not known and view.readable(snap.SERVICE, target.namespace):
            _missing(view, target)
        return service
    if not _entry(view, target.host):
        _missing(view, target)
    return None


def _entry(view: View, host: str) -> bool:
    """Whether a ServiceEntry makes a host known, or may do so unread."""
    if not view.readable(snap.SERVICE_ENTRY):
        return True
    for entry in view.snapshot.items(snap.SERVICE_ENTRY):
        for name in (entry.get("spec") or {}).get("hosts") or ():
            if name.lower() == host.lower() or (name.startswith("*") and host.lower().endswith(name[1:].lower())):
                return True
    return False


def _missing(view: View, target: Target) -> None:
    reason = f"Backend `{target.host}` is nothing that Istio knows: requests are answered with 503."
    cure = "Create the Service, or a ServiceEntry for a host outside."
    objects = []
    severity = WARNING
    if target.service:
        reason = f"Service {target.namespace}/{target.service} doesn't exist: requests are answered with 503."
        cure = "Create it, or correct the name."
        objects.append(f"Service {target.namespace}/{target.service}")
        others = sorted(owner for owner, name in view.services if name == target.service)
        if others:
            written = f"{target.service}.{others[0]}.svc.cluster.local"
            cure = f"There is one in namespace `{others[0]}`: write " + (
                f"`namespace: {others[0]}` in the backend." if target.place.ours else f"`{written}`."
            )
            objects.append(f"Service {others[0]}/{target.service}")
    else:
        parts = target.host.replace("/", ".").split(".")
        guesses = (
            [(parts[1], parts[0]), (parts[0], parts[1])]
            if len(parts) == 2
            else [(parts[1], parts[0])] * (len(parts) > 2)
        )
        known = next((guess for guess in guesses if guess in view.services), None)
        if known is not None:
            severity = ERROR
            reason = f"Backend `{target.host}` is taken for a complete name, which no Service has: requests get 503."
            cure = f"Write `{known[1]}.{known[0]}.svc.cluster.local`."
            objects.append(f"Service {known[0]}/{known[1]}")
    view.add("backend-missing", severity, target.place, reason, cure, *objects)


def _exported(view: View, used: _Used, service: Manifest) -> None:
    """A Service that says which namespaces may know it."""
    metadata = service["metadata"]
    said = (metadata.get("annotations") or {}).get("networking.istio.io/exportTo")
    names = [part.strip() for part in said.split(",")] if said else None
    spaces = exported(names, metadata["namespace"])
    if said == "~":
        spaces = frozenset()
    if spaces is not None and used.spaces and not used.spaces & spaces:
        view.add(
            "backend-not-exported",
            ERROR,
            used.target.place,
            f"{shown(service)} is exported to {', '.join(sorted(spaces)) or 'nobody'} "
            "(networking.istio.io/exportTo), and "
            f"the gateway is in {', '.join(sorted(used.spaces))}: it doesn't know the Service.",
            f"Add {', '.join(sorted(used.spaces))} to the annotation, or remove it.",
            shown(service),
        )


def _ports(view: View, used: _Used, service: Manifest) -> None:
    target, spec = used.target, service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        _external(view, used, service)
        return
    ports = spec.get("ports") or ()
    number = target.port
    if number is None and len(ports) > 1:
        numbers = sorted(port["port"] for port in ports)
        lost = sorted(used.numbers - set(numbers))
        if lost:
            view.add(
                "backend-port-unsaid",
                ERROR,
                target.place,
                f"{shown(service)} has ports {', '.join(map(str, numbers))} and none is named: Istio takes the "
                "Gateway's, "
                f"{lost[0]}, which it doesn't have.",
                "Write the port of the backend.",
                shown(service),
            )
            return
    port = (
        next((one for one in ports if one["port"] == number), None) if number is not None else next(iter(ports), None)
    )
    if port is None:
        has = ", ".join(str(one["port"]) for one in ports) or "none"
        ends = next((one for one in ports if target_of(one, ()) == number), None)
        cure = f"Write one of them ({has})."
        if ends is not None:
            cure = f"{number} is where port {ends['port']} ends: write {ends['port']}."
        view.add(
            "backend-port-missing",
            WARNING,
            target.place,
            f"{shown(service)} has no port {number} (it has {has}): requests are answered with 503.",
            cure,
            shown(service),
        )
        return
    _endpoints(view, used, service, port)
    _protocol(view, used, service, port)


def _external(view: View, used: _Used, service: Manifest) -> None:
    name = str(service["spec"].get("externalName") or "")
    if not _entry(view, name) and [*name.split("."), "", ""][2] != "svc":
        view.add(
            "backend-external-name",
            WARNING,
            used.target.place,
            f"{shown(service)} is an alias for `{name}`, which the gateway doesn't know; and it would be asked with "
            "the "
            "client's hostname.",
            f"Publish `{name}` itself as the backend's host, with a ServiceEntry.",
            shown(service),
        )


def _endpoints(view: View, used: _Used, service: Manifest, port: Manifest) -> None:
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    if not view.readable(snap.SLICE, namespace):
        return
    slices = view.slices.get((namespace, name), [])
    ready = [
        (one, endpoint)
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
    ]
    numbered = [
        one
        for one, _endpoint in ready
        if any(
            (entry.get("name") or "") == (port.get("name") or "") and entry.get("port")
            for entry in one.get("ports") or ()
        )
    ]
    if numbered:
        return
    if ready:
        view.add(
            "backend-target-port",
            WARNING,
            used.target.place,
            f"Port {port['port']} of {shown(service)} ends at a port named `{port.get('targetPort')}`, and no pod "
            "behind "
            "it has one.",
            "Write the number, or name the container's port so.",
            shown(service),
        )
        return
    count = sum(len(one.get("endpoints") or ()) for one in slices)
    if count:
        why, cure = f"none of the {count} pods behind it is ready", "See why they aren't ready."
    elif not service["spec"].get("selector"):
        why, cure = "it has no selector and no endpoints of its own", "Give it a selector, or an EndpointSlice."
    else:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(service["spec"]["selector"].items()))
        why, cure = f"no pod has its labels ({labels})", "Start pods with these labels, or correct the selector."
    view.add(
        "backend-unready",
        WARNING,
        used.target.place,
        f"{shown(service)} has no ready endpoint: {why}. Requests are answered with 503.",
        cure,
        shown(service),
    )


# Protocols


def protocol_of(port: Manifest) -> str:
    """Return http, h2, tls, tcp, udp, or empty where Istio sniffs (ConvertProtocol in "
    "pkg/config/kube/conversion.go)."""
    if port.get("protocol") == "UDP":
        return "udp"
    name = port.get("appProtocol") or port.get("name") or ""
    if name in _KUBERNETES:
        return _KUBERNETES[name]
    lower = name.lower()
    found = "h2" if lower.startswith("grpc-web") else _FAMILIES.get(lower.partition("-")[0], "")
    return found or ("tcp" if port["port"] in _KNOWN_TCP else "")


def _protocol(view: View, used: _Used, service: Manifest, port: Manifest) -> None:
    spoken = protocol_of(port)
    said = f"`{port.get('appProtocol') or port.get('name')}`"
    name, place = shown(service), used.target.place
    if spoken == "udp":
        view.add(
            "backend-protocol",
            ERROR,
            place,
            f"Port {port['port']} of {name} is UDP.",
            "Publish a TCP port.",
            name,
        )
    elif "http" in used.takes and spoken == "tls" and not used.target.originates and not _originates(view, used, port):
        view.add(
            "backend-speaks-tls",
            WARNING,
            place,
            f"Port {port['port']} of {name} speaks TLS ({said}), and the gateway sends plain HTTP there: the backend "
            "answers 400 or closes.",
            "Let the gateway speak TLS to it (`tls` in the backend; DestinationRule tls mode SIMPLE), pass TLS "
            "through, "
            "or use its plain port.",
            name,
        )
    elif "tls" in used.takes and spoken in ("http", "h2"):
        view.add(
            "backend-speaks-plain",
            WARNING,
            place,
            f"Port {port['port']} of {name} speaks plain HTTP ({said}), and TLS is passed through to it: handshakes "
            "fail.",
            "Use its TLS port, or end TLS at the gateway.",
            name,
        )
    elif used.rule.grpc and spoken == "http" and not _upgrades(view, used):
        view.add(
            "backend-not-h2",
            WARNING,
            place,
            f"gRPC goes to port {port['port']} of {name}, which is declared as HTTP/1.1 ({said}): the gateway speaks "
            "HTTP/1.1 to it, and gRPC needs HTTP/2.",
            "Name the port grpc or set its appProtocol, or set `traffic.http2`.",
            name,
        )
    elif used.rule.family == "tcp" and not spoken:
        _sniffed(view, used, service, port)


def _originates(view: View, used: _Used, port: Manifest) -> bool:
    """Whether a DestinationRule or a BackendTLSPolicy makes the gateway speak TLS to a port, or may do so unread."""
    if not (_knows_rules(view, used) and view.readable(snap.BACKEND_TLS, used.target.namespace)):
        return True
    for one in view.snapshot.items(snap.BACKEND_TLS):
        ignored = (one["metadata"].get("annotations") or {}).get("istio.io/ignore-policy-attachment") == "true"
        for reference in (one.get("spec") or {}).get("targetRefs") or ():
            named = (one["metadata"]["namespace"], reference.get("kind"), reference.get("name"))
            section = reference.get("sectionName") in (None, "", port.get("name"))
            if not ignored and section and named == (used.target.namespace, "Service", used.target.service):
                return True
    for policy in _policies(view, used):
        tls = dict(policy.get("tls") or {})
        for level in policy.get("portLevelSettings") or ():
            if (level.get("port") or {}).get("number") == port["port"]:
                tls = dict(level.get("tls") or {})
        if tls.get("mode") in ("SIMPLE", "MUTUAL"):
            return True
    return False


def _upgrades(view: View, used: _Used) -> bool:
    """Whether HTTP/2 is spoken whatever the port is called, or may be by an unread DestinationRule."""
    if not _knows_rules(view, used):
        return True
    for entry in view.model.exposures if view.model is not None else ():
        if entry.name == used.table.place.exposure and entry.traffic is not None and entry.traffic.http2:
            return True
    pools = [((policy.get("connectionPool") or {}).get("http") or {}) for policy in _policies(view, used)]
    return any(pool.get("h2UpgradePolicy") == "UPGRADE" for pool in pools)


def _sniffed(view: View, used: _Used, service: Manifest, port: Manifest) -> None:
    """A server that speaks first behind a sidecar which waits for the client to do so.

    It doesn't where the gateway speaks mutual TLS to it, as it does by itself: the handshake is what comes first then.
    """
    pods = view.pods_of_service(service)
    target = target_of(port, pods)
    if target not in _SERVER_FIRST and port["port"] not in _SERVER_FIRST:
        return
    behind = next((pod for pod in pods if injected(pod)), None)
    if behind is None:
        return
    peer, mode = _peer(view, used, behind, service)
    rule, spoken = next(((rule, tls["mode"]) for rule, tls in _spoken(view, used) if tls.get("mode")), (None, ""))
    plain = [one for one, said in ((peer, mode), (rule, spoken)) if one is not None and said == "DISABLE"]
    if plain:
        view.add(
            "backend-sniffed",
            WARNING,
            used.target.place,
            f"Port {port['port']} of {shown(service)} ends at {target}, where servers speak first, and doesn't say its "
            f"protocol, and {shown(plain[0])} keeps mutual TLS from it: the sidecar waits for the client's first bytes "
            "to guess it.",
            "Name the port tcp-…, or set its appProtocol to tcp.",
            shown(service),
            shown(plain[0]),
        )


# DestinationRules


def rules_for(view: View, host: str, client: str, owner: str, root: str) -> list[Manifest]:
    """Return others' DestinationRules that govern a host for clients of a namespace (destinationRule, push_context.go).

    The client's namespace is looked at first, then the Service's, then the root; the most specific host wins in each,
    and rules of one host are merged.
    """
    for space in dict.fromkeys((client, owner, root) if client != root else (owner, root)):
        fitting: dict[str, list[Manifest]] = {}
        there = view.foreign_rules.get(space, {})
        for rule in [*there.get(host, ()), *there.get("*", ())]:
            spec = rule.get("spec") or {}
            name = complete(str(spec.get("host") or ""), space)
            seen = exported(spec.get("exportTo"), space)
            if (seen is None or client in seen) and (
                name == host or (name.startswith("*") and host.endswith(name[1:]))
            ):
                fitting.setdefault(name, []).append(rule)
        if fitting:
            return fitting[max(fitting, key=lambda one: (not one.startswith("*"), len(one)))]
    return []


def _spaces(view: View, used: _Used) -> Iterator[tuple[str, str]]:
    """Return (namespace, root namespace) of each gateway that a backend is reached through."""
    seen = set()
    for workload in view.workloads_of(used.table):
        seen.add((workload.namespace, view.root_namespace(workload)))
    yield from sorted(seen or {(space, "istio-system") for space in used.spaces})


def _knows_rules(view: View, used: _Used) -> bool:
    """Whether all DestinationRules that count are known; which do is a matter of the gateway's namespace."""
    return view.readable(snap.DESTINATION_RULE, used.target.namespace) and any(True for _one in _spaces(view, used))


def _governing(view: View, used: _Used) -> list[Manifest]:
    found: list[Manifest] = []
    for space, root in _spaces(view, used):
        found += [
            one for one in rules_for(view, used.target.host, space, used.target.namespace, root) if one not in found
        ]
    return found


def _policies(view: View, used: _Used) -> Iterator[Mapping[str, Any]]:
    for rule in _governing(view, used):
        spec = rule.get("spec") or {}
        yield spec.get("trafficPolicy") or {}
        for subset in spec.get("subsets") or ():
            if subset.get("name") == used.target.subset:
                yield subset.get("trafficPolicy") or {}


def _rules(view: View, used: _Used, service: Manifest | None) -> None:
    if used.target.subset:
        _subset(view, used, service)
    if service is not None:
        _mutual(view, used, service)


def _subset(view: View, used: _Used, service: Manifest | None) -> None:
    target = used.target
    if not _knows_rules(view, used):
        return
    labels: Mapping[str, str] | None = None
    rules = [] if target.place.ours else _governing(view, used)
    for rule in rules:
        for subset in (rule.get("spec") or {}).get("subsets") or ():
            if subset.get("name") == target.subset:
                labels = subset.get("labels") or {}
    for entry in view.model.exposures if view.model is not None and target.place.ours else ():
        for one in entry.subsets:
            if (one.fqdn, one.name) == (target.host, target.subset):
                labels = dict(one.labels)
    if labels is None and not target.place.ours:
        elsewhere = [
            shown(one)
            for one in view.foreign(snap.DESTINATION_RULE)
            if complete(str((one.get("spec") or {}).get("host")), one["metadata"]["namespace"]) == target.host
            and any(sub.get("name") == target.subset for sub in (one.get("spec") or {}).get("subsets") or ())
        ]
        gateways = ", ".join(space for space, _root in _spaces(view, used))
        cure = f"Define it in a DestinationRule for {target.host} in namespace `{target.namespace or gateways}`."
        if elsewhere:
            cure = (
                f"{elsewhere[0]} defines it where gateways in `{gateways}` don't look: move it to the Service's "
                f"namespace `{target.namespace}`, exported to them."
            )
        view.add(
            "subset-missing",
            ERROR,
            target.place,
            f"Subset `{target.subset}` of {target.host} isn't defined in any DestinationRule that the gateway sees: "
            "requests are answered with 503.",
            cure,
            *elsewhere,
            *(shown(rule) for rule in rules),
        )
        return
    if labels is None or service is None or not view.readable(snap.POD, target.namespace):
        return
    pods = view.pods_of_service(service)
    if pods and not any(selects(labels, pod["metadata"].get("labels")) and is_ready(pod) for pod in pods):
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        view.add(
            "subset-empty",
            WARNING,
            target.place,
            f"No ready pod of {shown(service)} has the labels of subset `{target.subset}` ({wanted}): its requests are "
            "answered with 503.",
            "Correct the labels, or start such pods.",
            shown(service),
        )


def _mutual(view: View, used: _Used, service: Manifest) -> None:
    """A DestinationRule that speaks otherwise than the pods' sidecars listen."""
    pods = view.pods_of_service(service)
    if not pods:
        return
    with_sidecar = [pod for pod in pods if injected(pod)]
    without = [pod for pod in pods if not takes_mutual_tls(pod)]
    for rule, tls in _spoken(view, used):
        mode = tls.get("mode")
        if mode == "ISTIO_MUTUAL" and without:
            view.add(
                "mtls-clash",
                ERROR,
                used.target.place,
                f"{shown(rule)} makes the gateway speak Istio's mutual TLS, and {len(without)} of "
                f"{len(pods)} pods of {shown(service)} have no sidecar to understand it.",
                "Leave tls out of the rule: Istio finds out by itself. Or inject sidecars.",
                shown(rule),
                shown(service),
            )
        elif mode in ("DISABLE", "SIMPLE") and with_sidecar:
            peer, expected = _peer(view, used, with_sidecar[0], service)
            if peer is not None and expected == "STRICT":
                view.add(
                    "mtls-clash",
                    ERROR,
                    used.target.place,
                    f"{shown(rule)} sets tls mode {mode}, and {shown(peer)} lets only mutual TLS in: connections are "
                    "reset.",
                    "Leave tls out of the DestinationRule.",
                    shown(rule),
                    shown(peer),
                )


def _spoken(view: View, used: _Used) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
    """Return the DestinationRules of a backend, each with the TLS settings that it has for the backend's port."""
    for rule in _governing(view, used):
        policy = (rule.get("spec") or {}).get("trafficPolicy") or {}
        tls = policy.get("tls") or {}
        for level in policy.get("portLevelSettings") or ():
            if (level.get("port") or {}).get("number") == used.target.port and "tls" in level:
                tls = level["tls"] or {}
        yield rule, tls


def _peer(view: View, used: _Used, pod: Manifest, service: Manifest) -> tuple[Manifest | None, str]:
    """Return the PeerAuthentication that governs a pod's port, and its mode."""
    root = next((one for _space, one in _spaces(view, used)), "istio-system")
    ports = (service.get("spec") or {}).get("ports") or ()
    ends = {str(target_of(port, [pod])) for port in ports if used.target.port in (None, port["port"])}
    return governing_peer(view.snapshot.items(snap.PEER), pod, ends, root)


def _foreign_rules(view: View) -> None:
    """DestinationRules of others for backends of the list, which hide ours or are merged with it."""
    model = view.model
    if model is None:
        return
    told: set[tuple[str, str]] = set()
    policies: dict[str, object] = {}
    for used in _used(view):
        target = used.target
        if not target.place.ours or target.outside:
            continue
        for space, root in _spaces(view, used):
            for rule in rules_for(view, target.host, space, target.namespace, root):
                owner = rule["metadata"]["namespace"]
                host = complete(str((rule.get("spec") or {}).get("host") or ""), owner)
                if host != target.host or (shown(rule), target.host) in told:
                    continue
                told.add((shown(rule), target.host))
                policies = policies or {each["spec"]["host"]: _policy(each) for each in destination_rules(model)}
                if _policy(rule) == policies.get(target.host) and not target.subset:
                    continue
                _foreign_rule(view, target, rule, hides=owner == space != root and owner != target.namespace)


def _policy(rule: Manifest) -> object:
    """What two rules of one host must have in common to do each other no harm, as those of two sets often do."""
    return (rule.get("spec") or {}).get("trafficPolicy")


def _foreign_rule(view: View, target: Target, rule: Manifest, *, hides: bool) -> None:
    place = Place(target.place.object, target.place.path, target.place.exposure)
    if hides:
        subset = f", and subset `{target.subset}` isn't known then" if target.subset else ""
        view.add(
            "destination-rule-hides",
            ERROR if target.subset else WARNING,
            place,
            f"{shown(rule)} lies beside the gateway and governs {target.host} there: the settings of this list are "
            f"ignored{subset}.",
            "Move its settings into the list, and remove it.",
            shown(rule),
        )
        return
    view.add(
        "destination-rule-foreign",
        WARNING,
        place,
        f"{shown(rule)} also has settings for {target.host}. Istio merges the rules of one namespace, the older one's "
        "policy holds, and only one of two namespaces counts.",
        "Move its settings into the list (`traffic`, `subsets`), or silence this with your reason.",
        shown(rule),
    )


def services_of(view: View, tables: Sequence[Table]) -> Iterator[tuple[Target, Manifest]]:
    """Return the backends of some tables that are Services, each once."""
    seen: set[tuple[str, str, str]] = set()
    for table in tables:
        for rule in table.rules:
            for target in rule.targets:
                key = (target.namespace, target.service, target.place.exposure or target.place.object)
                service = view.services.get((target.namespace, target.service))
                if service is not None and key not in seen:
                    seen.add(key)
                    yield target, service
