#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_api_crds
short_description: Install the Gateway API's definitions where they are missing or older
version_added: 0.1.0
description:
  - Writes those objects of a Gateway API bundle that the cluster lacks or has from an older bundle.
  - Never replaces a newer one.
options:
  path:
    description:
      - A file of the bundle, such as C(standard-install.yaml), or a folder of such files.
      - A folder holds one channel. One with both is refused, since the same definitions are in either.
    type: path
    required: true
  state:
    description:
      - With V(absent), those objects of the bundle that this module wrote are removed, and everything of their kinds
        with them, whoever wrote it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Says which objects would be written.
    support: full
  diff_mode:
    description: Shows the bundle's version and channel of each object, before and after.
    support: full
requirements:
  - kubernetes >= 24.2.0
  - PyYAML
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Have the Gateway API 1.6 at least
  edgeway.istio.gateway_api_crds:
    path: files/gateway-api-1.6.0-standard.yaml
"""

RETURN = r"""
changes:
  description: What was written, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample:
    - verb: create
      api_version: apiextensions.k8s.io/v1
      kind: CustomResourceDefinition
      namespace: ''
      name: tcproutes.gateway.networking.k8s.io
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _cluster, _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _bundle


def main() -> None:
    state = {"choices": ["present", "absent"], "default": "present"}
    module = AnsibleModule(argument_spec={**_arguments.GATEWAY_API_CRDS, "state": state}, supports_check_mode=True)
    module.no_log_values -= _arguments.plain_values(module.params["kubeconfig"])
    try:
        module.exit_json(**run(module))
    except ModelError as error:
        module.fail_json(msg=str(error), problems=[_arguments.problem(problem) for problem in error.problems])
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))


def run(module: AnsibleModule) -> dict:
    given = read(module, Path(module.params["path"]))
    cluster = _cluster.connect(module.params)
    if module.params["state"] == "absent":
        changes = _bundle.removals(cluster, given)
    else:
        changes, older = _bundle.definitions(cluster, given)
        if older:
            module.warn(
                f"path: {', '.join(older)} stay older, as they are of the experimental channel and this bundle is of "
                "the standard one. Give the bundle of the experimental channel to have them renewed."
            )
    if changes and not module.check_mode:
        (_bundle.remove if module.params["state"] == "absent" else _bundle.establish)(cluster, changes)
    result = {"changed": bool(changes), "changes": [each.summary() for each in changes]}
    if module._diff:
        result["diff"] = {
            "before": "".join(_bundle.bundle_line(each.before) for each in changes if each.before),
            "after": "".join(_bundle.bundle_line(each.after) for each in changes if each.after),
        }
    return result


def read(module: AnsibleModule, path: Path) -> list:
    files = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    try:
        found = [each for file in files for each in _yaml.documents(file.read_text())]
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"path: {error}. Give a file or folder of the Gateway API's definitions.")
    bundle = [each for each in found if isinstance(each, dict) and _bundle.bundle_version(each)]
    if not bundle:
        module.fail_json(msg=f"path: {path} holds no object of a Gateway API bundle. Give a file or folder that does.")
    return bundle


if __name__ == "__main__":
    main()
