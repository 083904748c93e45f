# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set's objects as files of a folder, for a repository that something else applies to the cluster.

A file is ours if its one object carries the set's labels and it is called after that object.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Manifest = dict[str, Any]


def keep(path: str, manifests: Iterable[Manifest], set_name: str, *, prune: bool, check: bool) -> list[Change]:
    """Make the folder hold the manifests, and with `prune` nothing else of the set; with `check` say so alone.

    Raises ModelError, before anything is written, where a file is in the way that isn't the set's.
    """
    folder = Path(path)
    wanted = {_name(manifest): manifest for manifest in manifests}
    try:
        files = {file.name: _held(file, set_name) for file in folder.glob("*.yml")} if folder.exists() else {}
        foreign = [name for name in sorted(wanted) if name in files and files[name] is None]
        if foreign:
            reason = f"{', '.join(foreign)} in {folder} is not of the set {set_name!r} alone"
            raise ModelError((Problem("path", reason, "Move it away, or name another folder"),))
        changes = {}
        for name, manifest in wanted.items():
            before = files.get(name)
            verb = "create" if before is None else "unchanged" if before == manifest else "update"
            changes[name] = Change(verb, before, manifest, "")
        for name, before in files.items() if prune else ():
            if before is not None and name not in wanted:
                changes[name] = Change("delete", before, None, "")
        if not check:
            _write(folder, changes)
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror}"
        raise ModelError((Problem("path", reason, "Name a folder that can be written to"),)) from error
    return _changes.ordered(changes.values())


def _name(manifest: Manifest) -> str:
    """Return what an object's file is called. Only the last part may have dots in it."""
    metadata = manifest["metadata"]
    return f"{metadata['namespace']}.{manifest['kind'].lower()}.{metadata['name']}.yml"


def _held(file: Path, set_name: str) -> Manifest | None:
    """Return the object in a file of the set, None for any other file."""
    try:
        (found,) = _yaml.documents(file.read_text(encoding="utf-8"))
        _kinds.kind_of(found)
        ours = _kinds.holder(found) == set_name and _name(found) == file.name
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if ours else None


def _write(folder: Path, changes: dict[str, Change]) -> None:
    for name, change in changes.items():
        if change.verb in ("create", "update"):
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / f".{name}.new"
            fresh.write_text(_yaml.dump(change.after, sort_keys=False), encoding="utf-8")
            fresh.replace(folder / name)
    for name, change in changes.items():
        if change.verb == "delete":
            (folder / name).unlink()
