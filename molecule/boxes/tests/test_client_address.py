"""With the PROXY protocol, a gateway of its own knows its clients, and haproxy's checks still pass."""

from collections.abc import Iterator

import pytest
from integration.vip import suite
from outside.lab import BOXES, Lab
from outside.runs import playbook


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> Iterator[None]:
    """site.yml with everything through a gateway that expects the PROXY protocol; as it was afterwards."""
    annotation = {"proxy.istio.io/config": '{"gatewayTopology": {"proxyProtocol": {}}}'}
    name = {"namespace": "istio-system", "service": "proxied"}
    playbook(
        "playbooks/site.yml",
        inventory=BOXES,
        edgeway_proxy_protocol=True,
        edgeway_gateway={**name, "selector": {"istio": "proxied"}},
        istio_gateways=[{"name": "proxied", "settings": {"podAnnotations": annotation}}],
    )
    yield
    playbook("playbooks/site.yml", inventory=BOXES)


@pytest.mark.usefixtures("gateway")
def test_workloads_and_the_gateways_log_see_the_client(lab: Lab) -> None:
    suite.sees_its_client(lab, "proxied")


@pytest.mark.usefixtures("gateway")
def test_haproxys_checks_pass(lab: Lab) -> None:
    for name in lab.edges:
        shown = lab.host(name).check_output("curl --silent http://127.0.0.1:9115/metrics")
        up = [line for line in shown.splitlines() if line.startswith("haproxy_server_status{") and 'state="UP"' in line]
        assert up
        assert all(line.endswith(" 1") for line in up), up
