"""An edge leaves: the others are told, and the VIP is answered all the time."""

import pathlib
from collections.abc import Iterator

import pytest
from integration.vip import suite
from outside.lab import Lab
from outside.runs import playbook

ADDED_AND_REMOVED = -1  # the last edge in order


@pytest.fixture
def without(lab: Lab) -> Iterator[pathlib.Path]:
    yield from suite.fewer_edges(lab, lab.edges[ADDED_AND_REMOVED])


def test_the_vip_stays_when_a_backup_leaves_and_comes_back(
    lab: Lab, without: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaving = lab.edges[ADDED_AND_REMOVED]
    if lab.holders() == [leaving]:
        playbook("playbooks/drain.yml", edge=leaving)
        playbook("playbooks/drain.yml", edge=leaving, state="active")
    result = suite.run(
        lab,
        capsys,
        "edge-removed",
        suite.played(
            lambda: playbook("playbooks/vip.yml", "--limit", f"localhost,{leaving}", keepalived_state="absent"),
            lambda: playbook("playbooks/vip.yml", inventory=without),
            back=[lambda: playbook("playbooks/vip.yml")],
        ),
    )
    assert (result.none, result.several, result.lost) == (0, 0, 0)
    assert result.before == result.fault.holder == result.healing.holder
    assert result.lasting == "lived"


def test_nothing_is_lost_when_the_holder_leaves(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (leaving,) = lab.holders()
    result = suite.run(
        lab,
        capsys,
        "holder-removed",
        suite.played(
            lambda: playbook("playbooks/vip.yml", "--limit", f"localhost,{leaving}", keepalived_state="absent"),
            back=[lambda: playbook("playbooks/vip.yml")],
        ),
    )
    assert result.lost == 0
    assert result.fault.holder not in ("", leaving)
    assert result.healing.holder == result.fault.holder, "the VIP stays where it is when the edge comes back"
