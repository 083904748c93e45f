"""Everything is reached through haproxy on the boxes, also when a box or a gateway is lost."""

from typing import Any

import pytest
from integration.vip import faults, suite
from outside import answers
from outside.lab import BOXES, Lab, accepts
from outside.runs import Ended, playbook


def test_every_exposure_answers(lab: Lab) -> None:
    assert [each for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
    assert set(lab.holders()) < {"box1", "box2"}


def test_a_new_port_is_forwarded_at_once(lab: Lab) -> None:
    port, backend = 65531, {"service": "mysql", "port": 3306}
    more = {"name": "second", "namespace": "db", "protocol": "TCP", "port": port, "backend": backend}

    def expose(**variables: Any) -> Ended:
        variables["exposures_set"] = "boxes"
        return playbook("playbooks/expose.yml", inventory=BOXES, edgeway_exposures=[more], **variables)

    try:
        expose()
        lab.opens(lab.vip, port)
        assert answers.ask(lab, more).good
        assert expose().changed == 0
    finally:
        expose(exposures_state="absent")
    assert not accepts(lab.vip, port)


def test_the_other_box_takes_the_vip_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "box's link cut", faults.link_cut, target=suite.BACKEND)
    suite.settled(result)
    assert result.fault.holder != result.before
    assert 0 < result.longest_gap <= suite.FAILOVER


def test_haproxy_stopped(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = suite.run(lab, capsys, "haproxy-stopped", faults.haproxy_stopped, target=suite.BACKEND, broken=4)
    suite.settled(result)
    assert result.fault.holder != result.before
    assert result.longest_gap <= suite.SETTLED


def test_a_gateway_gone_costs_no_failover(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """haproxy notices, and takes the next node."""
    result = suite.run(lab, capsys, "gateway-gone", suite.gateway_gone(lab), target=suite.BACKEND, broken=4)
    assert result.before == result.healing.holder
    assert result.none == 0
    assert result.longest_gap <= suite.SETTLED
