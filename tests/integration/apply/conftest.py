"""The lab's API server, and a namespace with something to publish."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, connect
from ansible_collections.edgeway.istio.plugins.module_utils._publish import Options, Result, publish
from outside import lab as lab_module

Json = dict[str, Any]
Publish = Callable[..., Result]

ECHO = """
apiVersion: v1
kind: Namespace
metadata: {{name: {space}}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: {space}}}
spec:
  selector: {{app: echo}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp, port: 9090}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo, namespace: {space}}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  template:
    metadata: {{labels: {{app: echo}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: echo
          image: localhost/lab/echo:1
          imagePullPolicy: IfNotPresent
          args: [--port=8080, --tcp=9090, --cluster={space}]
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 2}}
"""


def endpoints(cluster: Cluster, space: str) -> dict[str, list[Json]]:
    """By gateway pod, what its Envoy says of each endpoint of the Service echo in this namespace."""
    name = f"outbound|80||echo.{space}.svc.cluster.local"
    found = {}
    for pod in cluster.items("/api/v1/namespaces/istio-system/pods", {"istio": "ingressgateway"}):
        own = pod["metadata"]["name"]
        ((_status, body),) = cluster.ask_pod("istio-system", own, 15000, ["/clusters?format=json"])
        (one,) = (one for one in json.loads(body)["cluster_statuses"] if one["name"] == name)
        found[own] = one.get("host_statuses", [])
    return found


@pytest.fixture(scope="session")
def lab() -> lab_module.Lab:
    try:
        return lab_module.load()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(lab: lab_module.Lab) -> Cluster:
    return connect({"kubeconfig": str(lab_module.KUBECONFIG)})


@pytest.fixture(scope="module")
def space(lab: lab_module.Lab) -> Iterator[str]:
    """A namespace with one pod and the Service echo in front of it: HTTP on port 80, TCP on 9090."""
    name = f"edgeway-test-{uuid.uuid4().hex[:6]}"
    lab.apply(ECHO.format(space=name))
    lab.rolled_out(name)
    yield name
    lab.kubectl("delete", "namespace", name, "--timeout=50s")


@pytest.fixture(scope="module")
def put(cluster: Cluster) -> Iterator[Publish]:
    """Publish a list as a set; every set is removed at the end."""
    used: dict[str, dict[str, Any]] = {}

    def run(exposures: list[Json], set_name: str, **options: Any) -> Result:
        used[set_name] = {key: value for key, value in options.items() if key in ("gateway", "api")}
        return publish(exposures, Options(set_name=set_name, **options), cluster)

    yield run
    for set_name, options in used.items():
        publish([], Options(set_name=set_name, state="absent", **options), cluster)
