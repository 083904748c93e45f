"""VirtualServices by hand: on several Gateways, for sidecars too, with delegates, redirects and odd matches."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from integration.broken import in_memory, setups
from integration.broken.setups import State

Json = dict[str, Any]

SETUP = next(one for one in setups.load("sound") if one.name == "one-name")
TO_WEB = {"destination": {"host": "web", "port": {"number": 80}}}
TO_TCP = {"destination": {"host": "web", "port": {"number": 9090}}}
PORTS = [{"name": "status-port", "port": 15021, "targetPort": 15021}, {"name": "http2", "port": 80, "targetPort": 8080},
         {"name": "https", "port": 443, "targetPort": 8443}]  # fmt: skip
WITH_TCP = {"Service fx-edge/fx-gateway": {"spec": {"ports": [
    *PORTS, {"name": "tcp-42", "port": 20042, "targetPort": 20042}]}}}  # fmt: skip


def gateway(*hosts: str, number: int = 80, protocol: str = "HTTP") -> Json:
    port = {"number": number, "name": "p", "protocol": protocol}
    return {"selector": {"istio": "fx-gateway"}, "servers": [{"port": port, "hosts": list(hosts)}]}


def codes(objects: Json, patch: Json | None = None) -> list[str]:
    found = _findings.survey(in_memory.snapshot_of(SETUP, State([], objects, patch or {})))
    # What doesn't hang anywhere leaves its Gateway without routes
    return sorted({one.code for one in found} - {"listener-without-routes"})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hosts": ["a.one.example", "b.two.example"], "http": [{"route": [TO_WEB]}]}, []),
        ({"hosts": ["a.one.example", "c.three.example"], "http": [{"route": [TO_WEB]}]}, ["host-not-on-gateway"]),
        ({"hosts": ["a.one.example"], "http": [{"match": [{"gateways": ["fx-edge/two"]}], "route": [TO_WEB]}]}, []),
        ({"hosts": ["a.one.example"], "http": [{"match": [{"gateways": ["fx-b/one"]}], "route": [TO_WEB]}]},
         ["route-gateway"]),
        ({"hosts": ["a.one.example"], "http": [{"match": [{"gateways": ["mesh"]}], "route": [TO_WEB]}]},
         ["route-gateway"]),
        # The third Gateway is for TCP
        ({"hosts": ["a.one.example", "db.example"], "http": [{"route": [TO_WEB]}], "tcp": [{"route": [TO_TCP]}]}, []),
        ({"hosts": ["a.one.example", "db.example"],
          "http": [{"match": [{"gateways": ["fx-edge/db"]}], "route": [TO_WEB]}], "tcp": [{"route": [TO_TCP]}]},
         ["route-kind"]),
        ({"hosts": ["a.one.example", "db.example"], "http": [{"match": [{"port": 20042}], "route": [TO_WEB]}],
          "tcp": [{"match": [{"port": 20042}], "route": [TO_TCP]}]}, ["route-port"]),
        # What sidecars take needs no Gateway
        ({"hosts": ["web.fx-app.svc.cluster.local"], "gateways": ["mesh", "fx-edge/one"],
          "tls": [{"match": [{"sniHosts": ["web.fx-app.svc.cluster.local"]}], "route": [TO_TCP]}]}, []),
        ({"hosts": ["a.one.example"], "gateways": ["mesh", "fx-edge/one"],
          "tcp": [{"match": [{"gateways": ["mesh", "fx-edge/one"]}], "route": [TO_TCP]}]}, ["route-kind"]),
        ({"hosts": ["a.one.example"], "gateways": ["mesh", "fx-edge/none"], "http": [{"route": [TO_WEB]}]},
         ["gateway-missing"]),
        ({"hosts": ["c.three.example"], "gateways": ["fx-edge/one", "fx-edge/none"], "http": [{"route": [TO_WEB]}]},
         ["gateway-missing"]),
    ],
)  # fmt: skip
def test_several_gateways(spec: Json, expected: list[str]) -> None:
    objects = {
        "Gateway fx-edge/one": gateway("*.one.example"),
        "Gateway fx-edge/two": gateway("*.two.example"),
        "Gateway fx-edge/db": gateway("db.example", number=20042, protocol="TCP"),
        "VirtualService fx-app/web": {"gateways": ["fx-edge/one", "fx-edge/two", "fx-edge/db"], **spec},
    }
    assert codes(objects, WITH_TCP) == expected


def _hidden(*rules: Json, **parts: list[Json]) -> list[str]:
    """What is found of a VirtualService with these http rules; `parts` are those that rules are delegated to."""
    objects: Json = {
        "Gateway fx-edge/gw": gateway("web.fx.example", "www.fx.example"),
        "VirtualService fx-app/web": {"hosts": ["web.fx.example", "www.fx.example"], "gateways": ["fx-edge/gw"],
                                      "http": list(rules)},
        **{f"VirtualService fx-b/{name}": {"http": inner} for name, inner in parts.items()},
    }  # fmt: skip
    return codes(objects)


def _to(part: str, **match: Any) -> Json:
    return {"match": [match], "delegate": {"name": part, "namespace": "fx-b"}}


def _rule(*matches: Json, **more: Any) -> Json:
    return {**({"match": list(matches)} if matches else {}), "route": [{"destination": {
        "host": "other.fx-b.svc.cluster.local", "port": {"number": 80}}}], **more}  # fmt: skip


B, B1, B2 = ({"uri": {"prefix": path}} for path in ("/b", "/b/1", "/b/2"))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ([_rule(B1), _rule(B2)], []),
        ([_rule(B1), _rule(B1)], ["route-hidden"]),
        ([_rule(), _rule(B1)], ["route-hidden"]),
        ([_rule({"headers": {"x": {"exact": "1"}}}), _rule()], []),
        # Istio leaves out what isn't within the outer match, and so does everything else here
        ([_rule({"uri": {"prefix": "/c"}}), _rule({"uri": {"prefix": "/c/d"}}), _rule()], []),
        ([_rule({"uri": {"regex": "/b/.*"}}), _rule({"uri": {"regex": "/b/.*"}})], []),
        ([{"match": [B1], "directResponse": {"status": 503}}, _rule()], []),
        ([{"match": [B1], "redirect": {"uri": "/b/2"}}, _rule()], []),
        ([{"match": [B], "redirect": {"authority": "www.fx.example"}}], ["redirect-loop"]),
        ([], ["delegate-missing"]),
    ],
)
def test_delegates(part: list[Json], expected: list[str]) -> None:
    assert _hidden(_to("part", **B), _rule(), part=part) == expected


@pytest.mark.parametrize(
    ("outer", "inner", "kept"),
    [
        ({}, {}, True),
        ({"uri": {"exact": "/b"}}, {"uri": {"exact": "/b"}}, True),
        ({"uri": {"exact": "/b"}}, {"uri": {"exact": "/c"}}, False),
        ({"uri": {"exact": "/b"}}, {"uri": {"prefix": "/b"}}, False),
        ({"uri": {"prefix": "/b"}}, {"uri": {"exact": "/b/c"}}, True),
        ({"uri": {"prefix": "/b"}}, {"uri": {"prefix": "/c"}}, False),
        ({"uri": {"regex": "/b"}}, {"uri": {"exact": "/b"}}, False),
        ({"uri": {"prefix": "/b"}}, {"uri": {"prefix": "/b"}, "ignoreUriCase": True}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"y": {"exact": "2"}}}, True),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {}}}, False),
        ({"port": 80}, {"port": 80}, True),
        ({"port": 80}, {"port": 8080}, False),
        ({"sourceNamespace": "a"}, {}, False),
        ({}, {"sourceNamespace": "a"}, True),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, False),
        ({"gateways": ["fx-edge/gw"]}, {"gateways": ["fx-edge/gw"]}, True),
        ({"gateways": ["fx-edge/gw"]}, {"gateways": ["gw"]}, False),
    ],
)
def test_what_istio_drops_of_a_delegate(outer: Json, inner: Json, kept: bool) -> None:
    """A rule that is kept is seen to hide the same rule after it."""
    twice = [{"match": [inner], "route": [TO_WEB]}] * 2
    found = _hidden(_to("part", **outer), part=twice)
    assert ("route-hidden" in found) is kept


@pytest.mark.parametrize(
    ("match", "hides"),
    [
        ({"uri": {"prefix": "/"}}, True),
        ({"sourceLabels": {"app": "x"}}, False),
        ({"sourceNamespace": "fx-b"}, False),
        # Where a Gateway is named, Istio doesn't look at the source
        ({"sourceLabels": {"app": "x"}, "gateways": ["fx-edge/gw"]}, True),
    ],
)
def test_a_rule_for_some_sources_hides_nothing(match: Json, hides: bool) -> None:
    late = _rule({"gateways": ["fx-edge/gw"], "uri": {"prefix": "/b"}})
    assert _hidden(_rule(match), late) == (["route-hidden"] if hides else [])


BACK = {"redirect": {"authority": "www.fx.example"}}


@pytest.mark.parametrize(
    ("rules", "loops"),
    [
        ([BACK], True),
        ([{"redirect": {"authority": "other.example"}}], False),
        ([{"match": [{"uri": {"prefix": "/b"}}], **BACK}], True),
        ([{"match": [{"authority": {"exact": "web.fx.example"}}], **BACK}, _rule()], False),
        ([{"match": [{"authority": {"exact": "www.fx.example:80"}}], **BACK}], True),
        ([{"match": [{"authority": {"prefix": "w"}}], **BACK}], True),
        ([{"match": [{"authority": {"prefix": "web"}}], **BACK}], False),
        ([{"match": [{"authority": {"regex": "w{2,}.*"}}], **BACK}], True),
        ([{"match": [{"authority": {"regex": "web.*"}}], **BACK}], False),
        ([{"match": [{"authority": {"regex": "("}}], **BACK}], False),
        ([{"match": [{"headers": {":authority": {"exact": "web.fx.example"}}}], **BACK}], False),
        ([{"match": [{"withoutHeaders": {":authority": {"exact": "www.fx.example"}}}], **BACK}], False),
        ([{"match": [{"withoutHeaders": {":authority": {"exact": "web.fx.example"}}}], **BACK}], True),
        # A rule before it takes what comes back
        ([{"match": [{"authority": {"exact": "www.fx.example"}}], **_rule()}, BACK], False),
        ([{"match": [{"authority": {"exact": "www.fx.example"}, "uri": {"prefix": "/b"}}], **_rule()}, BACK], True),
        ([{"match": [{"authority": {"exact": "web.fx.example"}}], **_rule()}, BACK], True),
        ([{"redirect": {"scheme": "http"}}], True),
        ([{"redirect": {"port": 80}}], True),
        ([{"redirect": {"port": 8080}}], False),
    ],
)
@pytest.mark.parametrize("number", [80, 8080], ids=str)
def test_redirects_in_a_circle(rules: list[Json], loops: bool, number: int) -> None:
    """The Service lets port 80 end at 8080: a server of either number is reached by 80 alone."""
    objects = {
        "Gateway fx-edge/gw": gateway("web.fx.example", "www.fx.example", number=number),
        "VirtualService fx-app/web": {"hosts": ["web.fx.example", "www.fx.example"], "gateways": ["fx-edge/gw"],
                                      "http": rules},
    }  # fmt: skip
    assert codes(objects) == (["redirect-loop"] if loops else [])


@pytest.mark.parametrize(
    ("match", "number", "nowhere"),
    [
        ({}, 8443, True),
        ({"authority": {"exact": "web.fx.example"}}, 8443, False),
        ({"authority": {"exact": "web.fx.example"}}, 443, False),
        ({"authority": {"exact": "web.fx.example"}}, 9443, True),
        ({"authority": {"exact": "www.fx.example"}}, 443, True),
    ],
)
def test_redirects_to_https(match: Json, number: int, nowhere: bool) -> None:
    """HTTPS is there for web alone, by a server that port 443 ends at or not."""
    tls = {"mode": "SIMPLE", "serverCertificate": "/etc/istio/ingressgateway-certs/a",
           "privateKey": "/etc/istio/ingressgateway-certs/b"}  # fmt: skip
    secure = {"port": {"number": number, "name": "s", "protocol": "HTTPS"}, "hosts": ["web.fx.example"], "tls": tls}
    plain = gateway("web.fx.example", "www.fx.example")
    objects = {
        "Gateway fx-edge/gw": {**plain, "servers": [*plain["servers"], secure]},
        "VirtualService fx-app/web": {
            "hosts": ["web.fx.example", "www.fx.example"], "gateways": ["fx-edge/gw"],
            "http": [{"match": [{"port": 80, **match}], "redirect": {"scheme": "https"}}, _rule()],
        },
    }  # fmt: skip
    assert ("redirect-nowhere" in codes(objects)) is nowhere
