"""The gateway's log and the workloads have the client's address: nothing on the way replaces it."""

from integration.vip import suite
from outside.lab import Lab


def test_workloads_and_the_gateways_log_see_the_client(lab: Lab) -> None:
    suite.sees_its_client(lab, "ingressgateway")
