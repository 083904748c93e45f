"""The application at a custom port: a targetPort that no listener binds is found before it is applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._write import ApplyError
from outside import clients
from outside.lab import Lab
from outside.state import differing, state

from integration.apply.conftest import Publish

Json = dict[str, Any]

SET = "it-unbound"
BY_HAND = """
apiVersion: v1
kind: Service
metadata: {{name: edgeway-test-8088, namespace: istio-system}}
spec:
  type: NodePort
  selector: {{istio: ingressgateway}}
  ports: [{{name: http, port: 8088, targetPort: {target}, nodePort: 30080}}]
"""


@pytest.fixture
def by_hand(lab: Lab) -> Iterator[None]:
    """Somebody's Service beside the gateway's, whose port ends where nothing listens."""
    lab.apply(BY_HAND.format(target=8089))
    yield
    lab.kubectl("delete", "service", "edgeway-test-8088", "--namespace=istio-system")


def test_it_is_found_before_it_is_applied(lab: Lab, space: str, put: Publish, by_hand: None) -> None:
    backend = {"service": "echo", "port": 80}
    site: Json = {"name": "it-port", "namespace": space, "protocol": "HTTP", "hostnames": ["it-port.example"]}
    before = state(lab)
    with pytest.raises(ApplyError, match="Port 8088 of Service istio-system/edgeway-test-8088 ends at 8089"):
        put([{**site, "backend": backend}], SET, strict=True)
    assert differing(before, state(lab)) == set()
    # As a warning it stops nothing, and is told
    (found,) = (
        finding
        for finding in put([{**site, "backend": backend}], SET, check=True).findings
        if finding.code == "port-without-listener"
    )
    assert found.objects == ("Service istio-system/edgeway-test-8088",)
    assert differing(before, state(lab)) == set()


def test_where_a_listener_is_it_answers(lab: Lab, space: str, put: Publish, by_hand: None) -> None:
    """The cure: the Service's port ends where the exposure's listener is."""
    backend = {"service": "echo", "port": 80}
    site: Json = {"name": "it-port", "namespace": space, "protocol": "HTTP", "port": 8088, "backend": backend}
    lab.apply(BY_HAND.format(target=8088))
    result = put([site], SET)
    assert "port-without-listener" not in {finding.code for finding in result.findings}
    for name in lab.edges:
        lab.opens(lab.machines[name], 30080)
        assert clients.http_get(lab.machines[name], "x", port=30080).status == 200, name
