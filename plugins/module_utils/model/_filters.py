# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a route does to a request besides passing it on: rewrites, redirects, headers, retries, CORS."""

from __future__ import annotations

import re
from http import HTTPStatus

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node, as_text, kind_of, quoted, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._matches import METHODS, check_path
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import HEADER_VALUE, TOKEN, host_cure
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Cors,
    HeaderChange,
    Redirect,
    Retries,
    Rewrite,
)

_CORS = ("allow_origins", "allow_methods", "allow_headers", "expose_headers", "allow_credentials", "max_age")

_ORIGIN = re.compile(r"\*|https?://(\*|(\*\.)?([A-Za-z0-9-]+\.)*[A-Za-z0-9-]+)(:[0-9]{1,5})?")

# A header's new value is a format string of Envoy's, with %% or %NAME(...):9%. One that it can't read costs all routes
# of the port. The names that it knows have three letters and more, which %C3%A4 of a URL hasn't.
_FORMAT = re.compile(r"([^%]|%%|%[A-Z][A-Z0-9_]{2,}(\([^)]*\))?(:[0-9]+)?%)*")

# Istio takes only statuses that have a name (validateHTTPRetry in pkg/config/validation/validation.go).
_RETRIABLE = frozenset(int(status) for status in HTTPStatus if 400 <= status <= 599)


def read_rewrite(node: Node) -> Rewrite | None:
    part = node.node("rewrite", ("hostname", "path"))
    if part is None:
        return None
    if part.says_nothing():
        node.add("rewrite", "is empty", "Give `hostname` or `path`")
    full, prefix = _target(part)
    return Rewrite(_plain_hostname(part), full, prefix)


def read_redirect(node: Node) -> Redirect | None:
    part = node.node("redirect", ("scheme", "hostname", "port", "path", "status"))
    if part is None:
        return None
    if not part.strange and part.mapped and not part.given("scheme", "hostname", "port", "path"):
        node.add("redirect", "leads back to where it came from", "Give `scheme`, `hostname`, `port` or `path`")
    scheme = part.choice("scheme", ("http", "https"))
    port = part.number("port", 1, 65535)
    full, prefix = _target(part)
    status = part.number("status", 300, 399)
    if status is not None and status not in (301, 302, 303, 307, 308):
        part.add("status", f"{status} is no redirect that can be sent", "Write 301, 302, 303, 307 or 308")
    return Redirect(scheme, _plain_hostname(part), port, full, prefix, status or 302)


def _target(node: Node) -> tuple[str | None, str | None]:
    """Read the new path of a rewrite or redirect: (full, prefix), one of them at most."""
    part = node.node("path", ("full", "prefix"))
    if part is None:
        return None, None
    given = part.given("full", "prefix")
    if len(given) != 1:
        if part.mapped and not part.strange:
            cure = "Write `full` to replace the path, `prefix` to replace the matched prefix"
            node.add("path", f"holds {len(given)} new paths, one is expected", cure)
        return None, None
    text = part.text(given[0])
    if text is None:
        return None, None
    check_path(part, given[0], text)
    return (text, None) if given[0] == "full" else (None, text.rstrip("/") or "/")


def _plain_hostname(node: Node) -> str | None:
    text = node.text("hostname")
    if text is None:
        return None
    cure = host_cure(text.lower())
    if cure is not None:
        node.add("hostname", f"`{shown(text)}` is not a DNS name", cure)
    return text.lower()


def read_header_change(node: Node, key: str) -> HeaderChange | None:
    part = node.node(key, ("set", "add", "remove"))
    if part is None:
        return None
    if part.says_nothing():
        node.add(key, "is empty", "Give `set`, `add` or `remove`")
    seen: dict[str, str] = {}
    changes: dict[str, list[tuple[str, str]]] = {"set": [], "add": []}
    for verb in ("set", "add"):
        for path, name, value in part.pairs(verb) or ():
            _header_name(node.log, path, name, seen)
            text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
            if text is None:
                node.log.add(path, f"is {kind_of(value)}, a text is expected", as_text(value))
            elif not HEADER_VALUE.fullmatch(text):
                node.log.add(path, "is empty, too long, or holds control characters", "Write a header's value")
            elif not _FORMAT.fullmatch(text):
                node.log.add(path, "has a `%` that begins no variable of Envoy's", "Write `%%` for a percent sign")
            else:
                changes[verb].append((name.lower(), text))
    removed = []
    for path, name in part.texts("remove") or ():
        _header_name(node.log, path, name, seen)
        removed.append(name.lower())
    for verb, count in (("set", len(changes["set"])), ("add", len(changes["add"])), ("remove", len(removed))):
        if count > 16:
            part.add(verb, f"holds {count} headers, 16 are allowed", "Change fewer")
    return HeaderChange(tuple(changes["set"]), tuple(changes["add"]), tuple(sorted(removed)))


def _header_name(log: Log, path: str, name: str, seen: dict[str, str]) -> None:
    label = name.lower()
    if not TOKEN.fullmatch(name):
        log.add(path, f"`{shown(name)}` is not the name of a header", "Use letters, digits and dashes")
    elif label == "host":
        log.add(path, "can't be changed so", "Use `rewrite: {hostname: ...}`")
    elif label in seen:
        log.add(path, f"changes the same header as {seen[label]}", "Change it in one place")
    seen.setdefault(label, path)


def read_retries(node: Node, timeout: int | None, *, gateway_api: bool) -> Retries | None:
    part = node.node("retries", ("attempts", "codes", "backoff", "per_try_timeout"))
    if part is None:
        return None
    attempts = part.number("attempts", 0, 100)
    if "attempts" not in part:
        part.add("attempts", "is missing", "Say how often to try again")
    elif attempts == 0 and gateway_api:
        part.add("attempts", "can't be 0 in the Gateway API", "Drop `retries`, or use `api: istio`")
    codes = set()
    for path, value in part.items("codes") or ():
        code = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{3}", value) else value
        if isinstance(code, bool) or not isinstance(code, int) or code not in _RETRIABLE:
            node.log.add(path, "is not a status that can be retried", "Write an HTTP status from 400 to 599")
        else:
            codes.add(code)
    backoff = part.duration("backoff")
    per_try = part.duration("per_try_timeout")
    if per_try is not None and timeout is not None and per_try > timeout:
        part.add("per_try_timeout", "is longer than the route's `timeout`", "Write a shorter one")
    if attempts == 0:
        for key in part.given("codes", "backoff", "per_try_timeout"):
            part.add(key, "means nothing with `attempts: 0`", "Drop it")
    return Retries(attempts or 0, tuple(sorted(codes)), backoff, per_try)


def read_cors(node: Node) -> Cors | None:
    part = node.node("cors", _CORS)
    if part is None:
        return None
    origins = _words(part, "allow_origins", 64)
    for path, text in origins.items():
        if not _ORIGIN.fullmatch(text):
            node.log.add(path, f"`{shown(text)}` is not an origin", "Write `https://name`, with a port if it has one")
    if "allow_origins" not in part:
        part.add("allow_origins", "is missing", "Name the origins that may call, such as `https://app.example`")
    methods = {path: text.upper() for path, text in _words(part, "allow_methods", 9).items()}
    for path, text in methods.items():
        if text not in (*METHODS, "*"):
            node.log.add(path, f"`{shown(text)}` is not an HTTP method", f"Write {quoted(METHODS)}")
    allowed = _words(part, "allow_headers", 64)
    exposed = _words(part, "expose_headers", 64)
    for path, text in (allowed | exposed).items():
        if not TOKEN.fullmatch(text):
            node.log.add(path, f"`{shown(text)}` is not the name of a header", "Use letters, digits and dashes")
    for key, values in (("allow_origins", origins), ("allow_methods", methods), ("allow_headers", allowed)):
        if "*" in values.values() and len(values) > 1:
            part.add(key, "holds `*` beside others", "Write `*` alone, or drop it")
    return Cors(
        tuple(sorted(set(origins.values()))),
        tuple(sorted(set(methods.values()))),
        tuple(sorted(set(allowed.values()))),
        tuple(sorted(set(exposed.values()))),
        part.flag("allow_credentials"),
        part.number("max_age", 1, 86400) or Cors(()).max_age,
    )


def _words(node: Node, key: str, limit: int) -> dict[str, str]:
    """Read a list of texts by path; an empty list is a mistake."""
    found = node.texts(key)
    if found is None:
        return {}
    if not node.raw(key):
        node.add(key, "is empty", "Give at least one, or drop the field")
    if len(found) > limit:
        node.add(key, f"holds {len(found)}, {limit} are allowed", "Name fewer")
    return dict(found)
