# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings for a run: the snapshot is read, names are looked up, and a user's choices are applied."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import Key
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import Finding
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Model
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _requests

Manifest = dict[str, Any]

_AT_ONCE = 32
_PATIENCE = 3.0


def look(
    cluster: Cluster,
    model: Model | None,
    *,
    known: Mapping[Key, Sequence[Manifest]] | None = None,
    edges: Sequence[str] = (),
) -> list[Finding]:
    """Return what is found about a list, or without one about everything in the cluster.

    `known` are kinds that the caller has listed already, in the whole cluster; `edges` the nodes that may hold the VIP.
    """
    snapshot = _snapshot.read(cluster, model, known=known, resolve=resolve)
    return (
        _findings.survey(snapshot, edges=edges) if model is None else _findings.findings(model, snapshot, edges=edges)
    )


def resolve(names: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Look names up. A name without an answer is left out; one that isn't there has ().

    Where no server answers the first names, the rest isn't asked: a run must not wait for a broken DNS.
    """
    wanted = sorted(names)
    found: dict[str, tuple[str, ...]] = {}
    began = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[start : start + _AT_ONCE]
            answers = list(pool.map(lambda name: _requests.resolve(name, timeout=1.0), chunk))
            for name, answer in zip(chunk, answers, strict=True):
                if answer.addresses:
                    found[name] = tuple(answer.addresses)
                elif answer.error in ("nxdomain", "nodata"):
                    found[name] = ()
            if not found or time.monotonic() - began > _PATIENCE:
                break
    return found
