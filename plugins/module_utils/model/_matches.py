# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a route takes: paths, headers, query parameters, methods, and gRPC's services."""

from __future__ import annotations

import re

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node, quoted, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import HEADER_VALUE, TOKEN
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Match, ValueMatch

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

_MATCH = ("path", "headers", "query", "method", "grpc")

_PATH = re.compile(r"/([A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Lookaround, atomic groups, conditions, back references, possessive repetition; searched for outside of classes.
_NOT_RE2 = re.compile(r"\(\?<?[=!]|\(\?>|\(\?\(|\(\?P=|\\[1-9]|[*+?}]\+")


def read_matches(node: Node) -> tuple[Match, ...]:
    found = node.items("matches")
    if found is None:
        return (Match(),)
    if not found:
        node.add("matches", "is empty", "Give a match, or drop the field to take every request")
    result: dict[Match, str] = {}
    for path, value in found:
        match = _match(value, path, node.log)
        if match in result:
            node.log.add(path, f"is the same match as {result[match]}", "Drop one of them")
        result.setdefault(match, path)
    return tuple(result) or (Match(),)


def _match(value: object, path: str, log: Log) -> Match:
    node = Node(value, path, log, _MATCH)
    if node.says_nothing():
        log.add(path, "is empty", f"Give {quoted(_MATCH)}; drop `matches` to take every request")
    method = node.choice("method", METHODS)
    headers = _value_matches(node, "headers")
    query = _value_matches(node, "query")
    if "grpc" in node:
        for key in node.given("path", "method"):
            node.add(key, "can't stand beside `grpc`", "gRPC's service and method are the path")
        return _grpc(node, headers, query)
    kind, text = _path_match(node)
    return Match(kind, text, method, headers, query)


def _path_match(node: Node) -> tuple[str, str]:
    part = node.node("path", ("exact", "prefix", "regex"))
    if part is None:
        return "prefix", "/"
    given = part.given("exact", "prefix", "regex")
    if len(given) != 1:
        if part.mapped and not part.strange:
            cure = "Write one of `exact`, `prefix` or `regex`"
            node.add("path", f"holds {len(given)} ways to match, one is expected", cure)
        return "prefix", "/"
    kind = given[0]
    text = part.text(kind)
    if text is None:
        return kind, "/"
    if kind == "regex":
        _check_regex(part, kind, text, starts_with_slash=True)
        return kind, text
    check_path(part, kind, text)
    if kind == "prefix":
        text = text.rstrip("/") or "/"  # the Gateway API takes /x and /x/ for the same prefix
    return kind, text


def check_path(node: Node, key: str, text: str) -> None:
    """Apply the Gateway API's rules for a path, so that both APIs take the same list."""
    if not text.startswith("/"):
        node.add(key, f"`{shown(text)}` doesn't start with /", f"Write `/{shown(text)}`")
    elif "?" in text or "#" in text:
        node.add(key, f"`{shown(text)}` holds more than a path", "Put parameters into `query`")
    elif "//" in text or re.search(r"/\.{1,2}(/|$)", text) or re.search(r"%2[fF]", text):
        node.add(key, f"`{shown(text)}` is never seen so", "Write it without //, /./, /../ and %2F")
    elif not _PATH.fullmatch(text):
        node.add(key, f"`{shown(text)}` holds characters that no path has", "Write them percent-encoded")
    elif len(text) > 1024:
        node.add(key, f"is {len(text)} characters long, 1024 are allowed", "Write a shorter path")


def _check_regex(node: Node, key: str, text: str, *, starts_with_slash: bool = False) -> None:
    """Envoy's regexes are RE2 and match the whole value: refuse what RE2 has not, and what can never match."""
    if len(text) > 1024:
        node.add(key, f"is {len(text)} characters long, 1024 are allowed", "Write a shorter regex")
    elif _NOT_RE2.search(re.sub(r"\\[^1-9]|\[\^?\]?(\\.|[^\]\\])*\]", "_", text)):
        cure = "RE2 has no lookaround, backreferences or possessive repetition: say it without"
        node.add(key, f"`{shown(text)}` is no regex that Envoy takes", cure)
    else:
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            # RE2 knows escapes and classes that Python doesn't: only what is wrong in both is refused.
            if "bad escape" not in str(error):
                node.add(key, f"`{shown(text)}` is no regex: {error}", "Write it in RE2's syntax")
                return
        if starts_with_slash and re.match(r"[A-Za-z0-9_]", text):
            cure = "The whole path must match, and it starts with /"
            node.add(key, f"`{shown(text)}` matches no path", cure)


def _value_matches(node: Node, key: str) -> tuple[ValueMatch, ...]:
    result = []
    seen: dict[str, str] = {}
    for path, name, value in node.pairs(key) or ():
        label = name.lower() if key == "headers" else name
        if key == "headers" and label == "host":
            node.log.add(path, "is the hostname", "Put the name into the exposure's `hostnames`")
        elif not TOKEN.fullmatch(name):
            what = "the name of a header" if key == "headers" else "the name of a query parameter"
            node.log.add(path, f"`{shown(name)}` is not {what}", "Use letters, digits and dashes")
        if label in seen:
            node.log.add(path, f"is the same header as {seen[label]}", "Headers have no case: drop one")
            continue
        seen[label] = path
        part = Node(value, path, node.log, ("exact", "regex"))
        given = part.given("exact", "regex")
        if len(given) != 1:
            if part.mapped and not part.strange:
                node.log.add(path, f"holds {len(given)} ways to match, one is expected", "Write `exact` or `regex`")
            continue
        text = part.text(given[0])
        if text is None:
            continue
        if given[0] == "regex":
            _check_regex(part, "regex", text)
        elif key == "query" and len(text) > 1024:
            part.add("exact", f"is {len(text)} characters long, 1024 are allowed", "Write a shorter value")
        elif not HEADER_VALUE.fullmatch(text):
            part.add("exact", "holds control characters, or is too long", "Write what clients send")
        result.append(ValueMatch(label, text, given[0] == "regex"))
    if len(result) > 16:
        node.add(key, f"holds {len(result)} matches, 16 are allowed", "Split the route")
    return tuple(sorted(result, key=lambda match: match.name))


def _grpc(node: Node, headers: tuple[ValueMatch, ...], query: tuple[ValueMatch, ...]) -> Match:
    part = node.node("grpc", ("service", "method"))
    if part is None:
        return Match()
    if query:
        node.add("query", "can't stand beside `grpc`", "gRPC has no query parameters: match by `headers`")
    service = part.text("service", _GRPC_SERVICE, "a gRPC service", "Write it with its package: `pkg.v1.Service`")
    method = part.text("method", _GRPC_METHOD, "a gRPC method", "Write the method's name alone")
    if "service" not in part:
        both = "Give the service, and a method where only that is meant"
        part.add("service", "is missing", "Say whose method is meant" if "method" in part else both)
    if method:
        return Match("exact", f"/{service}/{method}", None, headers, (), (service or "", method))
    return Match("prefix", f"/{service}", None, headers, (), (service or "", None))
