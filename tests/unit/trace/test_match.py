"""Which filter chain, virtual host and route Envoy takes."""

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Chain, Listener, Route, VirtualHost
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _match as match

CHAINS = (
    Chain(("shop.example",), "exact"),
    Chain(("*.example",), "wide"),
    Chain(("*.eu.example",), "narrow"),
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("shop.example", "exact"),
        ("SHOP.example.", "exact"),
        ("other.example", "wide"),
        ("a.b.example", "wide"),
        ("a.eu.example", "narrow"),
        ("example", None),
        ("shop.test", None),
        ("", None),
    ],
)
def test_chain_by_server_name(name: str, wanted: str | None) -> None:
    found = match.chain_for(Listener("l", "0.0.0.0", 8443, CHAINS), name, tls=True)
    assert (found.route_config if found else None) == wanted


def test_plain_connections_have_no_server_name() -> None:
    listener = Listener("l", "0.0.0.0", 8443, CHAINS)
    assert match.chain_for(listener, "shop.example", tls=False) is None
    both = Listener("l", "0.0.0.0", 8080, (Chain(transport="tls"), Chain((), "plain", transport="raw_buffer")))
    found = match.chain_for(both, "shop.example", tls=False)
    assert found is not None
    assert found.route_config == "plain"


HOSTS = [VirtualHost(domain, (domain,), ()) for domain in ("a.example", "*.example", "*.b.example", "a.*", "*")]


@pytest.mark.parametrize(
    ("authority", "wanted"),
    [
        ("a.example", "a.example"),
        ("a.example:8080", "a.example"),
        ("A.Example", "a.example"),
        ("x.example", "*.example"),
        ("x.b.example", "*.b.example"),
        ("a.test", "a.*"),
        ("c.test", "*"),
    ],
)
def test_virtual_host(authority: str, wanted: str) -> None:
    found = match.host_for(HOSTS, authority)
    assert found is not None
    assert found.name == wanted


@pytest.mark.parametrize(
    ("rule", "path", "fits"),
    [
        ({"prefix": "/"}, "/x", True),
        ({"prefix": "/api"}, "/apis", True),
        ({"path_separated_prefix": "/api"}, "/apis", False),
        ({"path_separated_prefix": "/api"}, "/api/x", True),
        ({"path_separated_prefix": "/api"}, "/api", True),
        ({"path": "/api"}, "/api/", False),
        ({"path": "/API", "case_sensitive": False}, "/api", True),
        ({"safe_regex": {"regex": "/v[0-9]+"}}, "/v12", True),
        ({"safe_regex": {"regex": "/v[0-9]+"}}, "/v12/x", False),
        ({"safe_regex": {"regex": "("}}, "/", False),
        ({"path": "/a"}, "/a?b=c", True),
    ],
)
def test_path(rule: dict[str, Any], path: str, fits: bool) -> None:
    assert match.takes(rule, match.Request("a.example", path)) is fits


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"name": "user", "string_match": {"exact": "ann"}}, True),
        ({"name": "user", "string_match": {"exact": "bob"}}, False),
        ({"name": "user", "string_match": {"exact": "bob"}, "invert_match": True}, True),
        ({"name": "user", "string_match": {"exact": "ANN", "ignore_case": True}}, True),
        ({"name": "user", "string_match": {"safe_regex": {"regex": "a.*"}}}, True),
        ({"name": "user", "string_match": {"prefix": "a", "suffix": "x"}}, False),
        ({"name": "user", "string_match": {"contains": "n"}}, True),
        ({"name": "none", "present_match": True}, False),
        ({"name": "none", "present_match": False}, True),
        ({"name": "user"}, True),
        ({"name": ":method", "string_match": {"exact": "POST"}}, False),
    ],
)
def test_headers(rule: dict[str, Any], fits: bool) -> None:
    assert match.takes({"headers": [rule]}, match.Request("a", headers={"user": "ann"})) is fits


def test_query() -> None:
    rule = {"query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]}
    assert match.takes(rule, match.Request("a", query={"v": "2"}))
    assert not match.takes(rule, match.Request("a"))


def test_first_route_wins() -> None:
    host = VirtualHost("h", ("*",), (Route("one", {"prefix": "/a"}), Route("two", {"prefix": "/"})))
    for path, name in (("/a", "one"), ("/b", "two")):
        found = match.route_for(host, match.Request("a", path))
        assert found is not None
        assert found.name == name
    assert match.route_for(VirtualHost("h", ("*",), host.routes[:1]), match.Request("a", "/b")) is None
