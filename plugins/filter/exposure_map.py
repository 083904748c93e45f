# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter exposure_map: see exposure_map.yml beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.edgeway.istio.plugins.module_utils import _report
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _gateways
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts


def exposure_map(
    exposures: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]] = (),
    *,
    edges: Mapping[str, Any] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    vips: Sequence[str] = (),
    gateway: Mapping[str, Any] | None = None,
    api: str = "istio",
    set_name: str = "default",
    made: str = "",
) -> dict[str, Any]:
    """Put everything that the page shows together."""
    of_kind: dict[str, list[Any]] = {"Service": [], "Pod": [], "EndpointSlice": []}
    for item in objects:
        of_kind.setdefault(str(item.get("kind")), []).append(item)
    try:
        model = parse(exposures, set_name=set_name, api=api, gateway=gateway or None)
        model = _gateways.found(exposures, model, gateway, of_kind["Service"])
    except (ModelError, ClusterError) as error:
        raise AnsibleFilterError(str(error)) from error
    return _report.page(
        model,
        vips=[str(vip) for vip in vips],
        edges=[_facts.edge(name, given or {}) for name, given in (edges or {}).items()],
        services=of_kind["Service"],
        pods=of_kind["Pod"],
        slices=of_kind["EndpointSlice"],
        findings=findings,
        made=made,
    )


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"exposure_map": exposure_map}
