"""The application at a custom port: a targetPort that no listener binds is found before it is applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _service
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _looking
from outside import clients
from outside.lab import Lab
from outside.state import differing, state

from integration.apply.conftest import Publish

SET = "it-unbound"
PINNED = 31088
WHERE: dict[str, Any] = {"namespace": "istio-system", "name": "edgeway-test-8088", "set_name": SET}
BESIDE: dict[str, Any] = {**WHERE, "selector": {"istio": "ingressgateway"}, "type": "NodePort"}


def ports(target: int) -> list[dict[str, Any]]:
    return [{"port": 8088, "target_port": target, "node_port": PINNED}]


@pytest.fixture
def beside(cluster: Cluster) -> Iterator[None]:
    """Nothing of the Service beside the gateway's is left."""
    yield
    _service.ensure(_service.Options(**BESIDE, state="absent"), cluster)


def test_it_is_found_before_it_is_applied_and_by_looking(
    lab: Lab, cluster: Cluster, space: str, put: Publish, beside: None
) -> None:
    backend = {"service": "echo", "port": 80}
    site = {"name": "it-port", "namespace": space, "protocol": "HTTP", "port": 8099, "backend": backend}
    put([site], SET)
    told = "Port 8088 of Service istio-system/edgeway-test-8088 ends at 8089 of"
    before = state(lab)
    would = _service.ensure(_service.Options(**BESIDE, ports=ports(8089), check=True), cluster)
    assert any(warning.startswith(told) for warning in would.warnings), would.warnings
    assert differing(before, state(lab)) == set()
    # It is true: nobody answers there
    _service.ensure(_service.Options(**BESIDE, ports=ports(8089)), cluster)
    assert told in str([finding.reason for finding in _looking.look(cluster, None)])
    with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
        clients.http_get(lab.machines[lab.edges[0]], "x", port=PINNED, timeout=2)
    # The cure: the port ends where the exposure's listener is
    cured = _service.ensure(_service.Options(**BESIDE, ports=ports(8099)), cluster)
    assert cured.warnings == []
    for name in lab.edges:
        lab.opens(lab.machines[name], PINNED)
        assert clients.http_get(lab.machines[name], "x", port=PINNED).status == 200, name
