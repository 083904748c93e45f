# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as objects of Istio's own API: Gateway, VirtualService, DestinationRule, ServiceEntry.

Gateways lie with the gateway's pods, so that they are seen even where istiod has PILOT_SCOPE_GATEWAY_TO_NAMESPACE set,
and take routes from the exposure's namespace alone. VirtualServices lie in the exposure's namespace.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _ports, _rules
from ansible_collections.edgeway.istio.plugins.module_utils._model import (
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
from ansible_collections.edgeway.istio.plugins.module_utils._rules import Listener, Manifest, VirtualHost, seconds


def generate(model: Model) -> list[Manifest]:
    """Return every object that the list asks for, complete and labelled, sorted by kind, namespace and name."""
    found, _ = _rules.listeners(model)
    return _rules.ordered(
        [
            *(_gateway(model, listener) for listener in found),
            *(_virtual_service(model, host) for host in _rules.virtual_hosts(model)),
            *_rules.destination_rules(model),
            *_rules.service_entries(model),
            *_rules.secrets(model),
            *_ports.services(model),
        ]
    )


def _gateway(model: Model, listener: Listener) -> Manifest:
    server: Manifest = {
        "port": {
            "number": listener.port,
            "name": f"{listener.protocol.lower()}-{listener.port}",
            "protocol": listener.protocol,
        },
        "hosts": [f"{namespace}/{hostname}" for namespace, hostname in listener.hosts],
    }
    if listener.protocol == "TLS":
        server["tls"] = {"mode": "PASSTHROUGH"}
    if listener.tls is not None:
        server["tls"] = {
            "mode": listener.tls.mode,
            "credentialName": _rules.secret_name(model.exposures, listener.tls),
        }
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
        "gateways": [f"{host.gateway.namespace}/{name}" for name in host.listeners],
        "exportTo": [host.gateway.namespace],
    }
    if host.protocol == "TCP":
        spec["tcp"] = [{"match": [{"port": host.port}], "route": _destinations(host.rules[0].route)}]
    elif host.protocol == "TLS":
        match = {"port": host.port, "sniHosts": list(host.hostnames)}
        spec["tls"] = [{"match": [match], "route": _destinations(host.rules[0].route)}]
    else:
        spec["http"] = _http(host)
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _rules.metadata(model, host.name, host.namespace),
        "spec": spec,
    }


def _http(host: VirtualHost) -> list[Manifest]:
    """Write the rules in their order; neighbours that do the same become one."""
    steps: list[tuple[Manifest, Manifest]] = []
    for rule in host.rules:
        steps.extend(_steps(rule.match, rule.route))
    result = []
    for _, group in groupby(steps, key=lambda step: repr(step[1])):
        members = list(group)
        matches = [match for match, _ in members]
        result.append(({} if {} in matches else {"match": matches}) | members[0][1])
    return result


def _steps(match: Match, route: Route) -> list[tuple[Manifest, Manifest]]:
    """Return what one match becomes: (match, action) pairs.

    A VirtualService compares a prefix by letters, so /api by segment is /api itself and all below /api/. The two take
    different rewrites, as the new path must not end in two slashes.
    """
    rest: Manifest = {}
    if match.method:
        rest["method"] = {"exact": match.method}
    if match.headers:
        rest["headers"] = {one.name: _string_match(one) for one in match.headers}
    if match.query:
        rest["queryParams"] = {one.name: _string_match(one) for one in match.query}
    if match.kind != "prefix":
        return [({"uri": {match.kind: match.path}} | rest, _action(route))]
    if match.path == "/":
        return [(({"uri": {"prefix": "/"}} | rest) if rest else {}, _action(route, below="/"))]
    below = f"{match.path}/"
    return [
        ({"uri": {"exact": match.path}} | rest, _action(route)),
        ({"uri": {"prefix": below}} | rest, _action(route, below=below)),
    ]


def _string_match(one: ValueMatch) -> Manifest:
    return {"regex" if one.regex else "exact": one.value}


def _action(route: Route, *, below: str | None = None) -> Manifest:
    action: Manifest = {}
    if route.redirect is not None:
        action["redirect"] = _redirect(route.redirect)
    if route.rewrite is not None:
        action["rewrite"] = _rewrite(route.rewrite, below)
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
        action["mirrors"] = [
            {"destination": _destination(route.mirror.backend), "percentage": {"value": float(route.mirror.percent)}}
        ]
    if route.cors is not None:
        action["corsPolicy"] = _cors(route.cors)
    if route.backends:
        action["route"] = _destinations(route)
    return action


def _rewrite(rewrite: Rewrite, below: str | None) -> Manifest:
    result: Manifest = {}
    if rewrite.hostname:
        result["authority"] = rewrite.hostname
    if rewrite.full:
        result["uriRegexRewrite"] = {"match": "/.*", "rewrite": rewrite.full}
    if rewrite.prefix:
        result["uri"] = f"{rewrite.prefix.rstrip('/')}/" if below else rewrite.prefix
    return result


def _redirect(redirect: Redirect) -> Manifest:
    result: Manifest = {"redirectCode": redirect.status}
    if redirect.scheme:
        result["scheme"] = redirect.scheme
    if redirect.hostname:
        result["authority"] = redirect.hostname
    if redirect.port:
        result["port"] = redirect.port
    else:
        result["derivePort"] = "FROM_PROTOCOL_DEFAULT" if redirect.scheme else "FROM_REQUEST_PORT"
    if redirect.full:
        result["uri"] = redirect.full
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
    result: Manifest = {"allowOrigins": [{"exact": origin} for origin in cors.origins]}
    if cors.methods:
        result["allowMethods"] = list(cors.methods)
    if cors.headers:
        result["allowHeaders"] = list(cors.headers)
    if cors.expose_headers:
        result["exposeHeaders"] = list(cors.expose_headers)
    if cors.max_age is not None:
        result["maxAge"] = seconds(cors.max_age * 1000)
    if cors.credentials:
        result["allowCredentials"] = True
    return result


def _destination(backend: Backend) -> Manifest:
    result: Manifest = {"host": backend.fqdn, "port": {"number": backend.port}}
    if backend.subset:
        result["subset"] = backend.subset
    return result


def _destinations(route: Route) -> list[dict[str, Any]]:
    """Write the backends that get anything, with weights where there are several."""
    backends = [backend for backend in route.backends if backend.weight]
    if len(backends) == 1:
        return [{"destination": _destination(backends[0])}]
    return [{"destination": _destination(backend), "weight": backend.weight} for backend in backends]
