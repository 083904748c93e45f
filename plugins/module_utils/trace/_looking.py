# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the facts of a trace: objects, the gateway pods' Envoys and istiod through the API server, and real requests.

What may not be read is noted and left out; only a request that makes no sense is an error.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _envoy, _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import (
    CONNECTIONS,
    Cluster,
    ClusterError,
    RefusedError,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import control_plane, mesh_config
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import is_address
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _match, _requests, _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    Edge,
    Facts,
    GatewayPod,
    Istiod,
    Manifest,
    Probe,
    Snapshot,
    Sync,
    Target,
)

_ISTIO = "/apis/networking.istio.io/v1"
_SECURITY = "/apis/security.istio.io/v1"
_GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"

# kind: (collection's root, plural). The Gateway API's Gateway is K8sGateway here.
_KINDS = {
    "Service": ("/api/v1", "services"),
    "Gateway": (_ISTIO, "gateways"),
    "VirtualService": (_ISTIO, "virtualservices"),
    "DestinationRule": (_ISTIO, "destinationrules"),
    "ServiceEntry": (_ISTIO, "serviceentries"),
    "AuthorizationPolicy": (_SECURITY, "authorizationpolicies"),
    "PeerAuthentication": (_SECURITY, "peerauthentications"),
    "K8sGateway": (_GATEWAY_API, "gateways"),
    "HTTPRoute": (_GATEWAY_API, "httproutes"),
    "GRPCRoute": (_GATEWAY_API, "grpcroutes"),
    "TLSRoute": (_GATEWAY_API, "tlsroutes"),
    "TCPRoute": (_GATEWAY_API, "tcproutes"),
    "Node": ("/api/v1", "nodes"),
}

ISTIOD_PORT = 15014
_SYNC = "/debug/syncz"


@dataclass(frozen=True, slots=True)
class Options:
    """How to look. `authorities` is a PEM file for the chain of trust, empty for the machine's own."""

    vips: tuple[str, ...] = ()
    edges: tuple[Edge, ...] | None = None
    nameservers: tuple[str, ...] = ()
    dns: bool = True
    probe: bool = True
    timeout: float = 2.0
    authorities: str = ""


@dataclass(slots=True)
class _Found:
    """What has been read so far."""

    kinds: dict[str, tuple[Manifest, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return Snapshot(self.kinds).get(kind, namespace, name)


def services(cluster: Cluster) -> tuple[Manifest, ...] | None:
    """List the Services of the whole cluster; None where that may not be."""
    root, plural = _KINDS["Service"]
    try:
        return tuple({**item, "kind": "Service"} for item in cluster.items(f"{root}/{plural}"))
    except ClusterError:
        return None


def look(cluster: Cluster, target: Target, options: Options, listed: tuple[Manifest, ...] | None = None) -> Facts:
    """Find everything there is to know about one request. Nothing is changed anywhere.

    `listed` are the Services, as `services` returns them.
    """
    found = _Found() if listed is None else _Found({"Service": listed})
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        dns = (
            pool.submit(_requests.resolve, target.host, options.nameservers, options.timeout)
            if _asks(target, options)
            else None
        )
        control = pool.submit(_istiod, cluster, target.namespace)
        _objects(cluster, target, found, pool)
        service = found.get("Service", target.namespace, target.service)
        vips = options.vips or _carried(service)
        pods = _gateway_pods(target, service, found)
        proxies = [pool.submit(_requests.proxy_health, *one) for one in _proxies(service, found, options, pods)]
        ports = {pod.name: _why.target_ports(service, target.port, pod.manifest) for pod in pods}
        pods = list(pool.map(lambda pod: _read_pod(cluster, pod), pods))
        paths = {pod.name: _path(pod, ports[pod.name], target) for pod in pods}
        target = _as_served(target, paths.values())
        later = [pool.submit(_behind, cluster, target, paths.values(), found)]
        later += [pool.submit(_secrets, cluster, pods, paths.values(), found)]
        probes: list[Probe] = []
        if options.probe:
            requests = _sendings(cluster, target, options, vips, service, found, ports, pods)
            probes = list(pool.map(lambda request: request(), requests))
            pods = list(pool.map(lambda pod: _recounted(cluster, pod, paths[pod.name]), pods))
        for one in later:
            one.result()
        istiod, known = control.result()
        return Facts(
            target=target,
            now=datetime.now(UTC),
            vips=vips,
            dns=dns.result() if dns is not None else None,
            edges=options.edges,
            way=_requests.way_to(vips[0]) if vips else None,
            snapshot=Snapshot(found.kinds, found.refused),
            pods=tuple(replace(pod, sync=known.get(f"{pod.name}.{target.namespace}")) for pod in pods),
            istiod=istiod,
            proxies=tuple(one.result() for one in proxies),
            probes=tuple(probes),
        )


def _asks(target: Target, options: Options) -> bool:
    return options.dns and bool(target.host) and not is_address(target.host)


# Objects


def _objects(cluster: Cluster, target: Target, found: _Found, pool: ThreadPoolExecutor) -> None:
    """LIST every kind, in the whole cluster or, where that isn't allowed, in the namespaces that matter."""
    spaces = {target.namespace, target.exposure_namespace} | {one.service.partition("/")[0] for one in target.backends}
    spaces = {space for space in spaces if space and "." not in space}

    def read(kind: str) -> None:
        root, plural = _KINDS[kind]
        try:
            items = cluster.items(f"{root}/{plural}")
        except RefusedError as refused:
            if refused.status != 403 or kind == "Node":
                found.refused[kind] = refused.message
                return
            try:
                items = [
                    item for space in sorted(spaces) for item in cluster.items(f"{root}/namespaces/{space}/{plural}")
                ]
            except ClusterError as error:
                found.refused[kind] = error.message
                return
        except ClusterError as error:
            found.refused[kind] = error.message
            return
        name = kind.removeprefix("K8s")
        found.kinds[kind] = tuple({**item, "kind": name} for item in items)

    waiting = [pool.submit(read, kind) for kind in _KINDS if kind not in found.kinds]
    _pods_of(cluster, [target.namespace], found)
    for one in waiting:
        one.result()


def _pods_of(cluster: Cluster, spaces: Iterable[str], found: _Found) -> None:
    for space in spaces:
        try:
            items = cluster.items(f"/api/v1/namespaces/{space}/pods")
        except ClusterError as error:
            found.refused["Pod"] = error.message
            continue
        known = found.kinds.get("Pod", ())
        found.kinds["Pod"] = (*known, *({**item, "kind": "Pod"} for item in items))


def _carried(service: Manifest | None) -> tuple[str, ...]:
    ingress = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(str(one["ip"]) for one in ingress if one.get("ip"))


def _gateway_pods(target: Target, service: Manifest | None, found: _Found) -> list[GatewayPod]:
    there = [pod for pod in found.kinds.get("Pod", ()) if pod["metadata"].get("namespace") == target.namespace]
    picked = _facts.selected(there, ((service or {}).get("spec") or {}).get("selector"))
    gone = ("Succeeded", "Failed")
    picked = [pod for pod in picked if not _facts.leaving(pod) and (pod.get("status") or {}).get("phase") not in gone]
    return [GatewayPod(pod) for pod in sorted(picked, key=lambda pod: str(pod["metadata"]["name"]))]


def _behind(cluster: Cluster, target: Target, paths: Iterable[_match.Path], found: _Found) -> None:
    """Read the pods behind what the request reaches."""
    spaces = {one.service.partition("/")[0] for one in target.backends if "/" in one.service}
    for path in paths:
        for name in path.clusters:
            key = _why.service_of(_why.parts_of(name)[0])
            spaces |= {key[0]} if key else set()
    _pods_of(cluster, sorted(spaces - {target.namespace}), found)


def _secrets(cluster: Cluster, pods: Sequence[GatewayPod], paths: Iterable[_match.Path], found: _Found) -> None:
    """Read which Secrets there are and their keys' names. What they hold is dropped at once."""
    wanted = set()
    for pod, path in zip(pods, paths, strict=True):
        for name in path.chain.secrets if path.chain else ():
            space, _slash, secret = name.partition("://")[2].rpartition("/")
            wanted.add((space or str(pod.manifest["metadata"]["namespace"]), secret))
    for space, name in sorted(wanted):
        try:
            secret, _status = cluster.request("GET", f"/api/v1/namespaces/{space}/secrets/{name}")
        except RefusedError as refused:
            if refused.status != 404:
                found.refused["Secret"] = refused.message
                continue
            found.kinds.setdefault("Secret", ())
            continue
        except ClusterError as error:
            found.refused["Secret"] = error.message
            continue
        kept = {
            "kind": "Secret",
            "metadata": {"namespace": space, "name": name},
            "keys": sorted(secret.get("data") or ()),
        }
        found.kinds["Secret"] = (*found.kinds.get("Secret", ()), kept)


# Inside pods


def _read_pod(cluster: Cluster, pod: GatewayPod) -> GatewayPod:
    metadata = pod.manifest["metadata"]
    if (pod.manifest.get("status") or {}).get("phase") != "Running":
        return replace(pod, unread="it doesn't run")
    try:
        answers = cluster.ask_pod(
            metadata["namespace"], metadata["name"], _envoy.ADMIN_PORT, (_envoy.DUMP, _envoy.CLUSTERS)
        )
        dump, clusters = (json.loads(body) for _status, body in answers)
    except (ClusterError, ValueError) as error:
        return replace(pod, unread=getattr(error, "message", str(error)).rstrip("."))
    return replace(pod, config=_envoy.read(dump, clusters))


def _path(pod: GatewayPod, port: int | None, target: Target) -> _match.Path:
    return _match.path_in(pod.config, port, target) if pod.config is not None else _match.Path()


def _as_served(target: Target, paths: Iterable[_match.Path]) -> Target:
    """Take a URL of https that no list knows for what the gateways make of it: TLS that they pass through, perhaps."""
    chains = [path.chain for path in paths if path.chain is not None]
    passed_on = bool(chains) and all(chain.kind == "TCP" and not chain.tls for chain in chains)
    unlisted = target.protocol == "HTTPS" and not target.exposure_namespace
    return replace(target, protocol="TLS") if unlisted and passed_on else target


def _recounted(cluster: Cluster, pod: GatewayPod, path: _match.Path) -> GatewayPod:
    """Count the connections that were tried and failed meanwhile to what the request reaches."""
    if pod.config is None or not path.clusters:
        return pod
    metadata = pod.manifest["metadata"]
    try:
        answers = cluster.ask_pod(metadata["namespace"], metadata["name"], _envoy.ADMIN_PORT, (_envoy.CLUSTERS,))
        after = _envoy.read({}, json.loads(answers[0][1])).endpoints
    except (ClusterError, ValueError):
        return pod

    def counts(endpoints: Mapping[str, Sequence[_envoy.Endpoint]]) -> tuple[int, int]:
        all_of = [one for name in path.clusters for one in endpoints.get(name, ())]
        return sum(one.failures for one in all_of), sum(one.connections for one in all_of)

    (failed, tried), (failed_then, tried_then) = counts(after), counts(pod.config.endpoints)
    return replace(pod, failures=max(0, failed - failed_then), connections=max(0, tried - tried_then))


def _istiod(cluster: Cluster, namespace: str) -> tuple[Istiod, dict[str, Sync]]:
    """Ask every istiod which gateways it serves, and what they have acknowledged."""
    labels = {"app": "istiod"}
    try:
        pods = cluster.items("/api/v1/pods", labels)
    except RefusedError:
        try:
            pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods", labels)
        except ClusterError as error:
            return Istiod(forbidden=f"istiod's pods can't be read: {error.message}"), {}
        if not pods:
            return Istiod(forbidden="istiod's pods can't be read outside the gateway's namespace."), {}
    except ClusterError as error:
        return Istiod(forbidden=f"istiod's pods can't be read: {error.message}"), {}
    well = [pod for pod in pods if _facts.ready(pod) and not _facts.leaving(pod)]
    root = _root(cluster, well[0]) if well else "istio-system"
    known: dict[str, Sync] = {}
    asked, silent = [], []
    for pod in well:
        name = str(pod["metadata"]["name"])
        try:
            known |= _synced(cluster, str(pod["metadata"]["namespace"]), name)
            asked.append(name)
        except RefusedError as refused:
            return Istiod(len(well), forbidden=f"istiod can't be asked: {refused.message}", root=root), {}
        except (ClusterError, ValueError):
            silent.append(name)
    return Istiod(len(well), tuple(asked), tuple(silent), root=root), known


def _root(cluster: Cluster, istiod: Manifest) -> str:
    """Read the mesh's root namespace; where that may not be, Istio's charts have made it istiod's own."""
    namespace, _slash, name = mesh_config(*control_plane(istiod)).partition("/")
    try:
        found, _status = cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        [mesh, *_others] = _yaml.documents(str((found.get("data") or {}).get("mesh") or ""))
        return str(mesh.get("rootNamespace") or "istio-system")
    except (ClusterError, ValueError, AttributeError):
        return namespace


def _synced(cluster: Cluster, namespace: str, pod: str) -> dict[str, Sync]:
    found: dict[str, Sync] = {}
    for attempt in range(2):
        [(status, body)] = cluster.ask_pod(namespace, pod, ISTIOD_PORT, (_SYNC,), 2)
        if status != 200:
            raise RefusedError(status, f"{pod} answers {_SYNC} with {status}.")
        found = {}
        for entry in json.loads(body):
            kinds = ("cluster", "listener", "route", "endpoint")
            behind = tuple(kind + "s" for kind in kinds if entry.get(f"{kind}_sent") != entry.get(f"{kind}_acked"))
            found[str(entry.get("proxy"))] = Sync(pod, behind)
        if not any(one.behind for one in found.values()):
            break
        if not attempt:
            # It may be on its way at this very moment
            time.sleep(0.5)
    return found


# From outside


def _internal(node: Manifest) -> str:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((str(one["address"]) for one in addresses if one.get("type") == "InternalIP"), "")


def _nodes(found: _Found, options: Options, pods: Sequence[GatewayPod]) -> list[tuple[str, str, str]]:
    """(name, node, address) of the edges that are nodes; of the gateways' nodes where no edge is known to be one."""
    addresses = {str(node["metadata"]["name"]): _internal(node) for node in found.kinds.get("Node", ())}
    edges = [
        (edge.name, edge.node, addresses.get(edge.node) or edge.address)
        for edge in options.edges or ()
        if edge.node in addresses or not addresses
    ]
    if not edges:
        edges = [(name, name, addresses.get(name, "")) for name in sorted({pod.node for pod in pods} - {""})]
    return [one for one in edges if one[2]]


def _proxies(
    service: Manifest | None, found: _Found, options: Options, pods: Sequence[GatewayPod]
) -> list[tuple[str, str, int | None]]:  # fmt: skip
    port = ((service or {}).get("spec") or {}).get("healthCheckNodePort")
    return [(node, address, port) for _name, node, address in _nodes(found, options, pods)]


def _sendings(
    cluster: Cluster,
    target: Target,
    options: Options,
    vips: Sequence[str],
    service: Manifest | None,
    found: _Found,
    ports: Mapping[str, int | None],
    pods: Sequence[GatewayPod],
) -> list[Callable[[], Probe]]:
    """The same request at each gateway pod, at each edge's nodePort and through the VIP."""
    asked: list[Callable[[], Probe]] = []
    for pod in pods:
        port = ports[pod.name]
        if port is not None and pod.config is not None:
            asked.append(partial(_in_pod, cluster, target, pod.name, port, options))

    def outside(place: str, name: str, address: str, port: int, **more: str) -> None:
        at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        connect = _requests.opener(address, port, options.timeout)
        asked.append(partial(_requests.send, target, place, name, at, connect, options.timeout, **more))

    entries = ((service or {}).get("spec") or {}).get("ports") or ()
    node_port = next((int(one.get("nodePort") or 0) for one in entries if one["port"] == target.port), 0)
    for name, _node, address in _nodes(found, options, pods) if node_port else ():
        outside("edge", name, address, node_port)
    if vips:
        outside("vip", vips[0], vips[0], target.port, authorities=options.authorities)
    return asked


def _in_pod(cluster: Cluster, target: Target, pod: str, port: int, options: Options) -> Probe:
    forwards: list[Any] = []

    def connect() -> socket.socket:
        try:
            forwards.append(cluster.forward(target.namespace, pod, port))
        except ClusterError as error:
            raise OSError(error.message) from error
        connected: socket.socket = forwards[-1].socket
        return connected

    probe = _requests.send(target, "pod", pod, f"{pod}:{port}", connect, options.timeout)
    for forward in forwards:
        forward.close()
        if "refused" in forward.error:
            reason = f"nothing listens on {port}"
            probe = replace(probe, connected=False, failure="refused", reason=reason)
    return probe
