"""keepalived and the gateways are restarted, one edge after the other."""

import time
from collections.abc import Sequence

import pytest
from integration.vip import faults, suite
from integration.vip.machines import Machine
from outside.lab import Lab


def test_restarts_of_keepalived_lose_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lasted = []

    def keepalived_upgraded(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        """What a new package does: a restart of the service, on each edge in turn."""
        began = time.monotonic()
        for edge in (holder, *others):
            edge.run("systemctl", "restart", "keepalived.service")
        lasted.append(1000 * (time.monotonic() - began))
        return lambda: None

    result = suite.run(lab, capsys, "keepalived-upgraded", keepalived_upgraded, rate=200, mended=5)
    # The VIP moves once more with the last restart
    suite.settled(result, within=lasted[0] + suite.SETTLED)
    assert result.lost == 0
    assert result.sent >= 1000


def test_restarts_of_the_gateways_lose_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A pod that is about to stop says so on its readiness port at once, and serves on: clients ask a backend here."""
    restarted = suite.gateways_restarted(lab)
    result = suite.run(lab, capsys, "gateways-restarted", restarted, rate=200, mended=5, target=suite.BACKEND)
    assert result.lost == 0
    assert result.none < suite.ADVERT
    assert result.healing.settled is not None
