"""How long publishing takes, beside kubernetes.core.k8s and kubectl apply --server-side, in one run.

Each contender works on the same objects in the same namespace, the other's removed first; they take turns, over some
rounds, and the median counts. Read the figures as ratios: the machine and its load are in all of them alike.

Needs KUBECONFIG, a cluster with Istio's CRDs, and kubectl. Prints a table, and writes it to --output.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _publish
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from memory_api import Server
from memory_api.sample import namespace, pod, service

Json = dict[str, Any]

SPACE = f"edgeway-bench-{uuid.uuid4().hex[:6]}"
GATEWAY = {"namespace": SPACE, "service": "bench-gateway", "selector": {"istio": "bench"}}
STEPS = ("create", "no-op", "check", "change one", "change all", "prune")

PLAY: Json = {
    "hosts": "localhost",
    "connection": "local",
    "gather_facts": False,
    "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
}


def exposures(count: int, timeouts: Callable[[int], str]) -> list[Json]:
    """Return a list as people write it: two matches, one backend of its own."""
    return [
        {
            "name": f"site-{index}",
            "namespace": SPACE,
            "protocol": "HTTP",
            "hostnames": [f"site-{index}.example"],
            "routes": [
                {
                    "matches": [{"path": {"exact": "/login"}}, {"path": {"prefix": "/api"}}],
                    "backends": [{"service": f"site-{index}", "port": 8080}],
                    "timeout": timeouts(index),
                }
            ],
        }
        for index in range(count)
    ]


def lists(count: int) -> dict[str, list[Json]]:
    """Return the list as each step wants it."""
    first = exposures(count, lambda _index: "5s")
    return {
        "create": first,
        "no-op": first,
        "check": first,
        "change one": exposures(count, lambda index: "6s" if index == count // 2 else "5s"),
        "change all": exposures(count, lambda _index: "7s"),
        "prune": exposures(count // 2, lambda _index: "7s"),
    }


def manifests(wanted: list[Json]) -> list[Json]:
    return _publish.objects(parse(wanted, set_name="bench", gateway=GATEWAY))


@dataclass
class Contender:
    """One way to do it. `commands` are what is timed for each step."""

    name: str
    commands: dict[str, list[str]]
    steps: Sequence[str] = STEPS
    times: dict[str, list[float]] = field(default_factory=dict)


def playbook(folder: Path, name: str, tasks: list[Json], *options: str, **play: Any) -> list[str]:
    """Write a playbook; `play` are its keywords that differ from PLAY's."""
    path = folder / f"{name}.yml"
    path.write_text(json.dumps([{**PLAY, **play, "tasks": tasks}]), encoding="utf-8")
    return ["ansible-playbook", "--inventory", "localhost,", *options, str(path)]


def ours(folder: Path, step: str, wanted: list[Json], *, validate: bool = True) -> list[str]:
    task: Json = {
        "edgeway.istio.exposures": {
            "exposures": wanted,
            "gateway": GATEWAY,
            "set": "bench",
            "wait": False,
            "validate": validate,
        }
    }
    return playbook(folder, f"ours-{validate}-{step}", [task], *(["--check"] if step == "check" else []))


def core(folder: Path, step: str, objects: list[Json], gone: list[Json]) -> list[str]:
    tasks: list[Json] = [{"kubernetes.core.k8s": {"definition": objects}}]
    if step == "prune":
        tasks = [{"kubernetes.core.k8s": {"definition": gone, "state": "absent"}}]
    return playbook(folder, f"core-{step}", tasks, *(["--check"] if step == "check" else []))


def kubectl(folder: Path, step: str, objects: list[Json], gone: list[Json]) -> list[str]:
    path = folder / f"objects-{step}.yaml"
    path.write_text(
        "\n---\n".join(json.dumps(item) for item in (gone if step == "prune" else objects)), encoding="utf-8"
    )
    if step == "prune":
        return ["kubectl", "delete", "--wait=false", "--filename", str(path)]
    dry = ["--dry-run=server"] if step == "check" else []
    return ["kubectl", "apply", "--server-side", "--field-manager=bench", *dry, "--filename", str(path)]


def contenders(folder: Path, count: int) -> list[Contender]:
    wanted = lists(count)
    objects = {step: manifests(wanted[step]) for step in STEPS}
    kept = {_kinds.key_of(item) for item in objects["prune"]}
    gone = [item for item in objects["change all"] if _kinds.key_of(item) not in kept]
    commands: dict[str, dict[str, list[str]]] = {
        "edgeway.istio": {step: ours(folder, step, wanted[step]) for step in STEPS},
        "without its dry run": {step: ours(folder, step, wanted[step], validate=False) for step in STEPS},
        "kubectl apply --server-side": {step: kubectl(folder, step, objects[step], gone) for step in STEPS},
        "kubernetes.core.k8s": {step: core(folder, step, objects[step], gone) for step in STEPS},
    }
    return [Contender(name, found) for name, found in commands.items()]


def clean(cluster: Any, keep_namespace: bool = True) -> None:
    """Remove what a contender left, but not the gateway's Service."""
    for kind in ("VirtualService", "Gateway", "DestinationRule"):
        group = _kinds.ISTIO
        path = _kinds.find(group, kind).path("v1", SPACE)
        cluster.request("DELETE", path)
    for item in cluster.find("v1", "ConfigMap", SPACE, {_kinds.SET_LABEL: "bench"}):
        cluster.delete(item)


def run(command: Sequence[str]) -> float:
    began = time.monotonic()
    # Users' Python keeps what it has compiled
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    took = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return took


def race(cluster: Any, count: int, rounds: int) -> Iterator[list[Contender]]:
    """Yield the contenders after each round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        field_ = contenders(folder, count)
        for turn in range(rounds):
            # Each begins a round once
            order = field_[turn % len(field_) :] + field_[: turn % len(field_)]
            for contender in order:
                clean(cluster)
                for step in contender.steps:
                    contender.times.setdefault(step, []).append(run(contender.commands[step]))
                    print(f"{count:>5}  {contender.name:<28} {step:<11} {contender.times[step][-1]:6.2f} s", flush=True)
            yield field_
        clean(cluster)


def idle_playbook(rounds: int, *, facts: bool = False, holding: Sequence[Json] = ()) -> float:
    """Time a playbook without a task, that at most gathers facts or holds a list in a variable."""
    with tempfile.TemporaryDirectory() as name:
        variables = {**PLAY["vars"], **({"sites": holding} if holding else {})}
        command = playbook(Path(name), "idle", [], gather_facts=facts, vars=variables)
        return statistics.median(run(command) for _turn in range(max(rounds, 3)))


@dataclass
class Planning:
    """Planning alone: seconds and peak memory."""

    count: int
    first: float
    again: float
    megabytes: float


def planning(count: int) -> Planning:
    """Plan `count` exposures without a cluster: all new, and all there already. In a process of its own."""
    command = [sys.executable, __file__, "--plan-here", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return Planning(count, found["first"], found["again"], found["megabytes"])


def plan(count: int) -> Json:
    wanted = exposures(count, lambda _index: "5s")
    with _publish.uncollected():
        began = time.monotonic()
        desired = manifests(wanted)
        changes, _taken = _changes.plan(desired, [], set_name="bench")
        _changes.steps(changes)
        first = time.monotonic() - began
    assert len(changes) == len(desired)
    live = [stored(item) for item in desired]
    with _publish.uncollected():
        began = time.monotonic()
        changes, _taken = _changes.plan(manifests(wanted), live, set_name="bench")
        again = time.monotonic() - began
    assert {change.verb for change in changes} == {"unchanged"}
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": first, "again": again, "megabytes": megabytes}


_MEMORY = Server()


def stored(manifest: Json) -> Json:
    """Return a manifest as the server keeps it after our apply."""
    _MEMORY.objects = {key: item for key, item in _MEMORY.objects.items() if key[1] == "Namespace"}
    space = manifest["metadata"]["namespace"]
    if ("", "Namespace", "", space) not in _MEMORY.objects:
        _MEMORY.add(namespace(space))
    return _MEMORY.apply(manifest, _changes.manager_of("bench"))


def table(results: dict[int, list[Contender]], idle: dict[int | str, float], plans: Iterable[Planning]) -> str:
    about = (
        f"Written by `make bench`, which measured all of it in one run on the lab: three nodes on one machine of "
        f"{os.cpu_count()} cores, so read the figures as ratios. Each contender worked on the same objects in the same "
        f"namespace, the others' removed first; they took turns, and the median of the seconds is "
        f"given. In brackets: the other's time divided by ours. A whole `ansible-playbook` or `kubectl` was timed; "
        f"a playbook without a task took {idle['empty']:.2f} s, and {idle['facts']:.2f} s where it gathers facts, as "
        f"one does that doesn't say otherwise. Nobody waited for gateways to take the configuration. Before it writes, "
        f"ours has the server try every write; the second column leaves that out and looks for no findings."
    )
    lines = ["# Benchmarks", "", *textwrap.wrap(about, 120, break_on_hyphens=False), ""]
    for count, field_ in sorted(results.items()):
        ours_ = field_[0]
        objects, rounds = len(manifests(exposures(count, lambda _index: "5s"))), len(ours_.times["create"])
        lines += [f"## {count} exposure{'s' if count > 1 else ''} ({objects} objects), {rounds} rounds", ""]
        lines += [f"A playbook that holds the list and has no task took {idle[count]:.2f} s.", ""]
        lines.append("| | " + " | ".join(contender.name for contender in field_) + " |")
        lines.append("| --- |" + " --- |" * len(field_))
        for step in STEPS:
            mine = statistics.median(ours_.times[step])
            cells = [f"{mine:.2f}"]
            for contender in field_[1:]:
                other = statistics.median(contender.times[step])
                cells.append(f"{other:.2f} ({other / mine:.2f})")
            lines.append(f"| {step} | " + " | ".join(cells) + " |")
        lines.append("")
    about = "A list with nothing in the cluster yet, and with all there: reading it, making the objects, comparing."
    lines += [
        "## Planning alone, without a cluster",
        "",
        about,
        "",
        "| exposures | all new | all there | peak memory |",
    ]
    lines.append("| --- | --- | --- | --- |")
    lines += [f"| {one.count} | {one.first:.2f} s | {one.again:.2f} s | {one.megabytes:.0f} MB |" for one in plans]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plan", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--plan-here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    if chosen.plan_here:
        print(json.dumps(plan(chosen.plan_here)))
        return
    results: dict[int, list[Contender]] = {}
    plans = [planning(count) for count in chosen.plan]
    idle: dict[int | str, float] = {
        "empty": idle_playbook(chosen.rounds),
        "facts": idle_playbook(chosen.rounds, facts=True),
    }
    if chosen.sizes:
        cluster = connect({"kubeconfig": os.environ["KUBECONFIG"]})
        cluster.request("POST", "/api/v1/namespaces", body=namespace(SPACE))
        try:
            own = service(SPACE, "bench-gateway", 80, selector={"istio": "bench"})
            cluster.request("POST", f"/api/v1/namespaces/{SPACE}/services", body=own)
            # Nobody starts it: what is timed is publishing, not istiod and Envoy
            unstarted = pod(SPACE, "bench-gateway", istio="bench")
            unstarted["spec"] = {"schedulerName": "none", "containers": [{"name": "main", "image": "none"}]}
            cluster.request("POST", f"/api/v1/namespaces/{SPACE}/pods", body=unstarted)
            for count in chosen.sizes:
                idle[count] = idle_playbook(chosen.rounds, holding=lists(count)["create"])
                for field_ in race(cluster, count, chosen.rounds):
                    results[count] = field_
                    # What there is by now is kept if somebody loses patience
                    keep(table(results, idle, plans), chosen.output)
        finally:
            cluster.request("DELETE", f"/api/v1/namespaces/{SPACE}")
    text = table(results, idle, plans)
    print(f"\n{text}")
    keep(text, chosen.output)


def keep(text: str, output: Path | None) -> None:
    if output:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
