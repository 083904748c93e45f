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


def test_what_a_broken_off_run_wrote_is_loaded_by_the_next(lab: Lab) -> None:
    """One edge refuses its file, which ends the run for all: the others' files are new, and what runs there is old."""
    refusing, *others = suite.machines(lab)

    def reloads() -> list[str]:
        return [edge.run("systemctl", "show", "--property=ExecReload", "keepalived.service") for edge in others]

    before = reloads()
    refusing.run("mount", "--bind", "/bin/false", "/usr/sbin/keepalived")
    try:
        assert playbook("playbooks/vip.yml", check=False, keepalived_garp_refresh=11).status != 0
    finally:
        refusing.run("umount", "/usr/sbin/keepalived")
    try:
        assert all("garp_master_refresh 11" in edge.run("cat", CONFIG) for edge in others)
        assert reloads() == before
        # As much as the run after it does
        would = playbook("playbooks/vip.yml", "--check", keepalived_garp_refresh=11).changed
        assert playbook("playbooks/vip.yml", keepalived_garp_refresh=11).changed == would
        assert all(now != then for now, then in zip(reloads(), before, strict=True))
        assert playbook("playbooks/vip.yml", keepalived_garp_refresh=11).changed == 0
    finally:
        playbook("playbooks/vip.yml")


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
