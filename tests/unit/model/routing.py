"""Who answers a request: by a VirtualService as Istio takes it, and by HTTPRoutes as the Gateway API defines them.

Both are written from the documents, not from the code under test, so that they can disagree with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request as it reaches the gateway."""

    host: str
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


def hostname_of(hosts: Iterable[str], name: str) -> str | None:
    """Envoy's choice of a virtual host: the name itself, else the longest wildcard, else the star alone."""
    fits = [host for host in hosts if host in ("*", name) or (host.startswith("*.") and name.endswith(host[1:]))]
    return max(fits, key=lambda host: (host == name, len(host)), default=None)


def by_virtual_services(manifests: Iterable[Manifest], port: int, request: Request) -> str:
    """Follow the VirtualServices on one port: the first match in order wins, prefixes are compared by letters."""
    manifests = list(manifests)
    listening = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in manifests
        if one["kind"] == "Gateway" and one["spec"]["servers"][0]["port"]["number"] == port
    }
    tables = {
        host: one["spec"]["http"]
        for one in manifests
        if one["kind"] == "VirtualService" and listening & set(one["spec"]["gateways"])
        for host in one["spec"]["hosts"]
    }
    chosen = hostname_of(tables, request.host)
    if chosen is None:
        return "404"
    for rule in tables[chosen]:
        for match in rule.get("match", [{}]):
            if _fits_virtual_service(match, request):
                return _done_by_virtual_service(rule, match, request)
    return "404"


def _fits_virtual_service(match: Manifest, request: Request) -> bool:
    return (
        ("uri" not in match or _text(match["uri"], request.path))
        and ("method" not in match or _text(match["method"], request.method))
        and all(
            name in request.headers and _text(one, request.headers[name])
            for name, one in match.get("headers", {}).items()
        )
        and all(
            name in request.query and _text(one, request.query[name])
            for name, one in match.get("queryParams", {}).items()
        )
    )


def _text(match: Mapping[str, str], value: str) -> bool:
    ((kind, wanted),) = match.items()
    if kind == "exact":
        return value == wanted
    if kind == "prefix":
        return value.startswith(wanted)
    return re.fullmatch(wanted, value) is not None


def _done_by_virtual_service(rule: Manifest, match: Manifest, request: Request) -> str:
    uri = match.get("uri", {"prefix": "/"})
    matched = uri.get("prefix") or uri.get("exact") or request.path
    rest = request.path[len(matched) :]
    if "redirect" in rule:
        redirect = rule["redirect"]
        new = redirect["prefixRewrite"] + rest if "prefixRewrite" in redirect else redirect.get("uri", request.path)
        return f"{redirect['redirectCode']} {redirect.get('scheme', '')} {redirect.get('authority', '')} {new}"
    new = request.path
    if "rewrite" in rule:
        rewrite = rule["rewrite"]
        new = rewrite["uri"] + rest if "uri" in rewrite else new
        new = rewrite["uriRegexRewrite"]["rewrite"] if "uriRegexRewrite" in rewrite else new
    backends = [(one["destination"]["host"].split(".")[0], one.get("weight", 1)) for one in rule["route"]]
    return f"{_weighed(backends)} {new}"


def _weighed(backends: Iterable[tuple[str, int]]) -> str:
    return ",".join(f"{name}={weight}" for name, weight in backends)


def by_routes(manifests: Iterable[Manifest], section: str, request: Request) -> str:
    """Follow the HTTPRoutes and GRPCRoutes of one listener, by the rules of HTTPRouteRule in the Gateway API.

    What the API leaves open is as Istio has it: regular expressions come after prefixes, and what takes every request
    last.
    """
    routes = [
        one
        for one in manifests
        if one["kind"] in ("HTTPRoute", "GRPCRoute") and one["spec"]["parentRefs"][0]["sectionName"] == section
    ]
    chosen = hostname_of({host for one in routes for host in one["spec"].get("hostnames", ["*"])}, request.host)
    found: list[tuple[tuple[Any, ...], Manifest, Manifest]] = []
    for route in sorted(routes, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"])):
        if chosen not in route["spec"].get("hostnames", ["*"]):
            continue
        for rule in route["spec"]["rules"]:
            for match in rule.get("matches", [{}]):
                plain = _http_match(match)
                if _fits_route(plain, request):
                    found.append((_precedence(plain), plain, rule))
    if not found:
        return "404"
    _unused, match, rule = min(found, key=lambda one: one[0])
    return _done_by_route(match, rule, request)


def _http_match(match: Manifest) -> Manifest:
    """Say a GRPCRoute's match in terms of HTTP."""
    method = match.get("method")
    if not isinstance(method, dict):
        return match
    path = f"/{method['service']}"
    if "method" in method:
        return match | {"path": {"type": "Exact", "value": f"{path}/{method['method']}"}, "method": None}
    return match | {"path": {"type": "PathPrefix", "value": path}, "method": None}


def _fits_route(match: Manifest, request: Request) -> bool:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    kind, value = path["type"], path["value"]
    if kind == "Exact":
        fits = request.path == value
    elif kind == "PathPrefix":
        wanted = [part for part in value.split("/")[1:] if part]
        fits = request.path.split("/")[1:][: len(wanted)] == wanted
    else:
        fits = re.fullmatch(value, request.path) is not None
    return (
        fits
        and match.get("method") in (None, request.method)
        and all(_value(one, request.headers) for one in match.get("headers", ()))
        and all(_value(one, request.query) for one in match.get("queryParams", ()))
    )


def _value(one: Manifest, values: Mapping[str, str]) -> bool:
    if one["name"] not in values:
        return False
    there = values[one["name"]]
    return there == one["value"] if one["type"] == "Exact" else re.fullmatch(one["value"], there) is not None


def _precedence(match: Manifest) -> tuple[Any, ...]:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    everything = path == {"type": "PathPrefix", "value": "/"} and not (
        match.get("method") or match.get("headers") or match.get("queryParams")
    )
    return (
        everything,
        ["Exact", "PathPrefix", "RegularExpression"].index(path["type"]),
        -len(path["value"]),
        not match.get("method"),
        -len(match.get("headers", ())),
        -len(match.get("queryParams", ())),
    )


def _done_by_route(match: Manifest, rule: Manifest, request: Request) -> str:
    prefix = match.get("path", {"value": "/"})["value"].rstrip("/")
    rest = request.path[len(prefix) :].lstrip("/")
    new = request.path
    for one in rule.get("filters", ()):
        change = one.get("urlRewrite") or one.get("requestRedirect")
        if change is None:
            continue
        if "path" in change:
            new = change["path"].get("replaceFullPath") or _joined(
                change["path"]["replacePrefixMatch"], rest, request.path
            )
        if "requestRedirect" in one:
            return f"{change['statusCode']} {change.get('scheme', '')} {change.get('hostname', '')} {new}"
    return f"{_weighed((one['name'], one['weight']) for one in rule['backendRefs'])} {new}"


def _joined(prefix: str, rest: str, path: str) -> str:
    """Replace a prefix as the table at HTTPPathModifier.replacePrefixMatch shows: /foo/bar by /xyz is /xyz/bar."""
    if rest or path.endswith("/"):
        return f"{prefix.rstrip('/')}/{rest}"
    return prefix
