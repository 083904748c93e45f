# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of one request, hop by hop, each ok, broken or unknown with its evidence. Pure: facts in, hops out.

The order is the request's own, from the name to the pod behind the gateway; real requests come last, from the inside
out. A hop is broken for its own reasons only: what follows from an earlier one is unknown, or says so. `unknown` is
what may not be read or wasn't asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.edgeway.istio.plugins.module_utils.trace import _answers, _gateway_service, _inside, _outside
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Facts
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, HOPS, Hop


def trace(facts: Facts) -> list[Hop]:
    """Return every hop, in order."""
    service = _gateway_service.service_hop(facts)
    found = [_outside.dns_hop(facts), _outside.vip_hop(facts), _outside.route_hop(facts, service)]
    found += [service, _gateway_service.kube_proxy_hop(facts)]
    found += _inside.pod_hops(facts)
    found += _answers.request_hops(facts)
    return sorted(found, key=lambda hop: list(HOPS).index(hop.name))


def first_broken(hops: Sequence[Hop]) -> Hop | None:
    return next((hop for hop in hops if hop.state == BROKEN), None)


def answers(facts: Facts) -> bool | None:
    """Whether a client gets an answer through the VIP now; None where that wasn't tried."""
    probe = facts.probe("vip")
    if probe is None:
        return None
    return False if _answers.complaint(facts, probe) else None if facts.target.unasked else True
