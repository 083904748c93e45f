"""HTTP, HTTPS ended at the gateway, and TCP: to pods with a sidecar that takes mutual TLS only, and to pods without."""

from collections.abc import Callable
from typing import Any

import pytest
from outside import clients, echo
from outside.lab import ROOT, Lab
from outside.runs import Ended

CERTIFICATES = ROOT / ".lab/tls"


@pytest.fixture(scope="module", autouse=True)
def published(meshed: None, publish: Callable[..., Ended]) -> Ended:
    return publish("http_https_tcp", "--diff", certificates=str(CERTIFICATES))


def from_gateway(answer: clients.HttpAnswer) -> dict[str, Any]:
    return dict(echo.headers(answer))


def test_http(lab: Lab) -> None:
    meshed = clients.http_get(lab.vip, "meshed-http.example", "/a")
    assert (meshed.status, echo.facts(meshed)["Cluster"]) == (200, "sidecars")
    plain = clients.http_get(lab.vip, "plain-http.example", "/a")
    assert plain.status == 200
    assert "x-forwarded-client-cert" not in from_gateway(plain)


def test_https(lab: Lab) -> None:
    for name in ("meshed.echo.example", "plain.echo.example"):
        answer = clients.https_get(lab.vip, name, "/a", ca=lab.authority)
        assert answer.status == 200, name
        assert from_gateway(answer)["x-forwarded-proto"] == "https", name
        assert answer.certificate is not None
        assert clients.subject(answer.certificate) == "CN=echo.example"


def test_one_connection_may_ask_for_both_names(lab: Lab) -> None:
    """One certificate serves both, so browsers use one connection; neither name may be answered 404."""
    for server, host in (("meshed.echo.example", "plain.echo.example"), ("plain.echo.example", "meshed.echo.example")):
        answer = clients.https_get(lab.vip, server, headers={"Host": host}, ca=lab.authority)
        assert answer.status == 200, f"{host} over a connection to {server}"


def test_tcp(lab: Lab) -> None:
    for port in (9190, 9191):
        assert b"StatusCode=200" in clients.tcp(lab.vip, port, b"hello\n", enough=20), port


def test_redirect_only_where_asked(lab: Lab) -> None:
    answer = clients.http_get(lab.vip, "meshed.echo.example", "/a?b=c")
    assert (answer.status, answer.headers["location"]) == (301, "https://meshed.echo.example/a?b=c")
    assert clients.http_get(lab.vip, "plain.echo.example").status == 404


def test_the_gateway_speaks_mutual_tls_to_the_sidecar(lab: Lab) -> None:
    """A node that speaks plain HTTP to the pod is refused, and the pod sees who the gateway is."""
    (pod,) = lab.objects("pod", "--namespace=sidecars", "--selector=app=site")
    assert {one["name"] for one in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]} >= {"istio-proxy"}
    asked = lab.host("node1").run(f"curl --silent --max-time 3 http://{pod['status']['podIP']}:8080/")
    assert asked.rc != 0, asked.stdout
    seen = from_gateway(clients.http_get(lab.vip, "meshed-http.example"))
    assert "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway" in seen["x-forwarded-client-cert"]


def test_the_key_is_nowhere_to_be_read(published: Ended) -> None:
    key = (CERTIFICATES / "echo.example.key").read_text().splitlines()
    for line in key[1:-1]:
        assert line not in published.said
