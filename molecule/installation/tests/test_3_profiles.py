"""Istio's profiles: minimal and demo installed one after the other; ambient, whose agents can't run here, rendered."""

import json
import subprocess
from typing import Any

import pytest
import yaml
from outside import answers
from outside.lab import INVENTORY, ROOT, Lab
from outside.runs import playbook

SETTINGS = yaml.safe_load((INVENTORY / "group_vars/all.yml").read_text())
BIN = ROOT / ".lab/bin"


def egress(lab: Lab) -> list[str]:
    found = lab.objects("deployment", "--namespace=istio-system", "--selector=istio=egressgateway")
    return [each["metadata"]["name"] for each in found]


@pytest.mark.parametrize("profile", ["minimal", "demo"])
def test_installed(lab: Lab, profile: str) -> None:
    """Gateways are those of the list whatever the profile; what else a profile brings goes with it."""
    try:
        playbook("playbooks/site.yml", istio_profile=profile)
        lab.rolled_out("istio-system")
        assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
        assert egress(lab) == (["istio-egressgateway"] if profile == "demo" else [])
        assert playbook("playbooks/site.yml", istio_profile=profile).changed == 0
    finally:
        playbook("playbooks/site.yml")
    assert egress(lab) == []


def rendered(profile: str, **options: Any) -> set[str]:
    """Kinds and names of what the module would install, without a cluster."""
    given = {"state": "rendered", "profile": profile, "hub": SETTINGS["istio_hub"], "tag": SETTINGS["istio_tag"]}
    command = ["ansible", "localhost", "-m", "edgeway.istio.installation", "-a", json.dumps(given | options)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = yaml.safe_load(ended.stdout.partition("=>")[2])
    return {f"{each['kind']} {each['metadata']['name']}" for each in result["manifests"]}


def test_ambient_is_what_istioctl_itself_makes_of_it(lab: Lab) -> None:
    ours = rendered("ambient", executable=str(BIN / "istioctl"))
    own = yaml.safe_load_all(lab.istioctl("manifest", "generate", "--set=profile=ambient"))
    assert ours == {f"{each['kind']} {each['metadata']['name']}" for each in own if each}
    assert {"DaemonSet ztunnel", "DaemonSet istio-cni-node"} <= ours


def test_ambient_by_helm_has_the_same_agents() -> None:
    helm = {"method": "helm", "executable": str(BIN / "helm"), "charts": str(ROOT / ".lab/charts")}
    agents = rendered("ambient", **helm) - rendered("default", **helm)
    assert {"DaemonSet ztunnel", "DaemonSet istio-cni-node"} <= agents
