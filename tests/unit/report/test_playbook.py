"""report.yml, run against an API server in memory: what the page says of a list that can't be published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import HTTP, TCP, gateway, installed, pod, service
from unit import plays

Json = dict[str, Any]

TEAM = {"namespace": "db", "service": "team"}
THEIRS = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {"hosts": ["other.example"]},
}


@pytest.fixture
def server() -> Iterator[Server]:
    with installed() as running:
        yield running


def report(server: Server, folder: Path, **variables: Any) -> Json:
    """Run it in `folder` with a path relative to that, and return the page's data."""
    (folder / "kubeconfig").write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
    given = {"edgeway_kubeconfig": str(folder / "kubeconfig"), "edgeway_exposures": [HTTP], **variables}
    (folder / "all.yml").write_text(json.dumps(given), encoding="utf-8")
    ended = plays.collection("report", "--extra-vars", "@all.yml", "--extra-vars", "report=pages.html", folder=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    page = (folder / "pages.html").read_text(encoding="utf-8")
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    found: Json = json.loads(data)
    return found


def test_errors_are_on_the_page_and_nothing_is_tried(server: Server, tmp_path: Path) -> None:
    server.add(THEIRS)
    other = service("db", "other", 9000, type="NodePort")
    other["spec"]["ports"][0]["nodePort"] = TCP["node_port"]
    server.add(other)
    silence = [{"code": "node-port-taken", "reason": "it moves tomorrow"}]
    server.log.clear()
    page = report(server, tmp_path, edgeway_exposures=[HTTP, TCP], exposures_silence=silence)
    found = {one["code"]: one for one in page["findings"]}
    assert found["name-taken"]["severity"] == "error"
    assert "name-taken" in [page["findings"][number]["code"] for number in page["exposures"][1]["findings"]]
    assert (found["node-port-taken"]["severity"], found["node-port-taken"]["silenced"]) == (
        "silenced",
        "it moves tomorrow",
    )
    assert {request.method for request in server.log} == {"GET"}


def test_pods_of_every_gateway_are_on_the_page(server: Server, tmp_path: Path) -> None:
    second = gateway()
    second["metadata"] = {"namespace": "db", "name": "team"}
    second["spec"]["selector"] = {"app": "team"}
    server.add(second)
    server.add(pod("db", "team-1", app="team"))
    other = {**HTTP, "name": "other", "hostnames": ["other.example"], "gateway": TEAM}
    found = report(server, tmp_path, edgeway_exposures=[HTTP, other])
    assert [(one["id"], len(one["pods"])) for one in found["gateways"]] == [
        ("db/team", 1),
        ("istio-system/istio-ingressgateway", 1),
    ]


def test_the_only_other_gateway_is_found(server: Server, tmp_path: Path) -> None:
    edge = server.objects.pop(("", "Service", "istio-system", "istio-ingressgateway"))
    server.add({**edge, "metadata": {"namespace": "db", "name": "edge"}})
    server.add(pod("db", "edge-1", app="istio-ingressgateway", istio="ingressgateway"))
    [found] = report(server, tmp_path)["gateways"]
    assert (found["id"], found["there"], len(found["pods"])) == ("db/edge", True, 1)
