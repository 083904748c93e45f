# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Field ownership, as the API server records it in `metadata.managedFields`.

The server notes for each manager which fields it set (server-side apply, FieldsV1): `f:NAME` is a field, `k:{...}` an
item of a list with keys, `v:VALUE` an item of a set, `.` the item itself; `{}` is a leaf, a whole value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

Manifest = dict[str, Any]
Fields = Mapping[str, Any]

_NOISE = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")

#: `kubectl apply` keeps the whole object there, a Secret's values too.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    return json.loads(text)


def owned(live: Mapping[str, Any], manager: str, subresource: str = "") -> Fields | None:
    """Return the fields that `manager` applied, None when it has applied none."""
    for entry in live["metadata"].get("managedFields") or ():
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and entry.get("subresource", "") == subresource
        ):
            fields: Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def bare(manifest: Mapping[str, Any]) -> Manifest:
    """Return a manifest without what names it: what an apply can own."""
    rest = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "namespace")}
    return {**rest, "metadata": metadata} if metadata else rest


def settled(want: Mapping[str, Any], live: Mapping[str, Any], manager: str) -> bool:
    """Whether applying `want` would change nothing, as far as can be told without asking the server.

    True only if `manager` owns the very fields of `want` and they have its values. Values that the server rewrites
    (defaults inside a list that is one value) give False; a dry run then tells.
    """
    fields = owned(live, manager)
    return fields is not None and _same(bare(want), live, fields)


def _same(want: Any, live: Any, fields: Fields) -> bool:
    if not fields:
        return bool(want == live)
    if isinstance(want, dict):
        named = {name[2:]: inner for name, inner in fields.items() if name.startswith("f:")}
        return (
            isinstance(live, dict)
            and named.keys() == want.keys()
            and all(key in live and _same(value, live[key], named[key]) for key, value in want.items())
        )
    if isinstance(want, list) and isinstance(live, list):
        count = 0
        for name, inner in fields.items():
            if name.startswith("k:"):
                count += 1
                keys = _parsed(name[2:])
                ours, theirs = item(want, keys), item(live, keys)
                if ours is None or theirs is None or not _same(ours, theirs, inner):
                    return False
            elif name.startswith("v:"):
                count += 1
                value = _parsed(name[2:])
                if value not in want or value not in live:
                    return False
        return count == len(want)
    return False


def mine(live: Mapping[str, Any], manager: str, subresource: str = "") -> Manifest:
    """Return of a live object only what `manager` applied."""
    fields = owned(live, manager, subresource)
    found: Manifest = _project(live, fields) if fields else {}
    return found


def _project(value: Any, fields: Fields) -> Any:
    if not fields:
        return value
    if isinstance(value, dict):
        return {
            name[2:]: _project(value[name[2:]], inner)
            for name, inner in fields.items()
            if name.startswith("f:") and name[2:] in value
        }
    if isinstance(value, list):
        keyed = [(_parsed(name[2:]), inner) for name, inner in fields.items() if name.startswith("k:")]
        kept = [(entry, inner) for entry in value for keys, inner in keyed if item([entry], keys) is not None]
        members = [_parsed(name[2:]) for name in fields if name.startswith("v:")]
        return [_project(entry, inner) for entry, inner in kept] + [entry for entry in value if entry in members]
    return value


def item(items: Iterable[Any], keys: Mapping[str, Any]) -> Any:
    """Return the item of a keyed list that has these keys, None where there is none."""
    for candidate in items:
        if isinstance(candidate, dict) and all(candidate.get(key) == value for key, value in keys.items()):
            return candidate
    return None


def port_owners(service: Mapping[str, Any], port: int, protocol: str = "TCP", field: str | None = None) -> list[str]:
    """Return the managers that own an entry of a Service's `spec.ports`, or one field of it, in the server's order."""
    names: list[str] = []
    for entry in service["metadata"].get("managedFields") or ():
        ports = ((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:ports") or {}
        for name, inner in ports.items():
            if not name.startswith("k:"):
                continue
            keys = _parsed(name[2:])
            if keys.get("port") == port and keys.get("protocol", "TCP") == protocol:
                manager = entry.get("manager", "unknown")
                if (field is None or f"f:{field}" in inner) and manager not in names:
                    names.append(manager)
    return names


def quiet(live: Mapping[str, Any] | None) -> Manifest | None:
    """Return an object as people read it: without what the server alone writes, secrets hidden."""
    if live is None:
        return None
    shown = {key: value for key, value in live.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in live["metadata"].items() if key not in _NOISE}
    return without_secrets(shown)


def without_secrets(manifest: Mapping[str, Any]) -> Manifest:
    """Return a manifest whose values are hidden if it is a Secret."""
    shown = dict(manifest)
    if shown.get("kind") == "Secret":
        for part in ("data", "stringData"):
            if shown.get(part):
                shown[part] = dict.fromkeys(sorted(shown[part]), "hidden")
        notes = (shown.get("metadata") or {}).get("annotations") or {}
        if _LAST_APPLIED in notes:
            shown["metadata"] = {**shown["metadata"], "annotations": {**notes, _LAST_APPLIED: "hidden"}}
    return shown


def quiet_pair(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Manifest, Manifest]:  # fmt: skip
    """Return both states for a diff, {} for none. Of a Secret it shows which keys changed, not to what."""
    one, two = quiet(before) or {}, quiet(after) or {}
    if before is not None and after is not None and after.get("kind") == "Secret":
        old, new = before.get("data") or {}, after.get("data") or {}
        if "data" in two:
            two["data"] = {key: "hidden" if old.get(key, new[key]) == new[key] else "hidden, changed" for key in new}
    return one, two


def same_object(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of an object are equal to a user: all but times and counters of the server."""

    def core(live: Mapping[str, Any]) -> Manifest:
        rest = {key: value for key, value in live.items() if key != "status"}
        rest["metadata"] = {key: value for key, value in live["metadata"].items() if key not in _NOISE}
        return rest

    return core(one) == core(other)


def same_stored(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of an object are equal, owners included."""

    def entries(live: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
        return sorted(
            (
                str(entry.get("manager")),
                str(entry.get("operation")),
                str(entry.get("subresource", "")),
                json.dumps(entry.get("fieldsV1"), sort_keys=True),
            )
            for entry in live["metadata"].get("managedFields") or ()
        )

    return same_object(one, other) and entries(one) == entries(other)
