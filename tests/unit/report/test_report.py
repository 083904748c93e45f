"""What the report page shows, as data."""

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _report
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Edge

Json = dict[str, Any]

EXPOSURES: list[Json] = [
    {
        "name": "web",
        "namespace": "web",
        "protocol": "HTTP",
        "hostnames": ["web.example"],
        "routes": [
            {"matches": [{"path": {"exact": "/a"}, "method": "GET"}], "backends": [{"service": "a", "port": 80}]},
            {"backends": [{"service": "b", "port": 80, "weight": 9}, {"service": "c", "port": 80, "weight": 1}]},
        ],
    },
    {"name": "db", "namespace": "db", "protocol": "TCP", "port": 3306, "backend": {"service": "db", "port": 3306}},
]
LABELS = {"istio": "ingressgateway"}
GATEWAY: Json = {
    "metadata": {"namespace": "istio-system", "name": "istio-ingressgateway"},
    "spec": {
        "type": "LoadBalancer",
        "selector": LABELS,
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.100"}]}},
}
POD: Json = {
    "metadata": {"namespace": "istio-system", "name": "gw", "labels": LABELS},
    "spec": {"nodeName": "node2"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def page(**more: Any) -> Json:
    return _report.page(parse(EXPOSURES), **more)


def of(name: str, found: Json) -> Json:
    return next(one for one in found["exposures"] if one["name"] == name)


def test_ports_that_the_service_lacks() -> None:
    [gateway] = page(services=[GATEWAY], pods=[POD])["gateways"]
    assert [(one["port"], one["there"], one["exposures"]) for one in gateway["ports"]] == [
        (80, True, 1),
        (3306, False, 1),
    ]
    assert gateway["pods"] == [{"name": "gw", "node": "node2", "ready": True}]
    assert gateway["addresses"] == ["192.0.2.100"]


def test_a_gateway_that_is_not_there() -> None:
    [gateway] = page()["gateways"]
    assert (gateway["there"], gateway["pods"]) == (False, [])


def test_holder_and_its_gateways() -> None:
    edges = [
        Edge("one", "node1", answered=True),
        Edge("two", "node2", answered=True, held=frozenset({"192.0.2.100", "192.0.2.12"}), checks=(("gw", "failed"),)),
        Edge("three"),
    ]
    found = page(vips=["192.0.2.100"], edges=edges, services=[GATEWAY], pods=[POD])["edges"]
    assert [one["holds"] for one in found] == [[], ["192.0.2.100"], []]
    assert [one["gateways"] for one in found] == [[], ["istio-system/istio-ingressgateway"], []]
    assert [one["failed"] for one in found] == [[], ["gw"], []]
    assert [one["answered"] for one in found] == [True, True, False]


def test_routes_and_backends() -> None:
    slices = [
        {"metadata": {"namespace": "web", "labels": {"kubernetes.io/service-name": "a"}},
         "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]},
        {"metadata": {"namespace": "web", "labels": {"kubernetes.io/service-name": "a"}},
         "endpoints": [{"addresses": ["10.0.0.3"], "conditions": {"ready": True}}]},
    ]  # fmt: skip
    service = {"metadata": {"namespace": "web", "name": "a"}, "spec": {}}
    first, second = of("web", page(services=[service], slices=slices))["routes"]
    assert first["match"] == ["GET = /a"]
    assert [(one["name"], one["there"], one["ready"]) for one in first["backends"]] == [("web/a", True, 2)]
    assert [(one["name"], one["there"], one["weight"]) for one in second["backends"]] == [
        ("web/b", False, 9),
        ("web/c", False, 1),
    ]


def test_endpoints_that_were_not_read_are_not_none() -> None:
    assert of("db", page())["routes"][0]["backends"][0]["ready"] is None
    assert of("db", page(slices=[]))["routes"][0]["backends"][0]["ready"] == 0


@pytest.mark.parametrize("name", ["db", "db/db"])
def test_findings_are_with_their_exposure(name: str) -> None:
    found = page(findings=[{"code": "x", "severity": "error", "exposure": name, "reason": "why", "cure": "how"}])
    assert of("db", found)["findings"] == [0]
    assert of("web", found)["findings"] == []
    assert found["findings"][0]["reason"] == "why"


def test_a_finding_of_no_exposure() -> None:
    found = page(findings=[{"code": "x", "severity": "warning", "message": "old form"}])
    assert [one["findings"] for one in found["exposures"]] == [[], []]
    assert found["findings"][0]["reason"] == "old form"
