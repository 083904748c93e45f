"""LVS is refused where the kernel has no IPVS; what would be written passes keepalived's own test."""

from typing import Any

from outside.lab import BOXES, Lab
from outside.runs import playbook


def nodes(port: int) -> list[dict[str, Any]]:
    return [{"name": f"node{number}", "address": f"10.77.0.1{number}", "port": port} for number in (1, 2)]


def test_refused_without_ipvs(lab: Lab) -> None:
    before = lab.host("box1").check_output("sha256sum /etc/keepalived/keepalived.conf")
    ended = playbook("playbooks/vip.yml", inventory=BOXES, check=False, edgeway_forwarding="lvs")
    assert ended.status != 0
    assert "no module ip_vs" in ended.line
    assert lab.host("box1").check_output("sha256sum /etc/keepalived/keepalived.conf") == before


def test_keepalived_takes_what_is_rendered(lab: Lab) -> None:
    servers = [
        {"name": "http2", "port": 80, "servers": nodes(80), "check_port": 32000},
        {"name": "tcp", "port": 65532, "servers": nodes(65532), "check_port": 0},
    ]
    playbook("molecule/boxes/lvs.yml", inventory=BOXES, lvs_servers=servers)
    written = lab.host("box1").check_output("cat /run/lvs.conf")
    assert f"virtual_server {lab.vip} 65532" in written
    assert written.count("real_server 10.77.0.12 80") == written.count("real_server 10.77.0.12 65532") == 1
    lab.host("box1").check_output("rm /run/lvs.conf")
