"""istioctl and Helm as programs: where charts are, what they say, how they reach the cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _objects
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installers, _programs
from ansible_collections.edgeway.istio.plugins.module_utils.installation._installers import InstallerError
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import Settings


def saying(code: int, out: str = "", err: str = "") -> _installers.Run:
    def run(arguments: Sequence[str], text: str) -> tuple[int, str, str]:
        return code, out, err

    return run


def chart(root: Path, folder: str) -> Path:
    (root / folder).mkdir(parents=True)
    (root / folder / "Chart.yaml").write_text("name: x")
    return root / folder


def test_charts_as_published_and_as_in_istios_source(tmp_path: Path) -> None:
    published, source = tmp_path / "published", tmp_path / "source"
    istiod = chart(published, "istiod")
    discovery, agent = chart(source, "istio-control/istio-discovery"), chart(source, "istio-cni")
    assert _installers.chart_location(str(published), "istiod", "")[0] == [str(istiod)]
    assert _installers.chart_location(str(source), "istiod", "")[0] == [str(discovery)]
    assert _installers.chart_location(str(source), "cni", "")[0] == [str(agent)]


def test_a_charts_archive_is_found_by_its_version(tmp_path: Path) -> None:
    for version in ("1.29.0", "1.29.1"):
        (tmp_path / f"istiod-{version}.tgz").touch()
    place = tmp_path / "istiod-1.29.1.tgz"
    assert _installers.chart_location(str(tmp_path), "istiod", "1.29.1")[0] == [str(place)]
    with pytest.raises(InstallerError, match="holds several versions of the chart istiod"):
        _installers.chart_location(str(tmp_path), "istiod", "")


@pytest.mark.parametrize(
    ("charts", "version", "arguments"),
    [
        ("https://c.example/charts", "", ["istiod", "--repo=https://c.example/charts"]),
        ("https://c.example/charts", "1.2.3", ["istiod", "--repo=https://c.example/charts", "--version=1.2.3"]),
        ("oci://r.example/charts/", "1.2.3", ["oci://r.example/charts/istiod", "--version=1.2.3"]),
    ],
)
def test_charts_from_elsewhere(charts: str, version: str, arguments: list[str]) -> None:
    assert _installers.chart_location(charts, "istiod", version)[0] == arguments


@pytest.mark.parametrize(("code", "out"), [(1, ""), (0, "Linux 6.1"), (0, "{}"), (0, '{"clientVersion": null}')])
def test_a_program_that_is_not_istioctl(code: int, out: str) -> None:
    with pytest.raises(InstallerError, match="executable: x isn't istioctl"):
        _installers.Istioctl.find(saying(code, out), "x", Settings())


@pytest.mark.parametrize(("code", "out"), [(1, ""), (0, "v2.17.0"), (0, "v3.16.4"), (0, "v5.0.0"), (0, "hello")])
def test_a_program_that_is_not_a_helm_that_will_do(code: int, out: str) -> None:
    with pytest.raises(InstallerError, match=r"executable: x isn't Helm 3\.17 or newer, or 4"):
        _installers.Helm.find(saying(code, out), "x", Settings(), "/charts", "", adopt=False)


def test_a_precheck_that_cannot_be_read_is_an_error_only_if_it_failed() -> None:
    assert _installers.Istioctl(saying(0, "all is well"), Settings(), "1").precheck() == []
    found = _installers.Istioctl(saying(1, 'x [{"level": "Error", "message": "m"}]'), Settings(revision="r"), "1")
    assert found.precheck() == [{"level": "Error", "message": "m"}]
    with pytest.raises(InstallerError, match="no cluster"):
        _installers.Istioctl(saying(1, "", "no cluster"), Settings(), "1").precheck()


@pytest.mark.parametrize(
    ("kind", "plural"), [("NetworkPolicy", "networkpolicies"), ("IngressClass", "ingressclasses"), ("Role", "roles")]
)
def test_plurals(kind: str, plural: str) -> None:
    assert _objects.plural(kind) == plural


class Module:
    """What of an AnsibleModule is used to run a program."""

    def __init__(self, tmp_path: Path, **params: Any) -> None:
        self.params = params
        self.tmpdir = str(tmp_path)
        self.ran: list[tuple[list[str], dict[str, str]]] = []

    def get_bin_path(self, name: str) -> str:
        return f"/bin/{name}"

    def run_command(self, command: list[str], *, data: str, environ_update: dict[str, str]) -> tuple[int, str, str]:
        self.ran.append((command, environ_update))
        return 0, data, ""


def test_a_program_gets_the_modules_kubeconfig_and_context(tmp_path: Path) -> None:
    module = Module(tmp_path, kubeconfig="/k", context="c")
    assert _programs.runner(module, "helm", "--kube-context")(["list"], "in") == (0, "in", "")
    assert module.ran == [(["/bin/helm", "list", "--kube-context=c"], {"KUBECONFIG": "/k"})]


def test_a_kubeconfig_that_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    module = Module(tmp_path, host="https://a", api_key="secret")
    _programs.runner(module, "istioctl", "--context")(["version"], "")
    path = Path(module.ran[0][1]["KUBECONFIG"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["users"][0]["user"]["token"] == "secret"
