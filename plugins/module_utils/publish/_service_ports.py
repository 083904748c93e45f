# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of ours on Services that aren't: what has to be written there, and what stands in the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _ports
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import Model
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import ERROR, Finding

Manifest = dict[str, Any]


def port_changes(
    model: Model,
    services: Mapping[_kinds.Key, Manifest],
    before: Iterable[tuple[str, str]],
    *,
    prune: bool,
    check: bool,
    coming: bool,
) -> tuple[list[Change], list[str]]:
    """Return the changes of Services that aren't ours but carry our ports, and warnings.

    `before` are the Services, as (namespace, name), that had ports of this set: with `prune` they lose them. With
    `check` a Service may be missing, without a warning where it is `coming`.
    """
    manager = _changes.manager_of(model.set_name)
    changes: list[Change] = []
    warnings: list[str] = []
    handled: set[tuple[str, str]] = set()
    if model.exposures:
        for gateway in _ports.gateways(model):
            handled.add((gateway.namespace, gateway.service))
            service = services.get(("", "Service", gateway.namespace, gateway.service))
            ports = _ports.wanted(model, service, gateway)
            name = f"{gateway.namespace}/{gateway.service}"
            if service is not None:
                changes.append(_port_change(service, ports, manager))
            elif check:
                if not coming:
                    warnings.append(f"The gateway's Service {name} doesn't exist yet: its ports can't be checked.")
                if ports:
                    stand_in = {"metadata": {"namespace": gateway.namespace, "name": gateway.service}}
                    changes.append(Change("update", None, _changes.service_ports(stand_in, ports), manager))
            else:
                raise ClusterError(
                    f"The gateway's Service {name} doesn't exist.",
                    "Install the gateway first (role edgeway.istio.istio), or name yours by gateway.namespace and "
                    "gateway.service.",
                )
    for namespace, name in sorted(set(before) - handled):
        service = services.get(("", "Service", namespace, name))
        if service is not None and prune:
            changes.append(_port_change(service, [], manager))
    return [change for change in changes if change.after is not None], warnings


def _port_change(service: Manifest, ports: list[Manifest], manager: str) -> Change:
    manifest = _changes.service_ports(service, ports)
    if not ports:
        del manifest["spec"]
        settled = not _fields.owned(service, manager)
    else:
        settled = _fields.settled(manifest, service, manager)
    return Change("unchanged" if settled else "update", service, manifest, manager)


def port_findings(changes: Iterable[Change], services: Iterable[Manifest], *, force: bool = False) -> list[Finding]:
    """Return why ports of ours can't go onto a Service: another manager's entry, or a nodePort that is taken.

    With `force` what other managers own is taken over, but for other sets.
    """
    node_ports = {
        port["nodePort"]: (service, port)
        for service in services
        for port in service.get("spec", {}).get("ports") or ()
        if port.get("nodePort")
    }
    found = []
    for change in changes:
        if change.before is None or change.after is None or "spec" not in change.after:
            continue
        service, wanted = change.before, change.after["spec"].get("ports") or []
        where = _kinds.shown(service)
        for port in wanted:
            keys = {"port": port["port"], "protocol": port["protocol"]}
            there = _fields.item(service["spec"].get("ports") or (), keys)
            for name in ("targetPort", "nodePort"):
                others = [
                    owner
                    for owner in _fields.port_owners(service, port["port"], port["protocol"], name)
                    if owner != change.manager and not (force and not owner.startswith("edgeway/"))
                ]
                if there is not None and name in port and others and there.get(name) != port[name]:
                    found.append(
                        Finding(
                            "port-taken",
                            ERROR,
                            "",
                            "port" if name == "targetPort" else "node_port",
                            (where,),
                            f"Port {port['port']} of {where} belongs to {', '.join(map(repr, others))}, with {name} "
                            f"{there.get(name)}, not {port[name]}.",
                            f"Publish on another port, or have {others[0]!r} give up this one.",
                        )
                    )
            holder = node_ports.get(port.get("nodePort", 0))
            if holder is not None and not (
                holder[0]["metadata"]["uid"] == service["metadata"]["uid"]
                and (holder[1]["port"] == port["port"] or _gives_up(service, wanted, change.manager, holder[1]))
            ):
                found.append(
                    Finding(
                        "node-port-taken",
                        ERROR,
                        "",
                        "node_port",
                        (where, _kinds.shown(holder[0])),
                        f"nodePort {port['nodePort']} is taken by port {holder[1]['port']} of "
                        f"{_kinds.shown(holder[0])}.",
                        "Choose another node_port.",
                    )
                )
    return found


def _gives_up(service: Manifest, wanted: Iterable[Manifest], manager: str, holder: Mapping[str, Any]) -> bool:
    """Whether one of a Service's ports loses its nodePort when `wanted` is applied: another can have it at once.

    The server looks at the Service as it becomes; what it had itself is no conflict.
    """
    port, protocol = holder["port"], holder.get("protocol", "TCP")
    stays = _fields.item(wanted, {"port": port, "protocol": protocol})
    if stays is None and _fields.port_owners(service, port, protocol) == [manager]:
        return True
    pinned = _fields.port_owners(service, port, protocol, "nodePort")
    return pinned == [manager] and (stays or {}).get("nodePort") != holder["nodePort"]
