#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: forwarding_info
short_description: How what arrives at a VIP gets to the gateway
version_added: 0.1.0
description:
  - Works out, from the gateways' Services and the cluster's nodes, the ports and servers behind the VIPs and how each
    edge finds out whether it can serve. Fails with the reasons where the way of forwarding can't work here.
  - Changes nothing. Runs on the control machine, with the Python package C(kubernetes).
options:
  mode:
    description:
      - V(service) where the edges are nodes, so that kube-proxy serves the VIP; V(haproxy) or V(lvs) where they are
        machines outside the cluster.
    type: str
    default: service
  edges:
    description: The edges' names in the inventory, each with its name as a node.
    type: dict
    default: {}
  gateways:
    description:
      - The gateways' Services as C(namespace/name), the one whose ports are forwarded first. One that isn't there yet
        is left out.
    type: list
    elements: str
    default: []
  proxy_protocol:
    description: Whether haproxy speaks the PROXY protocol to the gateway.
    type: bool
    default: false
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
  - module: edgeway.istio.gateway_service
"""

EXAMPLES = r"""
- name: Find out what haproxy on two boxes has to pass on
  edgeway.istio.forwarding_info:
    mode: haproxy
    edges: {box1: box1, box2: box2}
    gateways: [istio-system/istio-ingressgateway]
  register: forwarding
"""

RETURN = r"""
listeners:
  description: Ports on the VIPs with the servers behind them. None for the mode V(service).
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The port's name., type: str}
    port: {description: The port on the VIPs., type: int}
    servers:
      description: The nodes that may have a gateway.
      type: list
      elements: dict
      contains:
        name: {description: The node's name., type: str}
        address: {description: Its address., type: str}
        port: {description: Where it goes., type: int}
    check_port:
      description: Port at which C(/healthz) says whether a ready gateway pod is on the node, or 0.
      type: int
  sample:
    - name: http2
      port: 80
      servers: [{name: node1, address: 192.0.2.11, port: 30080}]
      check_port: 31000
checks:
  description: For each edge that is a node the checks by which it knows that ready gateway pods are on it.
  returned: success
  type: dict
  sample:
    node2:
      - name: istio-ingressgateway
        url: http://192.0.2.12:31000/healthz
        interval: 0.2
        rise: 10
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _calls
from ansible_collections.edgeway.istio.plugins.module_utils.calls import _forwarding_info


def main() -> None:
    _calls.answer(
        AnsibleModule(argument_spec=_arguments.FORWARDING_INFO, supports_check_mode=True), _forwarding_info.call
    )


if __name__ == "__main__":
    main()
