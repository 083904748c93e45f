"""With preempt, the preferred edge takes the VIP back, once it has been up for the delay."""

import time
from collections.abc import Iterator

import pytest
from integration.vip import suite
from integration.vip.suite import READINESS
from integration.vip.watch import Watch
from outside.lab import Lab, wait_for
from outside.runs import playbook
from outside.stream import Stream, http_attempt

DELAY = 5


@pytest.fixture(autouse=True)
def preempting(lab: Lab) -> Iterator[None]:
    playbook("playbooks/vip.yml", keepalived_preempt=True, keepalived_preempt_delay=DELAY)
    yield
    playbook("playbooks/vip.yml")
    suite.ready(lab, suite.machines(lab))
    assert len(lab.holders()) == 1


def test_it_comes_back_after_the_delay(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    edges = suite.machines(lab)
    suite.ready(lab, edges)
    preferred = edges[0]
    with (
        Watch(edges, lab.vip) as watch,
        Stream(
            http_attempt(lab.vip, READINESS.host, READINESS.path, port=READINESS.port), rate=200, seconds=60
        ) as stream,
    ):
        wait_for(f"the VIP on {preferred.name}", lambda: watch.one_holder(20, calm=2) == preferred.name, seconds=30)
        preferred.run("systemctl", "restart", "keepalived")
        restarted = time.monotonic()
        away = watch.one_holder(5)
        while watch.holders != (preferred.name,):
            assert time.monotonic() < restarted + 3 * DELAY, f"not back: {watch.holders}"
            time.sleep(0.05)
        back = time.monotonic() - restarted
        time.sleep(1)
        assert watch.one_holder(5) == preferred.name
    with capsys.disabled():
        print(f"\npreempt: back {back:.1f} s after the start; {stream.report}")
    assert away != preferred.name
    assert back > DELAY - 1
    assert stream.report.lost == 0, stream.report.losses
