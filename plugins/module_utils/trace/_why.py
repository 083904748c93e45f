# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something is missing in a gateway: the objects that should have made it, and what is wrong with them. Pure.

Every function returns sentences, the likeliest cause first; [] where the objects tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import strict_peer
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    GatewayPod,
    Manifest,
    Snapshot,
    Target,
    leaving,
    ready,
    selected,
)


def named(item: Manifest) -> str:
    return f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def secret_object(name: str, pod: GatewayPod) -> str:
    """Name the Secret behind a certificate as istiod calls it: kubernetes://NAME, in the pods' namespace."""
    bare = name.partition("://")[2] or name
    space, _slash, secret = bare.rpartition("/")
    return f"Secret {space or pod.manifest['metadata']['namespace']}/{secret}"


def fits(pattern: str, host: str) -> bool:
    """Whether a Gateway's or VirtualService's hostname takes a host; `NAMESPACE/` before it is left out."""
    pattern = pattern.rpartition("/")[2].lower()
    host = host.lower()
    if pattern == "*" or not host:
        return True
    return pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]) and len(host) >= len(pattern))


def target_ports(service: Manifest | None, port: int, pod: Manifest | None = None) -> int | None:
    """Where a port of a Service leads on a pod; None where the Service lacks it or the pod lacks the name."""
    for entry in ((service or {}).get("spec") or {}).get("ports") or ():
        if entry["port"] == port and entry.get("protocol", "TCP") == "TCP":
            target = entry.get("targetPort", port)
            return target if isinstance(target, int) else _port_called(pod, str(target))
    return None


def _port_called(pod: Manifest | None, name: str) -> int | None:
    for container in ((pod or {}).get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == name:
                return int(port["containerPort"])
    return None


def servers(snapshot: Snapshot) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
    """Every server of every Istio Gateway."""
    for gateway in snapshot.all("Gateway"):
        for server in (gateway.get("spec") or {}).get("servers") or ():
            yield gateway, server


def bound(snapshot: Snapshot, pod: Manifest, number: int) -> int:
    """Where a Gateway's port number is bound on a pod.

    Istio looks the number up among the ports of the Services that select the pod and takes the targetPort, else the
    number itself (resolvePorts in pilot/pkg/model/gateway.go).
    """
    for service in snapshot.all("Service"):
        if service["metadata"].get("namespace") == pod["metadata"].get("namespace"):
            spec = service.get("spec") or {}
            if selected([pod], spec.get("selector")):
                found = target_ports(service, number, pod)
                if found is not None:
                    return found
    return number


def no_listener(target: Target, port: int, pod: GatewayPod, snapshot: Snapshot) -> list[str]:
    """Why nothing is bound to a port of a gateway pod."""
    if not snapshot.known("Gateway"):
        return []
    found = []
    elsewhere: dict[str, int] = {}
    for gateway, server in servers(snapshot):
        number = int((server.get("port") or {}).get("number") or 0)
        right_host = any(fits(host, target.host) for host in server.get("hosts") or ())
        picks = bool(selected([pod.manifest], (gateway.get("spec") or {}).get("selector")))
        where = bound(snapshot, pod.manifest, number)
        if number == target.port and right_host and not picks:
            labels = ",".join(f"{key}={value}" for key, value in (gateway["spec"].get("selector") or {}).items())
            found.append(f"{named(gateway)} asks for pods with {labels}, and this pod has other labels.")
        elif picks and right_host and where != port and number == target.port:
            elsewhere[named(gateway)] = where
    found += [f"{name} is bound to {where}, and the Service leads to {port}." for name, where in elsewhere.items()]
    if port < 1024:
        found.append(f"{port} is below 1024: Istio leaves such listeners out where the pod may not bind them.")
    found += conditions(snapshot, target)
    if not found:
        found.append(f"No Gateway has port {target.port}{f' for {target.host}' if target.host else ''}.")
    return found


def no_route(target: Target, pod: GatewayPod, snapshot: Snapshot) -> list[str]:
    """Why a gateway has no virtual host for a name."""
    if not snapshot.known("Gateway") or not snapshot.known("VirtualService"):
        return []
    gateways = {}
    for gateway, server in servers(snapshot):
        picks = selected([pod.manifest], (gateway.get("spec") or {}).get("selector"))
        if picks and any(fits(host, target.host) for host in server.get("hosts") or ()):
            metadata = gateway["metadata"]
            gateways[f"{metadata.get('namespace')}/{metadata['name']}"] = gateway
    found = conditions(snapshot, target)
    if not gateways and not found:
        return [f"No Gateway on these pods has the hostname {target.host}."]
    routes = [
        route
        for route in snapshot.all("VirtualService")
        if any(fits(host, target.host) for host in (route.get("spec") or {}).get("hosts") or ())
    ]
    bound_here = []
    for route in routes:
        namespace = route["metadata"].get("namespace", "")
        names = [str(name) for name in route["spec"].get("gateways") or ()]
        full = {name if "/" in name else f"{namespace}/{name}" for name in names}
        if full & set(gateways):
            bound_here.append(route)
            found += _not_allowed(route, [gateways[name] for name in full & set(gateways)], target)
        elif names and target.host:
            found.append(
                f"{named(route)} has the hostname, and names {', '.join(names)}: the Gateway here is "
                f"{', '.join(sorted(gateways)) or 'none'}."
            )
    if not bound_here and gateways and not found:
        found.append(f"No VirtualService has {target.host or 'hosts'} for {', '.join(sorted(gateways))}.")
    return found


def _not_allowed(route: Manifest, gateways: Iterable[Manifest], target: Target) -> list[str]:
    """What keeps a VirtualService that names the right Gateway away from it: namespaces and exportTo."""
    namespace = route["metadata"].get("namespace", "")
    found = []
    for gateway in gateways:
        own = gateway["metadata"].get("namespace", "")
        allowed = set()
        for server in gateway["spec"].get("servers") or ():
            for host in server.get("hosts") or ():
                space, slash, name = str(host).partition("/")
                if fits(name if slash else space, target.host):
                    allowed.add({"*": "*", ".": own}.get(space, space) if slash else "*")
        if allowed and not allowed & {"*", namespace}:
            found.append(f"{named(gateway)} takes routes from {', '.join(sorted(allowed))}, not from {namespace}.")
        exported = route["spec"].get("exportTo") or ["*"]
        if not {"*", own} & {namespace if space == "." else space for space in exported}:
            found.append(f"{named(route)} is exported to {', '.join(exported)}, not to {own}.")
    return found


def conditions(snapshot: Snapshot, target: Target) -> list[str]:
    """What the Gateway API's objects for this host say that is wrong with them."""
    found = []
    for kind in ("K8sGateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"):
        for item in snapshot.all(kind):
            spec, status = item.get("spec") or {}, item.get("status") or {}
            if kind == "K8sGateway":
                listeners = spec.get("listeners") or ()
                mine = any(
                    one.get("port") == target.port and fits(str(one.get("hostname") or "*"), target.host)
                    for one in listeners
                )
                said = [status, *(status.get("listeners") or ())]
            else:
                hosts = spec.get("hostnames") or ["*"]
                same = not target.exposure_namespace or item["metadata"].get("namespace") == target.exposure_namespace
                mine = any(fits(str(host), target.host) for host in hosts) and same
                said = list(status.get("parents") or ())
            if not mine:
                continue
            for part in said:
                found += [
                    f"{named(item)}: {one['type']} is {one['status']} ({one.get('message') or one.get('reason')})."
                    for one in part.get("conditions") or ()
                    if one.get("type") in ("Accepted", "Programmed", "ResolvedRefs") and one.get("status") == "False"
                ]
    return list(dict.fromkeys(found))


def parts_of(cluster: str) -> tuple[str, str, int]:
    """Split `outbound|PORT|SUBSET|HOST` as (host, subset, port); empty for any other name."""
    parts = cluster.split("|")
    if len(parts) != 4 or not parts[1].isdigit():
        return "", "", 0
    return parts[3], parts[2], int(parts[1])


def service_of(host: str) -> tuple[str, str] | None:
    """(namespace, name) of a Service by its full name, None for an outside host."""
    labels = host.split(".")
    return (labels[1], labels[0]) if len(labels) > 2 and labels[2] == "svc" else None


def service_behind(cluster: str, snapshot: Snapshot) -> Manifest | None:
    """The Service that a cluster's endpoints are of; None for an outside host, or where there is none to be read."""
    key = service_of(parts_of(cluster)[0])
    return snapshot.get("Service", *key) if key else None


def no_port(cluster: str, snapshot: Snapshot) -> list[str]:
    """Whether a cluster's Service lacks its port, and what it has instead."""
    service = service_behind(cluster, snapshot)
    if service is None:
        return []
    _host, _subset, port = parts_of(cluster)
    ports = [int(one["port"]) for one in service["spec"].get("ports") or ()]
    if port in ports:
        return []
    space, name = service["metadata"]["namespace"], service["metadata"]["name"]
    return [f"Service {space}/{name} has no port {port}; it has {', '.join(map(str, ports)) or 'none'}."]


def no_cluster(cluster: str, snapshot: Snapshot) -> list[str]:
    """Why a route leads to a cluster that Envoy doesn't have."""
    host, subset, _port = parts_of(cluster)
    key = service_of(host)
    if key is None:
        if host and snapshot.known("ServiceEntry"):
            entries = [
                one for one in snapshot.all("ServiceEntry") if host in ((one.get("spec") or {}).get("hosts") or ())
            ]
            return [] if entries else [f"No ServiceEntry has the host {host}."]
        return []
    if not snapshot.known("Service"):
        return []
    service = snapshot.get("Service", *key)
    if service is None:
        return [f"Service {key[0]}/{key[1]} doesn't exist."]
    if lacking := no_port(cluster, snapshot):
        return lacking
    exported = (service["metadata"].get("annotations") or {}).get("networking.istio.io/exportTo")
    if exported:
        return [f"Service {key[0]}/{key[1]} is exported to {exported} alone (annotation networking.istio.io/exportTo)."]
    if subset:
        return [f"No DestinationRule for {host} has the subset {subset}."]
    return ["istiod leaves it out: see its discoverySelectors, and PILOT_SCOPE_GATEWAY_TO_NAMESPACE."]


def no_endpoints(cluster: str, snapshot: Snapshot) -> list[str]:
    """Why a cluster has nothing to send to."""
    service = service_behind(cluster, snapshot)
    if service is None or not snapshot.known("Pod"):
        return []
    _host, subset, port = parts_of(cluster)
    space, own = service["metadata"]["namespace"], service["metadata"]["name"]
    name = f"Service {space}/{own}"
    selector = service["spec"].get("selector")
    there = [pod for pod in snapshot.all("Pod") if pod["metadata"].get("namespace") == space]
    picked = [pod for pod in selected(there, selector) if not leaving(pod)]
    labels = ",".join(f"{label}={value}" for label, value in (selector or {}).items())
    if not picked:
        return [f"{name} asks for pods with {labels or 'no labels'}, and there are none in namespace {space}."]
    if subset:
        rules = [
            one
            for rule in snapshot.all("DestinationRule")
            for one in (rule.get("spec") or {}).get("subsets") or ()
            if one.get("name") == subset and (rule["spec"].get("host") or "").split(".")[0] == own
        ]
        wanted = rules[0].get("labels") if rules else None
        if wanted and not selected(picked, wanted):
            labels = ",".join(f"{label}={value}" for label, value in wanted.items())
            return [f"Subset {subset} asks for {labels}, and no pod of {name} has these labels."]
    if not any(ready(pod) for pod in picked):
        return [f"None of the {len(picked)} pods of {name} is ready: {'; '.join(trouble(pod) for pod in picked[:3])}."]
    if target_ports(service, port, picked[0]) is None:
        return [f"Port {port} of {name} leads to a port name that its pods don't have."]
    return []


def trouble(pod: Manifest) -> str:
    """What Kubernetes says is wrong with a pod, in a few words."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    for entry in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        ended = (entry.get("state") or {}).get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"{name} {entry['name']}: {waiting['reason']}"
        if ended.get("exitCode"):
            return f"{name} {entry['name']} ended with {ended['exitCode']}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{name} isn't scheduled: {condition.get('message') or condition.get('reason')}"
    if status.get("phase") == "Running":
        return f"{name} runs and isn't ready: its readiness probe fails"
    return f"{name} is {status.get('phase', 'unknown')}"


def no_certificate(credential: str, pod: GatewayPod, snapshot: Snapshot) -> list[str]:
    """Why istiod has no certificate for a gateway: the Secret that it is called after."""
    space, _slash, name = credential.removeprefix("kubernetes://").removeprefix("kubernetes-gateway://").rpartition("/")
    space = space or pod.manifest["metadata"]["namespace"]
    if not snapshot.known("Secret"):
        reason = snapshot.refused.get("Secret")
        return [f"Secret {space}/{name} couldn't be read: {reason}."] if reason else []
    secret = snapshot.get("Secret", space, name)
    if secret is None:
        return [f"Secret {space}/{name} doesn't exist; it must lie in the namespace of the gateway's pods."]
    keys = set(secret.get("keys") or ())
    for pair in ({"tls.crt", "tls.key"}, {"cert", "key"}):
        if pair <= keys:
            return [f"Secret {space}/{name} is there, and istiod hasn't sent it: its certificate and key may not fit."]
    return [f"Secret {space}/{name} has {', '.join(sorted(keys)) or 'no data'}, not tls.crt and tls.key."]


def strict(snapshot: Snapshot, pods: Iterable[Manifest], service: Manifest | None, port: int, root: str) -> str:
    """The PeerAuthentication that makes one of these pods take mutual TLS alone at a Service's port; '' for none."""
    for pod in pods:
        end = target_ports(service, port, pod)
        rule = strict_peer(snapshot.all("PeerAuthentication"), pod, (str(end),), root)
        if rule is not None:
            return named(rule)
    return ""


def has_sidecar(pod: Manifest) -> bool:
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return any(one.get("name") == "istio-proxy" for one in containers)
