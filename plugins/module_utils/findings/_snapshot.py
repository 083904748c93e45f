# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a cluster findings are made from, and how it is read: one LIST a kind, nothing twice.

What may not be read is noted and becomes a finding of its own (`unread`); it never stops a run. Of Secrets nothing is
kept but their names, types and certificates: keys are dropped as soon as it is known whether they fit.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import (
    DEPLOYED,
    complete,
    credentials_of,
    service_of,
    table_of_route,
    table_of_virtual_service,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import Manifest, selects
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Model, Pairs, backends_of
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates
from ansible_collections.edgeway.istio.plugins.module_utils.trace._certificates import Certificate
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import RESERVED

Key = tuple[str, str]
"""(group, kind)."""

ISTIO, SECURITY, GATEWAY_API = "networking.istio.io", "security.istio.io", "gateway.networking.k8s.io"

POD, SERVICE, SECRET = ("", "Pod"), ("", "Service"), ("", "Secret")
NAMESPACE, NODE, CONFIG_MAP = ("", "Namespace"), ("", "Node"), ("", "ConfigMap")
SLICE, NETWORK_POLICY = ("discovery.k8s.io", "EndpointSlice"), ("networking.k8s.io", "NetworkPolicy")
GATEWAY, VIRTUAL_SERVICE = (ISTIO, "Gateway"), (ISTIO, "VirtualService")
DESTINATION_RULE, SERVICE_ENTRY = (ISTIO, "DestinationRule"), (ISTIO, "ServiceEntry")
ENVOY_FILTER = (ISTIO, "EnvoyFilter")
PEER, AUTHORIZATION = (SECURITY, "PeerAuthentication"), (SECURITY, "AuthorizationPolicy")
REQUEST_AUTHENTICATION = (SECURITY, "RequestAuthentication")
API_GATEWAY, CLASS, GRANT = (GATEWAY_API, "Gateway"), (GATEWAY_API, "GatewayClass"), (GATEWAY_API, "ReferenceGrant")
BACKEND_TLS = (GATEWAY_API, "BackendTLSPolicy")
ROUTES = tuple((GATEWAY_API, kind) for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"))

KUBE_PROXY = "kube-system/kube-proxy"

# Plural and versions, the one that Istio reads first
_LISTED: dict[Key, tuple[str, tuple[str, ...]]] = {
    NAMESPACE: ("namespaces", ("v1",)),
    NODE: ("nodes", ("v1",)),
    SERVICE: ("services", ("v1",)),
    SLICE: ("endpointslices", ("v1",)),
    NETWORK_POLICY: ("networkpolicies", ("v1",)),
    GATEWAY: ("gateways", ("v1", "v1beta1", "v1alpha3")),
    VIRTUAL_SERVICE: ("virtualservices", ("v1", "v1beta1", "v1alpha3")),
    DESTINATION_RULE: ("destinationrules", ("v1", "v1beta1", "v1alpha3")),
    SERVICE_ENTRY: ("serviceentries", ("v1", "v1beta1", "v1alpha3")),
    ENVOY_FILTER: ("envoyfilters", ("v1alpha3",)),
    PEER: ("peerauthentications", ("v1", "v1beta1")),
    AUTHORIZATION: ("authorizationpolicies", ("v1", "v1beta1")),
    REQUEST_AUTHENTICATION: ("requestauthentications", ("v1", "v1beta1")),
    API_GATEWAY: ("gateways", ("v1", "v1beta1")),
    CLASS: ("gatewayclasses", ("v1", "v1beta1")),
    GRANT: ("referencegrants", ("v1", "v1beta1")),
    BACKEND_TLS: ("backendtlspolicies", ("v1", "v1alpha3")),
    ROUTES[0]: ("httproutes", ("v1", "v1beta1")),
    ROUTES[1]: ("grpcroutes", ("v1",)),
    ROUTES[2]: ("tlsroutes", ("v1", "v1alpha3", "v1alpha2")),
    ROUTES[3]: ("tcproutes", ("v1", "v1alpha2")),
}


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """What may be known of a Secret. `filled` are the keys with content, `empty` those without.

    `chain` is the server's certificates, `authorities` those that clients' certificates are checked with. `broken` says
    why a certificate can't be read. `fits` tells whether the private key is that of the certificate, None where that
    can't be known. `looked` is false where nothing could be, for want of the package cryptography.
    """

    namespace: str
    name: str
    type: str
    filled: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    chain: tuple[Certificate, ...] = ()
    authorities: tuple[Certificate, ...] = ()
    broken: str = ""
    fits: bool | None = None
    looked: bool = True


def facts_of_secret(secret: Manifest) -> SecretFacts:
    """Look at a Secret and forget it. Which keys count is Istio's choice (pilot/pkg/credentials/kube/secrets.go)."""
    data = {key: _decoded(value) for key, value in (secret.get("data") or {}).items()}
    data |= {key: str(value).encode() for key, value in (secret.get("stringData") or {}).items()}
    filled = frozenset(key for key, value in data.items() if value)
    certificate, key = ("cert", "key") if {"cert", "key"} <= filled else ("tls.crt", "tls.key")
    authority = "cacert" if "cacert" in filled else "ca.crt"
    chain: tuple[Certificate, ...] = ()
    authorities: tuple[Certificate, ...] = ()
    broken, fits, looked = "", None, True
    try:
        chain = _certificates.read(data.get(certificate, b""))
        if certificate in filled and not chain:
            broken = f"{certificate} holds no certificate"
        authorities = _certificates.read(data.get(authority, b""))
        if authority in filled and not authorities:
            broken = broken or f"{authority} holds no certificate"
        if chain and key in filled:
            fits = _fits(data[certificate], data[key])
    except ImportError:
        looked = False
    except ValueError:
        broken = f"{certificate} can't be read as a certificate"
    return SecretFacts(
        str(secret["metadata"].get("namespace") or ""),
        str(secret["metadata"]["name"]),
        str(secret.get("type") or "Opaque"),
        filled,
        frozenset(data) - filled,
        chain,
        authorities,
        broken,
        fits,
        looked,
    )


def _decoded(value: Any) -> bytes:
    try:
        return b64decode(str(value or ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _fits(certificate: bytes, key: bytes) -> bool:
    from cryptography import x509  # noqa: PLC0415 - a run without certificates does without it
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    public = x509.load_pem_x509_certificates(certificate)[0].public_key()
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(*form) == public.public_bytes(*form)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment. `unread` holds, by kind, the namespaces that may not be read, empty text for all; of
    ConfigMaps NAMESPACE/NAME.

    `secrets` are by (namespace, name); `elsewhere` are missing Secrets that lie in another namespace. `dns` holds what
    names resolve to: () for nothing, and no entry where there was no answer to what was `asked`. `meshes` are the mesh
    configurations by (namespace, revision), `kube_proxy` the KubeProxyConfiguration, empty where there is none.
    `served` are the versions of the Gateway API's kinds that a list of that API may be written in.
    """

    objects: Mapping[Key, Sequence[Manifest]]
    unread: Mapping[Key, frozenset[str]] = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], SecretFacts] = field(default_factory=dict)
    elsewhere: frozenset[tuple[str, str]] = frozenset()
    dns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    meshes: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    kube_proxy: Manifest = field(default_factory=dict)
    served: Mapping[str, Sequence[str]] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def items(self, key: Key) -> Sequence[Manifest]:
        """Return what is known of a kind."""
        return self.objects.get(key, ())

    def readable(self, key: Key, namespace: str = "") -> bool:
        """Whether a kind could be read there, or a ConfigMap (NAMESPACE/NAME)."""
        hidden = self.unread.get(key, frozenset())
        return "" not in hidden and namespace not in hidden


Resolve = Callable[[Collection[str]], Mapping[str, tuple[str, ...]]]


def read(
    cluster: Cluster,
    model: Model | None,
    *,
    known: Mapping[Key, Sequence[Manifest]] | None = None,
    resolve: Resolve | None = None,
) -> Snapshot:
    """Read what findings about a list need; without a model about all there is.

    `known` are kinds that the caller has listed already, in the whole cluster. `resolve` answers DNS names; without it
    nothing is said about DNS. Raises ClusterError only for an API server that can't be reached.
    """
    reader = _Reader(cluster, model, dict(known or {}))
    reader.kinds([key for key in _LISTED if key not in reader.objects])
    reader.gateway_pods()
    reader.configuration()
    reader.backend_pods()
    reader.certificates()
    names = reader.hostnames()
    return Snapshot(
        reader.objects,
        {key: frozenset(found) for key, found in reader.unread.items()},
        reader.secrets,
        reader.elsewhere(),
        dict(resolve(names)) if resolve is not None and names else {},
        frozenset(names) if resolve is not None else frozenset(),
        reader.meshes,
        reader.kube_proxy,
        reader.served(),
    )


class _Reader:
    def __init__(self, cluster: Cluster, model: Model | None, objects: dict[Key, Sequence[Manifest]]) -> None:
        self.cluster = cluster
        self.model = model
        self.objects = objects
        self.unread: dict[Key, set[str]] = {}
        self.secrets: dict[tuple[str, str], SecretFacts] = {}
        self.wanted: set[tuple[str, str]] = set()
        self.meshes: dict[tuple[str, str], Manifest] = {}
        self.kube_proxy: Manifest = {}

    @property
    def namespaces(self) -> set[str]:
        """Those that the list speaks of: all that can be asked where nothing cluster-wide may be."""
        found: set[str] = set()
        for entry in self.model.exposures if self.model else ():
            found |= {entry.namespace, entry.gateway.namespace}
            found |= {backend.namespace for backend, _at in backends_of(entry)}
        return found

    def kinds(self, keys: Sequence[Key]) -> None:
        for key, found in zip(keys, self.cluster.every(self._kind, keys), strict=True):
            self.objects[key] = found

    def _kind(self, key: Key) -> list[Manifest]:
        group, kind = key
        plural, versions = _LISTED[key]
        for version in versions:
            root = f"/apis/{group}/{version}" if group else f"/api/{version}"
            found = self._listed(key, root, plural, {})
            if found is not None:
                api_version = f"{group}/{version}" if group else version
                return [{**item, "apiVersion": api_version, "kind": kind} for item in found]
        return []

    def _listed(self, key: Key, root: str, plural: str, query: Mapping[str, str]) -> list[Manifest] | None:
        """Return the items, by namespace where the whole may not be listed; None where the kind isn't served."""
        try:
            return self._pages(f"{root}/{plural}", query)
        except RefusedError as refused:
            if refused.status == 404:
                return None
            if refused.status not in (401, 403):
                raise
        if not self._is_served(key):
            return None
        found: list[Manifest] = []
        asked = self.namespaces if key not in (NAMESPACE, NODE, CLASS) else set()
        for namespace in sorted(asked):
            try:
                found += self._pages(f"{root}/namespaces/{namespace}/{plural}", query)
            except RefusedError as refused:
                if refused.status not in (401, 403, 404):
                    raise
                self.unread.setdefault(key, set()).add(namespace)
        if not asked or asked == self.unread.get(key):
            self.unread.setdefault(key, set()).add("")
        return found

    def _is_served(self, key: Key) -> bool:
        """Whether there is anything to read: rights are asked for before whether a kind exists."""
        group, kind = key
        try:
            return not group or kind in self.cluster.served(group)
        except RefusedError:
            return True

    def _pages(self, path: str, query: Mapping[str, str]) -> list[Manifest]:
        found: list[Manifest] = []
        asked = {"limit": "5000", **query}
        while True:
            page, _status = self.cluster.request("GET", path, query=asked)
            found += page.get("items") or ()
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return found
            asked["continue"] = following

    def served(self) -> Mapping[str, Sequence[str]]:
        """Return in which versions routes can be written; who publishes by the Gateway API has asked already."""
        if self.model is None or self.model.api != "gateway_api":
            return {}
        try:
            return self.cluster.served(GATEWAY_API)
        except RefusedError:
            return {}

    # Pods

    def gateway_pods(self) -> None:
        """Read the gateways' pods by their labels, and istiod's."""
        selectors = ["app=istiod"]
        deployed = [one for one in self.objects[API_GATEWAY] if not (one.get("spec") or {}).get("addresses")]
        if deployed or any(entry.gateway.deploy for entry in (self.model.exposures if self.model else ())):
            selectors.append(DEPLOYED)
        selectors += [",".join(f"{key}={value}" for key, value in pairs) for pairs in sorted(self._selectors())]
        self._pods([("", labels) for labels in selectors])

    def backend_pods(self) -> None:
        """Read the backends' pods where something chooses among them."""
        self._pods([(namespace, "") for namespace in sorted(self._backend_namespaces())])

    def _pods(self, queries: Sequence[tuple[str, str]]) -> None:
        found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in self.objects.get(POD, ())}

        def ask(query: tuple[str, str]) -> list[Manifest]:
            namespace, labels = query
            if not namespace:
                return self._listed(POD, "/api/v1", "pods", {"labelSelector": labels}) or []
            try:
                return self._pages(f"/api/v1/namespaces/{namespace}/pods", {})
            except RefusedError as refused:
                if refused.status not in (401, 403):
                    raise
            self.unread.setdefault(POD, set()).add(namespace)
            return []

        for pods in self.cluster.every(ask, queries):
            for pod in pods:
                key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
                found[key] = {**pod, "apiVersion": "v1", "kind": "Pod"}
        self.objects[POD] = list(found.values())

    def _selectors(self) -> set[Pairs]:
        """Return the labels that Gateways choose pods by, directly or through a Service."""
        found = {_pairs((one.get("spec") or {}).get("selector")) for one in self.objects[GATEWAY]}
        services = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in self.objects[SERVICE]}
        places = set()
        for entry in self.model.exposures if self.model else ():
            found.add(_pairs(dict(entry.gateway.selector)))
            places.add((entry.gateway.namespace, entry.gateway.service))
        for gateway in self.objects[API_GATEWAY]:
            for address in (gateway.get("spec") or {}).get("addresses") or ():
                name, _dot, rest = str(address.get("value")).partition(".")
                places.add((rest.partition(".")[0] or gateway["metadata"]["namespace"], name))
        for place in places & services.keys():
            found.add(_pairs((services[place].get("spec") or {}).get("selector")))
        return found - {()}

    def _backend_namespaces(self) -> set[str]:
        """Return the namespaces of backends where subsets, mutual TLS or policies choose among pods."""
        backends: set[str] = set()
        matter: set[str] = set()
        for entry in self.model.exposures if self.model else ():
            backends |= {backend.namespace for backend, _at in backends_of(entry) if not backend.outside}
            matter |= {subset.namespace for subset in entry.subsets}
            if entry.protocol == "TCP":
                matter |= {backend.namespace for backend, _at in backends_of(entry) if not backend.outside}
        if self.model is None:
            tables = [table_of_virtual_service(one, {}) for one in self.objects[VIRTUAL_SERVICE]]
            tables += [table_of_route(one) for key in ROUTES for one in self.objects[key]]
            targets = [target for table in tables for rule in table.rules for target in rule.targets]
            backends = {target.namespace for target in targets if target.namespace}
        for rule in self.objects[DESTINATION_RULE]:
            spec = rule.get("spec") or {}
            if spec.get("subsets") or _speaks_tls(spec.get("trafficPolicy") or {}):
                matter.add(service_of(complete(str(spec.get("host")), rule["metadata"]["namespace"]))[0])
        choosers = [one for key in (PEER, AUTHORIZATION, NETWORK_POLICY) for one in self.objects[key]]
        matter |= {one["metadata"]["namespace"] for one in choosers}
        roots = {str(mesh.get("rootNamespace") or "istio-system") for mesh in self.meshes.values()} | {"istio-system"}
        return backends if matter & roots else backends & matter

    # Mesh configuration, kube-proxy, Secrets, names

    def configuration(self) -> None:
        """Read the mesh configuration of each istiod, and kube-proxy's."""
        places = {("istio-system", "default")}
        for pod in self.objects[POD]:
            if (pod["metadata"].get("labels") or {}).get("app") == "istiod":
                places.add(control_plane(pod))
        for namespace, revision in sorted(places):
            data = self._config_map(mesh_config(namespace, revision))
            if data is not None:
                self.meshes[namespace, revision] = _mapping(data.get("mesh"))
        data = self._config_map(KUBE_PROXY)
        self.kube_proxy = _mapping((data or {}).get("config.conf"))

    def _config_map(self, place: str) -> Mapping[str, Any] | None:
        namespace, _slash, name = place.partition("/")
        try:
            found, _status = self.cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except RefusedError as refused:
            if refused.status in (401, 403):
                self.unread.setdefault(CONFIG_MAP, set()).add(place)
            elif refused.status != 404:
                raise
            return None
        data: Mapping[str, Any] = found.get("data") or {}
        return data

    def certificates(self) -> None:
        """Read the Secrets beside the gateways' pods, where a listener needs one."""
        for namespace in sorted(self._secret_namespaces()):
            try:
                found = self._pages(
                    f"/api/v1/namespaces/{namespace}/secrets",
                    {"fieldSelector": "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"},
                )
            except RefusedError as refused:
                if refused.status not in (401, 403):
                    raise
                self.unread.setdefault(SECRET, set()).add(namespace)
                continue
            for secret in found:
                facts = facts_of_secret(secret)
                self.secrets[facts.namespace, facts.name] = facts

    def _secret_namespaces(self) -> set[str]:
        spaces: set[str] = set()
        for entry in self.model.exposures if self.model else ():
            if entry.tls is not None and not entry.tls.ours:
                spaces.add(entry.tls.namespace)
                self.wanted.add((entry.namespace, entry.tls.secret))
        pods = [pod for pod in self.objects[POD] if (pod["metadata"].get("labels") or {}).get("app") != "istiod"]
        for gateway in self.objects[GATEWAY] if self.model is None else ():
            spec = gateway.get("spec") or {}
            servers = spec.get("servers") or ()
            names = [name for server in servers for _space, name in credentials_of(server.get("tls") or {})]
            if names:
                spaces |= {
                    pod["metadata"]["namespace"]
                    for pod in pods
                    if selects(spec.get("selector"), pod["metadata"].get("labels"))
                }
                self.wanted |= {(gateway["metadata"]["namespace"], name) for name in names}
        for gateway in self.objects[API_GATEWAY] if self.model is None else ():
            for listener in (gateway.get("spec") or {}).get("listeners") or ():
                for one in (listener.get("tls") or {}).get("certificateRefs") or ():
                    spaces.add(str(one.get("namespace") or gateway["metadata"]["namespace"]))
        return spaces

    def elsewhere(self) -> frozenset[tuple[str, str]]:
        """Look whether Secrets that are missing lie beside what uses them, where no gateway reads them."""
        missing = [key for key in sorted(self.wanted) if key not in self.secrets]
        spaces = {namespace for namespace, _name in self.secrets}
        missing = [key for key in missing if not any((space, key[1]) in self.secrets for space in spaces)]
        found = []
        for namespace, name in missing[:50]:
            try:
                self.cluster.request(
                    "GET",
                    f"/api/v1/namespaces/{namespace}/secrets/{name}",
                    accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                )
            except RefusedError:
                continue
            found.append((namespace, name))
        return frozenset(found)

    def hostnames(self) -> set[str]:
        """Return the names that clients and the gateway will look up, those that public DNS may know."""
        found: set[str] = set()
        for entry in self.model.exposures if self.model else ():
            found |= {name for name in entry.hostnames if not name.startswith("*")}
            found |= {backend.fqdn for backend, _at in backends_of(entry) if backend.outside and not backend.address}
        return {name for name in found if not _reserved(name)}


def control_plane(istiod: Manifest) -> tuple[str, str]:
    """Return the namespace and the revision of an istiod's pod."""
    return istiod["metadata"]["namespace"], (istiod["metadata"].get("labels") or {}).get("istio.io/rev") or "default"


def mesh_config(namespace: str, revision: str) -> str:
    """Return the ConfigMap (NAMESPACE/NAME) with the mesh configuration of an istiod."""
    return f"{namespace}/istio" if revision == "default" else f"{namespace}/istio-{revision}"


def _reserved(name: str) -> bool:
    labels = name.lower().rstrip(".").split(".")
    return len(labels) == 1 or any(".".join(labels[index:]) in RESERVED for index in range(len(labels)))


def _pairs(labels: Mapping[str, str] | None) -> Pairs:
    return tuple(sorted((labels or {}).items()))


def _speaks_tls(policy: Manifest) -> bool:
    return bool(policy.get("tls")) or any(level.get("tls") for level in policy.get("portLevelSettings") or ())


def _mapping(text: Any) -> Manifest:
    try:
        found = _yaml.documents(str(text or ""))
    except ValueError:
        return {}
    return found[0] if found and isinstance(found[0], dict) else {}


def of_objects(manifests: Iterable[Manifest], **more: Any) -> Snapshot:
    """Make a snapshot of plain manifests, e.g. of files; Secrets among them are looked at as they would be read."""
    objects: dict[Key, list[Manifest]] = {}
    secrets: dict[tuple[str, str], SecretFacts] = {}
    meshes: dict[tuple[str, str], Manifest] = dict(more.pop("meshes", {}))
    kube_proxy: Manifest = {}
    for manifest in manifests:
        group = str(manifest["apiVersion"]).rpartition("/")[0]
        metadata = manifest["metadata"]
        if manifest["kind"] == "Secret":
            facts = facts_of_secret(manifest)
            secrets[facts.namespace, facts.name] = facts
        elif manifest["kind"] == "ConfigMap" and "mesh" in (manifest.get("data") or {}):
            revision = str((metadata.get("labels") or {}).get("istio.io/rev") or "default")
            meshes[metadata["namespace"], revision] = _mapping(manifest["data"]["mesh"])
        elif manifest["kind"] == "ConfigMap" and metadata["name"] == "kube-proxy":
            kube_proxy = _mapping((manifest.get("data") or {}).get("config.conf"))
        else:
            objects.setdefault((group, manifest["kind"]), []).append(manifest)
    return Snapshot(objects, secrets=secrets, meshes=meshes, kube_proxy=kube_proxy, **more)
