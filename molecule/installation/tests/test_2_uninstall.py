"""Everything of ours goes, by both methods, and nothing else; in between, Helm's gateways serve like istioctl's."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from outside import answers
from outside.lab import KUBECONFIG, ROOT, Lab
from outside.runs import playbook
from outside.state import differing, state
from outside.stream import Stream, http_attempt


def passes(*tests: str) -> None:
    """Run another scenario's tests on this lab as it is."""
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *(str(ROOT / one) for one in tests)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="module")
def installer(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A kubeconfig with the rights of the install role, and no others."""
    manifest = f"--filename={ROOT / 'roles/istio/files/rbac.yml'}"
    lab.kubectl("apply", manifest)
    token = lab.kubectl("create", "token", "edgeway-install", "--namespace=kube-system", "--duration=4h").strip()
    config = yaml.safe_load(KUBECONFIG.read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = tmp_path_factory.mktemp("installer") / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    yield str(path)
    lab.kubectl("delete", manifest)


@pytest.fixture(scope="module")
def bare(lab: Lab, installer: str) -> Iterator[dict[str, Any]]:
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
def test_installed_used_and_gone(bare: dict[str, Any], lab: Lab, installer: str, method: str) -> None:
    settings: dict[str, Any] = {"istio_method": method}
    rights = {**settings, "edgeway_kubeconfig": installer}
    playbook("playbooks/istio.yml", **rights)
    assert playbook("playbooks/istio.yml", **rights).changed == 0
    playbook("playbooks/site.yml", **settings)
    lab.taken_up(lab.ports().items())
    assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
    assert playbook("playbooks/site.yml", **settings).changed == 0
    if method == "helm":
        # Those of istioctl have their own scenarios
        passes("molecule/protocols/tests/test_mysql.py", "molecule/routes/tests/test_bookinfo.py")
    ports = lab.ports()
    changed = [{"name": "istio-ingressgateway", "resources": {"requests": {"cpu": "102m", "memory": "64Mi"}}}]
    with Stream(http_attempt(lab.vip, "web.example"), rate=50, seconds=100) as stream:
        playbook("playbooks/istio.yml", istio_gateways=changed, timeout=90, **rights)
        stream.wait(3)
    print(f"{method}, another value: {stream.report}")
    assert lab.ports() == ports
    playbook("playbooks/uninstall.yml", "--skip-tags=istio", **settings)
    playbook("playbooks/uninstall.yml", "--tags=istio", istio_remove_definitions=True, **rights)
    assert differing(state(lab), bare) == set()
    # Last, so that the tests after this one find the cluster bare whatever was lost
    assert stream.report.lost == 0, stream.report.losses


PEERS = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: blue}
spec: {mtls: {mode: STRICT}}
"""


def test_a_users_object_keeps_its_namespace(bare: dict[str, Any], lab: Lab, installer: str) -> None:
    """The lab itself has istio-system, for a Secret; a second gateway's namespace is made with Istio."""
    rights: dict[str, Any] = {"edgeway_kubeconfig": installer}
    rights["istio_gateways"] = [{"name": "blue", "namespace": "blue", "resources": {"requests": {"cpu": "10m"}}}]
    playbook("playbooks/istio.yml", **rights)
    lab.apply(PEERS)
    ended = playbook("playbooks/uninstall.yml", "--tags=istio", **rights)
    assert "Namespace blue stays: PeerAuthentication strict." in ended.line, ended.said
    assert lab.objects("peerauthentications", "--namespace=blue")
    lab.kubectl("delete", "peerauthentication", "strict", "--namespace=blue")
    playbook("playbooks/uninstall.yml", "--tags=istio", istio_remove_definitions=True, **rights)
    assert differing(state(lab), bare) == set()


def test_all_revisions_go_at_once(bare: dict[str, Any], lab: Lab) -> None:
    playbook("playbooks/istio.yml")
    playbook("playbooks/upgrade.yml", istio_revision="next", edgeway_upgrade_from="")
    planes = lab.objects("deploy", "--namespace=istio-system", "--selector=app=istiod")
    assert sorted(each["metadata"]["name"] for each in planes) == ["istiod", "istiod-next"]
    ended = playbook("playbooks/uninstall.yml", "--diff", istio_revision="next", istio_remove_definitions=True)
    assert "ca-key.pem: hidden" in ended.said
    assert differing(state(lab), bare) == set()


def test_a_foreign_istio_is_refused_then_adopted(bare: dict[str, Any], lab: Lab) -> None:
    gateway = "components.ingressGateways[0]"
    options = ["--set=hub=localhost/lab", "--set=tag=dev", "--set=values.telemetry.enabled=false"]
    options += [f"--set={gateway}.name=istio-ingressgateway", f"--set={gateway}.enabled=true"]
    options += [f"--set={gateway}.k8s.resources.requests.cpu=10m"]
    # The lab's Envoy is upstream's, without Istio's own filters
    options += [f"--set=values.pilot.env.PILOT_ENABLE_{one}=false" for one in ("ALPN_FILTER", "METADATA_EXCHANGE")]
    lab.istioctl("install", "--skip-confirmation", "--set=profile=minimal", *options)
    assert lab.objects("hpa", "--namespace=istio-system")
    ended = playbook("playbooks/istio.yml", check=False)
    assert ended.status != 0
    assert "adopt: Istio" in ended.line
    ended = playbook("playbooks/istio.yml", istio_adopt=True, check=False)
    assert ended.status != 0
    assert "Set load_balancer_class of that gateway" in ended.line
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    adopted = [{"name": "istio-ingressgateway", "load_balancer_class": "", "resources": small}]
    playbook("playbooks/istio.yml", istio_adopt=True, istio_gateways=adopted)
    assert not lab.objects("hpa", "--namespace=istio-system"), "it would go on scaling what is ours now"
    assert playbook("playbooks/istio.yml", istio_gateways=adopted).changed == 0
    playbook("playbooks/uninstall.yml", istio_remove_definitions=True)
    assert differing(state(lab), bare) == set()
