"""The holder's power is cut."""

from collections.abc import Iterator

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


@pytest.fixture(autouse=True)
def back(lab: Lab) -> Iterator[None]:
    """The machine is a node again before anything else runs."""
    yield
    suite.wait_until_well(lab)


def test_another_edge_takes_the_vip_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "node-lost", faults.node_lost, broken=5)
    suite.settled(result)
    assert result.fault.holder != result.before
    assert 0 < result.gap <= suite.FAILOVER
    # A whole machine starts on the cores that all of them share
    assert result.healing_gap <= suite.SETTLED
    assert result.healing.holder == result.fault.holder, "the VIP stays where it is when the edge comes back"
    returned = next(machine for machine in suite.machines(lab) if machine.name == result.before)
    said = returned.run("journalctl", "--unit=keepalived", "--no-pager")
    assert "Entering BACKUP STATE (init)" in said
    assert "Entering MASTER STATE" not in said, "it took the VIP for a moment, as it heard no adverts"
