#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exposure_trace
short_description: Follow one request from its name to the pod behind the gateway, and name the hop that is broken
version_added: 0.1.0
description:
  - Goes the way of a request hop by hop - DNS, VIP, route, Service, kube-proxy, every gateway pod's Envoy from listener
    to endpoints, backend - and then sends the request itself at every gateway pod, every edge's nodePort, and the VIP.
  - Each hop is ok, broken or unknown, with what was seen. The first broken hop comes with a cure.
  - Reads only. Envoy's configuration is read from the pods through the API server, without istioctl.
  - Needs C(get) and C(list) on Services, Pods, Nodes and Istio's objects, and C(create) on C(pods/portforward) in the
    gateways' and istiod's namespaces. What may not be read is unknown, never broken.
  - Runs on the control machine, with the Python packages C(kubernetes), C(dnspython) and C(cryptography).
options:
  url:
    description:
      - The request, as C(http://HOST/PATH), C(https://HOST:PORT/PATH), C(tls://HOST) for TLS that is passed through, or
        C(tcp://:PORT).
      - Either this or O(exposure) is required.
    type: str
  exposure:
    description:
      - An entry of O(exposures), as NAME or NAMESPACE/NAME. Its first hostname is asked for, and its first match that
        can be sent. Where all match by regexes, which requests it takes isn't known; give an O(url) then.
    type: str
  vips:
    description:
      - The addresses that clients use. When not given, those that O(gateways) says of the gateway's Service, else those
        in its status.
    type: list
    elements: str
    default: []
  gateways:
    description:
      - The gateways' Services, each with V(namespace), V(service) and its V(vips). The addresses of the one that the
        request goes through count.
    type: list
    elements: dict
    default: []
  edges:
    description:
      - What each edge holds, by the edge's name. V(node) is its name in the cluster, V(address) where it is reached,
        and V(facts) what M(edgeway.istio.edge_info) returned there, nothing for an edge that doesn't answer.
      - Without it the VIP's holder is unknown. The playbook C(edgeway.istio.trace) fills it in.
    type: dict
  dns:
    description: Whether DNS is asked for the name.
    type: bool
    default: true
  nameservers:
    description:
      - DNS servers to ask in place of this machine's own, as ADDRESS or ADDRESS:PORT.
      - This machine's are asked after its hosts file. They can't know names below C(.example) and C(.test), so that
        these are unknown rather than broken.
    type: list
    elements: str
    default: []
  probe:
    description:
      - Whether the request is really sent. Only GET, HEAD and OPTIONS are. In place of any other method GET is sent,
        and its answer isn't judged.
    type: bool
    default: true
  authorities:
    description: A PEM file with the authorities that clients trust. When not given, those of this machine.
    type: path
    default: ""
  timeout:
    description: How long to wait for one connection or answer, in seconds.
    type: float
    default: 2.0
extends_documentation_fragment:
  - edgeway.istio.exposures
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Reads only, so check mode is the same.
    support: full
  diff_mode:
    description: Reads only.
    support: none
requirements:
  - kubernetes >= 24.2.0
  - dnspython >= 2.4
  - cryptography
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.exposures
  - module: edgeway.istio.edge_info
"""

EXAMPLES = r"""
- name: Follow a URL
  edgeway.istio.exposure_trace:
    url: https://shop.example.com/
  register: traced

- name: Follow an exposure, and stop where it is broken
  edgeway.istio.exposure_trace:
    exposure: mysql
    exposures: "{{ edgeway_exposures }}"
  register: traced
  failed_when: not traced.healthy
"""

RETURN = r"""
healthy:
  description: Whether no hop is broken.
  returned: always
  type: bool
  sample: false
answers:
  description: >-
    Whether a good answer came through the VIP. Null where it wasn't tried, or not as the exposure takes it.
  returned: always
  type: bool
  sample: false
name:
  description: The exposure, or the URL that was asked for.
  returned: always
  type: str
  sample: shop/shop
url:
  description: The request.
  returned: always
  type: str
  sample: https://shop.example.com/
hops:
  description: Every hop in order; those inside gateway pods once a pod, those at edges once an edge.
  returned: always
  type: list
  elements: dict
  contains:
    hop:
      description: >-
        V(dns), V(vip), V(route), V(service), V(kube_proxy), V(pod), V(sync), V(listener), V(filter_chain),
        V(certificate), V(virtual_host), V(route_match), V(policy), V(cluster), V(endpoints), V(backend), V(probe_pod),
        V(probe_edge) or V(probe_vip).
      type: str
    title: {description: Its name for people., type: str}
    state: {description: "V(ok), V(broken) or V(unknown).", type: str}
    at: {description: The gateway pod or edge., type: str}
    evidence: {description: What was seen., type: list, elements: str}
    objects: {description: The objects that it comes from., type: list, elements: str}
    cure: {description: What to do about it., type: str}
  sample:
    - hop: certificate
      title: Certificate
      state: broken
      at: istio-ingressgateway-7d9c4f6b9-x2x7k
      evidence: ["Envoy has no certificate kubernetes://shop-cert, and the listener takes no connection."]
      objects: [Secret istio-system/shop-cert]
      cure: "Create or correct Secret istio-system/shop-cert: type kubernetes.io/tls with tls.crt and tls.key."
first_broken:
  description: The first broken hop, as in RV(hops). Null where none is.
  returned: always
  type: dict
  sample: null
tree:
  description: All of it as lines for people.
  returned: always
  type: list
  elements: str
  sample: ["shop/shop: https://shop.example.com/"]
probes:
  description: The requests that were sent, with status and headers, the certificates' chain, or the first bytes of TCP.
  returned: always
  type: list
  elements: dict
  sample: [{place: vip, at: 192.0.2.100, address: "192.0.2.100:443", status: 200}]
readings:
  description:
    - What the request meets in each gateway pod's Envoy, each part with the object that it comes from.
  returned: always
  type: list
  elements: dict
  contains:
    pod: {description: The gateway pod's name., type: str}
    bootstrap: {description: "Who the proxy is to istiod, of which version, and which istiod it asks.", type: dict}
    listeners: {description: "The listener, its filter chain, and the Gateways.", type: list, elements: dict}
    routes: {description: "The routes of the virtual host, with C(taken) at the one taken.", type: list, elements: dict}
    clusters: {description: "The clusters that the route leads to, and their Services.", type: list, elements: dict}
    endpoints: {description: "These clusters' endpoints, their health, and their pods.", type: list, elements: dict}
    secrets: {description: "Certificates of the filter chain. Keys are never read.", type: list, elements: dict}
  sample:
    - pod: istio-ingressgateway-6d5f7c9b4-x2x9k
      bootstrap:
        node: router~10.244.1.7~istio-ingressgateway-6d5f7c9b4-x2x9k.istio-system~istio-system.svc.cluster.local
        istio_version: 1.30.2
        discovery_address: istiod.istio-system.svc:15012
        object: Pod istio-system/istio-ingressgateway-6d5f7c9b4-x2x9k
      listeners:
        - name: 0.0.0.0_8443
          address: 0.0.0.0
          port: 8443
          filter_chain:
            server_names: [shop.example.com]
            protocol: http
            ends_tls: true
            route_config: https.443.https.shop.istio-system
            policies: []
          objects: [Gateway istio-system/edgeway-shop]
      routes:
        - route_config: https.443.https.shop.istio-system
          virtual_host: shop.example.com:443
          domains: [shop.example.com]
          match: {prefix: /}
          clusters: [{name: outbound|8080||shop.shop.svc.cluster.local, weight: 100}]
          taken: true
          object: VirtualService shop/edgeway-shop
      clusters:
        - name: outbound|8080||shop.shop.svc.cluster.local
          type: EDS
          transport: ""
          connect_timeout: 3s
          object: DestinationRule istio-system/edgeway-shop
          services: [Service shop/shop]
      endpoints:
        - cluster: outbound|8080||shop.shop.svc.cluster.local
          address: 10.244.2.4:8080
          health: HEALTHY
          problems: []
          object: Pod shop/shop-5b8b7c8d9-7kq2m
      secrets:
        - name: kubernetes://shop-cert
          certificates:
            - subject: CN=shop.example.com
              issuer: CN=Example CA
              names: [shop.example.com]
              not_before: "2026-01-01T00:00:00+00:00"
              not_after: "2027-01-01T00:00:00+00:00"
          object: Secret istio-system/shop-cert
"""

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError, connect
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking, _shown
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC

ARGUMENTS = {
    **AUTH_ARG_SPEC,
    "url": {},
    "exposure": {},
    **{name: _arguments.EXPOSURES[name] for name in ("exposures", "api", "gateway", "set")},
    "vips": {"type": "list", "elements": "str", "default": []},
    "gateways": {"type": "list", "elements": "dict", "default": []},
    "edges": {"type": "dict"},
    "dns": {"type": "bool", "default": True},
    "nameservers": {"type": "list", "elements": "str", "default": []},
    "probe": {"type": "bool", "default": True},
    "authorities": {"type": "path", "default": ""},
    "timeout": {"type": "float", "default": 2.0},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_one_of=[("url", "exposure")],
        mutually_exclusive=[("url", "exposure")],
    )
    params = module.params
    module.no_log_values -= _arguments.plain_values(params["kubeconfig"])
    edges = params["edges"]
    options = _looking.Options(
        edges=None if edges is None else tuple(_facts.edge(name, given or {}) for name, given in edges.items()),
        nameservers=tuple(params["nameservers"]),
        authorities=params["authorities"],
        **{name: params[name] for name in ("dns", "probe", "timeout")},
    )
    try:
        cluster = connect(params)
        services = _looking.services(cluster)
        target = _facts.chosen(
            params["url"],
            params["exposure"],
            params["exposures"],
            api=params["api"],
            gateway=params["gateway"],
            set_name=params["set"],
            services=services or (),
        )
        vips = tuple(params["vips"]) or _facts.vips_of(params["gateways"], target)
        facts = _looking.look(cluster, target, replace(options, vips=vips), services)
    except ModelError as error:
        module.fail_json(msg=str(error), problems=[_arguments.problem(problem) for problem in error.problems])
    except (_facts.TargetError, ClusterError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **_shown.result(facts))


if __name__ == "__main__":
    main()
