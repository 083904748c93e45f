"""All cores are busy with what runs on the holder: nothing has failed, and so nothing moves."""

import itertools
import time

from integration.vip import suite
from integration.vip.machines import Machine
from integration.vip.watch import Watch
from outside.lab import Lab


def policies(machine: Machine) -> list[str]:
    """How keepalived's processes are scheduled, its parent and the one that sends adverts: RR is real time."""
    return machine.run("ps", "-C", "keepalived", "-o", "cls=").split()


def test_the_vip_stays(lab: Lab) -> None:
    edges = suite.machines(lab)
    suite.ready(lab, edges)
    for edge in edges:
        assert "RR" in policies(edge)
    with Watch(edges, lab.vip) as watch:
        holder = watch.one_holder(10)
        with suite.busy([edge for edge in edges if edge.name == holder], 2):
            began = time.monotonic()
            time.sleep(60)
            end = time.monotonic()
        held = [sample.holders for sample in watch.samples if began <= sample.at <= end]
    assert len(held) > 100
    assert [pair for pair in itertools.pairwise(held) if pair[0] != pair[1]] == []
