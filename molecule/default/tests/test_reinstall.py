"""istioctl installs again, with a changed value so that it writes: what is ours on the gateway's Service stays."""

from typing import Any

from outside import answers, clients
from outside.lab import Lab
from outside.runs import playbook

PINNED = 30080


def ours(lab: Lab) -> dict[str, Any]:
    """What of the gateway's Service must stay: type, class, policy, the VIP, and each port with its nodePort."""
    (service,) = lab.objects("service", "--namespace=istio-system", "--selector=istio=ingressgateway")
    spec = service["spec"]
    return {
        "type": spec["type"],
        "loadBalancerClass": spec["loadBalancerClass"],
        "externalTrafficPolicy": spec["externalTrafficPolicy"],
        "ingress": [each["ip"] for each in service["status"]["loadBalancer"]["ingress"]],
        "ports": {port["port"]: (port["targetPort"], port["nodePort"]) for port in spec["ports"]},
        "healthCheckNodePort": spec["healthCheckNodePort"],
    }


def mark(lab: Lab) -> str | None:
    (service,) = lab.objects("service", "--namespace=istio-system", "--selector=istio=ingressgateway")
    value: str | None = service["metadata"].get("annotations", {}).get("reinstalled")
    return value


def test_ports_type_policy_and_vip_survive_istioctl(lab: Lab) -> None:
    pinned = [{"port": 80, "node_port": PINNED}]
    playbook("playbooks/site.yml", gateway_ports_ports=pinned)
    before = ours(lab)
    assert before["ports"][80][1] == PINNED
    assert before["ports"][65532][1] == 31532
    assert before["ingress"] == [lab.vip]
    try:
        for number in range(2):
            gateway = {"name": "istio-ingressgateway", "service_annotations": {"reinstalled": str(number)}}
            playbook("playbooks/istio.yml", istio_gateways=[gateway])
            assert mark(lab) == str(number), "istioctl has not written the Service"
            assert ours(lab) == before
            assert clients.http_get(lab.vip, "web.example").status == 200
            rows = clients.sql(lab.vip, "SELECT 1", port=65532, user=answers.SQL_USER, password=answers.SQL_PASSWORD)
            assert rows == [(1,)]
    finally:
        playbook("playbooks/site.yml")
    assert mark(lab) is None
    assert ours(lab)["ports"][65532] == before["ports"][65532]
