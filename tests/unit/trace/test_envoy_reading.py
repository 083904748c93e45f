"""What is read of a config dump beyond its routes: health, refusals, what warms, policies."""

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _envoy

ADMIN = "type.googleapis.com/envoy.admin.v3."


def dump(kind: str, **parts: Any) -> dict[str, Any]:
    return {"configs": [{"@type": ADMIN + kind, **parts}]}


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def test_empty_dump_is_an_empty_configuration() -> None:
    assert _envoy.read({}) == _envoy.Config()


def test_refused_and_warming_listeners() -> None:
    listener = {"name": "0.0.0.0_8443", "address": address("0.0.0.0", 8443)}
    error = {"last_update_attempt": "2026-01-01T00:00:00Z", "details": "no such\n filter"}
    found = _envoy.read(
        dump(
            "ListenersConfigDump",
            dynamic_listeners=[
                {"name": "0.0.0.0_8443", "warming_state": {"listener": listener}, "error_state": error},
                {"name": "gone", "draining_state": {"listener": {"name": "gone", "address": address("0.0.0.0", 1)}}},
            ],
        )
    )
    assert found.listeners == ()
    assert [one.port for one in found.warming] == [8443]
    assert found.rejected == (
        _envoy.Rejection("listener", "0.0.0.0_8443", "no such filter", "2026-01-01T00:00:00Z"),
    )  # fmt: skip


def test_policies_of_a_chain() -> None:
    rules = {"action": "DENY", "policies": {"ns[gw]-policy[no]-rule[0]": {}, "ns[gw]-policy[no]-rule[1]": {}}}
    http = {"rds": {"route_config_name": "http.8080"}, "http_filters": [{"typed_config": {"rules": rules}}]}
    listener = {
        "name": "l",
        "address": address("0.0.0.0", 8080),
        "filter_chains": [{"filters": [{"typed_config": http}]}],
    }
    found = _envoy.read(dump("ListenersConfigDump", dynamic_listeners=[{"active_state": {"listener": listener}}]))
    [chain] = found.listeners[0].chains
    assert (chain.kind, chain.policies) == ("HTTP", ("DENY gw/no",))


def test_endpoints_have_envoys_own_health() -> None:
    name = "outbound|80||echo.web.svc.cluster.local"
    sent = {
        "endpoint": {"address": address("10.0.0.1", 8080)},
        "health_status": "HEALTHY",
        "metadata": {
            "filter_metadata": {
                "istio": {"workload": "echo-v1;web;echo;v1;Kubernetes"},
                "envoy.transport_socket_match": {"tlsMode": "istio"},
            }
        },
    }
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [sent]}]}
    told = dump("EndpointsConfigDump", dynamic_endpoint_configs=[{"endpoint_config": assignment}])
    assert _envoy.read(told).endpoints[name][0].usable
    host = {
        "address": address("10.0.0.1", 8080),
        "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True},
        "stats": [{"name": "cx_total", "value": "5"}, {"name": "cx_connect_fail", "value": "3"}],
    }
    [found] = _envoy.read(told, {"cluster_statuses": [{"name": name, "host_statuses": [host]}]}).endpoints[name]
    assert not found.usable
    assert found.problems == ("failed_outlier_check",)
    assert (found.workload, found.mutual_tls) == ("web/echo-v1", True)
    assert (found.connections, found.failures) == (5, 3)


@pytest.mark.parametrize(
    ("raw", "transport"),
    [
        ({}, "plain"),
        ({"transport_socket_matches": [{}]}, "auto"),
        ({"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {}}}, "tls"),
        (
            {
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {
                        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}]}
                    },
                }
            },
            "mutual",
        ),
    ],
)
def test_transport(raw: dict[str, Any], transport: str) -> None:
    assert _envoy.Cluster("c", "EDS", raw=raw).transport == transport


@pytest.mark.parametrize(
    ("percentage", "status"),
    [
        ({"numerator": 100}, 503),
        ({"numerator": 1_000_000, "denominator": "MILLION"}, 503),
        ({"numerator": 5_000, "denominator": "TEN_THOUSAND"}, 503),
        ({"numerator": 10}, 0),
        ({}, 0),
    ],
)
def test_injected_fault(percentage: dict[str, Any], status: int) -> None:
    fault = {"abort": {"http_status": 503, "percentage": percentage}}
    assert _envoy.Route("r", {}, raw={"typed_per_filter_config": {_envoy._FAULT: fault}}).status == status


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/apis/networking.istio.io/v1/namespaces/web/virtual-service/web", "VirtualService web/web"),
        ("/apis/networking.istio.io/v1/namespaces/db/destination-rule/mysql", "DestinationRule db/mysql"),
        ("/apis/gateway.networking.k8s.io/v1/namespaces/web/HTTPRoute/web", "HTTPRoute web/web"),
        ("something else", "something else"),
    ],
)
def test_object_name(path: str, name: str) -> None:
    assert _envoy.object_name(path) == name
