"""Every block of code in the pages for people is checked here, or says which test runs it."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse
from unit.docs.pages import ROOT, Block, blocks, inventory_variables, names, options, pages, prose
from unit.model.lists import CERTIFICATE, KEY

BLOCKS = [block for page in pages() for block in blocks(page)]
YAML = [block for block in BLOCKS if block.language == "yaml"]
INSTALLED = "~/.ansible/collections/ansible_collections/edgeway/istio/"
SHELL = [block for block in BLOCKS if block.language == "shell"]
# What stands for Jinja of the examples: a lookup reads a certificate, a variable is a key
FILLED = {r"\{\{ lookup\('ansible.builtin.file', '[a-z-]+.pem'\) \}\}": CERTIFICATE, r"\{\{ vault_\w+ \}\}": KEY}


def run(*command: str, folder: Path = ROOT) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, f"{shlex.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def is_list(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(entry, dict) and "protocol" in entry for entry in data)


def is_playbook(data: Any) -> bool:
    return isinstance(data, list) and any({"hosts", "ansible.builtin.import_playbook"} & set(play) for play in data)


def is_inventory(data: Any) -> bool:
    return isinstance(data, dict) and any(isinstance(group, dict) and "hosts" in group for group in data.values())


def is_variables(data: Any) -> bool:
    return isinstance(data, dict) and not is_inventory(data) and data.keys() <= inventory_variables() | options().keys()


def kind_of(block: Block) -> str:
    kinds = {
        "exposures": is_list,
        "playbook": is_playbook,
        "inventory": is_inventory,
        "variables": is_variables,
        "requirements": lambda data: isinstance(data, dict) and data.keys() == {"collections"},
    }
    (found,) = [kind for kind, fits in kinds.items() if fits(block.data)] or [""]
    return found


def exposures_in(data: Any) -> list[dict[str, Any]]:
    """The exposure list of a block, with text for its Jinja."""
    text = json.dumps(data if isinstance(data, list) else data["edgeway_exposures"])
    for jinja, value in FILLED.items():
        text = re.sub(jinja, lambda _found, value=value: json.dumps(value)[1:-1], text)
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} <= {"yaml", "shell", "mermaid", "text"}
    unknown = [str(block) for block in YAML if not kind_of(block)]
    assert not unknown
    # Text can't be checked by itself
    assert not [str(block) for block in BLOCKS if block.language == "text" and not block.covered]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.covered], ids=str)
def test_what_a_mark_names_is_there(block: Block) -> None:
    assert (ROOT / block.covered).exists()


def with_lists() -> list[Block]:
    return [
        block
        for block in YAML
        if kind_of(block) == "exposures" or (kind_of(block) == "variables" and "edgeway_exposures" in block.data)
    ]


@pytest.mark.parametrize("block", with_lists(), ids=str)
def test_an_exposure_list(block: Block) -> None:
    """It can be published through the API that it is for; the other one makes objects of it, or says why not."""
    entries = exposures_in(block.data)
    wanted = "gateway_api" if "# api: gateway_api" in block.text else "istio"
    for api, generate in (("istio", _istio_api.generate), ("gateway_api", _gateway_api.generate)):
        try:
            assert generate(parse(entries, api=api))
        except ModelError:
            assert api != wanted, block


@pytest.mark.parametrize("block", [block for block in YAML if kind_of(block) == "variables"], ids=str)
def test_variables(block: Block) -> None:
    """The types are those of the roles' specs; what a role is handed by a playbook is checked with the list."""
    given = {name: value for name, value in block.data.items() if name in options()}
    checked = ArgumentSpecValidator({name: options()[name] for name in given}).validate(given)
    assert not checked.error_messages


@pytest.mark.parametrize("block", [block for block in YAML if kind_of(block) == "inventory"], ids=str)
def test_an_inventory(block: Block, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(block.text)
    read = json.loads(run("ansible-inventory", "--inventory", str(tmp_path / "hosts.yml"), "--list"))
    assert read["edges"]["hosts"] == list(block.data["edges"]["hosts"])
    for variables in read["_meta"]["hostvars"].values():
        ours = {name for name in variables if not name.startswith("ansible_")}
        assert ours <= inventory_variables() | options().keys()


def test_playbooks(tmp_path: Path) -> None:
    """All at once: starting Ansible takes longer than reading them."""
    paths = []
    for number, block in enumerate(block for block in YAML if kind_of(block) == "playbook"):
        path = tmp_path / f"{number}-of-{block.page.stem}.yml"
        path.write_text(block.text)
        paths.append(str(path))
    run("ansible-playbook", "--inventory", "inventories/example", "--syntax-check", *paths)


@pytest.mark.parametrize("block", [block for block in YAML if kind_of(block) == "requirements"], ids=str)
def test_requirements(block: Block) -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    wanted = {entry["name"]: entry for entry in block.data["collections"]}
    assert wanted.keys() == {f"./edgeway-istio-{galaxy['version']}.tar.gz", *galaxy["dependencies"]}
    assert all(wanted[name]["version"] == version for name, version in galaxy["dependencies"].items())


def commands(block: Block) -> Iterator[list[str]]:
    """Each command of a block as words, without comments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def variables_of(words: Sequence[str]) -> list[str]:
    """The names behind -e and --extra-vars."""
    given = [after for before, after in itertools.pairwise(words) if before in ("-e", "--extra-vars")]
    return [pair.partition("=")[0] for text in given for pair in text.split()]


def read_by(playbook: Path) -> set[str]:
    """The words of a playbook, without its comments."""
    return set(re.findall(r"\w+", json.dumps(yaml.safe_load(playbook.read_text()))))


def runs_playbook(words: list[str]) -> bool:
    """A playbook of ours or of this checkout, with variables that it, or a role, knows."""
    (playbook,) = [word for word in words[1:] if re.match(r"edgeway\.istio\.|.*\.yml$", word)]
    name = playbook.removeprefix("edgeway.istio.")
    path = ROOT / (playbook if playbook.endswith(".yml") else f"playbooks/{name}.yml")
    if not path.exists():
        # An example's own, which another block of the page shows
        return playbook in {"site.yml", "vip.yml"}
    return all(name in read_by(path) | inventory_variables() | options().keys() for name in variables_of(words))


def runs_module(words: list[str]) -> bool:
    (module,) = [after for before, after in itertools.pairwise(words) if before == "-m"]
    (arguments,) = [after for before, after in itertools.pairwise(words) if before == "-a"]
    documented = json.loads(run("ansible-doc", "--json", module))[module]["doc"]["options"]
    return {pair.partition("=")[0] for pair in arguments.split()} <= documented.keys()


def runs_make(words: list[str]) -> bool:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    switches = set(re.findall(r"^(?:ifdef )?([A-Z_]+)(?: \?=|$)", makefile, re.MULTILINE)) | {"ARGS", "ONLY"}
    return all(word.partition("=")[0] in switches if "=" in word else word in targets for word in words[1:])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text(page: Path) -> None:
    assert all(runs_make(shlex.split(command)) for command in re.findall(r"`(make [^`]+)`", prose(page)))
    known = set().union(options(), inventory_variables(), *(read_by(path) for path in ROOT.glob("playbooks/*.yml")))
    assert set(re.findall(r"`-e (\w+)=", prose(page))) <= known


def names_documented(words: list[str]) -> bool:
    kinds = {"module", "role", "filter"}
    kind = words[words.index("-t") + 1] if "-t" in words else "module"
    return kind in kinds and words[-1].removeprefix("edgeway.istio.") in names()[kind]


CHECKS = {
    "ansible-playbook": runs_playbook,
    "ansible": runs_module,
    "ansible-doc": names_documented,
    "make": runs_make,
    "export": lambda words: all(re.fullmatch(r"K8S_AUTH_[A-Z_]+=.*", word, re.DOTALL) for word in words[1:]),
    "source": lambda words: words == ["source", ".lab/env"],
}


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands(block: Block) -> None:
    for words in commands(block):
        check = CHECKS.get(words[0])
        if words[:3] == ["kubectl", "apply", "-f"]:
            # A clone holds what lies there once it is installed
            assert (ROOT / words[3].removeprefix(INSTALLED)).exists(), words
        elif check is None:
            assert block.covered, f"{block}: {words[0]} isn't checked: say which test runs it"
        else:
            assert check(words) or block.covered, f"{block}: {shlex.join(words)}"


def test_the_playbooks_by_their_full_names() -> None:
    every = [f"edgeway.istio.{name}" for name in sorted(names()["playbook"])]
    run("ansible-playbook", "--inventory", "inventories/example", "--syntax-check", *every)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "mermaid"], ids=str)
def test_a_drawing(block: Block) -> None:
    """Each line declares something or joins two things, and each thing that is joined has a label somewhere."""
    first, *lines = [line.strip() for line in block.text.splitlines()]
    assert re.fullmatch(r"flowchart (LR|TB)", first)
    node = r"""([a-z]+)(?:\(\[[^\]]+\]\)|\[\([^)]+\)\]|\["[^"]+"\])?"""
    arrow = r"""(?:-->|-->\|"[^"]+"\||-\. "[^"]+" \.->)"""
    depth = 0
    labelled: set[str] = set()
    used: set[str] = set()
    for line in lines:
        if re.fullmatch(r"subgraph \w+( \[[^\]]+\])?", line):
            depth += 1
        elif line == "end":
            depth -= 1
        else:
            joined = re.fullmatch(rf"{node}(?: {arrow} {node})?", line)
            assert joined, line
            used |= {name for name in joined.groups() if name}
            labelled |= set(re.findall(r"([a-z]+)[\[(]", line))
    assert depth == 0
    assert used - {"client", "istiod"} <= labelled
