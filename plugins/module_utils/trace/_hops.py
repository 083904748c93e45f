# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trace says: the hops of one request, in order, and the state of each."""

from __future__ import annotations

from dataclasses import dataclass

OK, BROKEN, UNKNOWN = "ok", "broken", "unknown"

HOPS = {
    "dns": "DNS",
    "vip": "VIP",
    "route": "Route to the VIP",
    "service": "Gateway's Service",
    "kube_proxy": "kube-proxy",
    "pod": "Gateway pod",
    "sync": "In step with istiod",
    "listener": "Listener",
    "filter_chain": "Filter chain",
    "certificate": "Certificate",
    "virtual_host": "Virtual host",
    "route_match": "Route",
    "policy": "Policy",
    "cluster": "Cluster",
    "endpoints": "Endpoints",
    "backend": "Backend",
    "probe_pod": "Request at the pod",
    "probe_edge": "Request at the edge's nodePort",
    "probe_vip": "Request through the VIP",
}
"""Every hop with its name for people, in order."""

PER_POD = tuple(HOPS)[list(HOPS).index("pod") : list(HOPS).index("backend") + 1]


@dataclass(frozen=True, slots=True)
class Hop:
    """One step. `at` is the pod or edge where there are several, `objects` are named as `Kind namespace/name`."""

    name: str
    state: str
    evidence: tuple[str, ...] = ()
    cure: str = ""
    at: str = ""
    objects: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return HOPS[self.name]
