"""An API server in memory that also knows what installers write, and stand-ins for istioctl and Helm."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_api import Server, kinds
from memory_api.kinds import Kind
from unit import modules

Json = dict[str, Any]
RunModule = Callable[..., Json]

RBAC, ADMISSION, CRDS = "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io"
INSTALLED = (
    Kind("", "ServiceAccount", "serviceaccounts"),
    Kind("", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind("apps", "Deployment", "deployments", has_status=True),
    Kind("apps", "ReplicaSet", "replicasets", has_status=True),
    Kind("apps", "StatefulSet", "statefulsets", has_status=True),
    Kind("batch", "CronJob", "cronjobs"),
    Kind("batch", "Job", "jobs"),
    Kind("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    Kind("security.istio.io", "PeerAuthentication", "peerauthentications"),
    Kind("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", ("v2",)),
    Kind(RBAC, "Role", "roles"),
    Kind(RBAC, "RoleBinding", "rolebindings"),
    Kind(RBAC, "ClusterRole", "clusterroles", namespaced=False),
    Kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    Kind(ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False),
    Kind(ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False),
    Kind(CRDS, "CustomResourceDefinition", "customresourcedefinitions", namespaced=False, has_status=True),
    Kind(kinds.GATEWAY_API, "GatewayClass", "gatewayclasses", namespaced=False, has_status=True),
)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(kinds.CORE + kinds.ISTIO_KINDS + kinds.GATEWAY_API_KINDS + INSTALLED).running() as running:
        for name in ("n1", "n2"):
            running.add(node(name))
        running.log.clear()
        yield running


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunModule:
    """Run a module of the collection whole, and return what it would print."""
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(server.kubeconfig()))
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(path))
    monkeypatch.setenv("KUBECONFIG", str(path))

    def run_module(name: str, /, *, check: bool = False, **options: Any) -> Json:
        arguments = {
            **options,
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(tmp_path),
        }
        return modules.run(name, arguments)

    return run_module


class Program:
    """A stand-in: `path` to run it by, `folder` with what it renders and what it was called with."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.path = folder / name
        script = Path(__file__).with_name("programs.py")
        self.path.write_text(f'#!/bin/sh\nexec {sys.executable} {script} {name} {folder} "$@"\n')
        self.path.chmod(0o700)

    def renders(self, rendered: Any) -> None:
        (self.folder / "rendered.json").write_text(json.dumps(rendered))

    def says(self, name: str, content: Any) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(content))

    def calls(self, command: str) -> list[Json]:
        path = self.folder / "calls.json"
        found = json.loads(path.read_text()) if path.exists() else []
        return [each for each in found if each["arguments"][0] == command]


@pytest.fixture
def istioctl(tmp_path: Path) -> Program:
    (tmp_path / "istioctl-files").mkdir()
    program = Program("istioctl", tmp_path / "istioctl-files")
    program.renders([istiod(), config_map("istio", "a")])
    return program


@pytest.fixture
def helm(tmp_path: Path) -> Program:
    (tmp_path / "helm-files").mkdir()
    program = Program("helm", tmp_path / "helm-files")
    for chart in ("base", "istiod", "gateway"):
        (program.folder / "charts" / chart).mkdir(parents=True)
        (program.folder / "charts" / chart / "Chart.yaml").write_text("name: " + chart)
    base = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "istio-reader"}}
    owner = {"labels": {"install.operator.istio.io/owning-resource": "edgeway", "app": "istiod"}}
    deployment = istiod()
    deployment["metadata"] |= owner
    program.renders({"istio-base": [base], "istiod": [deployment, config_map("istio", "a")]})
    return program


def node(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}},
    }


def config_map(name: str, value: str, namespace: str = "istio-system") -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": value}}


def istiod() -> Json:
    """A control plane's Deployment; without replicas it is ready at once, as nobody runs pods here."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "istiod"}},
            "template": {"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": [{"image": "h/pilot:t"}]}},
        },
        "status": {"observedGeneration": 99},
    }
