"""Another team's gateway, installed by hand: its own pods, selector, Service and VIP; a list says which it uses."""

import pathlib
from collections.abc import Callable, Iterator

import pytest
from outside import clients, echo
from outside.lab import ROOT, Lab, accepts
from outside.runs import Ended, playbook

VIP = "10.77.0.101"
VALUES = """
labels: {istio: team-b}
imagePullPolicy: IfNotPresent
autoscaling: {enabled: false}
resources: {requests: {cpu: 10m, memory: 64Mi}}
service: {type: LoadBalancer, loadBalancerClass: edgeway.istio/vip}
"""


@pytest.fixture(scope="module")
def team_b(lab: Lab) -> Iterator[None]:
    """Istio's gateway chart, and a VIP put on an edge by hand: moving VIPs is for keepalived's scenarios."""
    edge = lab.host(lab.edges[-1])
    chart = str(ROOT / ".lab/charts/gateway")
    options = ("--namespace=team-b", "--create-namespace", "--values=-")
    lab.helm("upgrade", "--install", "team-b", chart, *options, text=VALUES)
    lab.rolled_out("team-b")
    edge.run_expect([0, 2], f"ip address add {VIP}/32 dev eth0")
    where = {"namespace": "team-b", "service": "team-b", "address": VIP, "set": "team-b"}
    playbook("molecule/gateways/vip.yml", vip_of=where)
    yield
    edge.run_expect([0, 2], f"ip address delete {VIP}/32 dev eth0")
    lab.kubectl("delete", "namespace", "team-b", "--timeout=50s")


@pytest.fixture(scope="module", autouse=True)
def published(lab: Lab, team_b: None, workloads: Callable[..., None], publish: Callable[..., Ended]) -> Ended:
    workloads("bookinfo")
    ended = publish("two_teams", certificates=str(ROOT / ".lab/tls"))
    for port in (80, 443, 9292):
        lab.opens(VIP, port)
    return ended


def test_each_service_has_its_vip(lab: Lab) -> None:
    for namespace, name, vip in (("istio-system", "istio-ingressgateway", lab.vip), ("team-b", "team-b", VIP)):
        header, row = lab.kubectl("get", "service", name, f"--namespace={namespace}").splitlines()
        assert dict(zip(header.split(), row.split(), strict=True))["EXTERNAL-IP"] == vip


def test_one_name_two_answers(lab: Lab) -> None:
    for _ in range(20):
        assert echo.facts(clients.http_get(lab.vip, "team.example"))["Hostname"].startswith("echo-")
        assert echo.facts(clients.http_get(VIP, "team.example"))["Cluster"] == "productpage"


def test_https_and_tcp_of_the_other_team_only(lab: Lab) -> None:
    answer = clients.https_get(VIP, "team-b.echo.example", ca=lab.authority)
    assert (answer.status, echo.facts(answer)["Cluster"]) == (200, "productpage")
    assert b"StatusCode=200" in clients.tcp(VIP, 9292, b"hello\n", enough=20)
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        clients.tls_certificate(lab.vip, "team-b.echo.example")
    assert not accepts(lab.vip, 9292)
    assert 9292 not in lab.ports()


def test_the_trace_goes_by_each_gateways_address(lab: Lab, lists: pathlib.Path, api: str, set_name: str) -> None:
    gateways = [
        {"namespace": "istio-system", "service": "istio-ingressgateway", "vips": [lab.vip]},
        {"namespace": "team-b", "service": "team-b", "vips": [VIP]},
    ]
    for exposure, vip in (("ours", lab.vip), ("theirs", VIP)):
        ended = playbook(
            "playbooks/trace.yml",
            "--extra-vars",
            f"@{lists / 'two_teams.yml'}",
            exposure=exposure,
            strict=True,
            edgeway_gateways=gateways,
            exposures_api=api,
            exposures_set=set_name,
            certificates=str(ROOT / ".lab/tls"),
        )
        assert f"{vip} is on" in ended.line
        assert "The VIP answers." in ended.line


def test_the_site_is_not_on_the_other_gateway(lab: Lab) -> None:
    assert clients.http_get(lab.vip, "web.example").status == 200
    assert clients.http_get(VIP, "web.example").status == 404


def test_the_certificate_lies_with_the_other_gateways_pods(lab: Lab, set_name: str) -> None:
    found = lab.objects("secret", "--all-namespaces", f"--selector=edgeway.istio/set={set_name}")
    assert [one["metadata"]["namespace"] for one in found] == ["team-b"]
