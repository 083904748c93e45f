"""Everything of ours goes, by both methods, and nothing else; in between, Helm's gateways serve like istioctl's."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from outside import answers
from outside.lab import ROOT, Lab
from outside.runs import playbook
from outside.state import differing, state
from outside.stream import Stream, http_attempt


def passes(*tests: str) -> None:
    """Run another scenario's tests on this lab as it is."""
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *(str(ROOT / one) for one in tests)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[dict[str, Any]]:
    """The cluster without anything of ours; at the end it is as it was found, with Istio by istioctl."""
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True)
    found = state(lab)
    assert not [each for each in found if "istio.io" in each or "gateway.networking" in each]
    yield found
    playbook("playbooks/site.yml")


@pytest.mark.parametrize("name", ["site", "istio", "expose", "uninstall", "vip"])
def test_check_mode_on_a_cluster_without_istio(bare: dict[str, Any], lab: Lab, name: str) -> None:
    playbook(f"playbooks/{name}.yml", "--check")
    assert differing(state(lab), bare) == set()


@pytest.mark.parametrize("method", ["istioctl", "helm"])
def test_installed_used_and_gone(bare: dict[str, Any], lab: Lab, method: str) -> None:
    settings: dict[str, Any] = {"istio_method": method}
    playbook("playbooks/site.yml", **settings)
    lab.taken_up(lab.ports().items())
    assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
    assert playbook("playbooks/site.yml", **settings).changed == 0
    if method == "helm":
        # Those of istioctl have their own scenarios
        passes("molecule/protocols/tests/test_mysql.py", "molecule/routes/tests/test_bookinfo.py")
    ports = lab.ports()
    changed = [{"name": "istio-ingressgateway", "resources": {"requests": {"cpu": "12m", "memory": "64Mi"}}}]
    with Stream(http_attempt(lab.vip, "web.example"), rate=50, seconds=100) as stream:
        playbook("playbooks/istio.yml", istio_gateways=changed, timeout=90, **settings)
        stream.wait(3)
    print(f"{method}, another value: {stream.report}")
    assert stream.report.lost == 0, stream.report.losses
    assert lab.ports() == ports
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True, **settings)
    assert differing(state(lab), bare) == set()


def test_a_foreign_istio_is_refused_then_adopted(bare: dict[str, Any], lab: Lab) -> None:
    options = ["--set=hub=localhost/lab", "--set=tag=dev", "--set=values.telemetry.enabled=false"]
    lab.istioctl("install", "--skip-confirmation", "--set=profile=minimal", *options)
    ended = playbook("playbooks/istio.yml", check=False)
    assert ended.status != 0
    assert "adopt: Istio" in ended.line
    playbook("playbooks/istio.yml", istio_adopt=True)
    assert playbook("playbooks/istio.yml").changed == 0
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True)
    assert differing(state(lab), bare) == set()
