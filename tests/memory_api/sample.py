"""Objects that tests begin with, as a user's cluster has them once Istio is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memory_api.server import Server

Json = dict[str, Any]


def namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(space: str, name: str, *ports: int, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports],
            **spec,
        },
    }


def gateway(**spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "edgeway.istio/vip",
            "selector": {"app": "istio-ingressgateway", "istio": "ingressgateway"},
            "ports": [
                {"name": "status-port", "port": 15021, "protocol": "TCP", "targetPort": 15021},
                {"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080},
                {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443},
            ],
            **spec,
        },
    }


def pod(space: str, name: str, **labels: str) -> Json:
    """Return a pod that is running and ready."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": labels},
        "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


HTTP = {
    "name": "shop",
    "namespace": "shop",
    "protocol": "HTTP",
    "hostnames": ["shop.example"],
    "backend": {"service": "shop", "port": 80},
}
TCP = {
    "name": "mysql",
    "namespace": "db",
    "protocol": "TCP",
    "port": 65532,
    "node_port": 31532,
    "backend": {"service": "mysql", "port": 3306},
}


@contextmanager
def installed() -> Iterator[Server]:
    """A server that runs, with Istio's gateway, two namespaces and what they publish."""
    with Server().running() as running:
        for name in ("istio-system", "shop", "db"):
            running.add(namespace(name))
        running.apply(gateway(), "istio-operator")
        labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
        running.add(pod("istio-system", "gateway-1", **labels))
        running.add(service("shop", "shop", 80))
        running.add(service("db", "mysql", 3306))
        running.log.clear()
        yield running


def verbs(result: Json) -> dict[str, str]:
    return {f"{change['kind']}/{change['name']}": change["verb"] for change in result["changes"]}
