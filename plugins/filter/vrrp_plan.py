# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vrrp_plan: see vrrp_plan.yml beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp


def _edge(name: str, variables: Mapping[str, Any]) -> _vrrp.Edge:
    return _vrrp.Edge(
        name=str(name),
        address=str(variables.get("keepalived_address") or variables.get("ansible_host") or name),
        address6=str(variables.get("keepalived_address6") or ""),
    )


def _unit(name: str, names: Sequence[str], instances: Sequence[_vrrp.Instance]) -> dict[str, Any]:
    """Members of a group have the same weights, and its holder has the addresses of all."""
    first = next(instance for instance in instances if instance.name == names[0])
    return {
        "name": name,
        "instances": list(names),
        "weights": dataclasses.asdict(first.weights),
        "address": first.address,
        "interface": first.interface,
    }


def vrrp_plan(
    vips: Any,
    edge: str,
    edges: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    checks: Any = (),
    preempt: bool = False,
    replace_config: bool = False,
    virtual_servers: Sequence[Any] = (),
) -> dict[str, Any]:
    """Give one edge's virtual routers as plain data; problems as sentences."""
    every = [_edge(name, hostvars[name]) for name in edges]
    plan = _vrrp.plan(
        vips,
        checks,
        edge=edge,
        edges=every,
        links=facts["links"],
        lacks_ipvs=bool(virtual_servers) and not facts["ipvs"],
        foreign_config=facts["config"] == "foreign" and not replace_config,
        preempt=preempt,
    )
    known = set(facts.get("configured", ()))
    return {
        "instances": [dataclasses.asdict(instance) for instance in plan.instances],
        "new": [
            dataclasses.asdict(instance)
            for instance in plan.instances
            if instance.address.split("/", maxsplit=1)[0] not in known
        ],
        "units": [_unit(name, names, plan.instances) for name, names in plan.units.items()],
        "edges": [address for item in every for address in (item.address, item.address6) if address],
        "checks": [dataclasses.asdict(check) for check in plan.checks],
        "problems": [str(problem) for problem in plan.problems],
    }


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"vrrp_plan": vrrp_plan}
