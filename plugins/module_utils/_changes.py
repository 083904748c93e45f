# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be written so that the cluster holds the desired objects: pure comparison, no requests."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One object and what becomes of it.

    `verb` is create, update, delete or unchanged. `before` is the live object (None for create), `after` the manifest
    to apply (None for delete). `manager` is the field manager that applies it.
    """

    verb: str
    before: Manifest | None
    after: Manifest | None
    manager: str

    @property
    def manifest(self) -> Manifest:
        """Whichever there is of the two."""
        return cast("Manifest", self.before if self.after is None else self.after)

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def summary(self) -> dict[str, str]:
        """Return what users get to see of it."""
        return {
            "verb": self.verb,
            "api_version": str(self.manifest["apiVersion"]),
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class Taken:
    """A desired object whose name in the cluster isn't ours to use. `by` is the set that holds it, None for others."""

    manifest: Manifest
    by: str | None

    def __str__(self) -> str:
        what = _kinds.shown(self.manifest)
        if self.by is not None:
            return f"{what} belongs to the set {self.by!r}. Give the exposure another name, or remove it from that set."
        return (
            f"{what} exists already and wasn't made by this collection. Give the exposure another name, or delete "
            f"the object first."
        )


def manager_of(set_name: str) -> str:
    """Return the field manager of a set's own objects."""
    return f"edgeway/{set_name}"


def plan(
    desired: Iterable[Manifest], live: Iterable[Manifest], *, set_name: str, prune: bool = True
) -> tuple[list[Change], list[Taken]]:
    """Compare and return the changes, in the order in which they may be written, and the names that are taken.

    `live` is any part of the cluster that holds at least the desired names and the set's objects; others are left
    alone. With `prune` the set's objects that aren't desired any more are deleted.
    """
    manager = manager_of(set_name)
    present = {_kinds.key_of(item): item for item in live}
    changes: list[Change] = []
    taken: list[Taken] = []
    wanted: set[_kinds.Key] = set()
    for manifest in desired:
        key = _kinds.key_of(manifest)
        wanted.add(key)
        before = present.get(key)
        if before is None:
            changes.append(Change("create", None, manifest, manager))
        elif _kinds.holder(before) != set_name:
            taken.append(Taken(manifest, _kinds.holder(before)))
        elif _fields.settled(manifest, before, manager):
            changes.append(Change("unchanged", before, manifest, manager))
        else:
            changes.append(Change("update", before, manifest, manager))
    if prune:
        changes.extend(
            Change("delete", before, None, manager)
            for key, before in present.items()
            if key not in wanted and _kinds.holder(before) == set_name
        )
    return ordered(changes), taken


def ordered(changes: Iterable[Change]) -> list[Change]:
    """Sort changes as they are shown: by phase, what is removed last."""

    def rank(change: Change) -> tuple[bool, int, str, str, str]:
        phase = _kinds.kind_of(change.manifest).phase
        gone = change.verb == "delete"
        return gone, -phase if gone else phase, change.kind, change.namespace, change.name

    return sorted(changes, key=rank)


@dataclass(frozen=True, slots=True)
class Step:
    """One write. `manifest` is what to apply, None to delete. A change takes one step or two."""

    change: Change
    manifest: Manifest | None


def steps(changes: Iterable[Change]) -> tuple[list[list[Step]], list[list[Step]]]:
    """Return the writes in an order that never sends a request to something that isn't there.

    First all that is added: backends' objects, Services, listeners, routes. Then all that is taken away, the other way
    round: a route goes before the listener and the backend that it names. An object that both gains and loses is
    written twice, first with all of the old and the new. The steps of one inner list may go out together.
    """
    adding: dict[int, list[Step]] = {}
    removing: dict[int, list[Step]] = {}
    for change in ordered(changes):
        phase = _kinds.kind_of(change.manifest).phase
        if change.verb == "delete":
            removing.setdefault(phase, []).append(Step(change, None))
        elif change.verb != "unchanged" and change.after is not None:
            both = widened(change.before, change.after, change.manager) if change.before else change.after
            if both != change.after:
                removing.setdefault(phase, []).append(Step(change, change.after))
            if (
                both == change.after
                or change.before is None
                or not _fields.settled(both, change.before, change.manager)
            ):
                adding.setdefault(phase, []).append(Step(change, both))
    return [group for _phase, group in sorted(adding.items())], [
        group for _phase, group in sorted(removing.items(), reverse=True)
    ]


def widened(before: Manifest, after: Manifest, manager: str) -> Manifest:
    """Return `after` with what it takes away from `before` still in it.

    That is: subsets, ports, servers with their hosts, listeners, allowed namespaces and grants. Of what changes in
    place, `after` has the word.
    """
    lists = _WIDENED.get((_kinds.kind_of(after).group, after["kind"]))
    if lists is None:
        return after
    old = _fields.mine(before, manager)
    spec = dict(after.get("spec") or {})
    for name, same in lists.items():
        earlier = (old.get("spec") or {}).get(name) or []
        if not isinstance(earlier, list) or not earlier:
            continue
        spec[name] = _union(earlier, spec.get(name) or [], same, before["spec"][name])
    return {**after, "spec": spec} if spec else after


Same = tuple[tuple[str, ...], ...]
"""The paths of the fields that make two items of a list the same; none for items that are equal or not."""

_PORT: Same = (("port",), ("protocol",))
_WIDENED: dict[tuple[str, str], dict[str, Same]] = {
    ("", "Service"): {"ports": _PORT},
    (_kinds.ISTIO, "DestinationRule"): {"subsets": (("name",),)},
    (_kinds.ISTIO, "ServiceEntry"): {"hosts": (), "ports": (("name",),)},
    (_kinds.ISTIO, "Gateway"): {"servers": (("port", "number"), ("port", "protocol"), ("tls", "credentialName"))},
    # Two listeners with one port, protocol and hostname are in conflict, whatever their names
    (_kinds.GATEWAY_API, "Gateway"): {"listeners": (("port",), ("protocol",), ("hostname",))},
    (_kinds.GATEWAY_API, "ReferenceGrant"): {"from": (), "to": ()},
}


def _union(earlier: list[Any], later: list[Any], same: Same, there: list[Any]) -> list[Any]:
    """Return what is new with what was ours; `there` are all the items as they are, with what the server chose."""

    def name(item: Any) -> Any:
        return tuple(_at(item, path) for path in same) if same else item

    names = [name(item) for item in later]
    result = []
    for item in later:
        old = next((other for other in earlier if name(other) == name(item)), None)
        result.append(_with_hosts(old, item) if same and old is not None else item)
    # What the server wants to be unique goes to the new item at once
    taken = {
        (key, item[key]) for item in later if isinstance(item, dict) for key in ("name", "nodePort") if key in item
    }
    return result + [
        item
        for item in earlier
        if name(item) not in names
        and not any(
            taken & set(_unique(other)) for other in there if isinstance(other, dict) and name(other) == name(item)
        )
    ]


def _unique(item: Manifest) -> Iterable[tuple[str, Any]]:
    return ((key, item[key]) for key in ("name", "nodePort") if key in item)


def _with_hosts(old: Manifest, new: Manifest) -> Manifest:
    """Keep a server's hosts, and the namespaces that a listener takes routes from."""
    if "hosts" in old and "hosts" in new:
        return {**new, "hosts": new["hosts"] + [host for host in old["hosts"] if host not in new["hosts"]]}
    then, now = _values(old), _values(new)
    if not then or not now or set(then) <= set(now):
        return new
    result = copy.deepcopy(new)
    _values(result).extend(value for value in then if value not in now)
    return result


def _values(listener: Manifest) -> list[str]:
    selector = ((listener.get("allowedRoutes") or {}).get("namespaces") or {}).get("selector") or {}
    expressions = selector.get("matchExpressions") or []
    values: list[str] = expressions[0].get("values", []) if len(expressions) == 1 else []
    return values


def _at(item: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def service_ports(service: Mapping[str, Any], ports: list[Manifest]) -> Manifest:
    """Return the apply request that makes us the owner of just these ports of a Service that isn't ours."""
    metadata = service["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": {"ports": ports},
    }
