"""An edge is taken off: it keeps nothing, and the other one answers all the time."""

from integration.vip import suite
from outside.lab import BOXES, Lab
from outside.runs import Ended, playbook
from outside.stream import Stream, http_attempt

WRITTEN = "/etc/haproxy/vip.cfg /etc/systemd/system/haproxy.service.d /etc/keepalived/keepalived.conf"


def test_the_holder_is_taken_off_and_put_back(lab: Lab) -> None:
    (leaving,) = lab.holders()

    def take_off() -> Ended:
        limit = ("--limit", f"localhost,{leaving}")
        return playbook("playbooks/vip.yml", *limit, inventory=BOXES, keepalived_state="absent")

    try:
        with Stream(http_attempt(lab.vip, "web.example"), rate=50, seconds=60) as stream:
            take_off()
            stream.wait(2)
        assert stream.report.lost == 0, stream.report.losses
        host = lab.host(leaving)
        host.check_output(f"for each in {WRITTEN}; do ! ls $each || exit 1; done")
        host.check_output("! systemctl is-active haproxy keepalived")
        (staying,) = lab.holders()
        assert staying != leaving
        assert take_off().changed == 0
    finally:
        playbook("playbooks/vip.yml", inventory=BOXES)
    suite.ready(lab, suite.machines(lab))
    assert lab.holders() == [staying]
