"""From a name to a pod: Service, gateway, hostname, path, Service, pod."""

from collections.abc import Callable

import pytest
from outside import clients, echo
from outside.lab import Lab
from outside.runs import Ended

ANY = 8180  # the port on which every hostname is taken


@pytest.fixture(scope="module", autouse=True)
def published(publish: Callable[..., Ended]) -> Ended:
    return publish("one_path")


def test_the_endpoint_is_told(lab: Lab, published: Ended) -> None:
    assert "http://list.example/" in published.line
    assert f"http://{lab.vip}:{ANY}/" in published.line


def test_the_path_of_the_name_reaches_a_pod(lab: Lab) -> None:
    answer = clients.http_get(lab.vip, "list.example", "/getList?page=2")
    assert answer.status == 200
    assert echo.facts(answer)["URL"] == "/getList?page=2"
    pods = {pod["metadata"]["name"] for pod in lab.objects("pod", "--namespace=web", "--selector=app=echo")}
    assert echo.facts(answer)["Hostname"] in pods


@pytest.mark.parametrize("path", ["/", "/getList/", "/getListing", "/getlist"])
def test_other_paths_are_not_found(lab: Lab, path: str) -> None:
    assert clients.http_get(lab.vip, "list.example", path).status == 404


@pytest.mark.parametrize("name", ["other.example", "www.list.example", "list.example.com", "example"])
def test_a_name_takes_only_its_own(lab: Lab, name: str) -> None:
    assert clients.http_get(lab.vip, name, "/getList").status == 404


@pytest.mark.parametrize("name", ["other.example", "list.example", "x", "10.77.0.100"])
def test_no_name_takes_any(lab: Lab, name: str) -> None:
    assert clients.http_get(lab.vip, name, "/getList", port=ANY).status == 200
    assert clients.http_get(lab.vip, name, "/other", port=ANY).status == 404


def test_every_node_answers_at_the_node_port(lab: Lab) -> None:
    (service,) = lab.objects("service", "--namespace=istio-system", "--selector=istio=ingressgateway")
    ports = {port["port"]: port["nodePort"] for port in service["spec"]["ports"]}
    for name in lab.edges:
        assert clients.http_get(lab.machines[name], "list.example", "/getList", port=ports[80]).status == 200, name
        assert clients.http_get(lab.machines[name], "x", "/getList", port=ports[ANY]).status == 200, name
