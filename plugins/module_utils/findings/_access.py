# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about who may: namespaces that istiod ignores, policies that deny, settings of the gateway. Pure.

Policies are judged by whether any request can pass; what depends on who asks is taken to pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_over
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._backends import services_of
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import DEPLOYED
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import Key
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import Bound, View, target_of
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    UNKNOWN,
    WARNING,
    Manifest,
    Place,
    Table,
    Workload,
    injected,
    labels_match,
    overlap,
    selects,
    shown,
)


def check(view: View) -> None:
    """Look at namespaces, revisions and policies."""
    if view.static:
        return
    namespaces(view)
    ignored(view)
    revisions(view)
    _policies(view)
    _networks(view)
    gateways(view)


# Namespaces and revisions


def namespaces(view: View) -> None:
    """Namespaces of the list that aren't there."""
    if not view.snapshot.items(snap.NAMESPACE):
        return
    for entry in view.model.exposures if view.model is not None else ():
        found = view.namespaces.get(entry.namespace)
        place = Place(f"Namespace {entry.namespace}", f"{entry.at}.namespace", entry.name)
        if found is None:
            view.add(
                "namespace-missing",
                ERROR,
                place,
                f"Namespace `{entry.namespace}` doesn't exist.",
                "Create it, with the Service that is published, or correct the name.",
            )
        elif (found["metadata"].get("deletionTimestamp")) or (found.get("status") or {}).get("phase") == "Terminating":
            view.add(
                "namespace-missing",
                ERROR,
                place,
                f"Namespace `{entry.namespace}` is being deleted: nothing can be created in it.",
                "Wait until it is gone and create it anew.",
            )


def ignored(view: View) -> None:
    """Namespaces that discoverySelectors keep from istiod."""
    told: set[tuple[str, str]] = set()
    for bound in view.bound:
        selectors = view.mesh(bound.workload).get("discoverySelectors")
        if not selectors:
            continue

        def hidden(namespace: str, chosen: Sequence[Mapping[str, Any]] = tuple(selectors)) -> bool:
            return not any(view.chooses(one, namespace) for one in chosen)

        used: list[tuple[str, Place, str]] = []
        if view.concerns(bound.listener.place):
            used.append((bound.workload.namespace, bound.listener.place, "the gateway's pods"))
            used.append((bound.listener.namespace, bound.listener.place, bound.listener.place.object))
        for use in view.uses_of_listener[id(bound.listener)]:
            if view.concerns(use.table.place):
                used.append((use.table.namespace, use.table.place, use.table.place.object))
                used += [(target.namespace, target.place, f"Service {target.namespace}/{target.service}")
                         for rule in use.rules for target in rule.targets if target.service]  # fmt: skip
        for namespace, place, what in used:
            key = (namespace, place.exposure or place.object)
            if key not in told and hidden(namespace):
                told.add(key)
                view.add(
                    "namespace-ignored",
                    ERROR,
                    place,
                    f"istiod doesn't look into namespace `{namespace}` (discoverySelectors), where {what} is.",
                    "Give the namespace the labels that the selectors want.",
                    f"Namespace {namespace}",
                )


def revisions(view: View) -> None:
    """Objects that are labelled for another istiod than the gateway's."""
    known = {
        str(pod["metadata"]["labels"].get("istio.io/rev") or "default")
        for pod in view.snapshot.items(snap.POD)
        if (pod["metadata"].get("labels") or {}).get("app") == "istiod"
    }
    told: set[str] = set()
    for bound in view.bound:
        objects = [(bound.listener.object, bound.listener.place)]
        objects += [(use.table.object, use.table.place) for use in view.uses_of_listener[id(bound.listener)]]
        for manifest, place in objects:
            labels = ((manifest or {}).get("metadata") or {}).get("labels") or {}
            revision = labels.get("istio.io/rev")
            if not revision or revision == bound.workload.revision or revision not in known or place.object in told:
                continue
            told.add(place.object)
            view.add(
                "revision-ignored",
                ERROR,
                Place(place.object, "metadata.labels.istio.io/rev", place.exposure),
                f"{place.object} is for istiod of revision {revision}, and {bound.workload.shown} listen to revision "
                f"{bound.workload.revision}, which ignores it.",
                "Remove the label istio.io/rev, or set it to the gateway's revision.",
            )


# AuthorizationPolicies


@dataclass(frozen=True, slots=True)
class _Request:
    """What is known of the requests of one exposure where a policy looks at them.

    `domains` are the trust domains that count as that of `principal`, none where any may. `port` is 0 where it isn't
    known.
    """

    http: bool
    port: int
    hosts: tuple[str, ...]
    namespace: str | None
    principal: str | None
    jwt: bool
    domains: tuple[str, ...] = ()


def _policies(view: View) -> None:
    if not view.snapshot.items(snap.AUTHORIZATION):
        return
    told: set[tuple[str, str, str]] = set()
    for use in view.uses:
        if not view.concerns(use.table.place):
            continue
        for bound in view.bound_to[id(use.listener)]:
            workload = bound.workload
            pods, port = workload.pods, bound.ports[0] if bound.ports else 0
            tokens = _checks_tokens(view, workload, workload.namespace, workload.labels)
            request = _Request(use.listener.takes == "http", port, use.names, None, None, tokens)
            _judge(view, use.table, bound.workload, bound.workload.namespace, pods, request, told)
            for target, service in services_of(view, [use.table]):
                behind = [pod for pod in view.pods_of_service(service) if injected(pod)]
                if not behind:
                    continue
                inner = _inner(view, bound, target.port, service, behind[0], http=request.http, hosts=use.names)
                _judge(view, use.table, bound.workload, target.namespace, behind, inner, told)


def _inner(
    view: View,
    bound: Bound,
    number: int | None,
    service: Manifest,
    pod: Manifest,
    *,
    http: bool,
    hosts: tuple[str, ...],
) -> _Request:
    ports = [port for port in service["spec"].get("ports") or () if number in (None, port["port"])]
    end = next((target_of(port, [pod]) for port in ports), None)
    account = next((str(one["spec"].get("serviceAccountName") or "default") for one in bound.workload.pods), "default")
    mesh = view.mesh(bound.workload)
    domain = str(mesh.get("trustDomain") or _LOCAL)
    principal = f"{domain}/ns/{bound.workload.namespace}/sa/{account}"
    labels = pod["metadata"].get("labels") or {}
    jwt = _checks_tokens(view, bound.workload, pod["metadata"]["namespace"], labels)
    domains = (domain, _LOCAL, *map(str, mesh.get("trustDomainAliases") or ()))
    if not view.knows_mesh(bound.workload):
        domains = ()
    return _Request(http, end or 0, hosts, bound.workload.namespace, principal, jwt, domains)


def _checks_tokens(view: View, workload: Workload, namespace: str, labels: Mapping[str, str]) -> bool:
    kind = snap.REQUEST_AUTHENTICATION
    readable = all(view.readable(kind, space) for space in (namespace, view.root_namespace(workload)))
    return not readable or any(True for _one in _applied(view, kind, namespace, labels, workload))


def _judge(
    view: View,
    table: Table,
    workload: Workload,
    namespace: str,
    pods: Sequence[Manifest],
    request: _Request,
    told: set[tuple[str, str, str]],
) -> None:
    if not pods:
        return
    labels = pods[0]["metadata"].get("labels") or {}
    where = workload.shown if request.principal is None else f"pods of namespace {namespace}"
    allowing: list[Manifest] = []
    for policy in _applied(view, snap.AUTHORIZATION, namespace, labels, workload):
        spec = policy.get("spec") or {}
        action, rules = spec.get("action") or "ALLOW", spec.get("rules") or ()
        key = (table.place.exposure or table.place.object, shown(policy), where)
        if action == "ALLOW":
            allowing.append(policy)
        elif action == "DENY" and key not in told and any(_always(rule or {}, request) for rule in rules):
            told.add(key)
            plain = not request.http and any(_http_only(rule or {}) for rule in rules)
            reason = (
                "for TCP only its ports and sources count, since there is no HTTP to look at"
                if plain
                else "it fits all"
            )
            _deny(view, table, where, policy, f"{shown(policy)} denies every request at {where}: {reason}.", request)
        elif action == "CUSTOM" and key not in told and view.knows_mesh(workload):
            name = str((spec.get("provider") or {}).get("name") or "")
            providers = {str(one.get("name")) for one in view.mesh(workload).get("extensionProviders") or ()}
            if name not in providers and any(_may(rule or {}, request) for rule in rules):
                told.add(key)
                reason = (
                    f"{shown(policy)} asks provider `{name}`, which the mesh configuration doesn't have: all is denied."
                )
                view.add(
                    "authorization-provider",
                    ERROR,
                    table.place,
                    reason,
                    "Define it in meshConfig.extensionProviders, or correct the name.",
                    shown(policy),
                )
    if not allowing:
        return
    key = (table.place.exposure or table.place.object, "allow", where)
    passing = [
        policy
        for policy in allowing
        if any(_may(rule or {}, request) for rule in (policy.get("spec") or {}).get("rules") or ())
    ]
    if not passing and key not in told:
        told.add(key)
        names = " and ".join(shown(policy) for policy in allowing[:3])
        verb = "lets" if len(allowing) == 1 else "let"
        reason = f"{names} {verb} nothing of this through at {where}{_why(allowing, request)}."
        _deny(view, table, where, allowing[0], reason, request)


def _deny(view: View, table: Table, where: str, policy: Manifest, reason: str, request: _Request) -> None:
    answer = "Clients get 403." if request.http else "Connections are closed."
    source = "" if request.principal is None else f" from principal {request.principal}"
    view.add(
        "authorization-denies",
        WARNING,
        table.place,
        f"{reason} {answer}",
        f"Allow it there{source}, or narrow the policy's selector.",
        shown(policy),
        where,
    )


def _why(policies: Sequence[Manifest], request: _Request) -> str:
    rules = [rule or {} for policy in policies for rule in (policy.get("spec") or {}).get("rules") or ()]
    if not rules:
        return " (a policy without rules allows nothing)"
    if not request.http and all(_http_only(rule) for rule in rules):
        return " (rules with methods, paths or hosts never fit TCP)"
    if not request.jwt and all(_wants_token(rule) for rule in rules):
        return " (it wants tokens, and no RequestAuthentication reads them)"
    return ""


def _applied(
    view: View, kind: Key, namespace: str, labels: Mapping[str, str], gateway: Workload
) -> Iterator[Manifest]:  # fmt: skip
    """Return the policies of a kind for pods, in their namespace or the root, which is that of the gateway's mesh."""
    for policy in view.snapshot.items(kind):
        space, spec = policy["metadata"]["namespace"], policy.get("spec") or {}
        if space not in (namespace, view.root_namespace(gateway)):
            continue
        references = spec.get("targetRefs") or ([spec["targetRef"]] if spec.get("targetRef") else [])
        if references:
            names = {one.get("name") for one in references if one.get("kind") == "Gateway"}
            if space == namespace and labels.get(DEPLOYED) in names:
                yield policy
        elif selects((spec.get("selector") or {}).get("matchLabels"), labels):
            yield policy


_LOCAL = "cluster.local"
"""The trust domain that every mesh takes for its own."""
_OPERATIONS = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")


def _http_only(rule: Mapping[str, Any]) -> bool:
    operations = [entry.get("operation") or {} for entry in rule.get("to") or ()]
    sources = [entry.get("source") or {} for entry in rule.get("from") or ()]
    keys = [str(one.get("key")) for one in rule.get("when") or ()]
    return (
        any(name in operation for operation in operations for name in _OPERATIONS)
        or any("requestPrincipals" in source or "notRequestPrincipals" in source for source in sources)
        or any(key.startswith("request.") for key in keys)
    )


def _wants_token(rule: Mapping[str, Any]) -> bool:
    sources = [entry.get("source") or {} for entry in rule.get("from") or ()]
    keys = [str(one.get("key")) for one in rule.get("when") or () if one.get("values")]
    return (bool(sources) and all(source.get("requestPrincipals") for source in sources)) or any(
        key.startswith("request.auth") for key in keys
    )


def _may(rule: Mapping[str, Any], request: _Request) -> bool:
    """Whether some request of the exposure fits a rule."""
    if not request.http and _http_only(rule):
        return False
    if not request.jwt and _wants_token(rule):
        return False
    operations = [entry.get("operation") or {} for entry in rule.get("to") or ()]
    if operations and not any(_operation(operation, request) for operation in operations):
        return False
    sources = [entry.get("source") or {} for entry in rule.get("from") or ()]
    return not sources or any(_source(source, request) for source in sources)


def _operation(operation: Mapping[str, Any], request: _Request) -> bool:
    ports = [str(port) for port in operation.get("ports") or ()]
    if ports and request.port and str(request.port) not in ports:
        return False
    if str(request.port) in [str(port) for port in operation.get("notPorts") or ()]:
        return False
    hosts = [str(host).partition(":")[0] for host in operation.get("hosts") or ()]
    return not hosts or any(_alike(host, name) for host in hosts for name in request.hosts)


def _alike(pattern: str, name: str) -> bool:
    """Compare as Istio does: exactly, or with a star at one end. A wildcard hostname may be anything it covers."""
    if pattern.startswith("*") or name.startswith("*"):
        return bool(overlap([pattern if pattern != "*" else "*"], [name]))
    if pattern.endswith("*"):
        return name.lower().startswith(pattern[:-1].lower())
    return pattern.lower() == name.lower()


def _source(source: Mapping[str, Any], request: _Request) -> bool:
    """At the gateway clients have no identity; behind it the gateway's own is known."""
    if request.principal is None:
        return not (source.get("principals") or source.get("namespaces") or source.get("serviceAccounts"))
    if source.get("principals") and not any(_is_principal(one, request) for one in source["principals"]):
        return False
    if source.get("namespaces") and not any(_fits(one, request.namespace or "") for one in source["namespaces"]):
        return False
    return not any(_is_principal(one, request) for one in source.get("notPrincipals") or ()) and not any(
        _fits(one, request.namespace or "") for one in source.get("notNamespaces") or ()
    )


def _is_principal(pattern: str, request: _Request) -> bool:
    """Compare with the gateway's identity; all trust domains of the mesh are one (pilot/pkg/security/trustdomain)."""
    principal = request.principal or ""
    domain, _slash, rest = pattern.partition("/")
    if pattern.count("/") == 4 and (not request.domains or any(_fits(domain, one) for one in request.domains)):
        return _fits(rest, principal.partition("/")[2])
    return _fits(pattern, principal)


def _fits(pattern: str, value: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _always(rule: Mapping[str, Any], request: _Request) -> bool:
    """Whether every request of the exposure fits a rule of a DENY policy."""
    if not _may(rule, request) and request.http:
        return False
    if rule.get("when") and (
        request.http or any(not str(one.get("key")).startswith("request.") for one in rule["when"])
    ):
        return False
    for entry in rule.get("from") or ():
        source = entry.get("source") or {}
        if set(source) - ({"requestPrincipals", "notRequestPrincipals"} if not request.http else set()):
            known = request.principal is not None and set(source) <= {"principals", "namespaces"}
            if not (known and _source(source, request)):
                return False
    for entry in rule.get("to") or ():
        operation = dict(entry.get("operation") or {})
        if not request.http:
            operation = {key: value for key, value in operation.items() if key not in _OPERATIONS}
        by_port = {key: operation[key] for key in ("ports", "notPorts") if key in operation}
        if by_port and not (request.port and _operation(by_port, request)):
            return False
        rest = set(operation) - {"ports", "notPorts"}
        hosts = [str(host) for host in operation.get("hosts") or ()]
        if rest == {"hosts"} and all(any(_alike(host, name) for host in hosts) for name in request.hosts):
            continue
        if rest:
            return False
    return True


# NetworkPolicies


def _networks(view: View) -> None:
    if not view.snapshot.items(snap.NETWORK_POLICY):
        return
    told: set[tuple[str, str]] = set()
    for use in view.uses:
        if not view.concerns(use.table.place):
            continue
        who = use.table.place.exposure or use.table.place.object
        for bound in view.bound_to[id(use.listener)]:
            blocking = _blocking(view, bound.workload.pods, bound.ports[0] if bound.ports else 0, None)
            if blocking and (who, shown(blocking[0])) not in told:
                told.add((who, shown(blocking[0])))
                _blocked(view, use.table, blocking, f"clients outside from {bound.workload.shown}", "from outside")
            for target, service in services_of(view, [use.table]):
                pods = view.pods_of_service(service)
                ports = [port for port in service["spec"].get("ports") or () if target.port in (None, port["port"])]
                end = next((target_of(port, pods) for port in ports), None)
                blocking = _blocking(view, pods, end or 0, bound.workload)
                if blocking and (who, shown(blocking[0])) not in told:
                    told.add((who, shown(blocking[0])))
                    what = f"the gateway from {shown(service)}"
                    _blocked(view, use.table, blocking, what, f"from namespace `{bound.workload.namespace}`")


def _blocked(view: View, table: Table, policies: Sequence[Manifest], what: str, source: str) -> None:
    view.add(
        "network-policy",
        WARNING,
        table.place,
        f"{' and '.join(shown(one) for one in policies[:3])} keep{'s' * (len(policies) == 1)} {what}: connections "
        "time out.",
        f"Allow ingress {source} in it.",
        *(shown(one) for one in policies),
    )


def _blocking(view: View, pods: Sequence[Manifest], port: int, source: Workload | None) -> list[Manifest]:
    """Return the NetworkPolicies that choose a pod, if none of them lets the source in. No source means outside."""
    if not pods:
        return []
    namespace, labels = pods[0]["metadata"]["namespace"], pods[0]["metadata"].get("labels") or {}
    chosen = [
        one
        for one in view.snapshot.items(snap.NETWORK_POLICY)
        if one["metadata"]["namespace"] == namespace
        and labels_match((one.get("spec") or {}).get("podSelector"), labels)
        and "Ingress" in ((one.get("spec") or {}).get("policyTypes") or ["Ingress"])
    ]
    for policy in chosen:
        for rule in (policy.get("spec") or {}).get("ingress") or ():
            if _lets_in(view, rule or {}, namespace, port, source):
                return []
    return chosen


def _lets_in(view: View, rule: Mapping[str, Any], namespace: str, port: int, source: Workload | None) -> bool:
    ports = rule.get("ports") or ()
    if ports and not any(_port_in(one, port) for one in ports):
        return False
    peers = rule.get("from") or ()
    if not peers or any("ipBlock" in peer for peer in peers):
        return True
    if source is None:
        return False
    for peer in peers:
        spaces = peer.get("namespaceSelector")
        there = source.namespace == namespace if spaces is None else view.chooses(spaces, source.namespace)
        if there and labels_match(peer.get("podSelector"), source.labels):
            return True
    return False


def _port_in(one: Mapping[str, Any], port: int) -> bool:
    wanted = one.get("port")
    if wanted is None or not isinstance(wanted, int) or port == 0:
        return True
    return wanted <= port <= int(one.get("endPort") or wanted)


# The gateway's own settings


def gateways(view: View) -> None:
    """EnvoyFilters on a gateway, whose effect can't be foreseen, and PROXY protocol, which kube-proxy doesn't send."""
    told: set[str] = set()
    for bound in view.bound:
        if not view.concerns(bound.listener.place) or bound.workload.shown in told:
            continue
        told.add(bound.workload.shown)
        root = view.root_namespace(bound.workload)
        for one in view.snapshot.items(snap.ENVOY_FILTER):
            space, spec = one["metadata"]["namespace"], one.get("spec") or {}
            selector = (spec.get("workloadSelector") or {}).get("labels")
            contexts = {
                str((patch.get("match") or {}).get("context") or "ANY") for patch in spec.get("configPatches") or ()
            }
            if (
                space in (bound.workload.namespace, root)
                and selects(selector, bound.workload.labels)
                and contexts & {"ANY", "GATEWAY"}
            ):
                view.add(
                    "envoy-filter",
                    UNKNOWN,
                    Place(shown(one)),
                    f"{shown(one)} changes the configuration of {bound.workload.shown} in ways that can't be foreseen.",
                    "If something fails that is sound here, look there first.",
                    cluster=True,
                )
        # Edges outside the cluster aren't among these, and may send it
        if view.edges and _proxy_protocol(view, bound.workload):
            view.add(
                "proxy-protocol",
                WARNING,
                Place(bound.workload.shown),
                f"{bound.workload.shown} expect PROXY protocol on every connection, and kube-proxy, which serves the "
                f"VIP on {', '.join(view.edges)}, sends none: clients are cut off.",
                "Put a forwarder that sends it on edges outside the cluster (edgeway_proxy_protocol, with "
                "edgeway_forwarding: haproxy), or unset gatewayTopology.proxyProtocol.",
                cluster=True,
            )


def _proxy_protocol(view: View, workload: Workload) -> bool:
    topology = (view.mesh(workload).get("defaultConfig") or {}).get("gatewayTopology") or {}
    if "proxyProtocol" in topology:
        return True
    for pod in workload.pods:
        if is_over(pod):
            continue
        text = (pod["metadata"].get("annotations") or {}).get("proxy.istio.io/config")
        if text and "proxyProtocol" in text:
            try:
                return "proxyProtocol" in (json.loads(text).get("gatewayTopology") or {})
            except ValueError:
                return True
    return False
