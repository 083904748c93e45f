"""The holder's keepalived is frozen: it can't take its VIP away, the guard does."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


def test_the_frozen_edge_loses_the_vip(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "process-stopped", faults.process_stopped, broken=6)
    suite.settled(result, within=suite.SETTLED_FROZEN)
    assert result.fault.several > 0, "without two holders nothing was frozen"
    assert result.fault.holder != result.before
    assert result.healing.holder == result.fault.holder, "the VIP stays where it is when the edge thaws"
