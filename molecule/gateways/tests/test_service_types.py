"""Services of type ClusterIP, NodePort and LoadBalancer in front of the gateway, each reachable in its own way."""

from collections.abc import Callable
from typing import Any

import pytest
from outside import clients
from outside.lab import Lab, accepts
from outside.runs import Ended, playbook


@pytest.fixture(scope="module", autouse=True)
def published(publish: Callable[..., Ended]) -> Ended:
    return publish("service_types")


def service(lab: Lab, name: str) -> dict[str, Any]:
    (found,) = lab.objects("service", "--namespace=istio-system", f"--field-selector=metadata.name={name}")
    return found


def inside(lab: Lab, url: str) -> str:
    """The status that a node gets."""
    options = "--silent --output /dev/null --max-time 5 --retry 3 --retry-connrefused"
    return str(lab.host("node1").check_output(f"curl {options} --write-out '%{{http_code}}' {url}"))


def test_cluster_ip_inside_only(lab: Lab) -> None:
    found = service(lab, "web-cluster-ip")["spec"]
    assert found["type"] == "ClusterIP"
    assert inside(lab, f"http://{found['clusterIP']}:8091/getList") == "200"
    assert inside(lab, f"http://{found['clusterIP']}:8091/other") == "404"
    assert not accepts(lab.vip, 8091)


def test_node_port_at_every_node(lab: Lab) -> None:
    found = service(lab, "web-node-port")["spec"]
    assert found["type"] == "NodePort"
    port = found["ports"][0]["nodePort"]
    for name in lab.edges:
        lab.opens(lab.machines[name], port)
        assert clients.http_get(lab.machines[name], "x", "/getList", port=port).status == 200, name
        assert clients.http_get(lab.machines[name], "x", "/other", port=port).status == 404, name
    assert not accepts(lab.vip, 8092)


def test_load_balancer_at_the_vip(lab: Lab, set_name: str) -> None:
    assert service(lab, "web-load-balancer")["spec"]["type"] == "LoadBalancer"
    where = {"namespace": "istio-system", "service": "web-load-balancer", "address": lab.vip, "set": set_name}
    playbook("molecule/gateways/vip.yml", vip_of=where)
    found = service(lab, "web-load-balancer")
    assert [one["ip"] for one in found["status"]["loadBalancer"]["ingress"]] == [lab.vip]
    lab.opens(lab.vip, 8093)
    assert clients.http_get(lab.vip, "x", "/getList", port=8093).status == 200
    assert clients.http_get(lab.vip, "x", "/other", port=8093).status == 404
