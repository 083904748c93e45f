"""Somebody deletes the VIP from the holder's interface."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


def test_the_vip_comes_back(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "address-removed", faults.address_removed)
    suite.settled(result)
    assert result.none <= suite.FAILOVER
    assert result.longest_gap <= suite.FAILOVER
