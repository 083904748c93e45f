"""Variants of the set-ups in the corpora: a mistake written otherwise, and what looks like one and isn't."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.model._rules import destination_rules
from integration.broken import in_memory, setups
from integration.broken.setups import State

Json = dict[str, Any]

SETUP = next(one for one in setups.load("sound") if one.name == "one-name")
GATEWAY = {
    "selector": {"istio": "fx-gateway"},
    "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["web.fx.example"]}],
}
SERVICE = "Service fx-app/web"
OUTSIDE = {"hosts": ["out.example"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
           "location": "MESH_EXTERNAL", "resolution": "DNS"}  # fmt: skip

WILDCARD = {**OUTSIDE, "hosts": ["*.out.example"], "resolution": "NONE"}
DATABASE = {"name": "db", "namespace": "fx-app", "protocol": "TCP", "port": 20306,
            "backend": {"service": "db", "port": 3306}}  # fmt: skip


def entry(**more: Any) -> Json:
    return {"name": "web", "namespace": "fx-app", "protocol": "HTTP", "hostnames": ["web.fx.example"],
            "backend": {"service": "web", "port": 80}, **more}  # fmt: skip


def to(service: str, port: int, namespace: str = "fx-app", **more: Any) -> Json:
    return entry(backend={"service": service, "port": port, "namespace": namespace}, **more)


def codes(exposures: list[Json], objects: Json, patch: Json | None = None) -> list[str]:
    state = State(exposures, objects, patch or {})
    if exposures:
        return [one.code for one in in_memory.findings(SETUP, state)]
    return [one.code for one in _findings.survey(in_memory.snapshot_of(SETUP, state))]


def by_hand(host: str, **more: Any) -> Json:
    """A route by hand to a host."""
    destination = {"host": host, **({} if "port" in more else {"port": {"number": 80}}), **more}
    return {
        "Gateway fx-edge/gw": GATEWAY,
        "VirtualService fx-app/web": {"hosts": ["web.fx.example"], "gateways": ["fx-edge/gw"],
                                      "http": [{"route": [{"destination": destination}]}]},
    }  # fmt: skip


def rule(host: str = "web.fx-app.svc.cluster.local", **policy: Any) -> Json:
    return {"DestinationRule fx-app/rule": {"host": host, "trafficPolicy": policy}}


def named(port: str, number: int = 80, **more: Any) -> Json:
    """The Service's port by another name."""
    return {SERVICE: {"spec": {"ports": [{"name": port, "port": number, "targetPort": 8080, **more}]}}}


def peer(mode: str | None, namespace: str = "fx-mesh", **more: Any) -> Json:
    mtls = {"mtls": {"mode": mode}} if mode else {}
    return {f"PeerAuthentication {namespace}/{'some' if more else 'all'}": {**mtls, **more}}


def on_port(number: int) -> Json:
    """The route by hand, at a port that the gateway's Service doesn't have."""
    server = {"port": {"number": number, "name": "http", "protocol": "HTTP"}, "hosts": ["web.fx.example"]}
    return {**by_hand("web"), "Gateway fx-edge/gw": {**GATEWAY, "servers": [server]}}


def pods(**spec: Any) -> Json:
    """The gateway's pods, with more in their spec, or in that of their container."""
    return {"Deployment fx-edge/fx-gateway": {"spec": {"template": {"spec": spec}}}}


MESHED = to("meshed", 80, "fx-mesh")
PLAIN = {"DestinationRule fx-mesh/rule": {"host": "meshed.fx-mesh.svc.cluster.local",
                                          "trafficPolicy": {"tls": {"mode": "DISABLE"}}}}  # fmt: skip
OF_MESHED = {"selector": {"matchLabels": {"app": "meshed"}}}
# Pods whose connections a ztunnel takes
AMBIENT = {
    **by_hand("ambient"),
    "Service fx-app/ambient": {"selector": {"app": "ambient"},
                               "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    "Deployment fx-app/ambient": {"echo": {"app": "ambient"},
                                  "annotations": {"ambient.istio.io/redirection": "enabled"}},
    **rule("ambient", tls={"mode": "ISTIO_MUTUAL"}),
}  # fmt: skip
CLIENTS = {"type": "Opaque", "certificate": {"names": ["c"], "authority": True, "without": ["tls.crt", "tls.key"]}}


def mutual(authority: str = "") -> Json:
    """HTTPS by hand, for clients that show certificates."""
    tls = {"mode": "MUTUAL", "credentialName": "cert", **({"caCertCredentialName": authority} if authority else {})}
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["web.fx.example"], "tls": tls}
    return {**by_hand("web"), "Gateway fx-edge/gw": {**GATEWAY, "servers": [server]},
            "Secret fx-edge/cert": {"certificate": {"names": ["web.fx.example"]}}}  # fmt: skip


VARIANTS: list[tuple[str, list[str], list[Json], Json, Json]] = [
    ("all is well", [], [entry()], {}, {}),
    # Hosts
    ("a host that nobody knows", ["backend-missing"], [], by_hand("none.example"), {}),
    ("a host of a ServiceEntry", [], [],
     {**by_hand("out.example", port={"number": 443}), "ServiceEntry fx-app/out": OUTSIDE}, {}),
    ("a host below a wildcard", [], [],
     {**by_hand("a.out.example", port={"number": 443}), "ServiceEntry fx-app/out": WILDCARD}, {}),
    ("an external name that nothing makes known", ["backend-external-name"], [to("ext", 80)],
     {"Service fx-app/ext": {"type": "ExternalName", "externalName": "none.example",
                             "ports": [{"name": "http", "port": 80}]}}, {}),
    ("no selector and no endpoints", ["backend-unready"], [to("bare", 80)],
     {"Service fx-app/bare": {"ports": [{"name": "http", "port": 80}]}}, {}),
    ("exported to nobody", ["backend-not-exported"], [entry()], {},
     {SERVICE: {"metadata": {"annotations": {"networking.istio.io/exportTo": "~"}}}}),
    ("exported to the gateway too", [], [entry()], {},
     {SERVICE: {"metadata": {"annotations": {"networking.istio.io/exportTo": ".,fx-edge"}}}}),
    # What ports are called
    ("TLS behind HTTP", ["backend-speaks-tls"], [entry()], {}, named("https")),
    ("TLS behind HTTP, asked for", [], [entry(backend={"service": "web", "port": 80, "tls": {"sni": "x.example"}})], {},
     named("https")),
    ("TLS behind HTTP by a rule for the port", [], [], {**by_hand("web"), **rule(
        portLevelSettings=[{"port": {"number": 81}, "tls": {"mode": "DISABLE"}},
                           {"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}])}, named("https")),
    ("a database behind a port without a name", [], [DATABASE],
     {"Service fx-app/db": {"selector": {"app": "web"}, "ports": [{"name": "any", "port": 3306, "targetPort": 8080}]}},
     {"Service fx-edge/fx-gateway": {"spec": {"ports": [
         {"name": "status-port", "port": 15021, "targetPort": 15021},
         {"name": "db", "port": 20306, "targetPort": 20306}]}}}),
    # Ports that need no Service
    ("a port of nobody", ["port-not-on-service"], [], on_port(20019), {}),
    ("a port of the node", [], [], on_port(20019),
     pods(containers=[{"name": "istio-proxy", "ports": [{"containerPort": 20019, "hostPort": 20019}]}])),
    ("another port of the node", ["port-not-on-service"], [], on_port(20019),
     pods(containers=[{"name": "istio-proxy", "ports": [{"containerPort": 20018, "hostPort": 20018}]}])),
    ("a port that the pods only name", ["port-not-on-service"], [], on_port(20019),
     pods(containers=[{"name": "istio-proxy", "ports": [{"containerPort": 20019}]}])),
    ("the node's network", [], [], on_port(20019), pods(hostNetwork=True)),
    # Clients' certificates
    ("nobody says whose", ["client-ca-missing"], [], mutual(), {}),
    ("a Secret named after the certificate's", [], [], {**mutual(), "Secret fx-edge/cert-cacert": CLIENTS}, {}),
    ("a Secret of another name", [], [], {**mutual("clients-cacert"), "Secret fx-edge/clients-cacert": CLIENTS}, {}),
    ("its name without the ending", [], [], {**mutual("clients-cacert"), "Secret fx-edge/clients": CLIENTS}, {}),
    ("by a scheme", [], [], {**mutual("kubernetes://clients-cacert"), "Secret fx-edge/clients": CLIENTS}, {}),
    ("one that isn't there", ["client-ca-missing"], [],
     {**mutual("clients-cacert"), "Secret fx-edge/cert-cacert": CLIENTS}, {}),
    ("a ConfigMap, which isn't read", [], [], mutual("configmap://fx-app/clients-cacert"), {}),
    # Mutual TLS
    ("plain to pods that take mutual TLS alone", ["mtls-clash"], [MESHED], {**PLAIN, **peer("STRICT")}, {}),
    ("in the whole mesh", ["mtls-clash"], [MESHED], {**PLAIN, **peer("STRICT", "fx-system")}, {}),
    ("but not in this namespace", [], [MESHED], {**PLAIN, **peer("STRICT", "fx-system"), **peer("PERMISSIVE")}, {}),
    ("but not for these pods", [], [MESHED], {**PLAIN, **peer("STRICT"), **peer("PERMISSIVE", **OF_MESHED)}, {}),
    ("for these pods alone", ["mtls-clash"], [MESHED], {**PLAIN, **peer("STRICT", **OF_MESHED)}, {}),
    ("for other pods", [], [MESHED], {**PLAIN, **peer("STRICT", selector={"matchLabels": {"app": "x"}})}, {}),
    ("elsewhere", [], [MESHED], {**PLAIN, **peer("STRICT", "fx-b")}, {}),
    ("said by nobody", [], [MESHED], {**PLAIN, **peer(None)}, {}),
    ("for this port alone", ["mtls-clash"], [MESHED],
     {**PLAIN, **peer("PERMISSIVE", **OF_MESHED, portLevelMtls={"8080": {"mode": "STRICT"}})}, {}),
    ("not for this port", [], [MESHED],
     {**PLAIN, **peer("STRICT", **OF_MESHED, portLevelMtls={"8080": {"mode": "DISABLE"}})}, {}),
    ("mutual TLS to pods of the ambient mesh", [], [], AMBIENT, {}),
    ("mutual TLS to pods of which one isn't in it", ["mtls-clash"], [],
     {**AMBIENT, "Deployment fx-app/plain": {"echo": {"app": "ambient", "is": "plain"}}}, {}),
    ("mutual TLS to pods without a sidecar, for a port", ["mtls-clash"], [],
     {**by_hand("web"), **rule(portLevelSettings=[{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL"}}])}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "exposures", "objects", "patch"), [row[1:] for row in VARIANTS],
                         ids=[row[0] for row in VARIANTS])  # fmt: skip
def test_variant(expected: list[str], exposures: list[Json], objects: Json, patch: Json) -> None:
    found = codes(exposures, objects, patch)
    # A rule by hand for a host of the list is told of besides
    assert [code for code in found if code != "destination-rule-foreign"] == expected


def test_the_same_settings_of_another_list_are_no_finding() -> None:
    listed = [entry()]
    (other,) = destination_rules(parse(listed, set_name="other", api="istio", gateway=SETUP.gateway))
    same = {f"DestinationRule fx-app/{other['metadata']['name']}": {"spec": other["spec"]}}
    assert codes(listed, same) == []
    other["spec"]["trafficPolicy"]["connectionPool"] = {"tcp": {"connectTimeout": "20s"}}
    assert codes(listed, same) == ["destination-rule-foreign"]
