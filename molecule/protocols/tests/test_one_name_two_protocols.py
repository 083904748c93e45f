"""http://nginx.com is answered inside the cluster, https://nginx.com by a server outside with its own certificate."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from outside import clients, echo
from outside.lab import Lab
from outside.runs import Ended


@pytest.fixture(scope="module", autouse=True)
def published(workloads: Callable[..., None], publish: Callable[..., Ended]) -> Ended:
    workloads("my-nginx")
    return publish("one_name")


def test_http_stays_inside(lab: Lab) -> None:
    answer = clients.http_get(lab.vip, "nginx.com")
    assert (answer.status, echo.facts(answer)["Cluster"]) == (200, "my-nginx")


def test_https_goes_outside_unopened(lab: Lab) -> None:
    answer = clients.https_get(lab.vip, "nginx.com", ca=lab.authority)
    assert (answer.status, echo.facts(answer)["Cluster"]) == (200, "outside")
    assert answer.certificate is not None
    assert clients.subject(answer.certificate) == "CN=nginx.com"
    direct = clients.tls_certificate("10.77.0.51", "nginx.com")
    assert answer.certificate == direct, "the outside server's own certificate"


def test_other_names_get_no_connection(lab: Lab) -> None:
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        clients.tls_certificate(lab.vip, "www.nginx.com")
    assert clients.http_get(lab.vip, "www.nginx.com").status == 404


def test_what_the_gateway_has(lab: Lab) -> None:
    """The Service maps 80 to 8080 and 443 to 8443: listeners are there, and lead to the two clusters."""
    pod = lab.objects("pod", "--namespace=istio-system", "--selector=istio=ingressgateway")[0]["metadata"]["name"]

    def config(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            lab.istioctl("proxy-config", kind, f"{pod}.istio-system", "-o", "json")
        )
        return found

    listeners = {one["address"]["socketAddress"]["portValue"]: one for one in config("listener") if "address" in one}
    assert {8080, 8443} <= listeners.keys()
    chains = [one for one in listeners[8443]["filterChains"] if "nginx.com" in one["filterChainMatch"]["serverNames"]]
    assert len(chains) == 1
    assert "outbound|443||nginx.com" in json.dumps(chains)
    tables = [one for one in config("route") if "nginx.com" in json.dumps(one)]
    assert [one["name"] for one in tables] == ["http.8080"], "http.80 in old versions of Istio"
    assert "outbound|80||my-nginx.my-nginx.svc.cluster.local" in json.dumps(tables)
    clusters = {one["name"] for one in config("cluster")}
    assert {"outbound|443||nginx.com", "outbound|80||my-nginx.my-nginx.svc.cluster.local"} <= clusters
