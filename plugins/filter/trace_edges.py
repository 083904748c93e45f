# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter trace_edges: see trace_edges.yml beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def trace_edges(hostvars: Mapping[str, Mapping[str, Any]], edges: Sequence[str], variable: str) -> dict[str, Any]:
    """Put together what was registered on each edge, with its names."""
    return {
        str(name): {
            "node": str(hostvars[name].get("edgeway_node_name") or name),
            "address": str(hostvars[name].get("ansible_host") or name),
            "facts": hostvars[name].get(variable) if "links" in (hostvars[name].get(variable) or {}) else None,
        }
        for name in edges
    }


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"trace_edges": trace_edges}
