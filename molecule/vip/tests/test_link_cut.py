"""The holder's cable is pulled, and plugged in again."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


def test_another_edge_takes_the_vip_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "link-cut", faults.link_cut)
    suite.settled(result)
    assert result.fault.holder != result.before
    assert 0 < result.longest_gap <= suite.FAILOVER
    assert result.none <= suite.FAILOVER
    assert result.healing.holder == result.fault.holder, "the VIP stays where it is when the edge comes back"
