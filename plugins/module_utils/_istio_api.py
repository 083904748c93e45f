# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as objects of Istio's own API: Gateway, VirtualService, DestinationRule, ServiceEntry.

Gateways lie with the gateway's pods, so that they are seen even where istiod has PILOT_SCOPE_GATEWAY_TO_NAMESPACE set,
and take routes from the exposure's namespace alone. VirtualServices lie in the exposure's namespace.
"""

from __future__ import annotations

import json
import re
from itertools import groupby

from ansible_collections.edgeway.istio.plugins.module_utils import _ports
from ansible_collections.edgeway.istio.plugins.module_utils.model import _rules
from ansible_collections.edgeway.istio.plugins.module_utils.model._rules import Listener, Manifest, VirtualHost, seconds
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    Cors,
    HeaderChange,
    Match,
    Model,
    Redirect,
    Retries,
    Rewrite,
    Route,
    ValueMatch,
)


def generate(model: Model) -> list[Manifest]:
    """Return every object that the list asks for, complete and labelled, sorted by kind, namespace and name.

    Raises ModelError where names clash in the cluster that differ in the list.
    """
    plan = _rules.plan(model)
    return _rules.ordered(
        [
            *(_gateway(model, listener) for listener in plan.listeners),
            *(_virtual_service(model, host) for host in plan.hosts),
            *_rules.destination_rules(model),
            *_rules.service_entries(model),
            *_rules.secrets(model, plan),
            *_ports.services(model),
        ]
    )


def _gateway(model: Model, listener: Listener) -> Manifest:
    server: Manifest = {
        "port": {
            "number": listener.number,
            "name": f"{listener.protocol.lower()}-{listener.port}",
            "protocol": listener.protocol,
        },
        "hosts": [f"{namespace}/{hostname}" for namespace, hostname in listener.hosts],
    }
    if listener.protocol == "TLS":
        server["tls"] = {"mode": "PASSTHROUGH"}
    elif listener.tls is not None:
        server["tls"] = {"mode": listener.tls.mode, "credentialName": listener.secret}
        if listener.tls.min_version:
            server["tls"]["minProtocolVersion"] = "TLSV" + listener.tls.min_version.replace(".", "_")
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": _rules.metadata(model, listener.name, listener.gateway.namespace),
        "spec": {"selector": dict(listener.gateway.selector), "servers": [server]},
    }


def _virtual_service(model: Model, host: VirtualHost) -> Manifest:
    spec: Manifest = {
        "hosts": list(host.hostnames) or ["*"],
        "gateways": [host.gateway.existing or f"{host.gateway.namespace}/{host.listener}"],
        "exportTo": [host.gateway.namespace],
    }
    if host.protocol == "TCP":
        spec["tcp"] = [{"match": [{"port": host.number}], "route": _destinations(host.routes[0])}]
    elif host.protocol == "TLS":
        match = {"port": host.number, "sniHosts": list(host.hostnames)}
        spec["tls"] = [{"match": [match], "route": _destinations(host.routes[0])}]
    else:
        spec["http"] = _http(host)
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _rules.metadata(model, host.name, host.namespace),
        "spec": spec,
    }


def _http(host: VirtualHost) -> list[Manifest]:
    """Write the rules in their order; neighbours that do the same become one.

    Somebody else's Gateway may have servers on several ports, so there every match says which one is meant.
    """
    port: Manifest = {"port": host.port} if host.gateway.existing else {}
    own = host.port if host.number != host.port else None
    steps = [step for rule in host.rules() for step in _steps(rule.match, rule.route, own)]
    fresh: list[tuple[Manifest, Manifest]] = []
    seen: set[str] = set()
    for match, action in steps:
        # /a by prefix holds /a itself, which an exact match may have taken: Istio warns of what is never reached.
        key = json.dumps(match, sort_keys=True)
        if key not in seen:
            seen.add(key)
            fresh.append((match, action))
    result = []
    # What takes everything stays apart: a replaced prefix is the one that was matched, and there it is another.
    for (_nothing, action), group in groupby(fresh, key=lambda step: (not step[0], step[1])):
        matches = [match | port for match, _action in group]
        result.append(action if matches == [{}] else {"match": matches} | action)
    return result


def _steps(match: Match, route: Route, port: int | None) -> list[tuple[Manifest, Manifest]]:
    """Return what one match becomes: (match, action) pairs.

    A VirtualService compares a prefix by letters, so /api by segment is /api itself and all below /api/. The two take
    different new paths, which must not end in two slashes. `port` is the VIP's, where the listener has another number.
    """
    rest: Manifest = {}
    if match.method:
        rest["method"] = {"exact": match.method}
    if match.headers:
        rest["headers"] = {one.name: _string_match(one) for one in match.headers}
    if match.query:
        rest["queryParams"] = {one.name: _string_match(one) for one in match.query}
    if match.kind != "prefix":
        return [({"uri": {match.kind: match.path}} | rest, _action(route, port))]
    if match.path == "/":
        return [(({"uri": {"prefix": "/"}} | rest) if rest else {}, _action(route, port, below=True))]
    return [
        ({"uri": {"exact": match.path}} | rest, _action(route, port)),
        ({"uri": {"prefix": f"{match.path}/"}} | rest, _action(route, port, below=True)),
    ]


def _string_match(one: ValueMatch) -> Manifest:
    return {"regex" if one.regex else "exact": one.value}


def _action(route: Route, port: int | None, *, below: bool = False) -> Manifest:
    """Write what is done with a request. `below` says that a prefix with its slash was matched."""
    action: Manifest = {}
    if route.redirect is not None:
        action["redirect"] = _redirect(route.redirect, port, below=below)
    if route.rewrite is not None:
        action["rewrite"] = _rewrite(route.rewrite, below=below)
    headers = {
        side: _header_change(change)
        for side, change in (("request", route.request_headers), ("response", route.response_headers))
        if change is not None
    }
    if headers:
        action["headers"] = headers
    if route.timeout is not None:
        action["timeout"] = seconds(route.timeout)
    if route.retries is not None:
        action["retries"] = _retries(route.retries)
    if route.mirror is not None:
        percentage = {"value": route.mirror.percent}
        action["mirrors"] = [{"destination": _destination(route.mirror.backend), "percentage": percentage}]
    if route.cors is not None:
        action["corsPolicy"] = _cors(route.cors)
    if route.backends:
        action["route"] = _destinations(route)
    return action


def _rewrite(rewrite: Rewrite, *, below: bool) -> Manifest:
    result: Manifest = {}
    if rewrite.hostname:
        result["authority"] = rewrite.hostname
    if rewrite.full:
        result["uriRegexRewrite"] = {"match": "/.*", "rewrite": rewrite.full}
    if rewrite.prefix:
        result["uri"] = f"{rewrite.prefix.rstrip('/')}/" if below else rewrite.prefix
    return result


def _redirect(redirect: Redirect, port: int | None, *, below: bool) -> Manifest:
    """Write a redirect. Without a port Istio would drop the request's, and the Gateway API keeps it."""
    result: Manifest = {"redirectCode": redirect.status}
    if redirect.scheme:
        result["scheme"] = redirect.scheme
    if redirect.hostname:
        result["authority"] = redirect.hostname
    if redirect.port:
        result["port"] = redirect.port
    elif redirect.scheme:
        result["derivePort"] = "FROM_PROTOCOL_DEFAULT"
    elif port:
        result["port"] = port
    else:
        result["derivePort"] = "FROM_REQUEST_PORT"
    if redirect.full:
        result["uri"] = redirect.full
    if redirect.prefix and below:
        result["prefixRewrite"] = f"{redirect.prefix.rstrip('/')}/"
    elif redirect.prefix:
        result["uri"] = redirect.prefix
    return result


def _header_change(change: HeaderChange) -> Manifest:
    result: Manifest = {}
    if change.set:
        result["set"] = dict(change.set)
    if change.add:
        result["add"] = dict(change.add)
    if change.remove:
        result["remove"] = list(change.remove)
    return result


def _retries(retries: Retries) -> Manifest:
    result: Manifest = {"attempts": retries.attempts}
    if retries.attempts:
        conditions = ["connect-failure", "refused-stream", "unavailable", "cancelled"]
        result["retryOn"] = ",".join([*conditions, *(str(code) for code in retries.codes)])
    if retries.backoff:
        result["backoff"] = seconds(retries.backoff)
    if retries.per_try_timeout:
        result["perTryTimeout"] = seconds(retries.per_try_timeout)
    return result


def _cors(cors: Cors) -> Manifest:
    """Write a CORS policy as Istio makes it of an HTTPRoute's (createCorsFilter): both APIs then answer alike."""
    result: Manifest = {
        "allowOrigins": [_origin(origin) for origin in cors.origins],
        "maxAge": f"{cors.max_age}s",
        "unmatchedPreflights": "IGNORE",
    }
    if cors.methods:
        result["allowMethods"] = list(cors.methods)
    if cors.headers:
        result["allowHeaders"] = list(cors.headers)
    if cors.expose_headers:
        result["exposeHeaders"] = list(cors.expose_headers)
    if cors.credentials:
        result["allowCredentials"] = True
    return result


def _origin(origin: str) -> Manifest:
    if origin == "*":
        return {"regex": r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"}
    if "*" not in origin:
        return {"exact": origin}
    if origin.endswith("*"):
        return {"prefix": origin[:-1]}
    return {"regex": "^" + re.escape(origin).replace(r"\*", ".*").replace(r"\-", "-") + "$"}


def _destination(backend: Backend) -> Manifest:
    result: Manifest = {"host": backend.fqdn, "port": {"number": backend.port}}
    if backend.subset:
        result["subset"] = backend.subset
    return result


def _destinations(route: Route) -> list[Manifest]:
    """Write the backends, with weights where there are several."""
    if len(route.backends) == 1:
        return [{"destination": _destination(route.backends[0])}]
    return [{"destination": _destination(backend), "weight": backend.weight} for backend in route.backends]
