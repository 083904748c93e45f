#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exposures_info
short_description: Tell what is published through Istio's ingress gateways
version_added: 0.1.0
description:
  - Reads from the cluster which sets have been published, which objects and ports are theirs, and where they answer.
  - Looks for findings about everything that is published there, also by hand, so that a cluster can be examined before
    it is adopted.
  - Changes nothing. Runs on the control machine, with the Python package C(kubernetes).
options:
  sets:
    description: The names of the sets to tell of. All of them when not given.
    type: list
    elements: str
    default: []
  findings:
    description: Whether findings are looked for, which reads much more of the cluster.
    type: bool
    default: true
  edges:
    description: The names of the nodes that may hold the VIP, for the findings about them.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: N/A
requirements:
  - kubernetes >= 24.2.0
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.exposures
"""

EXAMPLES = r"""
- name: Look at what is published
  edgeway.istio.exposures_info:
  register: published

- name: Show where everything answers
  ansible.builtin.debug:
    msg: "{{ published.sets | map(attribute='endpoints') | flatten }}"
"""

RETURN = r"""
sets:
  description: The sets, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The set's name., type: str}
    namespaces: {description: Where its objects lie., type: list, elements: str}
    objects:
      description: Its objects.
      type: list
      elements: dict
      contains:
        api_version: {description: The object's apiVersion., type: str}
        kind: {description: The object's kind., type: str}
        namespace: {description: The object's namespace., type: str}
        name: {description: The object's name., type: str}
        changed_by: {description: Other field managers that own parts of it., type: list, elements: str}
        conditions: {description: "What its controller says, the worst of all parents.", type: dict}
    ports:
      description: The ports that it owns on Services.
      type: list
      elements: dict
      contains:
        service: {description: Namespace and name of the Service., type: str}
        port: {description: The port on the VIP., type: int}
        protocol: {description: The transport protocol., type: str}
        target_port: {description: "The port of the gateway's pods, or its name.", type: raw}
        node_port: {description: The port on every node., type: int}
    endpoints:
      description: Where its routes answer, as M(edgeway.istio.exposures) returns it.
      type: list
      elements: dict
    writing: {description: Whether a run is writing to it now., type: bool}
    proved: {description: Whether every gateway pod was seen to have it after the last change., type: bool}
  sample:
    - name: default
      namespaces: [bookinfo, istio-system]
      objects:
        - api_version: networking.istio.io/v1
          kind: VirtualService
          namespace: bookinfo
          name: bookinfo
          changed_by: []
          conditions: {}
      ports:
        - service: istio-system/istio-ingressgateway
          port: 65532
          protocol: TCP
          target_port: 65532
          node_port: 31532
      endpoints:
        - name: bookinfo
          namespace: bookinfo
          protocol: HTTP
          port: 80
          node_port: 30080
          service: istio-system/istio-ingressgateway
          urls: ["http://bookinfo.example/"]
          addresses: ["10.77.0.100:80"]
      writing: false
      proved: true
findings:
  description: What was found about all that is published, the worst first, as M(edgeway.istio.exposures) returns it.
  returned: always
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _calls
from ansible_collections.edgeway.istio.plugins.module_utils.calls import _exposures_info


def main() -> None:
    _calls.answer(
        AnsibleModule(argument_spec=_arguments.EXPOSURES_INFO, supports_check_mode=True), _exposures_info.call
    )


if __name__ == "__main__":
    main()
