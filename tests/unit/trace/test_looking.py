"""A trace without an API server: what can be seen from outside is still there."""

import socket
import time
from dataclasses import replace
from typing import Any

import pytest
import urllib3
from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking

Json = dict[str, Any]


@pytest.fixture
def away() -> Cluster:
    """An address that nothing listens on any more."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return Cluster(urllib3.PoolManager(), f"http://127.0.0.1:{port}")


def test_the_api_server_is_away(away: Cluster) -> None:
    target = _facts.chosen("http://web.example/", None, [])
    edge = _facts.Edge("node1", answered=True, held=frozenset({"127.0.0.1"}))
    began = time.monotonic()
    facts = _looking.look(away, target, _looking.Options(vips=("127.0.0.1",), edges=(edge,), dns=False, timeout=0.5))
    assert time.monotonic() - began < 5
    states = {hop.name: hop.state for hop in _trace.trace(facts)}
    assert states["vip"] == "ok"
    assert {states[name] for name in ("service", "pod", "listener", "backend")} == {"unknown"}
    assert "doesn't answer" in facts.snapshot.refused["Service"]


@pytest.mark.parametrize("url", ["ftp://a/", "http:///x", "tcp://a", "http://a:0/", "http://a:x/", "web.example"])
def test_what_can_not_be_traced(url: str) -> None:
    with pytest.raises(_facts.TargetError):
        _facts.chosen(url, None, [])


def test_an_exposure_that_is_not_in_the_list() -> None:
    with pytest.raises(_facts.TargetError, match="There is no exposure 'x'"):
        _facts.chosen(None, "x", [])


def test_a_url_knows_its_exposure() -> None:
    exposure = {
        "name": "web", "namespace": "web", "protocol": "HTTP", "hostnames": ["*.example"],
        "backend": {"service": "echo", "port": 80},
    }  # fmt: skip
    target = _facts.chosen("http://a.example/x", None, [exposure])
    assert (target.host, target.path) == ("a.example", "/x")
    assert target.backends == (_facts.Wanted("web/echo", 80),)
    assert _facts.chosen("http://a.test/x", None, [exposure]).backends == ()


def listed(name: str, **more: Any) -> Json:
    """An entry of an exposure list."""
    known = {
        "namespace": "web",
        "protocol": "HTTP",
        "hostnames": ["a.example"],
        "backend": {"service": name, "port": 80},
    }
    return {"name": name, **known, **more}


def routed(name: str, *matches: Json, **more: Any) -> Json:
    """An entry with a route of its own for each match."""
    routes = [{"matches": [one], "backends": [{"service": name, "port": 80}]} for one in matches]
    return {key: value for key, value in listed(name, routes=routes, **more).items() if key != "backend"}


EXACT, REGEX = {"path": {"exact": "/x"}}, {"path": {"regex": "/v[0-9]+"}}


@pytest.mark.parametrize(
    ("matches", "path", "method", "why"),
    [
        ([EXACT], "/x", "GET", ""),
        ([REGEX, EXACT], "/x", "GET", ""),
        ([{**EXACT, "method": "POST"}, {"path": {"prefix": "/y"}}], "/y", "GET", ""),
        ([{**EXACT, "headers": {"user": {"regex": "a.*"}}}, {"path": {"prefix": "/y"}}], "/y", "GET", ""),
        ([{**EXACT, "method": "POST"}], "/x", "POST", "POST isn't sent"),
        ([{**EXACT, "method": "HEAD"}], "/x", "HEAD", ""),
        ([REGEX, {**EXACT, "method": "POST"}], "/x", "POST", "POST isn't sent"),
        ([REGEX], "/", "GET", "matches by regexes"),
        ([{**EXACT, "query": {"v": {"regex": "1+"}}}], "/x", "GET", "matches by regexes"),
        ([{**EXACT, "query": {"v": {"exact": "1"}}}], "/x?v=1", "GET", ""),
    ],
)
def test_a_request_that_can_be_sent_is_chosen(matches: list[Json], path: str, method: str, why: str) -> None:
    target = _facts.chosen(None, "a", [routed("a", *matches)])
    assert (target.path, target.method) == (path, method)
    assert bool(why) == bool(target.unasked)
    assert why in target.unasked


def services_of(target: _facts.Target) -> set[str]:
    return {one.service for one in target.backends}


def test_a_url_is_of_the_nearest_name() -> None:
    exposures = [
        listed("any", hostnames=["*.example"]),
        listed("near", hostnames=["api.x.example"]),
        listed("wide", hostnames=["*.x.example"]),
    ]
    assert services_of(_facts.chosen("http://api.x.example/", None, exposures)) == {"web/near"}
    assert services_of(_facts.chosen("http://b.x.example/", None, exposures)) == {"web/wide"}
    assert services_of(_facts.chosen("http://b.example/", None, exposures)) == {"web/any"}


def test_a_url_may_go_where_all_exposures_of_its_name_go() -> None:
    team = {"namespace": "team", "service": "team"}
    exposures = [
        routed("a", {"path": {"prefix": "/a"}}),
        routed("b", {"path": {"prefix": "/b"}}),
        listed("c", gateway=team),
    ]
    assert services_of(_facts.chosen("http://a.example/b", None, exposures)) == {"web/a", "web/b"}


def test_a_url_may_be_redirected() -> None:
    to = {"matches": [{"path": {"prefix": "/old"}}], "redirect": {"path": {"full": "/new"}}}
    entry = routed("a", {"path": {"prefix": "/new"}})
    target = _facts.chosen("http://a.example/old", None, [{**entry, "routes": [*entry["routes"], to]}])
    assert (target.redirects, services_of(target)) == (True, {"web/a"})
    assert not _facts.chosen("http://a.example/old", None, [entry]).redirects


def test_the_redirect_to_https_is_the_exposure_s() -> None:
    entry = listed("a", protocol="HTTPS", tls={"secret": "a"}, redirect_http=True,
                   gateway={"namespace": "team", "service": "team"})  # fmt: skip
    target = _facts.chosen("http://a.example/", None, [entry])
    assert (target.namespace, target.service, target.protocol) == ("team", "team", "HTTP")
    assert (target.redirects, target.backends) == (True, ())


def test_https_may_be_passed_through() -> None:
    target = _facts.chosen("https://a.example/x", None, [listed("a", protocol="TLS")])
    assert (target.protocol, services_of(target), target.path) == ("TLS", {"web/a"}, "/x")
    assert _facts.chosen("https://b.example/", None, [listed("a", protocol="TLS")]).protocol == "HTTPS"


def gateway_service(namespace: str, name: str) -> Json:
    spec = {"selector": {"istio": "ingress"}}
    return {"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec}


@pytest.mark.parametrize("url", ["http://a.example/", "http://other.example/", None])
def test_the_only_other_gateway_is_found(url: str | None) -> None:
    target = _facts.chosen(url, None if url else "a", [listed("a")], services=[gateway_service("edge", "gw")])
    assert (target.namespace, target.service) == ("edge", "gw")


def test_one_of_several_gateways_has_to_be_named() -> None:
    services = [gateway_service("edge", "one"), gateway_service("edge", "two")]
    with pytest.raises(ClusterError, match="There are several gateways: edge/one, edge/two"):
        _facts.chosen("http://a.example/", None, [], services=services)


def test_addresses_are_those_of_the_gateway() -> None:
    gateways = [
        {"namespace": "istio-system", "service": "istio-ingressgateway", "vips": ["192.0.2.100"]},
        {"namespace": "team", "service": "team", "vips": [{"address": "192.0.2.101", "router": 7}, "2001:db8::101"]},
        {"namespace": "team", "service": "bare"},
        {"namespace": "team", "service": "single", "vips": "192.0.2.102"},
    ]
    target = _facts.chosen("http://a.example/", None, [])
    found = {one["service"]: _facts.vips_of(gateways, replace(target, **_place(one))) for one in gateways}
    assert found == {
        "istio-ingressgateway": ("192.0.2.100",),
        "team": ("192.0.2.101", "2001:db8::101"),
        "bare": (),
        "single": ("192.0.2.102",),
    }
    assert _facts.vips_of(gateways, replace(target, service="other")) == ()


def _place(gateway: Json) -> Json:
    return {name: gateway[name] for name in ("namespace", "service")}
