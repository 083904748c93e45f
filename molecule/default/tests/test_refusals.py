"""Wrong input ends in one clear error, before anything is changed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from outside import runs
from outside.lab import Lab

TAKEN = 65000
KINDS = "gateways.networking.istio.io,virtualservices,destinationrules,serviceentries,services,configmaps,deployments"


def specs(lab: Lab) -> dict[str, Any]:
    """Everything that site.yml could change: objects without their status, and the edges' files."""
    found: dict[str, Any] = {}
    for item in lab.objects(KINDS, "--all-namespaces"):
        metadata = item["metadata"]
        key = f"{item['kind']} {metadata['namespace']}/{metadata['name']}"
        if not metadata["name"].endswith("-leader"):  # Istio's elections, renewed every few seconds
            found[key] = (metadata.get("labels"), item.get("spec"), item.get("data"))
    for name in lab.edges:
        found[name] = lab.host(name).check_output("sha256sum /etc/keepalived/keepalived.conf")
    return found


def refusal(playbook: str, **variables: Any) -> str:
    """What a playbook says that must fail, as one line."""
    ended = runs.playbook(playbook, check=False, **variables)
    assert ended.status == 2, ended.said
    assert ended.changed == 0, ended.said
    return ended.line


@pytest.fixture
def unchanged(lab: Lab) -> Iterator[None]:
    before = specs(lab)
    yield
    assert specs(lab) == before


@pytest.fixture
def foreign_port(lab: Lab) -> Iterator[int]:
    """A port that someone else has added to the gateway's Service by hand."""

    def patch(**port: Any) -> None:
        change = json.dumps({"spec": {"ports": [{"port": TAKEN, "protocol": "TCP", **port}]}})
        service = ("service/istio-ingressgateway", "--namespace=istio-system")
        lab.kubectl("patch", *service, "--type=strategic", f"--patch={change}", "--field-manager=someone")

    patch(name="by-hand", targetPort=TAKEN)
    yield TAKEN
    patch(**{"$patch": "delete"})


@pytest.mark.usefixtures("unchanged")
def test_an_exposure_without_a_backend(lab: Lab) -> None:
    broken = {"name": "broken", "namespace": "web", "protocol": "HTTP", "hostnames": ["broken.example"]}
    said = refusal("playbooks/site.yml", edgeway_exposures=[*lab.exposures, broken])
    assert "edgeway_exposures[3]" in said or "exposures[3]" in said
    assert "backend" in said


@pytest.mark.usefixtures("unchanged")
def test_a_vip_that_no_interface_of_an_edge_can_carry(lab: Lab) -> None:
    said = refusal("playbooks/site.yml", edgeway_vip="10.99.0.100")
    assert "10.99.0.100" in said
    assert "interface" in said


@pytest.mark.usefixtures("unchanged")
def test_no_kubeconfig() -> None:
    said = refusal("playbooks/site.yml", edgeway_kubeconfig="/nowhere/kubeconfig")
    assert "/nowhere/kubeconfig" in said


@pytest.mark.usefixtures("unchanged")
def test_a_port_that_someone_else_has(lab: Lab, foreign_port: int) -> None:
    more = {
        "name": "second",
        "namespace": "db",
        "protocol": "TCP",
        "port": foreign_port,
        "backend": {"service": "mysql", "port": 3306},
    }
    said = refusal("playbooks/site.yml", edgeway_exposures=[*lab.exposures, more])
    assert str(foreign_port) in said
    assert "someone" in said


@pytest.mark.usefixtures("unchanged")
def test_a_lab_on_too_small_a_disk() -> None:
    said = refusal("lab/up.yml", lab_disk_cold=10**6, lab_disk_warm=10**6)
    assert "1000000 GiB free" in said
