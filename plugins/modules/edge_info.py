#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module edge_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_info
short_description: What keepalived needs to know of an edge
version_added: 0.1.0
author: Contributors to the edgeway.istio project
description:
  - Reads an edge's interfaces and addresses, and whether keepalived and a configuration of it are there.
  - Changes nothing. Runs on the edge itself, as root.
options:
  config:
    description: Path of keepalived's configuration.
    type: path
    default: /etc/keepalived/keepalived.conf
  mark:
    description: Text that stands in a configuration written by the role.
    type: str
    default: Written by the role edgeway.istio.keepalived
attributes:
  check_mode:
    description: Reads only, so check mode is the same.
    support: full
  diff_mode:
    description: Reads only.
    support: none
"""

EXAMPLES = r"""
- name: Read the edge's addresses
  edgeway.istio.edge_info:
  register: edge
"""

RETURN = r"""
links:
  description: Interfaces with their addresses, as C(ip -json address show) prints them.
  returned: always
  type: list
  elements: dict
  sample: [{ifname: eth0, addr_info: [{family: inet, local: 192.0.2.11, prefixlen: 24}]}]
keepalived:
  description: Path of keepalived, empty when it isn't installed.
  returned: always
  type: str
  sample: /usr/sbin/keepalived
running:
  description: Whether keepalived runs.
  returned: always
  type: bool
  sample: true
config:
  description: Whose configuration is there, V(none), V(ours) or V(foreign).
  returned: always
  type: str
  sample: ours
guard:
  description: Whether the role's guard is installed.
  returned: always
  type: bool
  sample: true
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def _config(path: str, mark: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "none"
    if not text.strip():
        return "none"
    return "ours" if mark in text else "foreign"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "default": "/etc/keepalived/keepalived.conf"},
            "mark": {"type": "str", "default": "Written by the role edgeway.istio.keepalived"},
        },
        supports_check_mode=True,
    )
    ip = module.get_bin_path("ip", required=True)
    _, links, _ = module.run_command([ip, "-json", "address", "show"], check_rc=True)
    systemctl = module.get_bin_path("systemctl", required=True)
    stopped, _, _ = module.run_command([systemctl, "is-active", "--quiet", "keepalived.service"])
    module.exit_json(
        changed=False,
        links=json.loads(links),
        keepalived=module.get_bin_path("keepalived") or "",
        running=stopped == 0,
        config=_config(module.params["config"], module.params["mark"]),
        guard=Path("/etc/systemd/system/keepalived-guard.service").exists(),
    )


if __name__ == "__main__":
    main()
