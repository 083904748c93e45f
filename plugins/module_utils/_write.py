# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing changes to the cluster as one: all are tried on the server first, and put back if one fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _fields, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError

Manifest = dict[str, Any]


class ApplyError(ClusterError):
    """Nothing has changed in the cluster; `problems` says why, each with its cure."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Tried:
    """What a dry run showed: each change with the object as it would become, and what could not be tried, and why."""

    changes: list[Change]
    results: dict[_kinds.Key, Manifest]
    warnings: list[str] = field(default_factory=list)


def dry_run(cluster: Cluster, changes: Sequence[Change], *, force: bool = False, forgiving: bool = False) -> Tried:
    """Have the server try every write. A write that would change nothing becomes `unchanged`.

    Raises ApplyError with every refusal. `forgiving` (check mode) turns what is only missing so far, a kind that isn't
    served or a namespace, into a warning.
    """

    def attempt(change: Change) -> tuple[Change, Manifest | None, str, str]:
        if change.verb == "unchanged":
            return change, change.before, "", ""
        manifest = change.manifest
        what = _kinds.shown(manifest)
        if not cluster.serves(manifest["apiVersion"], change.kind):
            reason = f"{what}: the cluster doesn't serve {manifest['apiVersion']} {change.kind}."
            return change, None, reason, "missing"
        try:
            if change.verb == "delete":
                cluster.delete(manifest, dry_run=True)
                return change, None, "", ""
            became, _created = cluster.apply(manifest, change.manager, dry_run=True, force=force)
        except RefusedError as refused:
            return change, None, f"{what}: {refused}", "missing" if _no_namespace(refused) else "refused"
        if change.before is not None and _fields.same_stored(change.before, became):
            return replace(change, verb="unchanged"), became, "", ""
        return change, became, "", ""

    outcomes = cluster.every(attempt, changes)
    problems = [reason for _change, _became, reason, why in outcomes if why and not (forgiving and why == "missing")]
    if problems:
        raise ApplyError(_with_cures(problems, outcomes))
    return Tried(
        [change for change, _became, _reason, _why in outcomes],
        {_kinds.key_of(change.manifest): became for change, became, _r, _w in outcomes if became is not None},
        _with_cures([reason for _change, _became, reason, why in outcomes if why], outcomes),
    )


def _no_namespace(refused: RefusedError) -> bool:
    details = refused.body.get("details") or {}
    return refused.status == 404 and details.get("kind") == "namespaces"


def _with_cures(problems: list[str], outcomes: Iterable[tuple[Change, Manifest | None, str, str]]) -> list[str]:
    """Add one cure for all objects whose kind isn't served, and one for all that lack their namespace."""
    missing = [(change, reason) for change, _became, reason, why in outcomes if why == "missing"]
    cures = []
    kinds = sorted({change.kind for change, reason in missing if "doesn't serve" in reason})
    if kinds:
        cures.append(
            f"Install the CRDs of {', '.join(kinds)}: the role edgeway.istio.istio does, or playbooks/istio.yml."
        )
    spaces = sorted({change.namespace for change, reason in missing if "doesn't serve" not in reason})
    if spaces:
        cures.append(f"Create the namespace {', '.join(spaces)} first: kubectl create namespace {spaces[0]}.")
    return problems + cures


@dataclass(frozen=True, slots=True)
class _Written:
    change: Change
    became: Manifest | None


def write(cluster: Cluster, changes: Sequence[Change], *, force: bool = False) -> None:
    """Write the changes in their order; if one fails put back what was written and raise ApplyError.

    Changes of one phase and verb go out together, over all connections.
    """
    done: list[_Written] = []

    def one(change: Change) -> Exception | None:
        try:
            if change.verb == "delete":
                cluster.delete(change.manifest)
                done.append(_Written(change, None))
                return None
            became, created = cluster.apply(change.manifest, change.manager, force=force)
            done.append(_Written(change, became))
            if change.verb == "create" and not created:
                return ClusterError(f"{_kinds.shown(change.manifest)} was made by somebody else in the meantime.")
        except ClusterError as error:
            return ClusterError(f"{_kinds.shown(change.manifest)}: {error}")
        return None

    todo = [change for change in changes if change.verb != "unchanged"]
    try:
        for _phase, together in groupby(todo, key=_phase_of):
            errors = [error for error in cluster.every(one, list(together)) if error is not None]
            if errors:
                raise ApplyError([str(error) for error in errors])
    except BaseException as error:
        left = restore(cluster, done)
        told = list(error.problems) if isinstance(error, ApplyError) else [str(error) or type(error).__name__]
        if left:
            told.append("What was written before could not be put back wholly: " + " ".join(left))
        elif done:
            told.append(f"The {len(done)} objects written before it were put back as they were.")
        if isinstance(error, ApplyError | ClusterError):
            raise ApplyError(told) from error
        raise


def _phase_of(change: Change) -> tuple[bool, int]:
    return change.verb == "delete", _kinds.kind_of(change.manifest).phase


def restore(cluster: Cluster, done: Iterable[_Written]) -> list[str]:
    """Put objects back, the last written first. Returns what could not be put back, and why."""
    left = []
    for written in reversed(list(done)):
        try:
            _restore_one(cluster, written)
        except ClusterError as error:
            left.append(f"{_kinds.shown(written.change.manifest)}: {error}")
    return left


def _restore_one(cluster: Cluster, written: _Written) -> None:
    change, became = written.change, written.became
    if change.verb == "create":
        if became is not None:
            cluster.delete(became)
        return
    before = change.before
    if before is None:
        return
    metadata = {key: value for key, value in before["metadata"].items() if key not in _FRESH}
    original = {**before, "metadata": metadata}
    original.pop("status", None)
    if became is None:
        became = cluster.create(original, change.manager)
    # The server gives every field that this replaces to us. Said again with the old owners it records those
    current = cluster.replace(_at(original, became), change.manager)
    if before["metadata"].get("managedFields"):
        owners = {"managedFields": before["metadata"]["managedFields"]}
        cluster.replace({**original, "metadata": {**_at(original, current)["metadata"], **owners}}, change.manager)


_FRESH = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


def _at(manifest: Manifest, live: Manifest) -> Manifest:
    version = {"resourceVersion": live["metadata"]["resourceVersion"], "uid": live["metadata"]["uid"]}
    return {**manifest, "metadata": {**manifest["metadata"], **version}}
