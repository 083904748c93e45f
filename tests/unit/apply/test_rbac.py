"""The roles of rights in roles/exposures/files/ are enough for what they say, against a server that keeps to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from memory_api import Server, pods
from memory_api.sample import HTTP, TCP
from memory_api.server import Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]
FILES = Path(__file__).parents[3] / "roles/exposures/files"
VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
PEM = "-----BEGIN {0}-----\nYQ==\n-----END {0}-----\n"
CERTIFICATE = {"certificate": PEM.format("CERTIFICATE"), "private_key": PEM.format("PRIVATE KEY")}
SECURE = {**HTTP, "name": "secure", "hostnames": ["secure.example"], "protocol": "HTTPS", "tls": CERTIFICATE}
OWN = {**HTTP, "name": "own", "hostnames": ["own.example"], "port": 8088, "expose": "service"}
BESIDE = {"name": "web", "selector": {"istio": "ingressgateway"}, "ports": [{"port": 8089}], "vips": ["10.77.0.101"]}


def rules(*names: str) -> list[tuple[str, Json]]:
    """Each rule with the namespace that it holds in, empty for all; every role must be bound."""
    items = [item for name in names for item in yaml.safe_load((FILES / name).read_text())["items"]]
    bound = {(item["roleRef"]["kind"], item["roleRef"]["name"], item["metadata"].get("namespace", "")) for item in items
             if item["kind"].endswith("Binding")}  # fmt: skip
    found = []
    for item in items:
        if item["kind"] in ("Role", "ClusterRole"):
            place = item["metadata"].get("namespace", "")
            assert (item["kind"], item["metadata"]["name"], place) in bound
            found += [(place, rule) for rule in item["rules"]]
    return found


def keep_to(server: Server, *names: str, without: Sequence[str] = ()) -> None:
    """Refuse what these files don't allow, as RBAC does, but for rules about the resources `without`."""
    given = [(place, rule) for place, rule in rules(*names) if not set(rule["resources"]) & set(without)]

    def allowed(verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        return any(
            place in ("", namespace)
            and group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            and name in rule.get("resourceNames", [name])
            for place, rule in given
        )

    def check(request: Request) -> None:
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        if not rest:
            return  # what is served: everybody may ask
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        name = rest[1] if len(rest) > 1 else ""
        resource = "/".join([rest[0], *rest[2:]])
        verbs = [VERBS.get(request.method) or ("get" if name else "list")]
        kinds = {kind.name for kind in server.kinds if (kind.group, kind.plural) == (group, rest[0])}
        exists = any((group, kind, namespace, name) in server.objects for kind in kinds)
        if request.method == "PATCH" and "/" not in resource and not exists:
            verbs.append("create")
        for verb in verbs:
            if not allowed(verb, group, resource, namespace, name):
                message = f'{resource} "{name}" is forbidden: User "deployer" cannot {verb} resource "{resource}"'
                raise StatusError(403, "Forbidden", message)

    server.before = check


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_who_publishes(server: Server, run: Run, api: str) -> None:
    server.pods["istio-system", "gateway-1"] = {15000: pods.envoy(server)}
    before = server.state()
    keep_to(server, "rbac.yml")
    wait = api == "istio"
    assert run("gateway_service", ports=[{"port": 65533}], vips=["10.77.0.100"])["changed"]
    for exposures in ([HTTP, TCP], [HTTP]):
        result = run("exposures", exposures=exposures, api=api, wait=wait)
        assert result.get("changed"), result["msg"]
        assert result["pods"] == (["istio-system/gateway-1"] if wait else [])
        assert [one for one in result["findings"] if one["code"] == "unread"] == []
    assert run("exposures", state="absent", api=api)["changed"]
    assert run("gateway_service", state="absent")["changed"]
    after = server.state()
    for state in (before, after):
        state["", "Service", "istio-system", "istio-ingressgateway"].pop("status", None)
    assert after == before
    boxes = run(
        "forwarding_info", mode="haproxy", edges={"box1": "box1"}, gateways=["istio-system/istio-ingressgateway"]
    )
    assert not boxes.get("failed"), boxes["msg"]


def test_who_may_neither_read_secrets_nor_reach_into_pods(server: Server, run: Run) -> None:
    keep_to(server, "rbac.yml", without=["secrets", "pods/portforward"])
    named = {**SECURE, "tls": {"secret": "shop-cert"}}
    for exposures in ([HTTP, named], [HTTP]):
        result = run("exposures", exposures=exposures)
        assert result.get("changed"), result["msg"]
        assert "1 gateway pods have the configuration is unknown" in str(result["warnings"])
    assert run("exposures", state="absent")["changed"]


@pytest.mark.parametrize(
    ("more", "module", "options"),
    [
        ("rbac-certificates.yml", "exposures", {"exposures": [HTTP, SECURE], "validate": False, "wait": False}),
        ("rbac-services.yml", "exposures", {"exposures": [HTTP, OWN], "wait": False}),
        ("rbac-services.yml", "gateway_service", BESIDE),
    ],
    ids=["a certificate as text", "expose: service", "a Service beside the gateway's"],
)
def test_who_does_more(server: Server, run: Run, more: str, module: str, options: Json) -> None:
    before = server.state()
    keep_to(server, "rbac.yml")
    refused = run(module, **options)
    assert "Give the user this right" in refused["msg"]
    keep_to(server, "rbac.yml", more)
    assert run(module, **options).get("changed")
    absent = {"name": "web", "selector": BESIDE["selector"]} if module == "gateway_service" else {}
    assert run(module, **absent, state="absent")["changed"]
    assert server.state() == before
