"""What runs an edge's checks, with commands of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.edges.scripts import FOLDER, load

checks = load("checks")


@pytest.mark.parametrize(
    ("failed", "runs", "expected"),
    [
        # The first run decides where nothing is known
        (None, "P", "P"),
        (None, "F", "F"),
        # Three to pass, two to fail, in a row
        (True, "PPP", "FFP"),
        (True, "PPFPPP", "FFFFFP"),
        (False, "FF", "PF"),
        (False, "FPFPFF", "PPPPPF"),
        (False, "FFPPP", "PFFFP"),
    ],
)
def test_runs_come_to_a_verdict(failed: bool | None, runs: str, expected: str) -> None:
    verdict = checks.Verdict(3, 2, failed)
    found = ""
    for each in runs:
        verdict.take(each == "P")
        found += "F" if verdict.failed else "P"
    assert found == expected


def test_a_command_passes_or_fails() -> None:
    assert checks.passes(["true"], 5)
    assert not checks.passes(["false"], 5)


def test_one_that_takes_too_long_has_failed_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert not checks.passes(["sh", "-c", f"sleep 60 & echo $! >{pid}; wait"], 0.5)
    for _try in range(100):
        status = Path("/proc", pid.read_text().strip(), "status")
        if not status.exists() or "\nState:\tZ" in status.read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the command started still runs")


def test_what_came_of_it_is_written_when_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "up"
    answers = iter([True, True, False, False, True])
    check = checks.Check(path, lambda: next(answers), 1, checks.Verdict(1, 2, checks.known(path)))
    seen = []
    for _run in range(5):
        check.once()
        seen.append((path.read_text(), path.stat().st_ino))
    assert [text for text, _inode in seen] == ["0\n", "0\n", "0\n", "1\n", "0\n"]
    assert [one[1] == after[1] for one, after in itertools.pairwise(seen)] == [True, True, False, False]
    assert capsys.readouterr().out == "up passed\nup failed\nup passed\n"


def test_what_is_known_stays_until_runs_say_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "up"
    assert checks.known(path) is None
    checks.put(path, "0\n")
    assert checks.known(path) is False
    check = checks.Check(path, lambda: False, 1, checks.Verdict(2, 2, checks.known(path)))
    check.once()
    assert path.read_text() == "0\n"
    check.once()
    assert path.read_text() == "1\n"


def test_the_program(tmp_path: Path) -> None:
    """Both checks are run at their intervals; the file of one that is no more is taken away."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "gone").write_text("1\n")
    command = tmp_path / "check"
    command.write_text(f"#!/bin/sh\necho >>{tmp_path}/ran.$1\ntest -e {tmp_path}/$1\n")
    command.chmod(0o755)
    (tmp_path / "good").touch()
    arguments = [f"--folder={folder}", f"--command={command}"]
    for name in ("good", "bad"):
        arguments += ["--check", name, "1", "5", "1", "1"]
    with subprocess.Popen(
        [sys.executable, str(FOLDER / "checks.py"), *arguments], stdout=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: contents(folder) == {"good": "0\n", "bad": "1\n"})
            (tmp_path / "good").rename(tmp_path / "bad")
            until(lambda: contents(folder) == {"good": "1\n", "bad": "0\n"})
            assert process.poll() is None
        finally:
            process.kill()
    for name in ("good", "bad"):
        assert 2 <= len((tmp_path / f"ran.{name}").read_text()) <= 20


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_a_check_that_cannot_be_run_ends_the_program(tmp_path: Path) -> None:
    """Systemd starts it again, and says so; a check that nobody runs would stay as it was."""
    arguments = [f"--folder={tmp_path}", f"--command={tmp_path}/none", "--check", "up", "1", "1", "1", "1"]
    ended = subprocess.run(
        [sys.executable, str(FOLDER / "checks.py"), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr
