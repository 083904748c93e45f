"""A backend closes idle connections, after 5 s here: the gateway does so before, so that no request is on its way."""

from __future__ import annotations

import time

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from outside import clients
from outside.lab import Lab, wait_for

from integration.apply.conftest import Publish, endpoints


def kept(cluster: Cluster, space: str) -> int:
    """How many connections the gateways' pods keep to the backend."""
    stats = [stat for hosts in endpoints(cluster, space).values() for host in hosts for stat in host["stats"]]
    return sum(int(stat.get("value", 0)) for stat in stats if stat["name"] == "cx_active")


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_the_gateway_closes_first(lab: Lab, cluster: Cluster, space: str, put: Publish, api: str) -> None:
    site = {
        "name": "it-idle",
        "namespace": space,
        "protocol": "HTTP",
        "hostnames": ["it-idle.example"],
        "backend": {"service": "echo", "port": 80},
    }
    for written, least in (({"idle_timeout": "60s"}, 4.5), ({"idle_timeout": "1s"}, 0.9)):
        put([{**site, "traffic": written}], "it-idle", api=api)
        wait_for("nothing kept", lambda: not kept(cluster, space), seconds=10, every=0.1)
        began = time.monotonic()
        assert clients.http_get(lab.vip, "it-idle.example").status == 200
        assert kept(cluster, space) == 1
        wait_for("the connection's end", lambda: not kept(cluster, space), seconds=10, every=0.1)
        lasted = time.monotonic() - began
        # The backend's own 5 s hold where the gateway would wait for longer
        assert lasted > least
    assert lasted < 4
