# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exposures, and Gateways, VirtualServices and routes made by hand, read into the shapes of `_world`. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _ports
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    Listener,
    Manifest,
    Parent,
    Place,
    Request,
    Rule,
    Table,
    Target,
    made,
    shown,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    Exposure,
    Match,
    Model,
    Route,
    certificate_names,
    gateway_name,
    gateway_object,
    listener_number,
    redirect_name,
    short,
    wildcard_over,
)

DOMAIN = "cluster.local"
CONTROLLER = "istio.io/gateway-controller"
DEPLOYED = "gateway.networking.k8s.io/gateway-name"
_MESH = "mesh"
_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "HTTP1.1")
_ROUTES = {"HTTPRoute": "http", "GRPCRoute": "http", "TLSRoute": "tls", "TCPRoute": "tcp"}


def family_of(protocol: str, *, tls: bool) -> str:
    """Return what may share a port: HTTP, TLS or TCP."""
    if protocol.upper() in _HTTP:
        return "HTTP"
    return "TLS" if tls or protocol.upper() in ("HTTPS", "TLS") else "TCP"


# Exposures


def listeners_of_model(model: Model) -> Iterator[Listener]:
    """Return what each exposure needs, `redirect_http` too. On an existing Gateway the list has no listener."""
    certificates = certificate_names(model.set_name, model.gateway, model.exposures)
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in model.exposures if model.api == "gateway_api" else ():
        if entry.at in certificates:
            names[entry.gateway.namespace, certificates[entry.at]].update(entry.hostnames or ("*",))
    for entry in model.exposures:
        if entry.gateway.existing:
            continue
        name = certificates.get(entry.at, gateway_name(entry))
        listener = _listener(model, entry, name)
        together = names.get((listener.namespace, name))
        if together:
            listener = replace(listener, widened=((entry.namespace, wildcard_over(together) or "*"),))
        yield listener
        if entry.redirect_http:
            yield _listener(model, entry, redirect_name(entry), redirect=True)


def _listener(model: Model, entry: Exposure, name: str, *, redirect: bool = False) -> Listener:
    gateway = entry.gateway
    tls = None if redirect else entry.tls
    owner = name
    if model.api == "gateway_api":
        owner = gateway_object(model.set_name, entry, name, redirect=redirect)
    holder = f"Gateway {gateway.namespace}/{owner}"

    def place(field: str) -> Place:
        return Place(holder, f"{entry.at}.{field}", entry.name)

    service = entry.service.name if entry.service and not redirect else gateway.service
    protocol = "HTTP" if redirect else entry.protocol
    mode = "PASSTHROUGH" if protocol == "TLS" else (tls.mode if tls else "")
    by_labels = model.api == "istio"
    return Listener(
        model.api,
        gateway.namespace,
        owner,
        place("redirect_http" if redirect else "name"),
        place("redirect_http" if redirect else "port"),
        place("hostnames"),
        place("tls.secret" if tls and not tls.ours else "tls"),
        80 if redirect else _number(model, entry),
        protocol,
        family_of(protocol, tls=protocol in ("HTTPS", "TLS")),
        tuple((entry.namespace, hostname) for hostname in entry.hostnames or ("*",)),
        mode,
        ((tls.namespace, tls.secret),) if tls and tls.secret else (),
        selector=dict(gateway.selector) if by_labels else None,
        services=None if by_labels or gateway.deploy else (f"{gateway.namespace}/{service}",),
        deployed=not by_labels and gateway.deploy,
    )


def _number(model: Model, entry: Exposure) -> int:
    """Return an exposure's port as the list's Gateway says it."""
    return listener_number(entry) if model.api == "istio" else entry.port


def tables_of_model(model: Model) -> Iterator[Table]:
    """Return the routes of each exposure. TLS and TCP exposures have one rule."""
    certificates = certificate_names(model.set_name, model.gateway, model.exposures)
    for entry in model.exposures:
        family = {"TCP": "tcp", "TLS": "tls"}.get(entry.protocol, "http")
        kind = "VirtualService"
        if model.api == "gateway_api":
            kind = {"tcp": "TCPRoute", "tls": "TLSRoute"}.get(family, "HTTPRoute")
        holder = f"{kind} {entry.namespace}/{short(entry.name, 200)}"
        gateway = entry.gateway
        space, owner = gateway.namespace, certificates.get(entry.at, gateway_name(entry))
        if model.api == "gateway_api" and not gateway.existing:
            owner = gateway_object(model.set_name, entry, owner)
        if gateway.existing:
            space, _slash, owner = gateway.existing.rpartition("/")
        existing_at = Place(holder, f"{entry.at}.gateway.existing", entry.name)
        parent = Parent(space or gateway.namespace, owner, existing_at, port=_number(model, entry))
        yield Table(
            model.api,
            kind,
            entry.namespace,
            entry.name,
            Place(holder, f"{entry.at}.name", entry.name),
            Place(holder, f"{entry.at}.hostnames", entry.name),
            entry.hostnames or ("*",),
            (parent,),
            tuple(_rule_of_route(entry, route, family, holder) for route in entry.routes),
            frozenset({gateway.namespace}) if model.api == "istio" else None,
        )


def _rule_of_route(entry: Exposure, route: Route, family: str, holder: str) -> Rule:
    single = route.at.endswith(".backend")

    def target(backend: Backend, at: str, *, mirror: bool = False) -> Target:
        return Target(
            Place(holder, at, entry.name),
            backend.fqdn,
            backend.port,
            backend.subset or "",
            backend.weight,
            backend.service,
            backend.namespace,
            backend.tls is not None,
            backend.outside,
            mirror,
        )

    targets = [
        target(backend, route.at if single else f"{route.at}.backends[{i}]") for i, backend in enumerate(route.backends)
    ]
    if route.mirror is not None:
        targets.append(target(route.mirror.backend, f"{route.at}.mirror", mirror=True))
    redirect = None
    if route.redirect is not None and not route.redirect.full and not route.redirect.prefix:
        redirect = (route.redirect.scheme or "", route.redirect.hostname or "", route.redirect.port or 0)
    return Rule(
        family,
        Place(holder, route.at, entry.name),
        tuple(_request_of_match(match) for match in route.matches),
        tuple(targets),
        tuple(entry.hostnames) if family == "tls" else (),
        redirect,
        grpc=any(match.grpc for match in route.matches),
    )


def _request_of_match(match: Match) -> Request:
    conditions = {("method", "", "exact", match.method)} if match.method else set()
    for what, values in (("header", match.headers), ("query", match.query)):
        conditions |= {(what, one.name.lower(), "regex" if one.regex else "exact", one.value) for one in values}
    kind = "segment" if match.kind == "prefix" else match.kind
    return Request(kind, match.path, frozenset(conditions))


# Istio's own API


def listeners_of_gateway(gateway: Manifest) -> Iterator[Listener]:
    """Return the servers of an Istio Gateway."""
    namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    spec = gateway.get("spec") or {}
    holder = shown(gateway)
    for index, server in enumerate(spec.get("servers") or ()):
        port, tls = server.get("port") or {}, server.get("tls") or {}
        protocol = str(port.get("protocol") or "").upper()
        redirect = bool(tls.get("httpsRedirect"))
        ended = bool(tls) and protocol not in _HTTP
        at = f"spec.servers[{index}]"
        yield Listener(
            "istio",
            namespace,
            name,
            Place(holder, at),
            Place(holder, f"{at}.port.number"),
            Place(holder, f"{at}.hosts"),
            Place(holder, f"{at}.tls"),
            int(port.get("number") or 0),
            protocol,
            family_of(protocol, tls=ended),
            tuple(_scoped(str(host), namespace) for host in server.get("hosts") or ()),
            # A mode that isn't written is the first of the enumeration, PASSTHROUGH
            str(tls.get("mode") or "PASSTHROUGH") if ended else "",
            tuple(credentials_of(tls)),
            str(tls.get("caCertCredentialName") or ""),
            tuple(str(tls[key]) for key in ("serverCertificate", "privateKey", "caCertificates") if tls.get(key)),
            redirect,
            dict(spec.get("selector") or {}),
            section=str(port.get("name") or ""),
            bind=str(server.get("bind") or ""),
            made=made(gateway),
            object=gateway,
        )


def _scoped(host: str, namespace: str) -> tuple[str, str]:
    """Read a server's host: NAMESPACE/NAME, ./NAME or NAME, as (namespace or *, name)."""
    owner, slash, name = host.rpartition("/")
    return ({".": namespace}.get(owner, owner) if slash else "*", name)


def credentials_of(tls: Manifest) -> Iterator[tuple[str, str]]:
    """Return the Secrets of a server's certificates: (namespace or empty, name)."""
    for name in tls.get("credentialNames") or [tls.get("credentialName") or ""]:
        if name and is_secret(str(name)):
            yield _credential(str(name))


def is_secret(name: str) -> bool:
    """Whether a credentialName is a Secret's, and not builtin:// or one of another server of certificates."""
    return name.partition("://")[1] == "" or name.startswith("kubernetes://")


def _credential(name: str) -> tuple[str, str]:
    """Return (namespace or empty, name) of a credentialName, which may be kubernetes://NAME or NAMESPACE/NAME."""
    plain = name.partition("://")[2] or name
    namespace, _slash, bare = plain.rpartition("/")
    return namespace, bare


def table_of_virtual_service(service: Manifest, others: Mapping[tuple[str, str], Manifest]) -> Table:
    """Read a VirtualService. `others` are all of them by (namespace, name), for rules that it delegates."""
    namespace = service["metadata"]["namespace"]
    spec = service.get("spec") or {}
    holder = shown(service)
    gateways = [str(name) for name in spec.get("gateways") or (_MESH,)]
    parents = [
        Parent(*gateway_reference(name, namespace), Place(holder, f"spec.gateways[{index}]"))
        for index, name in enumerate(gateways)
        if name != _MESH
    ]
    rules: list[Rule] = []
    for family in ("http", "tls", "tcp"):
        for index, entry in enumerate(spec.get(family) or ()):
            rules.extend(_rules(entry, family, Place(holder, f"spec.{family}[{index}]"), namespace, others))
    mesh = _MESH in gateways
    if mesh:
        rules = [one for rule in rules for one in _at_gateways(rule)]
    return Table(
        "istio",
        "VirtualService",
        namespace,
        service["metadata"]["name"],
        Place(holder),
        Place(holder, "spec.hosts"),
        tuple(complete(str(host), namespace) for host in spec.get("hosts") or ()),
        tuple(parents),
        tuple(rules),
        exported(spec.get("exportTo"), namespace),
        made(service),
        service,
        mesh,
    )


def _at_gateways(rule: Rule) -> Iterator[Rule]:
    """Return a rule of a VirtualService that sidecars take too, without the requests that are theirs alone."""
    requests = tuple(
        replace(one, gateways=tuple(name for name in one.gateways if name != _MESH))
        for one in rule.requests
        if set(one.gateways) != {_MESH}
    )
    if requests:
        yield replace(rule, requests=requests)


def gateway_reference(name: str, namespace: str) -> tuple[str, str]:
    """Return (namespace, name) of a Gateway as a VirtualService names it (resolveGatewayName in model/config.go)."""
    owner, slash, bare = name.partition("/")
    if slash:
        return namespace if owner == "." else owner, bare
    parts = name.split(".")
    return (parts[1], parts[0]) if len(parts) > 1 else (namespace, name)


def exported(names: Iterable[str] | None, namespace: str) -> frozenset[str] | None:
    """Return the namespaces that an exportTo means, None for all."""
    found = {namespace if name == "." else str(name) for name in names or ()}
    return None if not found or "*" in found else frozenset(found)


def complete(host: str, namespace: str) -> str:
    """Complete a name as Istio does: only one without a dot is a Service of the same namespace."""
    return host if "." in host or host == "*" or not host else f"{host}.{namespace}.svc.{DOMAIN}"


def service_of(host: str) -> tuple[str, str]:
    """Return (namespace, name) of the Service that a complete host is, or two empty texts."""
    parts = host.split(".")
    if len(parts) >= 3 and parts[2] == "svc" and (len(parts) > 3):
        return parts[1], parts[0]
    return "", ""


def _rules(
    entry: Manifest, family: str, place: Place, namespace: str, others: Mapping[tuple[str, str], Manifest]
) -> list[Rule]:  # fmt: skip
    if entry.get("delegate"):
        return _delegated(entry, family, place, namespace, others)
    matches = [match or {} for match in entry.get("match") or ()]
    requests = [_request(match, family, f"{place.path}.match[{i}]", namespace) for i, match in enumerate(matches)]
    targets = [
        _target(route, place, f"{place.path}.route[{i}]", namespace) for i, route in enumerate(entry.get("route") or ())
    ]
    mirrors = [{"destination": entry["mirror"]}] if entry.get("mirror") else (entry.get("mirrors") or ())
    targets += [
        _target(one, place, f"{place.path}.mirrors[{i}]", namespace, mirror=True) for i, one in enumerate(mirrors)
    ]
    redirect = entry.get("redirect")
    sends = None
    if redirect and not redirect.get("uri"):
        sends = (
            str(redirect.get("scheme") or ""),
            str(redirect.get("authority") or ""),
            int(redirect.get("port") or 0),
        )
    names = tuple(str(name) for match in matches for name in match.get("sniHosts") or ())
    rewrite = (entry.get("rewrite") or {}).get("uri")
    return [Rule(family, place, tuple(requests) or (Request(at=place.path),), tuple(targets), names, sends, rewrite)]


def _delegated(
    entry: Manifest, family: str, place: Place, namespace: str, others: Mapping[tuple[str, str], Manifest]
) -> list[Rule]:  # fmt: skip
    """Return a delegate's rules within the one that leads to them (mergeHTTPRoute in model/virtualservice.go)."""
    owner = (str(entry["delegate"].get("namespace") or namespace), str(entry["delegate"].get("name")))
    inner = others.get(owner)
    parts = ((inner or {}).get("spec") or {}).get("http") or ()
    if inner is None or not parts:
        alone = {"match": entry.get("match")}
        return [replace(rule, delegate=owner) for rule in _rules(alone, family, place, namespace, others)]
    outer = [_with_full_names(match or {}, namespace) for match in entry.get("match") or ()]
    found = []
    for index, part in enumerate(parts):
        matches = _merged(outer, [_with_full_names(match or {}, owner[0]) for match in part.get("match") or ()])
        if matches is None:
            continue  # Istio leaves the rule out, and says so in its log alone
        there = Place(shown(inner), f"spec.http[{index}]")
        whole = {"rewrite": entry.get("rewrite"), **part, "match": matches}
        found += [
            replace(rule, requests=tuple(replace(one, at=there.path) for one in rule.requests))
            for rule in _rules(whole, family, there, owner[0], {})
        ]
    return found


def _with_full_names(match: Manifest, namespace: str) -> Manifest:
    return {**match, "gateways": list(_gateways(match, namespace))}


def _merged(outer: list[Manifest], inner: list[Manifest]) -> list[Manifest] | None:
    """Return the matches of a delegate's rule, each within every outer one that it fits; None where it fits none."""
    if not outer or not inner:
        return outer or inner
    found = []
    for leaf in inner:
        within = [root for root in outer if not _conflict(root, leaf)]
        if not within:
            return None
        for root in within:
            merged = {**root, **{key: value for key, value in leaf.items() if value}}
            for key in ("headers", "withoutHeaders", "queryParams", "sourceLabels"):
                merged[key] = {**(root.get(key) or {}), **(leaf.get(key) or {})}
            found.append(merged)
    return found


def _conflict(root: Manifest, leaf: Manifest) -> bool:
    """Whether Istio takes a delegate's match for outside of the outer one (hasConflict in model/virtualservice.go)."""
    pairs = [(root.get(key), leaf.get(key)) for key in ("uri", "scheme", "method", "authority")]
    for key in ("headers", "withoutHeaders", "queryParams"):
        pairs += [((root.get(key) or {}).get(name), value) for name, value in (leaf.get(key) or {}).items()]
    labels = root.get("sourceLabels") or {}
    return (
        any(_apart(first, second) for first, second in pairs)
        or bool(root.get("ignoreUriCase")) != bool(leaf.get("ignoreUriCase"))
        or bool(root.get("port") and leaf.get("port") and root["port"] != leaf["port"])
        or bool(root.get("sourceNamespace") and root["sourceNamespace"] != leaf.get("sourceNamespace"))
        or any(labels.get(key, value) != value for key, value in (leaf.get("sourceLabels") or {}).items())
        or bool(root["gateways"] and not set(leaf["gateways"]) <= set(root["gateways"]))
    )


def _apart(root: Mapping[str, Any] | None, leaf: Mapping[str, Any] | None) -> bool:
    if root is None or leaf is None:
        return False
    if "exact" in root:
        return bool(leaf.get("exact") != root["exact"])
    wanted = leaf.get("prefix") or leaf.get("exact")
    return not (root.get("prefix") and wanted and str(wanted).startswith(str(root["prefix"])))


def _gateways(match: Manifest, namespace: str) -> tuple[str, ...]:
    return tuple(
        _MESH if name == _MESH else "/".join(gateway_reference(str(name), namespace))
        for name in match.get("gateways") or ()
    )


def _request(match: Manifest, family: str, at: str, namespace: str) -> Request:
    gateways = _gateways(match, namespace)
    if family != "http":
        return Request(port=match.get("port"), gateways=gateways, at=at)
    uri = match.get("uri") or {}
    kind = next((how for how in ("exact", "prefix", "regex") if how in uri), "any")
    path = str(uri.get(kind, ""))
    conditions: set[tuple[str, str, str, str]] = set()
    if match.get("ignoreUriCase"):
        path = path.lower()
        conditions.add(("ignoreUriCase", "", "", path))
    for what in ("method", "scheme", "authority"):
        conditions |= _conditions(what, "", match.get(what))
    for what, key in (("header", "headers"), ("query", "queryParams"), ("without header", "withoutHeaders")):
        for name, value in (match.get(key) or {}).items():
            conditions |= _conditions(what, str(name).lower(), value or {"present": ""})
    if not gateways:  # where one is named, Istio doesn't look at the source (sourceMatchHTTP in core/route/route.go)
        for name, value in (match.get("sourceLabels") or {}).items():
            conditions.add(("source label", str(name), "exact", str(value)))
        if match.get("sourceNamespace"):
            conditions.add(("source namespace", "", "exact", str(match["sourceNamespace"])))
    return Request(kind, path, frozenset(conditions), match.get("port"), gateways, at)


def _conditions(what: str, name: str, value: Mapping[str, Any] | None) -> set[tuple[str, str, str, str]]:
    return {(what, name, str(how), str(wanted)) for how, wanted in (value or {}).items()}


def _target(entry: Manifest, place: Place, at: str, namespace: str, *, mirror: bool = False) -> Target:
    destination = entry.get("destination") or {}
    host = complete(str(destination.get("host") or ""), namespace)
    owner, name = service_of(host)
    return Target(
        Place(place.object, f"{at}.destination"),
        host,
        (destination.get("port") or {}).get("number"),
        str(destination.get("subset") or ""),
        entry.get("weight"),
        name,
        owner,
        mirror=mirror,
    )


# The Gateway API


def listeners_of_kubernetes_gateway(gateway: Manifest) -> Iterator[Listener]:
    """Return the listeners of a Gateway API Gateway of Istio's."""
    namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    spec = gateway.get("spec") or {}
    holder = shown(gateway)
    addresses = [entry for entry in spec.get("addresses") or () if entry.get("type") == "Hostname"]
    services = tuple(_service_address(str(entry.get("value")), namespace) for entry in addresses)
    for index, entry in enumerate(spec.get("listeners") or ()):
        at = f"spec.listeners[{index}]"
        tls = entry.get("tls") or {}
        protocol = str(entry.get("protocol") or "").upper()
        options = tls.get("options") or {}
        mode = ""
        if protocol in ("HTTPS", "TLS"):
            ended = str(options.get("gateway.istio.io/tls-terminate-mode") or "SIMPLE")
            mode = "PASSTHROUGH" if tls.get("mode") == "Passthrough" else ended
        yield Listener(
            "gateway_api",
            namespace,
            name,
            Place(holder, at),
            Place(holder, f"{at}.port"),
            Place(holder, f"{at}.hostname"),
            Place(holder, f"{at}.tls"),
            int(entry.get("port") or 0),
            protocol,
            family_of(protocol, tls=bool(mode)),
            (("*", str(entry.get("hostname") or "*")),),
            mode,
            tuple(
                (str(one.get("namespace") or namespace), str(one.get("name")))
                for one in tls.get("certificateRefs") or ()
                if one.get("kind", "Secret") == "Secret"
            ),
            _client_authority(spec, namespace, entry.get("port")),
            services=services or None,
            deployed=not services,
            section=str(entry.get("name") or ""),
            allowed=entry.get("allowedRoutes") or {},
            made=made(gateway),
            object=gateway,
        )


def _client_authority(spec: Manifest, namespace: str, port: int | None) -> str:
    """Return what a Gateway checks clients' certificates with on a port (spec.tls.frontend)."""
    frontend = (spec.get("tls") or {}).get("frontend") or {}
    chosen = next((one.get("tls") for one in frontend.get("perPort") or () if one.get("port") == port), None)
    for one in ((chosen or frontend.get("default") or {}).get("validation") or {}).get("caCertificateRefs") or ():
        return f"{str(one.get('kind')).lower()}://{one.get('namespace') or namespace}/{one.get('name')}"
    return ""


def _service_address(value: str, namespace: str) -> str:
    parts = value.split(".")
    return f"{parts[1] if len(parts) > 1 else namespace}/{parts[0]}"


def table_of_route(route: Manifest) -> Table:
    """Read an HTTPRoute, GRPCRoute, TLSRoute or TCPRoute."""
    namespace = route["metadata"]["namespace"]
    spec = route.get("spec") or {}
    holder = shown(route)
    family = _ROUTES[route["kind"]]
    references = spec.get("parentRefs") or ()
    parents = [
        Parent(
            str(entry.get("namespace") or namespace),
            str(entry.get("name")),
            Place(holder, f"spec.parentRefs[{index}]"),
            str(entry.get("sectionName") or ""),
            entry.get("port"),
        )
        for index, entry in enumerate(references)
        if entry.get("kind", "Gateway") == "Gateway" and entry.get("group", _kinds.GATEWAY_API) == _kinds.GATEWAY_API
    ]
    hostnames = tuple(str(name) for name in spec.get("hostnames") or ())
    return Table(
        "gateway_api",
        route["kind"],
        namespace,
        route["metadata"]["name"],
        Place(holder),
        Place(holder, "spec.hostnames"),
        hostnames or ("*",),
        tuple(parents),
        tuple(
            replace(
                _rule_of_api(rule, family, Place(holder, f"spec.rules[{index}]"), namespace, hostnames),
                grpc=route["kind"] == "GRPCRoute",
            )
            for index, rule in enumerate(spec.get("rules") or ())
        ),
        None,
        made(route),
        route,
        any(entry.get("kind") in ("Service", "ServiceEntry") for entry in references),
    )


def _rule_of_api(rule: Manifest, family: str, place: Place, namespace: str, hostnames: tuple[str, ...]) -> Rule:
    matches = rule.get("matches") or ()
    requests = tuple(_api_request(match, f"{place.path}.matches[{i}]") for i, match in enumerate(matches))
    targets = [
        _api_target(one, Place(place.object, f"{place.path}.backendRefs[{i}]"), namespace)
        for i, one in enumerate(rule.get("backendRefs") or ())
    ]
    redirect = None
    for index, entry in enumerate(rule.get("filters") or ()):
        if entry.get("requestMirror"):
            there = Place(place.object, f"{place.path}.filters[{index}]")
            targets.append(_api_target(entry["requestMirror"].get("backendRef") or {}, there, namespace, mirror=True))
        sends = entry.get("requestRedirect")
        if sends and not sends.get("path"):
            redirect = (str(sends.get("scheme") or ""), str(sends.get("hostname") or ""), int(sends.get("port") or 0))
    return Rule(
        family,
        place,
        requests or (Request(at=place.path),),
        tuple(targets),
        hostnames if family == "tls" else (),
        redirect,
    )


def _api_request(match: Manifest, at: str) -> Request:
    kinds = {"Exact": "exact", "PathPrefix": "segment", "RegularExpression": "regex"}
    path = match.get("path") or {}
    conditions: set[tuple[str, str, str, str]] = set()
    method = match.get("method")
    if isinstance(method, Mapping):
        conditions.add(("grpc", str(method.get("service")), "exact", str(method.get("method"))))
    elif method:
        conditions.add(("method", "", "exact", str(method)))
    for what, key in (("header", "headers"), ("query", "queryParams")):
        for one in match.get(key) or ():
            how = "regex" if one.get("type") == "RegularExpression" else "exact"
            conditions.add((what, str(one.get("name")).lower(), how, str(one.get("value"))))
    return Request(
        kinds.get(str(path.get("type")), "segment"), str(path.get("value") or "/"), frozenset(conditions), at=at
    )


def _api_target(entry: Manifest, place: Place, namespace: str, *, mirror: bool = False) -> Target:
    """Read a backendRef. What is neither a Service nor a hostname isn't looked at: Istio says by a condition if it
    doesn't know it."""
    name, owner = str(entry.get("name")), str(entry.get("namespace") or namespace)
    kind = (str(entry.get("group") or ""), str(entry.get("kind") or "Service"))
    port, weight = entry.get("port"), entry.get("weight", 1)
    if kind == (_kinds.ISTIO, "Hostname"):
        owner, service = service_of(name)
        return Target(place, name, port, "", weight, service, owner, mirror=mirror)
    if kind != ("", "Service"):
        return Target(place, "", port, "", weight, mirror=mirror)
    return Target(place, f"{name}.{owner}.svc.{DOMAIN}", port, "", weight, name, owner, mirror=mirror, granted=True)


# Services


def with_our_ports(model: Model, services: Iterable[Manifest]) -> list[Manifest]:
    """Return the Services as they will be: with the ports that the list adds, and those that it makes."""
    found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
    for gateway in _ports.gateways(model) if model.exposures else ():
        key = (gateway.namespace, gateway.service)
        service = found.get(key)
        if service is None:
            continue
        try:
            wanted = _ports.wanted(model, service, gateway)
        except ModelError:
            continue
        spec = service.get("spec") or {}
        ports = {port["port"]: port for port in spec.get("ports") or ()}
        for port in wanted:
            ports[port["port"]] = {**ports.get(port["port"], {}), **port}
        found[key] = {**service, "spec": {**spec, "ports": list(ports.values())}}
    for made_here in _ports.services(model):
        key = (made_here["metadata"]["namespace"], made_here["metadata"]["name"])
        before = found.get(key) or {}
        found[key] = {**before, **made_here}
    return list(found.values())
