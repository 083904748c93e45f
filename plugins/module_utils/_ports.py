# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of a gateway's Service that the list needs and that are ours to write.

A Gateway's port number is looked up among the ports of the Services in front of its pods, and the listener is bound to
the targetPort found there (resolvePorts in pilot/pkg/model/gateway.go). So a port that we add is free to choose its
targetPort: one that no other port uses, since two ports with one targetPort are one listener, and at 1024 or above,
since the gateway's pods run as an ordinary user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils._shapes import PROXY_PORTS, Exposure, Gateway, Model

PREFIX = "edgeway-"
"""Of the names of our ports. A shared port's name doesn't hold the set: two sets may need the same port."""

VIP_CLASS = "edgeway.istio/vip"

_APP_PROTOCOLS = {"HTTP": "http", "HTTPS": "https", "TLS": "tls", "TCP": "tcp"}


def gateways(model: Model) -> tuple[Gateway, ...]:
    """Return each gateway whose shared Service needs `wanted`, the default one first."""
    found: dict[tuple[str, str], Gateway] = {}
    for entry in model.exposures:
        if not entry.gateway.existing and not entry.gateway.deploy and (entry.service is None or entry.redirect_http):
            found.setdefault((entry.gateway.namespace, entry.gateway.service), entry.gateway)
    default = (model.gateway.namespace, model.gateway.service)
    return tuple(gateway for _, gateway in sorted(found.items(), key=lambda item: (item[0] != default, item[0])))


def target_port(port: int, taken: set[int]) -> int:
    """Choose the port that the gateway's pods listen on: the same, 8000 more below 1024, else the next free one."""
    candidate = port if port >= 1024 else port + 8000
    while candidate in taken or candidate in PROXY_PORTS:
        candidate = candidate + 10000 if candidate + 10000 < 65536 else (candidate + 10001) % 65536 + 1024
    return candidate


def _needed(model: Model, gateway: Gateway) -> dict[int, tuple[str, int | None, Exposure]]:
    """Return what the shared Service of a gateway must carry: port -> (protocol, pinned nodePort, exposure)."""
    result: dict[int, tuple[str, int | None, Exposure]] = {}
    for entry in model.exposures:
        same = (entry.gateway.namespace, entry.gateway.service) == (gateway.namespace, gateway.service)
        if not same or entry.gateway.existing or entry.gateway.deploy:
            continue
        if entry.service is None:
            _, pinned, first = result.get(entry.port, ("", None, entry))
            result[entry.port] = (entry.protocol, entry.node_port or pinned, entry if entry.node_port else first)
        if entry.redirect_http and 80 not in result:
            result[80] = ("HTTP", None, entry)
    return result


def wanted(model: Model, service: Mapping[str, Any] | None, gateway: Gateway | None = None) -> list[dict[str, Any]]:
    """Return our entries of `spec.ports`, sorted by port: {name, port, protocol, targetPort, appProtocol, nodePort?}.

    `service` is the live Service, None where there is none to look at. `gateway` says which one it belongs to (the
    model's default). A port that the Service has from its installer is not repeated; when a nodePort is pinned on
    it, the entry is {port, protocol, nodePort} alone. Raises ModelError where the Service can't carry the list.
    """
    gateway = gateway or model.gateway
    live = [
        port for port in ((service or {}).get("spec") or {}).get("ports") or [] if port.get("protocol", "TCP") == "TCP"
    ]
    by_port = {port["port"]: port for port in live}
    taken = {port["targetPort"] for port in live if isinstance(port.get("targetPort"), int)}
    node_ports = {port["nodePort"]: port for port in live if port.get("nodePort")}
    name = f"{gateway.namespace}/{gateway.service}"
    problems = []
    result = []
    needed = _needed(model, gateway)
    for port, (protocol, pinned, entry) in sorted(needed.items()):
        there = by_port.get(port)
        ours = there is None or str(there.get("name", "")).startswith(PREFIX)
        if pinned is not None and node_ports.get(pinned, {}).get("port", port) != port:
            holder = node_ports[pinned]
            if holder["port"] not in needed or not str(holder.get("name", "")).startswith(PREFIX):
                message = f"{pinned} is the nodePort of port {holder['port']} of Service {name}"
                problems.append(Problem(f"{entry.at}.node_port", message, "Choose another nodePort", entry.name))
        if there is not None and _someone_elses(service, there):
            message = f"port {port} of Service {name} is someone else's ({there.get('name') or 'without a name'})"
            cure = "Remove that port from the Service, or choose another `port`"
            problems.append(Problem(f"{entry.at}.port", message, cure, entry.name))
            continue
        if not ours:
            if pinned is not None:
                result.append({"port": port, "protocol": "TCP", "nodePort": pinned})
            continue
        if there is not None and isinstance(there.get("targetPort"), int):
            target = there["targetPort"]
        else:
            target = target_port(port, taken)
            taken.add(target)
        mine = {
            "name": f"{PREFIX}{port}",
            "port": port,
            "protocol": "TCP",
            "targetPort": target,
            "appProtocol": _APP_PROTOCOLS[protocol],
        }
        if pinned is not None:
            mine["nodePort"] = pinned
        result.append(mine)
    if problems:
        raise ModelError(tuple(problems))
    return result


def _someone_elses(service: Mapping[str, Any] | None, port: Mapping[str, Any]) -> bool:
    """Tell whether a port was added by somebody who is neither the Service's installer nor this collection.

    Whoever owns the Service's selector installed it; the ports of that manager are meant to be used.
    """
    key = f'k:{{"port":{port["port"]},"protocol":"TCP"}}'
    owners: set[str] = set()
    installers: set[str] = set()
    for entry in ((service or {}).get("metadata") or {}).get("managedFields") or []:
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:selector" in spec:
            installers.add(entry.get("manager", ""))
        if key in (spec.get("f:ports") or {}):
            owners.add(entry.get("manager", ""))
    ours = {owner for owner in owners if owner.startswith("edgeway/")}
    return bool(owners) and bool(installers) and not owners & (installers | ours)


def services(model: Model) -> list[dict[str, Any]]:
    """Return the Services of exposures with `expose: service`; they carry the VIP once it is in their status."""
    result = []
    for entry in model.exposures:
        own = entry.service
        if own is None:
            continue
        port: dict[str, Any] = {
            "name": f"{PREFIX}{entry.port}",
            "port": entry.port,
            "protocol": "TCP",
            "targetPort": target_port(entry.port, set()),
            "appProtocol": _APP_PROTOCOLS[entry.protocol],
        }
        if entry.node_port is not None:
            port["nodePort"] = entry.node_port
        spec: dict[str, Any] = {"type": own.type, "selector": dict(entry.gateway.selector), "ports": [port]}
        if own.type == "LoadBalancer":
            spec["loadBalancerClass"] = VIP_CLASS
        if own.external_traffic_policy:
            spec["externalTrafficPolicy"] = own.external_traffic_policy
        result.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": own.name, "namespace": entry.gateway.namespace, "labels": model.labels},
                "spec": spec,
            }
        )
    return result
