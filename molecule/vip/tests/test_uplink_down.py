"""A check of the user's own fails on the holder, then on every edge."""

from collections.abc import Iterator, Sequence

import pytest
from integration.vip import faults, suite
from integration.vip.machines import Machine
from outside.lab import Lab
from outside.runs import playbook

DOWN = "/run/uplink-is-down"
CHECKS = [{"name": "uplink", "command": f"test ! -e {DOWN}"}]


@pytest.fixture(autouse=True)
def checked(lab: Lab) -> Iterator[None]:
    """Every edge has the check; it and what it looks for are gone at the end."""
    playbook("playbooks/vip.yml", edgeway_checks=CHECKS)
    yield
    for machine in suite.machines(lab):
        machine.run("rm", "--force", DOWN)
    playbook("playbooks/vip.yml")
    suite.ready(lab, suite.machines(lab))
    assert len(lab.holders()) == 1


def down(*broken: Machine) -> faults.Mend:
    for machine in broken:
        machine.run("touch", DOWN)

    def mend() -> None:
        for machine in broken:
            machine.run("rm", "--force", DOWN)

    return mend


def of_the_holder(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
    return down(holder)


def of_all(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
    return down(holder, *others)


def test_another_edge_takes_the_vip_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "uplink-down", of_the_holder, rate=200, broken=4)
    suite.settled(result, within=3 * suite.SETTLED)
    assert result.fault.holder != result.before
    assert result.lost == 0, "the edge still serves when it hands over"


def test_where_all_fail_one_edge_still_holds_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """It may move once, as the checks don't fail at the same moment."""
    result = suite.run(lab, capsys, "uplinks-down", of_all, rate=200, broken=5)
    suite.settled(result, within=3 * suite.SETTLED)
    assert result.none < suite.ADVERT
    assert result.lost == 0
