# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which filter chain, virtual host and route of Envoy a connection or request takes, in Envoy's own order. Pure.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto (FilterChainMatch) and
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto (VirtualHost, RouteMatch).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Chain, Config, Listener, Route, VirtualHost
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Target, nearness

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks. Header names are in lower case; `query` are the parameters of the path."""

    authority: str
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Path:
    """What a request takes inside one gateway pod, as far as it comes."""

    listener: Listener | None = None
    chain: Chain | None = None
    host: VirtualHost | None = None
    route: Route | None = None
    clusters: tuple[str, ...] = ()


def path_in(config: Config, port: int | None, target: Target) -> Path:
    """Follow a request through one pod's configuration."""
    found = config.on(port or 0) or [one for one in config.warming if one.port == port]
    listener = next((one for one in found if one.address not in ("127.0.0.1", "::1")), None)
    chain = chain_for(listener, target.host, tls=target.encrypted) if listener is not None else None
    if listener is None or chain is None:
        return Path(listener)
    if chain.kind == "TCP":
        return Path(listener, chain, clusters=tuple(name for name, _weight in chain.clusters))
    host = host_for(config.routes.get(chain.route_config, ()), target.host or "any.invalid")
    route = route_for(host, request_of(target)) if host is not None else None
    clusters = tuple(name for name, weight in route.clusters if weight or len(route.clusters) == 1) if route else ()
    return Path(listener, chain, host, route, clusters)


def request_of(target: Target) -> Request:
    """The target as Envoy sees it."""
    path, _mark, query = target.path.partition("?")
    pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    host = target.host or "any.invalid"
    return Request(host, path, target.method, dict(target.headers), pairs, target.protocol.lower())


def chain_for(listener: Listener, server_name: str, *, tls: bool) -> Chain | None:
    """Return the filter chain that takes a connection: the exact name first, then the longest wildcard, then none.

    Without TLS there is no server name, so only chains that ask for none are left.
    """
    name = server_name.lower().rstrip(".") if tls else ""
    if name:
        labels = name.split(".")
        wild = [".".join(["*", *labels[index:]]) for index in range(1, len(labels))]
        for candidate in (name, *wild, "*"):
            found = [one for one in listener.chains if candidate in map(str.lower, one.names)]
            if found:
                return _by_transport(found, tls=tls)
    return _by_transport([one for one in listener.chains if not one.names], tls=tls)


def _by_transport(chains: Sequence[Chain], *, tls: bool) -> Chain | None:
    for wanted in ("tls" if tls else "raw_buffer", ""):
        for chain in chains:
            if chain.transport == wanted:
                return chain
    return None


def host_for(hosts: Iterable[VirtualHost], authority: str) -> VirtualHost | None:
    """Return the virtual host for a Host header: exact, longest `*.suffix`, longest `prefix.*`, then `*`.

    The port in the header doesn't count: Istio sets ignore_port_in_host_matching on a gateway's routes.
    """
    host = re.sub(r":\d+$", "", authority.lower())
    scored = [
        (score, candidate)
        for candidate in hosts
        for domain in candidate.domains
        if (score := nearness(domain.lower(), host)) is not None
    ]
    return max(scored, key=lambda pair: pair[0], default=((), None))[1]


def route_for(host: VirtualHost, request: Request) -> Route | None:
    """Return the first route that takes the request."""
    return next((route for route in host.routes if takes(route.match, request)), None)


def takes(match: Json, request: Request) -> bool:
    """Whether a route's match takes a request. Regexes are RE2; what is common to both is read as Python's."""
    path = request.path.partition("?")[0]
    if match.get("case_sensitive") is False:
        path, match = path.lower(), {key: v.lower() if isinstance(v, str) else v for key, v in match.items()}
    if "path" in match and path != match["path"]:
        return False
    if "prefix" in match and not path.startswith(match["prefix"]):
        return False
    if "path_separated_prefix" in match:
        prefix = str(match["path_separated_prefix"])
        if path != prefix and not path.startswith(prefix + "/"):
            return False
    if "safe_regex" in match and not _regex(match["safe_regex"], path):
        return False
    pseudo = {":method": request.method, ":authority": request.authority, ":path": request.path}
    headers = {**pseudo, ":scheme": request.scheme, **request.headers}
    return all(_value_fits(entry, headers) for entry in match.get("headers") or ()) and all(
        _value_fits(entry, request.query) for entry in match.get("query_parameters") or ()
    )


def _regex(found: Json, text: str) -> bool:
    try:
        return re.fullmatch(str(found.get("regex", "")), text) is not None
    except re.error:
        return False


def _value_fits(entry: Json, values: Mapping[str, str]) -> bool:
    value = values.get(str(entry.get("name", "")))
    wanted = entry.get("string_match")
    if wanted is not None:
        fits = value is not None and _text_fits(wanted, value)
    elif "present_match" in entry:
        fits = (value is not None) == bool(entry["present_match"])
    else:
        fits = value is not None
    return fits != bool(entry.get("invert_match"))


def _text_fits(wanted: Json, value: str) -> bool:
    if wanted.get("ignore_case"):
        value = value.lower()
        wanted = {key: text.lower() if isinstance(text, str) else text for key, text in wanted.items()}
    return (
        ("exact" not in wanted or value == wanted["exact"])
        and ("prefix" not in wanted or value.startswith(str(wanted["prefix"])))
        and ("suffix" not in wanted or value.endswith(str(wanted["suffix"])))
        and ("contains" not in wanted or str(wanted["contains"]) in value)
        and ("safe_regex" not in wanted or _regex(wanted["safe_regex"], value))
    )
