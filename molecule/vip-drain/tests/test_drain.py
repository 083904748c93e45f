"""A planned handover by drain.yml, and back."""

import pytest
from integration.vip import suite
from outside.lab import Lab


def test_nothing_is_lost(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (holder,) = lab.holders()
    result = suite.run(
        lab,
        capsys,
        "drain",
        suite.played(
            lambda: suite.play("drain", edge=holder),
            back=[lambda: suite.play("drain", edge=holder, state="active")],
        ),
        rate=200,
        broken=6,
    )
    suite.settled(result, within=30_000)
    assert result.sent >= 2000
    assert result.lost == 0
    assert result.none == 0
    assert result.fault.holder not in ("", holder)
    assert result.healing.holder == result.fault.holder, "the VIP stays when the edge may hold it again"


def test_in_check_mode_nothing_moves(lab: Lab) -> None:
    (holder,) = lab.holders()
    said = suite.play("drain", "--check", edge=holder)
    assert "changed=1" in said
    assert lab.holders() == [holder]


def test_the_last_edge_that_can_serve_is_not_drained(lab: Lab) -> None:
    first, second, last = lab.edges
    try:
        suite.play("drain", edge=first)
        suite.play("drain", edge=second)
        with pytest.raises(RuntimeError, match="No other edge could serve"):
            suite.play("drain", edge=last)
        assert lab.holders() == [last]
    finally:
        suite.play("drain", edge=first, state="active")
        suite.play("drain", edge=second, state="active")
