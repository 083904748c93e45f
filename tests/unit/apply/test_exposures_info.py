"""The module exposures_info, whole: it tells from the cluster alone what the module exposures has published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from memory_api import Server
from memory_api.kinds import CORE
from memory_api.sample import HTTP, TCP, gateway, pod, service
from memory_api.server import Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]

SECURE = {
    "name": "secure",
    "namespace": "shop",
    "protocol": "HTTPS",
    "hostnames": ["secure.example", "www.secure.example"],
    "tls": {"secret": "shop-cert"},
    "backend": {"service": "shop", "port": 80},
}
ANY_NAME = {key: value for key, value in HTTP.items() if key != "hostnames"} | {"name": "any", "port": 8080}
OUTSIDE = {
    "name": "outside",
    "namespace": "shop",
    "protocol": "TLS",
    "hostnames": ["outside.example"],
    "port": 8443,
    "backend": {"host": "outside.example", "port": 443},
}
OWN = {**HTTP, "name": "own", "hostnames": ["own.example"], "port": 8088, "expose": "service", "node_port": 30080}
TEAM = {"namespace": "db", "service": "team"}
EVERYTHING = [HTTP, TCP, SECURE, ANY_NAME, OUTSIDE, OWN]


@pytest.fixture(autouse=True)
def addresses(server: Server) -> None:
    """The gateway's Service has the VIP, in both families."""
    ingress = [{"ip": "10.77.0.100"}, {"ip": "2001:db8::100"}]
    server.apply({**gateway(), "status": {"loadBalancer": {"ingress": ingress}}}, "edges", subresource="status")


def test_a_cluster_without_ours_has_no_sets(server: Server, run: Run) -> None:
    result = run("exposures_info")
    assert (result["changed"], result["sets"], result["findings"]) == (False, [], [])
    assert server.writes() == []


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_endpoints_are_what_the_module_exposures_returned(server: Server, run: Run, api: str) -> None:
    published = run("exposures", exposures=EVERYTHING, api=api, validate=False)
    assert not published.get("failed"), published
    [found] = run("exposures_info", findings=False)["sets"]
    wanted = sorted(published["endpoints"], key=lambda entry: (entry["namespace"], entry["name"], entry["port"]))
    assert found["endpoints"] == wanted
    assert {entry["name"] for entry in wanted} == {"any", "mysql", "outside", "own", "secure", "shop"}
    by_name = {entry["name"]: entry for entry in found["endpoints"]}
    assert by_name["shop"]["urls"] == ["http://shop.example/"]
    assert by_name["any"]["urls"] == ["http://10.77.0.100:8080/", "http://[2001:db8::100]:8080/"]
    assert by_name["mysql"]["addresses"] == ["10.77.0.100:65532", "[2001:db8::100]:65532"]


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_objects_and_ports_are_those_of_the_set(server: Server, run: Run, api: str) -> None:
    published = run("exposures", exposures=EVERYTHING, api=api, validate=False)
    [found] = run("exposures_info", findings=False)["sets"]
    assert found["name"] == "default"

    def name(entry: Json) -> tuple[str, str, str, str]:
        return entry["api_version"], entry["kind"], entry["namespace"], entry["name"]

    made = [
        (item["apiVersion"], item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
        for item in published["manifests"]
    ]
    assert sorted(name(entry) for entry in found["objects"]) == sorted(made)
    assert all(entry["changed_by"] == [] for entry in found["objects"])
    assert found["namespaces"] == ["db", "istio-system", "shop"]
    shared = [port for port in found["ports"] if port["service"] == "istio-system/istio-ingressgateway"]
    assert {port["port"]: port["node_port"] for port in shared}[65532] == 31532
    assert {80, 443}.isdisjoint(port["port"] for port in shared), "those are Istio's own"


def test_ports_of_two_sets_are_told_apart(server: Server, run: Run) -> None:
    run("exposures", exposures=[TCP], set="one")
    run("exposures", exposures=[{**TCP, "name": "two", "port": 65533, "node_port": 31533}], set="two")
    sets = run("exposures_info", findings=False)["sets"]
    assert [(one["name"], [port["port"] for port in one["ports"]]) for one in sets] == [
        ("one", [65532]),
        ("two", [65533]),
    ]
    assert sets[0]["ports"][0] == {
        "service": "istio-system/istio-ingressgateway",
        "port": 65532,
        "protocol": "TCP",
        "target_port": 65532,
        "node_port": 31532,
    }


def test_only_the_sets_that_were_asked_for(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP], set="one")
    run("exposures", exposures=[TCP], set="two")
    assert [one["name"] for one in run("exposures_info", sets=["two"], findings=False)["sets"]] == ["two"]
    assert run("exposures_info", sets=["three"], findings=False)["sets"] == []


def test_a_set_of_which_only_ports_are_left_is_told_of(server: Server, run: Run) -> None:
    run("exposures", exposures=[TCP], set="left")
    for key in [key for key, item in server.objects.items() if "edgeway.istio/set" in str(item["metadata"])]:
        del server.objects[key]
    [found] = run("exposures_info", findings=False)["sets"]
    assert (found["name"], found["objects"], found["endpoints"]) == ("left", [], [])
    assert [port["port"] for port in found["ports"]] == [65532]


def test_what_the_module_gateway_service_keeps_is_no_set(server: Server, run: Run) -> None:
    run("gateway_service", ports=[{"port": 65532}])
    assert run("exposures_info", findings=False)["sets"] == []


def test_a_gateway_of_another_team_answers_at_its_own_address(server: Server, run: Run) -> None:
    team = service("db", "team", 80, 443, type="LoadBalancer", loadBalancerClass="edgeway.istio/vip")
    team["spec"]["selector"] = {"app": "team", "istio": "team"}
    team["status"] = {"loadBalancer": {"ingress": [{"hostname": "team.example"}]}}
    server.add(team)
    server.add(pod("db", "team-1", app="team", istio="team"))
    exposures = [{**ANY_NAME, "port": 80, "gateway": TEAM}, {**HTTP, "name": "other"}]
    published = run("exposures", exposures=exposures, wait=False)
    [found] = run("exposures_info", findings=False)["sets"]
    assert found["endpoints"] == sorted(published["endpoints"], key=lambda entry: entry["name"])
    assert {entry["name"]: entry["urls"] for entry in found["endpoints"]} == {
        "any": ["http://team.example/"],
        "other": ["http://shop.example/"],
    }


def test_without_the_gateways_service_nothing_has_an_address(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP], wait=False)
    del server.objects["", "Service", "istio-system", "istio-ingressgateway"]
    [found] = run("exposures_info", findings=False)["sets"]
    assert [(one["urls"], one["addresses"]) for one in found["endpoints"]] == [(["http://shop.example/"], [])]


def test_who_else_has_changed_an_object_is_named(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    live = server.get("VirtualService", "shop", "shop")
    assert live is not None
    key = ("networking.istio.io", "VirtualService", "shop", "shop")
    kind = next(kind for kind in server.kinds if kind.plural == "virtualservices")
    live["spec"]["hosts"] = ["stolen.example"]
    server._update(kind, key, live, "kubectl-edit", "", dry=False)
    # A controller that writes status changes nothing of ours
    status = {key: live[key] for key in ("apiVersion", "kind")} | {"metadata": {"namespace": "shop", "name": "shop"}}
    server.apply({**status, "status": {"conditions": []}}, "pilot-discovery", subresource="status")
    [found] = run("exposures_info", findings=False)["sets"]
    assert {entry["kind"]: entry["changed_by"] for entry in found["objects"]} == {
        "DestinationRule": [],
        "Gateway": [],
        "VirtualService": ["kubectl-edit"],
    }


def said(**conditions: str) -> Json:
    return {"conditions": [{"type": kind, "status": value} for kind, value in conditions.items()]}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, {}),
        ({"parents": []}, {}),
        ({"parents": [said(Accepted="True")]}, {"Accepted": "True"}),
        # The worst of all parents, whichever comes first
        (
            {"parents": [said(Accepted="False", ResolvedRefs="True"), said(Accepted="True", ResolvedRefs="False")]},
            {"Accepted": "False", "ResolvedRefs": "False"},
        ),
    ],
)
def test_what_a_controller_says_of_a_route(server: Server, run: Run, status: Json, told: dict[str, str]) -> None:
    run("exposures", exposures=[HTTP], api="gateway_api", validate=False)
    server.objects["gateway.networking.k8s.io", "HTTPRoute", "shop", "shop"]["status"] = status
    [found] = run("exposures_info", findings=False)["sets"]
    assert {entry["kind"]: entry["conditions"] for entry in found["objects"]}["HTTPRoute"] == told


def test_what_a_controller_says_of_a_gateway(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP], api="gateway_api", validate=False)
    [live] = [item for key, item in server.objects.items() if key[1] == "Gateway"]
    live["status"] = {"conditions": [{"type": "Programmed", "status": "Unknown"}]}
    [found] = run("exposures_info", findings=False)["sets"]
    assert {entry["kind"]: entry["conditions"] for entry in found["objects"]}["Gateway"] == {"Programmed": "Unknown"}


def test_a_run_that_writes_now_is_seen(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    seen: list[bool] = []

    def look(request: Request) -> None:
        if request.writes and "virtualservices" in request.path and not seen:
            seen.append(True)
            seen.append(run("exposures_info", findings=False)["sets"][0]["writing"])

    server.before = look
    run("exposures", exposures=[{**HTTP, "hostnames": ["new.example"]}])
    server.before = None
    assert seen == [True, True]
    assert not run("exposures_info", findings=False)["sets"][0]["writing"]


def test_without_proof_a_set_is_not_proved(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP], wait=False)
    assert not run("exposures_info", findings=False)["sets"][0]["proved"]


def test_secrets_that_may_not_be_read_are_a_warning(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])

    def forbid(request: Request) -> None:
        if request.path.endswith("/secrets"):
            raise StatusError(403, "Forbidden", 'secrets is forbidden: User "viewer" cannot list resource "secrets"')

    server.before = forbid
    result = run("exposures_info", findings=False)
    assert not result.get("failed")
    assert [one["name"] for one in result["sets"]] == ["default"]
    told = str(result["warnings"])
    assert "Secret objects may not be listed, so none is shown. Give the user this right" in told
    assert "ConfigMap objects" not in told


def test_any_other_refusal_is_a_failure(server: Server, run: Run) -> None:
    def fail(request: Request) -> None:
        if request.path.endswith("/gateways"):
            raise StatusError(500, "InternalError", "etcdserver: request timed out")

    server.before = fail
    result = run("exposures_info", findings=False)
    assert result["failed"]
    assert "etcdserver: request timed out" in result["msg"]


def test_a_cluster_without_istio_and_without_the_gateway_api(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    server.kinds = CORE
    result = run("exposures_info")
    assert not result.get("failed"), result
    [found] = result["sets"]
    assert (found["objects"], found["endpoints"]) == ([], [])


def test_findings_are_about_everything_in_the_cluster(server: Server, run: Run) -> None:
    server.add(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "by-hand", "namespace": "istio-system"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{"port": {"number": 4711, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}],
            },
        }
    )
    found = run("exposures_info")["findings"]
    assert [one["code"] for one in found] == ["port-not-on-service", "listener-without-routes"]
    assert all("Gateway istio-system/by-hand" in one["objects"] for one in found)
    server.log.clear()
    assert run("exposures_info", findings=False)["findings"] == []
    assert not [request for request in server.log if request.path.endswith(("/endpointslices", "/nodes", "/pods"))]


def test_each_kind_is_listed_once(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    server.log.clear()
    run("exposures_info")
    asked = Counter(request.path for request in server.log if request.method == "GET")
    assert asked["/api/v1/services"] == asked["/apis/networking.istio.io/v1/virtualservices"] == 1
    # By labels, pods are asked for more than once: istiod's, and each gateway's
    assert {path for path, count in asked.items() if count > 1} <= {"/api/v1/pods"}
