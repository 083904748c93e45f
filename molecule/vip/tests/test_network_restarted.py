"""The holder's network is restarted, which takes foreign addresses away."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


def test_the_vip_comes_back(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "network-restarted", faults.network_restarted)
    suite.settled(result)
    assert result.none <= suite.FAILOVER
    assert result.longest_gap <= suite.FAILOVER
