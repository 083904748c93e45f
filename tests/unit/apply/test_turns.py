"""Whose turn it is to write to a set: taken once, kept alive, given back, and told from a dead run's."""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError, connect
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _inventory
from ansible_collections.edgeway.istio.plugins.module_utils.publish._inventory import (
    BusyError,
    Inventory,
    LostError,
    Turn,
)
from memory_api import Server
from memory_api.sample import HTTP, TCP
from memory_api.server import DropError, Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]
OTHER = {**HTTP, "hostnames": ["other.example"]}
KEY = ("", "ConfigMap", "istio-system", "edgeway-set-default")


@pytest.fixture
def cluster(server: Server) -> Cluster:
    return connect({"kubeconfig": server.kubeconfig()})


def read(cluster: Cluster) -> Inventory:
    return Inventory.read(cluster, "default", "istio-system")


def write(cluster: Cluster) -> None:
    """Make the ConfigMap of a set that has nothing."""
    with _inventory.turn(cluster, read(cluster)) as turn:
        turn.finish(read(cluster))


def annotate(server: Server, run: Any) -> None:
    """Say that a run is writing."""
    text = run if isinstance(run, str) else json.dumps(run)
    server.objects[KEY]["metadata"]["annotations"] = {_inventory.RUN: text}


def test_only_one_of_two_gets_the_turn(cluster: Cluster) -> None:
    both = [Turn(cluster, read(cluster)) for _number in range(2)]
    both[0].take()
    with pytest.raises(BusyError):
        both[1].take()


def test_a_turn_whose_answer_was_lost_is_ours(server: Server, cluster: Cluster) -> None:
    lost: list[str] = []

    def drop(request: Request) -> None:
        if request.writes and request.method == "PATCH" and len(lost) < 2:
            lost.append(request.path)
            raise DropError

    server.after = drop
    turn = Turn(cluster, read(cluster))
    turn.take()
    server.after = None
    assert lost
    assert read(cluster).run() is not None


@pytest.mark.parametrize("later", [[OTHER], [HTTP, TCP]], ids=["in the end", "at once"])
def test_what_somebody_edited_in_the_inventory_is_taken_back(server: Server, run: Run, later: list[Json]) -> None:
    run("exposures", exposures=[HTTP], wait=False)
    live = copy.deepcopy(server.objects[KEY])
    live["data"]["namespaces"] = "istio-system kube-system shop"
    kind = next(kind for kind in server.kinds if kind.name == "ConfigMap")
    server._update(kind, KEY, live, "kubectl-edit", "", dry=False)
    assert run("exposures", exposures=later, wait=False)["changed"]
    assert "kube-system" not in server.objects[KEY]["data"]["namespaces"]
    assert {entry["manager"] for entry in server.objects[KEY]["metadata"]["managedFields"]} == {"edgeway/default"}


def test_a_turn_that_is_refused_leaves_nothing(server: Server, cluster: Cluster) -> None:
    def refuse(request: Request) -> None:
        if request.method == "PATCH":
            raise StatusError(403, "Forbidden", "configmaps is forbidden")

    server.before = refuse
    with pytest.raises(RefusedError, match="configmaps is forbidden"):
        Turn(cluster, read(cluster)).take()
    assert KEY not in server.objects


def test_a_turn_in_a_cluster_that_falls_silent(server: Server, cluster: Cluster) -> None:
    inventory = read(cluster)

    def silent(_request: Request) -> None:
        raise DropError

    server.before = silent
    with pytest.raises(ClusterError, match="doesn't answer"):
        Turn(cluster, inventory).take()


def test_a_beat_that_is_lost_is_followed_by_the_next(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inventory, "BEAT", 0.02)
    beats: list[int] = []

    def trouble(request: Request) -> None:
        if request.method == "PATCH":
            beats.append(1)
            if len(beats) in (2, 3):
                raise StatusError(500, "InternalError", "etcd is away")

    server.before = trouble
    turn = Turn(cluster, read(cluster))
    turn.begin()
    while len(beats) < 5:
        time.sleep(0.01)
    turn.check()
    turn.end()
    assert (read(cluster).run() or {})["beat"] >= 3


def test_a_turn_of_which_nobody_can_be_asked_is_not_lost(server: Server, cluster: Cluster) -> None:
    turn = Turn(cluster, read(cluster))
    turn.take()

    def trouble(_request: Request) -> None:
        raise StatusError(500, "InternalError", "etcd is away")

    server.before = trouble
    turn.check()
    with pytest.raises(RefusedError, match="etcd is away"):
        turn.remove()
    server.before = None
    turn.remove()
    assert KEY not in server.objects
    with pytest.raises(LostError):
        turn.check()


def test_a_run_that_never_ends_is_told_of(server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cluster)
    annotate(server, {"id": "x", "host": "laptop", "process": 7, "machine": "elsewhere", "beat": 0})
    monkeypatch.setattr(_inventory, "SILENCE", 5)
    ended = threading.Event()

    def beats() -> None:
        number = 0
        while not ended.wait(0.05):
            number += 1
            annotate(server, {"id": "x", "host": "laptop", "process": 7, "machine": "elsewhere", "beat": number})

    thread = threading.Thread(target=beats)
    thread.start()
    with pytest.raises(ClusterError, match=r"Another run \(laptop, process 7\) is writing to the set default"):
        _inventory.wait_for_turn(cluster, read(cluster), 0.6)
    ended.set()
    thread.join()


@pytest.mark.parametrize("said", ["not JSON", "[1]", '"x"'])
def test_a_run_that_says_no_more_than_that_it_is_there(
    server: Server, run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    run("exposures", exposures=[HTTP], wait=False)
    annotate(server, said)
    assert read(cluster).run() == {"id": said}
    monkeypatch.setattr(_inventory, "SILENCE", 0.1)
    # Nobody knows whether it lives: its silence tells
    assert run("exposures", exposures=[], wait=False)["changed"]


@pytest.mark.parametrize(
    ("run", "gone"),
    [
        ({"process": 1}, False),
        ({"machine": "elsewhere", "process": 2**22 + 1}, False),
        ({"machine": "here", "process": 2**22 + 1}, True),
        ({"machine": "here", "process": "x"}, False),
        ({"machine": "here"}, False),
        ({"machine": "here", "process": os.getpid()}, False),
    ],
)
def test_whether_a_run_is_gone(run: Json, gone: bool) -> None:
    known = {**run, "machine": _inventory.machine()} if run.get("machine") == "here" else run
    assert _inventory._gone(known) is gone


def test_a_process_of_somebody_else_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_process: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not _inventory._gone({"machine": _inventory.machine(), "process": 1})


def test_a_machine_that_is_not_linux_knows_nobody_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_path: Path, **_options: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert _inventory.machine() == ""
    assert not _inventory._gone({"machine": "", "process": 2**22 + 1})


def test_the_proof_is_not_noted_over_what_another_run_wrote(server: Server, cluster: Cluster) -> None:
    write(cluster)
    old = read(cluster)
    server.objects[KEY]["data"]["kinds"] = "a/b"
    server.objects[KEY]["metadata"]["resourceVersion"] = "999999"
    old.note(cluster)
    assert server.objects[KEY]["data"]["kinds"] == "a/b"

    def fail(_request: Request) -> None:
        raise StatusError(500, "InternalError", "etcd is away")

    server.before = fail
    with pytest.raises(RefusedError):
        old.note(cluster)
