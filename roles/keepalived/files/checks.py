# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an edge's checks, and tell keepalived in files what came of them: 0 passed, 1 failed.

keepalived could run them itself, but it does so in the process that sends adverts, and starting another process waits
for locks of the kernel on the files mapped there, such as the C library. Any process may hold one while it waits for a
core: where all cores were busy that took up to a second, in real time too, and VRRP allows a third of that.

Usage: checks --folder FOLDER --command COMMAND [--check NAME INTERVAL TIMEOUT RISE FALL ...]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from service import put, tell_systemd

# At most so long keepalived waits at its start for what the checks say first
FIRST = 15.0


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


def passes(command: list[str], timeout: float) -> bool:
    """Run a command; one that takes longer than `timeout` seconds is ended, with what it started, and has failed."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
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


def main() -> int:
    """Run all checks until one can't be run any more: systemd starts them anew then."""
    parser = argparse.ArgumentParser(
        description="Run an edge's checks, and tell keepalived in files what came of them."
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--command", required=True, help="run with a check's name")
    metavar = ("NAME", "INTERVAL", "TIMEOUT", "RISE", "FALL")
    parser.add_argument("--check", action="append", default=[], nargs=5, metavar=metavar)
    options = parser.parse_args()
    # Of checks that are no more; one that is added again begins anew
    for path in options.folder.iterdir():
        if path.name not in {check[0] for check in options.check}:
            path.unlink()
    checks = []
    for name, interval, timeout, rise, fall in options.check:
        path = options.folder / name

        def run(name: str = name, timeout: float = float(timeout)) -> bool:
            return passes([options.command, name], timeout)

        checks.append(Check(path, run, float(interval), Verdict(int(rise), int(fall), known(path))))
    for check in checks:
        check.thread.start()
    end = time.monotonic() + FIRST
    for check in checks:
        check.ran.wait(max(0.0, end - time.monotonic()))
    tell_systemd("READY=1")
    while all(check.thread.is_alive() for check in checks):
        tell_systemd("WATCHDOG=1")
        time.sleep(1)
    return 1


if __name__ == "__main__":
    sys.exit(main())
