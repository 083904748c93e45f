"""A configuration with an error is neither written nor loaded."""

from collections.abc import Sequence

import pytest
from integration.vip import faults, suite
from integration.vip.machines import Machine
from outside.lab import Lab
from outside.runs import playbook

CONFIG = "/etc/keepalived/keepalived.conf"


def test_the_role_refuses_to_write_it(lab: Lab) -> None:
    edge = suite.machines(lab)[0]
    before = edge.run("sha256sum", CONFIG)
    ended = playbook(
        "playbooks/vip.yml", "--limit", f"localhost,{edge.name}", check=False, keepalived_advert_interval=0.001
    )
    assert ended.status != 0
    assert "not written, and all other files are as they were" in ended.line
    assert edge.run("sha256sum", CONFIG) == before


def broken_by_hand(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
    holder.run("cp", CONFIG, f"{CONFIG}.kept")
    holder.run("sed", "--in-place", "s/virtual_router_id .*/virtual_router_id none/", CONFIG)
    with pytest.raises(RuntimeError, match="failed"):
        holder.run("systemctl", "reload", "keepalived.service")

    def mend() -> None:
        holder.run("mv", f"{CONFIG}.kept", CONFIG)
        holder.run("systemctl", "reload", "keepalived.service")

    return mend


def test_keepalived_refuses_to_load_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "config-broken", broken_by_hand)
    assert (result.none, result.several, result.lost) == (0, 0, 0)
    assert result.before == result.fault.holder == result.healing.holder
