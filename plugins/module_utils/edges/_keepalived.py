# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running keepalived says of itself, and what that means for all edges together.

This runs on the edges, so it keeps to what Python 3.9 has. keepalived writes its state to /tmp/keepalived.data on
SIGUSR1: headings between dashes, and under them lines `name = value`, indented by what they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HEADING = re.compile(r"-+< (.*) >-+")
_LINE = re.compile(r"( *)(\S[^=]*?) = (.*)")
# Interfaces whose addresses are nobody else's concern; kube-proxy in IPVS mode has every Service's on one, on all nodes
_SILENT = ("lo", "kube-ipvs0")
# keepalived-checks.service writes these
_WORDS = {"0": "passed", "1": "failed"}
_CHECK = "check."


@dataclass(frozen=True)
class Router:
    """One virtual router. `since` in seconds since 1970; `state` as keepalived names it, MASTER, BACKUP or FAULT."""

    name: str
    state: str
    since: float
    priority: int
    address: str


@dataclass(frozen=True)
class State:
    """One edge's virtual routers and checks (name to `passed`, `failed` or `unknown`)."""

    routers: tuple[Router, ...]
    checks: dict[str, str]


def _sections(text: str) -> dict[str, list[str]]:
    """Split by heading; a heading may come several times."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        heading = _HEADING.match(line.strip())
        if heading:
            lines = sections.setdefault(heading[1], [])
        else:
            lines.append(line)
    return sections


def _items(lines: Iterable[str], key: str) -> list[tuple[str, list[str]]]:
    """Split a section at each line ` KEY = NAME`."""
    items: list[tuple[str, list[str]]] = []
    for line in lines:
        match = _LINE.match(line)
        if match and match[2] == key and len(match[1]) <= 1:
            items.append((match[3].strip(), []))
        elif items:
            items[-1][1].append(line)
    return items


def _fields(lines: Iterable[str]) -> dict[str, str]:
    """The item's own fields, first of each name."""
    fields: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match:
            fields.setdefault(match[2], match[3].strip())
    return fields


def _number(text: str) -> float:
    match = re.match(r"-?[0-9]+(\.[0-9]+)?", text)
    return float(match[0]) if match else 0.0


def _address(lines: Sequence[str]) -> str:
    """The first address under `Virtual IP (n):`."""
    for number, line in enumerate(lines[:-1]):
        if line.strip().startswith("Virtual IP"):
            return lines[number + 1].split()[0]
    return ""


def parse(text: str) -> State:
    """Read keepalived's state file. What is missing in it is left empty: another version may write less."""
    sections = _sections(text)
    routers = []
    for name, lines in _items(sections.get("VRRP Topology", []), "VRRP Instance"):
        fields = _fields(lines)
        routers.append(
            Router(
                name=name,
                state=fields.get("State", ""),
                since=_number(fields.get("Last transition", "")),
                priority=int(_number(fields.get("Effective priority", ""))),
                address=_address(lines),
            )
        )
    checks = {
        name.removeprefix(_CHECK): _WORDS.get(_fields(lines).get("Status", ""), "unknown")
        for name, lines in _items(sections.get("VRRP Track files", []), "Track file")
        if name.startswith(_CHECK)
    }
    return State(tuple(routers), checks)


def configured_vips(config: str) -> tuple[str, ...]:
    """List the VIPs of a keepalived.conf that the role wrote, without prefixes."""
    return tuple(match[1] for match in re.finditer(r"(?m)^ +([0-9a-f.:]+)/[0-9]+ dev \S+$", config))


def complete(text: str) -> bool:
    """Say whether keepalived has finished writing: interfaces come last."""
    return "< Interfaces >" in text and text.endswith("\n")


@dataclass(frozen=True)
class Overview:
    """All edges together. `lines` are for people; `problems` are sentences, none if every VIP has one holder.

    `installed` says whether the role was ever run on one of them.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]
    installed: bool


def _ago(seconds: float) -> str:
    """A time for people: 42 s, 5 min, 3 h, 8 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def addresses(links: Iterable[Mapping[str, Any]]) -> set[str]:
    """List the addresses of which the network is told."""
    return {
        entry.get("local", "")
        for link in links
        if link.get("ifname") not in _SILENT
        for entry in link.get("addr_info", ())
    }


def overview(edges: Mapping[str, Mapping[str, Any] | None]) -> Overview:
    """Put together what edge_info returned on each edge, with its state; None for an edge that didn't answer."""
    lines: list[str] = []
    problems: list[str] = []
    answered = {name: facts for name, facts in edges.items() if facts is not None}
    vips = list(dict.fromkeys(vip["address"] for facts in answered.values() for vip in facts["vips"]))
    held = {name: [vip for vip in vips if vip in addresses(facts["links"])] for name, facts in answered.items()}
    for address in vips:
        holders = [name for name, have in held.items() if address in have]
        lines.append(f"{address}: {' and '.join(holders) or 'no holder'}")
        if len(holders) != 1:
            what = f"is held by {' and '.join(holders)}" if holders else "is held by no edge that answers"
            problems.append(f"{address} {what}: `journalctl --unit keepalived` on the edges says why.")
    for name, facts in edges.items():
        if facts is None:
            lines.append(f"{name}: no answer")
            problems.append(f"{name} doesn't answer over SSH: what it holds is unknown.")
            continue
        notes = [
            *([] if facts["running"] else ["keepalived doesn't run"]),
            *(["drained"] if facts["drained"] else []),
            *(f"{check} {result}" for check, result in facts["checks"].items()),
        ]
        lines.append(f"{name}: {', '.join(notes) or 'well'}")
        if not facts["running"]:
            problems.append(f"keepalived doesn't run on {name}: `systemctl status keepalived` there says why.")
        said = {vip["address"]: vip for vip in facts["vips"]}
        for address in vips:
            holds = address in held[name]
            if address in said:
                vip = said[address]
                lines.append(
                    f"  {address}: {'held' if holds else 'not held'}, {vip['state']} "
                    f"for {_ago(facts['now'] - vip['since'])}, priority {vip['priority']}"
                )
                if holds != (vip["state"] == "MASTER"):
                    problems.append(
                        f"{name} {'holds' if holds else 'lacks'} {address}, and its keepalived says {vip['state']}."
                    )
            elif holds:
                lines.append(f"  {address}: held, and no virtual router for it")
    installed = any(facts["config"] == "ours" for facts in answered.values())
    return Overview(tuple(lines), tuple(problems), installed)


def may_leave(edges: Mapping[str, Mapping[str, Any] | None], edge: str) -> str:
    """Say why `edge` can't hand over what it holds to a healthy edge; empty if it can. Same input as `overview`."""
    facts = edges.get(edge)
    if facts is None or not facts["running"]:
        return f"{edge} doesn't answer, or its keepalived doesn't run: there is nothing to hand over."
    reasons = []
    for name, other in edges.items():
        if name == edge:
            continue
        failed = [check for check, result in (other or {}).get("checks", {}).items() if result != "passed"]
        if other is None:
            reasons.append(f"{name} doesn't answer")
        elif not other["running"]:
            reasons.append(f"keepalived doesn't run on {name}")
        elif other["drained"]:
            reasons.append(f"{name} is drained")
        elif failed:
            reasons.append(f"{' and '.join(failed)} of {name} failed")
        else:
            return ""
    return f"No other edge could serve: {'; '.join(reasons) or 'there is none'}."
