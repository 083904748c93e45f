# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vip_entries: see vip_entries.yml beside it."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"vip_entries": _vrrp.entries}
