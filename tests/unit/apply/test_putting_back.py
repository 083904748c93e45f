"""What was written is put back as it was, around what others have written meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _publish
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _write
from memory_api import Server
from memory_api.sample import HTTP, TCP
from memory_api.server import DropError, Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]
GATEWAY = ("", "Service", "istio-system", "istio-ingressgateway")
LATER = {**TCP, "port": 65533, "node_port": 31533}


def after_the_ports(server: Server, then: Callable[[], None]) -> None:
    """Do something once our ports are written, then refuse the next write."""
    state = {"written": False, "failed": False}

    def look(request: Request) -> None:
        if not request.writes or state["failed"]:
            return
        if state["written"] and "configmaps" not in request.path:
            state["failed"] = True
            raise StatusError(500, "InternalError", "injected")
        if request.path.endswith("/services/istio-ingressgateway"):
            state["written"] = True

    def act(request: Request) -> None:
        if request.writes and request.path.endswith("/services/istio-ingressgateway") and not state["failed"]:
            then()

    server.before, server.after = look, act


def ports(server: Server) -> dict[int, Any]:
    return {port["port"]: port.get("name") for port in server.objects[GATEWAY]["spec"]["ports"]}


def test_what_somebody_wrote_meanwhile_stays(server: Server, run: Run) -> None:
    run("exposures", exposures=[TCP], wait=False)

    def meddle() -> None:
        server.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": GATEWAY[3], "namespace": GATEWAY[2]},
                "spec": {"ports": [{"name": "theirs", "port": 9000, "protocol": "TCP", "targetPort": 9000}]},
            },
            "platform-team",
        )

    after_the_ports(server, meddle)
    result = run("exposures", exposures=[LATER, HTTP], wait=False)
    assert "injected" in result["msg"]
    assert "Nothing has changed" in result["msg"]
    server.before = server.after = None
    assert {65532, 9000} <= ports(server).keys()
    assert 65533 not in ports(server)
    assert not run("exposures", exposures=[TCP], wait=False)["changed"]


def test_a_service_that_was_deleted_meanwhile_comes_back(server: Server, run: Run) -> None:
    run("exposures", exposures=[TCP], wait=False)
    before = ports(server)

    def remove() -> None:
        server.objects.pop(GATEWAY, None)

    after_the_ports(server, remove)
    result = run("exposures", exposures=[LATER, HTTP], wait=False)
    assert "injected" in result["msg"]
    server.before = server.after = None
    assert ports(server) == before


def test_an_object_that_was_made_meanwhile_is_not_overwritten(server: Server, run: Run) -> None:
    """Somebody makes the object between the dry run and the write: it is theirs, and the run says so."""
    key = ("networking.istio.io", "VirtualService", "shop", "shop")
    theirs = {"apiVersion": "networking.istio.io/v1", "kind": key[1],
              "metadata": {"name": "shop", "namespace": "shop"}, "spec": {"tls": []}}  # fmt: skip

    def sneak(request: Request) -> None:
        if request.writes and request.path.endswith("/virtualservices/shop"):
            server.before = None
            server.add(theirs, "someone")

    server.before = sneak
    result = run("exposures", exposures=[HTTP], wait=False)
    assert "VirtualService shop/shop was made by somebody else in the meantime. Run again." in result["msg"]
    assert server.objects[key]["spec"] == {"tls": []}


def test_an_answer_that_is_lost_twice_is_put_back_if_it_was_done(server: Server, run: Run) -> None:
    before = server.state()

    def silent(request: Request) -> None:
        if request.writes and request.path.endswith("/virtualservices/shop") and request.method == "PATCH":
            raise DropError

    server.after = silent
    result = run("exposures", exposures=[HTTP], wait=False)
    server.after = None
    assert "doesn't answer" in result["msg"]
    assert server.state() == before


def test_an_answer_that_is_lost_and_not_done_leaves_theirs_alone(server: Server, run: Run) -> None:
    key = ("networking.istio.io", "VirtualService", "shop", "shop")
    theirs = {"apiVersion": "networking.istio.io/v1", "kind": key[1],
              "metadata": {"name": "shop", "namespace": "shop"}, "spec": {"exportTo": ["."]}}  # fmt: skip

    def silent(request: Request) -> None:
        if request.writes and request.path.endswith("/virtualservices/shop") and request.method == "PATCH":
            if key not in server.objects:
                server.add(theirs, "someone")
            raise DropError

    server.before = silent
    result = run("exposures", exposures=[HTTP], wait=False)
    server.before = None
    assert "doesn't answer" in result["msg"]
    assert server.objects[key]["spec"] == {"exportTo": ["."]}
    assert {entry["manager"] for entry in server.objects[key]["metadata"]["managedFields"]} == {"someone"}


def test_an_interrupted_run_puts_back_what_it_wrote(server: Server, run: Run, monkeypatch: Any) -> None:
    before = server.state()
    real, calls = _write.write, []

    def interrupted(*given: Any, **options: Any) -> None:
        calls.append(1)
        real(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(_write, "write", interrupted)
    cluster = connect({"kubeconfig": server.kubeconfig()})
    with pytest.raises(_write.ApplyError, match="KeyboardInterrupt") as stopped:
        _publish.publish([HTTP], _publish.Options(wait=False), cluster)
    assert "what had been written was put back" in str(stopped.value)
    assert calls
    assert server.state() == before
