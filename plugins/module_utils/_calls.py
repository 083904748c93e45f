# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module answers: the same in a process of its own and in Ansible's. What each does is in `calls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _arguments
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import SilenceError

Json = dict[str, Any]
Call = Callable[[Mapping[str, Any], bool], Json]
"""Takes the options as Ansible has checked them, and whether to change nothing; returns what a module returns.

`diff` is always there, `failed` with `msg` where it failed, and `warnings` are texts.
"""


def outcome(call: Call, params: Mapping[str, Any], *, check: bool, diff: bool) -> Json:
    """Return what `call` returns, or the failure that a user is to read."""
    try:
        result = call(params, check)
    except ModelError as error:
        return {
            "failed": True,
            "msg": str(error),
            "problems": [_arguments.problem(problem) for problem in error.problems],
        }
    except ClusterError as error:
        return {"failed": True, "msg": str(error), **error.told}
    except SilenceError as error:
        return {"failed": True, "msg": str(error)}
    return result if diff else {**result, "diff": []}


def answer(module: Any, call: Call) -> None:
    """Answer for an AnsibleModule."""
    module.no_log_values -= _arguments.plain_values(module.params.get("kubeconfig"))
    result = outcome(call, module.params, check=module.check_mode, diff=module._diff)
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)
