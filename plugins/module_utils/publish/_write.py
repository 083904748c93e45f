# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing changes to the cluster as one: all are tried on the server first, and put back if one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change, Step
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds

Manifest = dict[str, Any]


class ApplyError(ClusterError):
    """Nothing has changed in the cluster; `problems` says why, each with its cure.

    `incomplete` if something was written that could not be put back.
    """

    def __init__(self, problems: Sequence[str], *, incomplete: bool = False) -> None:
        self.problems = tuple(problems)
        self.incomplete = incomplete
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Tried:
    """What a dry run showed: each change with the object as it would become, and what could not be tried, and why."""

    changes: list[Change]
    results: dict[_kinds.Key, Manifest]
    warnings: list[str] = field(default_factory=list)


Outcome = tuple[Change, Optional[Manifest], str, str]  # noqa: UP045  pylint reads | as an operation
"""A change, the object as it became, why it was refused, and what is missing (`namespace`, `kind`) or `refused`."""


def dry_run(
    cluster: Cluster, changes: Sequence[Change], *, force: bool = False, forgiving: bool = False, coming: bool = False
) -> Tried:
    """Have the server try every write. A write that would change nothing becomes `unchanged`.

    Raises ApplyError with every refusal. `forgiving` (check mode) turns what is only missing so far, a kind that isn't
    served or a namespace, into a warning; with `coming`, kinds that will be served by then aren't one.
    """

    def attempt(change: Change) -> Outcome:
        manifest = change.manifest
        what = _kinds.shown(manifest)
        if not cluster.serves(manifest["apiVersion"], change.kind):
            return _not_served(change)
        try:
            if change.verb == "delete":
                cluster.delete(manifest, dry_run=True)
                return change, None, "", ""
            became, _created = cluster.apply(manifest, change.manager, dry_run=True, force=force)
        except RefusedError as refused:
            return change, None, f"{what}: {refused}", "namespace" if _no_namespace(refused) else "refused"
        if change.before is not None and _fields.same_stored(change.before, became):
            return replace(change, verb="unchanged"), became, "", ""
        return change, became, "", ""

    tried = iter(cluster.every(attempt, [change for change in changes if change.verb != "unchanged"]))
    outcomes = [(change, change.before, "", "") if change.verb == "unchanged" else next(tried) for change in changes]
    missing = ("namespace", "kind") if forgiving else ()
    problems = [reason for _change, _became, reason, why in outcomes if why and why not in missing]
    if problems:
        raise ApplyError(_with_cures(problems, outcomes))
    lacking = [outcome for outcome in outcomes if outcome[3] and not (coming and outcome[3] == "kind")]
    return Tried(
        [change for change, _became, _reason, _why in outcomes],
        {_kinds.key_of(change.manifest): became for change, became, _r, _w in outcomes if became is not None},
        _with_cures([outcome[2] for outcome in lacking], lacking),
    )


def _no_namespace(error: ClusterError) -> bool:
    if not isinstance(error, RefusedError) or error.status != 404:
        return False
    return (error.body.get("details") or {}).get("kind") == "namespaces"


def _not_served(change: Change) -> Outcome:
    manifest = change.manifest
    reason = f"{_kinds.shown(manifest)}: the cluster doesn't serve {manifest['apiVersion']} {change.kind}."
    return change, None, reason, "kind"


def _with_cures(problems: list[str], outcomes: Iterable[Outcome]) -> list[str]:
    """Add one cure for all objects whose kind isn't served, and one for all that lack their namespace."""
    cures = []
    kinds = sorted({change.kind for change, _became, _reason, why in outcomes if why == "kind"})
    if kinds:
        cures.append(
            f"Install the CRDs of {', '.join(kinds)}: the role edgeway.istio.istio does, or playbooks/istio.yml."
        )
    spaces = sorted({change.namespace for change, _became, _reason, why in outcomes if why == "namespace"})
    if spaces:
        cures.append(f"Create the namespace {', '.join(spaces)} first: kubectl create namespace {spaces[0]}.")
    return problems + cures


@dataclass(frozen=True, slots=True)
class Written:
    """One step that was taken. `became` is what the server made of it, None for what was deleted or not answered.

    `made` says that the object wasn't there before, None where that isn't known.
    """

    step: Step
    became: Manifest | None = None
    made: bool | None = None


Guard = Callable[[], None]
"""Called before each group of writes; raises ClusterError where no more may be written."""


def write(
    cluster: Cluster,
    groups: Iterable[Sequence[Step]],
    done: list[Written],
    *,
    force: bool = False,
    guard: Guard = lambda: None,
) -> None:
    """Take the steps, those of one group together over all connections, and add to `done` what was written.

    Raises ApplyError with every refusal of the first group that has one.
    """

    def one(step: Step) -> Outcome | None:
        change, manifest = step.change, step.change.manifest
        what = _kinds.shown(manifest)
        if not cluster.serves(manifest["apiVersion"], change.kind):
            return _not_served(change)
        try:
            if step.manifest is None:
                cluster.delete(manifest)
                done.append(Written(step, made=False))
                return None
            became, created = cluster.apply(step.manifest, change.manager, force=force)
            # Said a second time because the first answer was lost, an apply finds what it made itself
            created = created or (change.before is None and _managers(became) == {change.manager})
            done.append(Written(step, became, created))
            if change.verb == "create" and not created:
                return change, None, f"{what} was made by somebody else in the meantime. Run again.", "refused"
        except ClusterError as error:
            if error.passing:
                # No answer, or one that says no more: it may have been written, and has to be put back too
                done.append(Written(step))
            return change, None, f"{what}: {error}", "namespace" if _no_namespace(error) else "refused"
        return None

    for group in groups:
        guard()
        failed = [outcome for outcome in cluster.every(one, group) if outcome is not None]
        if failed:
            raise ApplyError(_with_cures([reason for _change, _became, reason, _why in failed], failed))


def undo(cluster: Cluster, done: Sequence[Written], error: BaseException, left: Sequence[str] = ()) -> ApplyError:
    """Put back what was written before `error`, and return the error that says both.

    `left` says what else could not be put back, and why.
    """
    left = [*left, *restore(cluster, done)]
    told = list(error.problems) if isinstance(error, ApplyError) else [str(error) or type(error).__name__]
    if left:
        told.append("What had been written could not be put back wholly. " + " ".join(left))
    elif done:
        told.append("Nothing has changed: what had been written was put back.")
    else:
        told.append("Nothing has changed.")
    return ApplyError(told, incomplete=bool(left))


def restore(cluster: Cluster, done: Iterable[Written]) -> list[str]:
    """Put objects back, the last written first. Returns what could not be put back, and why."""
    # An object that was written twice goes back once, in the place of its first write, from its last state
    last: dict[_kinds.Key, Written] = {}
    for written in done:
        key = _kinds.key_of(written.step.change.manifest)
        last[key] = replace(written, made=last[key].made) if key in last else written
    left = []
    for written in reversed(last.values()):
        change = written.step.change
        try:
            live = cluster.get(change.manifest["apiVersion"], change.kind, change.namespace, change.name)
            if change.before is None:
                _unmake(cluster, written, live)
            else:
                _put_back(cluster, written, change.before, live)
        except ClusterError as error:
            left.append(f"{_kinds.shown(change.manifest)}: {error}")
    return left


def _unmake(cluster: Cluster, written: Written, live: Manifest | None) -> None:
    """Remove what a run has made; of what was there already only what it added."""
    change = written.step.change
    if live is None:
        return
    managers = _managers(live)
    made = managers == {change.manager} if written.made is None else written.made
    if made:
        cluster.delete(live)
    elif change.manager in managers:
        cluster.apply(_bare(change.manifest), change.manager)


def _managers(live: Manifest) -> set[str]:
    """Return who has written to an object, but for its status."""
    entries = live["metadata"].get("managedFields") or ()
    return {str(entry.get("manager")) for entry in entries if not entry.get("subresource")}


def _put_back(cluster: Cluster, written: Written, before: Manifest, live: Manifest | None) -> None:
    change = written.step.change
    if live is not None and _fields.same_stored(before, live):
        return
    original = {**before, "metadata": {key: value for key, value in before["metadata"].items() if key not in _FRESH}}
    original.pop("status", None)
    if live is None:
        live = cluster.create(original, change.manager)
    elif written.became is not None and not _fields.same_stored(written.became, live):
        # Somebody else has written since: take back only what is ours
        ours = _fields.mine(before, change.manager)
        bare = _bare(before)
        metadata = {**(ours.get("metadata") or {}), **bare["metadata"]}
        cluster.apply({**ours, **bare, "metadata": metadata}, change.manager, force=True)
        return
    # The server gives every field that this replaces to us. Said again with the old owners, it records those
    current = cluster.replace(_at(original, live), change.manager)
    owners = before["metadata"].get("managedFields")
    if owners:
        again = _at(original, current)
        cluster.replace({**again, "metadata": {**again["metadata"], "managedFields": owners}}, change.manager)


_FRESH = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


def _at(manifest: Manifest, live: Manifest) -> Manifest:
    version = {"resourceVersion": live["metadata"]["resourceVersion"], "uid": live["metadata"]["uid"]}
    return {**manifest, "metadata": {**manifest["metadata"], **version}}


def _bare(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    names = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": names}
