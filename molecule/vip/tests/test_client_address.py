"""The gateway's log and the workloads have the client's address: nothing on the way replaces it."""

from outside import clients
from outside.lab import Lab

CLIENT = "10.77.0.1"  # the host, outside


def test_workloads_and_the_gateways_log_see_the_client(lab: Lab) -> None:
    answer = clients.http_get(lab.vip, "web.example", path="/who")
    assert answer.status == 200
    (forwarded,) = [line for line in answer.body.splitlines() if "X-Forwarded-For:" in line]
    assert forwarded.endswith(CLIENT)
    log = lab.kubectl("logs", "--namespace=istio-system", "--selector=istio=ingressgateway", "--tail=100")
    assert any("/who" in line and CLIENT in line for line in log.splitlines()), log
