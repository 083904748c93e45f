"""A backup loses its power and comes back: nobody notices."""

from collections.abc import Iterator

import pytest
from integration.vip import faults, suite
from outside.lab import Lab


@pytest.fixture(autouse=True)
def back(lab: Lab) -> Iterator[None]:
    """The machine is a node again before anything else runs."""
    yield
    suite.wait_until_well(lab)


def test_the_vip_stays(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "peer-rebooted", faults.peer_rebooted)
    assert (result.none, result.several) == (0, 0)
    assert result.before == result.fault.holder == result.healing.holder
    assert result.lasting == "lived"
