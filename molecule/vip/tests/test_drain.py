"""A planned handover by drain.yml, and back."""

import contextlib
from collections.abc import Sequence

import pytest
from integration.vip import faults, suite, trial
from integration.vip.machines import Machine
from outside import lab as lab_module
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


def test_a_second_handover_passes_on_what_the_second_edge_has(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The first edge has handed over a moment before, and knows nothing of it."""
    with contextlib.ExitStack() as stack:
        lasting = trial.Lasting(lab.vip, suite.READINESS.port, suite.READINESS.host, suite.READINESS.path)

        def twice(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
            back = [faults.drained(holder, others, vip)]
            names = [other.name for other in others]
            lab_module.wait_for("a second holder", lambda: lab.holders() in [[name] for name in names], seconds=5)
            (second,) = [other for other in others if [other.name] == lab.holders()]
            stack.enter_context(lasting)
            lab_module.wait_for("a connection to it", lambda: lasting.answers > 5, seconds=5)
            back.append(faults.drained(second, others, vip))

            def mend() -> None:
                for undo in back:
                    undo()

            return mend

        result = suite.run(lab, capsys, "drain-twice", twice, rate=200, broken=8)
        assert lasting.broken == ""
    assert result.fault.holder not in ("", result.before)
    assert result.lost == 0


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
