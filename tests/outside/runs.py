"""Playbooks as a user runs them: the lab's inventory, a file with an exposure list, a name for the set."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
from typing import Any

from outside.lab import INVENTORY, ROOT, Lab

# The kinds of each API's routes, to see that a list was really written in the API that was asked for
ROUTES = {
    "istio": ("VirtualService",),
    "gateway_api": ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A playbook's end. `said` is all that it printed, `changed` the number of tasks that changed something."""

    status: int
    said: str
    changed: int

    @property
    def line(self) -> str:
        """What it said as one line, as messages are broken anywhere."""
        return " ".join(self.said.split())


def command(path: str, *arguments: str, inventory: pathlib.Path = INVENTORY, **variables: Any) -> list[str]:
    """How it is started, in the folder ROOT."""
    return ["ansible-playbook", "--inventory", str(inventory), path, *arguments, "--extra-vars", json.dumps(variables)]


def playbook(
    path: str,
    *arguments: str,
    inventory: pathlib.Path = INVENTORY,
    check: bool = True,
    timeout: float = 300,
    **variables: Any,
) -> Ended:
    """Run it; AssertionError with all that it said if it fails and `check` is on."""
    ended = subprocess.run(
        command(path, *arguments, inventory=inventory, **variables),
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = ended.stdout + ended.stderr
    changed = sum(int(number) for number in re.findall(r"\bchanged=(\d+)", said))
    if check:
        assert ended.returncode == 0, said
    assert "Traceback" not in said, said
    return Ended(ended.returncode, said, changed)


@dataclasses.dataclass(frozen=True, slots=True)
class ExposureSet:
    """One named exposure list, in one of the APIs."""

    lab: Lab
    name: str
    api: str = "istio"

    def publish(
        self, exposures: pathlib.Path | list[dict[str, Any]], *arguments: str, check: bool = True, **variables: Any
    ) -> Ended:
        """Run expose.yml with a file that defines `edgeway_exposures`, or with the list itself.

        New ports of the shared gateway are open when this returns.
        """
        if isinstance(exposures, pathlib.Path):
            arguments = ("--extra-vars", f"@{exposures}", *arguments)
        else:
            variables["edgeway_exposures"] = exposures
        before = self.lab.ports()
        ended = playbook(
            "playbooks/expose.yml",
            *arguments,
            check=check,
            exposures_set=self.name,
            exposures_api=self.api,
            **variables,
        )
        self.lab.taken_up(self.lab.ports().items() - before.items())
        return ended

    def remove(self, *arguments: str, **variables: Any) -> Ended:
        return playbook(
            "playbooks/expose.yml",
            *arguments,
            exposures_set=self.name,
            exposures_api=self.api,
            exposures_state="absent",
            **variables,
        )

    def objects(self, *kinds: str) -> list[str]:
        """The set's objects of these kinds in all namespaces, as "Kind namespace/name"."""
        selector = f"--selector=app.kubernetes.io/managed-by=edgeway,edgeway.istio/set={self.name}"
        found = self.lab.objects(",".join(kinds), "--all-namespaces", selector)
        return sorted(f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}" for one in found)
