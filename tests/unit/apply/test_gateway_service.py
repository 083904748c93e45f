"""The module gateway_service, whole, against an API server in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _service
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from memory_api import Server
from memory_api.kinds import Kind
from memory_api.sample import HTTP, TCP, gateway, service
from memory_api.server import DropError, Request, StatusError

Run = Callable[..., dict[str, Any]]


PORTS = [{"port": 65532, "node_port": 31532}, {"port": 80, "node_port": 30080}]
VIP = "10.77.0.100"


def ports(server: Server) -> dict[int, tuple[Any, int]]:
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    return {port["port"]: (port["targetPort"], port["nodePort"]) for port in live["spec"]["ports"]}


def vips(server: Server) -> list[str]:
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    return [entry["ip"] for entry in live.get("status", {}).get("loadBalancer", {}).get("ingress", [])]


def test_ports_node_ports_and_vip(server: Server, run: Run) -> None:
    would = run("gateway_service", ports=PORTS, vips=[VIP], check=True)
    assert server.writes() == []
    did = run("gateway_service", ports=PORTS, vips=[VIP])
    assert would["changed"]
    assert would == did
    assert ports(server)[65532] == (65532, 31532)
    assert ports(server)[80] == (8080, 30080)
    assert vips(server) == [VIP]
    assert did["service"]["vips"] == [VIP]
    assert did["diff"][0]["after"]["status"] == {"vips": [VIP]}
    before = server.state()
    again = run("gateway_service", ports=PORTS, vips=[VIP])
    assert not again["changed"]
    assert again["diff"] == []
    assert server.state() == before


def test_ports_survive_a_new_install(server: Server, run: Run) -> None:
    run("gateway_service", ports=PORTS, vips=[VIP])
    changed = gateway()
    changed["metadata"]["labels"] = {"release": "two"}
    server.apply(changed, "istio-operator", force=True)
    assert ports(server)[65532] == (65532, 31532)
    assert ports(server)[80] == (8080, 30080)
    assert not run("gateway_service", ports=PORTS, vips=[VIP])["changed"]


def test_absent_gives_all_of_it_up(server: Server, run: Run) -> None:
    before = server.state()
    node_port = ports(server)[80][1]
    run("gateway_service", ports=[{"port": 80, "node_port": node_port}, {"port": 65532}], vips=[VIP])
    assert run("gateway_service", state="absent")["changed"]
    after = server.state()
    status = after["", "Service", "istio-system", "istio-ingressgateway"].pop("status", {})
    assert not (status.get("loadBalancer") or {}).get("ingress")
    assert after == before
    assert not run("gateway_service", state="absent")["changed"]


def test_a_port_that_ends_where_nobody_listens_is_told_before_it_is_opened(server: Server, run: Run) -> None:
    beside = {"name": "beside", "selector": {"istio": "ingressgateway"}, "type": "NodePort"}
    lost = {**beside, "ports": [{"port": 8088, "target_port": 8089, "node_port": 30080}]}
    told = "Port 8088 of Service istio-system/beside ends at 8089 of"
    run("exposures", exposures=[HTTP])
    server.log.clear()
    assert told in str(run("gateway_service", **lost, check=True)["warnings"])
    assert server.writes() == []
    assert told in str(run("gateway_service", **lost)["warnings"])
    run("exposures", exposures=[HTTP, {**TCP, "port": 8089}], validate=False)
    # One process keeps the warnings of all runs
    options = _service.Options(namespace="istio-system", set_name="default", **lost)
    assert _service.ensure(options, connect({"kubeconfig": server.kubeconfig()})).warnings == []


def test_an_exposure_list_of_the_same_set_keeps_its_ports(server: Server, run: Run) -> None:
    run("gateway_service", ports=[{"port": 65532}])
    run("exposures", exposures=[TCP])
    run("gateway_service", ports=[])
    assert 65532 in ports(server)
    run("exposures", exposures=[HTTP])
    assert 65532 not in ports(server)


def test_without_the_service(server: Server, run: Run) -> None:
    would = run("gateway_service", name="missing", ports=PORTS, vips=[VIP], check=True)
    assert would["changed"]
    assert would["service"] is None
    assert "doesn't exist yet" in str(would["warnings"])
    assert not run("gateway_service", name="missing", vips=[VIP], before_istio=True, check=True).get("warnings")
    assert run("gateway_service", name="missing", ports=PORTS)["failed"]
    assert not run("gateway_service", name="missing", state="absent")["changed"]
    assert server.writes() == []


def test_a_port_of_another_manager_is_refused(server: Server, run: Run) -> None:
    result = run("gateway_service", ports=[{"port": 80, "target_port": 9999}])
    assert result["failed"]
    assert "belongs to 'istio-operator'" in result["msg"]
    assert "targetPort 8080, not 9999" in result["msg"]
    assert server.writes() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # A port with its nodePort goes, and another gets it
        ([{"port": 65532, "node_port": 31532}], {65533: 31532}),
        # Two ports change places
        ([{"port": 65532, "node_port": 31532}, {"port": 65533, "node_port": 31533}], {65532: 31533, 65533: 31532}),
        # The installer's own port, where it was pinned, gets another one
        ([{"port": 80, "node_port": 31532}], {65533: 31532}),
        # What the server chose is known by now
        ([{"port": 65532}], {65533: 0}),
    ],
)
def test_a_node_port_moves_to_another_port(
    server: Server, run: Run, before: list[dict[str, int]], after: dict[int, int]
) -> None:
    run("gateway_service", ports=before)
    wanted = {port: pinned or ports(server)[65532][1] for port, pinned in after.items()}
    options = {"ports": [{"port": port, "node_port": pinned} for port, pinned in wanted.items()]}
    would = run("gateway_service", **options, check=True)
    did = run("gateway_service", **options)
    assert (would.get("changed"), did.get("changed")) == (True, True), did
    found = {port: pinned for port, (_target, pinned) in ports(server).items()}
    assert {port: pinned for port, pinned in found.items() if port > 60000} == wanted
    assert len(set(found.values())) == len(found)
    assert not run("gateway_service", **options)["changed"]


def test_a_node_port_that_another_owner_needs_stays(server: Server, run: Run) -> None:
    for name in ("default", "other"):
        run("gateway_service", ports=[{"port": 65532, "node_port": 31532}], set=name)
    before = server.state()
    result = run("gateway_service", ports=[{"port": 65533, "node_port": 31532}])
    assert "nodePort 31532 is taken by port 65532" in result["msg"]
    result = run("gateway_service", ports=[{"port": 65533, "node_port": ports(server)[443][1]}])
    assert "is taken by port 443" in result["msg"]
    assert server.state() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ports": [{"port": 0}]}, ["ports[0].port"]),
        ({"ports": [{"port": 81}, {"port": 81}]}, ["ports[1].port", "ports[0]"]),
        ({"ports": [{"port": 81, "node_port": 30001}, {"port": 82, "node_port": 30001}]}, ["ports[1].node_port"]),
        ({"vips": ["10.77.0.100/24"]}, ["vips[0]"]),
        ({"ports": [{"port": 0}, {"port": 70000}], "vips": ["x"]}, ["ports[0].port", "ports[1].port", "vips[0]"]),
    ],
)
def test_wrong_input_names_the_field(server: Server, run: Run, options: dict[str, Any], words: list[str]) -> None:
    result = run("gateway_service", **options)
    assert result["failed"]
    for word in words:
        assert word in result["msg"]
    assert server.log == []


def test_only_a_load_balancer_carries_a_vip(server: Server, run: Run) -> None:
    server.add(service("shop", "gw", 80, type="NodePort"))
    result = run("gateway_service", namespace="shop", name="gw", vips=[VIP])
    assert "is of type NodePort" in result["msg"]
    assert server.writes() == []


def test_another_class_is_left_to_its_controller(server: Server, run: Run) -> None:
    server.add(service("shop", "gw", 80, type="LoadBalancer", loadBalancerClass="example.com/lb"))
    result = run("gateway_service", namespace="shop", name="gw", vips=[VIP])
    assert "loadBalancerClass 'example.com/lb'" in result["msg"]


def test_without_a_class_nobody_else_may_serve_it(server: Server, run: Run) -> None:
    server.add(service("shop", "gw", 80, type="LoadBalancer"))
    server.kinds += (Kind("metallb.io", "IPAddressPool", "ipaddresspools", ("v1beta1",)),)
    assert run("gateway_service", namespace="shop", name="gw", vips=[VIP])["changed"]
    server.add(
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": "pool", "namespace": "shop"},
            "spec": {"addresses": ["10.77.0.200-10.77.0.210"]},
        }
    )
    result = run("gateway_service", namespace="shop", name="gw", vips=[VIP])
    assert "MetalLB gives such Services their addresses" in result["msg"]


def test_one_vip_and_port_is_one_service(server: Server, run: Run) -> None:
    run("gateway_service", vips=[VIP])
    server.add(service("shop", "gw", 80, type="LoadBalancer", loadBalancerClass="edgeway.istio/vip"))
    result = run("gateway_service", namespace="shop", name="gw", vips=[VIP])
    assert f"Service istio-system/istio-ingressgateway has the VIP {VIP} too, with port 80" in result["msg"]


# A Service of one's own, beside the gateway's

OWN = {"namespace": "istio-system", "name": "web", "selector": {"istio": "ingressgateway"}}


def own(server: Server) -> dict[str, Any]:
    live = server.get("Service", "istio-system", "web")
    assert live is not None
    return live


def test_a_service_of_ones_own_is_made_and_removed(server: Server, run: Run) -> None:
    before = server.state()
    options = {**OWN, "ports": [{"port": 8088, "node_port": 30080}], "vips": [VIP]}
    would = run("gateway_service", **options, check=True)
    assert server.writes() == []
    did = run("gateway_service", **options)
    assert (would["changed"], did["changed"]) == (True, True)
    spec = own(server)["spec"]
    assert (spec["type"], spec["loadBalancerClass"]) == ("LoadBalancer", "edgeway.istio/vip")
    assert spec["selector"] == {"istio": "ingressgateway"}
    assert [(port["port"], port["targetPort"], port["nodePort"]) for port in spec["ports"]] == [(8088, 8088, 30080)]
    assert own(server)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "edgeway"
    assert did["service"]["vips"] == [VIP]
    assert not run("gateway_service", **options)["changed"]
    would = run("gateway_service", **OWN, state="absent", check=True)
    assert (would["changed"], would["service"]) == (True, None)
    assert run("gateway_service", **OWN, state="absent")["changed"]
    assert server.state() == before
    assert not run("gateway_service", **OWN, state="absent")["changed"]


def test_of_another_type_and_policy(server: Server, run: Run) -> None:
    run("gateway_service", **OWN, ports=[{"port": 8088}], type="NodePort", external_traffic_policy="Local")
    assert own(server)["spec"]["externalTrafficPolicy"] == "Local"
    assert "loadBalancerClass" not in own(server)["spec"]
    result = run("gateway_service", **OWN, ports=[{"port": 8088}], type="LoadBalancer", vips=[VIP])
    assert result["changed"]
    assert own(server)["spec"]["loadBalancerClass"] == "edgeway.istio/vip"
    assert own(server)["status"]["loadBalancer"]["ingress"][0]["ip"] == VIP


def test_policy_and_type_of_the_installers_service_without_a_port(server: Server, run: Run) -> None:
    assert run("gateway_service", external_traffic_policy="Local")["service"]["external_traffic_policy"] == "Local"
    result = run("gateway_service", type="NodePort")
    assert "istio-operator" in result["msg"]
    assert run("gateway_service", type="NodePort", force=True)["service"]["type"] == "NodePort"


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "edgeway", "edgeway.istio/set": "default"}])
def test_a_service_of_somebody_else_or_of_a_list_is_not_taken(server: Server, run: Run, labels: dict[str, str]) -> None:
    theirs = service("istio-system", "web", 81)
    theirs["metadata"]["labels"] = labels
    server.add(theirs)
    for state in ("present", "absent"):
        result = run("gateway_service", **OWN, ports=[{"port": 8088}], state=state)
        assert result["failed"]
        assert "Service istio-system/web" in result["msg"]
    assert server.writes() == []


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"ports": [{"port": 81, "target_port": 0}]}, ["ports[0].target_port"]),
        ({"ports": [{"port": 81, "node_port": 70000}]}, ["ports[0].node_port"]),
        ({"selector": {}, "ports": [{"port": 81}]}, ["selector"]),
        ({"selector": {"a": "b"}}, ["ports"]),
        ({"type": "ClusterIP", "external_traffic_policy": "Local"}, ["external_traffic_policy"]),
    ],
)
def test_what_makes_no_sense_is_named(run: Run, server: Server, options: dict[str, Any], paths: list[str]) -> None:
    result = run("gateway_service", **options)
    assert [problem["path"] for problem in result["problems"]] == paths
    assert all(problem["cure"] for problem in result["problems"])
    assert server.log == []


def test_a_status_that_is_refused_takes_the_ports_back(server: Server, run: Run) -> None:
    before = server.state()

    def refuse(request: Request) -> None:
        if request.writes and request.path.endswith("/status"):
            raise StatusError(403, "Forbidden", "services/status is forbidden")

    server.before = refuse
    result = run("gateway_service", ports=PORTS, vips=[VIP])
    assert "services/status is forbidden" in result["msg"]
    assert "Nothing has changed: what had been written was put back." in result["msg"]
    assert server.state() == before


@pytest.mark.parametrize("how", ["status unanswered", "next refused"])
@pytest.mark.parametrize("had", [[], ["10.77.0.99"]])
def test_a_status_that_was_written_is_put_back_too(server: Server, run: Run, how: str, had: list[str]) -> None:
    run("gateway_service", ports=[{"port": 65533}], vips=had)
    before = server.state()
    written: list[str] = []

    def refuse(request: Request) -> None:
        if written and request.writes and not request.path.endswith("/status") and request.method == "PATCH":
            server.before = None
            raise StatusError(500, "InternalError", "injected")

    def drop(request: Request) -> None:
        if request.writes and request.path.endswith("/status") and len(written) < 2:
            written.append(request.path)
            if how == "status unanswered":
                raise DropError

    server.before, server.after = refuse, drop
    # Port 65533 goes once the status is written
    result = run("gateway_service", ports=PORTS, vips=[VIP])
    server.before = server.after = None
    assert written
    assert "Nothing has changed: what had been written was put back." in result["msg"]
    assert server.state() == before


def test_a_status_that_cannot_be_put_back_is_said(server: Server, run: Run) -> None:
    run("gateway_service", ports=[{"port": 65533}])
    written: list[str] = []

    def refuse(request: Request) -> None:
        if written and request.writes:
            raise StatusError(500, "InternalError", "injected")

    def note(request: Request) -> None:
        if request.writes and request.path.endswith("/status"):
            written.append(request.path)

    server.before, server.after = refuse, note
    result = run("gateway_service", ports=PORTS, vips=[VIP])
    assert "could not be put back wholly" in result["msg"]
    assert "The status of Service istio-system/istio-ingressgateway: injected" in result["msg"]


def test_an_address_that_was_taken_from_somebody_is_theirs_to_put_back(server: Server, run: Run) -> None:
    ingress = {"loadBalancer": {"ingress": [{"ip": "10.77.0.98"}]}}
    server.apply({**gateway(), "status": ingress}, "another", subresource="status")
    run("gateway_service", ports=[{"port": 65533}])

    def refuse(request: Request) -> None:
        if vips(server) == [VIP] and request.writes:
            server.before = None
            raise StatusError(500, "InternalError", "injected")

    server.before = refuse
    result = run("gateway_service", ports=PORTS, vips=[VIP], force=True)
    assert "istio-ingressgateway: 10.77.0.98 was another manager's. Have it write that again." in result["msg"]


def test_controllers_that_may_not_be_looked_for_do_not_stand_in_the_way(server: Server, run: Run) -> None:
    server.add(service("shop", "gw", 80, type="LoadBalancer"))

    def refuse(request: Request) -> None:
        if "metallb" in request.path or "daemonsets" in request.path:
            raise StatusError(403, "Forbidden", "forbidden")

    server.before = refuse
    assert run("gateway_service", namespace="shop", name="gw", vips=[VIP])["changed"]
