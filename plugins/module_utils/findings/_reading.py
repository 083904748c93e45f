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
    redirect_name,
    short,
    wildcard_over,
)

DOMAIN = "cluster.local"
CONTROLLER = "istio.io/gateway-controller"
DEPLOYED = "gateway.networking.k8s.io/gateway-name"
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
        80 if redirect else entry.port,
        protocol,
        family_of(protocol, tls=protocol in ("HTTPS", "TLS")),
        tuple((entry.namespace, hostname) for hostname in entry.hostnames or ("*",)),
        mode,
        ((tls.namespace, tls.secret),) if tls and tls.secret else (),
        selector=dict(gateway.selector) if by_labels else None,
        services=None if by_labels or gateway.deploy else (f"{gateway.namespace}/{service}",),
        deployed=not by_labels and gateway.deploy,
    )


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
        parent = Parent(space or gateway.namespace, owner, existing_at, port=entry.port)
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
        names = tls.get("credentialNames") or ([tls["credentialName"]] if tls.get("credentialName") else [])
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
            tuple(_credential(str(one)) for one in names),
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
    parents = [
        Parent(*gateway_reference(str(name), namespace), Place(holder, f"spec.gateways[{index}]"))
        for index, name in enumerate(spec.get("gateways") or ())
        if name != "mesh"
    ]
    rules: list[Rule] = []
    for family in ("http", "tls", "tcp"):
        for index, entry in enumerate(spec.get(family) or ()):
            rules.extend(_rules(entry, family, Place(holder, f"spec.{family}[{index}]"), namespace, others))
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
    )


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
    matches = entry.get("match") or ()
    if family == "http":
        requests = tuple(_request(match or {}, f"{place.path}.match[{i}]") for i, match in enumerate(matches))
    else:
        requests = tuple(
            Request(port=match.get("port"), gateways=_gateways(match, namespace), at=f"{place.path}.match[{i}]")
            for i, match in enumerate(matches)
        )
    requests = tuple(_with_gateways(one, match or {}, namespace) for one, match in zip(requests, matches, strict=True))
    requests = requests or (Request(at=place.path),)
    targets = [
        _target(route, place, f"{place.path}.route[{i}]", namespace) for i, route in enumerate(entry.get("route") or ())
    ]
    mirrors = [{"destination": entry["mirror"]}] if entry.get("mirror") else (entry.get("mirrors") or ())
    targets += [
        _target(one, place, f"{place.path}.mirrors[{i}]", namespace, mirror=True) for i, one in enumerate(mirrors)
    ]
    delegate = entry.get("delegate")
    if delegate:
        owner = (str(delegate.get("namespace") or namespace), str(delegate.get("name")))
        inner = others.get(owner)
        if inner is None:
            return [Rule(family, place, requests, delegate=owner)]
        found = []
        for index, part in enumerate((inner.get("spec") or {}).get("http") or ()):
            there = Place(shown(inner), f"spec.http[{index}]")
            found += [
                Rule(family, rule.place, requests, rule.targets, (), rule.redirect, None, owner)
                for rule in _rules(part, family, there, owner[0], {})
            ]
        return found
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
    return [Rule(family, place, requests, tuple(targets), names, sends, rewrite)]


def _gateways(match: Manifest, namespace: str) -> tuple[str, ...]:
    return tuple("/".join(gateway_reference(str(name), namespace)) for name in match.get("gateways") or ())


def _with_gateways(request: Request, match: Manifest, namespace: str) -> Request:
    names = _gateways(match, namespace)
    if not names:
        return request
    return Request(request.kind, request.path, request.conditions, request.port, names, request.at)


def _request(match: Manifest, at: str) -> Request:
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
    return Request(kind, path, frozenset(conditions), match.get("port"), at=at)


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
            services=services or None,
            deployed=not services,
            section=str(entry.get("name") or ""),
            allowed=entry.get("allowedRoutes") or {},
            made=made(gateway),
            object=gateway,
        )


def _service_address(value: str, namespace: str) -> str:
    parts = value.split(".")
    return f"{parts[1] if len(parts) > 1 else namespace}/{parts[0]}"


def table_of_route(route: Manifest) -> Table:
    """Read an HTTPRoute, GRPCRoute, TLSRoute or TCPRoute."""
    namespace = route["metadata"]["namespace"]
    spec = route.get("spec") or {}
    holder = shown(route)
    family = _ROUTES[route["kind"]]
    parents = [
        Parent(
            str(entry.get("namespace") or namespace),
            str(entry.get("name")),
            Place(holder, f"spec.parentRefs[{index}]"),
            str(entry.get("sectionName") or ""),
            entry.get("port"),
        )
        for index, entry in enumerate(spec.get("parentRefs") or ())
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
    name, owner = str(entry.get("name")), str(entry.get("namespace") or namespace)
    if entry.get("kind", "Service") == "Hostname":
        return Target(place, name, entry.get("port"), weight=entry.get("weight"), mirror=mirror)
    host = f"{name}.{owner}.svc.{DOMAIN}"
    return Target(place, host, entry.get("port"), "", entry.get("weight", 1), name, owner, mirror=mirror)


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
