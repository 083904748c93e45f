# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module does with its options: the same in a process of its own and in Ansible's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _publish, _service
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError, connect
from ansible_collections.edgeway.istio.plugins.module_utils._findings import SilenceError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _forward
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _looking
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _published
from ansible_collections.edgeway.istio.plugins.module_utils.publish._wait import StaleError

Json = dict[str, Any]
Call = Callable[[Mapping[str, Any], bool], Json]
"""Takes the options as Ansible has checked them, and whether to change nothing; returns what a module returns.

`diff` is always there, `failed` with `msg` where it failed, and `warnings` are texts.
"""


def exposures(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module exposures does."""
    options = _publish.Options(
        set_name=params["set"], check=check, **{name: params[name] for name in _arguments.PUBLISH}
    )
    if options.state == "rendered":
        result = _publish.render(params["exposures"], options)
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


def exposures_info(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module exposures_info does; nothing is changed, checked or not."""
    del check
    cluster = connect(params)
    services = cluster.find("v1", "Service")
    sets, warnings = _published.sets(cluster, services, params["sets"])
    findings = []
    if params["findings"]:
        found = _looking.look(cluster, None, known={("", "Service"): services}, edges=params["edges"])
        findings = [finding.as_dict() for finding in found]
    return {"changed": False, "sets": sets, "findings": findings, "diff": [], "warnings": warnings}


def forwarding_info(params: Mapping[str, Any], check: bool) -> Json:
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


def gateway_service(params: Mapping[str, Any], check: bool) -> Json:
    """Do what the module gateway_service does."""
    options = _service.Options(
        set_name=params["set"], check=check, **{name: params[name] for name in _arguments.SERVICE}
    )
    result = _service.ensure(options, connect(params))
    return {"changed": result.changed, "service": result.service, "diff": result.diff, "warnings": result.warnings}


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
    except StaleError as error:
        return {"failed": True, "msg": str(error), "changed": error.written, "stale": error.pods}
    except (ClusterError, SilenceError) as error:
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
