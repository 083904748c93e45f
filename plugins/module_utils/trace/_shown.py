# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trace for people, as a tree, and for programs, as data; and what an exposure is in each gateway's Envoy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Config, object_name
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates, _match, _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Facts, GatewayPod, selected
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, HOPS, OK, Hop
from ansible_collections.edgeway.istio.plugins.module_utils.trace._match import Path

Plain = dict[str, Any]

_SIGNS = {"ok": "ok", "broken": "BROKEN", "unknown": "unknown"}


def plain(hop: Hop) -> Plain:
    """Return one hop as a module returns it."""
    return {
        "hop": hop.name,
        "title": hop.title,
        "state": hop.state,
        "at": hop.at,
        "evidence": list(hop.evidence),
        "objects": list(hop.objects),
        "cure": hop.cure if hop.state != OK else "",
    }


def result(facts: Facts) -> Plain:
    """Return all that the module exposure_trace returns."""
    hops = _trace.trace(facts)
    broken = _trace.first_broken(hops)
    answers = _trace.answers(facts)
    return {
        "name": facts.target.name,
        "url": facts.target.url,
        "healthy": broken is None,
        "answers": answers,
        "hops": [plain(hop) for hop in hops],
        "first_broken": plain(broken) if broken else None,
        "tree": tree(facts, hops),
        "probes": probes(facts),
        "readings": [reading(pod, facts) for pod in facts.pods if pod.config is not None],
    }


def tree(facts: Facts, hops: Sequence[Hop]) -> list[str]:
    """Return the trace as lines. Equal hops of several pods are one; what is ok shows less of its evidence."""
    lines = [f"{facts.target.name}: {facts.target.url}"]
    groups = [[hop for hop in hops if hop.name == name] for name in HOPS]
    groups = [group for group in groups if group]
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        lines += _branch(group, last=last)
    broken = _trace.first_broken(hops)
    answers = {True: "The VIP answers.", False: "The VIP gives no good answer.", None: ""}[_trace.answers(facts)]
    if broken is not None:
        at = f" at {broken.at}" if broken.at else ""
        lines.append(f"First broken: {broken.title}{at}. {broken.evidence[-1]} {answers}".rstrip())
        lines += [f"Cure: {broken.cure}"] if broken.cure else []
    else:
        unknown = sum(hop.state != OK for hop in hops)
        lines.append(f"Nothing is broken{f', {unknown} hops are unknown' if unknown else ''}. {answers}".rstrip())
    return lines


def _branch(group: Sequence[Hop], *, last: bool) -> list[str]:
    turn, stem = ("└─ ", "   ") if last else ("├─ ", "│  ")
    states = {hop.state for hop in group}
    alike = {(hop.state, hop.evidence) for hop in group}
    first = group[0]
    if len(group) == 1 or len(alike) == 1:
        where = f" on all {len(group)}" if len(group) > 1 else ""
        lines = [f"{turn}{first.title}: {_SIGNS[first.state]}{where}"]
        return lines + [f"{stem}   {text}" for text in first.evidence]
    worst = BROKEN if BROKEN in states else next(iter(sorted(states, reverse=True)))
    count = sum(hop.state == worst for hop in group)
    lines = [f"{turn}{first.title}: {_SIGNS[worst]}" + (f", {count} of {len(group)}" if len(states) > 1 else "")]
    for number, hop in enumerate(group):
        inner, rest = ("└─ ", "   ") if number == len(group) - 1 else ("├─ ", "│  ")
        shown = hop.evidence if hop.state != OK else hop.evidence[:2]
        lines.append(f"{stem}{inner}{hop.at}{f': {_SIGNS[hop.state]}' if len(states) > 1 else ''}")
        lines += [f"{stem}{rest}   {text}" for text in shown]
    return lines


def reading(pod: GatewayPod, facts: Facts) -> Plain:
    """Return what one exposure is in one pod's Envoy, each part with the object that it came from."""
    config = pod.config or Config()
    port = _why.target_ports(
        facts.snapshot.get("Service", facts.target.namespace, facts.target.service), facts.target.port, pod.manifest
    )
    path = _match.path_in(config, port, facts.target)
    return {
        "pod": pod.name,
        "bootstrap": {
            "node": config.node,
            "istio_version": config.istio_version,
            "discovery_address": config.discovery,
            "object": f"Pod {facts.target.namespace}/{pod.name}",
        },
        "listeners": _listeners(path, pod, facts),
        "routes": _routes(path),
        "clusters": [
            {
                "name": name,
                "type": config.clusters[name].kind,
                "transport": config.clusters[name].transport,
                "connect_timeout": config.clusters[name].connect_timeout,
                "object": object_name(config.clusters[name].origin),
                "services": [f"Service {one}" for one in config.clusters[name].services],
            }
            for name in path.clusters
            if name in config.clusters
        ],
        "endpoints": [
            {
                "cluster": name,
                "address": str(one),
                "health": one.health,
                "problems": list(one.problems),
                "object": _pod_at(one.address, facts) or (f"Workload {one.workload}" if one.workload else ""),
            }
            for name in path.clusters
            for one in config.endpoints.get(name, ())
        ],
        "secrets": [_secret(name, config, pod) for name in (path.chain.secrets if path.chain else ())],
    }


def _listeners(path: Path, pod: GatewayPod, facts: Facts) -> list[Plain]:
    listener, chain = path.listener, path.chain
    if listener is None:
        return []
    gateways = [
        f"Gateway {gateway['metadata'].get('namespace')}/{gateway['metadata']['name']}"
        for gateway, server in _why.servers(facts.snapshot)
        if selected([pod.manifest], gateway["spec"].get("selector"))
        and any(_why.fits(host, facts.target.host) for host in server.get("hosts") or ())
        and _why.bound(facts.snapshot, pod.manifest, server["port"]["number"]) == listener.port
    ]
    shown: Plain = {"name": listener.name, "address": listener.address, "port": listener.port}
    if chain is not None:
        shown["filter_chain"] = {
            "server_names": list(chain.names),
            "protocol": chain.kind,
            "ends_tls": chain.tls,
            "route_config": chain.route_config,
            "policies": list(chain.policies),
        }
    return [{**shown, "objects": list(dict.fromkeys(gateways))}]


def _routes(path: Path) -> list[Plain]:
    if path.chain is None or path.host is None:
        return []
    return [
        {
            "route_config": path.chain.route_config,
            "virtual_host": path.host.name,
            "domains": list(path.host.domains),
            "match": dict(route.match),
            "clusters": [{"name": name, "weight": weight} for name, weight in route.clusters],
            "taken": route is path.route,
            "object": object_name(route.origin),
        }
        for route in path.host.routes
    ]


def _pod_at(address: str, facts: Facts) -> str:
    for pod in facts.snapshot.all("Pod"):
        if (pod.get("status") or {}).get("podIP") == address and not (pod.get("spec") or {}).get("hostNetwork"):
            return f"Pod {pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
    return ""


def _secret(name: str, config: Config, pod: GatewayPod) -> Plain:
    try:
        found: Iterable[_certificates.Certificate] = _certificates.read(config.secrets.get(name, b""))
    except (ValueError, ImportError):
        found = ()
    return {
        "name": name,
        "certificates": [certificate(one) for one in found],
        "object": _why.secret_object(name, pod),
    }


def certificate(found: _certificates.Certificate) -> Plain:
    return {
        "subject": found.subject,
        "issuer": found.issuer,
        "names": list(found.names),
        "not_before": found.not_before.isoformat(),
        "not_after": found.not_after.isoformat(),
    }


def probes(facts: Facts) -> list[Plain]:
    """Return every real request as plain data."""
    return [
        {
            "place": one.place,
            "at": one.at,
            "address": one.address,
            "connected": one.connected,
            "failure": one.failure,
            "reason": one.reason,
            "status": one.status,
            "headers": dict(one.headers),
            "first_bytes": one.first,
            "tls_version": one.tls_version,
            "trusted": one.trusted,
            "certificates": [certificate(found) for found in one.certificates],
            "milliseconds": one.milliseconds,
        }
        for one in facts.probes
    ]
