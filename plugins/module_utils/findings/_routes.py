# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings between a listener and a backend: which routes hang where, and which of them are ever taken. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import Use, View, WorkloadKey
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    WARNING,
    Listener,
    Parent,
    Place,
    Request,
    Rule,
    Table,
    covers,
    made,
    overlap,
)

_MANY = 300
"""Rules of one hostname beyond which hidden ones aren't looked for: every rule is compared with all before it."""


def check(view: View) -> None:
    """Look at every table and rule that somebody wants to hear of."""
    for table in view.tables:
        if not view.concerns(table.place):
            continue
        if not view.static:
            attached(view, table)
        for rule in table.rules:
            weights(view, rule)
            paths(view, table, rule)
        if not table.ours:
            hidden_inside(view, table)
    redirects(view)
    if not view.static:
        hidden_across(view)
        unused(view)


# Hanging on a Gateway


def attached(view: View, table: Table) -> None:
    """Whether a table's parents are there, see it, and have its names, kinds and ports between them."""
    if table.ours and any(one.ours for parent in table.parents for one in view.parents_of(table, parent)):
        return  # on a Gateway that the list makes, all fits
    found = [(parent, _open(view, table, parent)) for parent in table.parents]
    looked = [(parent, listeners) for parent, listeners in found if listeners is not None]
    # One that is away, or may not be seen, could be the one that has the name. Sidecars take every name.
    if len(looked) == len(found) and not table.mesh:
        _named(view, table, looked)
    fitting: list[tuple[Parent, list[Listener] | None]] = [
        (parent, listeners and [one for one in listeners if overlap(one.hostnames(table.namespace), table.hostnames)])
        for parent, listeners in found
    ]
    for rule in table.rules:
        _rule_fits(view, table, rule, fitting)


def _open(view: View, table: Table, parent: Parent) -> list[Listener] | None:
    """Return the listeners of a parent that take routes of this table; None where there is none to look at."""
    listeners = view.parents_of(table, parent)
    if not listeners:
        _no_parent(view, table, parent)
        return None
    workloads = {one.workload.key: one.workload for listener in listeners for one in view.bound_to[id(listener)]}
    spaces = {workload.namespace for workload in workloads.values()}
    exported = table.exported
    if exported is None and table.api == "istio":
        default = view.mesh(next(iter(workloads.values()), None)).get("defaultVirtualServiceExportTo")
        exported = None if not default or "*" in default else frozenset({table.namespace if one == "." else one
                                                                         for one in default})  # fmt: skip
    if exported is not None and spaces and not spaces & exported:
        view.add(
            "not-exported",
            ERROR,
            Place(table.place.object, "spec.exportTo", table.place.exposure),
            f"{table.place.object} is exported to {', '.join(sorted(exported)) or 'nobody'}, and the gateway's pods "
            "are "
            f"in {', '.join(sorted(spaces))}: they never see it.",
            f"Add {', '.join(sorted(spaces))} to exportTo, or leave it out.",
        )
        return None
    found = [one for one in listeners if view.allows(one, table)]
    if found:
        return found
    source = (listeners[0].allowed or {}).get("namespaces", {}).get("from") or "Same"
    view.add(
        "route-not-allowed",
        ERROR,
        parent.place,
        f"{parent} lets routes attach from {source}, and namespace `{table.namespace}` isn't among them.",
        "Widen allowedRoutes, label the namespace, or move the route.",
        str(parent),
    )
    return None


def _no_parent(view: View, table: Table, parent: Parent) -> None:
    key = snap.GATEWAY if table.api == "istio" else snap.API_GATEWAY
    live = view.live_gateways.get((table.api, parent.namespace, parent.name))
    if live is not None and table.api == "gateway_api":
        if not view.is_istios(live):
            return
        wanted = f"section `{parent.section}`" if parent.section else f"port {parent.port}"
        view.add(
            "gateway-section-missing",
            ERROR,
            parent.place,
            f"Gateway {parent.namespace}/{parent.name} has no listener with {wanted}.",
            "Name a listener that is there, or leave sectionName and port out.",
            f"Gateway {parent.namespace}/{parent.name}",
        )
        return
    if live is not None or not view.readable(key, parent.namespace):
        return
    same = sorted(owner for api, owner, name in view.live_gateways if api == table.api and name == parent.name)
    cure = "Create it, or name one that exists."
    if same:
        written = f"{same[0]}/{parent.name}" if table.api == "istio" else f"namespace: {same[0]}"
        cure = f"There is one in namespace `{same[0]}`: write `{written}`."
    view.add(
        "gateway-missing",
        ERROR,
        parent.place,
        f"{table.place.object} hangs on Gateway {parent.namespace}/{parent.name}, which doesn't exist.",
        cure,
        *(f"Gateway {owner}/{parent.name}" for owner in same),
    )


def _named(view: View, table: Table, looked: list[tuple[Parent, list[Listener]]]) -> None:
    """Whether each name is on one of the parents."""
    listeners = [one for _parent, found in looked for one in found]
    gateways = list(dict.fromkeys(str(parent) for parent, _found in looked))
    there = sorted({host for one in listeners for _owner, host in one.hosts})
    for name in table.hostnames:
        if any(overlap([name], one.hostnames(table.namespace)) for one in listeners):
            continue
        shown = " or ".join(gateways)
        reason = f"`{name}` isn't among the hostnames of {shown} ({', '.join(there[:5])}): it answers 404."
        cure = f"Add `{name}` to the Gateway, or drop it here."
        kept = [(one, owner) for one in listeners for owner, host in one.hosts if overlap([name], [host])]
        if kept:
            one, owner = kept[0]
            reason = f"Gateway {one.namespace}/{one.gateway} keeps `{name}` for namespace `{owner}`, and "
            reason += f"{table.place.object} is in another."
            cure = f"Move it to `{owner}`, or write `{table.namespace}/{name}` in the Gateway."
        view.add("host-not-on-gateway", ERROR, table.hosts_at, reason, cure, *gateways)


def _rule_fits(view: View, table: Table, rule: Rule, found: list[tuple[Parent, list[Listener] | None]]) -> None:
    """Whether one of the Gateways that a rule is for can use it. What is for sidecars too has a use there."""
    for request in rule.requests:
        meant = [
            (parent, listeners)
            for parent, listeners in found
            if not request.gateways or f"{parent.namespace}/{parent.name}" in request.gateways
        ]
        gateways = list(dict.fromkeys(str(parent) for parent, _listeners in meant or found))
        shown, several = " and ".join(gateways), len(gateways) > 1
        if not meant:
            view.add(
                "route-gateway",
                ERROR,
                Place(rule.place.object, request.at, rule.place.exposure),
                f"A match is limited to {', '.join(request.gateways)}, and {table.place.object} hangs on {shown}.",
                "Name the same Gateway in both, with its namespace.",
                *gateways,
            )
        if (table.mesh and not request.gateways) or any(listeners is None for _parent, listeners in meant):
            continue
        named = [one for _parent, listeners in meant for one in listeners or ()]
        taking = [one for one in named if one.takes == rule.family or (table.kind == "TLSRoute" and one.encrypted)]
        numbers = sorted({one.number for one in taking})
        if named and not taking:
            kinds = sorted({f"{one.protocol}{' ' + one.mode if one.mode else ''} on {one.number}" for one in named})
            wanted = sorted({one.takes for one in named})
            view.add(
                "route-kind",
                ERROR,
                rule.place,
                f"{shown} {'have' if several else 'has'} {', '.join(kinds)}, which takes "
                f"{' and '.join(wanted)} routes; this one is {rule.family}.",
                f"Write it as a {wanted[0]} route, or change the Gateway's protocol or TLS mode.",
                *gateways,
            )
        elif taking and request.port not in (None, *numbers):
            view.add(
                "route-port",
                ERROR,
                Place(rule.place.object, request.at or rule.place.path, rule.place.exposure),
                f"A match is limited to port {request.port}, and {shown} "
                f"{'listen' if several else 'listens'} on "
                f"{', '.join(map(str, numbers))}: it is never taken.",
                f"Write the Gateway's port ({numbers[0]}), or leave the port out.",
                *gateways,
            )


def unused(view: View) -> None:
    """Listeners without a route: 404, and for TCP and TLS passthrough no listener at all."""
    routes = {"istio": [snap.VIRTUAL_SERVICE], "gateway_api": snap.ROUTES}
    for listener in view.listeners:
        if (
            listener.ours
            or not view.survey
            or not all(view.readable(kind) for kind in routes[listener.api])
            or listener.redirects
            or listener.mode in ("AUTO_PASSTHROUGH", "ISTIO_MUTUAL")
        ):
            continue
        if any(use.rules for use in view.uses_of_listener[id(listener)]):
            continue
        refused = listener.takes != "http"
        view.add(
            "listener-without-routes",
            WARNING,
            listener.place,
            f"Nothing is published on port {listener.number} ({listener.protocol}) of {listener.place.object}: "
            + ("connections are refused." if refused else "every request is answered with 404."),
            f"Hang a {'VirtualService' if listener.api == 'istio' else 'route'} with {listener.takes} rules on it, or "
            "remove it.",
        )


# Rules


def weights(view: View, rule: Rule) -> None:
    """Weights that send nothing anywhere, or that look like percentages and aren't."""
    shares = [target.weight for target in rule.targets if not target.mirror]
    if not shares or any(share is None for share in shares) or rule.place.ours:
        return
    total = sum(share or 0 for share in shares)
    if total == 0 and (len(shares) > 1 or rule.family != "http"):
        view.add(
            "weights-zero",
            ERROR,
            rule.place,
            "All weights are 0, so no backend is ever chosen.",
            "Give at least one backend a weight.",
        )
    elif len(shares) > 1 and total != 100 and 80 <= total <= 120:
        view.add(
            "weights-odd",
            WARNING,
            rule.place,
            f"The weights add up to {total}, not 100: {shares[0]} is {100 * (shares[0] or 0) / total:.1f} % of the "
            "requests.",
            "Let them add up to 100, if they are meant as percentages.",
        )


def paths(view: View, table: Table, rule: Rule) -> None:
    """Paths that are taken literally, and rewrites that leave two slashes or none."""
    if rule.place.ours:
        return
    if rule.delegate is not None:
        view.add(
            "delegate-missing",
            ERROR,
            rule.place,
            f"The rule is delegated to VirtualService {rule.delegate[0]}/{rule.delegate[1]}, which doesn't exist or "
            "has "
            "no HTTP routes.",
            "Create it, or name it with its namespace.",
        )
    for request in rule.requests:
        if request.kind in ("exact", "prefix") and "*" in request.path:
            view.add(
                "path-star",
                WARNING,
                Place(rule.place.object, request.at or rule.place.path),
                f"`{request.path}` is compared letter by letter: the star stands for itself.",
                f"Write prefix `{request.path.partition('*')[0]}`, or a regex.",
            )
        if request.kind == "prefix" and rule.rewrite is not None:
            _rewrite(view, table, rule, request)


def _rewrite(view: View, table: Table, rule: Rule, request: Request) -> None:
    new = rule.rewrite or ""
    doubled = new.endswith("/") and not request.path.endswith("/")
    glued = request.path.endswith("/") and not new.endswith("/") and request.path != "/"
    if not (doubled or glued):
        return
    below = Request("prefix", request.path if request.path.endswith("/") else f"{request.path}/", request.conditions)
    for other in table.rules:
        if any(one is not request and one.covers(below) for one in other.requests[: _before(other, request)]):
            return
        if other is rule:
            break
    example = f"{request.path.rstrip('/')}/x"
    became = f"{new}/x" if doubled else f"{new}x"
    view.add(
        "rewrite-slashes",
        WARNING,
        rule.place,
        f"Prefix `{request.path}` becomes `{new}`, so `{example}` becomes `{became}`.",
        "Match two prefixes, one with a slash at its end and one without, each with its own rewrite.",
    )


def _before(rule: Rule, request: Request) -> int:
    return next((i for i, one in enumerate(rule.requests) if one is request), len(rule.requests))


def hidden_inside(view: View, table: Table) -> None:
    """Rules of a VirtualService that an earlier rule of it keeps every request from."""
    if table.api != "istio" or sum(len(rule.requests) for rule in table.rules) > _MANY:
        return
    before: list[tuple[Request, Rule]] = []
    for rule in (one for one in table.rules if one.family == "http"):
        covering = [_covering(request, before) for request in rule.requests]
        if covering and all(one is not None for one in covering):
            request, first = next(one for one in covering if one is not None)
            view.add(
                "route-hidden",
                ERROR,
                rule.place,
                f"`{rule.requests[0]}` is never reached: {first.place.path} takes `{request}` before it.",
                "Write the narrower rule first.",
            )
        before += [(request, rule) for request in rule.requests]


def _covering(request: Request, before: Iterable[tuple[Request, Rule]]) -> tuple[Request, Rule] | None:
    return next(
        (
            (one, rule)
            for one, rule in before
            if one.port in (None, request.port)
            and (not one.gateways or (request.gateways and set(request.gateways) <= set(one.gateways)))
            and one.covers(request)
        ),
        None,
    )


def hidden_across(view: View) -> None:
    """Rules that a VirtualService of somebody else keeps every request from.

    Istio strings the rules of all VirtualServices for a hostname together, the older one's first, and moves those that
    take every request to the end (SortVHostRoutes).
    """
    groups: dict[tuple[WorkloadKey, int, int, str], list[Use]] = defaultdict(list)
    for use in view.uses:
        if use.listener.takes != "http" or use.table.api != "istio":
            continue
        for bound in view.bound_to[id(use.listener)]:
            for port in bound.ports:
                # Each server with TLS has a table of its own
                own = id(use.listener) if use.listener.encrypted else 0
                for name in use.names:
                    groups[bound.workload.key, port, own, name].append(use)
    told: set[tuple[str, str]] = set()
    for (_workload, _port, _own, name), uses in groups.items():
        tables = {id(use.table) for use in uses}
        if len(tables) < 2 or all(use.table.ours for use in uses):
            continue
        entries = [
            (request, rule, use.table)
            for use in sorted(uses, key=lambda one: _age(view, one.table))
            for rule in use.rules
            for request in rule.requests
        ]
        entries.sort(key=lambda entry: entry[0].everything)
        if len(entries) > _MANY:
            continue
        for index, (request, rule, table) in enumerate(entries):
            for earlier, first, owner in entries[:index]:
                if owner is table or (owner.ours and table.ours) or not earlier.covers(request):
                    continue
                _tell_hidden(view, name, (request, rule, table), (earlier, first, owner), told)
                break


def _tell_hidden(
    view: View,
    name: str,
    late: tuple[Request, Rule, Table],
    early: tuple[Request, Rule, Table],
    told: set[tuple[str, str]],
) -> None:
    request, rule, table = late
    earlier, first, owner = early
    place = rule.place if table.ours or not owner.ours else first.place
    key = (rule.place.object + rule.place.path, first.place.object)
    if key in told:
        return
    told.add(key)
    view.add(
        "route-hidden",
        ERROR,
        place,
        f"`{request}` of {table.place} for `{name}` is never reached: {owner.place} is older and takes `{earlier}`.",
        "Put both into one VirtualService, the narrower rule first, or give them different hostnames.",
        table.place.object,
        owner.place.object,
    )


def _age(view: View, table: Table) -> tuple[str, str]:
    if not table.ours:
        return table.made
    for one in view.snapshot.items(snap.VIRTUAL_SERVICE):
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (table.namespace, table.name):
            return made(one)
    return "9999", table.name


_Secure = list[tuple[set[int], list[str]]]
"""The ports that clients reach HTTPS listeners by, and their hostnames."""


def redirects(view: View) -> None:
    """Redirects to where nobody listens, and to themselves."""
    secure: _Secure = [
        (view.outside(one), [name for _owner, name in one.hosts])
        for one in view.listeners
        if one.takes == "http" and one.encrypted
    ]
    complete = all(view.readable(kind) for kind in (snap.GATEWAY, snap.API_GATEWAY, snap.SERVICE, snap.POD))
    for listener in view.listeners:
        if listener.redirects and complete and view.concerns(listener.place):
            for name in (name for _owner, name in listener.hosts if not _served(secure, name, 443)):
                view.add(
                    "redirect-nowhere",
                    WARNING,
                    listener.place,
                    f"Requests for `{name}` on port {listener.number} are sent to https, where nothing is published "
                    "for it.",
                    "Publish the name with protocol HTTPS on port 443, or drop the redirect.",
                )
    for use in view.uses:
        if not view.concerns(use.table.place) or use.listener.takes != "http":
            continue
        for rule in use.rules:
            if rule.redirect is not None:
                _redirect(view, use, rule, rule.redirect, secure if complete else None)


def _served(secure: _Secure, name: str, port: int) -> bool:
    """Whether a name is published by HTTPS, of a wildcard any name."""
    hosts = [host for numbers, names in secure if port in numbers for host in names]
    return any(covers(host, name) or (name.startswith("*") and covers(name, host)) for host in hosts)


def _redirect(view: View, use: Use, rule: Rule, sends: tuple[str, str, int], secure: _Secure | None) -> None:
    scheme, host, port = sends[0], sends[1].lower(), sends[2]
    here = "https" if use.listener.encrypted else "http"
    names = [name for name in use.names if "*" in name or any(_for_host(one, name) for one in rule.requests)]
    own = view.outside(use.listener)
    usual = {"http": 80, "https": 443}[scheme or here]
    number = port or (usual if scheme else min(own))
    if (scheme or here) == here and number in own and _comes_back(use, rule, host):
        view.add(
            "redirect-loop",
            ERROR,
            rule.place,
            f"Requests are redirected to {here}://{host or use.names[0]}:{number}, which is where they came from: "
            "clients go in a circle.",
            "Change the scheme, the hostname, the port or the path.",
        )
    elif secure is not None and scheme == "https" and here == "http" and not host:
        lost = [name for name in names if "*" not in name and not _served(secure, name, number)]
        if lost:
            view.add(
                "redirect-nowhere",
                WARNING,
                rule.place,
                f"Requests for `{lost[0]}` are sent to https on port {number}, where nothing is published for it.",
                f"Publish the name with protocol HTTPS on port {number}, or drop the redirect.",
            )


def _comes_back(use: Use, rule: Rule, host: str) -> bool:
    """Whether the rule takes what it redirects to another host, empty for the one that was asked for."""
    if not host:
        return True
    if not any(covers(name, host) for name in use.names):
        return False
    before: list[Request] = []
    for one in use.rules:
        there = [_any_host(request) for request in one.requests if _for_host(request, host)]
        if one is rule:
            return any(not any(early.covers(request) for early in before) for request in there)
        before += there
    return False


def _is_host(condition: tuple[str, str, str, str]) -> bool:
    what, name, _how, _value = condition
    return what == "authority" or (what in ("header", "without header") and name in (":authority", "host"))


def _for_host(request: Request, host: str) -> bool:
    """Whether conditions let requests for a host in."""
    for condition in filter(_is_host, request.conditions):
        what, _name, how, value = condition
        fits = how == "present" or host == value.partition(":")[0].lower()
        if how == "prefix":
            fits = host.startswith(value.lower())
        elif how == "regex":
            try:
                fits = re.fullmatch(value, host) is not None
            except re.error:
                return False
        if fits == (what == "without header"):
            return False
    return True


def _any_host(request: Request) -> Request:
    return replace(request, conditions=frozenset(one for one in request.conditions if not _is_host(one)))
