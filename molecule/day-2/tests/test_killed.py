"""ansible-playbook is killed while it writes, with all its processes: the next run ends where one would have ended."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from outside import clients
from outside.lab import KUBECONFIG, ROOT, Lab
from outside.runs import ExposureSet, command
from outside.state import differing, state

SITES = 40
SEEDS = range(3)


def sites(first: int, timeout: str) -> list[dict[str, Any]]:
    return [
        {
            "name": f"site-{number}",
            "namespace": "web",
            "protocol": "HTTP",
            "hostnames": [f"site-{number}.example"],
            "routes": [{"backends": [{"service": "echo", "port": 80}], "timeout": timeout}],
        }
        for number in range(first, first + SITES)
    ]


BEFORE = sites(0, "5s")
AFTER = sites(SITES // 2, "6s")


@contextlib.contextmanager
def watched(set_name: str) -> Iterator[Callable[[bool], None]]:
    """Wait until a run is writing to the set, or none any more, as its ConfigMap says."""
    name = f"configmap/edgeway-set-{set_name}"
    kubectl = [str(ROOT / ".lab/bin/kubectl"), "--kubeconfig", str(KUBECONFIG), "--namespace=istio-system"]
    shown = "--output=jsonpath={.metadata.annotations}{'\\n'}"
    process = subprocess.Popen([*kubectl, "get", name, "--watch", shown], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout

    def until(writing: bool) -> None:
        assert any(("edgeway.istio/run" in line) == writing for line in lines), "the watch has ended"

    try:
        until(False)
        yield until
    finally:
        process.kill()
        process.wait()
        lines.close()


@pytest.fixture
def own(lab: Lab, api: str, set_name: str) -> Iterator[ExposureSet]:
    own = ExposureSet(lab, set_name, api)
    own.publish(BEFORE)
    yield own
    own.remove()


def start(own: ExposureSet) -> subprocess.Popen[bytes]:
    run = command("playbooks/expose.yml", exposures_set=own.name, exposures_api=own.api, edgeway_exposures=AFTER)
    return subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to it and to all that came from it; Ansible's workers leave its process group."""
    family = [process.pid]
    for pid in family:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        family += [int(child) for child in children.read_text().split()] if children.exists() else []
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def test_kill_9_and_run_again(lab: Lab, own: ExposureSet, api: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(lab)
    with watched(own.name) as until:
        process = start(own)
        until(True)
        began = time.monotonic()
        until(False)
        took = time.monotonic() - began
    assert process.wait() == 0
    undisturbed = state(lab)
    assert differing(before, undisturbed)
    left = []
    for seed in SEEDS:
        own.publish(BEFORE)
        assert differing(before, state(lab)) == set()
        moment = random.Random(seed).uniform(0, took)  # noqa: S311 - repeatable, not secret
        with watched(own.name) as until:
            process = start(own)
            until(True)
            time.sleep(moment)
            kill(process)
        partial = state(lab)
        left.append((round(moment, 2), len(differing(before, partial)), len(differing(partial, undisturbed))))
        own.publish(AFTER)
        assert differing(undisturbed, state(lab)) == set(), f"killed after {moment:.2f} s"
        assert clients.http_get(lab.vip, f"site-{SITES}.example").status == 200
        assert clients.http_get(lab.vip, "site-0.example").status == 404
    with capsys.disabled():
        print(f"\n{api}: writing took {took:.2f} s; killed after (s, objects written, objects missing): {left}")
    assert any(written > 1 and missing > 1 for _moment, written, missing in left), "none was killed in the middle"
