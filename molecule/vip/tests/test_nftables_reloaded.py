"""The holder's nftables.service is reloaded, on Debian with `flush ruleset`, or stopped: the VIP's rules come back."""

from collections.abc import Iterator

import pytest
from integration.vip import suite
from integration.vip.machines import Machine
from outside import lab as lab_module
from outside.lab import Lab

DROP_IN = "/run/systemd/system/nftables.service.d"
# What a flush does to the VIP's rules, and to no others: kube-proxy's are in the same kernel
COMMANDS = """[Service]
ExecStart=
ExecStart=true
ExecStop=
ExecStop=true
ExecReload=
ExecReload=nft delete table ip keepalived_vip
"""


@pytest.fixture
def holder(lab: Lab) -> Iterator[Machine]:
    (name,) = lab.holders()
    machine = next(machine for machine in suite.machines(lab) if machine.name == name)
    machine.run("sh", "-c", f"mkdir -p {DROP_IN} && echo '{COMMANDS}' >{DROP_IN}/test.conf && systemctl daemon-reload")
    machine.run("systemctl", "start", "nftables.service")
    yield machine
    # The VIP's rules stop with it
    machine.run("systemctl", "stop", "nftables.service")
    machine.run("sh", "-c", f"rm -r {DROP_IN} && systemctl daemon-reload")
    machine.run("systemctl", "start", "keepalived-vip.service")


def handle(machine: Machine) -> str:
    """The kernel's number of the table, another one each time it is loaded; empty where there is none."""
    shown = machine.run("nft", "--handle", "list", "table", "ip", "keepalived_vip", check=False)
    return shown.partition("\n")[0]


def test_the_rules_come_back(lab: Lab, holder: Machine) -> None:
    before = handle(holder)
    assert before
    holder.run("systemctl", "reload", "nftables.service")
    lab_module.wait_for("the VIP's rules", lambda: handle(holder) not in ("", before), seconds=5, every=0.1)
    assert lab.holders() == [holder.name]


def test_also_after_a_stop(lab: Lab, holder: Machine) -> None:
    holder.run("systemctl", "stop", "nftables.service")
    assert handle(holder) == ""
    holder.run("systemctl", "start", "nftables.service")
    lab_module.wait_for("the VIP's rules", lambda: handle(holder) != "", seconds=5, every=0.1)
    assert lab.holders() == [holder.name]
