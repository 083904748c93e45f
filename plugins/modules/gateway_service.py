#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_service
short_description: Own ports, nodePorts and the VIP of a gateway's Service
version_added: 0.1.0
description:
  - Adds ports to the Service of an ingress gateway that somebody else installed, pins nodePorts, and makes the VIP its
    EXTERNAL-IP.
  - All of it is owned through server-side apply, so that it is kept when C(istioctl install) or C(helm upgrade) runs
    again. What others own is never overwritten.
  - Runs on the control machine, with the Python package C(kubernetes).
options:
  namespace:
    description: The namespace of the gateway's Service.
    type: str
    default: istio-system
  name:
    description: The name of the gateway's Service.
    type: str
    default: istio-ingressgateway
  ports:
    description: The ports that the Service shall have beside its installer's. Ports left out of the list are given up.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port on the VIP. For one of the installer's ports, only O(ports[].node_port) is added to it.
        type: int
        required: true
      name:
        description: The port's name in the Service. Chosen when not given.
        type: str
      target_port:
        description: The port of the gateway's pods. When not given, O(ports[].port), below 1024 that and 8000 more.
        type: int
      node_port:
        description: The port on every node. The cluster chooses one when not given.
        type: int
      protocol:
        description: The transport protocol.
        type: str
        choices: [TCP, UDP]
        default: TCP
  vips:
    description:
      - Addresses to write to the Service's status, so that kube-proxy serves them on every node and
        C(kubectl get service) shows them as EXTERNAL-IP.
      - The Service must be of type C(LoadBalancer), of class C(edgeway.istio/vip) or of none. Without a class, no other
        controller may be there that gives such Services their addresses.
    type: list
    elements: str
    default: []
  type:
    description:
      - The Service's type. It belongs to whoever installed the gateway, so asking for another one is a conflict, which
        O(force) decides.
      - A Service that becomes a C(LoadBalancer) gets the class C(edgeway.istio/vip).
    type: str
    choices: [LoadBalancer, NodePort, ClusterIP]
  external_traffic_policy:
    description:
      - With V(Local) the gateway sees the client's address, and new connections go to nodes with a gateway pod alone;
        each edge then needs one.
    type: str
    choices: [Local, Cluster]
  selector:
    description:
      - Makes a Service of our own for the pods with these labels, beside the gateway's. O(state=absent) deletes it.
      - Its O(type) is C(LoadBalancer) when not given.
    type: dict
  set:
    description: A name for this list of ports; different lists may own ports of the same Service.
    type: str
    default: default
  state:
    description: With V(absent), all that this O(set) owns of the Service is given up.
    type: str
    choices: [present, absent]
    default: present
  force:
    description: Whether fields that another field manager owns are taken over. Otherwise they are an error.
    type: bool
    default: false
  before_istio:
    description:
      - In check mode, whether the gateway is installed before this is run to write. That its Service isn't there yet
        is then no warning.
    type: bool
    default: false
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Changes nothing, and returns what would change as the server's dry run shows it.
    support: full
  diff_mode:
    description: Returns the Service before and after, without what the server alone writes.
    support: full
requirements:
  - kubernetes >= 24.2.0
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.exposures
"""

EXAMPLES = r"""
- name: Open a port for MySQL, pin the nodePort of HTTP, and carry the VIP
  edgeway.istio.gateway_service:
    ports:
      - {port: 65532, node_port: 31532}
      - {port: 80, node_port: 30080}
    vips: [10.77.0.100]

- name: Open a port by a Service of its own
  edgeway.istio.gateway_service:
    name: bookinfo-8088
    selector: {istio: ingressgateway}
    type: NodePort
    ports:
      - {port: 8088, node_port: 30080}

- name: Give all of it up
  edgeway.istio.gateway_service:
    state: absent
"""

RETURN = r"""
service:
  description: The Service as it is now, or in check mode would be. Null where there is none yet.
  returned: always
  type: dict
  contains:
    namespace: {description: Its namespace., type: str}
    name: {description: Its name., type: str}
    type: {description: Its type., type: str}
    load_balancer_class: {description: "Its class, null for none.", type: str}
    external_traffic_policy: {description: "V(Local) or V(Cluster).", type: str}
    health_check_node_port: {description: "Where each node tells whether it has a gateway pod.", type: int}
    cluster_ip: {description: Its address inside the cluster., type: str}
    vips: {description: Its EXTERNAL-IP., type: list, elements: str}
    ports:
      description: All of its ports, others' too.
      type: list
      elements: dict
      contains:
        port: {description: The port on the VIP., type: int}
        protocol: {description: The transport protocol., type: str}
        name: {description: The port's name., type: str}
        target_port: {description: "The port of the gateway's pods, or its name.", type: raw}
        node_port: {description: The port on every node., type: int}
  sample:
    namespace: istio-system
    name: istio-ingressgateway
    type: LoadBalancer
    load_balancer_class: edgeway.istio/vip
    external_traffic_policy: Local
    health_check_node_port: 31100
    cluster_ip: 10.96.12.7
    vips: ["10.77.0.100"]
    ports:
      - {port: 80, protocol: TCP, name: http2, target_port: 8080, node_port: 30080}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _calls
from ansible_collections.edgeway.istio.plugins.module_utils.calls import _gateway_service


def main() -> None:
    _calls.answer(
        AnsibleModule(argument_spec=_arguments.GATEWAY_SERVICE, supports_check_mode=True), _gateway_service.call
    )


if __name__ == "__main__":
    main()
