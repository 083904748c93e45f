# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_checks
short_description: Checks by which an edge asks whether ready gateway pods are on it
version_added: 0.1.0
description:
  - Makes an entry of C(keepalived_checks) for each gateway's Service that has a port for this question, which are those
    of type LoadBalancer with the traffic policy Local. kube-proxy answers there for the node's own pods.
positional: _input, address
options:
  _input:
    description: The gateways' Services as the API server has them.
    type: list
    elements: dict
    required: true
  address:
    description: The edge's address as a node. No checks are made for an edge that isn't a node.
    type: str
    required: true
author:
  - Contributors to the edgeway.istio project
"""

EXAMPLES = r"""
- name: Ask for the gateways on this edge
  ansible.builtin.set_fact:
    keepalived_checks: "{{ edgeway_services | edgeway.istio.gateway_checks('192.0.2.11') }}"
"""

RETURN = r"""
_value:
  description: The checks.
  type: list
  elements: dict
  sample:
    - name: istio-ingressgateway
      command: curl --silent --fail --max-time 1 --output /dev/null http://192.0.2.11:30123/healthz
"""

from ansible_collections.edgeway.istio.plugins.module_utils import _installed


class FilterModule:
    """The filter gateway_checks."""

    def filters(self) -> dict:
        return {"gateway_checks": _installed.checks}
