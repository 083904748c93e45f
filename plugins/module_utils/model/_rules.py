# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both generators say, each in its own API: which request goes where, and the objects around the routes.

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
from itertools import pairwise
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import is_address
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    DedicatedService,
    Exposure,
    Gateway,
    Match,
    Model,
    Origination,
    Redirect,
    Route,
    Subset,
    Tls,
    Traffic,
    backends_of,
    certificate_names,
    gateway_name,
    gateway_object,
    listener_number,
    pods_of,
    redirect_name,
    secret_names,
    short,
)

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One match of one route."""

    match: Match
    route: Route


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that the gateway listens on for some hostnames: one Gateway of Istio's API.

    `name` is the name of that Gateway, `gateway_object` the name of the Gateway API's, which may hold several
    listeners. `number` is what Istio's Gateway calls the port (see `listener_number`). `hosts` holds (namespace,
    hostname) of what is published; hostname `*` stands for every name. HTTPS exposures of one certificate share one
    listener: a browser sends requests for all names of a certificate over one connection, and with a listener for
    each name the first one's routes would answer the others with 404.
    """

    name: str
    gateway: Gateway
    gateway_object: str
    port: int
    number: int
    protocol: str
    hosts: tuple[tuple[str, str], ...]
    tls: Tls | None = None
    secret: str = ""
    service: DedicatedService | None = None


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The hostnames that share one table of routes on one port: one VirtualService, or one HTTPRoute.

    `routes` stand in the order in which ties are decided, of several exposures by their names. For TLS and TCP there
    is one route. `hostnames` is empty where every name is meant. `listener` is the name of the one it hangs on, empty
    on an `existing` Gateway.
    """

    name: str
    namespace: str
    gateway: Gateway
    port: int
    number: int
    protocol: str
    hostnames: tuple[str, ...]
    routes: tuple[Route, ...]
    listener: str

    def rules(self) -> list[Rule]:
        """Return the rules in the order in which they are tried."""
        return sorted(
            (Rule(match, route) for route in self.routes for match in route.matches), key=lambda rule: rank(rule.match)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All listeners and virtual hosts of a model, sorted."""

    listeners: tuple[Listener, ...]
    hosts: tuple[VirtualHost, ...]


def rank(match: Match) -> tuple[int, int, bool, int, int]:
    """Return a key that sorts matches by precedence, the first to be tried first."""
    kind = 3 if match.everything else {"exact": 0, "prefix": 1, "regex": 2}[match.kind]
    return kind, -len(match.path), match.method is None, -len(match.headers), -len(match.query)


def plan(model: Model) -> Plan:
    """Group what is published by hostname, so that every hostname has one table of routes on each port.

    Exposures that share a hostname on a port share the table: its rules are sorted together, as the Gateway API merges
    HTTPRoutes. Hostnames with the same owners stay together in one object, named after its owners.
    """
    owners: dict[tuple[Any, ...], list[tuple[Exposure, bool]]] = defaultdict(list)
    for entry in model.exposures:
        pods = pods_of(entry.gateway)
        for hostname in entry.hostnames or ("*",):
            owners[pods, entry.port, entry.namespace, hostname].append((entry, False))
            if entry.redirect_http:
                owners[pods, 80, entry.namespace, hostname].append((entry, True))

    tables: dict[tuple[Any, ...], list[str]] = {}
    uses_of: dict[tuple[Any, ...], list[tuple[Exposure, bool]]] = {}
    for (pods, port, _unused, hostname), uses in owners.items():
        key = (pods, port, tuple((entry.name, redirect) for entry, redirect in uses))
        uses_of[key] = uses
        tables.setdefault(key, []).append(hostname)

    secrets = secret_names(model.exposures)
    certificates = certificate_names(model.set_name, model.gateway, model.exposures)
    hosts = []
    found: dict[tuple[str, str], Listener] = {}
    served: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for key, hostnames in tables.items():
        first, redirect = uses_of[key][0]
        listener = _listener(model, first, secrets, certificates, redirect=redirect)
        names = () if hostnames in (["*"], []) else tuple(sorted(hostnames))
        hosts.append(
            VirtualHost(
                short(".".join(_part(entry, redirect=redirect) for entry, redirect in uses_of[key]), 200),
                first.namespace,
                first.gateway,
                listener.port,
                listener.number,
                listener.protocol,
                names,
                tuple(route for entry, redirect in uses_of[key] for route in _routes(entry, redirect=redirect)),
                "" if first.gateway.existing else listener.name,
            )
        )
        if not first.gateway.existing:
            place = (first.gateway.namespace, listener.name)
            if found.setdefault(place, listener).tls != listener.tls:
                message = f"two certificates would both have Gateway {'/'.join(place)}"
                raise ModelError((Problem("exposures", message, "Give one of their Secrets another name"),))
            served[place].update((first.namespace, name) for name in names or ("*",))
    listeners = [
        Listener(
            one.name,
            one.gateway,
            one.gateway_object,
            one.port,
            one.number,
            one.protocol,
            tuple(sorted(served[place])),
            one.tls,
            one.secret,
            one.service,
        )
        for place, one in sorted(found.items())
    ]
    return Plan(tuple(listeners), tuple(sorted(hosts, key=lambda host: (host.namespace, host.name))))


def _part(entry: Exposure, *, redirect: bool) -> str:
    return f"{entry.name}.redirect" if redirect else entry.name


def _routes(entry: Exposure, *, redirect: bool) -> tuple[Route, ...]:
    """Return an exposure's routes, or the one from HTTP to HTTPS, with port and status so that both APIs agree."""
    if not redirect:
        return entry.routes
    return (Route(redirect=Redirect("https", None, entry.port, None, None, 301), at=f"{entry.at}.redirect_http"),)


def _listener(
    model: Model, entry: Exposure, secrets: dict[Tls, str], certificates: dict[str, str], *, redirect: bool
) -> Listener:
    """Return the listener of one exposure, without its hosts."""
    port, protocol = (80, "HTTP") if redirect else (entry.port, entry.protocol)
    tls = entry.tls if protocol == "HTTPS" else None
    secret = secrets[tls] if tls else ""
    name = redirect_name(entry) if redirect else certificates.get(entry.at, gateway_name(entry))
    there = gateway_object(model.set_name, entry, name, redirect=redirect)
    service = None if redirect else entry.service
    number = port if redirect else listener_number(entry)
    return Listener(name, entry.gateway, there, port, number, protocol, (), tls, secret, service)


def metadata(model: Model, name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": model.labels}


def seconds(milliseconds: int) -> str:
    """Write a time as protobuf's JSON does, which every part of Istio reads: `0.25s`, `5s`."""
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"


def destination_rules(model: Model) -> list[Manifest]:
    """One DestinationRule for each host that is a backend.

    A gateway looks for the rule of a host in its own namespace, then in that of the host's Service, then in the root
    namespace; one in the Service's namespace would also govern every sidecar that calls it, so it is exported to the
    gateways' namespaces alone (destinationRule in pilot/pkg/model/push_context.go). The rules of two sets for one host
    are merged by Istio: the older one's policy holds, subsets are added up. Settings of a port replace those of the
    host as a whole, so they repeat them.
    """
    backends: dict[str, dict[int, Backend]] = defaultdict(dict)
    namespaces: dict[str, set[str]] = defaultdict(set)
    traffic: dict[str, Traffic] = {}
    of_http: set[str] = set()
    subsets: dict[str, dict[str, Subset]] = defaultdict(dict)
    for entry in model.exposures:
        for subset in entry.subsets:
            subsets[subset.fqdn][subset.name] = subset
        for backend, _unused in backends_of(entry):
            backends[backend.fqdn][backend.port] = backend
            namespaces[backend.fqdn].add(entry.gateway.namespace)
            if entry.protocol in ("HTTP", "HTTPS"):
                of_http.add(backend.fqdn)
            if entry.traffic is not None:
                traffic[backend.fqdn] = entry.traffic
    result = []
    for host, ports in backends.items():
        first = next(iter(ports.values()))
        how, http = traffic.get(host, Traffic()), host in of_http
        policy = _traffic_policy(how, outside=first.outside, http=http)
        levels = [
            {
                "port": {"number": port},
                **_traffic_policy(how, outside=first.outside, http=http),
                "tls": _origination(host, backend.tls),
            }
            for port, backend in sorted(ports.items())
            if backend.tls is not None
        ]
        spec: Manifest = {
            "host": host,
            "exportTo": sorted(namespaces[host]),
            "trafficPolicy": policy | ({"portLevelSettings": levels} if levels else {}),
        }
        if host in subsets:
            spec["subsets"] = [
                {"name": name, "labels": dict(one.labels)} for name, one in sorted(subsets[host].items())
            ]
        result.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": metadata(model, short(f"{model.set_name}-{first.service or host}", 253), first.namespace),
                "spec": spec,
            }
        )
    return result


def _traffic_policy(traffic: Traffic, *, outside: bool, http: bool) -> Manifest:
    timeout = traffic.connect_timeout or (5000 if outside else 500)
    pool: Manifest = {"tcp": {"connectTimeout": seconds(timeout)}}
    if http:
        pool["http"] = {"idleTimeout": seconds(traffic.idle_timeout)}
        if traffic.http2:
            pool["http"]["h2UpgradePolicy"] = "UPGRADE"
    policy: Manifest = {"connectionPool": pool}
    if not traffic.locality:
        policy["loadBalancer"] = {"localityLbSetting": {"enabled": False}}
    outliers = traffic.outlier_detection
    if outliers is not None:
        policy["outlierDetection"] = {
            "splitExternalLocalOriginErrors": True,
            "consecutiveLocalOriginFailures": outliers.local_origin_failures,
            "consecutiveGatewayErrors": outliers.gateway_errors,
            "consecutive5xxErrors": outliers.server_errors,
            "interval": seconds(outliers.interval),
            "baseEjectionTime": seconds(outliers.base_ejection_time),
            "maxEjectionPercent": outliers.max_ejection_percent,
            "minHealthPercent": 1,
        }
    return policy


def _origination(host: str, tls: Origination) -> Manifest:
    name = tls.sni or host
    settings: Manifest = {"mode": "MUTUAL" if tls.client_secret else "SIMPLE", "sni": name}
    if tls.insecure:
        settings["insecureSkipVerify"] = True
    else:
        settings["subjectAltNames"] = [name]
    if tls.client_secret or tls.ca_secret:
        settings["credentialName"] = tls.client_secret or tls.ca_secret
    return settings


def service_entries(model: Model) -> list[Manifest]:
    """One ServiceEntry for each outside host, in the namespace of its exposure and known to the gateways alone.

    Istio looks for a Hostname of an HTTPRoute in the route's own namespace (LookupHostname in
    pilot/pkg/config/kube/gateway/route_collections.go).
    """
    ports: dict[str, dict[int, str]] = defaultdict(dict)
    namespaces: dict[str, set[str]] = defaultdict(set)
    hosts: dict[str, Backend] = {}
    for entry in model.exposures:
        kind = "HTTP" if entry.protocol == "HTTPS" else entry.protocol
        for backend, _unused in backends_of(entry):
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
            spec["resolution"] = "STATIC" if is_address(backend.address) else "DNS"
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


def secrets(model: Model, done: Plan) -> list[Manifest]:
    """One Secret for each certificate that was given as content, beside the gateway's pods."""
    result: dict[tuple[str, str], Manifest] = {}
    for listener in done.listeners:
        tls = listener.tls
        if tls is None or not tls.ours:
            continue
        data = {"tls.crt": tls.certificate or "", "tls.key": tls.private_key or ""}
        if tls.ca_certificate:
            data["ca.crt"] = tls.ca_certificate
        result[tls.namespace, listener.secret] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(model, listener.secret, tls.namespace),
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())},
        }
    return list(result.values())


def ordered(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Sort the objects; raise ModelError where two would have one name, which takes names made to clash."""
    result = sorted(manifests, key=_identity)
    for one, two in pairwise(result):
        if _identity(one) == _identity(two):
            kind, _group, namespace, name = _identity(one)
            message = f"two exposures would both have {kind} {namespace}/{name}"
            raise ModelError((Problem("exposures", message, "Give one of them another name"),))
    return result


def _identity(manifest: Manifest) -> tuple[str, str, str, str]:
    where = manifest["metadata"]
    return manifest["kind"], manifest["apiVersion"].split("/")[0], where["namespace"], where["name"]
