"""The repository's pages, read: blocks of code with the marks above them, headings, links, and names in the text."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
# Written by programs: antsibull-changelog, and the measurements of tests/bench
GENERATED = {"CHANGELOG.md", "benchmarks.md", "failover.md", "findings-compared.md"}
PLUGINS = {"modules": "module", "filter": "filter"}
# A prefix of a role's options, or of what the playbooks read
VARIABLE = re.compile(r"(?<!\w)(?:edgeway|istio|keepalived|haproxy|exposures|gateway_ports)_[a-z0-9_]*[a-z0-9]")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block. `covered` is what its mark names: `<!-- tested by PATH -->` on the line above."""

    page: Path
    line: int
    language: str
    text: str
    covered: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @functools.cached_property
    def data(self) -> Any:
        return yaml.safe_load(self.text)


def pages() -> list[Path]:
    """Every page for people: those in folders of tools and caches aren't ours."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md"), *ROOT.glob("lab/*.md")]
    return sorted(path for path in set(found) if path.name not in GENERATED)


def blocks(page: Path) -> list[Block]:
    """Every block of code; AssertionError for one that isn't fenced, as it can't say what it is."""
    found, fence, above = [], None, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence, start, inside = line[3:].strip(), number, list[str]()
                mark = re.fullmatch(r"<!-- tested by (\S+) -->", above)
            else:
                text = "\n".join(inside) + "\n"
                found.append(Block(page, start, fence, text, mark[1] if mark else ""))
                fence = None
        elif fence is not None:
            inside.append(line)
        else:
            assert not (line.startswith("    ") and not above), f"{page}:{number}: a block without a fence"
        above = line
    assert fence is None, f"{page}: a fence that isn't closed"
    return found


def prose(page: Path) -> str:
    """What isn't in a fence."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What may stand behind # in a link, as GitHub and GitLab make it of headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """The options of all roles, with what their specs say."""
    found: dict[str, dict[str, Any]] = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= entry.get("options") or {}
    return found


@functools.cache
def inventory_variables() -> frozenset[str]:
    """The `edgeway_` variables that playbooks read and don't set: what a user may write into an inventory."""
    used: set[str] = set()
    own: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("register", "loop_var"):
                    own.add(value)
                elif key not in ("hosts", "name"):
                    own.add(key)
                    walk(value)
        elif isinstance(node, list):
            for each in node:
                walk(each)
        elif isinstance(node, str):
            used.update(re.findall(r"\bedgeway_\w+", node))

    for path in ROOT.glob("playbooks/**/*.yml"):
        walk(yaml.safe_load(path.read_text()))
    # Named in what a filter is given, and never a variable
    return frozenset(used - own - {"edgeway_edge"})


@functools.cache
def names() -> dict[str, set[str]]:
    """What `edgeway.istio.NAME` may be, by kind."""
    return {
        "playbook": {path.stem for path in ROOT.glob("playbooks/*.yml")},
        "role": {path.name for path in ROOT.glob("roles/*")},
        **{kind: {path.stem for path in ROOT.glob(f"plugins/{folder}/*.py")} for folder, kind in PLUGINS.items()},
    }
