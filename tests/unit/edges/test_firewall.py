"""The script that lets adverts in where ufw or firewalld runs, with both made up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "roles/keepalived/files/firewall.sh"
CONFIG = """
    unicast_peer {
        192.0.2.12 min_ttl 255 max_ttl 255
        192.0.2.13 min_ttl 255 max_ttl 255
    }
"""
UFW = """#!/bin/sh
case $1 in
status) echo "Status: $UFW" ;;
show) echo "Added user rules (see 'ufw status' for running firewall):"; cat "$RULES" ;;
*) echo "ufw $*" >>"$RULES" ;;
esac
"""
# A rule for each query that says yes: ZONE [--permanent] RULE
FIREWALL_CMD = """#!/bin/sh
[ "$1" = --quiet ] && shift
case "$*" in
--state) [ "$FIREWALLD" = running ] ;;
--get-zone-of-interface=eth1) echo dmz ;;
--get-zone-of-interface=*) echo "no zone"; exit 2 ;;
--get-default-zone) echo public ;;
--get-zones) echo dmz public ;;
*--query-rich-rule=*) grep -qxF -- "$(echo "$*" | sed s/--query-rich-rule=//)" "$RULES" ;;
*) echo success; echo "$*" >>"$RULES" ;;
esac
"""


class Machine:
    """A machine with one of the firewalls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rules = folder / "rules"
        self.config = folder / "keepalived.conf"
        self.rules.write_text("")
        for name, text in (("ufw", UFW), ("firewall-cmd", FIREWALL_CMD)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def run(self, *edges: str, ufw: str = "inactive", firewalld: str = "dead", dry: bool = False) -> list[str]:
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "RULES": str(self.rules),
            "UFW": ufw,
            "FIREWALLD": firewalld,
        }
        command = ["sh", str(SCRIPT), str(self.config), "yes" if dry else "no", *edges]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert ended.stderr == ""
        return ended.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_no_firewall_runs_nothing_is_done(machine: Machine) -> None:
    machine.config.write_text(CONFIG)
    assert machine.run("eth0=192.0.2.14") == []
    assert machine.rules.read_text() == ""


def test_ufw_lets_each_edge_in_once(machine: Machine) -> None:
    edges = ("eth0=192.0.2.12", "eth0=192.0.2.12", "eth0=2001:db8::1")
    expected = [f"ufw allow proto vrrp from {edge} comment keepalived-vip" for edge in ("192.0.2.12", "2001:db8::1")]
    assert machine.run(*edges, ufw="active", dry=True) == expected
    assert machine.rules.read_text() == ""
    assert machine.run(*edges, ufw="active") == expected
    # As ufw itself shows them
    machine.rules.write_text(
        "ufw allow from 192.0.2.12 proto vrrp comment 'keepalived-vip'\nufw allow from 2001:db8::1 proto vrrp\n"
    )
    assert machine.run(*edges, ufw="active") == []
    # The beginning of an address is another one
    (line,) = machine.run("eth0=192.0.2.1", ufw="active")
    assert " 192.0.2.1 " in line


def test_ufw_takes_back_what_was_ours(machine: Machine) -> None:
    machine.config.write_text(CONFIG)
    machine.rules.write_text(
        "ufw allow from 192.0.2.12 proto vrrp comment 'keepalived-vip'\nufw allow from 192.0.2.13 proto vrrp\n"
    )
    assert machine.run("eth0=192.0.2.12", ufw="active") == []
    assert machine.run(ufw="active") == ["ufw delete allow proto vrrp from 192.0.2.12"]


def test_firewalld_lets_an_edge_in_now_and_for_ever(machine: Machine) -> None:
    rule = 'rule priority="-112" family="ipv4" source address="192.0.2.12" protocol value="vrrp" accept'
    assert machine.run("eth0=192.0.2.12", firewalld="running") == [
        f"firewall-cmd --zone=public --add-rich-rule={rule}",
        f"firewall-cmd --zone=public --permanent --add-rich-rule={rule}",
    ]
    machine.rules.write_text(f"--zone=public {rule}\n--zone=dmz {rule}\n--zone=dmz --permanent {rule}\n")
    assert machine.run("eth0=192.0.2.12", firewalld="running", dry=True) == [
        f"firewall-cmd --zone=public --permanent --add-rich-rule={rule}"
    ]
    assert machine.run("eth1=192.0.2.12", firewalld="running") == []
    machine.config.write_text(CONFIG)
    assert machine.run("eth0=192.0.2.13", firewalld="running", dry=True)[2:] == [
        f"firewall-cmd --zone=dmz --remove-rich-rule={rule}",
        f"firewall-cmd --zone=dmz --permanent --remove-rich-rule={rule}",
        f"firewall-cmd --zone=public --remove-rich-rule={rule}",
    ]
    (line, _again) = machine.run("eth0=2001:db8::1", firewalld="running", dry=True)[:2]
    assert 'family="ipv6"' in line
