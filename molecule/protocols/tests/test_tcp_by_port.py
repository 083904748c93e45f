"""Two ports of one gateway Service, one Service behind them, and two versions that are never mixed up."""

import collections
from collections.abc import Callable

import pytest
from outside import clients
from outside.lab import Lab
from outside.runs import Ended


@pytest.fixture(scope="module", autouse=True)
def published(workloads: Callable[..., None], publish: Callable[..., Ended], api: str) -> Ended:
    workloads("tcp-echo")
    return publish(f"by_port_{api}")


@pytest.mark.parametrize(("port", "version"), [(31400, b"v1"), (31401, b"v2")])
def test_a_port_has_one_version(lab: Lab, port: int, version: bytes) -> None:
    seen: collections.Counter[bytes] = collections.Counter()
    for _ in range(300):
        said = clients.tcp(lab.vip, port, b"hello\n", enough=60)
        seen.update(line.partition(b"=")[2] for line in said.splitlines() if line.startswith(b"ServiceVersion="))
    assert seen == {version: 300}
