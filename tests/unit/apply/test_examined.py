"""The module exposures with state: examined: all that is found about a list is returned, by reading alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import HTTP, TCP, pod, service
from memory_api.server import Request, StatusError

Json = dict[str, Any]
Run = Callable[..., Json]

THEIRS = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {"hosts": ["other.example"]},
}


def told(result: Json) -> dict[str, str]:
    return {one["code"]: one["severity"] for one in result["findings"]}


def node_port_taken(server: Server) -> None:
    other = service("db", "other", 9000, type="NodePort")
    other["spec"]["ports"][0]["nodePort"] = TCP["node_port"]
    server.add(other)


def test_errors_are_returned_and_nothing_is_tried(server: Server, run: Run) -> None:
    server.add(THEIRS)
    node_port_taken(server)
    assert run("exposures", exposures=[HTTP, TCP], check=True)["failed"]
    server.log.clear()
    result = run("exposures", exposures=[HTTP, TCP], state="examined")
    assert not result.get("failed"), result
    assert (told(result)["name-taken"], told(result)["node-port-taken"]) == ("error", "error")
    assert (result["changed"], result["changes"]) == (False, [])
    assert {one["service"] for one in result["endpoints"]} == {"istio-system/istio-ingressgateway"}
    assert {request.method for request in server.log} == {"GET"}


def test_what_is_silenced_says_so(server: Server, run: Run) -> None:
    server.add(THEIRS)
    silence = [{"code": "name-taken", "reason": "known"}]
    [found] = [
        one
        for one in run("exposures", exposures=[HTTP], state="examined", silence=silence)["findings"]
        if one["code"] == "name-taken"
    ]
    assert (found["severity"], found["silenced"]) == ("warning", "known")


def test_edges_without_a_gateway_are_found(server: Server, run: Run) -> None:
    server.objects["", "Service", "istio-system", "istio-ingressgateway"]["spec"]["externalTrafficPolicy"] = "Local"
    result = run("exposures", exposures=[HTTP], state="examined", edges=["node1", "node2"])
    [found] = [one for one in result["findings"] if one["code"] == "edge-without-gateway"]
    assert "node2" in found["reason"]


ISTIO = ("networking.istio.io", "gateway.networking.k8s.io")


@pytest.mark.parametrize(
    ("readable", "code"),
    [
        (("services", "pods", "endpointslices", *ISTIO), "name-taken"),
        (("services", "pods", "endpointslices"), "unread"),
    ],
)
def test_few_rights_to_read_are_enough(server: Server, run: Run, readable: tuple[str, ...], code: str) -> None:
    def forbid(request: Request) -> None:
        # Which kinds there are may be asked by everybody
        discovers = request.path.startswith("/apis/") and request.path.count("/") <= 3
        if request.method != "GET" or not (discovers or any(f"/{name}" in request.path for name in readable)):
            raise StatusError(403, "Forbidden", f"{request.path} is forbidden")

    server.add(THEIRS)
    server.before = forbid
    secure = {**HTTP, "name": "secure", "protocol": "HTTPS", "hostnames": ["secure.example"],
              "tls": {"secret": "shop-cert"}}  # fmt: skip
    result = run("exposures", exposures=[HTTP, TCP, secure], state="examined")
    assert not result.get("failed"), result
    assert told(result)[code] == {"name-taken": "error", "unread": "unknown"}[code]


def test_the_only_other_gateway_is_found(server: Server, run: Run) -> None:
    edge = server.objects.pop(("", "Service", "istio-system", "istio-ingressgateway"))
    server.add({**edge, "metadata": {"namespace": "db", "name": "edge"}})
    server.add(pod("db", "edge-1", app="istio-ingressgateway", istio="ingressgateway"))
    result = run("exposures", exposures=[HTTP], state="examined")
    assert [one["service"] for one in result["endpoints"]] == ["db/edge"]
