# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module exposures does: publish a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _publish
from ansible_collections.edgeway.istio.plugins.module_utils._calls import Json
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem


def call(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module exposures does."""
    options = _publish.Options(
        set_name=params["set"], check=check, **{name: params[name] for name in _arguments.PUBLISH}
    )
    if options.path and options.state != "rendered":
        raise ModelError((Problem("path", f"means nothing with `state: {options.state}`", "Write `state: rendered`"),))
    if options.state == "rendered":
        result = _publish.render(params["exposures"], options)
    elif options.state == "examined":
        result = _publish.examine(params["exposures"], options, connect(params))
    else:
        result = _publish.publish(params["exposures"], options, connect(params))
    return {
        "changed": result.changed,
        "manifests": result.manifests,
        "changes": [change.summary() for change in result.changes],
        "findings": [finding.as_dict() for finding in result.findings],
        "endpoints": result.endpoints,
        "diff": result.diff,
        "pods": result.pods,
        "warnings": result.warnings,
    }
