"""What runs an edge's checks, with commands of its own."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.edges.scripts import FOLDER, load

checks = load("checks")
PROGRAM = [sys.executable, str(FOLDER / "checks.py")]
NAMES = ("good", "bad")


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


def check(**given: Any) -> dict[str, Any]:
    """One check as the role writes it."""
    return {
        "name": "up", "command": "", "url": "", "interval": 1, "timeout": 5, "rise": 1, "fall": 1, "tries": 1, **given
    }  # fmt: skip


def test_a_command_passes_or_fails() -> None:
    assert checks.passes(check(command="true"))
    assert not checks.passes(check(command="false"))
    assert checks.passes(check(command="test a = a &&\n  # as a shell reads it\n  echo said"))


def test_one_that_takes_too_long_has_failed_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert not checks.succeeds(f"sleep 60 & echo $! >{pid}; wait", 0.5)
    for _try in range(100):
        status = Path("/proc", pid.read_text().strip(), "status")
        if not status.exists() or "\nState:\tZ" in status.read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the command started still runs")


def test_a_run_passes_when_one_of_its_tries_does(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    command = f"echo >>{tried}; test $(wc -l <{tried}) -ge 3"
    assert not checks.passes(check(command=command, tries=2))
    assert checks.passes(check(command=command, tries=2))


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers each path with the status that it names, and notes what was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = int(self.path[1:4] or 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_said: object) -> None:
        """Nothing of it matters."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Answers,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "passes"),
    [("", True), ("/200/a?b=c", True), ("/204", True), ("/302", True), ("/404", False), ("/503", False)],
)
def test_a_url_passes_by_its_status(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str, passes: bool
) -> None:
    """Asked directly, whatever proxy is set, and where it points to isn't followed."""
    url, asked = server
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert checks.passes(check(url=url + path)) is passes
    assert asked == [path or "/"]


def test_nobody_answers_a_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        # Taken by the kernel, and never answered
        assert not checks.passes(check(url=f"http://127.0.0.1:{port}/", timeout=0.3))
        assert time.monotonic() - began >= 0.3
    assert not checks.passes(check(url=f"http://127.0.0.1:{port}/"))


def test_a_name_that_cannot_be_one_fails_its_own_check_alone() -> None:
    assert not checks.passes(check(url="http://a..b/"))


def test_what_answers_is_not_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _address = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-none\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not checks.passes(check(url=f"http://127.0.0.1:{listening.getsockname()[1]}/"))
        thread.join()


def test_what_came_of_it_is_written_when_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "up"
    answers = iter([True, True, False, False, True])
    running = checks.Check(path, lambda: next(answers), 1, checks.Verdict(1, 2, checks.known(path)))
    seen = []
    for _run in range(5):
        running.once()
        seen.append((path.read_text(), path.stat().st_ino))
    assert [text for text, _inode in seen] == ["0\n", "0\n", "0\n", "1\n", "0\n"]
    assert [one[1] == after[1] for one, after in itertools.pairwise(seen)] == [True, True, False, False]
    assert capsys.readouterr().out == "up passed\nup failed\nup passed\n"


def test_what_is_known_stays_until_runs_say_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "up"
    assert checks.known(path) is None
    checks.put(path, "0\n")
    assert checks.known(path) is False
    running = checks.Check(path, lambda: False, 1, checks.Verdict(2, 2, checks.known(path)))
    running.once()
    assert path.read_text() == "0\n"
    running.once()
    assert path.read_text() == "1\n"


def write(config: Path, *given: dict[str, Any]) -> Path:
    config.write_text("".join(["# Written by a role\n", *(f"{json.dumps(each)}\n" for each in given)]))
    return config


def test_the_program(tmp_path: Path) -> None:
    """Both checks are run at their intervals; the file of one that is no more is taken away."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "gone").write_text("1\n")
    (tmp_path / "good").touch()
    config = write(
        tmp_path / "checks.conf",
        *(check(name=name, command=f"echo >>{tmp_path}/ran.{name}; test -e {tmp_path}/{name}") for name in NAMES),
    )
    with subprocess.Popen(
        [*PROGRAM, f"--config={config}", f"--results={folder}"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: contents(folder) == {"good": "0\n", "bad": "1\n"})
            (tmp_path / "good").rename(tmp_path / "bad")
            until(lambda: contents(folder) == {"good": "1\n", "bad": "0\n"})
            assert process.poll() is None
        finally:
            process.kill()
    for name in NAMES:
        assert 2 <= len((tmp_path / f"ran.{name}").read_text()) <= 20


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        ([], 1, "bad fails\nworse fails\n"),
        (["good"], 0, ""),
        (["good", "worse"], 1, "worse fails\n"),
        (["none"], 2, "there is no check none\n"),
    ],
)
def test_by_hand(tmp_path: Path, names: list[str], code: int, said: str) -> None:
    config = write(
        tmp_path / "checks.conf",
        check(name="good", command="true"), check(name="bad", command="false"), check(name="worse", command="exit 7"),
    )  # fmt: skip
    ended = subprocess.run(
        [*PROGRAM, f"--config={config}", *names], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, said)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_a_check_that_cannot_be_run_ends_the_program(tmp_path: Path) -> None:
    """Systemd starts it again, and says so; a check that nobody runs would stay as it was."""
    config = write(tmp_path / "checks.conf", check(timeout="long", command="true"))
    folder = tmp_path / "results"
    folder.mkdir()
    ended = subprocess.run(
        [*PROGRAM, f"--config={config}", f"--results={folder}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "TypeError" in ended.stderr
