# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as objects of the Gateway API: Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant.

A Gateway of ours is tied to the Service in front of the gateway's pods by its address (Istio's "manual deployment"),
so that both APIs are served by the same pods behind the same VIP. What Istio reads beside the Gateway API stays in
Istio's own: DestinationRules for how backends are dealt with, ServiceEntries for outside hosts.

One certificate has one listener, as a browser asks for all names of a certificate on one connection and Istio answers
names of another listener with 404. A listener has one hostname, so that of several names is the wildcard over them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TypeVar

from ansible_collections.edgeway.istio.plugins.module_utils import _ports
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.model import _rules
from ansible_collections.edgeway.istio.plugins.module_utils.model._rules import Listener, Manifest, VirtualHost
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    Cors,
    Gateway,
    HeaderChange,
    Match,
    Model,
    Redirect,
    Retries,
    Route,
    ValueMatch,
    wildcard_over,
)

T = TypeVar("T")

GROUP = "gateway.networking.k8s.io"

# Newest first. The Gateway API's own order: every kind became v1 in the end, ReferenceGrant last.
_VERSIONS = ("v1", "v1beta1", "v1alpha3", "v1alpha2")
_NEWEST = {"ReferenceGrant": "v1beta1"}

# Limits of the CRDs, beyond which a route is written as several.
_HOSTNAMES = 16
_RULES = 16
_MATCHES = 64
_ROUTE_MATCHES = 128
_PARENTS = 32
_GRANTED = 16


def generate(model: Model, served: Mapping[str, Iterable[str]] | None = None) -> list[Manifest]:
    """Return every object that the list asks for, complete and labelled, sorted by kind, namespace and name.

    `served` maps a kind to the versions that the server serves ({"TCPRoute": ["v1", "v1alpha2"]}); None where
    nobody can be asked (rendered): then every kind has its newest version that is known to be served widely.
    Raises ModelError where the server doesn't serve a kind that is needed.
    """
    plan = _rules.plan(model)
    listeners = {(one.gateway.namespace, one.name): one for one in plan.listeners}
    routes = [
        route
        for host in plan.hosts
        for route in _routes(model, host, listeners.get((host.gateway.namespace, host.listener)))
    ]
    return _versioned(
        _rules.ordered(
            [
                *_gateways(model, plan.listeners),
                *routes,
                *_grants(model, plan.listeners, routes),
                *_rules.destination_rules(model),
                *_rules.service_entries(model),
                *_rules.secrets(model, plan),
                *_ports.services(model),
            ]
        ),
        served,
    )


def _batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _versioned(manifests: list[Manifest], served: Mapping[str, Iterable[str]] | None) -> list[Manifest]:
    """Fill in the versions, which are left open up to here."""
    missing = set()
    for manifest in manifests:
        kind = manifest["kind"]
        if manifest["apiVersion"] != GROUP:
            continue
        if served is None:
            version: str | None = _NEWEST.get(kind, "v1")
        else:
            there = set(served.get(kind, ()))
            version = next((version for version in _VERSIONS if version in there), None)
        if version is None:
            missing.add(kind)
        manifest["apiVersion"] = f"{GROUP}/{version}"
    if missing:
        message = f"the cluster doesn't serve {', '.join(sorted(missing))} of {GROUP}"
        cure = "Install the Gateway API's CRDs (1.6 or newer has them all), or use `api: istio`"
        raise ModelError((Problem("api", message, cure),))
    return manifests


def _object(model: Model, kind: str, name: str, namespace: str, spec: Manifest) -> Manifest:
    return {"apiVersion": GROUP, "kind": kind, "metadata": _rules.metadata(model, name, namespace), "spec": spec}


def section_names(listener: Listener) -> dict[str, str | None]:
    """Return the listeners that stand for one of ours in a Gateway: name -> hostname, None for every name.

    HTTP needs none, since routes carry the hostnames. TLS that is passed through has one for each name: only names
    that are published get an answer.
    """
    protocol = listener.protocol.lower()
    names = [hostname for _unused, hostname in listener.hosts]
    if listener.protocol in ("HTTP", "TCP"):
        return {f"{protocol}-{listener.port}": None}
    if listener.protocol == "HTTPS":
        return {f"{protocol}-{listener.name}": wildcard_over(names)}
    if len(names) == 1:
        return {f"{protocol}-{listener.name}": names[0]}
    return {f"{protocol}-{listener.name}-{index}": name for index, name in enumerate(names)}


def _gateways(model: Model, listeners: Sequence[Listener]) -> list[Manifest]:
    groups: dict[tuple[str, str], list[Listener]] = defaultdict(list)
    for listener in listeners:
        groups[listener.gateway.namespace, listener.gateway_object].append(listener)
    result = []
    for (namespace, name), members in sorted(groups.items()):
        gateway = members[0].gateway
        service = members[0].service.name if members[0].service else gateway.service
        spec: Manifest = {"gatewayClassName": gateway.class_name, "listeners": _sections(members)}
        if not gateway.deploy:
            spec["addresses"] = [{"type": "Hostname", "value": f"{service}.{namespace}.svc.{model.cluster_domain}"}]
        manifest = _object(model, "Gateway", name, namespace, spec)
        if gateway.service_type:
            manifest["metadata"]["annotations"] = {"networking.istio.io/service-type": gateway.service_type}
        result.append(manifest)
    return result


def _sections(members: Sequence[Listener]) -> list[Manifest]:
    """Write the listeners of one Gateway, sorted by name. HTTP exposures of one port share one."""
    found: dict[str, tuple[Listener, str | None]] = {}
    namespaces: dict[str, set[str]] = defaultdict(set)
    for listener in members:
        for name, hostname in section_names(listener).items():
            found.setdefault(name, (listener, hostname))
            namespaces[name].update(namespace for namespace, _unused in listener.hosts)
    result = []
    for name, (listener, hostname) in sorted(found.items()):
        section: Manifest = {"name": name, "port": listener.port, "protocol": listener.protocol}
        if hostname is not None:
            section["hostname"] = hostname
        if listener.protocol == "TLS":
            section["tls"] = {"mode": "Passthrough"}
        elif listener.tls is not None:
            secret = {"group": "", "kind": "Secret", "name": listener.secret, "namespace": listener.tls.namespace}
            section["tls"] = {"mode": "Terminate", "certificateRefs": [secret]}
            if listener.tls.mode == "MUTUAL":
                section["tls"]["options"] = {"gateway.istio.io/tls-terminate-mode": "MUTUAL"}
        section["allowedRoutes"] = {"namespaces": _allowed(listener.gateway, namespaces[name])}
        result.append(section)
    return result


def _allowed(gateway: Gateway, namespaces: set[str]) -> Manifest:
    """Say who may attach routes: as the user says, else the namespaces that the list publishes from."""
    rule = gateway.allowed_routes
    if rule is not None and rule.source != "Selector":
        return {"from": rule.source}
    if rule is not None:
        return {"from": "Selector", "selector": {"matchLabels": dict(rule.labels)}}
    if namespaces == {gateway.namespace}:
        return {"from": "Same"}
    expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(namespaces)}
    return {"from": "Selector", "selector": {"matchExpressions": [expression]}}


def _routes(model: Model, host: VirtualHost, listener: Listener | None) -> list[Manifest]:
    if host.protocol == "TCP":
        backends = [_backend(backend, host.namespace) for backend in host.routes[0].backends]
        spec = {"parentRefs": _parents(host, listener, ()), "rules": [{"backendRefs": backends}]}
        return [_object(model, "TCPRoute", host.name, host.namespace, spec)]
    if host.protocol == "TLS":
        backends = [_backend(backend, host.namespace) for backend in host.routes[0].backends]
        parts: list[Manifest] = [
            {
                "parentRefs": _parents(host, listener, names),
                "hostnames": list(names),
                "rules": [{"backendRefs": backends}],
            }
            for names in _batched(host.hostnames, _PARENTS)
        ]
        return _numbered(model, "TLSRoute", host, parts)
    kind = "GRPCRoute" if _speaks_grpc(host) else "HTTPRoute"
    rules = _grpc_rules(host) if kind == "GRPCRoute" else _http_rules(host)
    parts = []
    for names in _batched(host.hostnames, _HOSTNAMES) or [()]:
        for chunk in _chunks(rules):
            named: Manifest = {"hostnames": list(names)} if names else {}
            parts.append({"parentRefs": _parents(host, listener, ())} | named | {"rules": chunk})
    return _numbered(model, kind, host, parts)


def _numbered(model: Model, kind: str, host: VirtualHost, specs: Sequence[Manifest]) -> list[Manifest]:
    """Name the parts of what the Gateway API can't hold in one object.

    Of rules as good, the older object's wins, then the first by name: so numbers are padded.
    """
    return [
        _object(model, kind, f"{host.name}.{index:03d}" if index else host.name, host.namespace, deepcopy(spec))
        for index, spec in enumerate(specs)
    ]


def _chunks(rules: Sequence[Manifest]) -> list[list[Manifest]]:
    result: list[list[Manifest]] = [[]]
    count = 0
    for rule in rules:
        size = max(len(rule.get("matches", ())), 1)
        if len(result[-1]) == _RULES or count + size > _ROUTE_MATCHES:
            result.append([])
            count = 0
        result[-1].append(rule)
        count += size
    return result


def _parents(host: VirtualHost, listener: Listener | None, names: Sequence[str]) -> list[Manifest]:
    """Say which listeners a route hangs on; on somebody else's Gateway all that have the port."""
    parent: Manifest = {"group": GROUP, "kind": "Gateway", "namespace": host.gateway.namespace}
    if listener is None:
        namespace, _dot, name = (host.gateway.existing or "").partition("/")
        return [parent | {"namespace": namespace, "name": name, "port": host.port}]
    sections = section_names(listener)
    return [
        parent | {"name": listener.gateway_object, "sectionName": section}
        for section, hostname in sections.items()
        if not names or hostname in names
    ]


def _http_rules(host: VirtualHost) -> list[Manifest]:
    """Write the routes as they stand: Istio sorts the matches of all rules of a hostname itself."""
    result = []
    for route in host.routes:
        changed = route.rewrite or route.redirect
        # The Gateway API wants a single match where a prefix is replaced.
        size = 1 if changed is not None and changed.prefix else _MATCHES
        result += [
            {"matches": [_match(match) for match in matches], **_action(route, host.namespace, matches[0])}
            for matches in _batched(route.matches, size)
        ]
    return result


def _match(match: Match) -> Manifest:
    kinds = {"exact": "Exact", "prefix": "PathPrefix", "regex": "RegularExpression"}
    result: Manifest = {"path": {"type": kinds[match.kind], "value": match.path}}
    if match.method:
        result["method"] = match.method
    if match.headers:
        result["headers"] = _values(match.headers)
    if match.query:
        result["queryParams"] = _values(match.query)
    return result


def _values(matches: Iterable[ValueMatch]) -> list[Manifest]:
    return [
        {"type": "RegularExpression" if one.regex else "Exact", "name": one.name, "value": one.value} for one in matches
    ]


def _speaks_grpc(host: VirtualHost) -> bool:
    """Tell whether a GRPCRoute can say it all: gRPC matches, and only header changes and mirrors beside them.

    An HTTPRoute says the rest with gRPC's paths. The two kinds may not share a hostname, so it is one or the other.
    """
    matches = [match for route in host.routes for match in route.matches]
    plain = all(
        not (route.rewrite or route.redirect or route.timeout or route.retries or route.cors) for route in host.routes
    )
    return (
        plain
        and any(match.grpc for match in matches)
        and all(
            match.grpc or (match.path, match.kind, match.method, match.query) == ("/", "prefix", None, ())
            for match in matches
        )
    )


def _grpc_rules(host: VirtualHost) -> list[Manifest]:
    result = []
    for route in host.routes:
        for matches in _batched(route.matches, _MATCHES):
            action = _action(route, host.namespace, matches[0])
            written = [_grpc_match(match) for match in matches]
            result.append(({} if {} in written else {"matches": written}) | action)
    return result


def _grpc_match(match: Match) -> Manifest:
    result: Manifest = {}
    if match.grpc:
        service, method = match.grpc
        result["method"] = {"type": "Exact", "service": service} | ({"method": method} if method else {})
    if match.headers:
        result["headers"] = _values(match.headers)
    return result


def _action(route: Route, namespace: str, match: Match) -> Manifest:
    """Write what is done with a request; `match` is the one that counts where a prefix is replaced."""
    filters: list[Manifest] = []
    for kind, key, change in (
        ("RequestHeaderModifier", "requestHeaderModifier", route.request_headers),
        ("ResponseHeaderModifier", "responseHeaderModifier", route.response_headers),
    ):
        if change is not None:
            filters.append({"type": kind, key: _header_change(change)})
    if route.mirror is not None:
        backend = _reference(route.mirror.backend, namespace)
        filters.append(
            {"type": "RequestMirror", "requestMirror": {"backendRef": backend, "percent": route.mirror.percent}}
        )
    if route.redirect is not None:
        filters.append({"type": "RequestRedirect", "requestRedirect": _redirect(route.redirect, match)})
    if route.rewrite is not None:
        new: Manifest = {"hostname": route.rewrite.hostname} if route.rewrite.hostname else {}
        filters.append({"type": "URLRewrite", "urlRewrite": new | _path(route.rewrite.full, route.rewrite.prefix)})
    if route.cors is not None:
        filters.append({"type": "CORS", "cors": _cors(route.cors)})
    result: Manifest = {"filters": filters} if filters else {}
    if route.backends:
        result["backendRefs"] = [_backend(backend, namespace) for backend in route.backends]
    timeouts = {}
    if route.timeout is not None:
        timeouts["request"] = duration(route.timeout)
    if route.retries is not None:
        result["retry"] = _retry(route.retries)
        if route.retries.per_try_timeout is not None:
            timeouts["backendRequest"] = duration(route.retries.per_try_timeout)
    if timeouts:
        result["timeouts"] = timeouts
    return result


def duration(milliseconds: int) -> str:
    """Write a time as the Gateway API's Duration: whole numbers of at most five digits, with units."""
    parts = ((milliseconds // 1000, "s"), (milliseconds % 1000, "ms"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _redirect(redirect: Redirect, match: Match) -> Manifest:
    result: Manifest = {"statusCode": redirect.status}
    for key, value in (("scheme", redirect.scheme), ("hostname", redirect.hostname), ("port", redirect.port)):
        if value is not None:
            result[key] = value
    prefix = redirect.prefix
    if prefix is not None and prefix != "/" and match.path == "/":
        # Istio hands it to Envoy as it is (createRedirectFilter), and /foo for / makes /foox of /x.
        prefix = f"{prefix}/"
    return result | _path(redirect.full, prefix)


def _path(full: str | None, prefix: str | None) -> Manifest:
    if full is not None:
        return {"path": {"type": "ReplaceFullPath", "replaceFullPath": full}}
    if prefix is not None:
        return {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": prefix}}
    return {}


def _header_change(change: HeaderChange) -> Manifest:
    result: Manifest = {}
    for key, pairs in (("set", change.set), ("add", change.add)):
        if pairs:
            result[key] = [{"name": name, "value": value} for name, value in pairs]
    if change.remove:
        result["remove"] = list(change.remove)
    return result


def _retry(retries: Retries) -> Manifest:
    """Write retries; the field is in the experimental CRDs only, and the server refuses it without them."""
    result: Manifest = {"attempts": retries.attempts}
    if retries.codes:
        result["codes"] = list(retries.codes)
    if retries.backoff is not None:
        result["backoff"] = duration(retries.backoff)
    return result


def _cors(cors: Cors) -> Manifest:
    result: Manifest = {"allowOrigins": list(cors.origins), "maxAge": cors.max_age}
    if cors.methods:
        result["allowMethods"] = list(cors.methods)
    if cors.headers:
        result["allowHeaders"] = list(cors.headers)
    if cors.expose_headers:
        result["exposeHeaders"] = list(cors.expose_headers)
    if cors.credentials:
        result["allowCredentials"] = True
    return result


def _reference(backend: Backend, namespace: str) -> Manifest:
    """Name a backend; an outside host by Istio's kind `Hostname`, which a ServiceEntry stands for."""
    if backend.outside:
        return {"group": "networking.istio.io", "kind": "Hostname", "name": backend.fqdn, "port": backend.port}
    result: Manifest = {"group": "", "kind": "Service", "name": backend.service, "port": backend.port}
    if backend.namespace != namespace:
        result["namespace"] = backend.namespace
    return result


def _backend(backend: Backend, namespace: str) -> Manifest:
    return _reference(backend, namespace) | {"weight": backend.weight}


def _grants(model: Model, listeners: Iterable[Listener], routes: Iterable[Manifest]) -> list[Manifest]:
    """Allow what crosses namespaces, by name: routes to Services, and Gateways to Secrets."""
    wanted: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    for route in routes:
        own = route["metadata"]["namespace"]
        for rule in route["spec"]["rules"]:
            mirrors = [one["requestMirror"]["backendRef"] for one in rule.get("filters", ()) if "requestMirror" in one]
            for backend in [*rule.get("backendRefs", ()), *mirrors]:
                if "namespace" in backend:
                    wanted[backend["namespace"], route["kind"], own].add(("Service", backend["name"]))
    for listener in listeners:
        if listener.tls is not None and listener.tls.namespace != listener.gateway.namespace:
            wanted[listener.tls.namespace, "Gateway", listener.gateway.namespace].add(("Secret", listener.secret))
    result = []
    for (namespace, kind, source), targets in sorted(wanted.items()):
        for index, chunk in enumerate(_batched(sorted(targets), _GRANTED)):
            name = f"{model.set_name}.{kind.lower()}.{source}" + (f".{index:03d}" if index else "")
            spec = {
                "from": [{"group": GROUP, "kind": kind, "namespace": source}],
                "to": [{"group": "", "kind": target, "name": one} for target, one in chunk],
            }
            result.append(_object(model, "ReferenceGrant", name, namespace, spec))
    return result
