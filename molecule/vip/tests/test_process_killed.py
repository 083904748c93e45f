"""kill -9 of the holder's keepalived, of all of it and of its main process alone."""

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


@pytest.mark.parametrize("name", ["process-killed", "main-process-killed"])
def test_one_edge_has_the_vip_afterwards(lab: Lab, capsys: pytest.CaptureFixture[str], name: str) -> None:
    result = suite.run(lab, capsys, name, faults.FAULTS[name])
    suite.settled(result)
    assert result.none <= suite.FAILOVER
    assert result.longest_gap <= suite.FAILOVER
