"""The guard that clears VIPs, on a made-up /proc and clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.edges.scripts import load

guard = load("guard")


class Proc:
    """A /proc and /run in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "run").mkdir()
        (root / "proc").mkdir()

    def process(self, pid: int, switches: int, *, name: str = "keepalived", state: str = "S", parent: int = 1) -> None:
        folder = self.root / "proc" / str(pid)
        folder.mkdir(exist_ok=True)
        lines = [f"Name:\t{name}", f"State:\t{state}", f"PPid:\t{parent}", f"voluntary_ctxt_switches:\t{switches}"]
        (folder / "status").write_text("\n".join(lines) + "\n")

    def pid_file(self, pid: int) -> None:
        (self.root / "run/vrrp.pid").write_text(f"{pid}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_process_that_sleeps_and_wakes_runs(proc: Proc) -> None:
    keepalived = guard.Keepalived(str(proc.root))
    proc.pid_file(7)
    proc.process(6, 1)
    proc.process(7, 10, parent=6)
    assert keepalived.moved()
    assert not keepalived.moved()
    proc.process(7, 11, parent=6)
    assert keepalived.moved()
    assert keepalived.pids == (6, 7)


def test_a_new_process_runs(proc: Proc) -> None:
    keepalived = guard.Keepalived(str(proc.root))
    proc.pid_file(7)
    proc.process(7, 10)
    keepalived.moved()
    proc.pid_file(8)
    proc.process(8, 10)
    assert keepalived.moved()
    assert keepalived.pids == (8,)


def test_what_is_not_a_living_keepalived_does_not_run(proc: Proc) -> None:
    keepalived = guard.Keepalived(str(proc.root))
    assert not keepalived.moved()
    proc.pid_file(7)
    assert not keepalived.moved()
    proc.process(7, 10, name="sshd")
    assert not keepalived.moved()
    proc.process(7, 11, state="Z (zombie)")
    assert not keepalived.moved()
    assert keepalived.pids == ()


VIP = ("eth0", "192.0.2.100/32")


@pytest.mark.parametrize(
    ("state", "has", "expected"),
    [
        ("S (sleeping)", False, True),
        ("S (sleeping)", True, False),
        ("T (stopped)", False, False),
        ("t (tracing stop)", False, False),
        ("D (disk sleep)", False, False),
        ("R (running)", False, False),
        ("Z (zombie)", False, False),
    ],
)
def test_only_a_sleeper_that_holds_nothing_may_be_idle(
    proc: Proc, monkeypatch: pytest.MonkeyPatch, state: str, has: bool, expected: bool
) -> None:
    keepalived = guard.Keepalived(str(proc.root))
    proc.pid_file(7)
    proc.process(7, 10, state=state)
    keepalived.moved()
    keepalived.moved()
    monkeypatch.setattr(guard, "present", lambda interface, address: has)
    assert guard.idle([VIP], keepalived) is expected


class Clock:
    """A guard with everything around it made up."""

    def __init__(self, patience: float = 2.0) -> None:
        self.runs = True
        self.idle = False
        self.cleared = 0
        self.guard = guard.Guard([], patience, lambda: self.runs, lambda: self.idle, self._clear)

    def _clear(self) -> None:
        self.cleared += 1

    def until(self, first: float, last: float) -> None:
        steps = round((last - first) / 0.25)
        for step in range(steps + 1):
            self.guard.look(first + step * 0.25)


def test_it_clears_after_its_patience_and_goes_on() -> None:
    clock = Clock()
    clock.until(0, 10)
    clock.runs = False
    clock.until(10.25, 11.75)
    assert clock.cleared == 0
    clock.until(12, 12)
    assert clock.cleared == 1
    clock.until(12.25, 12.5)
    assert clock.cleared == 3


def test_it_has_patience_from_its_own_start() -> None:
    clock = Clock()
    clock.runs = False
    clock.until(100, 101.75)
    assert clock.cleared == 0
    clock.until(102, 102)
    assert clock.cleared == 1


def test_after_a_pause_of_its_own_it_waits_again() -> None:
    clock = Clock()
    clock.until(0, 1)
    clock.runs = False
    clock.until(60, 61.75)
    assert clock.cleared == 0
    clock.until(62, 62)
    assert clock.cleared == 1


def test_an_idle_keepalived_is_left_alone_until_it_holds_something() -> None:
    clock = Clock()
    clock.until(0, 1)
    clock.runs, clock.idle = False, True
    clock.until(1.25, 60)
    assert (clock.cleared, clock.guard.well) == (0, True)
    clock.idle = False
    clock.until(60.25, 62.25)
    assert clock.cleared > 0
    assert not clock.guard.well


def test_metrics(tmp_path: Path) -> None:
    clock = Clock()
    clock.guard.vips = [("eth0", "192.0.2.100/32"), ("eth1", "2001:db8::64/128")]
    clock.until(0, 1)
    lines = guard.metrics(clock.guard, [True, False]).splitlines()
    assert "keepalived_well 1" in lines
    assert "keepalived_guard_clearings_total 0" in lines
    assert 'keepalived_vip_held{address="192.0.2.100",interface="eth0"} 1' in lines
    assert 'keepalived_vip_held{address="2001:db8::64",interface="eth1"} 0' in lines

    clock.runs = False
    clock.until(1.25, 5)
    lines = guard.metrics(clock.guard, [False, False]).splitlines()
    assert "keepalived_well 0" in lines
    assert "keepalived_guard_clearings_total 1" in lines

    guard.write(tmp_path / "vip.prom", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["vip.prom"]


def test_metrics_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guard.write(tmp_path / "missing" / "vip.prom", "text")
    assert "no metrics" in capsys.readouterr().out
