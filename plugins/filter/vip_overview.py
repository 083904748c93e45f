# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vip_overview: see vip_overview.yml beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.edges import _keepalived


def vip_overview(
    hostvars: Mapping[str, Mapping[str, Any]], edges: Sequence[str], variable: str, leaving: str = ""
) -> dict[str, Any]:
    """Give what all edges say together as plain data."""
    found = {name: hostvars[name].get(variable) for name in edges}
    answers = {name: facts if facts and "vips" in facts else None for name, facts in found.items()}
    return {
        **dataclasses.asdict(_keepalived.overview(answers)),
        "refusal": _keepalived.may_leave(answers, leaving) if leaving else "",
    }


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"vip_overview": vip_overview}
