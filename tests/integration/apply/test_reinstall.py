"""Twenty re-installs of gateways, each changing something: what is ours on their Services stays."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _service
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from outside import clients
from outside.lab import ROOT, Lab
from outside.runs import playbook

from integration.apply.conftest import Publish

Json = dict[str, Any]

ISTIOCTL, HELM = 6, 14
OWN = "edgeway-test-gateway"
VIP = "10.77.0.109"
VALUES: Json = {
    "labels": {"istio": OWN},
    "imagePullPolicy": "IfNotPresent",
    "autoscaling": {"enabled": False},
    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    "service": {
        "type": "LoadBalancer",
        "loadBalancerClass": "edgeway.istio/vip",
        "externalTrafficPolicy": "Local",
        "ports": [
            {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
            {"name": "http2", "port": 80, "targetPort": 80, "protocol": "TCP"},
        ],
    },
}


def service(lab: Lab, namespace: str, name: str) -> Json:
    (found,) = lab.objects("service", f"--namespace={namespace}", f"--field-selector=metadata.name={name}")
    return found


def ours(found: Json, ports: tuple[int, ...]) -> Json:
    """What must stay: type, class, policy, the VIP, and each port that is ours or has our nodePort."""
    spec = found["spec"]
    return {
        "type": spec["type"],
        "class": spec["loadBalancerClass"],
        "policy": spec["externalTrafficPolicy"],
        "health": spec["healthCheckNodePort"],
        "address": spec["clusterIP"],
        "vips": [each["ip"] for each in found["status"]["loadBalancer"]["ingress"]],
        "ports": {
            port["port"]: (port["targetPort"], port["nodePort"]) for port in spec["ports"] if port["port"] in ports
        },
    }


def tcp(space: str, port: int, node_port: int, **more: Any) -> Json:
    backend = {"service": "echo", "port": 9090}
    return {"name": f"it-{port}", "namespace": space, "protocol": "TCP", "port": port, "node_port": node_port,
            "backend": backend, **more}  # fmt: skip


@pytest.fixture(scope="module")
def pin(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Have gateway_service own something; given up at the end."""
    used: list[dict[str, Any]] = []

    def ensure(namespace: str, name: str, **options: Any) -> None:
        used.append({"namespace": namespace, "name": name, "set_name": "it-reinstall"})
        _service.ensure(_service.Options(**used[-1], **options), cluster)

    yield ensure
    for where in used:
        _service.ensure(_service.Options(**where, state="absent"), cluster)


def test_istioctl(lab: Lab, space: str, put: Publish, pin: Callable[..., None]) -> None:
    where = ("istio-system", "istio-ingressgateway")
    put([tcp(space, 9470, 31470)], "it-reinstall")
    pin(*where, ports=[{"port": 443, "node_port": 30443}])
    ports = (443, 9470, 65532)
    before = ours(service(lab, *where), ports)
    assert before["ports"][9470][1] == 31470
    assert before["ports"][443][1] == 30443
    theirs: list[Json] = [
        {"name": "status-port", "port": 15021, "targetPort": 15021},
        {"name": "http2", "port": 80, "targetPort": 8080},
        {"name": "https", "port": 443, "targetPort": 8443},
    ]
    more = [*theirs, {"name": "extra", "port": 8444, "targetPort": 8444}]
    changes: Iterator[Callable[[int], Json]] = itertools.cycle(
        [
            lambda number: {"service_annotations": {"reinstalled": str(number)}},
            lambda number: {"ports": more},
            lambda number: {"resources": {"requests": {"cpu": f"{10 + number}m", "memory": "64Mi"}}},
        ]
    )
    try:
        for number, change in zip(range(ISTIOCTL), changes, strict=False):
            was = service(lab, *where)["metadata"]["resourceVersion"]
            playbook("playbooks/istio.yml", istio_gateways=[{"name": "istio-ingressgateway", **change(number)}])
            found = service(lab, *where)
            assert ours(found, ports) == before, f"re-install {number}"
            assert found["metadata"]["resourceVersion"] != was, "istioctl has not written the Service"
            assert (8444 in {port["port"] for port in found["spec"]["ports"]}) == ("ports" in change(number))
            assert b"StatusCode=200" in clients.tcp(lab.vip, 9470, b"hello\n", enough=20)
    finally:
        playbook("playbooks/istio.yml")


def test_helm(lab: Lab, space: str, put: Publish, pin: Callable[..., None]) -> None:
    chart = str(ROOT / ".lab/charts/gateway")

    def install(values: Json, *options: str) -> None:
        name = ("upgrade", "--install", OWN, chart, f"--namespace={OWN}", "--create-namespace", "--values=-")
        lab.helm(*name, *options, text=json.dumps(values))

    where = (OWN, OWN)
    install(VALUES)
    try:
        lab.rolled_out(OWN)
        put([tcp(space, 9471, 31471)], "it-reinstall-helm", gateway={"namespace": OWN, "service": OWN})
        pin(*where, ports=[{"port": 80, "node_port": 30081}, {"port": 9472}], vips=[VIP])
        ports = (80, 9471, 9472)
        before = ours(service(lab, *where), ports)
        assert before["vips"] == [VIP]
        assert before["ports"][80][1] == 30081
        assert set(before["ports"]) == set(ports)
        for number in range(HELM):
            changed: Json = json.loads(json.dumps(VALUES))
            kind = number % 3
            if kind == 0:
                changed["service"]["annotations"] = {"reinstalled": str(number)}
            elif kind == 1:
                port = {"name": "extra", "port": 8500 + number, "targetPort": 8500 + number, "protocol": "TCP"}
                changed["service"]["ports"].append(port)
            else:
                changed["labels"]["reinstalled"] = str(number)
            side = ("true", "false")[number // 3 % 2]
            was = service(lab, *where)["metadata"]["resourceVersion"]
            install(changed, f"--server-side={side}")
            found = service(lab, *where)
            assert ours(found, ports) == before, f"upgrade {number}, --server-side={side}"
            assert found["metadata"]["resourceVersion"] != was, "Helm has not written the Service"
        assert not put(
            [tcp(space, 9471, 31471)], "it-reinstall-helm", gateway={"namespace": OWN, "service": OWN}, check=True
        ).changed
    finally:
        put([], "it-reinstall-helm", gateway={"namespace": OWN, "service": OWN}, state="absent")
        lab.kubectl("delete", "namespace", OWN, "--timeout=50s")
