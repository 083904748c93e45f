"""A Gateway API bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _bundle
from memory_api import Server
from memory_api.server import Request

from .conftest import RunModule


def definition(name: str, version: str | None) -> dict[str, Any]:
    annotations = {"gateway.networking.k8s.io/bundle-version": version} if version else None
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
    }


@pytest.mark.parametrize(
    ("given", "live", "applied"),
    [
        ("v1.6.0", None, True),
        ("v1.6.0", "", True),
        ("v1.6.0", "v1.5.9", True),
        ("v1.10.0", "v1.9.0", True),
        ("v1.6.0", "v1.6.0-rc.2", True),
        ("v1.6.0-rc.10", "v1.6.0-rc.9", True),
        ("v1.6.0", "v1.6.0", False),
        ("v1.5.0", "v1.6.0", False),
        ("v1.6.0-rc.1", "v1.6.0", False),
    ],
)
def test_definitions_are_applied_when_missing_or_older(given: str, live: str | None, applied: bool) -> None:
    there = [] if live is None else [definition("a", live)]
    assert bool(_bundle.outdated([definition("a", given)], there)) is applied


CHANNEL = "gateway.networking.k8s.io/channel"


def of(channel: str, version: str) -> dict[str, Any]:
    made = definition("a", version) | {"spec": {"group": "x"}}
    made["metadata"]["annotations"][CHANNEL] = channel
    return made


@pytest.mark.parametrize(
    ("live", "given", "applied"),
    [
        ("experimental", "standard", False),
        ("experimental", "experimental", True),
        ("standard", "experimental", True),
        ("standard", "standard", True),
    ],
)
def test_the_experimental_channel_is_never_replaced_by_the_standard_one(live: str, given: str, applied: bool) -> None:
    older, newer = of(live, "v1.5.0"), of(given, "v1.6.0")
    assert bool(_bundle.outdated([newer], [older])) is applied
    assert _bundle.held_back([newer], [older]) == ([] if applied else ["a"])
    assert _bundle.held_back([older], [newer]) == []


def test_two_channels_at_once_are_refused() -> None:
    with pytest.raises(ModelError, match="given twice"):
        _bundle.outdated([definition("a", "v1.6.0"), definition("a", "v1.6.0")], [])


# --- the module, whole ---


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    write(folder, "v1.6.0", "a", "b")
    return folder


def write(folder: Path, version: str, *names: str) -> None:
    text = yaml.safe_dump_all(definition(name, version) | {"spec": {"group": "x"}} for name in names)
    (folder / "standard.yaml").write_text(text)


def establish(server: Server) -> None:
    """What the API server does by itself: definitions that are written become served."""

    def after(request: Request) -> None:
        for found in server.objects.values():
            if found["kind"] == "CustomResourceDefinition":
                found["status"] = {"conditions": [{"type": "Established", "status": "True"}]}

    server.after = after


def test_definitions_are_written_once(run: RunModule, server: Server, bundle: Path) -> None:
    establish(server)
    check = run("gateway_api_crds", path=str(bundle), check=True)
    assert [each["name"] for each in check["changes"]] == ["a", "b"]
    assert server.writes() == []
    assert run("gateway_api_crds", path=str(bundle))["changed"]
    assert not run("gateway_api_crds", path=str(bundle))["changed"]


def test_an_older_one_is_replaced_and_the_difference_names_versions(
    run: RunModule, server: Server, bundle: Path
) -> None:
    establish(server)
    server.add(definition("a", "v1.5.0") | {"spec": {"group": "x"}})
    result = run("gateway_api_crds", path=str(bundle))
    assert result["diff"]["before"] == "CustomResourceDefinition a: v1.5.0, no channel\n"
    assert "CustomResourceDefinition a: v1.6.0, no channel\n" in result["diff"]["after"]


def test_a_newer_one_stays(run: RunModule, server: Server, bundle: Path) -> None:
    establish(server)
    server.add(definition("a", "v1.7.0") | {"spec": {"group": "x"}})
    assert [each["name"] for each in run("gateway_api_crds", path=str(bundle))["changes"]] == ["b"]


def test_one_of_the_experimental_channel_stays_and_is_told(run: RunModule, server: Server, bundle: Path) -> None:
    establish(server)
    server.add(of("experimental", "v1.5.0"))
    result = run("gateway_api_crds", path=str(bundle))
    assert [each["name"] for each in result["changes"]] == ["b"]
    assert "path: a stay older" in str(result["warnings"])


def test_only_what_we_wrote_is_removed(run: RunModule, server: Server, bundle: Path) -> None:
    establish(server)
    server.add(definition("a", "v1.7.0") | {"spec": {"group": "x"}})
    run("gateway_api_crds", path=str(bundle))
    run("gateway_api_crds", path=str(bundle), state="absent")
    assert server.get("CustomResourceDefinition", "", "a") is not None
    assert server.get("CustomResourceDefinition", "", "b") is None


@pytest.mark.parametrize("text", ["kind: ConfigMap\nmetadata: {name: a}\n", "kind: List\n", "- one\n- two\n", "text"])
def test_a_path_without_a_bundle_is_refused(run: RunModule, tmp_path: Path, text: str) -> None:
    assert "path:" in run("gateway_api_crds", path=str(tmp_path / "nowhere.yaml"))["msg"]
    (tmp_path / "other.yaml").write_text(text)
    assert (
        "holds no object of a Gateway API bundle" in run("gateway_api_crds", path=str(tmp_path / "other.yaml"))["msg"]
    )
