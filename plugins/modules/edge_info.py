#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module edge_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_info
short_description: What an edge holds, and what keepalived needs to know of it
version_added: 0.1.0
author: Contributors to the edgeway.istio project (!UNKNOWN)
description:
  - Reads an edge's interfaces and addresses, whether keepalived and a configuration of it are there, and, with
    O(state=true), what a running keepalived says of its virtual routers and checks.
  - Changes nothing. Runs on the edge itself, as root.
options:
  state:
    description: Whether to ask the running keepalived for its state, by SIGUSR1.
    type: bool
    default: false
  config:
    description: Path of keepalived's configuration.
    type: path
    default: /etc/keepalived/keepalived.conf
  mark:
    description: Text that stands in a configuration written by the role.
    type: str
    default: Written by the role edgeway.istio.keepalived
  packages:
    description: Names of packages to look for.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Reads only, so check mode is the same.
    support: full
  diff_mode:
    description: Reads only.
    support: none
"""

EXAMPLES = r"""
- name: See what this edge holds
  edgeway.istio.edge_info:
    state: true
  register: edge

- name: Stop if it holds a VIP
  ansible.builtin.assert:
    that: edge.vips | selectattr('held') | length == 0
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
missing:
  description: Those of O(packages) that aren't installed, as dpkg or rpm says; all of them where neither is there.
  returned: always
  type: list
  elements: str
  sample: []
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
configured:
  description: The VIPs of a configuration that the role wrote.
  returned: always
  type: list
  elements: str
  sample: [192.0.2.100]
ipvs:
  description: Whether the kernel has IPVS, or a module for it.
  returned: always
  type: bool
  sample: false
guard:
  description: Whether the role's guard is installed.
  returned: always
  type: bool
  sample: true
drained:
  description: Whether the edge is drained.
  returned: always
  type: bool
  sample: false
now:
  description: The edge's clock, in seconds since 1970.
  returned: always
  type: float
  sample: 1795268200.5
vips:
  description:
    - The VIPs of the configuration. V(held) is what the kernel says; the rest, and since when in seconds since 1970,
      is what keepalived says.
  returned: O(state=true)
  type: list
  elements: dict
  sample: [{name: 192.0.2.100, address: 192.0.2.100, held: true, state: MASTER, since: 1795268109.9, priority: 254}]
checks:
  description: The checks, each V(passed), V(failed) or V(unknown).
  returned: O(state=true)
  type: dict
  sample: {gateway: passed}
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _keepalived

DRAINED = Path("/var/lib/keepalived-vip/drained")
GUARD = Path("/etc/systemd/system/keepalived-guard.service")


def _config(path: str, mark: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    if not text.strip():
        return {"config": "none", "configured": []}
    if mark not in text:
        return {"config": "foreign", "configured": []}
    return {"config": "ours", "configured": list(_keepalived.configured_vips(text))}


def _ipvs(module: AnsibleModule) -> bool:
    if Path("/proc/net/ip_vs").exists():
        return True
    modprobe = module.get_bin_path("modprobe")
    return bool(modprobe) and module.run_command([modprobe, "--dry-run", "ip_vs"])[0] == 0


def _missing(module: AnsibleModule, packages: list[str]) -> list[str]:
    dpkg, rpm = module.get_bin_path("dpkg-query"), module.get_bin_path("rpm")
    if dpkg:
        asked = [dpkg, "--show", "--showformat=${db:Status-Status} ${Package}\\n", *packages]
        _code, shown, _errors = module.run_command(asked)
        return [name for name in packages if f"installed {name}" not in shown.splitlines()]
    if rpm:
        return [name for name in packages if module.run_command([rpm, "--query", "--quiet", name])[0]]
    return packages


def _drained() -> bool:
    try:
        return DRAINED.read_text(encoding="ascii").strip() not in ("", "0")
    except OSError:
        return False


def _dump(pid: int) -> str:
    """Have keepalived write its state and read it, through its own view of /tmp. Empty if it doesn't in a second."""
    path = Path(f"/proc/{pid}/root/tmp/keepalived.data")
    try:
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        for _number in range(50):
            time.sleep(0.02)
            if path.exists() and _keepalived.complete(path.read_text(encoding="utf-8", errors="replace")):
                # The interfaces' section is the last but grows for a moment
                time.sleep(0.02)
                return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return ""


def _vips(state: _keepalived.State, links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    held = _keepalived.addresses(links)
    return [
        {
            "name": router.name,
            "address": router.address.split("/")[0],
            "held": router.address.split("/")[0] in held,
            "state": router.state,
            "since": router.since,
            "priority": router.priority,
        }
        for router in state.routers
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "bool", "default": False},
            "config": {"type": "path", "default": "/etc/keepalived/keepalived.conf"},
            "mark": {"type": "str", "default": "Written by the role edgeway.istio.keepalived"},
            "packages": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    systemctl = module.get_bin_path("systemctl", required=True)
    _code, shown, _errors = module.run_command(
        [systemctl, "show", "--property=ActiveState,MainPID", "keepalived.service"], check_rc=True
    )
    unit = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    pid = int(unit.get("MainPID", "0"))
    text = _dump(pid) if module.params["state"] and pid else ""
    ip = module.get_bin_path("ip", required=True)
    _code, shown, _errors = module.run_command([ip, "-json", "address", "show"], check_rc=True)
    links = json.loads(shown)
    result: dict[str, Any] = {
        "links": links,
        "keepalived": module.get_bin_path("keepalived") or "",
        "missing": _missing(module, module.params["packages"]),
        "running": unit.get("ActiveState") in ("active", "reloading"),
        **_config(module.params["config"], module.params["mark"]),
        "ipvs": _ipvs(module),
        "guard": GUARD.exists(),
        "drained": _drained(),
        "now": time.time(),
    }
    if module.params["state"]:
        state = _keepalived.parse(text)
        result |= {"vips": _vips(state, links), "checks": state.checks}
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
