"""What a gateway pod's configuration must hold for an object, and whether it does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _publish
from ansible_collections.edgeway.istio.plugins.module_utils._envoy import (
    Chain,
    Cluster,
    Config,
    Listener,
    Route,
    VirtualHost,
)
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _proof
from ansible_collections.edgeway.istio.plugins.module_utils.publish._proof import (
    HasCertificate,
    HasChain,
    HasCluster,
    HasRoute,
    NoChain,
    NoRoute,
    Place,
    World,
)

Json = dict[str, Any]
WEB = "outbound|80||web.shop.svc.cluster.local"
OTHER = "outbound|80||other.shop.svc.cluster.local"
CHAIN = b"-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"
DIGEST = hashlib.sha256(b"".join(CHAIN.split())).hexdigest()
ORIGIN = "/namespaces/shop/destination-rule/web"
RAW = {
    "connect_timeout": "0.500s",
    "outlier_detection": {"interval": "1s", "max_ejection_percent": {"value": 100}},
    "circuit_breakers": {"thresholds": [{"max_retries": 2147000000}]},
}

CONFIG = Config(
    listeners=(
        Listener("web", "0.0.0.0", 8080, (Chain(route_config="http.8080"),)),
        Listener("db", "0.0.0.0", 3306, (Chain(clusters=((WEB, 2), (OTHER, 6), ("gone", 0))),)),
        Listener("tls", "0.0.0.0", 8443, (Chain(names=("a.example",), clusters=((WEB, 1),)),)),
    ),
    routes={"http.8080": (VirtualHost("v", ("a.example", "b.example"), (Route("shop-0-1", {}),)),)},
    clusters={WEB: Cluster(WEB, "EDS", origin=f"/apis/networking.istio.io/v1{ORIGIN}", raw=RAW)},
    secrets={"kubernetes://shop-cert": CHAIN, "kubernetes-gateway://shop/other-cert": b"x"},
)


@pytest.mark.parametrize(
    ("fact", "holds", "shown"),
    [
        (HasRoute(8080, "a.example", "shop-0-1"), True, "route shop-0-1 on port 8080"),
        (HasRoute(8080, "", "shop-0-1"), True, "route shop-0-1 on port 8080"),
        (HasRoute(8080, "c.example", "shop-0-1"), False, "route shop-0-1 on port 8080"),
        (HasRoute(8080, "a.example", "shop-0-2"), False, "route shop-0-2 on port 8080"),
        (HasRoute(8081, "a.example", "shop-0-1"), False, "route shop-0-1 on port 8081"),
        (NoRoute("shop-0-1"), False, "the end of route shop-0-1"),
        (NoRoute("shop-0-2"), True, "the end of route shop-0-2"),
        # Shares are compared in lowest terms, without what gets nothing
        (HasChain(3306, "", ((OTHER, 3), (WEB, 1))), True, f"port 3306 to {OTHER}, {WEB}"),
        (HasChain(3306, "", ((OTHER, 1), (WEB, 1))), False, f"port 3306 to {OTHER}, {WEB}"),
        (HasChain(8443, "a.example", ((WEB, 100),)), True, f"port 8443 (a.example) to {WEB}"),
        (HasChain(8443, "b.example", ((WEB, 100),)), False, f"port 8443 (b.example) to {WEB}"),
        (HasChain(8443, "", ((WEB, 100),)), False, f"port 8443 to {WEB}"),
        (NoChain(3306, "", ((WEB, 1),)), True, f"the end of port 3306 to {WEB}"),
        (NoChain(8443, "a.example", ((WEB, 1),)), False, f"the end of port 8443 (a.example) to {WEB}"),
        (HasCluster(WEB), True, f"cluster {WEB}"),
        (HasCluster(OTHER), False, f"cluster {OTHER}"),
        (HasCluster(WEB, ORIGIN), True, f"cluster {WEB}"),
        (HasCluster(WEB, "/namespaces/shop/destination-rule/old"), False, f"cluster {WEB}"),
        (HasCluster(WEB, ORIGIN, (("connectTimeout", 0.5), ("interval", 1.0), ("maxEjectionPercent", 100.0))), True,
         f"cluster {WEB}"),
        (HasCluster(WEB, ORIGIN, (("connectTimeout", 5.0),)), False, f"cluster {WEB}"),
        (HasCluster(WEB, ORIGIN, (("baseEjectionTime", 10.0),)), False, f"cluster {WEB}"),
        (HasCluster(WEB, ORIGIN, (("maxRetries", 2147000000.0),)), True, f"cluster {WEB}"),
        (HasCluster(WEB, ORIGIN, (("maxRetries", 2147000001.0),)), False, f"cluster {WEB}"),
        (HasCertificate("shop-cert", DIGEST), True, "certificate shop-cert"),
        (HasCertificate("other-cert", DIGEST), False, "certificate other-cert"),
        (HasCertificate("none", DIGEST), False, "certificate none"),
    ],
)  # fmt: skip
def test_facts(fact: Any, holds: bool, shown: str) -> None:
    assert fact.holds(CONFIG) is holds
    assert str(fact) == shown
    assert _proof.missing([fact, fact], CONFIG) == ([] if holds else [shown])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0), ("0.5s", 0.5), ("500ms", 0.5), ("1m30s", 90.0), ("1h", 3600.0), (7, 7.0), (0.25, 0.25),
        ("1d", None), ("s", None), ("5", None), ("", 0.0),
    ],
)  # fmt: skip
def test_durations(value: Any, seconds: float | None) -> None:
    assert _proof._seconds(value) == seconds


# What objects ask for

PLACE = Place("istio-system", (("istio", "ingressgateway"),))


def service(namespace: str, name: str, *ports: Json, **selector: str) -> Json:
    return {"kind": "Service", "metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": selector, "ports": list(ports)}}  # fmt: skip


EDGE = service("istio-system", "edge", {"port": 80, "targetPort": 8080}, {"port": 443, "targetPort": 8443},
               {"port": 3306}, {"port": 9000, "targetPort": "web"}, {"port": 53, "protocol": "UDP"},
               istio="ingressgateway", app="edge")  # fmt: skip
BACKEND = service("shop", "web", {"port": 80})


@pytest.mark.parametrize(
    ("labels", "services", "port", "bound"),
    [
        ({"istio": "ingressgateway"}, [EDGE], 80, [8080]),
        ({"istio": "ingressgateway", "app": "edge", "x": "y"}, [EDGE], 80, [8080]),
        ({"istio": "other"}, [EDGE], 80, [80]),
        ({"istio": "ingressgateway"}, [EDGE], 3306, [3306]),
        ({"istio": "ingressgateway"}, [EDGE], 53, [53]),
        ({"istio": "ingressgateway"}, [EDGE], 81, [81]),
        # Only the pod knows where a port by name is
        ({"istio": "ingressgateway"}, [EDGE], 9000, []),
        ({"istio": "ingressgateway"}, [service("shop", "edge", {"port": 80, "targetPort": 1}, istio="ingressgateway")],
         80, [80]),
        ({"istio": "ingressgateway"}, [service("istio-system", "none", {"port": 80, "targetPort": 1})], 80, [80]),
        ({"istio": "ingressgateway"},
         [EDGE, service("istio-system", "b", {"port": 80, "targetPort": 9080}, istio="ingressgateway")], 80,
         [8080, 9080]),
    ],
)  # fmt: skip
def test_where_a_gateways_port_is_bound(labels: Json, services: list[Json], port: int, bound: list[int]) -> None:
    place = Place("istio-system", tuple(sorted(labels.items())))
    assert World(services).bound(place, port) == bound


def gateway(*servers: Json) -> Json:
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "istio-system", "name": "shop"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}}  # fmt: skip


def server(port: int, secret: str | None = None) -> Json:
    return {"port": {"number": port}, **({"tls": {"credentialName": secret}} if secret else {})}


def virtual_service(gateways: tuple[str, ...] = ("istio-system/shop",), **spec: Any) -> Json:
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"namespace": "shop", "name": "shop"},
            "spec": {"hosts": ["a.example"], "gateways": list(gateways), **spec}}  # fmt: skip


def to(host: str = "web.shop.svc.cluster.local", **more: Any) -> Json:
    return {"destination": {"host": host, "port": {"number": 80}}, **more}


def told(desired: list[Json], gone: Sequence[Json] = (), **world: Any) -> dict[str, list[str]]:
    found = _proof.facts(desired, gone, World([EDGE, BACKEND], **world))
    return {place.namespace: [str(fact) for fact in facts] for place, facts in found.items()}


HTTP = virtual_service(http=[{"name": "r0", "route": [to()]}])


def test_a_route_and_its_cluster() -> None:
    assert told([gateway(server(80)), HTTP]) == {"istio-system": ["route r0 on port 8080", f"cluster {WEB}"]}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ([], ["r0"]),
        ([{"uri": {"prefix": "/"}}], ["r0"]),
        ([{"uri": {"prefix": "/"}, "name": "all", "port": 80}], ["r0"]),
        ([{"uri": {"prefix": "/a"}}], ["r0", "r1"]),
        ([{"headers": {"x": {"exact": "y"}}}], ["r0", "r1"]),
    ],
)
def test_routes_behind_one_that_takes_all_are_left_out_by_istiod(match: list[Json], expected: list[str]) -> None:
    first = {"name": "r0", "route": [to()], **({"match": match} if match else {})}
    found = told([gateway(server(80)), virtual_service(http=[first, {"name": "r1", "route": [to()]}])])
    assert [line.split()[1] for line in found["istio-system"] if line.startswith("route")] == expected


def test_a_gateway_that_is_not_ours_is_not_covered() -> None:
    assert (
        told([virtual_service(gateways=("istio-system/theirs", "mesh"), http=[{"name": "r0", "route": [to()]}])]) == {}
    )


def test_a_gateway_without_a_namespace_lies_beside_its_route() -> None:
    own = gateway(server(80))
    own["metadata"]["namespace"] = "shop"
    found = told([own, virtual_service(gateways=("shop",), http=[{"name": "r0", "route": [to()]}])])
    assert found == {"shop": ["route r0 on port 80", f"cluster {WEB}"]}


def test_listeners_whose_secret_is_missing_are_not_waited_for() -> None:
    both = [gateway(server(80), server(443, "shop-cert")), HTTP]
    assert told(both)["istio-system"][:2] == ["route r0 on port 8080", "route r0 on port 8443"]
    missing = frozenset({("istio-system", "shop-cert")})
    assert told(both, no_secrets=missing)["istio-system"][0:1] == ["route r0 on port 8080"]
    assert "route r0 on port 8443" not in told(both, no_secrets=missing)["istio-system"]


def test_tcp_and_tls_by_port_and_name() -> None:
    tcp = [
        {"match": [{"port": 3306}], "route": [to()]},
        {"match": [{"port": 1}], "route": [to("x")]},
        {"route": [to()]},
    ]
    tls = [{"match": [{"port": 443, "sniHosts": ["a.example"]}, {"port": 1, "sniHosts": ["b.example"]}, {"port": 443}],
            "route": [to(weight=50), to(weight=50)]}]  # fmt: skip
    found = told([gateway(server(3306), server(443)), virtual_service(tcp=tcp, tls=tls)])["istio-system"]
    assert f"port 3306 to {WEB}" in found
    assert f"port 8443 (a.example) to {WEB}, {WEB}" in found
    assert not [line for line in found if "b.example" in line or "to x" in line]


def test_a_chain_to_a_service_that_is_not_there_is_not_waited_for() -> None:
    tcp = [{"match": [{"port": 3306}], "route": [to("none.shop.svc.cluster.local")]}]
    assert told([gateway(server(3306)), virtual_service(tcp=tcp)]) == {}
    outside = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
               "metadata": {"namespace": "shop", "name": "out"}, "spec": {"hosts": ["out.example"]}}  # fmt: skip
    tcp = [{"match": [{"port": 3306}], "route": [to("out.example")]}]
    assert told([gateway(server(3306)), virtual_service(tcp=tcp), outside])["istio-system"] == [
        "port 3306 to outbound|80||out.example",
        "cluster outbound|80||out.example",
    ]


def rule(host: str = "web.shop.svc.cluster.local") -> Json:
    policy = {"connectionPool": {"tcp": {"connectTimeout": "0.5s"}, "http": {}},
              "outlierDetection": {"interval": "1s", "splitExternalLocalOriginErrors": True}}  # fmt: skip
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"host": host, "trafficPolicy": policy, "subsets": [{"name": "v1"}]}}  # fmt: skip


def test_a_cluster_is_as_our_rule_shapes_it_unless_somebody_else_has_one_for_the_host() -> None:
    routes = virtual_service(http=[{"name": "r0", "route": [to()]}])
    routes["spec"]["http"][0]["route"].append({"destination": {**to()["destination"], "subset": "v1"}})
    objects = [gateway(server(80)), routes, rule()]
    found = _proof.facts(objects, [], World([EDGE, BACKEND]))[PLACE]
    policy = (("connectTimeout", 0.5), ("interval", 1.0))
    subset = "outbound|80|v1|web.shop.svc.cluster.local"
    assert {fact for fact in found if isinstance(fact, HasCluster)} == {
        HasCluster(WEB, ORIGIN, policy), HasCluster(subset, ORIGIN, policy),
    }  # fmt: skip
    shared = World([EDGE, BACKEND], shared_hosts=frozenset({"web.shop.svc.cluster.local"}))
    found = _proof.facts(objects, [], shared)[PLACE]
    assert {fact for fact in found if isinstance(fact, HasCluster)} == {HasCluster(WEB), HasCluster(subset)}


def test_the_end_of_what_was() -> None:
    old = virtual_service(
        http=[{"name": "old", "route": [to()]}, {"name": "r0", "route": [to()]}],
        tcp=[{"match": [{"port": 3306}], "route": [to()]}],
    )
    old["spec"]["http"][0]["match"] = [{"uri": {"prefix": "/old"}}]
    found = told([gateway(server(80), server(3306)), HTTP], [old, {"kind": "ConfigMap", "metadata": {"name": "x"}}])
    assert [line for line in found["istio-system"] if line.startswith("the end")] == [
        "the end of route old",
        f"the end of port 3306 to {WEB}",
    ]


def secret(name: str, namespace: str = "istio-system", **data: bytes) -> Json:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "data": encoded}


def test_a_certificate_is_asked_of_who_shows_it() -> None:
    objects = [gateway(server(443, "shop-cert")), HTTP]
    certificate = secret("shop-cert", tls_crt=CHAIN)
    assert (
        HasCertificate("shop-cert", DIGEST) in _proof.facts([*objects, certificate], [], World([EDGE, BACKEND]))[PLACE]
    )
    mutual = _proof.facts([*objects, secret("shop-cert", tls_crt=CHAIN, ca_crt=b"ca")], [], World([EDGE, BACKEND]))
    assert HasCertificate("shop-cert-cacert", hashlib.sha256(b"ca").hexdigest()) in mutual[PLACE]
    for other in (secret("other", tls_crt=CHAIN), secret("shop-cert", "shop", tls_crt=CHAIN), secret("shop-cert")):
        facts = _proof.facts([*objects, other], [], World([EDGE, BACKEND]))[PLACE]
        assert not [fact for fact in facts if isinstance(fact, HasCertificate)]


# The Gateway API


def api_gateway(*listeners: Json, address: str = "edge.istio-system.svc.cluster.local") -> Json:
    addresses = [{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": address}] if address else []
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "istio-system", "name": "api"},
            "spec": {"listeners": list(listeners), "addresses": addresses}}  # fmt: skip


def listener(name: str, port: int, *secrets: Json) -> Json:
    return {"name": name, "port": port, **({"tls": {"certificateRefs": list(secrets)}} if secrets else {})}


def api_route(kind: str, *rules: Json, parents: tuple[Json, ...] = ({},), **spec: Any) -> Json:
    references = [{"name": "api", "namespace": "istio-system", **parent} for parent in parents]
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"namespace": "shop", "name": "shop"},
            "spec": {"parentRefs": references, "rules": list(rules), **spec}}  # fmt: skip


WEB_REF = {"name": "web", "port": 80}


def test_an_http_route() -> None:
    named = {"name": "r0", "backendRefs": [WEB_REF]}
    found = told([api_gateway(listener("http", 80)), api_route("HTTPRoute", named, hostnames=["a.example"])])
    assert found == {"istio-system": ["route r0 on port 8080", f"cluster {WEB}"]}


@pytest.mark.parametrize(
    ("parent", "lines"),
    [
        ({}, ["route r0 on port 8080", "route r0 on port 8443"]),
        ({"sectionName": "https"}, ["route r0 on port 8443"]),
        ({"port": 80}, ["route r0 on port 8080"]),
        ({"name": "other"}, []),
    ],
)
def test_a_route_attaches_to_the_listeners_it_names(parent: Json, lines: list[str]) -> None:
    objects = [api_gateway(listener("http", 80), listener("https", 443)),
               api_route("HTTPRoute", {"name": "r0"}, parents=(parent,))]  # fmt: skip
    assert told(objects).get("istio-system", []) == lines


def test_a_gateway_with_pods_of_its_own_binds_its_ports_as_they_are() -> None:
    objects = [api_gateway(listener("http", 80), address=""), api_route("HTTPRoute", {"name": "r0"})]
    [(place, facts)] = _proof.facts(objects, [], World([EDGE])).items()
    assert place.labels == ((_proof.GATEWAY_NAME, "api"),)
    assert [str(fact) for fact in facts] == ["route r0 on port 80"]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (None, ["r0"]),
        ({"path": {"value": "/"}}, ["r0"]),
        ({"path": {"type": "Exact", "value": "/"}}, ["r0", "r1"]),
        ({"path": {"value": "/a"}}, ["r0", "r1"]),
        ({"headers": [{"name": "x", "value": "y"}]}, ["r0", "r1"]),
        ({"queryParams": [{"name": "x", "value": "y"}]}, ["r0", "r1"]),
        ({"method": "GET"}, ["r0", "r1"]),
    ],
)
def test_the_second_rule_that_takes_all_is_left_out(match: Json | None, expected: list[str]) -> None:
    first = {"name": "r0", **({"matches": [match]} if match else {})}
    objects = [api_gateway(listener("http", 80)), api_route("GRPCRoute", first, {"name": "r1"})]
    assert [line.split()[1] for line in told(objects)["istio-system"]] == expected


def test_passthrough_and_tcp_routes() -> None:
    weighted = {
        "backendRefs": [{**WEB_REF, "weight": 3}, {"name": "web", "namespace": "shop", "port": 80, "weight": 1}]
    }
    tls = api_route("TLSRoute", weighted, hostnames=["a.example"])
    found = told([api_gateway(listener("tls", 443)), tls])["istio-system"]
    assert found == [f"port 8443 (a.example) to {WEB}, {WEB}", f"cluster {WEB}"]
    out = {"backendRefs": [{"kind": "Hostname", "group": "networking.istio.io", "name": "out.example", "port": 80}]}
    assert told([api_gateway(listener("tcp", 3306)), api_route("TCPRoute", out)]) == {}


def test_certificates_of_the_gateway_api() -> None:
    reference = {"name": "shop-cert", "namespace": "shop"}
    objects = [api_gateway(listener("https", 443, reference)), api_route("HTTPRoute", {"name": "r0"})]
    with_it = _proof.facts([*objects, secret("shop-cert", "shop", tls_crt=CHAIN)], [], World([EDGE]))
    [facts] = with_it.values()
    assert HasCertificate("shop-cert", DIGEST) in facts
    elsewhere = _proof.facts([*objects, secret("shop-cert", tls_crt=CHAIN)], [], World([EDGE]))
    assert not [fact for found in elsewhere.values() for fact in found if isinstance(fact, HasCertificate)]
    assert told(objects, no_secrets=frozenset({("shop", "shop-cert")})) == {}


# Digests


def objects(api: str, *entries: Json) -> dict[str, Json]:
    """Return what a list becomes, named, by kind and name."""
    result = _publish.render(list(entries), _publish.Options(api=api, validate=False))
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in result.manifests}


def changed(api: str, before: list[Json], after: list[Json]) -> set[str]:
    one, two = objects(api, *before), objects(api, *after)
    return {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}


SHOP = {"name": "shop", "namespace": "shop", "protocol": "HTTP", "hostnames": ["shop.example"],
        "backend": {"service": "shop", "port": 80}}  # fmt: skip
WIKI = {**SHOP, "name": "wiki", "hostnames": ["wiki.example"], "backend": {"service": "wiki", "port": 80}}
FAR = {**SHOP, "backend": {"host": "out.example", "port": 80, "address": "192.0.2.1"}}
SQL = {"name": "sql", "namespace": "shop", "protocol": "TCP", "port": 3306, "backend": {"service": "sql", "port": 3306}}
OFF = {"traffic": {"outlier_detection": False}}
ROUTE = {"istio": "VirtualService/shop", "gateway_api": "HTTPRoute/shop"}


@pytest.mark.parametrize("api", ROUTE)
def test_a_route_is_named_after_what_it_leads_to_and_nothing_else(api: str) -> None:
    route = {ROUTE[api]}
    assert changed(api, [SHOP, WIKI, SQL], [{**SHOP, **OFF}, WIKI, SQL]) == {"DestinationRule/default-shop", *route}
    assert changed(api, [SHOP, WIKI], [SHOP, WIKI, SQL]) >= {"DestinationRule/default-sql"}
    assert not changed(api, [SHOP, WIKI], [SHOP, WIKI, SQL]) & {"DestinationRule/default-shop", *route}
    moved = {**FAR, "backend": {**FAR["backend"], "address": "192.0.2.2"}}
    assert changed(api, [FAR, WIKI], [moved, WIKI]) == {"ServiceEntry/default-out.example", *route}
    copied = {"name": "shop", "namespace": "shop", "protocol": "HTTP", "hostnames": ["shop.example"],
              "routes": [{"backends": [SHOP["backend"]], "mirror": {"service": "wiki", "port": 80}}]}  # fmt: skip
    assert changed(api, [copied, WIKI], [copied, {**WIKI, **OFF}]) >= {"DestinationRule/default-wiki", *route}


@pytest.mark.parametrize("api", ROUTE)
def test_the_rule_behind_tcp_and_tls_has_the_digest_itself(api: str) -> None:
    def limits(*entries: Json) -> list[int | None]:
        rule = objects(api, *entries)["DestinationRule/default-sql"]
        policy = rule["spec"]["trafficPolicy"]
        levels = [policy, *policy.get("portLevelSettings", ())]
        return [level["connectionPool"].get("http", {}).get("maxRetries") for level in levels]

    assert limits({**SHOP, "backend": SQL["backend"]}) == [None]
    (first,) = limits(SQL)
    assert first is not None
    assert 2**31 - 2**24 <= first < 2**31
    assert limits(SQL, SHOP) == [first]
    assert limits({**SQL, **OFF}) != [first]
    assert len(set(limits({**SQL, "backend": {**SQL["backend"], "tls": {"insecure": True}}}))) == 1
    assert limits({**SQL, "protocol": "TLS", "port": 443, "hostnames": ["sql.example"]}) == [first]
