# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an edge's checks, and tell keepalived in files what came of them: 0 passed, 1 failed.

keepalived could run them itself, but it does so in the process that sends adverts, and starting another process waits
for locks of the kernel on the files mapped there, such as the C library. Any process may hold one while it waits for a
core: where all cores were busy that took up to a second, in real time too, and VRRP allows a third of that.

Usage: checks [NAME ...]           run each once, by hand, and say which fail
       checks --results FOLDER     run all for ever
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service import put, tell_systemd

# A check a line, as a JSON object, and comments
CONFIG = Path("/etc/keepalived/checks.conf")
# At most so long keepalived waits at its start for what the checks say first
FIRST = 15.0
# Seconds between the tries of one run
BETWEEN = 0.2


class Verdict:
    """What a check's runs come to: `rise` passed ones in a row make it pass, `fall` failed ones fail.

    `failed` None: nothing is known yet, and the first run decides.
    """

    def __init__(self, rise: int, fall: int, failed: bool | None) -> None:
        self.failed = failed
        self._rise = rise
        self._fall = fall
        self._against = 0

    def take(self, passed: bool) -> None:
        """Count one run."""
        if self.failed is None:
            self.failed = not passed
        if self.failed != passed:
            self._against = 0
            return
        self._against += 1
        if self._against >= (self._rise if passed else self._fall):
            self.failed = not passed
            self._against = 0


def passes(check: Mapping[str, Any]) -> bool:
    """Run a check as the role's options have it: at most `tries` times, until it passes."""
    for left in reversed(range(check["tries"])):
        if answers(check["url"], check["timeout"]) if check["url"] else succeeds(check["command"], check["timeout"]):
            return True
        if left:
            time.sleep(BETWEEN)
    return False


def answers(url: str, timeout: float) -> bool:
    """Ask an http URL, and take what the kubelet's probes take: a status from 200 to 399, here of the URL itself."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request("GET", parts._replace(scheme="", netloc="").geturl() or "/")
        return 200 <= connection.getresponse().status < 400
    except (OSError, UnicodeError, http.client.HTTPException):
        # A name that can't be one in DNS, such as a..b, is a UnicodeError
        return False
    finally:
        connection.close()


def succeeds(command: str, timeout: float) -> bool:
    """Run a shell's command; one that takes longer than `timeout` seconds is ended, with all that it started."""
    quiet = subprocess.DEVNULL
    shell = ["/bin/sh", "-c", command]
    with subprocess.Popen(shell, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            return process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return False


def known(path: Path) -> bool | None:
    """Read whether a check had failed when this was ended; None where it never ran."""
    try:
        return path.read_text(encoding="ascii").strip() != "0"
    except OSError:
        return None


class Check:
    """One check, run for ever: at each `interval` seconds, or when the run before is over."""

    def __init__(self, path: Path, run: Callable[[], bool], interval: float, verdict: Verdict) -> None:
        self.ran = threading.Event()
        self._path = path
        self._run = run
        self._interval = interval
        self._verdict = verdict
        self._written: bool | None = None
        self.thread = threading.Thread(target=self._for_ever, name=path.name, daemon=True)

    def once(self) -> None:
        """Run it once, and write the verdict where that is another."""
        self._verdict.take(self._run())
        failed = bool(self._verdict.failed)
        if failed != self._written:
            # At once, as keepalived reads the file the moment it changes
            put(self._path, f"{int(failed)}\n")
            print(f"{self._path.name} {'failed' if failed else 'passed'}", flush=True)
            self._written = failed
        self.ran.set()

    def _for_ever(self) -> None:
        due = time.monotonic()
        try:
            while True:
                self.once()
                due = max(due + self._interval, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        finally:
            # Nobody need wait for one that can't be run
            self.ran.set()


def for_ever(checks: list[dict[str, Any]], folder: Path) -> int:
    """Run all until one can't be run any more: systemd starts them anew then."""
    # Of checks that are no more; one that is added again begins anew
    for path in folder.iterdir():
        if path.name not in {check["name"] for check in checks}:
            path.unlink()
    running = []
    for check in checks:
        path = folder / check["name"]
        verdict = Verdict(check["rise"], check["fall"], known(path))
        running.append(Check(path, functools.partial(passes, check), check["interval"], verdict))
    for each in running:
        each.thread.start()
    end = time.monotonic() + FIRST
    for each in running:
        each.ran.wait(max(0.0, end - time.monotonic()))
    tell_systemd("READY=1")
    while all(each.thread.is_alive() for each in running):
        tell_systemd("WATCHDOG=1")
        time.sleep(1)
    return 1


def by_hand(checks: list[dict[str, Any]], names: list[str]) -> int:
    """Run those of that name, or all, and say which fail; 2 where there is none of a name."""
    for name in names:
        if name not in {check["name"] for check in checks}:
            print(f"there is no check {name}", file=sys.stderr)
            return 2
    failed = [check["name"] for check in checks if (not names or check["name"] in names) and not passes(check)]
    for name in failed:
        print(f"{name} fails", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Read which checks there are, and run them."""
    parser = argparse.ArgumentParser(
        description="Run an edge's checks, and tell keepalived in files what came of them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a check to run once; all of them without one")
    parser.add_argument("--results", type=Path, help="run all for ever, and write there what comes of it")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the checks, as the role wrote them")
    options = parser.parse_args()
    lines = options.config.read_text(encoding="utf-8").splitlines()
    checks = [json.loads(line) for line in lines if not line.startswith("#")]
    return for_ever(checks, options.results) if options.results else by_hand(checks, options.names)


if __name__ == "__main__":
    sys.exit(main())
