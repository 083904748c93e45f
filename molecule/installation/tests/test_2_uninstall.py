"""Everything of ours goes, by both methods, and nothing else; in between, Helm's gateways serve like istioctl's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from outside import answers
from outside.lab import Lab
from outside.runs import playbook
from outside.stream import Stream, http_attempt

# What comes and goes by itself
MOVING = {"events", "leases", "endpoints", "endpointslices", "pods", "replicasets", "controllerrevisions", "podmetrics"}


def snapshot(lab: Lab) -> set[str]:
    """The names of all objects of the cluster."""
    resources = {
        name
        for name in lab.kubectl("api-resources", "--verbs=list", "--output=name").split()
        if name.partition(".")[0] not in MOVING
    }
    listed = json.loads(lab.kubectl("get", ",".join(sorted(resources)), "--all-namespaces", "--output=json"))
    return {
        f"{each['kind']} {each['metadata'].get('namespace', '')}/{each['metadata']['name']}" for each in listed["items"]
    }


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[set[str]]:
    """The cluster without anything of ours; at the end it is as it was found, with Istio by istioctl."""
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True)
    found = snapshot(lab)
    assert not [each for each in found if "istio.io" in each or "gateway.networking" in each]
    yield found
    playbook("playbooks/site.yml")


@pytest.mark.parametrize("name", ["site", "istio", "expose", "uninstall", "vip"])
def test_check_mode_on_a_cluster_without_istio(bare: set[str], lab: Lab, name: str) -> None:
    playbook(f"playbooks/{name}.yml", "--check")
    assert snapshot(lab) == bare


@pytest.mark.parametrize("method", ["istioctl", "helm"])
def test_installed_used_and_gone(bare: set[str], lab: Lab, method: str) -> None:
    settings: dict[str, Any] = {"istio_method": method}
    playbook("playbooks/site.yml", **settings)
    assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
    assert playbook("playbooks/site.yml", **settings).changed == 0
    ports = lab.ports()
    changed = [{"name": "istio-ingressgateway", "resources": {"requests": {"cpu": "12m", "memory": "64Mi"}}}]
    with Stream(http_attempt(lab.vip, "web.example"), rate=50, seconds=100) as stream:
        playbook("playbooks/istio.yml", istio_gateways=changed, timeout=90, **settings)
        stream.wait(3)
    print(f"{method}, another value: {stream.report}")
    assert stream.report.lost == 0, stream.report.losses
    assert lab.ports() == ports
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True, **settings)
    assert snapshot(lab) == bare


def test_a_foreign_istio_is_refused_then_adopted(bare: set[str], lab: Lab) -> None:
    options = ["--set=hub=localhost/lab", "--set=tag=dev", "--set=values.telemetry.enabled=false"]
    lab.istioctl("install", "--skip-confirmation", "--set=profile=minimal", *options)
    ended = playbook("playbooks/istio.yml", check=False)
    assert ended.status != 0
    assert "adopt: Istio" in ended.line
    playbook("playbooks/istio.yml", istio_adopt=True)
    assert playbook("playbooks/istio.yml").changed == 0
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True)
    assert snapshot(lab) == bare
