"""Server-side apply: merging by the schema of a kind, and who owns which field.

The rules are those of Kubernetes' structured-merge-diff (v6), which its API server uses:
https://kubernetes.io/docs/reference/using-api/server-side-apply/

A path is a tuple of elements: ("f", name), ("k", ((key, value), ...)) for an item of a keyed list, ("v", value) for an
item of a set. A set of fields is a set of paths.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

Path = tuple[tuple[str, Any], ...]
Paths = frozenset[Path]

NAMED = frozenset(
    {
        (("f", "apiVersion"),),
        (("f", "kind"),),
        (("f", "metadata"),),
        *((("f", "metadata"), ("f", name)) for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
            "resourceVersion",
        )),
    }
)  # fmt: skip
"""What nobody owns, as it names the object."""


@dataclass(frozen=True)
class Schema:
    """How a value merges. `atomic` values are one leaf; lists are atomic unless they have `keys` or are a `set`."""

    atomic: bool = False
    keys: tuple[str, ...] = ()
    is_set: bool = False
    fields: dict[str, Schema] = field(default_factory=dict)
    items: Schema | None = None

    def child(self, name: str) -> Schema:
        return self.fields.get(name, PLAIN)

    @property
    def item(self) -> Schema:
        return self.items or PLAIN


PLAIN = Schema()
ATOMIC = Schema(atomic=True)


def element(schema: Schema, value: Any) -> tuple[str, Any]:
    """Name an item of a list."""
    if schema.is_set:
        return ("v", value)
    return ("k", tuple(sorted((key, value[key]) for key in schema.keys if key in value)))


def is_leaf(schema: Schema, value: Any) -> bool:
    if schema.atomic:
        return True
    if isinstance(value, list):
        return not (schema.keys or schema.is_set)
    return not isinstance(value, dict)


def paths_of(value: Any, schema: Schema, at: Path = ()) -> set[Path]:
    """Return the fields of a configuration: what applying it owns."""
    if is_leaf(schema, value):
        return {at}
    found: set[Path] = set()
    if isinstance(value, dict):
        for name, inner in value.items():
            here = (*at, ("f", name))
            found |= paths_of(inner, schema.child(name), here)
            if inner is None or inner == {}:
                found.add(here)
    else:
        for inner in value:
            here = (*at, element(schema, inner))
            found |= paths_of(inner, schema.item, here)
            found.add(here)
    return found


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """Return `live` with all of `config` in it."""
    if live is None or is_leaf(schema, config) or type(live) is not type(config):
        return copy.deepcopy(config)
    if isinstance(config, dict):
        merged = dict(live)
        for name, inner in config.items():
            merged[name] = merge(live.get(name), inner, schema.child(name)) if name in live else copy.deepcopy(inner)
        return merged
    return _merge_items(live, config, schema)


def _merge_items(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    """Merge two keyed lists: live's order, but items in both stand in the order of `config`."""
    left = {element(schema, item): item for item in live}
    right = {element(schema, item): item for item in config}
    shared = [name for name in right if name in left]
    lefts, rights = list(left), list(right)
    out: list[Any] = []
    done: set[Any] = set()
    following = shared.pop(0) if shared else None

    def take(name: Any) -> None:
        done.add(name)
        out.append(merge(left[name], right[name], schema.item) if name in left else copy.deepcopy(right[name]))

    i = j = 0
    while i < len(lefts) or j < len(rights):
        if i < len(lefts) and j < len(rights):
            name = lefts[i]
            if name == rights[j]:
                take(name)
                i, j = i + 1, j + 1
                following = shared.pop(0) if shared else None
                continue
            if name in right and following is not None and following != name:
                i += 1
                continue
        if i < len(lefts):
            name = lefts[i]
            if name not in right:
                out.append(copy.deepcopy(left[name]))
                i += 1
                continue
            if name in done:
                i += 1
        if j < len(rights):
            name = rights[j]
            take(name)
            j += 1
            if following == name:
                following = shared.pop(0) if shared else None
    return out


@dataclass
class Comparison:
    """Paths that differ between two states."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


_ABSENT = object()


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """Return what lies between two states of an object."""
    found = Comparison()
    _compare(old, new, schema, (), found)
    return found


def _compare(old: Any, new: Any, schema: Schema, at: Path, found: Comparison) -> None:
    here = new if isinstance(new, (dict, list)) or old is _ABSENT else old
    if isinstance(here, (dict, list)) and not is_leaf(schema, here):
        # Null is an empty map or list here, but there
        old, new = (type(here)() if side is None else side for side in (old, new))
    empty = all(side is _ABSENT or side is None or side in ({}, []) for side in (old, new))
    if is_leaf(schema, here) or empty or (old is not _ABSENT and new is not _ABSENT and type(old) is not type(new)):
        if old is _ABSENT:
            found.added.add(at)
        elif new is _ABSENT:
            found.removed.add(at)
        elif old != new or type(old) is not type(new):
            found.modified.add(at)
        return
    if isinstance(here, dict):
        one, two = ({} if side is _ABSENT else side for side in (old, new))
        for name in one.keys() | two.keys():
            _compare(one.get(name, _ABSENT), two.get(name, _ABSENT), schema.child(name), (*at, ("f", name)), found)
    else:
        left, right = ({} if side is _ABSENT else {element(schema, item): item for item in side} for side in (old, new))
        for name in left.keys() | right.keys():
            _compare(left.get(name, _ABSENT), right.get(name, _ABSENT), schema.item, (*at, name), found)
    if old is _ABSENT:
        found.added.add(at)
    elif new is _ABSENT:
        found.removed.add(at)


def with_parents(paths: set[Path] | Paths) -> set[Path]:
    """Add the named fields above each path; items of lists stay out, they are owned by themselves."""
    found = set(paths)
    for path in paths:
        found.update(path[:length] for length in range(1, len(path)) if path[length - 1][0] == "f")
    return found


def remove(value: Any, gone: set[Path], schema: Schema) -> Any:
    """Return a value without the fields in `gone`."""
    tree: dict[Any, Any] = {}
    for path in gone:
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[_HERE] = True
    return _remove(value, tree, schema)


_HERE = object()


def _remove(value: Any, tree: dict[Any, Any], schema: Schema) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if is_leaf(schema, value):
        return None
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            below = tree.get(("f", name))
            if below is None:
                kept[name] = inner
            elif _HERE not in below:
                kept[name] = _remove(inner, below, schema.child(name))
        return kept or None
    items = []
    for inner in value:
        below = tree.get(element(schema, inner))
        if below is None:
            items.append(inner)
        elif _HERE not in below:
            items.append(_remove(inner, below, schema.item))
    return items or None


@dataclass
class Owner:
    """One manager's fields. `who` is (manager, operation, apiVersion for updates, subresource)."""

    paths: set[Path]
    api_version: str
    time: str


Who = tuple[str, str, str, str]
Owners = dict[Who, Owner]


class ConflictError(Exception):
    """Fields that others own with other values: [(who, path)]."""

    def __init__(self, fields: list[tuple[Who, Path]]) -> None:
        self.fields = fields
        super().__init__(f"{len(fields)} conflicts")


def _settle(old: Any, new: Any, schema: Schema, owners: Owners, who: Who, *, force: bool) -> Comparison:
    """Take from the other owners what changes under them, or raise ConflictError."""
    found = compare(old, new, schema)
    changed = found.modified | found.added
    clashes = {other: owner.paths & changed for other, owner in owners.items() if other != who}
    if not force and any(clashes.values()):
        raise ConflictError([(other, path) for other in sorted(clashes) for path in sorted(clashes[other], key=shown)])
    for other, paths in clashes.items():
        owners[other].paths -= paths | found.removed
    for other in [other for other, owner in owners.items() if not owner.paths]:
        del owners[other]
    return found


def apply(
    live: dict[str, Any], config: dict[str, Any], schema: Schema, owners: Owners, who: Who, *, force: bool,
    ignored: Path | None, now: str,
) -> dict[str, Any] | None:  # fmt: skip
    """Merge `config` into `live` as its owner's whole wish; `owners` is changed. None if no value changes.

    `ignored` is the part of the object that this endpoint doesn't write.
    """
    merged: dict[str, Any] = merge(live, config, schema)
    last = owners.get(who)
    ours = {path for path in paths_of(config, schema) if ignored is None or path[: len(ignored)] != ignored}
    owners[who] = Owner(ours, config["apiVersion"], last.time if last else now)
    if last is not None and last.paths:
        merged = _prune(merged, schema, owners, last.paths)
    _settle(live, merged, schema, owners, who, force=force)
    if who in owners:
        owners[who].paths -= NAMED
        if not owners[who].paths:
            del owners[who]
    if merged == live:
        return None
    if who in owners:
        owners[who].time = now
    return merged


def _prune(merged: Any, schema: Schema, owners: Owners, last: set[Path]) -> dict[str, Any]:
    """Remove what was applied the last time and is nobody's any more."""
    pruned = remove(merged, with_parents(last), schema)
    managed = set().union(*(owner.paths for owner in owners.values()))
    everything = with_parents(paths_of(merged, schema))
    kept = with_parents(paths_of(pruned, schema)) if pruned is not None else set()
    pruned = remove(merged, everything - (kept | with_parents(managed)), schema)
    kept = with_parents(paths_of(pruned, schema)) if pruned is not None else set()
    result: dict[str, Any] = remove(merged, (everything - kept) & with_parents(last), schema) or {}
    return result


def update(
    live: dict[str, Any], new: dict[str, Any], schema: Schema, owners: Owners, who: Who, *, ignored: Path | None,
    now: str,
) -> None:  # fmt: skip
    """Note who owns what after `new` replaced `live`."""
    mark: Who = ("", "current", "", "")
    found = _settle(live, new, schema, owners, mark, force=True)
    taken = {
        path
        for path in found.modified | found.added
        if path not in NAMED and (ignored is None or path[: len(ignored)] != ignored)
    }
    if not taken:
        return
    previous = owners.get(who)
    owners[who] = Owner(taken | (previous.paths if previous else set()), new["apiVersion"], now)


def shown(path: Path) -> str:
    """Print a path as the server does in its errors: `.spec.ports[port=80,protocol="TCP"].nodePort`."""
    text = ""
    for sort, value in path:
        if sort == "f":
            text += f".{value}"
        elif sort == "k":
            text += "[" + ",".join(f"{key}={json.dumps(inner)}" for key, inner in value) + "]"
        else:
            text += f"[={json.dumps(value)}]"
    return text


def encode(paths: set[Path]) -> dict[str, Any]:
    """Return paths as FieldsV1."""
    tree: dict[str, Any] = {}
    names: dict[tuple[str, Any], str] = {}
    members: set[Path] = set(paths)
    for path in paths:
        node = tree
        for depth, step in enumerate(path):
            name = names.setdefault(step, _name(step))
            inner = node.setdefault(name, {})
            if depth + 1 < len(path) and path[: depth + 1] in members:
                inner["."] = {}
            node = inner
    return tree


def _name(step: tuple[str, Any]) -> str:
    sort, value = step
    if sort == "k":
        return "k:" + json.dumps(dict(value), separators=(",", ":"))
    if sort == "v":
        return "v:" + json.dumps(value, separators=(",", ":"))
    return f"f:{value}"


def decode(fields: dict[str, Any], at: Path = ()) -> set[Path]:
    """Return FieldsV1 as paths."""
    found: set[Path] = set()
    for name, inner in fields.items():
        if name == ".":
            found.add(at)
            continue
        sort, _colon, text = name.partition(":")
        value: Any = text
        if sort == "k":
            value = tuple(sorted(json.loads(text).items()))
        elif sort == "v":
            value = json.loads(text)
        here = (*at, (sort, value))
        found |= decode(inner, here) if inner else {here}
    return found
