# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report page shows, as plain data: edges, gateways, ports, exposures, routes, backends and findings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import Backend, Exposure, Match, Model, backends_of
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Edge, leaving, ready, selected

Manifest = Mapping[str, Any]
Plain = dict[str, Any]

_SLICE_OF = "kubernetes.io/service-name"


def page(
    model: Model,
    *,
    vips: Sequence[str] = (),
    edges: Sequence[Edge] = (),
    services: Iterable[Manifest] = (),
    pods: Iterable[Manifest] = (),
    slices: Iterable[Manifest] | None = None,
    findings: Iterable[Manifest] = (),
    made: str = "",
) -> Plain:
    """Return the page's data. `slices` None: the backends' endpoints weren't read. `made` is when, for people."""
    by_name = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
    there = [pod for pod in pods if not leaving(dict(pod))]
    counted = None if slices is None else _counted(slices)
    found = [_finding(one) for one in findings]
    gateways = _gateways(model, by_name, [dict(pod) for pod in there])
    return {
        "made": made,
        "set": model.set_name,
        "vips": list(vips),
        "edges": [_edge(edge, vips, gateways) for edge in edges],
        "gateways": gateways,
        "exposures": [_exposure(one, by_name, counted, found) for one in model.exposures],
        "findings": found,
    }


def _finding(found: Manifest) -> Plain:
    reason = str(found.get("reason") or found.get("message") or "")
    silenced = str(found.get("silenced") or "")
    return {
        "code": str(found.get("code", "")),
        "severity": "silenced" if silenced else str(found.get("severity", "")),
        "silenced": silenced,
        "exposure": str(found.get("exposure") or ""),
        "field": str(found.get("field") or ""),
        "objects": [str(one) for one in found.get("objects") or ()],
        "reason": reason,
        "cure": str(found.get("cure") or ""),
    }


def _counted(slices: Iterable[Manifest]) -> Counter[tuple[str, str]]:
    """Count the ready endpoints of every Service that has slices. A missing condition means ready, as in the API."""
    found: Counter[tuple[str, str]] = Counter()
    for one in slices:
        key = str(one["metadata"]["namespace"]), str((one["metadata"].get("labels") or {}).get(_SLICE_OF, ""))
        well = [
            entry for entry in one.get("endpoints") or () if (entry.get("conditions") or {}).get("ready") is not False
        ]
        found[key] += len({address for entry in well for address in entry.get("addresses") or ()})
    return found


def service_of(exposure: Exposure) -> tuple[str, str]:
    """(namespace, name) of the Service that an exposure is reached through."""
    name = exposure.service.name if exposure.service is not None else exposure.gateway.service
    return exposure.gateway.namespace, name


def _gateways(model: Model, services: Mapping[tuple[str, str], Manifest], pods: Sequence[Plain]) -> list[Plain]:
    used: dict[tuple[str, str], Counter[int]] = {}
    for exposure in model.exposures:
        used.setdefault(service_of(exposure), Counter())[exposure.port] += 1
    found = []
    for (namespace, name), ports in sorted(used.items()):
        service = services.get((namespace, name))
        spec = (service or {}).get("spec") or {}
        entries = {one["port"]: one for one in spec.get("ports") or () if one.get("protocol", "TCP") == "TCP"}
        mine = [pod for pod in pods if pod["metadata"].get("namespace") == namespace]
        ingress = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        found.append(
            {
                "id": f"{namespace}/{name}",
                "there": service is not None,
                "type": str(spec.get("type", "")),
                "policy": str(spec.get("externalTrafficPolicy", "")),
                "addresses": [str(one.get("ip") or one.get("hostname")) for one in ingress],
                "pods": [
                    {"name": pod["metadata"]["name"], "node": pod["spec"].get("nodeName", ""), "ready": ready(pod)}
                    for pod in selected(mine, spec.get("selector"))
                ],
                "ports": [
                    {
                        "port": port,
                        "there": port in entries,
                        "target": entries.get(port, {}).get("targetPort"),
                        "node_port": entries.get(port, {}).get("nodePort"),
                        "exposures": count,
                    }
                    for port, count in sorted(ports.items())
                ],
            }
        )
    return found


def _edge(edge: Edge, vips: Sequence[str], gateways: Sequence[Plain]) -> Plain:
    return {
        "name": edge.name,
        "answered": edge.answered,
        "holds": [vip for vip in vips if vip in edge.held],
        "running": edge.running,
        "drained": edge.drained,
        "failed": [name for name, state in edge.checks if state == "failed"],
        "gateways": sorted({one["id"] for one in gateways for pod in one["pods"] if pod["node"] == edge.node}),
    }


def _exposure(
    exposure: Exposure,
    services: Mapping[tuple[str, str], Manifest],
    counted: Counter[tuple[str, str]] | None,
    findings: Sequence[Plain],
) -> Plain:
    names = {exposure.name, f"{exposure.namespace}/{exposure.name}"}
    mine = [number for number, one in enumerate(findings) if one["exposure"] in names]
    scheme = {"HTTP": "http", "HTTPS": "https", "TLS": "tls"}.get(exposure.protocol, "tcp")
    usual = {"http": 80, "https": 443}.get(scheme) == exposure.port
    return {
        "id": f"{exposure.namespace}/{exposure.name}",
        "name": exposure.name,
        "namespace": exposure.namespace,
        "protocol": exposure.protocol,
        "port": exposure.port,
        "hostnames": list(exposure.hostnames),
        "urls": [f"{scheme}://{name}{'' if usual else f':{exposure.port}'}" for name in exposure.hostnames or ("*",)],
        "gateway": "/".join(service_of(exposure)),
        "routes": [
            {
                "match": [_match(one) for one in route.matches] if exposure.protocol in ("HTTP", "HTTPS") else [],
                "redirects": route.redirect is not None,
                "backends": [_backend(one, services, counted) for one in route.backends],
            }
            for route in exposure.routes
        ],
        "backends": sorted({_backend_name(one) for one, _at in backends_of(exposure)}),
        "findings": mine,
    }


def _match(match: Match) -> str:
    parts = [match.method] if match.method else []
    parts.append({"exact": "= ", "regex": "~ "}.get(match.kind, "") + match.path)
    parts += [f"{one.name}: {one.value}" for one in match.headers] + [f"?{one.name}={one.value}" for one in match.query]
    return " ".join(parts)


def _backend_name(backend: Backend) -> str:
    return backend.fqdn if backend.outside else f"{backend.namespace}/{backend.service}"


def _backend(
    backend: Backend, services: Mapping[tuple[str, str], Manifest], counted: Counter[tuple[str, str]] | None
) -> Plain:  # fmt: skip
    key = backend.namespace, backend.service
    known = counted is not None and not backend.outside
    return {
        "name": _backend_name(backend),
        "port": backend.port,
        "subset": backend.subset or "",
        "weight": backend.weight,
        "outside": backend.outside,
        "there": backend.outside or key in services,
        "ready": counted[key] if counted is not None and known else None,
    }
