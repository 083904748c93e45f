#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exposures
short_description: Publish services through an Istio ingress gateway
version_added: 0.1.0
description:
  - Publishes a list of services over HTTP, HTTPS, TLS passthrough and TCP, through Istio's own API or the Gateway API.
  - The whole list is one change. Every object is compared with the cluster and tried by a server-side dry run before
    the first one is written; if a write fails, what was written is put back.
  - Ports that the list needs on the gateway's Service are owned through server-side apply, so that installing Istio
    again keeps them.
  - Runs on the control machine, with the Python package C(kubernetes).
options:
  state:
    description:
      - With V(present) the cluster holds what the list says.
      - With V(absent) everything that the set has made is removed, and its ports are given up.
      - With V(rendered) the objects are returned, and kept as files in O(path). Neither a cluster nor the Python
        package is needed.
      - With V(examined) everything is read and nothing written or tried, so that no right to write is needed.
        RV(findings) is returned however bad it is.
    type: str
    choices: [present, absent, rendered, examined]
    default: present
  prune:
    description:
      - Whether objects of the set that the list doesn't ask for any more are deleted.
      - O(state=absent) deletes them whatever is said here.
    type: bool
    default: true
  validate:
    description:
      - Whether findings are looked for, and every write is tried on the server, before anything is written.
      - Without it a refused write shows when it is its turn; what was written before is put back all the same.
    type: bool
    default: true
  strict:
    description: Whether findings that warn stop the run, as errors do.
    type: bool
    default: false
  silence:
    description: Findings that are known and no harm here. They stop nothing, and are returned with the reason.
    type: list
    elements: dict
    default: []
    suboptions:
      code:
        description: The finding's code.
        type: str
        required: true
      reason:
        description: Why it is no harm.
        type: str
        required: true
  edges:
    description:
      - The names of the nodes that may hold the VIP. With C(externalTrafficPolicy) C(Local) each of them needs a pod of
        the gateway; which one has none is a finding.
    type: list
    elements: str
    default: []
  force:
    description: Whether fields that another field manager owns are taken over. Otherwise they are an error.
    type: bool
    default: false
  wait:
    description:
      - Whether to wait until every gateway pod has the new configuration, as the pod's own Envoy says. Needs C(create)
        on C(pods/portforward) in the gateway's namespace; without this right it is unknown, and a warning.
      - When O(wait_timeout) passes, the module fails and names the pods that lag behind. What was written stays.
    type: bool
    default: true
  wait_timeout:
    description: How long to wait, in seconds.
    type: int
    default: 120
  before_istio:
    description:
      - In check mode, whether Istio, its gateway and the Gateway API's definitions are installed before this is run to
        write. What waits for them alone is then no warning.
    type: bool
    default: false
  path:
    description:
      - With O(state=rendered), a folder that shall hold the objects, one file each, for a repository that something
        else applies. It is made where it is missing.
      - Files of this O(set) for what the list doesn't ask for any more are removed with O(prune). Other files are left
        alone; one of another set or somebody else's in the way is an error.
      - O(exposures[].tls.private_key) is refused, as it would stand there for everybody to read.
      - Ports of a gateway's Service are not among the objects; M(edgeway.istio.gateway_service) opens them.
    type: path
extends_documentation_fragment:
  - edgeway.istio.exposures
  - kubernetes.core.k8s_auth_options
  - edgeway.istio.cluster
attributes:
  check_mode:
    description: Changes nothing, and returns what would change as the server's dry run shows it.
    support: full
  diff_mode:
    description: Returns each object before and after, without what the server alone writes.
    support: full
requirements:
  - kubernetes >= 24.2.0, not for O(state=rendered)
author:
  - Contributors to the edgeway.istio project (!UNKNOWN)
seealso:
  - module: edgeway.istio.gateway_service
"""

EXAMPLES = r"""
- name: Publish a site, its HTTPS and a database
  edgeway.istio.exposures:
    exposures:
      - name: bookinfo
        namespace: bookinfo
        protocol: HTTP
        hostnames: [bookinfo.example]
        backend: {service: productpage, port: 9080}
      - name: shop
        namespace: shop
        protocol: HTTPS
        hostnames: [shop.example]
        tls: {secret: shop-cert}
        redirect_http: true
        backend: {service: shop, port: 80}
      - {name: mysql, namespace: db, protocol: TCP, port: 65532, backend: {service: mysql, port: 3306}}

- name: Look at the objects without a cluster
  edgeway.istio.exposures:
    exposures: "{{ edgeway_exposures }}"
    state: rendered
  register: rendered

- name: Keep the objects in a repository
  edgeway.istio.exposures:
    exposures: "{{ edgeway_exposures }}"
    state: rendered
    path: "{{ playbook_dir }}/manifests"

- name: Remove all that this list has made
  edgeway.istio.exposures:
    state: absent
"""

RETURN = r"""
manifests:
  description: All objects that the list asks for. What a Secret holds is hidden.
  returned: always
  type: list
  elements: dict
  sample:
    - apiVersion: networking.istio.io/v1
      kind: Gateway
      metadata: {name: bookinfo, namespace: bookinfo}
changes:
  description:
    - Every object of the set, and what was done to it. Ports on a Service that isn't ours are an update.
    - With O(state=rendered) what was done to its file, empty without O(path).
  returned: always
  type: list
  elements: dict
  contains:
    verb: {description: "V(create), V(update), V(delete) or V(unchanged).", type: str}
    api_version: {description: The object's apiVersion., type: str}
    kind: {description: The object's kind., type: str}
    namespace: {description: The object's namespace., type: str}
    name: {description: The object's name., type: str}
  sample:
    - {verb: create, api_version: networking.istio.io/v1, kind: VirtualService, namespace: bookinfo, name: bookinfo}
findings:
  description: What was found about the list and the cluster, the worst first.
  returned: always
  type: list
  elements: dict
  contains:
    code: {description: "What it is; docs/findings.md has an entry for each.", type: str}
    severity: {description: "V(error), V(warning) or V(unknown).", type: str}
    exposure: {description: "The exposure concerned, empty where it is somebody else's object.", type: str}
    field: {description: The field concerned., type: str}
    objects: {description: The objects concerned., type: list, elements: str}
    message: {description: The reason and the cure., type: str}
    reason: {description: What is wrong., type: str}
    cure: {description: What to do about it., type: str}
    silenced: {description: Why a user doesn't want to be told., type: str, returned: when it is silenced}
  sample:
    - code: backend-missing
      severity: warning
      exposure: shop
      field: exposures[1].backend.service
      objects: [Service shop/shop]
      message: There is no Service shop/shop. Create it, or correct the name.
      reason: There is no Service shop/shop.
      cure: Create it, or correct the name.
pods:
  description: The gateway pods that were seen to have the configuration. Empty when nothing had to be looked at.
  returned: always
  type: list
  elements: str
  sample: [istio-system/istio-ingressgateway-696b66f999-d7s49]
stale:
  description: What each gateway pod lacks that didn't take the configuration in time.
  returned: when O(wait_timeout) passed
  type: dict
  sample: {istio-system/istio-ingressgateway-696b66f999-d7s49: ["route shop-0-1f3a9c2b on port 8080"]}
endpoints:
  description: Where each exposure answers.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The exposure., type: str}
    namespace: {description: Its namespace., type: str}
    protocol: {description: Its protocol., type: str}
    port: {description: The port on the VIP., type: int}
    node_port: {description: The port on every node., type: int}
    service: {description: "Namespace and name of the Service in front of it, empty where there is none.", type: str}
    urls: {description: "For HTTP, HTTPS and TLS.", type: list, elements: str}
    addresses: {description: VIP and port., type: list, elements: str}
  sample:
    - name: bookinfo
      namespace: bookinfo
      protocol: HTTP
      port: 80
      node_port: 31380
      service: istio-system/istio-ingressgateway
      urls: ["http://bookinfo.example/"]
      addresses: ["10.77.0.100:80"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _calls
from ansible_collections.edgeway.istio.plugins.module_utils.calls import _exposures


def main() -> None:
    _calls.answer(AnsibleModule(argument_spec=_arguments.EXPOSURES, supports_check_mode=True), _exposures.call)


if __name__ == "__main__":
    main()
