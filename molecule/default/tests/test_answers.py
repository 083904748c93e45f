"""Each exposure of inventories/lab, asked through the VIP by a client outside the cluster."""

import pytest
from outside import answers, clients
from outside.lab import Lab


def test_http_by_hostname(lab: Lab) -> None:
    answer = clients.http_get(lab.vip, "web.example", "/some/path")
    assert answer.status == 200
    assert "Host=web.example\n" in answer.body
    assert "URL=/some/path\n" in answer.body


def test_http_reaches_every_version(lab: Lab) -> None:
    """Three pods on three nodes are behind it: the way from the holder to the others works too."""
    seen: set[str] = set()
    for _number in range(60):
        body = clients.http_get(lab.vip, "web.example").body
        seen.update(line for line in body.splitlines() if line.startswith("ServiceVersion="))
    assert seen == {"ServiceVersion=v1", "ServiceVersion=v2", "ServiceVersion=v3"}


def test_other_hostnames_are_not_found(lab: Lab) -> None:
    assert clients.http_get(lab.vip, "other.example").status == 404
    assert clients.http_get(lab.vip, "shop.example").status == 404


def test_https_with_the_right_certificate(lab: Lab) -> None:
    answer = clients.https_get(lab.vip, "shop.example", ca=lab.authority)
    assert answer.status == 200
    assert "ServiceVersion=v1\n" in answer.body
    assert answer.certificate is not None
    assert clients.subject(answer.certificate) == "CN=shop.example"


def test_tls_without_a_published_name_gets_no_certificate(lab: Lab) -> None:
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        clients.tls_certificate(lab.vip, "other.example")


def test_mariadb(lab: Lab) -> None:
    rows = clients.sql(
        lab.vip,
        "SELECT words FROM edgeway.greeting",
        port=65532,
        user=answers.SQL_USER,
        password=answers.SQL_PASSWORD,
    )
    assert rows == [("hello from MariaDB",)]


def test_mariadb_on_every_node_at_the_pinned_port(lab: Lab) -> None:
    for name in lab.edges:
        rows = clients.sql(
            lab.machines[name], "SELECT 1", port=31532, user=answers.SQL_USER, password=answers.SQL_PASSWORD
        )
        assert rows == [(1,)], name


def test_a_port_that_is_not_published_is_refused(lab: Lab) -> None:
    with pytest.raises(ConnectionRefusedError):
        clients.tcp(lab.vip, 65533)
