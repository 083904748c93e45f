#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: revision_tag
short_description: Point a revision tag of Istio to a revision
version_added: 0.1.0
description:
  - Runs C(istioctl tag set) when the tag points elsewhere. New pods of namespaces that follow the tag get their sidecar
    from that revision; those that are there keep theirs.
options:
  executable:
    description: The istioctl program, found on E(PATH) or given by its path.
    type: str
    default: istioctl
  namespace:
    description: Namespace of the control plane.
    type: str
    default: istio-system
  tag:
    description: The tag. V(default) is the one that the label C(istio-injection) follows.
    type: str
    default: default
  revision:
    description: The revision; the default one when empty.
    type: str
    default: ""
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Changes nothing, and says whether the tag would be changed.
    support: full
  diff_mode:
    description: Shows where the tag points to, before and after.
    support: full
requirements:
  - istioctl 1.24 or newer
  - kubernetes >= 24.2.0
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.installation
"""

EXAMPLES = r"""
- name: Have new sidecars come from the revision canary
  edgeway.istio.revision_tag:
    revision: canary
"""

RETURN = r"""
previous:
  description: The revision that the tag pointed to; empty where there was no such tag.
  returned: success
  type: str
  sample: default
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _cluster
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _objects
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed, _installers, _programs
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC

OPTIONS = {
    "executable": {"default": "istioctl"},
    "namespace": {"default": "istio-system"},
    "tag": {"default": "default"},
    "revision": {"default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec={**AUTH_ARG_SPEC, **OPTIONS}, supports_check_mode=True)
    params = module.params
    module.no_log_values -= _arguments.plain_values(params["kubeconfig"])
    wanted = params["revision"] or "default"
    try:
        cluster = _cluster.connect(params)
        tags = _objects.find(cluster, *_installed.WEBHOOKS, {"istio.io/tag": params["tag"]})
        previous = _installed.label(tags[0], _installed.REVISION) if tags else ""
        if previous != wanted and not module.check_mode:
            arguments = ["tag", "set", params["tag"], f"--revision={wanted}", "--overwrite", "--skip-confirmation"]
            arguments.append(f"--istioNamespace={params['namespace']}")
            run = _programs.runner(module, params["executable"], "--context")
            _installers.called(run, arguments, "", f"istioctl tag set {params['tag']}")
    except (ModelError, _cluster.ClusterError, _installers.InstallerError) as error:
        module.fail_json(msg=str(error))
    lines = [f"{params['tag']}: {revision or 'no revision'}\n" for revision in (previous, wanted)]
    module.exit_json(changed=previous != wanted, previous=previous, diff={"before": lines[0], "after": lines[1]})


if __name__ == "__main__":
    main()
