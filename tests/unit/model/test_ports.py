"""Which entries of a Service's ports are ours, and which lists a Service can't carry."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _ports
from ansible_collections.edgeway.istio.plugins.module_utils._model import Gateway, ModelError, parse
from unit.model.lists import BASES

NAME = "istio-system/istio-ingressgateway"
HTTP, HTTPS, TLS, TCP = BASES["http"], BASES["https"], BASES["tls"], BASES["tcp"]


def entry(port: int, target: int, protocol: str = "tcp", **more: Any) -> dict[str, Any]:
    return {
        "name": f"edgeway-{port}",
        "port": port,
        "protocol": "TCP",
        "targetPort": target,
        "appProtocol": protocol,
        **more,
    }


def service(*ports: dict[str, Any], owners: dict[int, str] | None = None) -> dict[str, Any]:
    """A live Service that `istio-operator` installed; `owners` says who added which port."""
    managers: dict[str, dict[str, Any]] = {"istio-operator": {"f:selector": {}, "f:ports": {}}}
    for port in ports:
        manager = (owners or {}).get(port["port"], "istio-operator")
        fields = managers.setdefault(manager, {"f:ports": {}})
        fields["f:ports"][f'k:{{"port":{port["port"]},"protocol":"TCP"}}'] = {}
    return {
        "metadata": {
            "managedFields": [{"manager": name, "fieldsV1": {"f:spec": fields}} for name, fields in managers.items()]
        },
        "spec": {"ports": list(ports)},
    }


def port(number: int, target: int | str, **more: Any) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP", "targetPort": target, **more}


INSTALLED = (
    port(15021, 15021, name="status-port", nodePort=30021),
    port(80, 8080, name="http2", nodePort=30080),
    port(443, 8443, name="https", nodePort=30443),
)

CASES: list[tuple[str, list[dict[str, Any]], dict[str, Any] | None, list[dict[str, Any]]]] = [
    ("nothing is needed", [], None, []),
    ("what the installer has is not repeated", [HTTP, HTTPS], service(*INSTALLED), []),
    (
        "without a Service to look at all is ours",
        [HTTP, HTTPS],
        None,
        [entry(80, 8080, "http"), entry(443, 8443, "https")],
    ),
    ("a port of ours", [TCP], service(*INSTALLED), [entry(3306, 3306)]),
    (
        "a pinned nodePort of ours",
        [{**TCP, "node_port": 31306}],
        service(*INSTALLED),
        [entry(3306, 3306, nodePort=31306)],
    ),
    (
        "a nodePort pinned on the installer's port",
        [{**HTTP, "node_port": 30180}],
        service(*INSTALLED),
        [{"port": 80, "protocol": "TCP", "nodePort": 30180}],
    ),
    (
        "the nodePort that it has already",
        [{**HTTP, "node_port": 30080}],
        service(*INSTALLED),
        [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    ),
    (
        "a redirect needs port 80",
        [{**HTTPS, "port": 9443, "redirect_http": True}],
        None,
        [entry(80, 8080, "http"), entry(9443, 9443, "https")],
    ),
    (
        "HTTPS and TLS share a port and say the same of it",
        [HTTPS, TLS],
        None,
        [entry(443, 8443, "https")],
    ),
    ("TLS alone says so too", [TLS], None, [entry(443, 8443, "https")]),
    (
        "8080 is where port 80 ends already",
        [{**HTTP, "port": 8080}],
        service(*INSTALLED),
        [entry(8080, 18080, "http")],
    ),
    (
        "80 and 8080, both ours",
        [HTTP, {**HTTP, "name": "other", "port": 8080}],
        None,
        [entry(80, 8080, "http"), entry(8080, 18080, "http")],
    ),
    (
        "a port that a proxy's own lies in the way of",
        [{**TCP, "port": 7090}],
        service(port(25, 7090)),
        [entry(7090, 17090)],
    ),
    (
        "no ten thousand above 55535",
        [{**TCP, "port": 65000}],
        service(port(25, 65000)),
        [entry(65000, 20000)],
    ),
    (
        "port 7020 may not end at 15020",
        [{**TCP, "port": 5020}],
        service(port(25, 5020)),
        [entry(5020, 20000)],
    ),
    (
        "what we chose before stays",
        [{**TCP, "port": 3306}],
        service(port(3306, 4406, name="edgeway-3306"), owners={3306: "edgeway/default"}),
        [entry(3306, 4406)],
    ),
    (
        "what we chose before gives way to a Service of its own that ends there now",
        [{**HTTP, "expose": "service"}, {**HTTP, "name": "other", "port": 8080}],
        service(*INSTALLED, port(8080, 18080, name="edgeway-8080"), owners={8080: "edgeway/default"}),
        [entry(8080, 20000, "http")],
    ),
    (
        "what another set chose is said again",
        [{**TCP, "port": 3306}],
        service(port(3306, 4406, name="edgeway-3306"), owners={3306: "edgeway/other"}),
        [entry(3306, 4406)],
    ),
    (
        "a UDP port of that number is another port",
        [TCP],
        service({"port": 3306, "protocol": "UDP", "targetPort": 3306}),
        [entry(3306, 3306)],
    ),
    (
        "a Service of its own needs nothing here but what it leaves free",
        [{**HTTP, "port": 8088, "expose": "service"}, {**TCP, "port": 8088 - 8000}],
        service(*INSTALLED),
        [entry(88, 18088)],
    ),
    (
        "nobody's fields are known",
        [TCP],
        {"spec": {"ports": [port(3306, 3306, name="mine")]}},
        [],
    ),
    (
        "the installer's target has a name",
        [{**HTTP, "node_port": 30180}],
        service(port(80, "http")),
        [{"port": 80, "protocol": "TCP", "nodePort": 30180}],
    ),
    (
        "a nodePort that a port of ours lets go",
        [{**TCP, "node_port": 31306}],
        service(port(3307, 3307, name="edgeway-3307", nodePort=31306), owners={3307: "edgeway/default"}),
        [entry(3306, 3306, nodePort=31306)],
    ),
    (
        "two ports of the installer's for HTTP at one target",
        [HTTP, {**HTTP, "name": "other", "port": 8080}],
        service(port(80, 8080), port(8080, 8080)),
        [],
    ),
]


@pytest.mark.parametrize(("exposures", "live", "ports"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wanted(exposures: list[dict[str, Any]], live: dict[str, Any] | None, ports: list[dict[str, Any]]) -> None:
    assert _ports.wanted(parse(exposures), live) == ports


WRONG: list[tuple[str, list[dict[str, Any]], dict[str, Any], list[str]]] = [
    (
        "somebody added the port by hand",
        [{**TCP, "port": 65532}],
        service(*INSTALLED, port(65532, 9999, name="by-hand"), owners={65532: "kubectl-edit"}),
        [
            f"exposures[0].port: port 65532 of Service {NAME} is someone else's (by-hand)",
        ],
    ),
    (
        "somebody added port 80, which a redirect needs",
        [{**HTTPS, "redirect_http": True}],
        service(port(80, 8080), owners={80: "kubectl-edit"}),
        [
            (f"exposures[0].redirect_http: port 80 of Service {NAME} is someone else's (without a name)"),
        ],
    ),
    (
        "the nodePort is another port's",
        [{**TCP, "node_port": 30443}],
        service(*INSTALLED),
        [
            f"exposures[0].node_port: 30443 is the nodePort of port 443 of Service {NAME}",
        ],
    ),
    (
        "the port leads to the proxy's readiness",
        [{**HTTP, "port": 8021}],
        service(port(8021, 15021)),
        [
            (f"exposures[0].port: port 8021 of Service {NAME} leads to 15021, which Istio's proxy uses itself"),
        ],
    ),
    (
        "HTTP and TCP end at one target",
        [HTTP, {**TCP, "port": 8080}],
        service(port(80, 8080), port(8080, 8080)),
        [
            f"exposures[1].port: ports 80 and 8080 of Service {NAME} both lead to 8080: they are one listener",
        ],
    ),
    (
        "two of TCP end at one target, and a nodePort is taken",
        [{**TCP, "name": "a", "port": 80}, {**TCP, "name": "b", "port": 8080, "node_port": 30443}],
        service(port(80, 8080), port(8080, 8080), port(443, 8443, nodePort=30443)),
        [
            f"exposures[1].node_port: 30443 is the nodePort of port 443 of Service {NAME}",
            f"exposures[1].port: ports 80 and 8080 of Service {NAME} both lead to 8080: they are one listener",
        ],
    ),
]


@pytest.mark.parametrize(("exposures", "live", "errors"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_impossible(exposures: list[dict[str, Any]], live: dict[str, Any], errors: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        _ports.wanted(parse(exposures), live)
    assert [f"{problem.path}: {problem.message}" for problem in caught.value.problems] == errors
    assert all(problem.cure and problem.exposure for problem in caught.value.problems)


def test_the_gateways_whose_services_need_ports() -> None:
    """The default one first; none whose Service somebody else makes."""
    other = {"namespace": "team", "service": "public"}
    model = parse(
        [
            {**HTTP, "name": "a", "gateway": other},
            {**TCP, "name": "b"},
            {**HTTP, "name": "c", "gateway": {"existing": "theirs"}},
            {**HTTP, "name": "d", "port": 8088, "gateway": {"namespace": "own", "service": "own"}, "expose": "service"},
        ]
    )
    assert [(one.namespace, one.service) for one in _ports.gateways(model)] == [
        ("istio-system", "istio-ingressgateway"),
        ("team", "public"),
    ]
    assert _ports.wanted(model, None) == [entry(3306, 3306)]
    assert _ports.wanted(model, None, Gateway("team", "public")) == [entry(80, 8080, "http")]


def test_a_redirect_needs_the_shared_service_even_where_https_has_its_own() -> None:
    model = parse([{**HTTPS, "expose": "service", "redirect_http": True}])
    assert len(_ports.gateways(model)) == 1
    assert _ports.wanted(model, None) == [entry(80, 8080, "http")]


def test_a_deployed_gateway_gets_its_ports_from_istio() -> None:
    model = parse([HTTP], api="gateway_api", gateway={"service": "public-istio", "deploy": True})
    assert _ports.gateways(model) == ()
    assert _ports.wanted(model, None) == []


def test_one_pin_for_two_exposures_of_a_port() -> None:
    model = parse(
        [{**HTTP, "hostnames": ["a.example"]}, {**HTTP, "name": "x", "hostnames": ["b.example"], "node_port": 30080}]
    )
    assert _ports.wanted(model, None) == [entry(80, 8080, "http", nodePort=30080)]


def aimed(there: dict[str, Any], *owners: str) -> dict[str, Any]:
    """A live Service with an entry of ours whose targetPort these managers own."""
    live = service(*INSTALLED, there)
    key = f'k:{{"port":{there["port"]},"protocol":"TCP"}}'
    for name in owners:
        fields = {"f:spec": {"f:ports": {key: {"f:targetPort": {}}}}}
        live["metadata"]["managedFields"].append({"manager": name, "fieldsV1": fields})
    return live


OURS = port(3306, 4406, name="edgeway-3306")


@pytest.mark.parametrize(
    ("live", "target"),
    [
        (aimed(OURS), 4406),
        (aimed(OURS, "edgeway/default"), 4406),
        (aimed(OURS, "edgeway/other", "kubectl-edit"), 4406),
        # Asking for our own says who has written over it
        (aimed(OURS, "kubectl-edit"), 3306),
        (aimed({**OURS, "targetPort": 3306}, "kubectl-edit"), 3306),
        # What only the pod knows isn't taken up either
        (aimed({**OURS, "targetPort": "mysql"}, "edgeway/default"), 3306),
    ],
)
def test_the_target_that_a_port_of_ours_has_already(live: dict[str, Any], target: int) -> None:
    assert _ports.wanted(parse([TCP]), live) == [entry(3306, target)]


def test_a_target_that_somebody_wrote_and_another_port_has_too_is_avoided() -> None:
    live = aimed({**OURS, "targetPort": 3306}, "kubectl-edit")
    live["spec"]["ports"].append(port(25, 3306))
    assert _ports.wanted(parse([TCP]), live) == [entry(3306, 13306)]


def test_a_port_without_a_protocol_is_tcp() -> None:
    live = service(*({key: value for key, value in one.items() if key != "protocol"} for one in INSTALLED))
    assert _ports.wanted(parse([HTTP, TCP]), live) == [entry(3306, 3306)]


def test_the_default_gateway_comes_first_and_the_others_by_name() -> None:
    others = [{"namespace": space, "service": name} for space, name in (("team", "b"), ("a-team", "z"), ("team", "a"))]
    model = parse([*({**HTTP, "name": f"x{at}", "gateway": one} for at, one in enumerate(others)), TCP])
    assert [(one.namespace, one.service) for one in _ports.gateways(model)] == [
        ("istio-system", "istio-ingressgateway"),
        ("a-team", "z"),
        ("team", "a"),
        ("team", "b"),
    ]


SOMEONE = "Remove that port from the Service, or publish on another one"


def test_every_port_that_is_impossible_is_named_with_its_cure() -> None:
    exposures = [
        {**TCP, "name": "a", "port": 1000},
        {**TCP, "name": "b", "port": 1001},
        {**TCP, "name": "c", "port": 1002},
        {**TCP, "name": "d", "port": 1003, "node_port": 30443},
        {**HTTP, "name": "e", "port": 1004},
        {**HTTPS, "name": "f", "port": 1005},
    ]
    by_hand = {1000: "kubectl-edit", 1001: "kubectl-edit"}
    live = service(
        port(443, 8443, nodePort=30443),
        port(1000, 1, name="x"),
        port(1001, 2),
        port(1002, "by-name"),
        port(1003, 15021),
        port(1004, 9000),
        port(1005, 9000),
        owners=by_hand,
    )
    with pytest.raises(ModelError) as caught:
        _ports.wanted(parse(exposures), live)
    assert [(one.exposure, one.path, one.message, one.cure) for one in caught.value.problems] == [
        ("a", "exposures[0].port", f"port 1000 of Service {NAME} is someone else's (x)", SOMEONE),
        ("b", "exposures[1].port", f"port 1001 of Service {NAME} is someone else's (without a name)", SOMEONE),
        (
            "d",
            "exposures[3].node_port",
            f"30443 is the nodePort of port 443 of Service {NAME}",
            "Choose another nodePort",
        ),
        (
            "d",
            "exposures[3].port",
            f"port 1003 of Service {NAME} leads to 15021, which Istio's proxy uses itself",
            "Publish on another port",
        ),
        (
            "f",
            "exposures[5].port",
            f"ports 1004 and 1005 of Service {NAME} both lead to 9000: they are one listener",
            "Publish on one of them, or give port 1005 another targetPort",
        ),
    ]


def test_services_of_their_own() -> None:
    own = {**HTTP, "name": "web", "port": 8088, "node_port": 30088, "expose": "service"}
    plain = {**TCP, "name": "db", "expose": "service", "service_type": "NodePort", "external_traffic_policy": "Local"}
    second, first = _ports.services(parse([HTTPS, own, plain]))
    labels = {"app.kubernetes.io/managed-by": "edgeway", "edgeway.istio/set": "default"}
    selector = {"istio": "ingressgateway"}
    assert first == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": first["metadata"]["name"], "namespace": "istio-system", "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "edgeway.istio/vip",
            "selector": selector,
            "ports": [entry(8088, 8088, "http", nodePort=30088)],
        },
    }
    assert second["spec"] == {
        "type": "NodePort",
        "externalTrafficPolicy": "Local",
        "selector": selector,
        "ports": [entry(3306, 3306)],
    }
    assert _ports.services(parse([HTTP, TCP])) == []
