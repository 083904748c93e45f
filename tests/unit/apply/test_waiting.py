"""The module exposures, whole, waits for gateway pods: they tell by their own configuration whether they have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _wait
from memory_api import Server, pods
from memory_api.sample import HTTP, TCP, pod, verbs
from memory_api.server import DropError, Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]

FIRST, SECOND = ("istio-system", "gateway-1"), ("istio-system", "gateway-2")
LABELS = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
OTHER = {**HTTP, "name": "other", "hostnames": ["other.example"]}


class Envoy:
    """A gateway pod that takes new configuration only while it is `connected` to istiod."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connected = True
        self.asked = 0
        self.has = pods.config(server)

    def answer(self, path: str) -> tuple[int, Json]:
        assert path.startswith("/config_dump")
        self.asked += 1
        if self.connected:
            self.has = pods.config(self.server)
        return 200, self.has


@pytest.fixture
def envoy(server: Server) -> Envoy:
    first = Envoy(server)
    server.pods[FIRST] = {15000: first.answer}
    return first


def second_pod(server: Server, *, ready: bool = True, **metadata: Any) -> Envoy:
    made = pod(*SECOND, **LABELS)
    made["metadata"] |= metadata
    made["status"]["conditions"][0]["status"] = str(ready)
    server.add(made)
    server.objects["", "Pod", *SECOND]["metadata"] |= metadata
    second = Envoy(server)
    server.pods[SECOND] = {15000: second.answer}
    return second


def forwards(server: Server) -> list[str]:
    return [request.path for request in server.log if request.path.endswith("/portforward")]


def proved(run: Run) -> bool:
    return bool(run("exposures_info", findings=False)["sets"][0]["proved"])


def test_every_pod_is_proved_to_have_it(server: Server, run: Run, envoy: Envoy) -> None:
    second_pod(server)
    result = run("exposures", exposures=[HTTP, TCP])
    assert result["pods"] == ["istio-system/gateway-1", "istio-system/gateway-2"]
    assert proved(run)


def test_what_was_proved_once_is_not_asked_again(server: Server, run: Run, envoy: Envoy) -> None:
    run("exposures", exposures=[HTTP, TCP])
    server.log.clear()
    assert not run("exposures", exposures=[HTTP, TCP])["changed"]
    assert forwards(server) == []
    # What nobody has proved is, although there is nothing to write
    run("exposures", exposures=[OTHER], wait=False)
    assert not proved(run)
    result = run("exposures", exposures=[OTHER])
    assert (result["changed"], result["pods"]) == (False, ["istio-system/gateway-1"])
    assert proved(run)


def test_configuration_that_comes_late_is_waited_for(server: Server, run: Run, envoy: Envoy) -> None:
    run("exposures", exposures=[HTTP])
    envoy.connected = False
    seen = envoy.asked

    def arrives(_request: Request) -> None:
        envoy.connected = envoy.asked >= seen + 3

    server.before = arrives
    assert run("exposures", exposures=[OTHER])["pods"] == ["istio-system/gateway-1"]
    assert envoy.asked >= seen + 4


def test_another_set_that_gets_in_first_with_the_same_backend(
    server: Server, run: Run, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """istiod makes one cluster of two rules for a host, and calls it after the older one: it is as good as ours."""
    monkeypatch.setattr(_wait, "REFRESH", 0.2)
    ours = run("exposures", exposures=[HTTP], state="rendered")["manifests"]
    (theirs,) = (manifest for manifest in ours if manifest["kind"] == "DestinationRule")
    theirs["metadata"] |= {
        "name": "second-shop",
        "labels": {**theirs["metadata"]["labels"], _kinds.SET_LABEL: "second"},
    }

    def get_in(request: Request) -> None:
        if request.writes and "destinationrules" in request.path:
            server.before = None
            server.apply(theirs, "edgeway/second")

    server.before = get_in
    assert run("exposures", exposures=[HTTP], wait_timeout=3)["pods"] == ["istio-system/gateway-1"]
    assert proved(run)


def test_a_pod_that_never_takes_it_is_named_with_what_it_lacks(server: Server, run: Run, envoy: Envoy) -> None:
    run("exposures", exposures=[HTTP])
    behind = second_pod(server)
    behind.connected = False
    result = run("exposures", exposures=[OTHER], wait_timeout=1)
    assert result["failed"]
    assert result["changed"], "what was written stays, as pods serve it"
    [(name, lacks)] = result["stale"].items()
    assert name == "istio-system/gateway-2"
    assert lacks[0].startswith("route other-0-")
    assert "After 1 s 1 gateway pods don't have the new configuration" in result["msg"]
    assert "istioctl proxy-status" in result["msg"]
    assert server.get("VirtualService", "shop", "other") is not None
    assert not proved(run)
    # Once it is connected again, a second run writes nothing and proves it
    behind.connected = True
    result = run("exposures", exposures=[OTHER])
    assert (result["changed"], len(result["pods"])) == (False, 2)
    assert proved(run)


OUTSIDE = {"host": "out.example", "port": 443, "address": "192.0.2.1", "tls": {"sni": "a.example"}}
PLAIN = {key: value for key, value in OUTSIDE.items() if key != "tls"}
VERSIONS = {"backend": {**HTTP["backend"], "subset": "v1"}, "subsets": {"shop": {"v1": {"version": "v1"}}}}
# What stands behind a route and is changed alone: before and after
BEHIND: dict[str, tuple[Json, Json]] = {
    "the labels of a subset": (VERSIONS, {**VERSIONS, "subsets": {"shop": {"v1": {"version": "1.1"}}}}),
    "no outlier detection": ({}, {"traffic": {"outlier_detection": False}}),
    "how many errors": ({}, {"traffic": {"outlier_detection": {"consecutive_local_origin_failures": 7}}}),
    "locality": ({}, {"traffic": {"locality": True}}),
    "http2": ({}, {"traffic": {"http2": True}}),
    "idle_timeout": ({}, {"traffic": {"idle_timeout": "9s"}}),
    "the name in TLS": ({"backend": OUTSIDE}, {"backend": {**OUTSIDE, "tls": {"sni": "b.example"}}}),
    "the CA of TLS": ({"backend": OUTSIDE}, {"backend": {**OUTSIDE, "tls": {"sni": "a.example", "ca_secret": "ca"}}}),
    "TLS without a check": ({"backend": OUTSIDE}, {"backend": {**OUTSIDE, "tls": {"insecure": True}}}),
    "an outside host's address": ({"backend": OUTSIDE}, {"backend": {**OUTSIDE, "address": "192.0.2.2"}}),
    "a plain outside host's address": ({"backend": PLAIN}, {"backend": {**PLAIN, "address": "192.0.2.2"}}),
}


@pytest.mark.parametrize(
    ("what", "protocol"),
    # Bytes that are passed on as they are have no HTTP, and the client's TLS needs none around it
    [
        (what, protocol)
        for what, (before, _after) in BEHIND.items()
        for protocol in ("HTTP", "TCP", "TLS")
        if not (what in ("http2", "idle_timeout") and protocol[0] == "T")
        and not (protocol == "TLS" and before.get("backend") is OUTSIDE)
    ],
)
def test_a_change_behind_a_route_alone_is_waited_for(
    server: Server, run: Run, envoy: Envoy, what: str, protocol: str
) -> None:
    base = {**HTTP, "protocol": protocol}
    if protocol == "TCP":
        base = {key: value for key, value in base.items() if key != "hostnames"} | {"port": 65532}
    before, after = ([{**base, **part}] for part in BEHIND[what])
    run("exposures", exposures=before, validate=False)
    assert proved(run)
    envoy.connected = False
    result = run("exposures", exposures=after, validate=False, wait_timeout=1)
    assert result["stale"]["istio-system/gateway-1"]
    envoy.connected = True
    result = run("exposures", exposures=after, validate=False)
    assert (result["changed"], result["pods"]) == (False, ["istio-system/gateway-1"])
    assert proved(run)


@pytest.mark.parametrize("part", ["certificate", "ca_certificate"])
def test_a_new_certificate_is_waited_for(server: Server, run: Run, envoy: Envoy, part: str) -> None:
    pem = "-----BEGIN {0}-----\nYQ==\n-----END {0}-----\n"
    tls = {"mode": "MUTUAL", "private_key": pem.format("PRIVATE KEY"),
           **dict.fromkeys(("certificate", "ca_certificate"), pem.format("CERTIFICATE"))}  # fmt: skip
    secure = {**HTTP, "protocol": "HTTPS", "tls": tls}
    run("exposures", exposures=[secure], validate=False)
    assert proved(run)
    envoy.connected = False
    changed = {**secure, "tls": {**tls, part: pem.format("CERTIFICATE").replace("YQ==", "Yg==")}}
    result = run("exposures", exposures=[changed], validate=False, wait_timeout=1)
    assert [lack.split()[0] for lack in result["stale"]["istio-system/gateway-1"]] == ["certificate"]
    envoy.connected = True
    run("exposures", exposures=[changed], validate=False)
    assert proved(run)


def test_the_end_of_a_removed_route_is_waited_for(server: Server, run: Run, envoy: Envoy) -> None:
    run("exposures", exposures=[HTTP, OTHER, TCP])
    envoy.connected = False
    result = run("exposures", exposures=[HTTP], wait_timeout=1)
    assert any(lack.startswith("the end of route other-0-") for lack in result["stale"]["istio-system/gateway-1"])
    assert "the end of port 65532 to outbound|3306||mysql.db.svc.cluster.local" in str(result["stale"])


def test_a_backend_stays_until_no_pod_leads_to_it(server: Server, run: Run, envoy: Envoy) -> None:
    outside = {"name": "out", "namespace": "shop", "protocol": "HTTP", "hostnames": ["out.example"]}
    run("exposures", exposures=[{**outside, "backend": {"host": "old.example", "port": 80}}], validate=False)
    assert server.get("ServiceEntry", "shop", "out") or [key for key in server.objects if key[1] == "ServiceEntry"]
    envoy.connected = False
    inside = {**outside, "backend": {"service": "shop", "port": 80}}
    result = run("exposures", exposures=[inside], wait_timeout=1, validate=False)
    assert result["failed"]
    assert result["changed"]
    assert [key for key in server.objects if key[1] == "ServiceEntry"], "the pod that lags behind still needs it"
    envoy.connected = True
    result = run("exposures", exposures=[inside], validate=False)
    assert {kind.partition("/")[0] for kind, verb in verbs(result).items() if verb == "delete"} >= {"ServiceEntry"}
    assert not [key for key in server.objects if key[1] == "ServiceEntry"]


@pytest.mark.parametrize("how", ["not ready", "leaving", "gone"])
def test_a_pod_that_serves_nobody_is_not_waited_for(server: Server, run: Run, envoy: Envoy, how: str) -> None:
    leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if how == "leaving" else {}
    second_pod(server, ready=how != "not ready", **leaving).connected = False
    if how == "gone":
        del server.pods[SECOND]
    result = run("exposures", exposures=[HTTP], wait_timeout=1)
    assert result["pods"] == ["istio-system/gateway-1"]
    assert proved(run)


@pytest.mark.parametrize("right", ["pods/portforward", "pods"])
def test_without_the_right_to_ask_it_is_unknown(server: Server, run: Run, envoy: Envoy, right: str) -> None:
    def forbid(request: Request) -> None:
        if request.path.endswith(("/portforward", "/pods") if right == "pods" else "/portforward"):
            raise StatusError(403, "Forbidden", f'{right} is forbidden: User "deployer" cannot create resource')

    server.before = forbid
    result = run("exposures", exposures=[HTTP], wait_timeout=1, validate=False)
    assert result["changed"]
    assert not result.get("failed")
    assert "1 gateway pods have the configuration is unknown" in str(result["warnings"])
    assert f"{right} is forbidden" in str(result["warnings"])
    server.before = None
    assert not proved(run)


REASONS = {
    "no listener": "connection refused",
    "closed": "connection reset",
    "not JSON": "Expecting value",
    "status 500": "answers 500",
}


@pytest.mark.parametrize("trouble", REASONS)
def test_a_pod_that_does_not_answer_is_stale(server: Server, run: Run, envoy: Envoy, trouble: str) -> None:
    def answer(path: str) -> tuple[int, Any]:
        if trouble == "closed":
            raise OSError
        return (500, "busy") if trouble == "status 500" else (200, b"<html>")

    server.pods[FIRST] = {} if trouble == "no listener" else {15000: answer}
    result = run("exposures", exposures=[HTTP], wait_timeout=1)
    assert result["failed"]
    said = result["stale"]["istio-system/gateway-1"][0]
    assert said.startswith("an answer (")
    assert REASONS[trouble] in said


SECURE = {**OTHER, "protocol": "HTTPS", "tls": {"secret": "shop-cert"}}


@pytest.mark.parametrize(
    "error", [StatusError(500, "InternalError", "etcd is away"), DropError()], ids=["500", "silence"]
)
@pytest.mark.parametrize("path", ["/pods", "/secrets/shop-cert", "/destinationrules"])
def test_an_api_server_that_is_away_while_pods_are_asked_is_waited_for(
    server: Server, run: Run, envoy: Envoy, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception
) -> None:
    monkeypatch.setattr(_wait, "REFRESH", 0)
    failed: list[str] = []

    def trouble(request: Request) -> None:
        written = server.get("VirtualService", "shop", "shop") is not None
        if written and request.method == "GET" and request.path.endswith(path) and len(failed) < 6:
            failed.append(request.path)
            raise error

    server.before = trouble
    result = run("exposures", exposures=[HTTP, SECURE], validate=False, wait_timeout=10)
    assert failed
    assert not result.get("failed"), result["msg"]
    assert result["pods"] == ["istio-system/gateway-1"]


def test_an_api_server_that_stays_away_leaves_what_was_written(server: Server, run: Run, envoy: Envoy) -> None:
    def trouble(request: Request) -> None:
        if request.path.endswith("/pods"):
            raise StatusError(503, "ServiceUnavailable", "the server is shutting down")

    server.before = trouble
    result = run("exposures", exposures=[HTTP], validate=False, wait_timeout=1)
    assert (result["failed"], result["changed"]) == (True, True)
    assert result["stale"] == {"istio-system/*": ["an answer (the server is shutting down)"]}
    assert server.get("VirtualService", "shop", "shop") is not None


def test_no_ready_gateway_pod_is_a_warning(server: Server, run: Run) -> None:
    del server.objects["", "Pod", "istio-system", "gateway-1"]
    result = run("exposures", exposures=[HTTP], validate=False)
    assert result["changed"]
    told = "No gateway pod is ready that could take the configuration: istio-system (istio=ingressgateway)."
    assert told in str(result["warnings"])
    assert not proved(run)
    # It is said again, until a pod comes
    assert told in str(run("exposures", exposures=[HTTP], validate=False)["warnings"])


def test_lacks_are_counted_where_they_are_many() -> None:
    seen = _wait.Seen(stale={("a", "b"): [f"route {number}" for number in range(5)]})
    assert "a/b lacks route 0, route 1, route 2 and 2 more" in str(_wait.StaleError(seen, 7))
