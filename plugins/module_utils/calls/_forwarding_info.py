# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module forwarding_info does: say how edges reach the gateway."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._calls import Json
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _forward


def call(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module forwarding_info does; nothing is changed, checked or not."""
    del check
    edges, mode = params["edges"], params["mode"]
    found = _forward.look(connect(params), params["gateways"])
    plan = _forward.plan(
        mode,
        edges=edges,
        service=found.first,
        nodes=found.nodes,
        slices=found.slices,
        kube_proxy=found.kube_proxy,
        proxy_protocol=params["proxy_protocol"],
    )
    if plan.problems:
        raise ModelError(plan.problems)
    addresses = _forward.node_addresses(found.nodes)
    return {
        "changed": False,
        "listeners": [dataclasses.asdict(listener) for listener in plan.listeners],
        "checks": {
            edge: _forward.checks(found.services, addresses.get(node, "")) if mode == "service" else []
            for edge, node in edges.items()
        },
        "diff": [],
        "warnings": list(plan.warnings),
    }
