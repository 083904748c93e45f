# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module exposures_info, in Ansible's own process where that is where it would run."""

from __future__ import annotations

from ansible_collections.edgeway.istio.plugins.module_utils import _arguments
from ansible_collections.edgeway.istio.plugins.module_utils.calls import _exposures_info
from ansible_collections.edgeway.istio.plugins.plugin_utils._in_process import InProcess


class ActionModule(InProcess):
    """Ansible's way to find the action."""

    spec = _arguments.EXPOSURES_INFO
    call = staticmethod(_exposures_info.call)
