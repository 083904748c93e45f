"""The lab's machines as things that can fail: their processes, links and power, from the host they run on."""

import dataclasses
import functools
import os
import subprocess
import time
from pathlib import Path

PODMAN = os.environ.get("EDGEWAY_LAB_PODMAN", "/run/edgeway-lab/bin/lab-podman")


def run(*command: str, check: bool = True, timeout: float = 60, **environment: str) -> str:
    """What a command prints. RuntimeError with its complaint if it fails."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | environment
    )
    if check and ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout


@dataclasses.dataclass(frozen=True)
class Machine:
    """One container of the lab."""

    name: str
    address: str

    @property
    def pid(self) -> int:
        """Its init, seen from the host; 0 when it is off."""
        return int(run(PODMAN, "inspect", "--format", "{{.State.Pid}}", self.name))

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a command in it, without SSH: faults mustn't wait for the network that they break."""
        pid = str(self._pid)
        return run("nsenter", "--all", "--target", pid, "--", *command, check=check, timeout=timeout)

    @functools.cached_property
    def _pid(self) -> int:
        return self.pid

    @functools.cached_property
    def link(self) -> str:
        """The host's end of its cable."""
        index = self.run("cat", "/sys/class/net/eth0/iflink").strip()
        for path in Path("/sys/class/net").iterdir():
            if (path / "ifindex").read_text().strip() == index:
                return path.name
        raise RuntimeError(f"{self.name}: no interface {index} on the host")

    def forget(self) -> None:
        """After a reboot it has another init and another cable."""
        for name in ("_pid", "link"):
            self.__dict__.pop(name, None)

    def pids(self, process: str) -> list[int]:
        """Its processes of that name, in its own numbers, parents first."""
        return [int(pid) for pid in self.run("pgrep", "--exact", process, check=False).split()]

    def signal(self, process: str, signal: str) -> None:
        """Send a signal to all its processes of that name at once."""
        self.run("pkill", f"--signal={signal}", "--exact", process)

    def cable(self, *, plugged: bool) -> None:
        run("ip", "link", "set", self.link, "up" if plugged else "down")

    def off(self) -> None:
        """Pull its plug: silent at once, as without power, however long the kernel takes to end its processes."""
        self.cable(plugged=False)
        run(PODMAN, "kill", self.name)

    def on(self) -> None:
        """Start it again, and wait for its systemd."""
        run(PODMAN, "start", self.name, LAB_MACHINE=self.name)
        self.forget()
        for _number in range(120):
            state = self.run("systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.5)
        raise TimeoutError(f"{self.name}: systemd is {state} after a minute")
