# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Typed reading of maps that a user wrote: every mistake is noted with its path, none stops the reading."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is (`exposures[2].tls.secret`), what is wrong, and what to do about it."""

    path: str
    message: str
    cure: str = ""
    exposure: str = ""

    def __str__(self) -> str:
        place = f"{self.path} ({self.exposure})" if self.exposure else self.path
        text = ". ".join(part.rstrip(".") for part in (f"{place}: {self.message}", self.cure) if part)
        return text if text.endswith("?") else f"{text}."


@dataclass(slots=True)
class Log:
    """The problems so far. `exposure` is the name of the entry being read."""

    problems: list[Problem] = field(default_factory=list)
    exposure: str = ""

    def add(self, path: str, message: str, cure: str = "") -> None:
        self.problems.append(Problem(path, message, cure, self.exposure))


_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_LONGEST = 24 * 3_600_000
_DURATION = re.compile(r"([0-9]{1,5}(h|ms|m|s)){1,4}")


def kind_of(value: object) -> str:
    """Name a value's type as people who write YAML call it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, Iterable):
        return "a list"
    return f"of type {type(value).__name__}"


def as_text(value: object) -> str:
    """Say how to write what isn't a text and should be one."""
    return "Write one text" if isinstance(value, (Mapping, list, tuple)) else "Put it in quotes"


def quoted(words: Iterable[str]) -> str:
    """Join words for a message: `a`, `b` or `c`."""
    marked = [f"`{word}`" for word in words]
    return marked[0] if len(marked) == 1 else ", ".join(marked[:-1]) + " or " + marked[-1]


class Node:
    """A map in the user's list. A key whose value is None counts as not written: Ansible fills options in that way."""

    __slots__ = ("_items", "log", "mapped", "path", "strange")

    def __init__(self, value: object, path: str, log: Log, known: Collection[str]) -> None:
        self.path = path
        self.log = log
        self._items: dict[str, Any] = {}
        self.mapped = isinstance(value, Mapping)
        self.strange = False  # whether there is a key that nobody knows
        if not isinstance(value, Mapping):
            log.add(path, f"is {kind_of(value)}, a map is expected", f"Write a map with {quoted(sorted(known))}")
            return
        self._items = {str(key): item for key, item in value.items() if item is not None}
        unknown = [key for key in self._items if key not in known]
        self.strange = bool(unknown)
        for key in unknown:
            names = sorted(known)
            near = difflib.get_close_matches(key.lower(), names, n=1)
            cure = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(names)}"
            log.add(self.at(key), "is not known", cure)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def add(self, key: str, message: str, cure: str = "") -> None:
        """Note a problem with one field; of what is no map at all nothing more is said."""
        if self.mapped:
            self.log.add(self.at(key), message, cure)

    def raw(self, key: str) -> Any:
        return self._items.get(key)

    def given(self, *keys: str) -> list[str]:
        """Return those of `keys` that the user wrote, in their order."""
        return [key for key in keys if key in self._items]

    def says_nothing(self) -> bool:
        """Tell whether it is a map without a key. One that nobody knows is told already."""
        return self.mapped and not self._items

    def text(self, key: str, pattern: re.Pattern[str] | None = None, rule: str = "", cure: str = "") -> str | None:
        """Read a text. A whole number counts as one, since YAML takes the quotes away from `version: 1`."""
        value = self._items.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            self.add(key, f"is {kind_of(value)}, a text is expected", as_text(value))
            return None
        value = str(value)  # plain, where Ansible passes a marked subclass
        if not value:
            self.add(key, "is empty", "Write a value, or leave the field out")
            return None
        if pattern is not None and not pattern.fullmatch(value):
            self.add(key, f"`{shown(value)}` is not {rule}", cure)
            return None
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Read one of `choices`, whatever its case."""
        value = self.text(key)
        if value is None:
            return None
        for choice in choices:
            if choice.lower() == value.lower():
                return choice
        self.add(key, f"`{shown(value)}` is not known", f"Write {quoted(choices)}")
        return None

    def number(self, key: str, low: int, high: int, cure: str = "") -> int | None:
        """Read a whole number between `low` and `high`; a text of digits counts as one, as templates yield texts."""
        value = self._items.get(key)
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.add(key, f"is {kind_of(value)}, a whole number is expected", f"Write a number from {low} to {high}")
            return None
        if not low <= value <= high:
            self.add(key, f"{value} is outside {low} to {high}", cure or f"Write a number from {low} to {high}")
            return None
        return int(value)

    def seconds(self, key: str, low: float, high: float) -> float | None:
        """Read a number of seconds between `low` and `high`, whole or not; a text counts as one, as for `number`."""
        value = self._items.get(key)
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.add(key, f"is {kind_of(value)}, a number is expected", f"Write seconds from {low:g} to {high:g}")
            return None
        if not low <= value <= high:
            self.add(key, f"{value:g} is outside {low:g} to {high:g}", f"Write seconds from {low:g} to {high:g}")
            return None
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._items.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        self.add(key, f"is {kind_of(value)}, true or false is expected", "Write `true` or `false`")
        return default

    def duration(self, key: str) -> int | None:
        """Read a time such as `5s`, `250ms` or `1m30s`; returns milliseconds."""
        value = self._items.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            said = f"`{shown(str(value))}`" if isinstance(value, (str, int, float)) else kind_of(value)
            self.add(key, f"{said} is not a duration", "Write a number with its unit, such as `5s`, `250ms` or `1m30s`")
            return None
        total = sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(h|ms|m|s)", value))
        if not 1 <= total <= _LONGEST:
            said = "short" if total < 1 else "long"
            self.add(key, f"`{value}` is too {said}", "Write a time from `1ms` to `24h`, or leave the field out")
            return None
        return total

    def node(self, key: str, known: Collection[str]) -> Node | None:
        value = self._items.get(key)
        return None if value is None else Node(value, self.at(key), self.log, known)

    def items(self, key: str) -> list[tuple[str, Any]] | None:
        """Read a list as (path, item) pairs. None when it was not written or is no list."""
        value = self._items.get(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)):
            self.add(key, f"is {kind_of(value)}, a list is expected", "Write a list, even of one item")
            return None
        return [(f"{self.at(key)}[{index}]", item) for index, item in enumerate(value)]

    def texts(self, key: str) -> list[tuple[str, str]] | None:
        """Read a list of texts as (path, text) pairs; what is no text is noted and left out."""
        found = self.items(key)
        if found is None:
            return None
        good = []
        for path, item in found:
            if isinstance(item, str) and item:
                good.append((path, str(item)))
            else:
                said = "is empty" if item == "" else f"is {kind_of(item)}, a text is expected"
                self.log.add(path, said, "Write a text, in quotes where it looks like a number")
        return good

    def pairs(self, key: str) -> list[tuple[str, str, Any]] | None:
        """Read a map of any keys as (path, key, value), sorted by key."""
        value = self._items.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.add(key, f"is {kind_of(value)}, a map is expected", "Write `name: value` pairs")
            return None
        return sorted(
            ((f"{self.at(key)}.{name}", str(name), item) for name, item in value.items() if item is not None),
            key=lambda entry: entry[1],
        )


def shown(text: str) -> str:
    """Cut a text to what fits into a message. A key that was put into the wrong field is not shown at all."""
    if "PRIVATE KEY" in text:
        return "(a private key)"
    return text if len(text) <= 80 else text[:77] + "..."
