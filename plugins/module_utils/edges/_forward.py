# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what arrives at a VIP gets to the gateway: three ways, and why one of them can't work here.

* service: the edges are nodes, and kube-proxy serves the VIP there because it is in the Service's status;
* haproxy: the edges are outside the cluster; haproxy takes TCP to the node ports of nodes that have a ready gateway;
* lvs: the same with IPVS by direct routing: packets keep the VIP, and kube-proxy on the nodes serves it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem

MODES = ("service", "haproxy", "lvs")


@dataclass(frozen=True, slots=True)
class Server:
    """A node that may have a gateway."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Listener:
    """One port on the VIPs. `check_port` 0: no more can be asked than whether the port is open."""

    name: str
    port: int
    servers: tuple[Server, ...]
    check_port: int


@dataclass(frozen=True, slots=True)
class Forwarding:
    """`problems` stop the run; `warnings` are sentences about what may be so only now."""

    mode: str
    listeners: tuple[Listener, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def node_addresses(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Give each node's internal address by its name."""
    found: dict[str, str] = {}
    for node in nodes:
        for address in (node.get("status") or {}).get("addresses") or ():
            if address.get("type") == "InternalIP":
                found.setdefault(str(node["metadata"]["name"]), str(address["address"]))
    return found


def _ready_nodes(slices: Sequence[Mapping[str, Any]]) -> set[str]:
    """List the nodes with a ready endpoint. A missing condition counts as ready (EndpointSlice v1)."""
    return {
        str(endpoint.get("nodeName", ""))
        for item in slices
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    }


def _serves_node_ports(kube_proxy: Mapping[str, Any], address: str) -> bool:
    """Say whether kube-proxy answers at a node port on a node's internal address."""
    given = kube_proxy.get("nodePortAddresses") or ()
    if not given or "primary" in given:
        return True
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(text, strict=False) for text in given)


def plan(
    mode: str,
    *,
    edges: Mapping[str, str],
    service: Mapping[str, Any] | None,
    nodes: Sequence[Mapping[str, Any]],
    slices: Sequence[Mapping[str, Any]],
    kube_proxy: Mapping[str, Any] | None,
    proxy_protocol: bool = False,
) -> Forwarding:
    """Work out the forwarding.

    `edges` are their names in the inventory, and as nodes. `kube_proxy` is its KubeProxyConfiguration, None where none
    was found. Without a Service (nothing is installed yet) there is nothing to forward, and no problem.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    addresses = node_addresses(nodes)
    if mode not in MODES:
        problems.append(Problem("edgeway_forwarding", f"`{mode}` is not known", f"Write {', '.join(MODES)}"))
        return Forwarding(mode, (), tuple(problems), ())
    if proxy_protocol and mode != "haproxy":
        problems.append(
            Problem(
                "edgeway_proxy_protocol",
                f"needs haproxy, and edgeway_forwarding is {mode}",
                "Take it out: this way the gateway sees clients' addresses without it",
            )
        )
    inside = [name for name, node in edges.items() if node in addresses]
    outside = [name for name in edges if name not in inside]
    if addresses and mode == "service" and outside:
        problems.append(
            Problem(
                "edgeway_forwarding",
                f"is service, and not a node of the cluster: {', '.join(outside)}",
                "Set edgeway_node_name where the node has another name, or set edgeway_forwarding to haproxy",
            )
        )
    if mode != "service" and inside:
        problems.append(
            Problem(
                "edgeway_forwarding",
                f"is {mode}, and {' and '.join(inside)} {'is a node' if len(inside) == 1 else 'are nodes'} of the "
                "cluster, where kube-proxy takes what is sent to the VIP",
                "Set edgeway_forwarding to service, or take edges outside the cluster",
            )
        )
    spec = (service or {}).get("spec") or {}
    local = spec.get("externalTrafficPolicy") == "Local"
    check_port = int(spec.get("healthCheckNodePort") or 0) if local else 0
    # Those of which a port of their own is asked: of all nodes, or by each edge of itself
    asked = {"haproxy": tuple(addresses), "service": tuple(edges[name] for name in inside if check_port)}.get(mode, ())
    problems.extend(_proxy_problems(mode, kube_proxy, {name: addresses[name] for name in asked}))
    if service is None:
        return Forwarding(mode, (), tuple(problems), ())
    if kube_proxy is None:
        warnings.append(
            "kube-proxy's configuration (ConfigMap kube-system/kube-proxy) isn't in the cluster, or may not be read: "
            "whatever takes kube-proxy's place must serve LoadBalancer addresses and node ports as it does."
        )
    ready = _ready_nodes(slices)
    if mode == "service" and local:
        bare = [name for name in inside if edges[name] not in ready]
        if bare:
            warnings.append(
                f"{' and '.join(bare)} {'has' if len(bare) == 1 else 'have'} no ready gateway pod: with "
                "externalTrafficPolicy Local such an edge holds a VIP only when no other edge can serve."
            )
    listeners = []
    for port in spec.get("ports") or ():
        if port.get("protocol", "TCP") != "TCP":
            continue
        number = int(port["port"])
        node_port = int(port.get("nodePort") or 0)
        if mode == "haproxy" and not node_port:
            problems.append(
                Problem(
                    "edgeway_forwarding",
                    f"is haproxy, and port {number} of the gateway's Service has no node port",
                    "Make the Service of type NodePort, or LoadBalancer with allocateLoadBalancerNodePorts",
                )
            )
            continue
        servers = tuple(
            Server(name, address, node_port if mode == "haproxy" else number)
            for name, address in sorted(addresses.items())
        )
        listeners.append(Listener(str(port.get("name") or f"port-{number}"), number, servers, check_port))
    return Forwarding(mode, () if mode == "service" else tuple(listeners), tuple(problems), tuple(warnings))


def _proxy_problems(mode: str, kube_proxy: Mapping[str, Any] | None, addresses: Mapping[str, str]) -> list[Problem]:
    """Find settings of kube-proxy that a VIP doesn't survive. `addresses` are of the nodes that it must answer at."""
    if kube_proxy is None:
        return []
    found = []
    if kube_proxy.get("mode") == "ipvs" and mode != "haproxy" and not (kube_proxy.get("ipvs") or {}).get("strictARP"):
        found.append(
            Problem(
                "edgeway_forwarding",
                f"is {mode}, and kube-proxy is in IPVS mode without strictARP: every node would answer ARP for the VIP",
                "Set ipvs.strictARP in the ConfigMap kube-system/kube-proxy and restart kube-proxy",
            )
        )
    silent = [name for name, address in addresses.items() if not _serves_node_ports(kube_proxy, address)]
    if silent:
        found.append(
            Problem(
                "edgeway_forwarding",
                f"is {mode}, and kube-proxy's nodePortAddresses leave out the address of {' and '.join(silent)}",
                "Add the nodes' network to nodePortAddresses in the ConfigMap kube-system/kube-proxy",
            )
        )
    return found


def checks(services: Iterable[Mapping[str, Any]], address: str) -> list[dict[str, Any]]:
    """Checks by which the node at `address` asks kube-proxy whether a ready pod of each gateway is on it.

    A Service has a port for that only as a LoadBalancer with the traffic policy Local. Names are unique among gateways
    of several namespaces. kube-proxy takes up to a second to know of a gateway's end, so it is asked often; an edge
    counts as well again after two seconds.
    """
    asked = [each for each in services if each.get("spec", {}).get("healthCheckNodePort")] if address else []
    names = [str(each["metadata"]["name"]) for each in asked]
    host = f"[{address}]" if ":" in address else address
    return [
        {
            "name": name if names.count(name) == 1 else f"{each['metadata']['namespace']}-{name}",
            "url": f"http://{host}:{each['spec']['healthCheckNodePort']}/healthz",
            "interval": 0.2,
            "rise": 10,
        }
        for name, each in zip(names, asked, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """What forwarding depends on: the gateways' Services that are there, and what `plan` needs beside the first one."""

    services: tuple[Mapping[str, Any], ...]
    first: Mapping[str, Any] | None
    nodes: tuple[Mapping[str, Any], ...]
    slices: tuple[Mapping[str, Any], ...]
    kube_proxy: Mapping[str, Any] | None


def look(cluster: Cluster, gateways: Sequence[str]) -> Found:
    """Read it. `gateways` are their Services as NAMESPACE/NAME, the one whose ports are forwarded first.

    Raises ValueError where kube-proxy's configuration is no YAML.
    """

    def service(gateway: str) -> Mapping[str, Any] | None:
        namespace, _slash, name = gateway.partition("/")
        return cluster.get("v1", "Service", namespace, name)

    services = cluster.every(service, gateways)
    slices: list[Any] = []
    if gateways:
        namespace, _slash, name = gateways[0].partition("/")
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        slices = cluster.items(path, {"kubernetes.io/service-name": name})
    return Found(
        services=tuple(one for one in services if one is not None),
        first=services[0] if services else None,
        nodes=tuple(cluster.items("/api/v1/nodes")),
        slices=tuple(slices),
        kube_proxy=_kube_proxy(cluster),
    )


def _kube_proxy(cluster: Cluster) -> Mapping[str, Any] | None:
    """Read the configuration that kubeadm keeps as YAML within a ConfigMap; None where it isn't or may not be read."""
    try:
        found = cluster.get("v1", "ConfigMap", "kube-system", "kube-proxy")
    except RefusedError as refused:
        if refused.status != 403:
            raise
        return None
    documents = _yaml.documents(((found or {}).get("data") or {}).get("config.conf") or "")
    return next((one for one in documents if isinstance(one, dict)), None)
