# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published now, read from the cluster alone: sets, their objects and ports, and where each answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._changes import manager_of
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _inventory, _proof
from ansible_collections.edgeway.istio.plugins.module_utils.publish._endpoints import endpoint

Manifest = dict[str, Any]

_OURS = {_kinds.MANAGED_BY: "edgeway"}


def sets(
    cluster: Cluster, services: Sequence[Manifest], names: Collection[str] = (), *, whole: bool = False
) -> tuple[list[Manifest], dict[tuple[str, str], list[Manifest]], list[str]]:
    """Return each set, or those of `names`, and warnings about what may not be read. `services` are all there are.

    In between, by group and kind, what was listed whole: all but Secrets and ConfigMaps if `whole`, else nothing.
    """
    warnings: list[str] = []
    versions: list[tuple[str, str]] = [("v1", "ConfigMap"), ("v1", "Secret")]
    for kind in _kinds.KINDS:
        if kind.group:
            served = cluster.served(kind.group).get(kind.name, ())
            versions += [(f"{kind.group}/{served[0]}", kind.name)] if served else []
    known: dict[tuple[str, str], list[Manifest]] = {}

    def read(entry: tuple[str, str]) -> list[Manifest]:
        version, kind = entry
        group = _kinds.split(version)[0]
        try:
            # Other people's Secrets and ConfigMaps are none of our business
            found = cluster.find(version, kind, None, None if whole and group else _OURS)
        except RefusedError as refused:
            if refused.status != 403:
                raise
            warnings.append(f"{kind} objects may not be listed, so none is shown. {refused.cure}")
            return []
        if whole and group:
            known[group, kind] = found
        return found

    objects = [item for items in cluster.every(read, versions) for item in items]
    return described(objects, services, names), known, warnings


def described(objects: Iterable[Manifest], services: Sequence[Manifest], names: Collection[str] = ()) -> list[Manifest]:
    """Return the sets that these objects and Services belong to, sorted by name."""
    by_set: dict[str, list[Manifest]] = defaultdict(list)
    for item in [*objects, *services]:
        holder = _kinds.holder(item)
        if holder is not None:
            by_set[holder].append(item)
    for service in services:
        for entry in service["metadata"].get("managedFields") or ():
            manager = str(entry.get("manager", ""))
            if entry.get("operation") == "Apply" and manager.startswith("edgeway/") and "." not in manager:
                by_set.setdefault(manager.removeprefix("edgeway/"), [])
    return [
        _set(name, by_set[name], services)
        for name in sorted(by_set)
        if "." not in name and (not names or name in names)
    ]


def _set(name: str, objects: list[Manifest], services: Sequence[Manifest]) -> Manifest:
    inventory_name = f"edgeway-set-{name}"
    inventory = next(
        (item for item in objects if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", inventory_name)), None
    )
    shown = [item for item in objects if item is not inventory]
    annotations = ((inventory or {}).get("metadata") or {}).get("annotations") or {}
    return {
        "name": name,
        "namespaces": sorted({str(item["metadata"]["namespace"]) for item in shown}),
        "objects": sorted(
            (_object(item, manager_of(name)) for item in shown),
            key=lambda entry: (entry["kind"], entry["namespace"], entry["name"]),
        ),
        "ports": _ports(services, manager_of(name)),
        "endpoints": endpoints(shown, services),
        "writing": _inventory.RUN in annotations,
        "proved": bool(((inventory or {}).get("data") or {}).get("proved")),
    }


def _object(item: Manifest, manager: str) -> Manifest:
    metadata = item["metadata"]
    return {
        "api_version": item["apiVersion"],
        "kind": item["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "changed_by": sorted(
            {
                str(entry.get("manager"))
                for entry in metadata.get("managedFields") or ()
                if entry.get("manager") != manager and not entry.get("subresource")
            }
        ),
        "conditions": _conditions(item.get("status") or {}),
    }


def _conditions(status: Mapping[str, Any]) -> dict[str, str]:
    """Return what a controller says of an object; of several parents the worst counts."""
    found: dict[str, str] = {}
    parts = [status, *(status.get("parents") or ())]
    for part in parts:
        for one in part.get("conditions") or ():
            kind, value = str(one.get("type")), str(one.get("status"))
            if found.get(kind) != "False":
                found[kind] = value
    return dict(sorted(found.items()))


def _ports(services: Sequence[Manifest], manager: str) -> list[Manifest]:
    """Return the ports on Services that this manager owns."""
    found = [
        {
            "service": f"{service['metadata']['namespace']}/{service['metadata']['name']}",
            "port": port["port"],
            "protocol": port.get("protocol", "TCP"),
            "target_port": port.get("targetPort"),
            "node_port": port.get("nodePort"),
        }
        for service in services
        for port in service["spec"].get("ports") or ()
        if manager in _fields.port_owners(service, port["port"], port.get("protocol", "TCP"))
    ]
    return sorted(found, key=lambda entry: (entry["service"], entry["port"]))


def endpoints(objects: Sequence[Manifest], services: Sequence[Manifest]) -> list[Manifest]:
    """Return where the routes among these objects answer, as the module exposures does."""
    world = _proof.World(services)
    gateways = {_kinds.key_of(item): item for item in objects if item["kind"] == "Gateway"}
    found: dict[str, Manifest] = {}
    for item in objects:
        spec, metadata = item.get("spec") or {}, item["metadata"]
        for gateway, protocol, port in _listeners(item, gateways):
            service = _service(gateway, world, port)
            entry = endpoint(
                metadata["name"],
                metadata["namespace"],
                protocol,
                port,
                [name for name in spec.get("hosts") or spec.get("hostnames") or () if name != "*"],
                service,
            )
            found[str(entry)] = entry
    return sorted(found.values(), key=lambda entry: (entry["namespace"], entry["name"], entry["port"]))


def _listeners(item: Manifest, gateways: Mapping[_kinds.Key, Manifest]) -> Iterable[tuple[Manifest, str, int]]:
    spec, own = item.get("spec") or {}, item["metadata"].get("namespace", "")
    if item["kind"] == "VirtualService":
        for name in spec.get("gateways") or ():
            namespace, slash, rest = str(name).partition("/")
            key = (_kinds.ISTIO, "Gateway", namespace, rest) if slash else (_kinds.ISTIO, "Gateway", own, namespace)
            for server in (gateways.get(key) or {}).get("spec", {}).get("servers") or ():
                yield gateways[key], str(server["port"]["protocol"]), int(server["port"]["number"])
    elif item["kind"].endswith("Route"):
        for parent in spec.get("parentRefs") or ():
            key = (_kinds.GATEWAY_API, "Gateway", str(parent.get("namespace", own)), str(parent["name"]))
            for listener in (gateways.get(key) or {}).get("spec", {}).get("listeners") or ():
                section, port = parent.get("sectionName", listener["name"]), parent.get("port", listener["port"])
                if (section, port) == (listener["name"], listener["port"]):
                    yield gateways[key], str(listener["protocol"]), int(listener["port"])


def _service(gateway: Manifest, world: _proof.World, port: int) -> Mapping[str, Any] | None:
    """Return the Service in front of a Gateway's pods that has this port."""
    if _kinds.split(gateway["apiVersion"])[0] == _kinds.GATEWAY_API:
        return _proof.service_of(gateway, world)
    labels = (gateway["spec"].get("selector") or {}).items()
    for service in world.services:
        selector = (service["spec"].get("selector") or {}).items()
        ports = [entry["port"] for entry in service["spec"].get("ports") or ()]
        if (
            service["metadata"]["namespace"] == gateway["metadata"]["namespace"]
            and selector
            and labels <= selector
            and port in ports
        ):
            return service
    return None
