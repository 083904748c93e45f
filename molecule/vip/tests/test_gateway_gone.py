"""The holder's gateway pod is killed."""

import pytest
from integration.vip import suite
from outside.lab import Lab


def test_an_edge_with_a_gateway_takes_the_vip_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "gateway-gone", suite.gateway_gone(lab), broken=4)
    suite.settled(result)
    assert result.fault.holder != result.before
    assert result.longest_gap <= suite.SETTLED
    assert result.none < suite.ADVERT, "the VIP is handed over, not dropped"
