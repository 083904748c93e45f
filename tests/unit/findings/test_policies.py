"""AuthorizationPolicies and NetworkPolicies, judged by whether a request can pass at all."""

from __future__ import annotations

from typing import Any

import pytest
from integration.broken import in_memory, setups
from integration.broken.setups import State

MESHED = next(one for one in setups.load("broken") if one.name == "another-gateway-s-identity")
TCP = next(one for one in setups.load("broken") if one.name == "methods-allowed-over-tcp")
WEB = next(one for one in setups.load("broken") if one.name == "network-policy-around-the-backend")
PRINCIPAL = "cluster.local/ns/fx-edge/sa/fx-gateway-service-account"
TOKENS = {"RequestAuthentication fx-mesh/tokens": {"jwtRules": [{"issuer": "x", "jwksUri": "https://x.example"}]}}


def codes(setup: setups.SetUp, objects: dict[str, Any], mesh: str = "") -> list[str]:
    patch = {"ConfigMap fx-system/istio-fx": {"data": {"mesh": f"rootNamespace: fx-system\n{mesh}"}}}
    return [one.code for one in in_memory.findings(setup, State(setup.broken.exposures, objects, patch))]


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ({"spec": {}}, False),
        ({"rules": [{}]}, True),
        ({"rules": [{"from": [{"source": {"principals": [PRINCIPAL]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"principals": ["*"]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"principals": ["*/fx-gateway-service-account"]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/fx-edge/*"]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"notPrincipals": [PRINCIPAL]}}]}]}, False),
        ({"rules": [{"from": [{"source": {"namespaces": ["fx-*"]}}]}]}, True),
        ({"rules": [{"from": [{"source": {"namespaces": ["fx-app"]}}]}]}, False),
        ({"rules": [{"from": [{"source": {"notNamespaces": ["fx-edge"]}}]}]}, False),
        ({"rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}, True),
        ({"rules": [{"to": [{"operation": {"ports": ["9090"]}}]}]}, False),
        ({"rules": [{"to": [{"operation": {"notPorts": ["8080"]}}]}]}, False),
        ({"rules": [{"to": [{"operation": {"hosts": ["meshed.fx.example:*"]}}]}]}, True),
        ({"rules": [{"to": [{"operation": {"hosts": ["meshed.*"]}}]}]}, True),
        ({"rules": [{"to": [{"operation": {"hosts": ["other.example"]}}]}]}, False),
        ({"rules": [{"to": [{"operation": {"methods": ["POST"], "paths": ["/x"]}}]}]}, True),
        ({"rules": [{"when": [{"key": "request.auth.claims[iss]", "values": ["x"]}]}]}, False),
        ({"selector": {"matchLabels": {"app": "other"}}}, True),
        ({"targetRefs": [{"kind": "Gateway", "name": "x"}]}, True),
        ({"action": "AUDIT", "rules": [{}]}, True),
        ({"action": "DENY", "rules": [{}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]}, True),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"hosts": ["*.fx.example"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9090"]}}]}]}, True),
        ({"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["fx-edge"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["fx-app"]}}]}]}, True),
        ({"action": "DENY", "rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}]}, True),
        ({"action": "DENY", "rules": [{"when": [{"key": "request.headers[x]", "values": ["y"]}]}]}, True),
    ],
)
def test_http(spec: dict[str, Any], passes: bool) -> None:
    assert codes(MESHED, {"AuthorizationPolicy fx-mesh/one": spec}) == ([] if passes else ["authorization-denies"])


def test_tokens_pass_where_something_reads_them() -> None:
    policy = {"rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}
    assert codes(MESHED, {"AuthorizationPolicy fx-mesh/one": policy}) == ["authorization-denies"]
    assert codes(MESHED, {"AuthorizationPolicy fx-mesh/one": policy, **TOKENS}) == []


@pytest.mark.parametrize(
    ("place", "more", "reads"),
    [
        ("fx-system/all", {}, True),
        ("fx-system/some", {"selector": {"matchLabels": {"app": "meshed"}}}, True),
        ("fx-system/others", {"selector": {"matchLabels": {"app": "other"}}}, False),
        ("fx-system/gateway", {"targetRefs": [{"kind": "Gateway", "name": "x"}]}, False),
        ("istio-system/all", {}, False),  # the root of another mesh
        ("fx-b/all", {}, False),
    ],
)
def test_where_tokens_are_read(place: str, more: dict[str, Any], reads: bool) -> None:
    tokens = {f"RequestAuthentication {place}": {**TOKENS["RequestAuthentication fx-mesh/tokens"], **more}}
    policy = {"rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}
    found = codes(MESHED, {"AuthorizationPolicy fx-mesh/one": policy, **tokens})
    assert found == ([] if reads else ["authorization-denies"])


@pytest.mark.parametrize(
    ("mesh", "domain", "passes"),
    [
        ("", "cluster.local", True),
        ("", "old.example", False),
        ("trustDomain: new.example", "new.example", True),
        ("trustDomain: new.example", "cluster.local", True),
        ("trustDomain: new.example", "old.example", False),
        ("trustDomain: new.example\ntrustDomainAliases: [old.example]", "old.example", True),
        ("trustDomain: new.example\ntrustDomainAliases: [old.example]", "old*", True),
        ("trustDomain: new.example\ntrustDomainAliases: [old.example]", "*", True),
        ("trustDomain: new.example\ntrustDomainAliases: [old.example]", "else.example", False),
    ],
)
def test_all_trust_domains_of_the_mesh_are_one(mesh: str, domain: str, passes: bool) -> None:
    principal = f"{domain}/ns/fx-edge/sa/fx-gateway-service-account"
    for source, lets_in in (({"principals": [principal]}, passes), ({"notPrincipals": [principal]}, not passes)):
        policy = {"AuthorizationPolicy fx-mesh/one": {"rules": [{"from": [{"source": source}]}]}}
        assert codes(MESHED, policy, mesh) == ([] if lets_in else ["authorization-denies"])


def test_one_policy_that_allows_is_enough() -> None:
    objects = {"AuthorizationPolicy fx-mesh/nothing": {"spec": {}}, "AuthorizationPolicy fx-mesh/all": {"rules": [{}]}}
    assert codes(MESHED, objects) == []


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ({"rules": [{"to": [{"operation": {"ports": ["9090"]}}]}]}, True),
        ({"rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}, False),
        ({"rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/x"], "ports": ["8080"]}}]}]}, True),
        ({"action": "DENY", "rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}, False),
        ({"action": "DENY", "rules": [{"when": [{"key": "source.ip", "values": ["192.0.2.1"]}]}]}, True),
    ],
)
def test_tcp(spec: dict[str, Any], passes: bool) -> None:
    assert codes(TCP, {"AuthorizationPolicy fx-mesh/one": spec}) == ([] if passes else ["authorization-denies"])


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ({"podSelector": {}, "ingress": []}, False),
        ({"podSelector": {}, "ingress": [{}]}, True),
        ({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": []}, True),
        ({"podSelector": {}, "policyTypes": ["Egress"]}, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]}, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 9090}]}]}, False),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 9000}]}]}, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}, True),
        ({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, True),
        ({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}, True),
        (
            {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "edge"}},
                                                       "podSelector": {"matchLabels": {"istio": "fx-gateway"}}}]}]},
            True,
        ),
        (
            {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "edge"}},
                                                       "podSelector": {"matchLabels": {"istio": "other"}}}]}]},
            False,
        ),
        ({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, False),
    ],
)  # fmt: skip
def test_networks(spec: dict[str, Any], passes: bool) -> None:
    assert codes(WEB, {"NetworkPolicy fx-app/one": spec}) == ([] if passes else ["network-policy"])
