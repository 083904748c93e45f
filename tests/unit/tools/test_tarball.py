"""What the built collection holds: all that users need, and nothing of the work on it."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[tarfile.TarInfo]:
    """Built as git has it: what is ignored or not yet known to it can't come along."""
    folder = tmp_path_factory.mktemp("tarball")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            copy = folder / "clone" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                copy.symlink_to((ROOT / name).readlink())
            else:
                copy.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(folder)],
        cwd=folder / "clone",
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("edgeway-istio-*.tar.gz")
    with tarfile.open(path) as tarball:
        return tarball.getmembers()


def test_what_is_in_it(members: list[tarfile.TarInfo]) -> None:
    top = {member.name.partition("/")[0] for member in members}
    pages = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
    made = {"FILES.json", "MANIFEST.json"}
    assert top == {"changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "requirements.txt", "roles"} | (
        pages | made
    )
    names = {member.name for member in members}
    assert {name for name in names if name.startswith("inventories/")} == {
        "inventories/example",
        "inventories/example/group_vars",
        "inventories/example/group_vars/all.yml",
        "inventories/example/hosts.yml",
    }
    assert not any(part.startswith(".") for name in names for part in name.split("/"))


def test_no_link_leads_out_of_it(members: list[tarfile.TarInfo]) -> None:
    """Installing ends with an error where a link's target isn't in the tarball."""
    assert not [member.name for member in members if member.issym() or member.islnk()]
