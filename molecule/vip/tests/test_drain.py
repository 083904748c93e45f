"""A planned handover by drain.yml, and back."""

import pytest
from integration.vip import suite
from outside.lab import Lab
from outside.runs import playbook


def test_nothing_is_lost(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (holder,) = lab.holders()
    result = suite.run(
        lab,
        capsys,
        "drain",
        suite.played(
            lambda: playbook("playbooks/drain.yml", edge=holder),
            back=[lambda: playbook("playbooks/drain.yml", edge=holder, state="active")],
        ),
        rate=200,
        broken=6,
    )
    suite.settled(result, within=30_000)
    assert result.sent >= 2000
    assert result.lost == 0
    assert result.none < suite.ADVERT
    assert result.fault.holder not in ("", holder)
    assert result.healing.holder == result.fault.holder, "the VIP stays when the edge may hold it again"


def test_in_check_mode_nothing_moves(lab: Lab) -> None:
    (holder,) = lab.holders()
    assert playbook("playbooks/drain.yml", "--check", edge=holder).changed == 1
    assert lab.holders() == [holder]


def test_the_last_edge_that_can_serve_is_not_drained(lab: Lab) -> None:
    first, second, last = lab.edges
    try:
        playbook("playbooks/drain.yml", edge=first)
        playbook("playbooks/drain.yml", edge=second)
        refused = playbook("playbooks/drain.yml", check=False, edge=last)
        assert refused.status != 0
        assert "No other edge could serve" in refused.line
        assert lab.holders() == [last]
    finally:
        playbook("playbooks/drain.yml", edge=first, state="active")
        playbook("playbooks/drain.yml", edge=second, state="active")
