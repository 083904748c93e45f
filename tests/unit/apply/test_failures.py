"""A run that fails leaves the cluster as it was; runs at once lose nothing; a killed one is no obstacle."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _publish
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError, connect
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _inventory
from memory_api import Server
from memory_api.sample import HTTP, TCP
from memory_api.server import DropError, Request, StatusError

Run = Callable[..., dict[str, Any]]

OTHER = {**HTTP, "name": "other", "hostnames": ["other.example"]}
SECURE = {
    "name": "secure",
    "namespace": "shop",
    "protocol": "HTTPS",
    "hostnames": ["secure.example"],
    "tls": {"secret": "shop-cert"},
    "redirect_http": True,
    "backend": {"service": "shop", "port": 80},
}
CHANGED = {**HTTP, "hostnames": ["shop.example", "www.shop.example"], "routes": None}
LATER = [CHANGED, OTHER, SECURE, {**TCP, "port": 65533, "node_port": 31533}]


class At:
    """Fails the k-th write: refused, or done without an answer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.lock = threading.Lock()

    def counts(self, request: Request) -> bool:
        if not request.writes:
            return False
        with self.lock:
            self.seen += 1
            return self.seen == self.number

    def refuse(self, request: Request) -> None:
        if self.counts(request):
            raise StatusError(500, "InternalError", "Internal error occurred: injected")

    def drop(self, request: Request) -> None:
        if self.counts(request):
            raise DropError


@pytest.mark.parametrize("how", ["refused", "unanswered", "failed after the fact"])
@pytest.mark.parametrize("what", ["first", "change", "absent"])
def test_a_failure_at_any_write_leaves_everything_as_it_was(server: Server, run: Run, how: str, what: str) -> None:
    if what != "first":
        run("exposures", exposures=[HTTP, TCP])
    before = server.state()
    for number in itertools.count(1):
        trap = At(number)
        if how == "refused":
            server.before = trap.refuse
        else:
            # It is done all the same
            server.after = trap.drop if how == "unanswered" else trap.refuse
        result = run("exposures", exposures=LATER, state="absent" if what == "absent" else "present")
        server.before = server.after = None
        if trap.seen < number:
            break
        if not result.get("failed"):
            # An apply may be said twice, and was; and whether the inventory is written can be seen
            assert how != "refused"
        else:
            assert "injected" in result["msg"] or "doesn't answer" in result["msg"]
            if how == "refused":
                assert "Nothing has changed" in result["msg"] or number <= 2
            assert server.state() == before, f"write {number}"
            continue
        undo = [] if what == "first" else [HTTP, TCP]
        run("exposures", exposures=undo, state="present" if undo else "absent")
    assert not result.get("failed")
    assert number > 6


def test_a_deleted_service_comes_back_as_it_was(server: Server, run: Run) -> None:
    dedicated = {
        **HTTP,
        "name": "own",
        "port": 8088,
        "expose": "service",
        "service_type": "NodePort",
        "node_port": 30080,
    }
    run("exposures", exposures=[dedicated, OTHER])
    before = server.state()
    services = [key for key, item in before.items() if key[1] == "Service" and "own" in json.dumps(item)]
    assert services

    def fail_last(request: Request) -> None:
        if request.method == "DELETE" and "destinationrules" in request.path and request.writes:
            raise StatusError(403, "Forbidden", "injected")

    server.before = fail_last
    result = run("exposures", state="absent")
    assert result["failed"]
    assert "Nothing has changed" in result["msg"]
    assert server.state() == before


def test_what_cannot_be_put_back_is_said(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here the process lives on
    monkeypatch.setattr(_inventory, "SILENCE", 0.3)
    run("exposures", exposures=[HTTP])
    broken = threading.Event()

    def fail(request: Request) -> None:
        if request.writes and "virtualservices" in request.path:
            broken.set()
        if broken.is_set() and request.writes:
            raise StatusError(500, "InternalError", "injected")

    server.before = fail
    result = run("exposures", exposures=LATER)
    assert "could not be put back wholly" in result["msg"]
    server.before = None
    # The inventory still knows where to look
    assert not run("exposures", exposures=[HTTP]).get("failed")
    assert not run("exposures", exposures=[HTTP])["changed"]


def test_an_object_made_by_somebody_in_between_is_left_to_them(server: Server, run: Run) -> None:
    theirs = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"gateways": ["theirs/gateway"]},
    }

    def sneak(request: Request) -> None:
        if request.writes and "destinationrules" in request.path:
            server.before = None
            body = {**theirs, "spec": {"exportTo": ["shop"]}}
            server.add(body, "someone")

    server.before = sneak
    result = run("exposures", exposures=[HTTP])
    assert result["failed"]
    left = server.get("VirtualService", "shop", "shop")
    assert left is not None
    assert {entry["manager"] for entry in left["metadata"]["managedFields"]} == {"someone"}
    assert [key for key in server.objects if key[1] in ("Gateway", "DestinationRule", "ConfigMap")] == []


def _publish_in_a_process(kubeconfig: dict[str, Any], exposures: list[Any], set_name: str, results: Any) -> None:
    options = _publish.Options(set_name=set_name, wait=False)
    try:
        result = _publish.publish(exposures, options, connect({"kubeconfig": kubeconfig}))
        results.put(("changed" if result.changed else "unchanged", ""))
    except ClusterError as error:
        results.put(("failed", str(error)))


def _start(server: Server, exposures: list[Any], set_name: str, results: Any) -> Any:
    context = multiprocessing.get_context("fork")
    arguments = (server.kubeconfig(), exposures, set_name, results)
    process = context.Process(target=_publish_in_a_process, args=arguments)
    process.start()
    return process


def _two(server: Server, runs: list[tuple[list[Any], str]]) -> list[tuple[str, str]]:
    results: Any = multiprocessing.get_context("fork").Queue()
    processes = [_start(server, exposures, set_name, results) for exposures, set_name in runs]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [results.get(timeout=1) for _process in processes]


def _slow(request: Request) -> None:
    """Make runs overlap."""
    if request.writes:
        time.sleep(0.01)


@pytest.mark.parametrize("attempt", range(3))
def test_two_runs_of_two_sets_at_once(server: Server, run: Run, attempt: int) -> None:
    server.before = _slow
    results = _two(
        server, [([HTTP, TCP], "one"), ([OTHER, {**TCP, "name": "mysql-two", "port": 65533, "node_port": None}], "two")]
    )
    assert [result for result, _message in results] == ["changed", "changed"]
    server.before = None
    assert not run("exposures", exposures=[HTTP, TCP], set="one")["changed"]
    gateway = server.get("Service", "istio-system", "istio-ingressgateway")
    assert gateway is not None
    assert {65532, 65533} <= {port["port"] for port in gateway["spec"]["ports"]}


@pytest.mark.parametrize("attempt", range(3))
def test_two_runs_of_one_set_at_once(server: Server, run: Run, attempt: int) -> None:
    server.before = _slow
    first, second = [HTTP, TCP], [OTHER, HTTP]
    results = _two(server, [(first, "default"), (second, "default")])
    server.before = None
    assert {result for result, _message in results} <= {"changed", "unchanged"}
    # The later one's list holds, whole
    outcomes = [run("exposures", exposures=exposures, check=True)["changed"] for exposures in (first, second)]
    assert sorted(outcomes) == [False, True]


def test_two_runs_of_one_list_at_once(server: Server) -> None:
    server.before = _slow
    results = _two(server, [([HTTP, TCP], "default"), ([HTTP, TCP], "default")])
    assert sorted(result for result, _message in results) == ["changed", "unchanged"]


@pytest.mark.parametrize("after", [1, 3, 6, 8])
def test_kill_9_in_the_middle_and_run_again(server: Server, run: Run, after: int) -> None:
    run("exposures", exposures=[HTTP, TCP])
    trap = At(after)
    stop, go = threading.Event(), threading.Event()

    def freeze(request: Request) -> None:
        if trap.counts(request):
            stop.set()
            go.wait(10)
            raise DropError

    server.before = freeze
    results: Any = multiprocessing.get_context("fork").Queue()
    process = _start(server, LATER, "default", results)
    assert stop.wait(10)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    go.set()
    server.before = None
    began = time.monotonic()
    result = run("exposures", exposures=LATER)
    assert not result.get("failed"), result
    assert time.monotonic() - began < 5
    assert not run("exposures", exposures=LATER)["changed"]
    inventory = server.get("ConfigMap", "istio-system", "edgeway-set-default")
    assert inventory is not None
    assert _inventory.RUN not in (inventory["metadata"].get("annotations") or {})
    # Nothing tells that it happened
    state = server.state()
    run("exposures", state="absent")
    run("exposures", exposures=LATER)
    assert server.state() == state


def test_what_a_killed_removal_leaves_goes_with_the_next(server: Server, run: Run) -> None:
    before = server.state()
    run("exposures", exposures=[HTTP])
    inventory = server.get("ConfigMap", "istio-system", "edgeway-set-default")
    assert inventory is not None
    run("exposures", state="absent")
    assert server.state() == before
    server.add(inventory)
    assert not run("exposures", state="absent")["changed"]
    assert server.state() == before


def test_a_silent_run_elsewhere_is_taken_for_dead(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("exposures", exposures=[HTTP])
    cluster = connect({"kubeconfig": server.kubeconfig()})
    inventory = _inventory.Inventory.read(cluster, "default", "istio-system")
    monkeypatch.setattr(_inventory, "machine", lambda: "elsewhere")
    _inventory.Turn(cluster, inventory).take()
    monkeypatch.undo()
    monkeypatch.setattr(_inventory, "SILENCE", 0.6)
    result = run("exposures", exposures=[HTTP, TCP])
    assert result["changed"]


def test_a_living_run_is_waited_for(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("exposures", exposures=[HTTP])
    cluster = connect({"kubeconfig": server.kubeconfig()})
    inventory = _inventory.Inventory.read(cluster, "default", "istio-system")
    monkeypatch.setattr(_inventory, "BEAT", 0.2)
    monkeypatch.setattr(_inventory, "SILENCE", 1.0)
    ended = threading.Event()

    def hold() -> None:
        with contextlib.suppress(ClusterError), _inventory.turn(cluster, inventory) as turn:
            time.sleep(2)
            ended.set()
            turn.finish(inventory)

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.2)
    result = run("exposures", exposures=[HTTP, TCP])
    assert ended.is_set()
    assert result["changed"]
    holder.join()


def test_whoever_comes_before_us_again_is_waited_for_again(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("exposures", exposures=[HTTP])
    cluster = connect({"kubeconfig": server.kubeconfig()})
    _inventory.Turn(cluster, _inventory.Inventory.read(cluster, "default", "istio-system")).take()
    waited: list[Any] = []
    others: list[_inventory.Turn] = []

    def wait(_cluster: Any, inventory: _inventory.Inventory, _patience: float) -> Any:
        waited.append(inventory.run())
        current = _inventory.Inventory.read(cluster, "default", "istio-system")
        if len(waited) == 1:
            # It is dead, and before we know another run has taken over from it
            others.append(_inventory.Turn(cluster, current))
            others[0].take()
            return waited[0]
        others[0].finish(current)
        return None

    monkeypatch.setattr(_inventory, "wait_for_turn", wait)
    assert run("exposures", exposures=[HTTP, TCP])["changed"]
    assert len({found["id"] for found in waited}) == 2


def test_a_run_whose_turn_was_taken_stops(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inventory, "BEAT", 0.1)
    cluster = connect({"kubeconfig": server.kubeconfig()})
    inventory = _inventory.Inventory.read(cluster, "default", "istio-system")
    turn = _inventory.Turn(cluster, inventory)
    turn.begin()
    turn.check()
    other = _inventory.Turn(cluster, _inventory.Inventory.read(cluster, "default", "istio-system"))
    other.take()
    time.sleep(0.5)
    with pytest.raises(ClusterError, match=f"process {os.getpid()}.* has taken over the set default"):
        turn.check()
    turn.end()


TAKEN = "Another run (elsewhere, process 7) has taken over the set default"


def taken_over(server: Server, at: str, *, answered: bool = True) -> None:
    """Have another run take the turn when an object of a kind has been written."""
    key = ("", "ConfigMap", "istio-system", "edgeway-set-default")
    text = json.dumps({"id": "another", "host": "elsewhere", "process": 7, "beat": 1})

    def look(request: Request) -> None:
        if request.writes and at in request.path:
            server.objects[key]["metadata"] |= {"annotations": {_inventory.RUN: text}, "resourceVersion": "99999"}
            if not answered:
                raise DropError

    server.after = look


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("at", ["destinationrules", "gateways", "virtualservices"])
def test_a_run_that_lost_its_turn_leaves_everything_to_the_other(
    server: Server, run: Run, at: str, answered: bool
) -> None:
    run("exposures", exposures=[HTTP])
    taken_over(server, at, answered=answered)
    server.log.clear()
    result = run("exposures", exposures=LATER)
    assert TAKEN in result["msg"]
    assert "put nothing back" in result["msg"]
    assert result["failed"]
    assert result["changed"]
    # Nothing more was written once the writes were done that went out together
    writes = [request.path for request in server.writes()]
    assert writes == sorted(writes, key=lambda path: at in path)
    inventory = server.objects["", "ConfigMap", "istio-system", "edgeway-set-default"]
    assert "another" in inventory["metadata"]["annotations"][_inventory.RUN]


def test_a_run_whose_set_was_removed_meanwhile_does_not_bring_it_back(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])

    def remove(request: Request) -> None:
        if request.writes and "virtualservices" in request.path:
            del server.objects["", "ConfigMap", "istio-system", "edgeway-set-default"]
            server.after = None

    server.after = remove
    result = run("exposures", exposures=[CHANGED])
    assert "has taken over the set default" in result["msg"]
    assert server.get("ConfigMap", "istio-system", "edgeway-set-default") is None


def test_a_removal_that_lost_its_turn_leaves_the_inventory(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    taken_over(server, "destinationrules")
    assert TAKEN in run("exposures", state="absent")["msg"]
    assert server.get("ConfigMap", "istio-system", "edgeway-set-default") is not None
