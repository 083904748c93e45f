"""Links lead somewhere, and names in the text are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from unit.docs.pages import GENERATED, ROOT, VARIABLE, anchors, inventory_variables, names, options, pages, prose

PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


@PAGES
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target.name in GENERATED, link
        assert not anchor or anchor in anchors(target), link


@PAGES
def test_names_of_ours(page: Path) -> None:
    every = set().union(*names().values()) | {"edgeway"}  # the action group
    assert set(re.findall(r"\bedgeway\.istio\.(\w+)", page.read_text())) <= every


@PAGES
def test_variables_in_the_text(page: Path) -> None:
    """A word in code that looks like a variable is one, or stands in what the roles write on an edge."""
    written = "\n".join(path.read_text() for path in ROOT.glob("roles/keepalived/*/*") if path.is_file())
    for code in re.findall(r"`([^`]+)`", prose(page)):
        for name in VARIABLE.findall(code):
            known = name in inventory_variables() | options().keys() | set().union(*names().values())
            assert known or re.search(rf"\b{name}\b", written), name


def test_the_map_of_the_code() -> None:
    """In CONTRIBUTING.md each file of the logic is named once; the steps name files, and functions that are there."""
    text = prose(ROOT / "CONTRIBUTING.md")
    table = text.partition("\n## The logic\n")[2].partition("\n## Rules\n")[0]
    logic = ROOT / "plugins/module_utils"
    files = {str(path.relative_to(logic).with_suffix("")): path.read_text() for path in logic.glob("**/_[a-z]*.py")}
    listed: list[str] = []
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        folder = row.partition("`: ")[0].strip("`") if "`: " in row else ""
        listed += [f"{folder}{name}" for name in re.findall(r"`(_[a-z_]+)`", row)]
        if row.endswith("/`"):
            listed += [name for name in files if name.startswith(row.strip("`"))]
    assert sorted(listed) == sorted(files)
    names = {path.rpartition("/")[2] for path in files}
    functions = {name for text in files.values() for name in re.findall(r"def (_\w+)", text)}
    assert set(re.findall(r"`(_[a-z_]+)`", text)) <= names | functions
    for code in re.findall(r"`([^`\s]*/[^`\s]*)`", text):
        there = code in files or (ROOT / code).exists() or (logic / code).is_dir()
        assert there or code == "dist/docs", code


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    missing = {page.name for page in (ROOT / "docs").glob("*.md") if f"]({page.name})" not in index}
    assert missing - GENERATED == {"README.md"}
    assert all(f"`{name}`" in index or f"]({name})" in index for name in GENERATED - {"CHANGELOG.md"})


def test_every_variable_of_the_playbooks_is_explained() -> None:
    text = (ROOT / "docs/getting-started.md").read_text()
    table = text.partition("\n## Variables\n")[2]
    explained = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in VARIABLE.findall(row)}
    assert explained == inventory_variables()
