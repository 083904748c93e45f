#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: istioctl
short_description: Install Istio by istioctl, and say beforehand what it would change
version_added: 0.1.0
description:
  - Renders Istio with C(istioctl manifest generate), compares it with the cluster by a dry run of the same server-side
    apply that C(istioctl install) does, and runs C(istioctl install) only when something would change.
  - Check mode and diff mode therefore tell what istioctl would do, object by object.
  - Places the pods of ingress gateways on edge nodes, one on each.
options:
  executable:
    description: The istioctl program, found on E(PATH) or given by its path. Its version is the version of Istio.
    type: str
    default: istioctl
  namespace:
    description: Namespace of the control plane.
    type: str
    default: istio-system
  profile:
    description: Istio's configuration profile.
    type: str
    default: default
  hub:
    description: Registry and folder of Istio's images. That of O(executable) when empty.
    type: str
    default: ""
  tag:
    description: Tag of Istio's images. That of O(executable) when empty.
    type: str
    default: ""
  revision:
    description: Revision of the control plane. The default one when empty.
    type: str
    default: ""
  values:
    description: Helm values of Istio's charts, as under C(spec.values) of an IstioOperator.
    type: dict
    default: {}
  operator:
    description: Merged over the C(spec) of the IstioOperator. Lists replace lists.
    type: dict
    default: {}
  edges:
    description:
      - Names of the nodes that carry the gateways, as their label C(kubernetes.io/hostname) has them.
      - Each gateway has one pod on each. When empty, the scheduler places the pods.
    type: list
    elements: str
    default: []
  gateway_tolerations:
    description: Tolerations of the gateways' pods.
    type: list
    elements: dict
    default: []
  gateways:
    description: The ingress gateways, all of them. One that is left out is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the Service and the Deployment.
        type: str
        required: true
      namespace:
        description: Namespace of the gateway. That of the control plane when not given.
        type: str
      selector:
        description: Labels of the pods, beside C(app), the name, and C(istio), the name without C(istio-).
        type: dict
      edges:
        description: Node names of this gateway's edges instead of O(edges).
        type: list
        elements: str
      replicas:
        description: Number of pods of a gateway without edges; one when not given.
        type: int
      service_type:
        description: Type of the Service; V(LoadBalancer) when not given.
        type: str
        choices: [LoadBalancer, NodePort, ClusterIP]
      load_balancer_class:
        description:
          - Class of a V(LoadBalancer) Service; C(edgeway.istio/vip) when not given, none when empty.
          - Kubernetes takes it only when the Service becomes a LoadBalancer, never later.
        type: str
      external_traffic_policy:
        description: V(Local), when not given, keeps clients' addresses and keeps connections off dead edges.
        type: str
        choices: [Local, Cluster]
      service_annotations:
        description: Annotations of the Service.
        type: dict
      ports:
        description: Ports of the Service as Kubernetes writes them, in place of 15021, 80 and 443.
        type: list
        elements: dict
      resources:
        description: Resources of the container.
        type: dict
      tolerations:
        description: Tolerations of the pods instead of O(gateway_tolerations).
        type: list
        elements: dict
      settings:
        description: Merged over the gateway's C(k8s) settings in the IstioOperator.
        type: dict
  state:
    description: V(rendered) only returns the objects, without a cluster.
    type: str
    default: present
    choices: [present, rendered]
  wait_timeout:
    description: Seconds to wait at most until istiod and the gateways are ready; V(0) doesn't wait.
    type: int
    default: 300
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
notes:
  - istioctl needs a kubeconfig. Where O(host) and O(api_key) are given instead, one is written for the time of the run.
attributes:
  check_mode:
    description: Says what istioctl would change, by a dry run on the server.
    support: full
  diff_mode:
    description: Shows each object that would change, before and after.
    support: full
requirements:
  - istioctl 1.24 or newer
  - kubernetes >= 29
  - PyYAML
author:
  - Contributors to the edgeway.istio project (@edgeway)
"""

EXAMPLES = r"""
- name: Install Istio with a gateway pod on each of three edges
  edgeway.istio.istioctl:
    edges: [node1, node2, node3]
    gateways:
      - name: istio-ingressgateway
"""

RETURN = r"""
version:
  description: Version of istioctl, which is the version of Istio that it installs.
  returned: success
  type: str
  sample: 1.31.0
changes:
  description: What was changed, or would be in check mode; objects that stay as they are aren't listed.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{verb: update, api_version: apps/v1, kind: Deployment, namespace: istio-system, name: istiod}]
summary:
  description: The changes in a few words.
  returned: when O(state=present)
  type: str
  sample: 'Istio 1.31.0: 1 update (Deployment istio-system/istiod)'
operator:
  description: The IstioOperator that stands for the options.
  returned: success
  type: dict
manifests:
  description: All objects that istioctl renders.
  returned: when O(state=rendered)
  type: list
  elements: dict
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _cluster, _install, _istioctl
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC

GATEWAY = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "selector": {"type": "dict"},
    "edges": {"type": "list", "elements": "str"},
    "replicas": {"type": "int"},
    "service_type": {"type": "str", "choices": ["LoadBalancer", "NodePort", "ClusterIP"]},
    "load_balancer_class": {"type": "str"},
    "external_traffic_policy": {"type": "str", "choices": ["Local", "Cluster"]},
    "service_annotations": {"type": "dict"},
    "ports": {"type": "list", "elements": "dict"},
    "resources": {"type": "dict"},
    "tolerations": {"type": "list", "elements": "dict"},
    "settings": {"type": "dict"},
}

OPTIONS = {
    "executable": {"type": "str", "default": "istioctl"},
    "namespace": {"type": "str", "default": "istio-system"},
    "profile": {"type": "str", "default": "default"},
    "hub": {"type": "str", "default": ""},
    "tag": {"type": "str", "default": ""},
    "revision": {"type": "str", "default": ""},
    "values": {"type": "dict", "default": {}},
    "operator": {"type": "dict", "default": {}},
    "edges": {"type": "list", "elements": "str", "default": []},
    "gateway_tolerations": {"type": "list", "elements": "dict", "default": []},
    "gateways": {"type": "list", "elements": "dict", "default": [], "options": GATEWAY},
    "state": {"type": "str", "default": "present", "choices": ["present", "rendered"]},
    "wait_timeout": {"type": "int", "default": 300},
}


def main() -> None:
    module = AnsibleModule(argument_spec={**AUTH_ARG_SPEC, **OPTIONS}, supports_check_mode=True)
    try:
        module.exit_json(**run(module))
    except (ModelError, _cluster.ClusterError, _istioctl.IstioctlError) as error:
        module.fail_json(msg=str(error))


def run(module: AnsibleModule) -> dict:
    options = module.params
    gateways = _install.gateways(
        options["gateways"],
        namespace=options["namespace"],
        edges=options["edges"],
        tolerations=options["gateway_tolerations"],
    )
    operator = _install.operator(
        spec=options["operator"],
        ingress=gateways,
        **{name: options[name] for name in ("profile", "hub", "tag", "revision", "namespace", "values")},
    )
    istioctl = _istioctl.Istioctl.find(runner(module), options["executable"])
    rendered = istioctl.render(operator)
    result = {"changed": False, "version": istioctl.version, "operator": operator}
    if options["state"] == "rendered":
        return {**result, "manifests": rendered}

    cluster = _cluster.connect(options)
    _istioctl.check_edges(cluster, gateways)
    changes = [
        each for each in _istioctl.plan(cluster, operator, rendered, istioctl.version) if each.verb != "unchanged"
    ]
    if changes and not module.check_mode:
        _istioctl.install(istioctl, cluster, operator, rendered, options["wait_timeout"])
    if not module.check_mode and options["wait_timeout"]:
        _istioctl.wait(cluster, rendered, options["wait_timeout"])
    result |= {
        "changed": bool(changes),
        "changes": [each.summary() for each in changes],
        "summary": _istioctl.summary(istioctl.version, changes),
    }
    if module._diff:
        result["diff"] = [_istioctl.difference(each) for each in changes]
    return result


def runner(module: AnsibleModule) -> _istioctl.Run:
    program = module.get_bin_path(module.params["executable"])
    if program is None:
        raise _istioctl.IstioctlError(
            f"executable: {module.params['executable']} isn't there, or isn't executable. "
            "Put istioctl on PATH, or give the path to it."
        )
    kubeconfig, context = _install.kubeconfig(module.params, os.environ)
    if isinstance(kubeconfig, dict):
        path = os.path.join(module.tmpdir, "kubeconfig")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kubeconfig, file)
        kubeconfig = path
    environment = {"KUBECONFIG": kubeconfig} if kubeconfig else {}
    where = [f"--context={context}"] if context else []

    def call(arguments, text):
        return module.run_command([program, *arguments, *where], data=text, environ_update=environment)

    return call


if __name__ == "__main__":
    main()
