"""What runs the holder's checks is killed, or frozen: it is started again, and meanwhile nothing moves."""

from collections.abc import Sequence

import pytest
from integration.vip import faults, suite
from integration.vip.machines import Machine
from outside.lab import Lab, wait_for

UNIT = "keepalived-checks.service"


def main_process(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()


@pytest.mark.parametrize(("signal", "seconds"), [("KILL", 5), ("STOP", 20)])
def test_the_vip_stays(lab: Lab, capsys: pytest.CaptureFixture[str], signal: str, seconds: float) -> None:
    before = {machine.name: main_process(machine) for machine in suite.machines(lab)}

    def ended(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        holder.run("kill", f"-{signal}", before[holder.name])

        def mend() -> None:
            wait_for("the checks", lambda: main_process(holder) not in {"0", before[holder.name]}, seconds=seconds)

        return mend

    result = suite.run(lab, capsys, f"checks-{signal.lower()}", ended, rate=200)
    suite.settled(result)
    assert result.healing.holder == result.before
    assert result.none == 0
    assert result.lost == 0
