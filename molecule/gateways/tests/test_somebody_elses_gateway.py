"""Routes that are attached to a Gateway which somebody else has made by hand, and which they leave as it is."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from outside import clients
from outside.lab import Lab
from outside.runs import Ended

MADE_BY_HAND = {
    "istio": (
        "gateways.networking.istio.io",
        """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: theirs, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*/guest.example"]}]
""",
    ),
    "gateway_api": (
        "gateways.gateway.networking.k8s.io",
        """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: theirs, namespace: istio-system}
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: istio-ingressgateway.istio-system.svc.cluster.local}]
  listeners:
    - {name: web, port: 80, protocol: HTTP, hostname: guest.example, allowedRoutes: {namespaces: {from: All}}}
""",
    ),
}


@pytest.fixture(scope="module")
def theirs(lab: Lab, api: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Read the Gateway made by hand, without what the server changes by itself."""
    kind, manifest = MADE_BY_HAND[api]
    lab.apply(manifest)

    def read() -> dict[str, Any]:
        (found,) = lab.objects(kind, "--namespace=istio-system", "--field-selector=metadata.name=theirs")
        return {"spec": found["spec"], "labels": found["metadata"].get("labels"), "uid": found["metadata"]["uid"]}

    yield read
    lab.kubectl("delete", kind, "theirs", "--namespace=istio-system")


@pytest.fixture(scope="module", autouse=True)
def published(theirs: Callable[[], dict[str, Any]], publish: Callable[..., Ended]) -> dict[str, Any]:
    before = theirs()
    publish("somebody_elses")
    return before


def test_the_routes_answer(lab: Lab) -> None:
    assert clients.http_get(lab.vip, "guest.example", "/api/x").status == 200
    assert clients.http_get(lab.vip, "guest.example", "/apis").status == 404


def test_the_gateway_is_left_alone(
    lab: Lab, published: dict[str, Any], theirs: Callable[[], dict[str, Any]], set_name: str
) -> None:
    assert theirs() == published
    mine = ("--all-namespaces", f"--selector=edgeway.istio/set={set_name}")
    for kind, _ in MADE_BY_HAND.values():
        assert not lab.objects(kind, *mine)
