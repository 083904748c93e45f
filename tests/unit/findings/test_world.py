"""The small rules that findings lean on: hostnames, requests that cover others, labels, protocols, silence."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils.findings._backends import protocol_of
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import (
    complete,
    exported,
    gateway_reference,
    listeners_of_gateway,
    service_of,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    UNKNOWN,
    WARNING,
    Finding,
    Request,
    covers,
    intersection,
    labels_match,
    overlap,
)


@pytest.mark.parametrize(
    ("wide", "name", "expected"),
    [
        ("*", "a.example", True),
        ("*", "*", True),
        ("*.example", "a.example", True),
        ("*.example", "b.a.example", True),
        ("*.example", "*.a.example", True),
        ("*.example", "example", False),
        ("*.example", "aexample", False),
        ("*.a.example", "*.example", False),
        ("a.example", "A.Example", True),
        ("a.example", "*.example", False),
        ("a.example", "*", False),
    ],
)
def test_covers(wide: str, name: str, expected: bool) -> None:
    assert covers(wide, name) is expected


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("*.example", "a.example", "a.example"),
        ("a.example", "*.example", "a.example"),
        ("*.a.example", "*.example", "*.a.example"),
        ("*.a.example", "*.b.example", None),
        ("*", "*.example", "*.example"),
        ("a.example", "b.example", None),
    ],
)
def test_intersection_is_the_narrower_one_both_ways(one: str, two: str, expected: str | None) -> None:
    assert intersection(one, two) == intersection(two, one) == expected


def test_overlap_names_what_both_have_once() -> None:
    assert overlap(["*.example", "a.example"], ["a.example", "b.example"]) == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Request(), Request("exact", "/a"), True),
        (Request("prefix", "/"), Request("regex", "/.*"), True),
        (Request("prefix", "/a"), Request("prefix", "/ab"), True),
        (Request("segment", "/a"), Request("segment", "/ab"), False),
        (Request("segment", "/a"), Request("segment", "/a/b"), True),
        (Request("segment", "/a"), Request("exact", "/a"), True),
        (Request("segment", "/a"), Request("prefix", "/a"), False),
        (Request("segment", "/a"), Request("prefix", "/a/"), True),
        (Request("exact", "/a"), Request("exact", "/a"), True),
        (Request("exact", "/a"), Request("prefix", "/a"), False),
        (Request("regex", "/a.*"), Request("regex", "/a.*"), True),
        (Request("regex", "/a.*"), Request("exact", "/ab"), False),
        (Request("regex", ".*"), Request("exact", "/ab"), True),
        (Request("prefix", "/a"), Request("regex", "/a/.*"), False),
        (Request("prefix", "/a"), Request(), False),
        (Request("prefix", "/a", frozenset({("header", "x", "exact", "1")})), Request("prefix", "/a"), False),
        (Request("prefix", "/a"), Request("prefix", "/a", frozenset({("header", "x", "exact", "1")})), True),
    ],
)
def test_a_request_covers_another(first: Request, second: Request, expected: bool) -> None:
    assert first.covers(second) is expected


def test_only_what_takes_every_request_is_a_catch_all() -> None:
    assert Request().everything
    assert Request("prefix", "/").everything
    assert Request("regex", ".*").everything
    assert not Request("prefix", "/", frozenset({("method", "", "exact", "GET")})).everything
    assert not Request("prefix", "/a").everything


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"team": "a"}}, True),
        ({"matchLabels": {"team": "b"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "other", "operator": "Exists"}]}, False),
    ],
)
def test_label_selectors(selector: dict[str, Any] | None, expected: bool) -> None:
    assert labels_match(selector, {"team": "a"}) is expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": 80, "name": "http-web"}, "http"),
        ({"port": 80, "name": "HTTP"}, "http"),
        ({"port": 80, "name": "grpc-web-x"}, "h2"),
        ({"port": 80, "name": "http2"}, "h2"),
        ({"port": 443, "name": "https"}, "tls"),
        ({"port": 1, "name": "web", "appProtocol": "tls"}, "tls"),
        ({"port": 1, "name": "tcp", "appProtocol": "kubernetes.io/h2c"}, "h2"),
        ({"port": 1, "name": "tcp", "appProtocol": "kubernetes.io/wss"}, "tls"),
        ({"port": 3306, "name": "db"}, "tcp"),
        ({"port": 3307, "name": "db"}, ""),
        ({"port": 3307, "name": "mysql-db"}, "tcp"),
        ({"port": 53, "protocol": "UDP"}, "udp"),
        ({"port": 80}, ""),
        ({"port": 80, "name": "httpweb"}, ""),
    ],
)
def test_a_port_s_protocol_is_read_as_istio_does(port: dict[str, Any], expected: str) -> None:
    assert protocol_of(port) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gw", ("shop", "gw")),
        ("edge/gw", ("edge", "gw")),
        ("./gw", ("shop", "gw")),
        ("gw.edge", ("edge", "gw")),
        ("gw.edge.svc.cluster.local", ("edge", "gw")),
    ],
)
def test_a_gateway_s_name_in_a_virtual_service(name: str, expected: tuple[str, str]) -> None:
    assert gateway_reference(name, "shop") == expected


def test_hosts_are_completed_as_istio_does() -> None:
    assert complete("web", "shop") == "web.shop.svc.cluster.local"
    assert complete("web.shop", "shop") == "web.shop"
    assert complete("*", "shop") == "*"
    assert service_of("web.shop.svc.cluster.local") == ("shop", "web")
    assert service_of("nginx.com") == ("", "")
    assert service_of("web.shop") == ("", "")


def test_export_to() -> None:
    assert exported(None, "shop") is None
    assert exported(["*"], "shop") is None
    assert exported(["."], "shop") == {"shop"}
    assert exported([".", "edge"], "shop") == {"shop", "edge"}


def _server(**server: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "edge"},
        "spec": {"selector": {"istio": "x"}, "servers": [{"hosts": ["*"], **server}]},
    }


@pytest.mark.parametrize(
    ("protocol", "tls", "family", "takes"),
    [
        ("HTTP", None, "HTTP", "http"),
        ("http2", None, "HTTP", "http"),
        ("GRPC", None, "HTTP", "http"),
        ("HTTP", {"httpsRedirect": True}, "HTTP", "http"),
        ("HTTPS", {"mode": "SIMPLE"}, "TLS", "http"),
        ("HTTPS", {"mode": "PASSTHROUGH"}, "TLS", "tls"),
        ("HTTPS", {"credentialName": "c"}, "TLS", "tls"),
        ("TLS", {"mode": "SIMPLE"}, "TLS", "tcp"),
        ("TLS", {"mode": "PASSTHROUGH"}, "TLS", "tls"),
        ("TCP", None, "TCP", "tcp"),
        ("MONGO", None, "TCP", "tcp"),
        ("TCP", {"mode": "SIMPLE"}, "TLS", "tcp"),
    ],
)
def test_what_a_server_takes(protocol: str, tls: dict[str, Any] | None, family: str, takes: str) -> None:
    server: dict[str, Any] = {"port": {"number": 443, "name": "p", "protocol": protocol}}
    if tls is not None:
        server["tls"] = tls
    (listener,) = listeners_of_gateway(_server(**server))
    assert (listener.family, listener.takes) == (family, takes)


def _finding(code: str = "dns-missing", severity: str = WARNING) -> Finding:
    return Finding(code, severity, "web", "exposures[0].hostnames", ("DNS a",), "It isn't there.", "Add it.")


def test_strict_makes_errors_of_warnings_and_of_nothing_else() -> None:
    settled = _findings.settle([_finding(), _finding("unread", UNKNOWN)], strict=True)
    assert [one.severity for one in settled] == [ERROR, UNKNOWN]
    assert [one.code for one in _findings.stopping(settled)] == ["dns-missing"]


def test_what_is_silenced_is_told_and_stops_nothing() -> None:
    silence = [{"code": "dns-missing", "reason": "hosts files"}, {"code": "port-clash", "reason": "on purpose"}]
    settled = _findings.settle([_finding(), _finding("port-clash", ERROR)], strict=True, silence=silence)
    assert _findings.stopping(settled) == []
    assert {one.silenced for one in settled} == {"hosts files", "on purpose"}
    assert settled[0].as_dict()["silenced"]
    assert "silenced" not in _finding().as_dict()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"code": "dns-mising", "reason": "x"}, "silence[0].code: `dns-mising`"),
        ({"code": "dns-missing", "reason": " "}, "silence[0].reason"),
        ({"reason": "x"}, "silence[0].code"),
    ],
)
def test_wrong_silence_is_refused(entry: dict[str, str], message: str) -> None:
    with pytest.raises(_findings.SilenceError) as raised:
        _findings.settle([], silence=[entry])
    assert str(raised.value).startswith(message)


def test_findings_are_sorted_and_told_once() -> None:
    found = [_finding("unread", UNKNOWN), _finding(), _finding("port-clash", ERROR), _finding()]
    assert [one.code for one in _findings.ordered(found)] == ["port-clash", "dns-missing", "unread"]
    assert _finding().as_dict()["message"] == "It isn't there. Add it."
