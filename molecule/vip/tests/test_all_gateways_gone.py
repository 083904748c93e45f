"""No edge can serve: the VIP stays, and answers when gateways are back."""

import pytest
from integration.vip import suite
from outside import clients
from outside.lab import Lab


def test_the_vip_is_somewhere_all_the_time(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "all-gateways-gone", suite.all_gateways_gone(lab), broken=8, mended=5)
    # Checks fail one edge after the other, and come back so: the VIP may be handed over, and is never dropped
    assert result.none < suite.ADVERT
    assert result.lost > 0, "without gateways nothing can answer"
    assert result.healing.settled is not None
    assert clients.http_get(lab.vip, "any.example", "/healthz/ready", port=15021).status == 200
