"""What an operator sees of it: the Service's address and ports, and where the VIP is."""

import kubernetes.client
import kubernetes.config
import pytest
from outside.lab import KUBECONFIG, Lab

MARIADB = 65532


@pytest.fixture(scope="module")
def service() -> kubernetes.client.V1Service:
    client = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(KUBECONFIG)))
    return client.read_namespaced_service("istio-ingressgateway", "istio-system")


def test_external_ip_is_the_vip(lab: Lab, service: kubernetes.client.V1Service) -> None:
    assert service.spec.type == "LoadBalancer"
    assert service.spec.load_balancer_class == "edgeway.istio/vip"
    assert [ingress.ip for ingress in service.status.load_balancer.ingress] == [lab.vip]


def test_ports_of_ours_stand_beside_istios(service: kubernetes.client.V1Service) -> None:
    ports = {port.port: port for port in service.spec.ports}
    assert {80, 443, MARIADB} <= set(ports)
    assert ports[MARIADB].node_port == 31532


def test_one_edge_holds_the_vip(lab: Lab) -> None:
    assert len(lab.holders()) == 1


def test_keepalived_runs_on_every_edge_and_comes_back_after_a_reboot(lab: Lab) -> None:
    for name in lab.edges:
        keepalived = lab.host(name).service("keepalived")
        assert keepalived.is_running, name
        assert keepalived.is_enabled, name
