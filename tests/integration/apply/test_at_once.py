"""Pairs of runs at once, of one set and of two: nothing is lost, and what is there is one of the serial outcomes."""

from __future__ import annotations

import multiprocessing
import random
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError, connect
from ansible_collections.edgeway.istio.plugins.module_utils._publish import Options, publish
from outside import clients
from outside.lab import KUBECONFIG, Lab

from integration.apply.conftest import Publish

Json = dict[str, Any]

PAIRS = 20
ONE, FIRST, SECOND = "it-once", "it-once-first", "it-once-second"


def some_list(choose: random.Random, space: str, prefix: str, ports: range) -> list[Json]:
    """Sites and TCP ports, each set's of its own names, on ports of which HTTP's may be the other's too."""
    result: list[Json] = [
        {
            "name": f"{prefix}-{number}",
            "namespace": space,
            "protocol": "HTTP",
            "port": choose.choice([80, 9580, 9581]),
            "hostnames": [f"{prefix}-{number}.example"],
            "routes": [
                {"backends": [{"service": "echo", "port": 80}], "timeout": f"{choose.randint(1, 9)}s"},
            ],
        }
        for number in choose.sample(range(6), choose.randint(1, 4))
    ]
    for port in choose.sample(ports, choose.randint(0, 2)):
        backend = {"service": "echo", "port": 9090}
        result.append(
            {"name": f"{prefix}-{port}", "namespace": space, "protocol": "TCP", "port": port, "backend": backend}
        )
    return result


def _run(exposures: list[Json], set_name: str, results: Any) -> None:
    try:
        publish(exposures, Options(set_name=set_name, wait_timeout=60), connect({"kubeconfig": str(KUBECONFIG)}))
        results.put("")
    except ClusterError as error:
        results.put(str(error))


def at_once(*runs: tuple[list[Json], str]) -> None:
    """Run in processes of their own; none may fail."""
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    processes = [context.Process(target=_run, args=(*run, results)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert [results.get(timeout=1) for _process in processes] == ["", ""]


def answers(lab: Lab, exposures: list[Json]) -> None:
    for one in exposures:
        lab.opens(lab.vip, one["port"])
        if one["protocol"] == "HTTP":
            assert clients.http_get(lab.vip, one["hostnames"][0], port=one["port"]).status == 200, one["name"]
        else:
            assert b"StatusCode=200" in clients.tcp(lab.vip, one["port"], b"hello\n", enough=20), one["name"]


@pytest.mark.parametrize("seed", range(PAIRS))
def test_two_runs_of_one_set(lab: Lab, space: str, put: Publish, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - repeatable, not secret
    lists = [some_list(choose, space, "it", range(9500, 9504)) for _number in range(2)]
    at_once((lists[0], ONE), (lists[1], ONE))
    held = [exposures for exposures in lists if not put(exposures, ONE, check=True).changed]
    assert len(held) == 1, "one list as a whole, or the other"
    answers(lab, held[0])
    # Its ports would be those of the next test, too
    put([], ONE)


@pytest.mark.parametrize("seed", range(PAIRS))
def test_two_sets_on_one_gateway(lab: Lab, space: str, put: Publish, seed: int) -> None:
    choose = random.Random(1000 + seed)  # noqa: S311 - repeatable, not secret
    first = some_list(choose, space, "it-a", range(9510, 9514))
    second = some_list(choose, space, "it-b", range(9520, 9524))
    at_once((first, FIRST), (second, SECOND))
    for exposures, set_name in ((first, FIRST), (second, SECOND)):
        again = put(exposures, set_name, check=True)
        assert [change.summary() for change in again.changes if change.verb != "unchanged"] == []
    answers(lab, first + second)
    needed = {one["port"] for one in first + second} - {80}
    assert {port for port in lab.ports() if 9510 <= port < 9590} == needed
