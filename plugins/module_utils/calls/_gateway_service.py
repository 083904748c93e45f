# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module gateway_service does: own ports and VIPs of a gateway's Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _service
from ansible_collections.edgeway.istio.plugins.module_utils._calls import Json
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect


def call(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module gateway_service does."""
    options = _service.Options(
        set_name=params["set"], check=check, **{name: params[name] for name in _arguments.SERVICE}
    )
    result = _service.ensure(options, connect(params))
    return {"changed": result.changed, "service": result.service, "diff": result.diff, "warnings": result.warnings}
