# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading routes: what they take, where they lead, and what can't stand side by side in one."""

from __future__ import annotations

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node
from ansible_collections.edgeway.istio.plugins.module_utils.model._backends import BACKEND, BackendReader
from ansible_collections.edgeway.istio.plugins.module_utils.model._filters import (
    read_cors,
    read_header_change,
    read_redirect,
    read_retries,
    read_rewrite,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._matches import read_matches
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Match, Route

_FILTERS = ("rewrite", "redirect", "request_headers", "response_headers", "timeout", "retries", "mirror", "cors")
_ROUTE = ("matches", "backends", *_FILTERS)


def read_routes(node: Node, protocol: str | None, reader: BackendReader, *, gateway_api: bool) -> tuple[Route, ...]:
    if "backend" in node and "routes" in node:
        node.add("backend", "can't stand beside `routes`", "`backend` is short for one route with one backend")
    if "backend" in node:
        part = Node(node.raw("backend"), node.at("backend"), node.log, BACKEND)
        backend = reader.one(part)
        if "weight" in part:
            part.add("weight", "means nothing with a single backend", "Drop it, or write `routes` with `backends`")
        return (Route(backends=(backend,) if backend else (), at=node.at("backend")),)
    found = node.items("routes")
    if found is None:
        if "routes" not in node:
            node.add("backend", "is missing", "Give a `backend`, or `routes` with `backends`")
        return ()
    if not found:
        node.add("routes", "is empty", "Give at least one route, or a `backend`")
    result = [_route(value, path, node.log, protocol, reader, gateway_api) for path, value in found]
    if protocol not in ("TCP", "TLS"):
        _repeated(result, node.log)
    if protocol in ("TCP", "TLS") and len(result) > 1:
        cure = "Put all backends into one route, with weights"
        node.add("routes", f"holds {len(result)} routes, and {protocol} can't tell them apart", cure)
    return tuple(result)


def _repeated(routes: list[Route], log: Log) -> None:
    """Refuse a match that an earlier route of the exposure has already: it would never be reached."""
    seen: dict[Match, str] = {}
    for route in routes:
        for index, match in enumerate(route.matches):
            place = route.at if match.everything else f"{route.at}.matches[{index}]"
            first = seen.setdefault(match, place)
            if first != place:
                what = "every request" if match.everything else "the same requests"
                log.add(place, f"takes {what} as {first} does", "Make one of them more specific, or drop it")


def _route(value: object, path: str, log: Log, protocol: str | None, reader: BackendReader, gateway_api: bool) -> Route:
    node = Node(value, path, log, _ROUTE)
    if protocol in ("TCP", "TLS"):
        for key in node.given("matches", *_FILTERS):
            choice = "`protocol: HTTPS`" if protocol == "TLS" else "`protocol: HTTP`"
            node.add(key, f"means nothing with {protocol}, which is passed on unread", f"Drop it, or write {choice}")
    matches = read_matches(node)
    redirect = read_redirect(node)
    backends = reader.several(node)
    rewrite = read_rewrite(node)
    if redirect is not None:
        for key in node.given("rewrite", "timeout", "retries", "mirror"):
            node.add(key, "can't stand beside `redirect`", "A redirect is answered by the gateway itself")
    for name, change in (("rewrite", rewrite), ("redirect", redirect)):
        if change is not None and change.prefix is not None:
            _replaced_prefix(node, f"{name}.path.prefix", change.prefix, matches, gateway_api=gateway_api)
    timeout = node.duration("timeout")
    retries = read_retries(node, timeout, gateway_api=gateway_api)
    return Route(
        matches,
        backends,
        rewrite,
        redirect,
        read_header_change(node, "request_headers"),
        read_header_change(node, "response_headers"),
        timeout,
        retries,
        reader.mirror(node),
        read_cors(node),
        path,
    )


def _replaced_prefix(node: Node, key: str, new: str, matches: tuple[Match, ...], *, gateway_api: bool) -> None:
    if any(match.kind != "prefix" or match.grpc for match in matches):
        cure = "Match by `path: {prefix: ...}` in this route, or use `full`"
        node.add(key, "replaces a matched prefix, and a match here has none", cure)
    elif gateway_api and key.startswith("rewrite") and new != "/" and any(m.path == "/" for m in matches):
        # Istio hands `/foo` to Envoy as the replacement of `/` (createRewriteFilter): /x becomes /foox.
        cure = "Match a longer prefix, or use `api: istio`"
        node.add(key, f"can't put `{new}` before every path with the Gateway API: Istio makes {new}x of /x", cure)
    elif gateway_api and key.startswith("redirect") and new == "/" and any(m.path != "/" for m in matches):
        # Istio hands `/` to Envoy as the replacement of `/api` (createRedirectFilter): /api/x becomes //x.
        cure = "Redirect to a longer prefix or a `full` path, or use `api: istio`"
        node.add(key, "can't take the prefix away with the Gateway API: Istio makes //x of it", cure)
