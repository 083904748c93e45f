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


def clusters(**part: Any) -> _envoy.Config:
    return _envoy.read(dump("ClustersConfigDump", **part))


def test_a_cluster_says_which_services_are_behind_it_and_who_shaped_it() -> None:
    istio = {
        "services": [{"namespace": "shop", "name": "web"}],
        "config": "/apis/x/namespaces/shop/destination-rule/web",
    }
    raw = {"name": "c", "type": "EDS", "connect_timeout": "1s", "metadata": {"filter_metadata": {"istio": istio}}}
    found = clusters(static_clusters=[{"cluster": raw}]).clusters["c"]
    assert (found.services, found.origin, found.connect_timeout) == (("shop/web",), istio["config"], "1s")


def test_a_cluster_that_envoy_refuses_keeps_what_it_had() -> None:
    error = {"details": "no such\n  extension", "last_update_attempt": "2026-01-01T00:00:00Z"}
    found = clusters(dynamic_active_clusters=[{"cluster": {"name": "c"}, "error_state": error}])
    assert "c" in found.clusters
    assert [(one.kind, one.name, one.reason) for one in found.rejected] == [("cluster", "c", "no such extension")]


@pytest.mark.parametrize(
    ("chain", "found"),
    [
        ({"inline_string": "PEM"}, b"PEM"),
        ({"inline_bytes": "UEVN"}, b"PEM"),
        ({"inline_bytes": "not base64!"}, None),
        ({"filename": "/etc/certs/tls.crt"}, None),
    ],
)
def test_certificates(chain: dict[str, str], found: bytes | None) -> None:
    entry = {"name": "s", "secret": {"tls_certificate": {"certificate_chain": chain}}}
    said = _envoy.read(dump("SecretsConfigDump", static_secrets=[entry], dynamic_active_secrets=[{"name": "ca"}]))
    assert said.secrets == ({} if found is None else {"s": found})


def test_who_envoy_is() -> None:
    metadata = {"ISTIO_VERSION": "1.31.0", "PROXY_CONFIG": {"discoveryAddress": "istiod.istio-system.svc:15012"}}
    found = _envoy.read(
        dump("BootstrapConfigDump", bootstrap={"node": {"id": "router~10.0.0.1", "metadata": metadata}})
    )
    assert (found.node, found.istio_version, found.discovery) == (
        "router~10.0.0.1",
        "1.31.0",
        "istiod.istio-system.svc:15012",
    )


def chain(*filters: dict[str, Any]) -> _envoy.Chain:
    listener = {"name": "l", "address": address("0.0.0.0", 80), "default_filter_chain": {"filters": list(filters)}}
    found = _envoy.read(dump("ListenersConfigDump", static_listeners=[{"listener": listener}]))
    return found.listeners[0].chains[0]


def test_shares_of_tcp() -> None:
    weighted = {"clusters": [{"name": "a", "weight": 90}, {"name": "b", "weight": {"value": 10}}, {"name": "c"}]}
    proxy = {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"}
    found = chain({"name": "rbac"}, {"typed_config": {**proxy, "weighted_clusters": weighted}})
    assert (found.kind, found.clusters) == ("TCP", (("a", 90), ("b", 10), ("c", 0)))


def test_routes_inside_a_listener_are_found_by_name_or_by_statistics() -> None:
    hosts = [{"name": "h", "domains": ["*"], "routes": [{"name": "r", "route": {"timeout": "5s"}}]}]
    for given, name in (({"name": "inline"}, "inline"), ({}, "outbound_0.0.0.0_80")):
        config = {"stat_prefix": "outbound_0.0.0.0_80", "route_config": {**given, "virtual_hosts": hosts}}
        listener = {"address": address("0.0.0.0", 80), "filter_chains": [{"filters": [{"typed_config": config}]}]}
        found = _envoy.read(dump("ListenersConfigDump", static_listeners=[{"listener": listener}]))
        assert found.listeners[0].chains[0].route_config == name
        assert found.routes[name][0].routes[0].timeout == "5s"


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("5", 5), ({"value": "7"}, 7), ({}, 0), (None, 0), ("x", 0), ([], 0), ([1], 0)]
)
def test_numbers_of_protobuf(value: Any, number: int) -> None:
    assert _envoy.number(value) == number


@pytest.mark.parametrize(
    ("policies", "found"),
    [
        ({"ns[a]-policy[b]-rule[0]": {}, "ns[a]-policy[b]-rule[1]": {}}, ("ALLOW a/b",)),
        ({"istio-ext-authz-deny": {}}, ("ALLOW istio-ext-authz-deny",)),
    ],
)
def test_policies_without_an_action_allow(policies: dict[str, Any], found: tuple[str, ...]) -> None:
    assert chain({"typed_config": {"rules": {"policies": policies}}}).policies == found
    assert chain({"typed_config": {"rules": "text"}}).policies == ()


def test_parts_that_hold_nothing_are_passed_over() -> None:
    empty = [{}, {"route_config": {}}, {"route_config": {"name": "r"}}]
    assert _envoy.read(dump("RoutesConfigDump", static_route_configs=empty)).routes == {"r": ()}
    assert _envoy.read(dump("EndpointsConfigDump", static_endpoint_configs=[{}])).endpoints == {"": ()}
    lacking = {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{}, {"endpoint": {"hostname": "x"}}]}]}
    assert _envoy.read(
        dump("EndpointsConfigDump", static_endpoint_configs=[{"endpoint_config": lacking}])
    ).endpoints == {"c": ()}
    assert _envoy.read({"configs": [{"@type": "type.googleapis.com/x.ScopedRoutesConfigDump"}]}) == _envoy.Config()


@pytest.mark.parametrize(("raw", "redirects"), [({"redirect": {}}, True), ({"route": {}}, False)])
def test_redirects(raw: dict[str, Any], redirects: bool) -> None:
    assert _envoy.Route("r", {}, raw=raw).redirects is redirects


def test_an_address_of_version_6_is_written_with_brackets() -> None:
    assert (str(_envoy.Endpoint("::1", 80)), str(_envoy.Endpoint("10.0.0.1", 80))) == ("[::1]:80", "10.0.0.1:80")
