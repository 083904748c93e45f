"""The module exposures for a user who may not do everything, in clusters that aren't as expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import HTTP, TCP, service, verbs
from memory_api.server import Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]
COMMON = "/apis/networking.istio.io/v1/"


def namespaces_only(server: Server, *kinds: str) -> None:
    """Forbid lists of the whole cluster."""

    def forbid(request: Request) -> None:
        kind = request.path.rpartition("/")[2]
        if request.method == "GET" and "/namespaces/" not in request.path and kind in kinds:
            raise StatusError(403, "Forbidden", f"{kind} is forbidden at the cluster scope")

    server.before = forbid


ALL = ("virtualservices", "gateways", "destinationrules", "serviceentries", "configmaps", "secrets")


def test_with_rights_in_the_namespaces_alone(server: Server, run: Run) -> None:
    namespaces_only(server, *ALL)
    assert run("exposures", exposures=[HTTP, TCP])["changed"]
    server.log.clear()
    assert not run("exposures", exposures=[HTTP, TCP])["changed"]
    asked = [request.path for request in server.log if request.path.endswith("/virtualservices")]
    # The whole cluster is tried once, by the run itself and by the findings
    assert asked.count(f"{COMMON}virtualservices") <= 2
    assert {path for path in asked if "/namespaces/" in path} >= {
        f"{COMMON}namespaces/{name}/virtualservices" for name in ("db", "istio-system", "shop")
    }
    result = run("exposures", exposures=[HTTP])
    # The namespace that left the list is known from the inventory
    assert verbs(result)["VirtualService/mysql"] == "delete"
    assert server.get("VirtualService", "db", "mysql") is None


PEM = "-----BEGIN {0}-----\nYQ==\n-----END {0}-----\n"
CERTIFICATE = {"certificate": PEM.format("CERTIFICATE"), "private_key": PEM.format("PRIVATE KEY")}
SECURE = {**HTTP, "protocol": "HTTPS", "tls": CERTIFICATE}


def test_secrets_of_other_namespaces_need_not_be_readable(server: Server, run: Run) -> None:
    def forbid(request: Request) -> None:
        if request.path.endswith("/secrets") and "/namespaces/istio-system/" not in request.path:
            raise StatusError(403, "Forbidden", 'secrets is forbidden: User "deployer" cannot list resource "secrets"')

    server.before = forbid
    assert run("exposures", exposures=[SECURE, TCP], validate=False)["changed"]
    assert not run("exposures", exposures=[SECURE, TCP], validate=False)["changed"]
    assert run("exposures", exposures=[TCP], validate=False)["changed"]
    assert not [key for key in server.objects if key[1] == "Secret"]


def test_secrets_beside_the_gateway_must_be(server: Server, run: Run) -> None:
    namespaces_only(server, "secrets")
    broader = server.before

    def forbid(request: Request) -> None:
        assert broader is not None
        broader(request)
        if request.path.endswith("istio-system/secrets"):
            raise StatusError(403, "Forbidden", 'secrets is forbidden: User "deployer" cannot list resource "secrets"')

    server.before = forbid
    assert "istio-system/secrets is not allowed" in run("exposures", exposures=[SECURE], validate=False)["msg"]
    assert server.writes() == []


def test_kinds_that_nobody_asked_for_need_not_be_readable(server: Server, run: Run) -> None:
    """Without an inventory the set's objects may be of any kind: it is looked for them as far as may be."""

    def forbid(request: Request) -> None:
        if request.path.startswith("/apis/gateway.networking.k8s.io/v1/") or request.path.endswith("/secrets"):
            raise StatusError(403, "Forbidden", 'forbidden: User "deployer" cannot list resource')

    server.before = forbid
    assert not run("exposures", exposures=[HTTP], validate=False).get("failed")
    assert not run("exposures", exposures=[HTTP], validate=False)["changed"]


@pytest.mark.parametrize("path", ["configmaps", "virtualservices"])
def test_an_api_server_that_fails_is_no_lack_of_rights(server: Server, run: Run, path: str) -> None:
    def fail(request: Request) -> None:
        if request.path.endswith(f"/{path}"):
            raise StatusError(500, "InternalError", "etcdserver: request timed out")

    server.before = fail
    result = run("exposures", exposures=[HTTP])
    assert result["failed"]
    assert "etcdserver: request timed out" in result["msg"]
    assert server.writes() == []


def test_an_inventory_of_somebody_else_is_not_taken(server: Server, run: Run) -> None:
    metadata = {"name": "edgeway-set-default", "namespace": "istio-system"}
    server.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"theirs": "yes"}})
    result = run("exposures", exposures=[HTTP])
    assert (
        "ConfigMap istio-system/edgeway-set-default exists already and wasn't made by this collection" in result["msg"]
    )
    assert server.writes() == []


def test_a_kind_that_was_never_served_by_hand_is_refused_with_its_cure(server: Server, run: Run) -> None:
    server.kinds = tuple(kind for kind in server.kinds if kind.name != "DestinationRule")
    result = run("exposures", exposures=[HTTP])
    assert "the cluster doesn't serve networking.istio.io/v1 DestinationRule" in result["msg"]
    assert "Install the CRDs of DestinationRule" in result["msg"]
    assert server.writes() == []


def test_a_namespace_that_is_missing_is_named_once_for_all_its_objects(server: Server, run: Run) -> None:
    del server.objects["", "Namespace", "", "shop"]
    result = run("exposures", exposures=[HTTP, {**HTTP, "name": "b", "hostnames": ["b.example"]}], validate=False)
    assert result["msg"].count("Create the namespace shop first: kubectl create namespace shop.") == 1
    would = run("exposures", exposures=[HTTP], validate=False, check=True)
    assert would["changed"]
    assert "Create the namespace shop first" in str(would["warnings"])


def test_several_gateways_and_none_named(server: Server, run: Run) -> None:
    found = server.objects.pop(("", "Service", "istio-system", "istio-ingressgateway"))
    for name in ("edge", "team"):
        made = service("istio-system", name, 80, 443)
        made["spec"]["selector"] = {"istio": "ingress", "app": name}
        server.add(made)
    result = run("exposures", exposures=[HTTP])
    assert "There are several gateways: istio-system/edge, istio-system/team." in result["msg"]
    assert "gateway.namespace and gateway.service" in result["msg"]
    server.objects["", "Service", "istio-system", "istio-ingressgateway"] = found
    assert run("exposures", exposures=[HTTP])["changed"]


def test_each_gateway_is_chosen_by_its_own_labels(server: Server, run: Run) -> None:
    team = service("db", "team", 80, 443)
    team["spec"]["selector"] = {"app": "team"}
    server.add(team)
    other = {**HTTP, "name": "other", "hostnames": ["other.example"], "gateway": {"namespace": "db", "service": "team"}}
    result = run("exposures", exposures=[HTTP, other], validate=False, wait=False)
    gateways = {
        item["metadata"]["namespace"]: item["spec"]["selector"]
        for item in result["manifests"]
        if item["kind"] == "Gateway"
    }
    assert gateways == {"istio-system": {"istio": "ingressgateway"}, "db": {"app": "team"}}


def test_without_prune_ports_stay_too(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP, TCP])
    other = {"namespace": "istio-system", "service": "istio-ingressgateway"}
    run("exposures", exposures=[], prune=False, gateway=other)
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    assert 65532 in [port["port"] for port in live["spec"]["ports"]]


def test_a_certificate_of_ones_own_is_seen_and_never_read_from_others(server: Server, run: Run) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-shop", "namespace": "istio-system"}}
    server.add({**theirs, "data": {"tls.key": "c2VjcmV0"}})
    names = {
        item["metadata"]["name"]
        for item in run("exposures", exposures=[SECURE], state="rendered", validate=False)["manifests"]
        if item["kind"] == "Secret"
    }
    [name] = names
    server.add({**theirs, "metadata": {**theirs["metadata"], "name": name}})
    result = run("exposures", exposures=[SECURE], validate=False)
    assert f"Secret istio-system/{name} exists already" in result["msg"]
    assert "c2VjcmV0" not in str(result)
