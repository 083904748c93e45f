"""MariaDB behind the gateway, whose server speaks first: without a sidecar, and with one that takes mutual TLS only."""

from collections.abc import Callable

import pytest
from outside import answers, clients
from outside.lab import Lab
from outside.runs import Ended

PLAIN, MESHED, PINNED = 65430, 65431, 31430


@pytest.fixture(scope="module", autouse=True)
def published(meshed: None, publish: Callable[..., Ended]) -> Ended:
    return publish("mysql")


def query(address: str, port: int, statement: str = "SELECT words FROM edgeway.greeting") -> list[tuple[object, ...]]:
    return clients.sql(address, statement, port=port, user=answers.SQL_USER, password=answers.SQL_PASSWORD)


def test_a_query_without_a_sidecar(lab: Lab) -> None:
    assert query(lab.vip, PLAIN) == [("hello from MariaDB",)]


def test_a_query_through_a_sidecar(lab: Lab) -> None:
    assert query(lab.vip, MESHED) == [("hello from behind a sidecar",)]


def test_every_node_answers_at_the_pinned_port(lab: Lab) -> None:
    for name in lab.edges:
        assert query(lab.machines[name], PINNED, "SELECT 1") == [(1,)], name


def test_the_server_speaks_first(lab: Lab) -> None:
    """Nothing is sent: a sniffed port would wait for the client, until its detection times out."""
    for port in (PLAIN, MESHED):
        assert b"MariaDB" in clients.tcp(lab.vip, port, enough=60, timeout=2), port


def test_a_hundred_queries(lab: Lab) -> None:
    for port in (PLAIN, MESHED):
        assert [query(lab.vip, port, f"SELECT {number}") for number in range(100)] == [[(n,)] for n in range(100)], port
