"""A Gateway of a chosen GatewayClass, whose pods and Service Istio makes, with the Service type that the list says."""

import pathlib
from collections.abc import Iterator

import pytest
from outside import clients
from outside.lab import Lab
from outside.runs import ExposureSet

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge}
spec: {controllerName: istio.io/gateway-controller}
---
apiVersion: v1
kind: Namespace
metadata: {name: sc-deployed}
"""


@pytest.fixture(scope="module")
def own(lab: Lab, set_name: str) -> Iterator[ExposureSet]:
    lab.apply(CLASS)
    published = ExposureSet(lab, set_name, "gateway_api")
    yield published
    published.remove()
    lab.kubectl("delete", "namespace/sc-deployed", "gatewayclass/edge", "--timeout=50s")


def test_istio_deploys_it_and_it_answers(lab: Lab, own: ExposureSet, lists: pathlib.Path) -> None:
    own.publish(lists / "own_class.yml")
    (gateway,) = lab.objects("gateways.gateway.networking.k8s.io", "--namespace=sc-deployed")
    assert gateway["spec"]["gatewayClassName"] == "edge"
    (service,) = lab.objects("service", "--namespace=sc-deployed")
    assert (service["metadata"]["name"], service["spec"]["type"]) == ("own-edge", "NodePort")
    lab.rolled_out("sc-deployed")
    # istiod says so once it has seen the pods ready
    ready = ("wait", "--namespace=sc-deployed", "--for=condition=Programmed", "--timeout=60s")
    lab.kubectl(*ready, f"gateways.gateway.networking.k8s.io/{gateway['metadata']['name']}")
    ports = lab.ports("own-edge", "sc-deployed")
    lab.opens(lab.machines["node1"], ports[80])
    assert clients.http_get(lab.machines["node1"], "deployed.example", port=ports[80]).status == 200
    assert clients.http_get(lab.vip, "deployed.example").status == 404


def test_published_again_it_keeps_its_service(lab: Lab, own: ExposureSet, lists: pathlib.Path) -> None:
    """Istio's Service has the labels of our Gateway, and is Istio's all the same."""
    (before,) = lab.objects("service", "--namespace=sc-deployed")
    assert before["metadata"]["labels"]["edgeway.istio/set"] == own.name
    assert own.publish(lists / "own_class.yml").changed == 0
    (after,) = lab.objects("service", "--namespace=sc-deployed")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
