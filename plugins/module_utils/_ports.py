# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of a gateway's Service that the list needs and that are ours to write.

A Gateway's port number is looked up among the ports of the Services in front of its pods, and the listener is bound to
the targetPort found there, else to the number itself (resolvePorts in pilot/pkg/model/gateway.go). So a port that we
add is free to choose its targetPort.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    PROXY_PORTS,
    Exposure,
    Gateway,
    Model,
    pods_of,
    target_port,
)

PREFIX = "edgeway-"
"""Of the names of our ports. A shared port's name doesn't hold the set: two sets may need the same port."""

VIP_CLASS = "edgeway.istio/vip"

# What a port carries: exposures and sets that share one must write the same appProtocol, so HTTPS and TLS are one.
_FAMILY = {"HTTP": "http", "HTTPS": "https", "TLS": "https", "TCP": "tcp"}


@dataclass(slots=True)
class _Need:
    """A port that a Service must carry: for which exposure, with which protocol and nodePort."""

    exposure: Exposure
    protocol: str
    node_port: int | None = None
    path: str = ""


def gateways(model: Model) -> tuple[Gateway, ...]:
    """Return each gateway whose shared Service needs `wanted`, the default one first.

    The Service of a deployed Gateway gets its ports from Istio, that of an existing one from whoever made it.
    """
    found: dict[tuple[str, str], Gateway] = {}
    for entry in model.exposures:
        gateway = entry.gateway
        if not (gateway.existing or gateway.deploy) and (entry.service is None or entry.redirect_http):
            found.setdefault((gateway.namespace, gateway.service), gateway)
    default = (model.gateway.namespace, model.gateway.service)
    return tuple(gateway for _unused, gateway in sorted(found.items(), key=lambda item: (item[0] != default, item[0])))


def _needs(model: Model, gateway: Gateway) -> dict[int, _Need]:
    """Return what the shared Service of a gateway must carry, by port."""
    result: dict[int, _Need] = {}
    for entry in model.exposures:
        own = entry.gateway
        if (own.namespace, own.service) != (gateway.namespace, gateway.service) or own.existing or own.deploy:
            continue
        if entry.service is None:
            need = result.setdefault(entry.port, _Need(entry, entry.protocol, None, f"{entry.at}.port"))
            if entry.node_port is not None:
                need.node_port, need.exposure = entry.node_port, entry
        if entry.redirect_http:
            result.setdefault(80, _Need(entry, "HTTP", None, f"{entry.at}.redirect_http"))
    return result


def wanted(model: Model, service: Mapping[str, Any] | None, gateway: Gateway | None = None) -> list[dict[str, Any]]:
    """Return our entries of `spec.ports`, sorted by port: {name, port, protocol, targetPort, appProtocol, nodePort?}.

    `service` is the live Service, None where there is none to look at. `gateway` says which one it belongs to (the
    model's default). A port that the Service has from its installer is not repeated; when a nodePort is pinned on
    it, the entry is {port, protocol, nodePort} alone. Raises ModelError where the Service can't carry the list.
    """
    gateway = gateway or model.gateway
    needs = _needs(model, gateway)
    spec = (service or {}).get("spec") or {}
    live = {port["port"]: port for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP"}
    dedicated = {
        entry.service.target_port
        for entry in model.exposures
        if entry.service is not None and pods_of(entry.gateway) == pods_of(gateway)
    }
    taken = {port["targetPort"] for port in live.values() if isinstance(port.get("targetPort"), int)} | dedicated
    log = Log()
    _check(log, service or {}, f"{gateway.namespace}/{gateway.service}", live, needs)
    result = []
    for port, need in sorted(needs.items()):
        there = live.get(port)
        pinned = {"nodePort": need.node_port} if need.node_port is not None else {}
        if there is not None and not _ours(there):
            if pinned:
                result.append({"port": port, "protocol": "TCP", **pinned})
            continue
        target = _kept(service or {}, there)
        if target is None or target in dedicated:
            own = (there or {}).get("targetPort")
            shared = own in dedicated or any(one is not there and one.get("targetPort") == own for one in live.values())
            target = target_port(port, taken if shared else taken - {own})
            taken.add(target)
        result.append({**_port(port, need.protocol, target), **pinned})
    if log.problems:
        raise ModelError(tuple(log.problems))
    return result


def _ours(port: Mapping[str, Any]) -> bool:
    return str(port.get("name", "")).startswith(PREFIX)


def _kept(service: Mapping[str, Any], port: Mapping[str, Any] | None) -> int | None:
    """Return the targetPort that a port of ours has already, None where it has none that one of our sets chose.

    One that somebody else has written over ours isn't taken up: asking for our own says who did it.
    """
    target = (port or {}).get("targetPort")
    if port is None or not isinstance(target, int):
        return None
    owners = _fields.port_owners(service, port["port"], "TCP", "targetPort")
    return target if not owners or any(owner.startswith("edgeway/") for owner in owners) else None


def _port(port: int, protocol: str, target: int) -> dict[str, Any]:
    """Write a port of ours. By `appProtocol` sidecars that call the gateway don't sniff a server-first protocol."""
    return {
        "name": f"{PREFIX}{port}",
        "port": port,
        "protocol": "TCP",
        "targetPort": target,
        "appProtocol": _FAMILY[protocol],
    }


def _check(
    log: Log,
    service: Mapping[str, Any],
    name: str,
    live: Mapping[int, Mapping[str, Any]],
    needs: Mapping[int, _Need],
) -> None:
    """Note what the live Service makes impossible."""
    node_ports = {port["nodePort"]: port for port in live.values() if port.get("nodePort")}
    bound: dict[int, int] = {}
    for port, need in sorted(needs.items()):
        log.exposure = need.exposure.name
        there = live.get(port)
        if there is not None and _someone_elses(service, there):
            message = f"port {port} of Service {name} is someone else's ({there.get('name') or 'without a name'})"
            log.add(need.path, message, "Remove that port from the Service, or publish on another one")
            continue
        holder = node_ports.get(need.node_port or 0)
        if holder is not None and holder["port"] != port and not (_ours(holder) and holder["port"] not in needs):
            message = f"{need.node_port} is the nodePort of port {holder['port']} of Service {name}"
            log.add(f"{need.exposure.at}.node_port", message, "Choose another nodePort")
        target = (there or {}).get("targetPort")
        if not isinstance(target, int):
            continue
        if target in PROXY_PORTS:
            message = f"port {port} of Service {name} leads to {target}, which Istio's proxy uses itself"
            log.add(need.path, message, "Publish on another port")
        twin = bound.setdefault(target, port)
        families = {_FAMILY[need.protocol], _FAMILY[needs[twin].protocol]}
        if twin != port and (len(families) > 1 or "tcp" in families):
            message = f"ports {twin} and {port} of Service {name} both lead to {target}: they are one listener"
            log.add(need.path, message, f"Publish on one of them, or give port {port} another targetPort")


def _someone_elses(service: Mapping[str, Any], port: Mapping[str, Any]) -> bool:
    """Tell whether a port was added by somebody who is neither the Service's installer nor this collection.

    Whoever owns the Service's selector installed it; the ports of that manager are meant to be used.
    """
    key = f'k:{{"port":{port["port"]},"protocol":"TCP"}}'
    owners: set[str] = set()
    installers: set[str] = set()
    for entry in (service.get("metadata") or {}).get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:selector" in fields:
            installers.add(entry.get("manager", ""))
        if key in (fields.get("f:ports") or {}):
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
        port = _port(entry.port, entry.protocol, own.target_port)
        if entry.node_port is not None:
            port["nodePort"] = entry.node_port
        spec: dict[str, Any] = {"type": own.type, "selector": dict(entry.gateway.selector), "ports": [port]}
        if own.type == "LoadBalancer":
            spec["loadBalancerClass"] = VIP_CLASS
        if own.external_traffic_policy:
            spec["externalTrafficPolicy"] = own.external_traffic_policy
        metadata = {"name": own.name, "namespace": entry.gateway.namespace, "labels": model.labels}
        result.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    return result
