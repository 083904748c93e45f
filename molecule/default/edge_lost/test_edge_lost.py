"""The VIP's holder loses its power while clients ask."""

from collections.abc import Iterator

import pytest
from outside import clients, stream
from outside.lab import Lab, wait_for

RATE = 50  # requests a second
TAKEN_OVER = 2.0  # seconds by which another edge must answer
WATCHED = 15.0  # seconds after the fault


@pytest.fixture
def holder(lab: Lab) -> Iterator[str]:
    """The edge that holds the VIP; whatever a test did to it, it is up and ready again afterwards."""
    (name,) = lab.holders()
    yield name
    lab.power(name, on=True)

    def pods_ready() -> bool:
        pods = lab.objects("pod", "--all-namespaces", f"--field-selector=spec.nodeName={name},status.phase=Running")
        return all(status["ready"] for pod in pods for status in pod["status"]["containerStatuses"])

    wait_for(f"{name} ready", lambda: lab.node_ready(name), seconds=120)
    wait_for(f"pods on {name} ready", pods_ready, seconds=120)
    wait_for("one holder after the edge is back", lambda: len(lab.holders()) == 1, seconds=10)


def test_the_vip_answers_and_one_edge_holds_it(lab: Lab, holder: str, capsys: pytest.CaptureFixture[str]) -> None:
    # A hostname that nobody published: the gateway answers by itself, so this is the VIP's gap and not a backend's
    gateway = stream.http_attempt(lab.vip, "nobody.example", status=404)
    backend = stream.http_attempt(lab.vip, "web.example", expect=b"ServiceVersion=")
    bounded = {"rate": RATE, "seconds": 60.0}
    with stream.Stream(gateway, **bounded) as at_gateway, stream.Stream(backend, **bounded) as at_backend:
        at_gateway.wait(2)
        lab.power(holder, on=False)
        at_gateway.wait(WATCHED)
        holders = lab.holders()
    with capsys.disabled():
        print(f"\n{holder} lost at {RATE}/s: the gateway's answers: {at_gateway.report}")
        print(f"{holder} lost at {RATE}/s: a backend's answers: {at_backend.report}")

    assert len(holders) == 1
    assert holder not in holders
    assert at_gateway.report.sent > WATCHED * RATE
    assert 0 < at_gateway.report.lost <= TAKEN_OVER * RATE, "no loss at all means that no edge was lost"
    assert at_gateway.report.longest_gap <= TAKEN_OVER
    # Pods on the lost edge stay endpoints until their node is marked lost; those elsewhere answer all the time
    assert at_backend.report.longest_gap <= 2 * TAKEN_OVER
    assert clients.https_get(lab.vip, "shop.example", ca=lab.authority, timeout=30).status == 200
