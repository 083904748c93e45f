# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both generators say, each in its own API: which request goes where, and what stands around the routes.

The order of rules is the Gateway API's (HTTPRouteRule: exact path, then the longest prefix, then a method, then the
number of headers, then of query parameters). Regular expressions come after all prefixes, and a rule that takes every
request comes last: so Istio orders HTTPRoutes, see sortHTTPRoutes in pilot/pkg/config/kube/gateway/conversion.go and
SortVHostRoutes in pilot/pkg/networking/core/route/route.go. A VirtualService takes its rules as they are written, so
the order is made here, once for both.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import (
    Backend,
    Exposure,
    Gateway,
    Match,
    Model,
    Redirect,
    Route,
    Subset,
    Tls,
    Traffic,
    backends_of,
    gateway_name,
    short,
)

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One match of one route."""

    match: Match
    route: Route


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The hostnames that share one table of rules on one port: one VirtualService, or one HTTPRoute.

    `listeners` names the listeners (see `Listener.name`) it hangs on. For TLS and TCP there is one rule.
    """

    name: str
    namespace: str
    gateway: Gateway
    port: int
    protocol: str
    hostnames: tuple[str, ...]
    rules: tuple[Rule, ...]
    listeners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that the gateway listens on for some hostnames: one Gateway of Istio's API.

    `name` is the name of that Gateway. `hosts` holds (namespace, hostname) of what is published; hostname `*` stands
    for every name. HTTPS exposures of one certificate share one listener: a browser sends requests for all names of a
    certificate over one connection, and a listener of another name would answer them with 404.
    """

    name: str
    gateway: Gateway
    port: int
    protocol: str
    hosts: tuple[tuple[str, str], ...]
    tls: Tls | None = None


def rank(match: Match) -> tuple[int, int, int, int, int]:
    """Return a key that sorts matches by precedence, first to be tried first."""
    everything = match == Match() or match == Match(grpc=match.grpc)
    kind = {"exact": 0, "prefix": 1, "regex": 2}[match.kind]
    return (
        3 if everything else kind,
        -len(match.path),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query),
    )


def _rules(routes: Iterable[Route]) -> tuple[Rule, ...]:
    """Sort the rules of some routes; of two that are as specific the one written first stays first."""
    return tuple(
        sorted((Rule(match, route) for route in routes for match in route.matches), key=lambda r: rank(r.match))
    )


def _redirect_route(exposure: Exposure) -> Route:
    """HTTP to HTTPS. Said with port and status, so that both APIs answer alike."""
    return Route(redirect=Redirect(scheme="https", port=exposure.port, status=301), at=f"{exposure.at}.redirect_http")


def secret_name(exposures: Iterable[Exposure], tls: Tls) -> str:
    """Name the Secret that holds `tls`: the user's, or ours, called after the first exposure that has this content."""
    if not tls.ours:
        return tls.secret
    first = min((entry for entry in exposures if entry.tls == tls), key=lambda entry: (entry.namespace, entry.name))
    return short(f"{gateway_name(first)}-tls")


def listeners(model: Model) -> tuple[tuple[Listener, ...], dict[tuple[str, bool], str]]:
    """Return the listeners, and for each (exposure's name, is it the redirect's) the name of its listener.

    Exposures on an `existing` Gateway have that Gateway's name, and no listener of ours.
    """
    found: dict[str, Listener] = {}
    of: dict[tuple[str, bool], str] = {}
    hosts: dict[str, set[tuple[str, str]]] = defaultdict(set)
    secrets: dict[Tls, str] = {}
    for entry in model.exposures:
        if entry.gateway.existing:
            of[entry.name, False] = entry.gateway.existing
            continue
        uses = [(False, entry.port, entry.protocol)] + ([(True, 80, "HTTP")] if entry.redirect_http else [])
        for redirect, port, protocol in uses:
            name = gateway_name(entry)
            tls = entry.tls if protocol == "HTTPS" else None
            if redirect:
                name = short(f"{name}-redirect", 57)
            elif tls is not None:
                if tls not in secrets:
                    secrets[tls] = secret_name(model.exposures, tls)
                parts = [model.set_name, secrets[tls], str(port)]
                parts += [tls.mode.lower()] if tls.mode != "SIMPLE" else []
                parts += [f"tls{tls.min_version}".replace(".", "")] if tls.min_version else []
                parts += [tls.namespace] if tls.namespace != entry.gateway.namespace else []
                name = short("-".join(parts).replace(".", "-"), 57)
            of[entry.name, redirect] = name
            found.setdefault(name, Listener(name, entry.gateway, port, protocol, (), tls))
            hosts[name].update((entry.namespace, hostname) for hostname in entry.hostnames or ("*",))
    done = (
        Listener(one.name, one.gateway, one.port, one.protocol, tuple(sorted(hosts[name])), one.tls)
        for name, one in found.items()
    )
    return tuple(sorted(done, key=lambda one: (one.gateway.namespace, one.name))), of


def virtual_hosts(model: Model) -> tuple[VirtualHost, ...]:
    """Group what is published by hostname, so that every hostname has one table of rules on each port.

    Exposures that share a hostname on a port share the table: its rules are sorted together, as the Gateway API merges
    HTTPRoutes. Hostnames with the same owners stay together in one object, named after its owners.
    """
    _, of = listeners(model)
    owners: dict[tuple[Gateway, int, str, str], list[tuple[Exposure, bool]]] = defaultdict(list)
    result = []
    for entry in model.exposures:
        if entry.protocol in ("TCP", "TLS"):
            rules = tuple(Rule(Match(), route) for route in entry.routes)
            result.append(
                VirtualHost(
                    *(entry.name, entry.namespace, entry.gateway, entry.port, entry.protocol, entry.hostnames),
                    *(rules, (of[entry.name, False],)),
                )
            )
            continue
        for hostname in entry.hostnames or ("*",):
            owners[entry.gateway, entry.port, entry.namespace, hostname].append((entry, False))
            if entry.redirect_http:
                owners[entry.gateway, 80, entry.namespace, hostname].append((entry, True))
    tables: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for (gateway, port, namespace, hostname), uses in owners.items():
        tables[gateway, port, namespace, tuple((entry.name, redirect) for entry, redirect in uses)].append(hostname)
    by_name = {entry.name: entry for entry in model.exposures}
    for (gateway, port, namespace, uses), hostnames in tables.items():
        routes: list[Route] = []
        for name, redirect in uses:
            routes += [_redirect_route(by_name[name])] if redirect else by_name[name].routes
        protocol = "HTTP" if any(redirect for _, redirect in uses) else by_name[uses[0][0]].protocol
        result.append(
            VirtualHost(
                short("-".join(f"{name}-redirect" if redirect else name for name, redirect in uses)),
                namespace,
                gateway,
                port,
                protocol,
                () if hostnames == ["*"] else tuple(sorted(hostnames)),
                _rules(routes),
                tuple(sorted({of[use] for use in uses})),
            )
        )
    return tuple(sorted(result, key=lambda host: (host.namespace, host.name, host.port)))


def metadata(model: Model, name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": model.labels}


def seconds(milliseconds: int) -> str:
    """Write a time as protobuf's JSON does, which every part of Istio reads: `0.25s`, `5s`."""
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"


def destination_rules(model: Model) -> list[Manifest]:
    """One DestinationRule for each host that is a backend.

    A gateway looks for the rule of a host in its own namespace, then in that of the host's Service, then in the root
    namespace; one in the Service's namespace would also govern every sidecar that calls it, so it is exported to the
    gateways' namespaces alone. (destinationRule in pilot/pkg/model/push_context.go)
    """
    backends: dict[str, dict[int, Backend]] = defaultdict(dict)
    namespaces: dict[str, set[str]] = defaultdict(set)
    traffic: dict[str, Traffic] = {}
    subsets: dict[str, dict[str, Subset]] = defaultdict(dict)
    for entry in model.exposures:
        for subset in entry.subsets:
            subsets[subset.fqdn][subset.name] = subset
        for backend, _ in backends_of(entry):
            backends[backend.fqdn][backend.port] = backend
            namespaces[backend.fqdn].add(entry.gateway.namespace)
            if entry.traffic is not None:
                traffic[backend.fqdn] = entry.traffic
    result = []
    for host, ports in backends.items():
        first = next(iter(ports.values()))
        policy = _traffic_policy(traffic.get(host, Traffic()))
        levels = [
            {"port": {"number": port}, **policy, "tls": _origination(backend)}
            for port, backend in sorted(ports.items())
            if backend.tls is not None
        ]
        if levels:
            policy = {**policy, "portLevelSettings": levels}
        spec: Manifest = {"host": host, "exportTo": sorted(namespaces[host]), "trafficPolicy": policy}
        if subsets.get(host):
            spec["subsets"] = [
                {"name": one.name, "labels": dict(one.labels)} for _, one in sorted(subsets[host].items())
            ]
        name = short(f"{model.set_name}-{first.service or host}", 253)
        result.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": metadata(model, name, first.namespace),
                "spec": spec,
            }
        )
    return result


def _traffic_policy(traffic: Traffic) -> Manifest:
    pool: Manifest = {"tcp": {"connectTimeout": seconds(traffic.connect_timeout)}}
    if traffic.http2:
        pool["http"] = {"h2UpgradePolicy": "UPGRADE"}
    policy: Manifest = {"connectionPool": pool}
    outliers = traffic.outlier_detection
    if outliers is not None:
        policy["outlierDetection"] = {
            "consecutiveGatewayErrors": outliers.consecutive_errors,
            "consecutive5xxErrors": 0,
            "interval": seconds(outliers.interval),
            "baseEjectionTime": seconds(outliers.base_ejection_time),
            "maxEjectionPercent": outliers.max_ejection_percent,
        }
    return policy


def _origination(backend: Backend) -> Manifest:
    tls = backend.tls
    assert tls is not None  # noqa: S101  the caller chose it so
    settings: Manifest = {"mode": "MUTUAL" if tls.client_secret else "SIMPLE", "sni": tls.sni or backend.fqdn}
    if tls.insecure:
        settings["insecureSkipVerify"] = True
    else:
        settings["subjectAltNames"] = [tls.sni or backend.fqdn]
    if tls.client_secret or tls.ca_secret:
        settings["credentialName"] = tls.client_secret or tls.ca_secret
    return settings


def service_entries(model: Model) -> list[Manifest]:
    """One ServiceEntry for each outside host, known to the gateways alone."""
    ports: dict[str, dict[int, str]] = defaultdict(dict)
    namespaces: dict[str, set[str]] = defaultdict(set)
    hosts: dict[str, Backend] = {}
    for entry in model.exposures:
        kind = "HTTP" if entry.protocol in ("HTTP", "HTTPS") else entry.protocol
        for backend, _ in backends_of(entry):
            if backend.outside:
                hosts[backend.fqdn] = backend
                ports[backend.fqdn][backend.port] = "HTTPS" if backend.tls and kind == "HTTP" else kind
                namespaces[backend.fqdn].add(entry.gateway.namespace)
    result = []
    for host, backend in hosts.items():
        spec: Manifest = {
            "hosts": [host],
            "exportTo": sorted(namespaces[host]),
            "location": "MESH_EXTERNAL",
            "ports": [
                {"number": port, "name": f"{kind.lower()}-{port}", "protocol": kind}
                for port, kind in sorted(ports[host].items())
            ],
            "resolution": "DNS",
        }
        if backend.address:
            spec["resolution"] = "STATIC" if _is_address(backend.address) else "DNS"
            spec["endpoints"] = [{"address": backend.address}]
        result.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": metadata(model, short(f"{model.set_name}-{host}", 253), backend.namespace),
                "spec": spec,
            }
        )
    return result


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


def secrets(model: Model) -> list[Manifest]:
    """One Secret for each certificate that was given as content, beside the gateway's pods."""
    result: dict[tuple[str, str], Manifest] = {}
    for entry in model.exposures:
        tls = entry.tls
        if tls is None or not tls.ours or entry.gateway.existing:
            continue
        name = secret_name(model.exposures, tls)
        data = {"tls.crt": tls.certificate or "", "tls.key": tls.private_key or ""}
        if tls.ca_certificate:
            data["ca.crt"] = tls.ca_certificate
        result[tls.namespace, name] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(model, name, tls.namespace),
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())},
        }
    return list(result.values())


def ordered(manifests: Iterable[Manifest]) -> list[Manifest]:
    return sorted(
        manifests,
        key=lambda one: (one["kind"], one["apiVersion"], one["metadata"]["namespace"], one["metadata"]["name"]),
    )
