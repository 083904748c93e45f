#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: installation
short_description: Install Istio by istioctl or Helm, and say beforehand what would change
version_added: 0.1.0
description:
  - Renders Istio with istioctl or Helm, compares it with the cluster by a dry run of the same server-side apply that
    they do, and installs only when something would change. Check mode and diff mode therefore tell what they would do,
    object by object.
  - Places the pods of ingress gateways on edge nodes, one on each.
  - Leaves an Istio alone that somebody else installed, unless told to O(adopt) it.
options:
  method:
    description:
      - The program that installs.
      - V(existing) installs nothing. It only looks whether the control plane and the gateways are there.
    type: str
    default: istioctl
    choices: [istioctl, helm, existing]
  executable:
    description:
      - The program, found on E(PATH) or given by its path; C(istioctl) or C(helm) when not given.
      - The version of istioctl is the version of Istio; with Helm it is the charts' version.
    type: str
  charts:
    description:
      - For O(method=helm), where Istio's charts are.
      - A folder with a folder or an archive for each of C(base), C(istiod), C(gateway), and for the profile ambient
        C(cni) and C(ztunnel). Or the address of a chart repository (https://) or of a registry (oci://).
    type: str
    default: https://istio-release.storage.googleapis.com/charts
  chart_version:
    description: For O(method=helm), the version of the charts. The newest when empty.
    type: str
    default: ""
  namespace:
    description: Namespace of the control plane.
    type: str
    default: istio-system
  profile:
    description: Istio's configuration profile.
    type: str
    default: default
  hub:
    description: Registry and folder of Istio's images. The installer's own when empty.
    type: str
    default: ""
  tag:
    description: Tag of Istio's images. The installer's own when empty.
    type: str
    default: ""
  revision:
    description: Revision of the control plane. The default one when empty.
    type: str
    default: ""
  values:
    description: Helm values of istiod's chart, which are C(spec.values) of an IstioOperator.
    type: dict
    default: {}
  operator:
    description: For O(method=istioctl), merged over the C(spec) of the IstioOperator. Lists replace lists.
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
    description: The ingress gateways, all of them. One of ours that is left out is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the Service, and of the Deployment or DaemonSet.
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
        description:
          - Merged over the gateway's C(k8s) settings in the IstioOperator, or over the values of its chart.
        type: dict
  place_automated:
    description:
      - Whether pods of Gateways of class C(istio), which Istio itself makes, are placed on O(edges) as well.
      - Their Service's type is the Gateway's own affair, by the annotation C(networking.istio.io/service-type).
    type: bool
    default: false
  move_gateways:
    description:
      - For an upgrade by revision, the names of gateways that are moved to this revision now. Others of the list that
        another revision serves stay with it.
      - All of them when not given.
    type: list
    elements: str
  adopt:
    description:
      - Whether to take over an Istio that somebody else installed with the same program.
      - What its control plane has and O(values) don't ask for is removed. Gateways of it that aren't listed stay.
    type: bool
    default: false
  any_version:
    description: Whether to go back to an older version, or over more than one minor version, in place.
    type: bool
    default: false
  state:
    description:
      - V(rendered) only returns the objects, without a cluster.
      - V(absent) removes what this module installed, and what istiod left behind once none is there any more. What
        somebody else installed stays.
    type: str
    default: present
    choices: [present, absent, rendered]
  every_revision:
    description:
      - With O(state=absent), whether to remove every control plane of ours in O(namespace) that O(method) installed,
        and not that of O(revision) alone.
    type: bool
    default: false
  remove_definitions:
    description:
      - With O(state=absent), whether to remove Istio's definitions (CRDs) as well, when no control plane is left.
      - Everything that is written in those kinds goes with them, whoever wrote it.
    type: bool
    default: false
  in_use:
    description:
      - With O(state=absent), whether to remove a control plane that pods with a sidecar or Gateway API gateways still
        need. They go on for a while and then fail.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait at most until istiod and the gateways are ready, or gone; V(0) doesn't wait.
    type: int
    default: 300
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
notes:
  - istioctl and Helm need a kubeconfig. Where O(host) is given instead, with O(api_key), a client certificate and its
    key, or a user name and a password, one is written for the time of the run. Without any of them O(host) is refused.
attributes:
  check_mode:
    description: Says what the installer would change, by a dry run on the server.
    support: full
  diff_mode:
    description: Shows each object that would change, before and after.
    support: full
requirements:
  - istioctl 1.24 or newer, or Helm 3.17 or newer (4 included)
  - kubernetes >= 24.2.0
  - PyYAML
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.gateway_api_crds
  - module: edgeway.istio.gateway_service
"""

EXAMPLES = r"""
- name: Install Istio with a gateway pod on each of three edges
  edgeway.istio.installation:
    edges: [node1, node2, node3]
    gateways:
      - name: istio-ingressgateway

- name: The same by Helm, from charts in a folder and images in a registry of one's own
  edgeway.istio.installation:
    method: helm
    charts: /srv/istio-1.29.0/manifests/charts
    hub: registry.example.com/istio
    tag: 1.29.0
    edges: [node1, node2, node3]
    gateways:
      - name: istio-ingressgateway

- name: Remove what was installed
  edgeway.istio.installation:
    state: absent
"""

RETURN = r"""
version:
  description: Version of Istio that is installed by this program, or that is there with O(method=existing).
  returned: when O(state=present) or O(state=rendered)
  type: str
  sample: 1.31.0
changes:
  description: What was changed, or would be in check mode; objects that stay as they are aren't listed.
  returned: when O(state=present) or O(state=absent)
  type: list
  elements: dict
  sample: [{verb: update, api_version: apps/v1, kind: Deployment, namespace: istio-system, name: istiod}]
summary:
  description: The changes in a few words.
  returned: when O(state=present) or O(state=absent)
  type: str
  sample: 'Istio 1.31.0: update 1 (Deployment istio-system/istiod)'
images:
  description: The images that the installation needs, for a registry of one's own.
  returned: when O(state=present) or O(state=rendered), not with O(method=existing)
  type: list
  elements: str
  sample: [registry.example.com/istio/pilot:1.31.0, registry.example.com/istio/proxyv2:1.31.0]
manifests:
  description: All objects that the installer renders.
  returned: when O(state=rendered)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _cluster
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.installation import (
    _installed,
    _installers,
    _installing,
    _programs,
    _removing,
    _settings,
)


def main() -> None:
    spec = {**_arguments.INSTALLATION, "move_gateways": {"type": "list", "elements": "str"}}
    spec |= {name: {"type": "bool", "default": False} for name in ("place_automated", "every_revision")}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    module.no_log_values -= _arguments.plain_values(module.params["kubeconfig"])
    try:
        module.exit_json(**run(module))
    except ModelError as error:
        module.fail_json(msg=str(error), problems=[_arguments.problem(problem) for problem in error.problems])
    except (_cluster.ClusterError, _installers.InstallerError) as error:
        module.fail_json(msg=str(error))


def run(module: AnsibleModule) -> dict:
    params = module.params
    settings = _settings.Settings(
        gateways=_settings.gateways(
            params["gateways"],
            namespace=params["namespace"],
            edges=params["edges"],
            tolerations=params["gateway_tolerations"],
        ),
        automated=automated(params) if params["place_automated"] else None,
        **{name: params[name] for name in ("namespace", "profile", "hub", "tag", "revision", "values", "operator")},
    )
    if params["method"] == "existing":
        return existing(module, settings)
    installer = find(module, settings)
    if params["state"] == "rendered":
        rendered = installer.render()
        return {"version": installer.version, "manifests": rendered, "images": _installed.images(rendered)}
    cluster = _cluster.connect(params)
    if params["state"] == "absent":
        result = _removing.remove(
            installer,
            settings,
            cluster,
            _removing.Options(
                every=params["every_revision"],
                definitions=params["remove_definitions"],
                in_use=params["in_use"],
                check=module.check_mode,
                wait_timeout=params["wait_timeout"],
            ),
        )
        return outcome(module, result)
    options = _installing.Options(
        check=module.check_mode,
        move=params["move_gateways"],
        **{name: params[name] for name in ("method", "adopt", "any_version", "wait_timeout")},
    )
    result = _installing.ensure(installer, settings, cluster, options)
    return {**outcome(module, result), "images": _installed.images(installer.render())}


def automated(params: dict) -> _settings.Gateway:
    return _settings.Gateway(
        name="automated", edges=tuple(params["edges"]), tolerations=tuple(params["gateway_tolerations"])
    )


def existing(module: AnsibleModule, settings: _settings.Settings) -> dict:
    if module.params["state"] != "present":
        raise _installers.InstallerError(
            f"state: {module.params['state']} isn't possible with the method existing, which only looks. "
            "Use the program that installed Istio."
        )
    return outcome(module, _installing.existing(settings, _cluster.connect(module.params)))


def outcome(module: AnsibleModule, result: _installing.Result) -> dict:
    for warning in result.warnings:
        module.warn(warning)
    found = {
        "changed": bool(result.changes),
        "version": result.version,
        "changes": [each.summary() for each in result.changes],
        "summary": _installed.summary(result.version, result.changes),
    }
    if module._diff:
        found["diff"] = [_installing.difference(each) for each in result.changes]
    return found


def find(module: AnsibleModule, settings: _settings.Settings) -> _installers.Installer:
    params = module.params
    name = params["executable"] or params["method"]
    helm = params["method"] == "helm"
    run = _programs.runner(module, name, "--kube-context" if helm else "--context")
    if helm:
        return _installers.Helm.find(
            run, name, settings, params["charts"], params["chart_version"], adopt=params["adopt"]
        )
    return _installers.Istioctl.find(run, name, settings)


if __name__ == "__main__":
    main()
