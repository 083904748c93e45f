"""Findings that no set-up has: Istio's own conditions, old APIs, EnvoyFilters; and how fast all of it is."""

from __future__ import annotations

import copy
import dataclasses
from random import Random
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot
from integration.broken import in_memory, setups
from integration.broken.setups import SetUp, State

EMPTY = next(one for one in setups.load("sound") if one.name == "one-name")
API = next(one for one in setups.load("sound") if one.name == "api-shared-gateway")


def survey(setup: SetUp, *more: dict[str, Any], without: tuple[str, ...] = ()) -> list[str]:
    found = [one for one in in_memory.manifests_of(setup, setup.broken) if one["kind"] not in without]
    found = [one for one in found if one["kind"] != "Secret"]
    return [one.code for one in _findings.survey(_snapshot.of_objects([*found, *more]))]


def condition(kind: str, status: str, generation: int = 2) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": "Why",
        "message": "That is why.",
        "observedGeneration": generation,
    }


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([condition("Accepted", "True"), condition("Programmed", "True")], []),
        ([condition("Accepted", "True"), condition("Programmed", "False")], ["gateway-not-programmed"]),
        ([condition("Accepted", "False"), condition("Programmed", "False")], ["gateway-not-programmed"]),
        ([condition("Programmed", "False", generation=1)], []),
    ],
)
def test_what_istio_says_of_a_gateway(conditions: list[dict[str, Any]], expected: list[str]) -> None:
    gateway = setups.manifest("KubeGateway fx-edge/api", API.broken.objects["KubeGateway fx-edge/api"])
    gateway["metadata"]["generation"] = 2
    gateway["status"] = {"conditions": conditions}
    found = in_memory.manifests_of(API, API.broken)
    found = [one for one in found if one["kind"] not in ("Secret", "Gateway")]
    codes = [one.code for one in _findings.survey(_snapshot.of_objects([*found, gateway]))]
    assert codes == expected


def test_what_istio_says_of_a_route() -> None:
    route = setups.manifest("HTTPRoute fx-app/web", API.broken.objects["HTTPRoute fx-app/web"])
    route["metadata"]["generation"] = 2
    said = [condition("Accepted", "True"), condition("ResolvedRefs", "False")]
    route["status"] = {"parents": [{"controllerName": "istio.io/gateway-controller", "conditions": said},
                                   {"controllerName": "example.com/other", "conditions": said}]}  # fmt: skip
    assert survey(API, route, without=("HTTPRoute",)) == ["route-not-accepted"]


@pytest.mark.parametrize(("host", "expected"), [("web.fx-app", []), ("nothing.fx-app", ["route-not-accepted"])])
def test_what_istio_says_of_a_backend_of_another_namespace(host: str, expected: list[str]) -> None:
    """It doesn't find what it sends requests to: its Service is where the route isn't."""
    name = f"{host}.svc.cluster.local"
    setup = next(one for one in setups.load("sound") if one.name == "api-backend-by-hostname")
    route = setups.manifest("HTTPRoute fx-b/web", setup.broken.objects["HTTPRoute fx-b/web"])
    route["spec"]["rules"][0]["backendRefs"][0]["name"] = name
    route["metadata"]["generation"] = 2
    said = {**condition("ResolvedRefs", "False"), "reason": "BackendNotFound", "message": f"backend({name}) not found"}
    route["status"] = {"parents": [{"controllerName": "istio.io/gateway-controller", "conditions": [said]}]}
    found = survey(setup, route, without=("HTTPRoute",))
    assert [code for code in found if code.startswith("route-")] == expected


@pytest.mark.parametrize(
    ("image", "severity"),
    [("dev", "warning"), ("1.30.2", ""), ("1.31.0", "error"), ("1.32-alpha.0-distroless", "error")],
)
@pytest.mark.parametrize("listed", [True, False])
def test_tcp_routes_of_an_old_version(image: str, severity: str, listed: bool) -> None:
    """Istio reads TCPRoute in v1 alone from 1.31 on."""
    istiod = {"containers": [{"name": "discovery", "image": f"registry.example:5000/pilot:{image}"}]}
    patch: Any = {"Deployment fx-system/istiod-fx": {"spec": {"template": {"spec": istiod}}}}
    route = setups.manifest("TCPRoute fx-app/db", {
        "parentRefs": [{"name": "api", "namespace": "fx-edge"}], "rules": []})  # fmt: skip
    route["apiVersion"] = "gateway.networking.k8s.io/v1alpha2"
    found = [
        one for one in in_memory.manifests_of(API, State([], API.broken.objects, patch)) if one["kind"] != "Secret"
    ]
    served = {"TCPRoute": ("v1alpha2",), "HTTPRoute": ("v1", "v1beta1")}
    told = _findings.survey(_snapshot.of_objects([*found, route]))
    if listed:
        entries = [{"name": "db", "namespace": "fx-app", "protocol": "TCP", "port": 20042,
                    "backend": {"service": "web", "port": 9090}},
                   {"name": "web", "namespace": "fx-app", "protocol": "HTTP", "hostnames": ["web.fx.example"],
                    "backend": {"service": "web", "port": 80}}]  # fmt: skip
        model = parse(entries, set_name="fx", api="gateway_api", gateway=setups.GATEWAY)
        told = _findings.findings(model, _snapshot.of_objects(found, served=served))
        assert _findings.findings(model, _snapshot.of_objects(found)) == []
        both = {"TCPRoute": ("v1", "v1alpha2")}
        assert _findings.findings(model, _snapshot.of_objects(found, served=both)) == []
    assert [(one.code, one.severity) for one in told] == ([("route-api-old", severity)] if severity else [])


@pytest.mark.parametrize(
    "backend",
    [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "pool"},
        {"group": "multicluster.x-k8s.io", "kind": "ServiceImport", "name": "far", "port": 80},
        {"group": "networking.istio.io", "kind": "Hostname", "name": "out.example", "port": 443},
        {"group": "networking.istio.io", "kind": "Hostname", "name": "other.fx-b.svc.cluster.local", "port": 80},
    ],
)
def test_backends_that_are_no_services(backend: dict[str, Any]) -> None:
    outside = {
        "hosts": ["out.example"],
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        "resolution": "DNS",
    }
    spec = {**API.broken.objects["HTTPRoute fx-app/web"], "rules": [{"backendRefs": [backend]}]}
    route = setups.manifest("HTTPRoute fx-app/web", spec)
    entry = setups.manifest("ServiceEntry fx-app/out", outside)
    assert survey(API, route, entry, without=("HTTPRoute",)) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("none.example", ["backend-missing"]), ("none.fx-b.svc.cluster.local", ["backend-missing"])],
)
def test_hostnames_that_nobody_knows(name: str, expected: list[str]) -> None:
    backend = {"group": "networking.istio.io", "kind": "Hostname", "name": name, "port": 80}
    spec = {**API.broken.objects["HTTPRoute fx-app/web"], "rules": [{"backendRefs": [backend]}]}
    assert survey(API, setups.manifest("HTTPRoute fx-app/web", spec), without=("HTTPRoute",)) == expected


TARGET = {"group": "", "kind": "Service", "name": "web"}


@pytest.mark.parametrize(
    ("policy", "speaks"),
    [
        ({"spec": {"targetRefs": [TARGET]}}, True),
        ({"spec": {"targetRefs": [{**TARGET, "sectionName": "https"}]}}, True),
        ({"spec": {"targetRefs": [{**TARGET, "sectionName": "http"}]}}, False),
        ({"spec": {"targetRefs": [{**TARGET, "name": "other"}]}}, False),
        ({"spec": {"targetRefs": [{**TARGET, "kind": "ServiceEntry"}]}}, False),
        ({"metadata": {"annotations": {"istio.io/ignore-policy-attachment": "true"}}, "spec": {"targetRefs": [TARGET]}},
         False),
    ],
)  # fmt: skip
def test_tls_to_backends_by_a_policy(policy: dict[str, Any], speaks: bool) -> None:
    spec = {**API.broken.objects["HTTPRoute fx-app/web"], "rules": [{"backendRefs": [{"name": "web", "port": 443}]}]}
    route, policy = (
        setups.manifest("HTTPRoute fx-app/web", spec),
        setups.manifest("BackendTLSPolicy fx-app/web", policy),
    )
    assert survey(API, route, policy, without=("HTTPRoute",)) == ([] if speaks else ["backend-speaks-tls"])


@pytest.mark.parametrize(
    ("frontend", "missing"),
    [
        ({}, True),
        ({"default": {"validation": {"caCertificateRefs": [{"kind": "ConfigMap", "name": "ca"}]}}}, False),
        ({"perPort": [{"port": 443, "tls": {"validation": {"caCertificateRefs": [{"kind": "Secret", "name": "ca"}]}}}]},
         False),
        ({"perPort": [{"port": 444, "tls": {"validation": {"caCertificateRefs": [{"kind": "Secret", "name": "ca"}]}}}]},
         True),
    ],
)  # fmt: skip
def test_clients_certificates_of_a_gateway_api_gateway(frontend: dict[str, Any], missing: bool) -> None:
    setup = next(one for one in setups.load("sound") if one.name == "api-https")
    gateway = copy.deepcopy(setup.broken.objects["KubeGateway fx-edge/api"])
    gateway["listeners"][0]["tls"]["options"] = {"gateway.istio.io/tls-terminate-mode": "MUTUAL"}
    gateway["tls"] = {"frontend": frontend}
    state = State([], {**setup.broken.objects, "KubeGateway fx-edge/api": gateway}, {})
    assert [one.code for one in in_memory.findings(setup, state)] == (["client-ca-missing"] if missing else [])


def test_proxy_protocol_is_told_where_kube_proxy_serves_the_vip() -> None:
    setup = next(one for one in setups.load("broken") if one.name == "proxy-protocol-for-plain-clients")
    outside = dataclasses.replace(setup, edges=())
    assert [one.code for one in in_memory.findings(setup, setup.broken)] == ["proxy-protocol"]
    assert in_memory.findings(outside, setup.broken) == []


def test_proxy_protocol_of_a_pod_that_goes_is_over() -> None:
    setup = next(one for one in setups.load("broken") if one.name == "proxy-protocol-for-plain-clients")
    snapshot = in_memory.snapshot_of(setup, setup.broken)
    for pod in snapshot.items(("", "Pod")):
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    model = parse(setup.broken.exposures, set_name="fx", api=setup.api, gateway=setup.gateway)
    codes = {one.code for one in _findings.findings(model, snapshot, edges=setup.edges)}
    assert "proxy-protocol" not in codes


PLAIN = {"host": "mail.fx-mesh.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
AT_THE_PORT = {"portLevelSettings": [{"port": {"number": 2525}, "tls": {"mode": "ISTIO_MUTUAL"}}]}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"PeerAuthentication fx-mesh/strict": {"mtls": {"mode": "STRICT"}}}, []),
        ({"DestinationRule fx-mesh/plain": PLAIN}, ["backend-sniffed"]),
        (
            {"DestinationRule fx-mesh/plain": {**PLAIN, "trafficPolicy": {**PLAIN["trafficPolicy"], **AT_THE_PORT}}},
            [],
        ),
    ],
    ids=["mutual TLS by itself", "mutual TLS alone", "a rule without it", "a rule with it at the port"],
)
def test_a_server_that_speaks_first_waits_without_mutual_tls(more: dict[str, Any], expected: list[str]) -> None:
    setup = next(one for one in setups.load("broken") if one.name == "server-first-on-a-sniffed-port")
    objects = {key: body for key, body in setup.broken.objects.items() if not key.startswith("PeerAuthentication")}
    found = in_memory.findings(setup, State(setup.broken.exposures, {**objects, **more}, {}))
    assert [one.code for one in found if one.code not in ("destination-rule-foreign", "mtls-clash")] == expected


@pytest.mark.parametrize(
    "over",
    [{"status": {"phase": "Failed"}}, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}],
    ids=["evicted", "going"],
)
def test_a_pod_that_is_over_says_nothing_of_its_gateway(over: dict[str, Any]) -> None:
    setup = next(one for one in setups.load("broken") if one.name == "target-port-below-1024")
    found = in_memory.manifests_of(setup, setup.broken)
    pod = next(one for one in found if one["kind"] == "Pod" and one["metadata"]["name"].startswith("fx-gateway"))
    before = copy.deepcopy(pod)
    before["metadata"]["name"] = "a-before"
    before["metadata"] |= over.get("metadata", {})
    before["status"] |= over.get("status", {})
    assert [one.code for one in _findings.survey(_snapshot.of_objects([before, *found]))] == [setup.expect]
    # Only what is over would still be unprivileged
    pod["spec"]["containers"][0]["env"] = pod["spec"]["containers"][0]["env"][:1]
    assert [one.code for one in _findings.survey(_snapshot.of_objects([before, *found]))] == []


@pytest.mark.parametrize(
    ("place", "spec", "expected"),
    [
        (
            "fx-edge/f",
            {"workloadSelector": {"labels": {"istio": "fx-gateway"}}, "configPatches": [{}]},
            ["envoy-filter"],
        ),
        ("fx-system/f", {"configPatches": [{"match": {"context": "GATEWAY"}}]}, ["envoy-filter"]),
        ("fx-system/f", {"configPatches": [{"match": {"context": "SIDECAR_INBOUND"}}]}, []),
        ("fx-app/f", {"configPatches": [{}]}, []),
        ("fx-edge/f", {"workloadSelector": {"labels": {"istio": "other"}}, "configPatches": [{}]}, []),
    ],
)
def test_envoy_filters_on_the_gateway(place: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert survey(EMPTY, setups.manifest(f"EnvoyFilter {place}", spec)) == expected


def test_a_class_of_another_controller() -> None:
    setup = next(one for one in setups.load("sound") if one.name == "list-by-the-gateway-api")
    state = State(setup.broken.exposures, {"GatewayClass istio": {"controllerName": "example.com/other"}}, {})
    found = in_memory.findings(setup, state)
    assert [(one.code, one.severity) for one in found] == [("gateway-class-missing", "error")]


def test_a_certificate_in_the_list_is_looked_at_without_a_cluster() -> None:
    def made(wanted: dict[str, Any]) -> list[str]:
        data = setups.manifest("Secret a/b", {"certificate": wanted})["data"]
        import base64  # noqa: PLC0415

        text = {key: base64.b64decode(value).decode() for key, value in data.items()}
        entry = {"name": "web", "namespace": "web", "protocol": "HTTPS", "hostnames": ["web.fx.example"],
                 "tls": {"certificate": text["tls.crt"], "private_key": text["tls.key"]},
                 "backend": {"service": "web", "port": 80}}  # fmt: skip
        return [one.code for one in _findings.findings(parse([entry]))]

    assert made({"names": ["web.fx.example"]}) == []
    assert made({"names": ["www.fx.example"], "until": -0.5}) == ["certificate-expired", "certificate-hostname"]
    assert made({"names": ["web.fx.example"], "key": "other"}) == ["certificate-key"]


def _parts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for key, part in inner for one in ((*path, key), *_parts(part, (*path, key)))]


def test_objects_with_holes_never_stop_a_run() -> None:
    """People's objects lack what they like; whatever is missing, nothing is raised."""
    random = Random(1)  # noqa: S311
    kept = {("metadata",), ("metadata", "name"), ("metadata", "namespace"), ("apiVersion",), ("kind",)}
    for setup in (*setups.load("broken"), *setups.load("sound")):
        objects = copy.deepcopy(in_memory.manifests_of(setup, setup.broken))
        for _time in range(6):
            one = random.choice(objects)
            path = random.choice([part for part in _parts(one) if part not in kept] or [()])
            inner = one
            for key in path[:-1]:
                inner = inner[key]
            if path and isinstance(inner, dict):
                inner.pop(path[-1])
        snapshot = _snapshot.of_objects(objects)
        _findings.survey(snapshot, edges=["node1"])
        if setup.broken.exposures:
            model = parse(setup.broken.exposures, set_name="fx", api=setup.api, gateway=setup.gateway)
            _findings.findings(model, snapshot, edges=["node1"])


def test_a_thousand_exposures_beside_a_thousand_of_others_are_sound() -> None:
    entries = [
        {"name": f"e{number}", "namespace": "fx-app", "protocol": "HTTP", "hostnames": [f"e{number}.fx.example"],
         "backend": {"service": "web", "port": 80}}
        for number in range(1000)
    ]  # fmt: skip
    objects: dict[str, Any] = {}
    for number in range(1000):
        name = f"t{number}.fx.example"
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [name]}
        objects[f"Gateway fx-b/g{number}"] = {"selector": {"istio": "fx-gateway"}, "servers": [server]}
        route = [{"destination": {"host": "other", "port": {"number": 80}}}]
        objects[f"VirtualService fx-b/v{number}"] = {
            "hosts": [name],
            "gateways": [f"g{number}"],
            "http": [{"route": route}],
        }
    state = State(entries, objects, {})
    snapshot = in_memory.snapshot_of(EMPTY, state)
    model = parse(entries, set_name="fx", gateway=setups.GATEWAY)
    assert _findings.findings(model, snapshot) == []
