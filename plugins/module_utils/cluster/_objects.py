# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of any kind, as an installer writes them, through `_cluster.Cluster`.

`_kinds` knows the kinds that exposures need; an installer also writes Deployments, roles and definitions of kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Manifest = dict[str, Any]


def plural(kind: str) -> str:
    """`NetworkPolicy` -> `networkpolicies`, `IngressClass` -> `ingressclasses`, `Gateway` -> `gateways`."""
    name = kind.lower()
    if name.endswith("s"):
        return name + "es"
    return name[:-1] + "ies" if name.endswith("y") and name[-2] not in "aeiou" else name + "s"


def path(manifest: Mapping[str, Any]) -> str:
    """The API server's path of an object."""
    group, version = _kinds.split(manifest["apiVersion"])
    metadata = manifest["metadata"]
    kind = _kinds.Kind(group, manifest["kind"], plural(manifest["kind"]), 0)
    return kind.path(version, metadata.get("namespace"), metadata["name"])


def get(cluster: Cluster, manifest: Mapping[str, Any]) -> Manifest | None:
    """The live object of this manifest's kind and name, None where there is none."""
    try:
        found, _status = cluster.request("GET", path(manifest))
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise
    return dict(found)


def find(
    cluster: Cluster,
    api_version: str,
    kind: str,
    labels: Mapping[str, str] | None = None,
    *,
    namespace: str | None = None,
) -> list[Manifest]:
    """All objects of a kind with these labels; none where the kind isn't served."""
    group, version = _kinds.split(api_version)
    found = cluster.items(_kinds.Kind(group, kind, plural(kind), 0).path(version, namespace), labels)
    return [{**each, "apiVersion": api_version, "kind": kind} for each in found]


def apply(
    cluster: Cluster, manifest: Mapping[str, Any], manager: str, *, dry_run: bool = False, force: bool = True
) -> Manifest:
    """Apply on the server's side; with `force` taking over fields of others, as installers do."""
    query = {"fieldManager": manager, "force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
    found, _status = cluster.request(
        "PATCH", path(manifest), query=query, body=manifest, content_type="application/apply-patch+yaml"
    )
    return dict(found)


def merge(cluster: Cluster, manifest: Mapping[str, Any], patch: Mapping[str, Any], manager: str) -> Manifest:
    """Change single fields of an object by a JSON merge patch."""
    found, _status = cluster.request(
        "PATCH",
        path(manifest),
        query={"fieldManager": manager},
        body=patch,
        content_type="application/merge-patch+json",
    )
    return dict(found)


def delete(cluster: Cluster, live: Mapping[str, Any]) -> None:
    """Delete this very object and wait for what it owns to go first; gone already is fine."""
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": live["metadata"]["uid"]},
    }
    try:
        cluster.request("DELETE", path(live), body=body)
    except RefusedError as refused:
        if refused.status != 404:
            raise
