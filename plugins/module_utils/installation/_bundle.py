# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Gateway API bundle: its definitions go into a cluster that lacks them or has older ones, and never over newer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _objects

Object = dict[str, Any]

MANAGER = "edgeway/gateway-api"
_BUNDLE = "gateway.networking.k8s.io/bundle-version"


def outdated(given: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The given objects of a Gateway API bundle that the cluster lacks or has from an older bundle.

    An object there without the bundle's annotation counts as older; nothing newer is ever replaced, and nothing of the
    experimental channel by the standard one, which would drop fields that may be in use. Raises ModelError
    when one object is given twice, as in a folder that holds the standard and the experimental channel.
    """
    there = {_kinds.key_of(each): each for each in live}
    chosen: set[_kinds.Key] = set()
    result = []
    for manifest in given:
        key = _kinds.key_of(manifest)
        if key in chosen:
            cure = "Give one channel: the folder `standard` or `experimental`, or its bundle file"
            raise ModelError((Problem("path", f"{key[1]} {key[3]} is given twice", cure),))
        chosen.add(key)
        if key in there and of_experiments(there[key]) and not of_experiments(manifest):
            continue
        if key not in there or bundle_version(there[key]) < bundle_version(manifest):
            result.append(dict(manifest))
    return result


def of_experiments(manifest: Mapping[str, Any]) -> bool:
    """Whether an object is of the experimental channel."""
    return _channel(manifest) == "experimental"


def _channel(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get("gateway.networking.k8s.io/channel", "no channel"))


def held_back(given: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of objects that stay older than the bundle, as they are of the experimental channel and it isn't."""
    there = {_kinds.key_of(each): each for each in live if of_experiments(each)}
    return [
        str(each["metadata"]["name"])
        for each in given
        if _kinds.key_of(each) in there
        and not of_experiments(each)
        and bundle_version(there[_kinds.key_of(each)]) < bundle_version(each)
    ]


def established(definition: Mapping[str, Any]) -> bool:
    """Whether the server serves a CustomResourceDefinition, by its own condition."""
    conditions = definition.get("status", {}).get("conditions", ())
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def bundle_version(manifest: Mapping[str, Any]) -> tuple[int, ...]:
    """`v1.6.0` as (1, 6, 0, 1), `v1.6.0-rc.1` as (1, 6, 0, 0, 1): a candidate is older. () without the annotation."""
    text = str(((manifest.get("metadata") or {}).get("annotations") or {}).get(_BUNDLE, ""))
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)(?:-(.+))?", text)
    if not match:
        return ()
    candidate = [int(number) for number in re.findall(r"\d+", match[4])] if match[4] else []
    return (*(int(match[part]) for part in (1, 2, 3)), 0 if match[4] else 1, *candidate)


def bundle_line(manifest: Mapping[str, Any]) -> str:
    """One object of a bundle as a difference shows it: its name, version and channel."""
    notes = manifest["metadata"].get("annotations") or {}
    return (
        f"{manifest['kind']} {manifest['metadata']['name']}: {notes.get(_BUNDLE, 'no version')}, {_channel(manifest)}\n"
    )


def definitions(cluster: Cluster, given: Sequence[Object]) -> tuple[list[Change], list[str]]:
    """What has to be written so that the cluster has the given Gateway API bundle, or a newer one; what stays older."""
    live = [each for each in cluster.every(lambda each: _objects.get(cluster, each), given) if each]
    there = {_kinds.key_of(each): each for each in live}
    changes = [
        Change("update" if before else "create", before, manifest, MANAGER)
        for manifest in outdated(given, live)
        for before in [there.get(_kinds.key_of(manifest))]
    ]
    return changes, held_back(given, live)


def removals(cluster: Cluster, given: Sequence[Object]) -> list[Change]:
    """The given objects that are there because we wrote them; what others wrote stays."""
    live = [each for each in cluster.every(lambda each: _objects.get(cluster, each), given) if each]
    return [Change("delete", each, None, MANAGER) for each in live if _written_by_us(each)]


def _written_by_us(manifest: Mapping[str, Any]) -> bool:
    return any(each.get("manager") == MANAGER for each in manifest["metadata"].get("managedFields") or ())


def remove(cluster: Cluster, changes: Sequence[Change]) -> None:
    """Remove them, the bundle's admission policy first: it has a say in changes of definitions."""
    live = [each.before for each in changes if each.before is not None]
    for each in sorted(live, key=lambda each: bool(each["kind"] == "CustomResourceDefinition")):
        _objects.delete(cluster, each)


def establish(cluster: Cluster, changes: Sequence[Change], timeout: float = 30, pause: float = 0.2) -> None:
    """Write definitions and return when the server serves them."""
    # Definitions first: a bundle's own admission policy would judge them
    written = sorted((each.manifest for each in changes), key=lambda each: each["kind"] != "CustomResourceDefinition")
    for manifest in written:
        _objects.apply(cluster, manifest, MANAGER)
    waiting = [each for each in written if each["kind"] == "CustomResourceDefinition"]
    end = time.monotonic() + timeout
    while waiting:
        waiting = [each for each in waiting if not established(_objects.get(cluster, each) or {})]
        if waiting and time.monotonic() >= end:
            names = ", ".join(each["metadata"]["name"] for each in waiting)
            raise ClusterError(f"The API server doesn't serve {names} after {timeout:g} s.", "Look at its conditions.")
        if waiting:
            time.sleep(pause)
