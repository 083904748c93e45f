"""Bookinfo at http://NODE:30080/productpage: by a port more on the gateway's Service, and by a Service of its own."""

from collections.abc import Callable

from outside import clients, echo
from outside.lab import Lab
from outside.runs import Ended

PORT, PINNED = 8088, 30080


def every_node_answers(lab: Lab) -> None:
    for name in lab.edges:
        address = lab.machines[name]
        lab.opens(address, PINNED)
        answer = clients.http_get(address, f"{address}:{PINNED}", "/productpage", port=PINNED)
        assert (answer.status, echo.facts(answer).get("Cluster")) == (200, "productpage"), name
        assert clients.http_get(address, address, "/other", port=PINNED).status == 404, name


def test_by_a_port_and_by_a_service(lab: Lab, workloads: Callable[..., None], publish: Callable[..., Ended]) -> None:
    """One after the other: a nodePort is one Service's."""
    workloads("bookinfo")
    before = lab.ports()

    publish("added_port")
    assert lab.ports()[PORT] == PINNED
    every_node_answers(lab)
    assert clients.http_get(lab.vip, "x", "/productpage", port=PORT).status == 200

    publish("nothing")
    assert lab.ports() == before

    publish("own_service")
    assert lab.ports() == before, "the shared Service is left alone"
    (service,) = lab.objects("service", "--namespace=istio-system", "--field-selector=metadata.name=bookinfo-custom")
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["nodePort"]) == (PORT, PORT, PINNED)
    every_node_answers(lab)
