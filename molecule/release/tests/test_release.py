"""The way of docs/getting-started.md: the tarball, installed offline, publishes from a folder of two files."""

import base64
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from outside import answers, clients
from outside.lab import INVENTORY, ROOT, Lab
from unit.docs.pages import blocks

SET = "release"
HOST, SHOP, PORT = "www.example.com", "shop.example.com", 65530
WEB = {
    "name": "release-web",
    "namespace": "web",
    "protocol": "HTTP",
    "hostnames": [HOST],
    "backend": {"service": "echo", "port": 80},
}
TLS = {
    "name": "release-shop",
    "namespace": "shop",
    "protocol": "HTTPS",
    "hostnames": [SHOP],
    "tls": {"secret": "release-cert"},
    "backend": {"service": "shop", "port": 80},
}
SQL = {
    "name": "release-mysql",
    "namespace": "db",
    "protocol": "TCP",
    "port": PORT,
    "backend": {"service": "mysql", "port": 3306},
}


def of_page(name: str, word: str) -> str:
    """The page's block of commands that says it is tested here and has this word in it."""
    marked = [block for block in blocks(ROOT / "docs" / name) if block.covered == "molecule/release"]
    (text,) = [block.text for block in marked if word in block.text]
    return text


@dataclasses.dataclass(frozen=True)
class Stranger:
    """Somebody with a home, and with nothing of this checkout but what the tarball brings."""

    home: pathlib.Path
    lab: Lab

    @property
    def folder(self) -> pathlib.Path:
        return self.home / "site"

    @property
    def collection(self) -> pathlib.Path:
        return self.home / ".ansible/collections/ansible_collections/edgeway/istio"

    def run(self, commands: str, folder: pathlib.Path, **environment: str) -> str:
        """Run them as a shell does, in the environment that was made; return all that was printed."""
        ours = ("ANSIBLE_", "K8S_AUTH_", "KUBE", "MOLECULE_", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        own = {
            "HOME": str(self.home),
            "PATH": f"{self.home}/edgeway/bin:{ROOT}/.lab/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ANSIBLE_NOCOLOR": "1",
        }
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=kept | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def administers(self, commands: str) -> str:
        return self.run(commands, self.folder, KUBECONFIG=str(ROOT / ".lab/kubeconfig"))

    def publishes(self, *exposures: dict[str, Any]) -> None:
        """Write the one file of variables: the lab's settings for Istio, and the list."""
        text = (INVENTORY / "group_vars/all.yml").read_text()
        settings = yaml.safe_load(text.replace("{{ inventory_dir | dirname | dirname }}", str(ROOT)))
        del settings["edgeway_kubeconfig"]
        wanted = settings | {"edgeway_exposures": exposures, "exposures_set": SET}
        (self.folder / "inventory/group_vars/all.yml").write_text(json.dumps(wanted))


@pytest.fixture(scope="module")
def stranger(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """The page's first commands, with the lowest versions; its inventory, with the lab's addresses."""
    one = Stranger(tmp_path_factory.mktemp("home"), lab)
    clone = one.home / "clone"
    shutil.copytree(
        subprocess.run(
            ["tools/copy-collection", ".cache/release"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip(),
        clone,
    )
    # The package ansible asks for an ansible-core that is a little newer than the lowest
    pins = re.findall(
        r"^(?!ansible-core==)[A-Za-z0-9_.-]+==\S+", (ROOT / "requirements-lowest.txt").read_text(), re.MULTILINE
    )
    (one.home / "pins").write_text("\n".join(pins))
    one.run(of_page("getting-started.md", "collection build"), clone, PIP_CONSTRAINT=str(one.home / "pins"))
    shutil.rmtree(clone)

    (one.folder / "inventory/group_vars").mkdir(parents=True)
    ssh = ROOT / ".lab/ssh"
    variables = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(ssh / "id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={ssh / 'known_hosts'}",
    }
    hosts = {name: {"ansible_host": lab.machines[name]} for name in lab.edges}
    (one.folder / "inventory/hosts.yml").write_text(json.dumps({"edges": {"hosts": hosts, "vars": variables}}))
    one.publishes(WEB)
    yield one
    one.administers("ansible-playbook -i inventory edgeway.istio.expose -e exposures_state=absent")
    left = lab.objects(
        "gateways.networking.istio.io,virtualservices,destinationrules,configmaps",
        "--all-namespaces",
        f"--selector=edgeway.istio/set={SET}",
    )
    shutil.rmtree(one.home / "edgeway")  # half a gigabyte, which pytest would keep
    assert not left
    assert PORT not in lab.ports()


def test_two_files_are_enough(stranger: Stranger, lab: Lab) -> None:
    said = stranger.administers("ansible-playbook -i inventory edgeway.istio.site")
    assert "WARNING" not in said, said
    asked, shown = of_page("getting-started.md", "curl").strip().splitlines()
    assert "ServiceVersion=" in stranger.administers(asked.replace("192.0.2.100", lab.vip))
    assert lab.vip in stranger.administers(shown)
    assert sorted(each.name for each in stranger.folder.rglob("*")) == [
        "all.yml",
        "group_vars",
        "hosts.yml",
        "inventory",
    ]


def test_looking_says_that_nothing_would_change(stranger: Stranger) -> None:
    """A newer version is installed over it, and looked at before it is run."""
    commands = of_page("install.md", "--force")
    shutil.copy(next(stranger.home.glob("edgeway-istio-*.tar.gz")), stranger.folder)
    said = stranger.administers(commands)
    assert set(re.findall(r"changed=(\d+)", said)) == {"0"}, said


def test_a_certificate(stranger: Stranger, lab: Lab) -> None:
    stranger.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout shop.key -out shop.pem "
        f"-subj /CN={SHOP} -addext subjectAltName=DNS:{SHOP} 2>/dev/null",
        stranger.folder,
    )
    stranger.publishes(WEB, TLS)
    commands = of_page("getting-started.md", "kubectl create secret")
    try:
        stranger.administers(commands.replace("shop-cert", "release-cert"))
        answer = clients.https_get(lab.vip, SHOP, ca=(stranger.folder / "shop.pem").read_text())
        assert answer.status == 200
    finally:
        stranger.publishes(WEB)
        stranger.administers("ansible-playbook -i inventory edgeway.istio.expose")
        lab.kubectl("delete", "secret", "release-cert", "--namespace=istio-system", "--ignore-not-found")


def test_who_publishes_needs_no_more_than_the_role(stranger: Stranger, lab: Lab) -> None:
    """install.md's commands, but for the cluster's address and the name of the set in the manifest."""
    manifest = stranger.collection / "roles/exposures/files/rbac.yml"
    rights = manifest.read_text()
    manifest.write_text(rights.replace("edgeway-set-default", f"edgeway-set-{SET}"))
    cluster = yaml.safe_load((ROOT / ".lab/kubeconfig").read_text())["clusters"][0]["cluster"]
    (stranger.folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    commands = of_page("install.md", "create token").replace("https://192.0.2.10:6443", cluster["server"])
    # From the token on without the administrator's kubeconfig
    commands, places = re.subn(r"(export K8S_AUTH_API_KEY=.*)", r"\1\nunset KUBECONFIG", commands)
    assert places == 1
    stranger.publishes(WEB, SQL)
    try:
        said = stranger.administers(commands)
        assert re.search(r"changed=[1-9]", said), said
        lab.opens(lab.vip, PORT)
        query = clients.sql(lab.vip, "SELECT 1", port=PORT, user=answers.SQL_USER, password=answers.SQL_PASSWORD)
        assert query == [(1,)]
        may = ("auth", "can-i", "--as=system:serviceaccount:istio-system:edgeway-exposures")
        for denied in (
            ("get", "secrets", "--namespace=shop"),
            ("patch", "deployments.apps", "--namespace=istio-system"),
        ):
            with pytest.raises(RuntimeError):
                lab.kubectl(*may, *denied)
    finally:
        lab.kubectl("delete", "--filename", str(manifest), "--ignore-not-found")
        manifest.write_text(rights)
