"""How what arrives at a VIP gets to the gateway."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _forward
from ansible_collections.edgeway.istio.plugins.module_utils.edges._forward import Listener, Server

NODES = [
    {
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }
    for name, address in (("node2", "192.0.2.12"), ("node1", "192.0.2.11"))
]
SLICES = [{"endpoints": [{"nodeName": "node1", "conditions": {"ready": True}}, {"nodeName": "node2"}]}]
SERVICE: dict[str, Any] = {
    "spec": {
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31000,
        "ports": [
            {"name": "http2", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "quic", "port": 443, "protocol": "UDP", "nodePort": 30443},
        ],
    }
}
CLUSTER_POLICY = {"spec": {**SERVICE["spec"], "externalTrafficPolicy": "Cluster"}}
INSIDE = {"node1": "node1", "edge-two": "node2"}
OUTSIDE = {"box1": "box1"}


def plan(mode: str, edges: dict[str, str], **options: Any) -> _forward.Forwarding:
    given: dict[str, Any] = {"service": SERVICE, "nodes": NODES, "slices": SLICES, "kube_proxy": {"mode": "nftables"}}
    return _forward.plan(mode, edges=edges, **{**given, **options})


def test_service_needs_no_listeners() -> None:
    assert plan("service", INSIDE) == _forward.Forwarding("service", (), (), ())


def test_haproxy_goes_to_node_ports() -> None:
    servers = (Server("node1", "192.0.2.11", 30080), Server("node2", "192.0.2.12", 30080))
    assert plan("haproxy", OUTSIDE, proxy_protocol=True) == _forward.Forwarding(
        "haproxy", (Listener("http2", 80, servers, 31000),), (), ()
    )


def test_lvs_keeps_the_port() -> None:
    (listener,) = plan("lvs", OUTSIDE).listeners
    assert {server.port for server in listener.servers} == {80}


def test_without_local_policy_no_node_can_be_asked() -> None:
    (listener,) = plan("haproxy", OUTSIDE, service=CLUSTER_POLICY).listeners
    assert listener.check_port == 0


def test_before_anything_is_installed_nothing_is_wrong() -> None:
    for mode, edges in (("service", INSIDE), ("haproxy", OUTSIDE)):
        found = plan(mode, edges, service=None, nodes=[], slices=[], kube_proxy=None)
        assert (found.listeners, found.problems, found.warnings) == ((), (), ())


@pytest.mark.parametrize(
    ("mode", "edges", "options", "expected"),
    [
        ("ipvs", INSIDE, {}, ["edgeway_forwarding: `ipvs` is not known. Write service, haproxy, lvs"]),
        ("service", OUTSIDE, {}, ["edgeway_forwarding: is service, and not a node of the cluster: box1"]),
        ("haproxy", INSIDE, {}, ["edgeway_forwarding: is haproxy, and node1 and edge-two are nodes of the cluster"]),
        ("lvs", {"n": "node1"}, {}, ["edgeway_forwarding: is lvs, and n is a node of the cluster"]),
        ("service", INSIDE, {"proxy_protocol": True}, ["edgeway_proxy_protocol: needs haproxy"]),
        ("service", INSIDE, {"kube_proxy": {"mode": "ipvs"}}, ["edgeway_forwarding: is service, and kube-proxy is in"]),
        ("service", INSIDE, {"kube_proxy": {"mode": "ipvs", "ipvs": {"strictARP": True}}}, []),
        ("haproxy", OUTSIDE, {"kube_proxy": {"mode": "ipvs"}}, []),
        ("haproxy", OUTSIDE, {"kube_proxy": {"nodePortAddresses": ["primary"]}}, []),
        ("haproxy", OUTSIDE, {"kube_proxy": {"nodePortAddresses": ["192.0.2.0/24"]}}, []),
        (
            "haproxy",
            OUTSIDE,
            {"kube_proxy": {"nodePortAddresses": ["192.0.2.11/32"]}},
            ["edgeway_forwarding: is haproxy, and kube-proxy's nodePortAddresses leave out the address of node2"],
        ),
        ("service", INSIDE, {"kube_proxy": {"nodePortAddresses": ["192.0.2.0/24"]}}, []),
        (
            "service",
            INSIDE,
            {"kube_proxy": {"nodePortAddresses": ["192.0.2.11/32"]}},
            ["edgeway_forwarding: is service, and kube-proxy's nodePortAddresses leave out the address of node2"],
        ),
        ("service", {"node1": "node1"}, {"kube_proxy": {"nodePortAddresses": ["192.0.2.11/32"]}}, []),
        ("service", INSIDE, {"kube_proxy": {"nodePortAddresses": ["::1/128"]}, "service": CLUSTER_POLICY}, []),
        (
            "haproxy",
            OUTSIDE,
            {"service": {"spec": {"ports": [{"port": 80}]}}},
            ["edgeway_forwarding: is haproxy, and port 80 of the gateway's Service has no node port"],
        ),
    ],
)
def test_problems(mode: str, edges: dict[str, str], options: dict[str, Any], expected: list[str]) -> None:
    found = [str(problem) for problem in plan(mode, edges, **options).problems]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_warnings() -> None:
    (warning,) = plan("service", INSIDE, kube_proxy=None).warnings
    assert warning.startswith(
        "kube-proxy's configuration (ConfigMap kube-system/kube-proxy) isn't in the cluster, or may not be read"
    )
    unready = [{"endpoints": [{"nodeName": "node1"}, {"nodeName": "node2", "conditions": {"ready": False}}]}]
    (warning,) = plan("service", INSIDE, slices=unready).warnings
    assert warning.startswith("edge-two has no ready gateway pod")


def service(name: str, namespace: str = "istio-system", port: int | None = 30123) -> dict[str, Any]:
    spec = {"healthCheckNodePort": port} if port else {}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_an_edge_asks_for_each_gateway_that_can_be_asked() -> None:
    (check,) = _forward.checks([service("a"), service("b", port=None)], "192.0.2.11")
    assert check["name"] == "a"
    assert check["url"] == "http://192.0.2.11:30123/healthz"
    (check,) = _forward.checks([service("a")], "2001:db8::11")
    assert check["url"] == "http://[2001:db8::11]:30123/healthz"
    assert _forward.checks([service("a")], "") == []


def test_checks_of_gateways_with_one_name_are_told_apart() -> None:
    names = [
        each["name"] for each in _forward.checks([service("a", "x"), service("a", "y"), service("b")], "192.0.2.11")
    ]
    assert names == ["x-a", "y-a", "b"]
