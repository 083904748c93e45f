"""All cores are busy with what runs on the holder: nothing has failed, and so nothing moves."""

from integration.vip import suite
from integration.vip.machines import Machine
from outside.lab import Lab


def policies(machine: Machine) -> list[str]:
    """How keepalived's processes are scheduled, its parent and the one that sends adverts: RR is real time."""
    return machine.run("ps", "-C", "keepalived", "-o", "cls=").split()


def test_the_vip_stays(lab: Lab) -> None:
    edges = suite.machines(lab)
    suite.ready(lab, edges)
    for edge in edges:
        assert "RR" in policies(edge)
    moves, pause = suite.changes_while_busy(edges, lab.vip, cores=2, seconds=60)
    assert moves == 0
    assert pause < 1000, f"nobody looked at the holders for {pause:.0f} ms"
