# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be written so that the cluster holds the desired objects: pure comparison, no requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _fields, _kinds

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
        manifest = self.after if self.after is not None else self.before
        assert manifest is not None  # noqa: S101 - a change without both is a bug of ours
        return manifest

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
    """Sort changes so that no request is ever sent to something that isn't there.

    Created and updated first: backends' objects, Services, listeners, routes. Then what is removed, the other way
    round: a route goes before the listener and the backend that it names.
    """

    def rank(change: Change) -> tuple[bool, int, str, str, str]:
        phase = _kinds.kind_of(change.manifest).phase
        gone = change.verb == "delete"
        return gone, -phase if gone else phase, change.kind, change.namespace, change.name

    return sorted(changes, key=rank)


def service_ports(service: Mapping[str, Any], ports: list[Manifest]) -> Manifest:
    """Return the apply request that makes us the owner of just these ports of a Service that isn't ours."""
    metadata = service["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": {"ports": ports},
    }
