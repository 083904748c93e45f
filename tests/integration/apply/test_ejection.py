"""Two endpoints, of which one refuses: the gateway ejects it, and clients get successes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from outside import clients
from outside.lab import Lab

from integration.apply.conftest import Publish, endpoints

Json = dict[str, Any]

# A pod that the Service takes for one of its own, and where nothing listens on its port
BROKEN = """
apiVersion: v1
kind: Pod
metadata: {{name: broken, namespace: {space}, labels: {{app: echo}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {{name: echo, image: localhost/lab/echo:1, imagePullPolicy: IfNotPresent, args: [--port=8079, --tcp=9090]}}
"""


def ejected(cluster: Cluster, space: str) -> dict[str, dict[str, bool]]:
    """By gateway pod, whether each endpoint of the backend is ejected."""
    return {
        pod: {
            host["address"]["socket_address"]["address"]: bool(host["health_status"].get("failed_outlier_check"))
            for host in hosts
        }
        for pod, hosts in endpoints(cluster, space).items()
    }


@pytest.fixture(scope="module")
def addresses(lab: Lab, space: str) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        return {
            "broken" if pod["metadata"]["name"] == "broken" else "good": pod["status"]["podIP"]
            for pod in lab.objects("pod", f"--namespace={space}")
        }

    return read


def test_one_of_two_is_ejected(
    lab: Lab, cluster: Cluster, space: str, put: Publish, addresses: Callable[[], dict[str, str]]
) -> None:
    lab.apply(BROKEN.format(space=space))
    lab.kubectl("wait", "--for=condition=Ready", "pod/broken", f"--namespace={space}", "--timeout=50s")
    backend = {"service": "echo", "port": 80}
    site = {"name": "it-eject", "namespace": space, "protocol": "HTTP", "hostnames": ["it-eject.example"]}
    put([{**site, "backend": backend}], "it-ejection")
    both = addresses()
    seen = [clients.http_get(lab.vip, "it-eject.example").status for _number in range(60)]
    assert set(seen) == {200}, "what was refused is tried again elsewhere"
    shown = ejected(cluster, space)
    assert all(set(hosts) == set(both.values()) for hosts in shown.values()), shown
    told = [hosts for hosts in shown.values() if any(hosts.values())]
    assert told, f"no gateway pod has ejected anything: {shown}"
    for hosts in told:
        assert hosts == {both["good"]: False, both["broken"]: True}
