# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear VIPs which a dead or frozen keepalived left behind.

Another edge takes a VIP over when this one's adverts cease; only keepalived takes it away from here. So whoever holds
a VIP must have a keepalived that runs. It is seen running by its voluntary context switches: a keepalived that is well
sleeps and wakes at each advert, one that is stopped, stuck in the kernel or spinning doesn't. One that has no link has
no adverts to wake for: it may sleep as long as it holds nothing.

Usage: guard --patience SECONDS [--metrics FILE] [INTERFACE=ADDRESS/PREFIX ...]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from service import put, tell_systemd

PID_FILES = ("run/keepalived/vrrp.pid", "run/keepalived_vrrp.pid", "run/vrrp.pid")
PERIOD = 0.25
METRICS_PERIOD = 15.0


class Keepalived:
    """The VRRP process and its parent, as /proc shows them. `root` is for tests."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.pids: tuple[int, ...] = ()
        self.sleeps = False
        self._switches = -1

    def moved(self) -> bool:
        """Say whether the VRRP process ran since the last call. A new one did."""
        pid = self._pid()
        status = self._status(pid)
        switches = int(status.get("voluntary_ctxt_switches", "-1"))
        moved = switches >= 0 and (pid, switches) != (*self.pids[-1:], self._switches)
        self._switches = switches
        self.sleeps = status.get("State", "").startswith("S")
        self.pids = ()
        if switches >= 0:
            parent = int(status.get("PPid", "0"))
            self.pids = (parent, pid) if self._status(parent) else (pid,)
        return moved

    def _pid(self) -> int:
        for name in PID_FILES:
            with contextlib.suppress(OSError, ValueError):
                return int((self.root / name).read_text(encoding="ascii"))
        return 0

    def _status(self, pid: int) -> dict[str, str]:
        """Read a process's status; empty unless it is a keepalived that lives: the number may be another's by now."""
        try:
            text = (self.root / "proc" / str(pid) / "status").read_text(encoding="utf-8")
        except OSError:
            return {}
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        alive = fields.get("Name", "").startswith("keepalived") and not fields.get("State", "Z").startswith(("Z", "X"))
        return fields if alive else {}


class Guard:
    """Decides when to clear."""

    def __init__(
        self,
        vips: Sequence[tuple[str, str]],
        patience: float,
        moved: Callable[[], bool],
        idle: Callable[[], bool],
        clear: Callable[[], None],
    ) -> None:
        self.vips = vips
        self.patience = patience
        self._moved = moved
        self._idle = idle
        self._clear = clear
        self.cleared = 0
        self.well = True
        self._seen: float | None = None
        self._last_look: float | None = None

    def look(self, now: float) -> bool:
        """Look once, at `now` seconds of a monotonic clock; says whether it cleared."""
        # After a pause of its own (a frozen machine, a debugger) the guard gives keepalived its time again
        paused = self._last_look is not None and now - self._last_look > self.patience
        self._last_look = now
        if self._moved() or self._seen is None or paused or (now - self._seen >= self.patience and self._idle()):
            self._seen = now
            self.well = True
            return False
        if now - self._seen < self.patience:
            return False
        if self.well:
            self.cleared += 1
        self.well = False
        self._clear()
        return True


def present(interface: str, address: str) -> bool:
    """Say whether an interface carries an address."""
    found = subprocess.run(
        ["ip", "-oneline", "address", "show", "dev", interface, "to", address.split("/", maxsplit=1)[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    return bool(found.stdout.strip())


def idle(vips: Sequence[tuple[str, str]], keepalived: Keepalived) -> bool:
    """Say whether keepalived sleeps and holds nothing: as without a link, and a freeze would harm nobody."""
    return keepalived.sleeps and not any(present(*vip) for vip in vips)


def clear(vips: Sequence[tuple[str, str]], keepalived: Keepalived) -> None:
    """Take the VIPs off their interfaces, then end a frozen keepalived: systemd starts it anew, as a backup."""
    for interface, address in vips:
        if present(interface, address):
            subprocess.run(["ip", "address", "delete", address, "dev", interface], check=False)
            print(f"cleared {address} from {interface}: keepalived doesn't run", flush=True)
    # The parent first, or it would start another child that systemd knows nothing of
    for pid in keepalived.pids:
        print(f"ending keepalived {pid}, which is frozen", flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def metrics(guard: Guard, held: Sequence[bool]) -> str:
    """Write metrics as Prometheus' node exporter reads them from a file."""
    lines = [
        "# HELP keepalived_well Whether keepalived runs and isn't frozen.",
        "# TYPE keepalived_well gauge",
        f"keepalived_well {int(guard.well)}",
        "# HELP keepalived_guard_clearings_total How often the guard found keepalived dead or frozen.",
        "# TYPE keepalived_guard_clearings_total counter",
        f"keepalived_guard_clearings_total {guard.cleared}",
        "# HELP keepalived_vip_held Whether this edge has the VIP.",
        "# TYPE keepalived_vip_held gauge",
    ]
    for (interface, address), has in zip(guard.vips, held):  # noqa: B905 - Python 3.9 has no strict
        lines.append(f'keepalived_vip_held{{address="{address.split("/")[0]}",interface="{interface}"}} {int(has)}')
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write the metrics; a folder that isn't there is no reason to stop guarding."""
    try:
        put(path, text)
    except OSError as error:
        print(f"no metrics: {error}", flush=True)


def main() -> int:
    """Look every quarter of a second, for ever."""
    parser = argparse.ArgumentParser(description="Clear VIPs which a dead or frozen keepalived left behind.")
    parser.add_argument("--patience", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--metrics", type=Path, metavar="FILE")
    parser.add_argument("vips", nargs="*", metavar="INTERFACE=ADDRESS")
    options = parser.parse_args()
    vips = [tuple(vip.split("=", 1)) for vip in options.vips]
    keepalived = Keepalived()
    guard = Guard(
        vips, options.patience, keepalived.moved, lambda: idle(vips, keepalived), lambda: clear(vips, keepalived)
    )
    tell_systemd("READY=1")
    written = -METRICS_PERIOD
    while True:
        guard.look(time.monotonic())
        tell_systemd("WATCHDOG=1")
        if options.metrics and time.monotonic() - written >= METRICS_PERIOD:
            written = time.monotonic()
            write(options.metrics, metrics(guard, [present(*vip) for vip in vips]))
        time.sleep(PERIOD)


if __name__ == "__main__":
    sys.exit(main())
