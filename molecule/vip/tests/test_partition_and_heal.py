"""Adverts of the holder don't reach the others: two holders, until it heals."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab, wait_for


def test_one_holder_after_the_healing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "partition", faults.partition)
    assert result.fault.several > 1000, "two are expected while the partition lasts"
    assert result.fault.none == 0
    assert result.healing.settled is not None
    assert result.healing.settled <= suite.SETTLED

    (holder,) = [machine for machine in suite.machines(lab) if machine.name == result.healing.holder]
    wait_for(
        "gratuitous ARP of the holder", lambda: suite.neighbour(lab.vip) == suite.mac(holder), seconds=3, every=0.1
    )
