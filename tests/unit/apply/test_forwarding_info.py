"""The module forwarding_info, whole, against an API server in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memory_api import Server
from memory_api.kinds import CORE, Kind
from memory_api.sample import gateway

Run = Callable[..., dict[str, Any]]
MORE = (Kind("", "Node", "nodes", namespaced=False), Kind("discovery.k8s.io", "EndpointSlice", "endpointslices"))
GATEWAY = "istio-system/istio-ingressgateway"


def node(name: str, address: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


@pytest.fixture
def server() -> Iterator[Server]:
    known = {kind.name for kind in CORE}
    with Server((*CORE, *(kind for kind in MORE if kind.name not in known))).running() as running:
        for name in ("istio-system", "kube-system"):
            running.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        running.add(node("node1", "192.0.2.11"))
        service = gateway()
        service["spec"] |= {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
        running.apply(service, "istio-operator")
        yield running


def test_nodes_ask_kube_proxy_for_their_own_gateway_pods(run: Run) -> None:
    found = run("forwarding_info", edges={"first": "node1", "second": "other"}, gateways=[GATEWAY, "x/not-there"])
    assert found["failed"]
    assert "second" in found["msg"]
    found = run("forwarding_info", edges={"first": "node1"}, gateways=[GATEWAY, "x/not-there"])
    assert not found["changed"]
    assert found["listeners"] == []
    ((check,),) = found["checks"].values()
    assert check["url"] == "http://192.0.2.11:31000/healthz"
    assert any("no ready gateway pod" in str(warning) for warning in found["warnings"])


def test_boxes_pass_on_to_node_ports(run: Run) -> None:
    found = run("forwarding_info", mode="haproxy", edges={"box1": "box1"}, gateways=[GATEWAY])
    assert {server["address"] for listener in found["listeners"] for server in listener["servers"]} == {"192.0.2.11"}
    assert {listener["check_port"] for listener in found["listeners"]} == {31000}
    assert found["checks"] == {"box1": []}


def test_before_anything_is_installed_there_is_nothing_to_forward(run: Run) -> None:
    found = run("forwarding_info", edges={"node1": "node1"}, gateways=["istio-system/not-there"])
    assert (found["listeners"], found["checks"]) == ([], {"node1": []})


def test_kube_proxys_settings_count(run: Run, server: Server) -> None:
    proxy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-proxy", "namespace": "kube-system"}}
    server.add({**proxy, "data": {"config.conf": "mode: ipvs\nipvs: {strictARP: false}\n"}})
    found = run("forwarding_info", edges={"node1": "node1"}, gateways=[GATEWAY])
    assert found["failed"]
    assert "strictARP" in found["msg"]
