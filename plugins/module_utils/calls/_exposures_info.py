# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module exposures_info does: say what is published, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._calls import Json
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _looking
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _published


def call(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module exposures_info does; nothing is changed, checked or not."""
    del check
    cluster = connect(params)
    services = cluster.find("v1", "Service")
    sets, known, warnings = _published.sets(cluster, services, params["sets"], whole=params["findings"])
    findings = []
    if params["findings"]:
        found = _looking.look(cluster, None, known={**known, ("", "Service"): services}, edges=params["edges"])
        findings = [finding.as_dict() for finding in found]
    return {"changed": False, "sets": sets, "findings": findings, "diff": [], "warnings": warnings}
