#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: injection
short_description: Have sidecars injected into the pods of namespaces
version_added: 0.1.0
description:
  - Sets the label by which Istio injects a sidecar into new pods of a namespace, and takes it away from namespaces that
    leave the list. A label that somebody else set is neither changed nor taken away.
  - Pods that are there already stay as they are, unless O(restart) asks for more.
options:
  namespaces:
    description: The namespaces.
    type: list
    elements: str
    default: []
  revision:
    description:
      - The revision or revision tag that injects, by the label C(istio.io/rev).
      - The default one, by the label C(istio-injection), when empty.
    type: str
    default: ""
  restart:
    description:
      - Whether to start workloads anew whose pods lack the sidecar that they should have, have one of another revision,
        or have one although their namespace has just left the list.
      - Pods without a Deployment, StatefulSet or DaemonSet are left alone.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait at most for restarted workloads.
    type: int
    default: 300
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Changes nothing, and returns what would change.
    support: full
  diff_mode:
    description: Shows the labels of namespaces and the workloads that are restarted.
    support: full
requirements:
  - kubernetes >= 24.2.0
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.installation
"""

EXAMPLES = r"""
- name: Give the shop's pods sidecars, now
  edgeway.istio.injection:
    namespaces: [shop]
    restart: true
"""

RETURN = r"""
changes:
  description: The namespaces whose label was changed, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{verb: update, api_version: v1, kind: Namespace, namespace: '', name: shop}]
restarted:
  description: The workloads that were started anew, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [Deployment shop/shop]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _cluster
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _injection


def main() -> None:
    module = AnsibleModule(argument_spec=_arguments.INJECTION, supports_check_mode=True)
    params = module.params
    module.no_log_values -= _arguments.plain_values(params["kubeconfig"])
    try:
        result = _injection.ensure(
            _cluster.connect(params),
            params["namespaces"],
            params["revision"],
            restart=params["restart"],
            check=module.check_mode,
            timeout=params["wait_timeout"],
        )
    except ModelError as error:
        module.fail_json(msg=str(error), problems=[_arguments.problem(problem) for problem in error.problems])
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    restarted = [_kinds.shown(each) for each in result.restarts]
    module.exit_json(
        changed=bool(result.changes or restarted),
        changes=[each.summary() for each in result.changes],
        restarted=restarted,
        diff={
            "before": "".join(_injection.line(each.before) for each in result.changes if each.before),
            "after": "".join(
                [
                    *(_injection.line(each.manifest) for each in result.changes),
                    *(f"restart {name}\n" for name in restarted),
                ]
            ),
        },
    )


if __name__ == "__main__":
    main()
