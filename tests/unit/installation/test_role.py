"""The role istio, run by ansible-playbook: what of it isn't a module's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from memory_api import Server

from .conftest import Program, istiod

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]


def play(folder: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH", "KUBECONFIG"))},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "HOME": str(folder),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", *arguments]
    command += ["--extra-vars", json.dumps({"ansible_python_interpreter": sys.executable, **variables})]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=120
    )


# --- fetching istioctl ---


def archive(folder: Path, name: str, *members: str) -> str:
    with tarfile.open(folder / name, "w:gz") as packed:
        for member in members:
            (folder / "member").write_text(f"#!/bin/sh\necho {member}\n")
            packed.add(folder / "member", member)
    return sha256(folder / name)


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What came of each download: the program's words, or the error."""
    folder = tmp_path_factory.mktemp("fetch")
    small = archive(folder, "istioctl-1.29.0-linux-amd64.tar.gz", "istioctl", "LICENSE")
    whole = archive(folder, "istio-1.29.0-linux-amd64.tar.gz", "istio-1.29.0/tools/istioctl.bash",
                    "istio-1.29.0/bin/istioctl")  # fmt: skip
    empty = archive(folder, "other.tgz", "README.md")
    (folder / "istioctl").write_text("#!/bin/sh\necho plain\n")
    wanted = {
        "small": ("istioctl-1.29.0-linux-amd64.tar.gz", small),
        "whole": ("istio-1.29.0-linux-amd64.tar.gz", whole),
        "plain": ("istioctl", sha256(folder / "istioctl")),
        "wrong": ("istioctl-1.29.0-linux-amd64.tar.gz", "sha256:" + "0" * 64),
        "missing": ("istioctl-1.29.0-linux-amd64.tar.gz", ""),
        "bare": ("istioctl-1.29.0-linux-amd64.tar.gz", "sha256:"),
        "empty": ("other.tgz", empty),
    }
    tasks: list[Json] = []
    for name, (file, checksum) in wanted.items():
        role = {"name": "edgeway.istio.istio", "tasks_from": "fetch"}
        variables = {"istio_istioctl_url": f"file://{folder}/{file}", "istio_istioctl_checksum": checksum}
        run = {"ansible.builtin.command": "{{ istio_fetched_istioctl }}", "register": "said"}
        kept = {"ansible.builtin.set_fact": {f"result_{name}": "{{ said.stdout }}"}}
        error = {"ansible.builtin.set_fact": {f"result_{name}": "{{ ansible_failed_result.msg }}"}}
        tasks.append(
            {"block": [{"ansible.builtin.include_role": role, "vars": variables}, run, kept], "rescue": [error]}
        )
    content = {"content": "{{ results | to_json }}", "dest": str(folder / "results")}
    results = {name: f"{{{{ result_{name} }}}}" for name in wanted}
    tasks.append({"ansible.builtin.copy": content, "vars": {"results": results}})
    hosts = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    (folder / "play.yml").write_text(json.dumps([{**hosts, "tasks": tasks}]))
    done = play(folder, str(folder / "play.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    found: Json = json.loads((folder / "results").read_text())
    return found


@pytest.mark.parametrize(
    ("name", "said"), [("small", "istioctl"), ("whole", "istio-1.29.0/bin/istioctl"), ("plain", "plain")]
)
def test_istioctl_is_fetched_alone_or_in_either_archive(fetched: Json, name: str, said: str) -> None:
    assert fetched[name] == said


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("wrong", "did not match"),
        ("missing", "istio_istioctl_checksum: nothing says what istioctl-1.29.0-linux-amd64.tar.gz must be"),
        ("bare", "istio_istioctl_checksum: nothing says what"),
        ("empty", "istio_istioctl_url: other.tgz holds no istioctl"),
    ],
)
def test_what_is_not_what_was_asked_for_is_refused(fetched: Json, name: str, error: str) -> None:
    assert error in fetched[name]


# --- upgrading by revision, and removing ---


def playbook(name: str, server: Server, istioctl: Program, folder: Path, **variables: Any) -> None:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(server.kubeconfig()))
    given = {"edgeway_kubeconfig": str(kubeconfig), "istio_istioctl": str(istioctl.path), "istio_wait_timeout": 0}
    done = play(folder, str(ROOT / f"playbooks/{name}.yml"), **given, **variables)
    assert done.returncode == 0, done.stdout + done.stderr


def asked(istioctl: Program) -> list[str]:
    """What istioctl was asked for, in order: which gateways to render, where the tag goes."""
    found = []
    for call in json.loads((istioctl.folder / "calls.json").read_text()):
        if call["arguments"][0] == "manifest":
            spec = yaml.safe_load(call["input"])["spec"]
            names = [each["name"] for each in spec["components"]["ingressGateways"]]
            found.append(f"{spec.get('revision', 'default')}: {', '.join(names) or 'no gateway'}")
        elif call["arguments"][0] == "tag":
            found.append(" ".join(each for each in call["arguments"] if "revision" in each))
    return list(dict.fromkeys(found))


def control_plane(name: str) -> Json:
    deployment = istiod()
    deployment["metadata"]["name"] = name
    return deployment


def test_no_gateway_is_served_without_the_default_tag(server: Server, istioctl: Program, tmp_path: Path) -> None:
    """To a named revision the tag moves first; to the default one, which needs none, it moves last."""
    gateways = {"istio_gateways": [{"name": "a"}, {"name": "b"}]}
    playbook("istio", server, istioctl, tmp_path, **gateways)
    (istioctl.folder / "calls.json").unlink()
    istioctl.renders([control_plane("istiod-next")])
    playbook("upgrade", server, istioctl, tmp_path, istio_revision="next", edgeway_upgrade_from="", **gateways)
    assert asked(istioctl) == ["next: no gateway", "--revision=next", "next: a", "next: b"]
    assert server.get("Deployment", "istio-system", "istiod")

    (istioctl.folder / "calls.json").unlink()
    istioctl.renders([istiod()])
    server.objects["apps", "Deployment", "istio-system", "istiod"]["status"] = {"observedGeneration": 99}
    back = {"istio_revision": "", "edgeway_upgrade_from": "next", "edgeway_upgrade_until": "old"}
    playbook("upgrade", server, istioctl, tmp_path, **back, **gateways)
    # istioctl itself takes it back when the first gateway has moved
    assert asked(istioctl) == ["default: no gateway", "default: a", "default: b"]
    tag = server.get("MutatingWebhookConfiguration", "", "istio-revision-tag-default") or {}
    assert tag["metadata"]["labels"]["istio.io/rev"] == "default"
    assert server.get("Deployment", "istio-system", "istiod-next") is None


def test_an_istio_of_somebody_elses_stays_and_our_labels_go(server: Server, istioctl: Program, tmp_path: Path) -> None:
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    server.add(istiod())
    theirs = {"istio_method": "existing", "istio_gateways": []}
    playbook("istio", server, istioctl, tmp_path, istio_injection=["shop"], **theirs)
    assert "istio-injection" in server.objects["", "Namespace", "", "shop"]["metadata"]["labels"]
    playbook("uninstall", server, istioctl, tmp_path, **theirs)
    assert not server.objects["", "Namespace", "", "shop"]["metadata"].get("labels")
    assert server.get("Deployment", "istio-system", "istiod")
