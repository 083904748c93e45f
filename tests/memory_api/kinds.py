"""What the server knows of each kind: how its values merge, its defaults, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from memory_api.ownership import ATOMIC, Schema

Object = dict[str, Any]

METADATA = Schema(
    fields={
        "finalizers": Schema(is_set=True),
        "ownerReferences": Schema(keys=("uid",), items=ATOMIC),
    }
)
CONDITIONS = Schema(fields={"conditions": Schema(keys=("type",))})

_SELECTOR = Schema(fields={"namespaces": Schema(fields={"selector": ATOMIC})})
_SPECS = {
    "Service": Schema(fields={"ports": Schema(keys=("port", "protocol")), "selector": ATOMIC}),
    "ServiceEntry": Schema(fields={"ports": Schema(keys=("name",))}),
    "Gateway.gateway.networking.k8s.io": Schema(
        fields={
            "listeners": Schema(keys=("name",), items=Schema(fields={"allowedRoutes": _SELECTOR})),
            "allowedListeners": _SELECTOR,
        }
    ),
}

ISTIO = "networking.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"


@dataclass(frozen=True)
class Kind:
    """One kind that is served, in all of its versions."""

    group: str
    name: str
    plural: str
    versions: tuple[str, ...] = ("v1",)
    namespaced: bool = True
    has_status: bool = False

    @property
    def schema(self) -> Schema:
        spec = _SPECS.get(f"{self.name}.{self.group}") or _SPECS.get(self.name) or Schema()
        return Schema(fields={"metadata": METADATA, "spec": spec, "status": CONDITIONS})


CORE = (
    Kind("", "Namespace", "namespaces", namespaced=False, has_status=True),
    Kind("", "ConfigMap", "configmaps"),
    Kind("", "Secret", "secrets"),
    Kind("", "Service", "services", has_status=True),
    Kind("", "Pod", "pods", has_status=True),
    Kind("", "Node", "nodes", namespaced=False, has_status=True),
    Kind("apps", "DaemonSet", "daemonsets", has_status=True),
    Kind("discovery.k8s.io", "EndpointSlice", "endpointslices"),
)
_V = ("v1", "v1beta1", "v1alpha3")
ISTIO_KINDS = tuple(
    Kind(ISTIO, name, plural, _V, has_status=True)
    for name, plural in (
        ("Gateway", "gateways"),
        ("VirtualService", "virtualservices"),
        ("DestinationRule", "destinationrules"),
        ("ServiceEntry", "serviceentries"),
    )
)
GATEWAY_API_KINDS = (
    Kind(GATEWAY_API, "Gateway", "gateways", ("v1", "v1beta1"), has_status=True),
    Kind(GATEWAY_API, "HTTPRoute", "httproutes", ("v1", "v1beta1"), has_status=True),
    Kind(GATEWAY_API, "GRPCRoute", "grpcroutes", has_status=True),
    Kind(GATEWAY_API, "TLSRoute", "tlsroutes", ("v1",), has_status=True),
    Kind(GATEWAY_API, "TCPRoute", "tcproutes", ("v1",), has_status=True),
    Kind(GATEWAY_API, "ReferenceGrant", "referencegrants", ("v1", "v1beta1")),
)


Cause = tuple[str, str]
"""A reason for a 422: (field, text)."""

NODE_PORTS = range(30000, 32768)
FREELY = range(30086, 32768)
"""What the server gives out by itself; below lies what it keeps for those who ask."""
OUTSIDE = ("NodePort", "LoadBalancer")


def default(kind: Kind, new: Object) -> None:
    """Fill in what the server fills in, before it allocates, and leave out what its Go types leave out when empty."""
    _drop_empty(new.get("metadata") or {}, "labels", "annotations")
    if not kind.group:
        _drop_empty(new, "data")
        _drop_empty(new.get("spec") or {}, "selector", "ports")
    if kind.name == "Gateway" and kind.group == GATEWAY_API:
        for listener in (new.get("spec") or {}).get("listeners") or ():
            namespaces = listener.setdefault("allowedRoutes", {}).setdefault("namespaces", {})
            namespaces.setdefault("from", "Same")
    if kind.name == "Secret":
        new.setdefault("type", "Opaque")
    if kind.name != "Service":
        return
    spec = new.setdefault("spec", {})
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    for entry in ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if entry.get("ip") and spec["type"] == "LoadBalancer":
            entry.setdefault("ipMode", "VIP")


def _drop_empty(part: Object, *names: str) -> None:
    for name in names:
        if name in part and not part[name]:
            del part[name]


def allocate(kind: Kind, new: Object, old: Object | None, others: Iterable[Object]) -> None:
    """Give a Service its addresses and nodePorts, keeping what it had."""
    if kind.name != "Service":
        return
    services = list(others)
    spec = new["spec"]
    before = (old or {}).get("spec", {})
    if old is not None:
        drop_by_type(new, old)
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if name not in spec and name in before:
            spec[name] = copy.deepcopy(before[name])
    if spec["type"] != "ExternalName" and "clusterIP" not in spec:
        used = {other["spec"].get("clusterIP") for other in services}
        spec["clusterIP"] = next(ip for n in range(1, 60000) if (ip := f"10.96.{n // 250}.{n % 250 + 1}") not in used)
    if spec["type"] != "ExternalName":
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] in OUTSIDE:
        _allocate_node_ports(spec, before, _node_ports(services))
    if spec.get("externalTrafficPolicy") == "Local" and spec["type"] == "LoadBalancer":
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort") or 32767)
    elif spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)


def _allocate_node_ports(spec: Object, before: Object, others: set[int]) -> None:
    """Give each port its nodePort: what one of its name had, what the same number has, else a free one."""
    ports = spec.get("ports") or []
    if before.get("type") in OUTSIDE:
        had = {port.get("name", ""): port.get("nodePort", 0) for port in before.get("ports") or ()}
        used = set(had.values()) & {port.get("nodePort", 0) for port in ports}
        for port in ports:
            kept = had.get(port.get("name", ""), 0)
            if not port.get("nodePort") and kept and kept not in used:
                port["nodePort"] = kept
                used.add(kept)
    by_number = {port["port"]: port["nodePort"] for port in ports if port.get("nodePort")} if not before else {}
    taken = others | {port["nodePort"] for port in ports if port.get("nodePort")}
    for port in ports:
        if not port.get("nodePort"):
            port["nodePort"] = by_number.get(port["port"]) or next(n for n in FREELY if n not in taken)
            taken.add(port["nodePort"])
            if not before:
                by_number.setdefault(port["port"], port["nodePort"])


def _node_ports(services: Iterable[Object]) -> set[int]:
    return {port["nodePort"] for other in services for port in other["spec"].get("ports") or () if port.get("nodePort")}


def validate(kind: Kind, new: Object, old: Object | None, others: Iterable[Object], *, dry: bool) -> list[Cause]:
    """Return what is wrong with an object that is about to be stored."""
    if kind.name == "Service":
        return _allocatable(new, old, others, dry=dry) or _valid_service(new, old)
    missing = [
        (".".join(path), "Required value")
        for path in _REQUIRED.get((kind.group, kind.name), ())
        if not _there(new, path)
    ]
    if kind.group and "spec" in new and _has_null(new["spec"]):
        missing.append(("spec", "Invalid value: null"))
    return missing


_REQUIRED = {
    (ISTIO, "ServiceEntry"): (("spec",), ("spec", "hosts")),
    (GATEWAY_API, "Gateway"): (("spec",), ("spec", "gatewayClassName"), ("spec", "listeners")),
}


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(inner) for inner in value.values())
    return any(_has_null(inner) for inner in value) if isinstance(value, list) else value is None


def _there(new: Object, path: tuple[str, ...]) -> bool:
    node: Any = new
    for name in path:
        node = (node or {}).get(name)
    return node not in (None, [])


def _valid_service(new: Object, old: Object | None) -> list[Cause]:
    found: list[Cause] = []
    spec = new["spec"]
    ports = spec.get("ports") or []
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            found.append((f"{at}.name", "Required value"))
        if port.get("name") and port["name"] in names:
            found.append((f"{at}.name", f'Duplicate value: "{port["name"]}"'))
        names.add(port.get("name", ""))
        if port.get("nodePort"):
            used = [other.get("nodePort") for other in ports[:index] if other["protocol"] == port["protocol"]]
            if port["nodePort"] in used:
                found.append((f"{at}.nodePort", f"Duplicate value: {port['nodePort']}"))
        if port.get("nodePort") and spec["type"] == "ClusterIP":
            found.append((f"{at}.nodePort", "Forbidden: may not be used when `type` is 'ClusterIP'"))
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        found.append(("spec.ports", "Required value"))
    if spec.get("externalTrafficPolicy") and spec["type"] == "ClusterIP":
        text = f'Invalid value: "{spec["externalTrafficPolicy"]}": may only be set for externally-accessible services'
        found.append(("spec.externalTrafficPolicy", text))
    previous = (old or {}).get("spec", {})
    had = previous.get("loadBalancerClass")
    if previous.get("type") == "LoadBalancer" == spec["type"] and spec.get("loadBalancerClass") != had:
        text = f'Invalid value: "{spec.get("loadBalancerClass")}": may not change once set'
        found.append(("spec.loadBalancerClass", text))
    if spec.get("loadBalancerClass") and spec["type"] != "LoadBalancer":
        found.append(("spec.loadBalancerClass", "Forbidden: may only be used when `type` is 'LoadBalancer'"))
    return found


def _allocatable(new: Object, old: Object | None, others: Iterable[Object], *, dry: bool) -> list[Cause]:
    if new["spec"]["type"] not in OUTSIDE:
        return []
    taken = _node_ports(others)
    seen: dict[int, set[tuple[int, str]]] = {}
    for index, port in enumerate(new["spec"].get("ports") or ()):
        number, at = port["nodePort"], f"spec.ports[{index}].nodePort"
        # A dry run doesn't look at the range
        if number not in NODE_PORTS and not dry:
            text = "provided port is not in the valid range. The range of valid ports is 30000-32767"
            return [(at, f"Invalid value: {number}: {text}")]
        before = seen.setdefault(number, set())
        if number in taken or (old is None and any(other != port["port"] for other, _protocol in before)):
            return [(at, f"Invalid value: {number}: provided port is already allocated")]
        if old is not None and any(protocol == port["protocol"] for _other, protocol in before):
            # All that the server says of it, and with status 500
            return [("", f"duplicate nodePort: {{{port['protocol']} {number}}}")]
        before.add((port["port"], port["protocol"]))
    return []


def drop_by_type(new: Object, old: Object) -> None:
    """Leave out what only the old type of a Service had, unless the request changes it."""
    spec, before = new["spec"], old["spec"]
    if spec["type"] == before["type"]:
        return
    if before["type"] in OUTSIDE and spec["type"] not in OUTSIDE:
        had = {port.get("nodePort") for port in before.get("ports") or ()}
        if {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")} <= had:
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
        _drop_same(spec, before, "externalTrafficPolicy")
    if before["type"] == "LoadBalancer":
        _drop_same(spec, before, "allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort")


def _drop_same(spec: Object, before: Object, *names: str) -> None:
    for name in names:
        if name in spec and spec[name] == before.get(name):
            del spec[name]


Admission = Callable[[str, Object], str | None]
"""A policy: the verb and the object in, a reason to refuse it out."""
