"""What an operator sees of it: the Service's address and ports, and where the VIP is."""

from typing import Any

import pytest
from outside.lab import Lab

MARIADB = 65532


@pytest.fixture(scope="module")
def service(lab: Lab) -> dict[str, Any]:
    (found,) = lab.objects("service", "--namespace=istio-system", "--selector=istio=ingressgateway")
    return found


def test_external_ip_is_the_vip(lab: Lab, service: dict[str, Any]) -> None:
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerClass"] == "edgeway.istio/vip"
    header, row = lab.kubectl("get", "service", "istio-ingressgateway", "--namespace=istio-system").splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["EXTERNAL-IP"] == lab.vip


def test_ports_of_ours_stand_beside_istios(service: dict[str, Any]) -> None:
    ports = {port["port"]: port for port in service["spec"]["ports"]}
    assert {80, 443, MARIADB} <= set(ports)
    assert ports[MARIADB]["nodePort"] == 31532


def test_one_edge_holds_the_vip(lab: Lab) -> None:
    assert len(lab.holders()) == 1


def test_keepalived_runs_on_every_edge_and_comes_back_after_a_reboot(lab: Lab) -> None:
    for name in lab.edges:
        keepalived = lab.host(name).service("keepalived")
        assert keepalived.is_running, name
        assert keepalived.is_enabled, name
