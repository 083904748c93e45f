"""What the server knows of each kind: how its values merge, its defaults, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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


@dataclass
class Invalid:
    """Reasons for a 422, as (field, text)."""

    causes: list[tuple[str, str]] = field(default_factory=list)

    def add(self, at: str, text: str) -> None:
        self.causes.append((at, text))


NODE_PORTS = range(30000, 32768)


def default(kind: Kind, new: Object) -> None:
    """Fill in what the server fills in, before it allocates."""
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


def allocate(kind: Kind, new: Object, old: Object | None, others: Iterable[Object]) -> None:
    """Give a Service its addresses and nodePorts, keeping what it had."""
    if kind.name != "Service":
        return
    services = list(others)
    spec = new["spec"]
    before = (old or {}).get("spec", {})
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
    if spec["type"] == "ClusterIP":
        return
    had = {(port["port"], port["protocol"]): port.get("nodePort") for port in before.get("ports") or ()}
    taken = _node_ports(services) | {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    for port in spec.get("ports") or ():
        if not port.get("nodePort"):
            kept = had.get((port["port"], port["protocol"]))
            port["nodePort"] = kept if kept and kept not in taken else next(n for n in NODE_PORTS if n not in taken)
            taken.add(port["nodePort"])
    if spec.get("externalTrafficPolicy") == "Local" and spec["type"] == "LoadBalancer":
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort") or 32767)


def _node_ports(services: Iterable[Object]) -> set[int]:
    return {port["nodePort"] for other in services for port in other["spec"].get("ports") or () if port.get("nodePort")}


def validate(kind: Kind, new: Object, old: Object | None, others: Iterable[Object]) -> Invalid:
    """Return what is wrong with an object that is about to be stored."""
    found = Invalid()
    if kind.name != "Service":
        return found
    spec = new["spec"]
    ports = spec.get("ports") or []
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            found.add(f"{at}.name", "Required value")
        if port.get("name") and port["name"] in names:
            found.add(f"{at}.name", f'Duplicate value: "{port["name"]}"')
        names.add(port.get("name", ""))
        if port.get("nodePort") and spec["type"] == "ClusterIP":
            found.add(f"{at}.nodePort", "Forbidden: may not be used when `type` is 'ClusterIP'")
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        found.add("spec.ports", "Required value")
    previous = (old or {}).get("spec", {})
    had = previous.get("loadBalancerClass")
    if previous.get("type") == "LoadBalancer" == spec["type"] and spec.get("loadBalancerClass") != had:
        found.add(
            "spec.loadBalancerClass", f'Invalid value: "{spec.get("loadBalancerClass")}": may not change once set'
        )
    if spec.get("loadBalancerClass") and spec["type"] != "LoadBalancer":
        found.add("spec.loadBalancerClass", "Forbidden: may only be used when `type` is 'LoadBalancer'")
    taken = _node_ports(others)
    for index, port in enumerate(ports):
        number = port.get("nodePort")
        at = f"spec.ports[{index}].nodePort"
        if number and number not in NODE_PORTS:
            found.add(at, f"Invalid value: {number}: provided port is not in the valid range. The range of valid "
                          f"ports is 30000-32767")  # fmt: skip
        elif number and number in taken:
            found.add(at, f"Invalid value: {number}: provided port is already allocated")
    return found


Admission = Callable[[str, Object], str | None]
"""A policy: the verb and the object in, a reason to refuse it out."""
