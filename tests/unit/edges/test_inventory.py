"""What playbooks make of an inventory before they touch an edge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp
from unit import plays

EDGES = {"edges": {"hosts": {"edge-a": {"ansible_host": "127.0.0.1", "ansible_connection": "local"}}}}
EDGES["edges"]["vars"] = {"ansible_python_interpreter": sys.executable}


def run(folder: Path, playbook: str, *options: str, **variables: Any) -> str:
    """What a playbook says that must fail, as one line; `variables` are the inventory's."""
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all.yml").write_text(json.dumps({"edgeway_vip": "192.0.2.100", **variables}))
    (folder / "hosts.yml").write_text(json.dumps(EDGES))
    ended = plays.collection(playbook, *options, inventory=str(folder))
    said = ended.stdout + ended.stderr
    assert ended.returncode, said
    return " ".join(said.split())


def test_vips_are_addresses_or_maps() -> None:
    mapped = {"address": "192.0.2.101/24", "interface": "bond0"}
    assert _vrrp.entries("192.0.2.100") == [{"address": "192.0.2.100"}]
    assert _vrrp.entries(["192.0.2.100", mapped]) == [{"address": "192.0.2.100"}, mapped]
    assert _vrrp.addresses(["192.0.2.100", mapped, {"interface": "bond0"}]) == ["192.0.2.100", "192.0.2.101", ""]
    assert _vrrp.entries([]) == _vrrp.addresses([]) == []


@pytest.mark.parametrize("playbook", ["vip", "expose"])
def test_without_localhost_an_edge_is_left_alone(tmp_path: Path, playbook: str) -> None:
    said = run(tmp_path, playbook, "--limit", "edge-a", edgeway_forwarding="haproxy")
    assert "Say --limit localhost,edge-a" in said


@pytest.mark.parametrize(
    ("playbook", "name"),
    [("site", "keepalived_vips"), ("site", "keepalived_checks"), ("site", "haproxy_health_port")],
)
def test_what_the_playbooks_work_out_is_refused(tmp_path: Path, playbook: str, name: str) -> None:
    said = run(tmp_path, playbook, "--limit", "edge-a", **{name: ["something"]})
    assert f"{name}: set in the inventory" in said


@pytest.mark.parametrize("name", ["exposures_list", "gateway_ports_vips", "istio_edges"])
@pytest.mark.parametrize("playbook", ["expose", "istio"])
def test_also_where_no_edge_takes_part(tmp_path: Path, playbook: str, name: str) -> None:
    assert f"{name}: set in the inventory" in run(tmp_path, playbook, **{name: ["something"]})


def test_a_value_of_the_command_line_is_taken(tmp_path: Path) -> None:
    given = ["--extra-vars", json.dumps({"keepalived_vips": [{"address": "192.0.2.7"}]})]
    said = run(tmp_path, "site", "--limit", "edge-a", *given)
    assert "keepalived_vips: set in the inventory" not in said
    # It went on; this machine is no edge
    assert "Read the edge" in said
