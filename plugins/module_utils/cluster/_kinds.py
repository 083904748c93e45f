# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects that we read or write: their API group, their path, and their place in a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

ISTIO = "networking.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"

MANAGED_BY = "app.kubernetes.io/managed-by"
SET_LABEL = "edgeway.istio/set"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `phase` orders writes: what others lean on comes first, and is removed last."""

    group: str
    name: str
    plural: str
    phase: int

    def path(self, version: str, namespace: str | None = None, name: str | None = None) -> str:
        """Return the API server's path of the collection, or of one object."""
        root = f"/apis/{self.group}/{version}" if self.group else f"/api/{version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")


BACKEND, SERVICE, LISTENER, ROUTE = 10, 20, 30, 40

KINDS: tuple[Kind, ...] = (
    Kind("", "Secret", "secrets", BACKEND),
    Kind(ISTIO, "ServiceEntry", "serviceentries", BACKEND),
    Kind(ISTIO, "DestinationRule", "destinationrules", BACKEND),
    Kind(GATEWAY_API, "ReferenceGrant", "referencegrants", BACKEND),
    Kind("", "ConfigMap", "configmaps", BACKEND),
    Kind("", "Service", "services", SERVICE),
    Kind(ISTIO, "Gateway", "gateways", LISTENER),
    Kind(GATEWAY_API, "Gateway", "gateways", LISTENER),
    Kind(ISTIO, "VirtualService", "virtualservices", ROUTE),
    Kind(GATEWAY_API, "HTTPRoute", "httproutes", ROUTE),
    Kind(GATEWAY_API, "GRPCRoute", "grpcroutes", ROUTE),
    Kind(GATEWAY_API, "TLSRoute", "tlsroutes", ROUTE),
    Kind(GATEWAY_API, "TCPRoute", "tcproutes", ROUTE),
)

_BY_NAME = {(kind.group, kind.name): kind for kind in KINDS}

Key = tuple[str, str, str, str]
"""(group, kind, namespace, name): `Gateway` is a kind of two groups."""


def split(api_version: str) -> tuple[str, str]:
    """Return (group, version) of an apiVersion; the core group is empty."""
    group, _slash, version = api_version.rpartition("/")
    return group, version


def find(group: str, name: str) -> Kind:
    """Return the kind, or raise KeyError for one that we have no business with."""
    return _BY_NAME[group, name]


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """Return the kind of a manifest."""
    return find(split(manifest["apiVersion"])[0], manifest["kind"])


def key_of(manifest: Mapping[str, Any]) -> Key:
    """Return what tells this object from all others in the cluster."""
    metadata = manifest["metadata"]
    return split(manifest["apiVersion"])[0], manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def holder(manifest: Mapping[str, Any]) -> str | None:
    """Return the set whose labels an object carries, None when it isn't ours.

    A controller that makes objects of one of ours may give them its labels, as Istio does with the Service of a
    Gateway. Those have an owner, which ours never have.
    """
    metadata = manifest["metadata"]
    labels = {} if metadata.get("ownerReferences") else metadata.get("labels") or {}
    return labels.get(SET_LABEL) if labels.get(MANAGED_BY) == "edgeway" else None


def shown(manifest: Mapping[str, Any]) -> str:
    """Return an object's name as an error message calls it: `Gateway shop/edgeway-default`."""
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
