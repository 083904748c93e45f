# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Envoy config dump, read: listeners, routes, clusters, endpoints and certificates. Pure.

The dump is what Envoy's admin interface answers at /config_dump (with ?include_eds for endpoints):
https://www.envoyproxy.io/docs/envoy/latest/api-v3/admin/v3/config_dump.proto
Only what is in force is read: what is draining isn't there any more; what is warming is kept apart. Which part of it a
request takes is in `trace._match`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = Mapping[str, Any]

ADMIN_PORT = 15000
"""Where Envoy's admin interface listens inside the pod: proxyAdminPort of Istio's ProxyConfig."""

DUMP, CLUSTERS = "/config_dump?include_eds", "/clusters?format=json"
"""What `read` takes, and where Envoy's admin interface answers it."""

_FAULT = "envoy.filters.http.fault"


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a virtual host. `match` is Envoy's own; `clusters` are (name, weight).

    `origin` is the object that istiod made it from, as a path: /apis/GROUP/VERSION/namespaces/NS/KIND/NAME.
    """

    name: str
    match: Json
    clusters: tuple[tuple[str, int], ...] = ()
    origin: str = ""
    raw: Json = field(default_factory=dict, repr=False)

    @property
    def redirects(self) -> bool:
        return "redirect" in self.raw

    @property
    def status(self) -> int:
        """The HTTP status that it answers itself: directly, or as an injected fault for most requests; 0 for none."""
        abort = ((self.raw.get("typed_per_filter_config") or {}).get(_FAULT) or {}).get("abort") or {}
        share = abort.get("percentage") or {}
        scale = {"TEN_THOUSAND": 100, "MILLION": 10_000}.get(str(share.get("denominator")), 1)
        if number(share.get("numerator")) / scale >= 50:
            return number(abort.get("http_status"))
        return number((self.raw.get("direct_response") or {}).get("status"))

    @property
    def timeout(self) -> str:
        return str((self.raw.get("route") or {}).get("timeout", ""))


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The routes for some names."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """One filter chain: what becomes of a connection that fits.

    `names` are the SNI names it takes, empty for any. HTTP has `route_config`, the name of its routes; TCP has
    `clusters`, as (name, weight). `secrets` are the certificates it shows, `policies` the AuthorizationPolicies
    compiled into it, as `DENY namespace/name`. `transport` is `tls` or `raw_buffer` where it takes that alone.
    """

    names: tuple[str, ...] = ()
    route_config: str = ""
    clusters: tuple[tuple[str, int], ...] = ()
    secrets: tuple[str, ...] = ()
    tls: bool = False
    client_certificate: bool = False
    policies: tuple[str, ...] = ()
    transport: str = ""

    @property
    def kind(self) -> str:
        return "HTTP" if self.route_config else "TCP"


@dataclass(frozen=True, slots=True)
class Listener:
    """One address and port that Envoy has bound."""

    name: str
    address: str
    port: int
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One set of endpoints. `origin` is the DestinationRule that shaped it, as a path; '' for none."""

    name: str
    kind: str
    connect_timeout: str = ""
    outlier_detection: Json = field(default_factory=dict)
    origin: str = ""
    raw: Json = field(default_factory=dict, repr=False)

    @property
    def services(self) -> tuple[str, ...]:
        """The Services behind it, as namespace/name."""
        found = ((self.raw.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
        return tuple(f"{one.get('namespace')}/{one.get('name')}" for one in found.get("services") or ())

    @property
    def transport(self) -> str:
        """How it is spoken to: `plain`, `tls`, `mutual` (Istio's certificates), `auto` (mutual where a sidecar is)."""
        if self.raw.get("transport_socket_matches"):
            return "auto"
        socket = self.raw.get("transport_socket") or {}
        if "tls" not in str(socket.get("name")):
            return "plain"
        common = (socket.get("typed_config") or {}).get("common_tls_context") or {}
        names = [entry.get("name") for entry in common.get("tls_certificate_sds_secret_configs") or ()]
        return "mutual" if "default" in names else "tls"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a cluster, with Envoy's own view of its health: HEALTHY, UNHEALTHY, DRAINING, ...

    `problems` are Envoy's reasons for not using it, as failed_outlier_check. `connections` and `failures` (of
    connecting) count since Envoy knows it. `mutual_tls`: Istio found a sidecar there. `workload` is namespace/name.
    """

    address: str
    port: int
    health: str = "UNKNOWN"
    problems: tuple[str, ...] = ()
    workload: str = ""
    mutual_tls: bool = False
    connections: int = 0
    failures: int = 0

    @property
    def usable(self) -> bool:
        return self.health in ("HEALTHY", "UNKNOWN", "DEGRADED") and not self.problems

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Configuration from istiod that Envoy refused; it goes on with what it had."""

    kind: str
    name: str
    reason: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole dump. `secrets` maps an SDS name to its PEM chain, or to its CA's; keys are never read.

    `warming` are listeners that wait for something and take no connection yet. `node` is Envoy's name for itself.
    """

    listeners: tuple[Listener, ...] = ()
    routes: Mapping[str, tuple[VirtualHost, ...]] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    warming: tuple[Listener, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    node: str = ""
    istio_version: str = ""
    discovery: str = ""

    def on(self, port: int) -> list[Listener]:
        """Return the listeners of a port."""
        return [listener for listener in self.listeners if listener.port == port]


def read(dump: Json, statuses: Json | None = None) -> Config:
    """Return what a config dump says. Parts that it lacks are empty; unknown ones are passed over.

    `statuses` is the answer of /clusters: Envoy's own view of the endpoints' health.
    """
    listeners: list[Listener] = []
    routes: dict[str, tuple[VirtualHost, ...]] = {}
    clusters: dict[str, Cluster] = {}
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    secrets: dict[str, bytes] = {}
    warming: list[Listener] = []
    rejected: list[Rejection] = []
    node: Json = {}
    for part in dump.get("configs") or ():
        kind = str(part.get("@type", "")).rpartition(".")[2]
        if kind == "ListenersConfigDump":
            dynamic = part.get("dynamic_listeners") or ()
            found = [entry.get("active_state") or {} for entry in dynamic]
            found += part.get("static_listeners") or ()
            listeners += [_listener(entry["listener"], routes) for entry in found if "listener" in entry]
            found = [entry.get("warming_state") or {} for entry in dynamic]
            warming += [_listener(entry["listener"], routes) for entry in found if "listener" in entry]
            rejected += [_rejection("listener", entry) for entry in dynamic if entry.get("error_state")]
        elif kind == "RoutesConfigDump":
            for entry in _entries(part, "route_configs"):
                config = entry.get("route_config") or {}
                if config.get("name"):
                    routes[str(config["name"])] = tuple(_virtual_host(one) for one in config.get("virtual_hosts") or ())
        elif kind == "ClustersConfigDump":
            for entry in [*(part.get("static_clusters") or ()), *(part.get("dynamic_active_clusters") or ())]:
                cluster = entry.get("cluster") or {}
                clusters[str(cluster.get("name", ""))] = _cluster(cluster)
                if entry.get("error_state"):
                    rejected.append(_rejection("cluster", {"name": cluster.get("name"), **entry}))
        elif kind == "EndpointsConfigDump":
            for entry in _entries(part, "endpoint_configs"):
                config = entry.get("endpoint_config") or {}
                endpoints[str(config.get("cluster_name", ""))] = tuple(_endpoints(config))
        elif kind == "SecretsConfigDump":
            for entry in [*(part.get("static_secrets") or ()), *(part.get("dynamic_active_secrets") or ())]:
                chain = _chain_of(entry.get("secret") or {})
                if chain:
                    secrets[str(entry.get("name", ""))] = chain
        elif kind == "BootstrapConfigDump":
            node = (part.get("bootstrap") or {}).get("node") or {}
    for status in (statuses or {}).get("cluster_statuses") or ():
        name = str(status.get("name", ""))
        endpoints[name] = tuple(_live_endpoints(status.get("host_statuses") or (), endpoints.get(name, ())))
    metadata = node.get("metadata") or {}
    return Config(
        tuple(listeners),
        routes,
        clusters,
        endpoints,
        secrets,
        tuple(warming),
        tuple(rejected),
        str(node.get("id", "")),
        str(metadata.get("ISTIO_VERSION", "")),
        str((metadata.get("PROXY_CONFIG") or {}).get("discoveryAddress", "")),
    )


def number(value: Any) -> int:
    """Read a number of protobuf's JSON: 64-bit ones are strings, wrapped ones may be {"value": n}, 0 is left out."""
    if isinstance(value, Mapping):
        value = value.get("value")
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def object_name(path: str) -> str:
    """Turn the path that Istio notes on what it makes into an object's name.

    `/apis/networking.istio.io/v1/namespaces/web/virtual-service/web` becomes `VirtualService web/web`.
    """
    parts = path.strip("/").split("/")
    if len(parts) < 4 or "namespaces" not in parts[:-3]:
        return path
    namespace, kind, name = parts[-3:]
    camel = "".join(word.capitalize() if word.islower() else word for word in kind.split("-"))
    return f"{camel} {namespace}/{name}"


def _rejection(kind: str, entry: Json) -> Rejection:
    error = entry["error_state"]
    reason = " ".join(str(error.get("details", "")).split())
    return Rejection(kind, str(entry.get("name", "")), reason, str(error.get("last_update_attempt", "")))


def _entries(part: Json, name: str) -> list[Json]:
    return [*(part.get(f"static_{name}") or ()), *(part.get(f"dynamic_{name}") or ())]


def _listener(listener: Json, routes: dict[str, tuple[VirtualHost, ...]]) -> Listener:
    socket = (listener.get("address") or {}).get("socket_address") or {}
    chains = list(listener.get("filter_chains") or ())
    if listener.get("default_filter_chain"):
        chains.append(listener["default_filter_chain"])
    return Listener(
        str(listener.get("name", "")),
        str(socket.get("address", "")),
        int(socket.get("port_value", 0)),
        tuple(_chain(chain, routes) for chain in chains),
    )


def _chain(chain: Json, routes: dict[str, tuple[VirtualHost, ...]]) -> Chain:
    route_config = ""
    clusters: tuple[tuple[str, int], ...] = ()
    policies: list[str] = []
    for filter_ in chain.get("filters") or ():
        config = filter_.get("typed_config") or {}
        for inner in (config, *(one.get("typed_config") or {} for one in config.get("http_filters") or ())):
            policies += _policies(inner)
        if "rds" in config:
            route_config = str(config["rds"].get("route_config_name", ""))
        elif "route_config" in config:
            inline = config["route_config"]
            route_config = str(inline.get("name") or config.get("stat_prefix", ""))
            routes.setdefault(route_config, tuple(_virtual_host(one) for one in inline.get("virtual_hosts") or ()))
        elif str(config.get("@type", "")).endswith(".TcpProxy"):
            clusters = _clusters(config)
    transport = (chain.get("transport_socket") or {}).get("typed_config") or {}
    common = transport.get("common_tls_context") or {}
    secrets = tuple(str(entry.get("name", "")) for entry in common.get("tls_certificate_sds_secret_configs") or ())
    match = chain.get("filter_chain_match") or {}
    return Chain(
        tuple(match.get("server_names") or ()),
        route_config,
        clusters,
        secrets,
        bool(common),
        bool(transport.get("require_client_certificate")),
        tuple(policies),
        str(match.get("transport_protocol", "")),
    )


def _policies(config: Json) -> list[str]:
    """Return `DENY ns/name` for each AuthorizationPolicy in an RBAC filter; rules are named ns[a]-policy[b]-rule[0]."""
    rules = config.get("rules")
    if not isinstance(rules, Mapping):
        return []
    action = str(rules.get("action", "ALLOW"))
    found = set()
    for name in rules.get("policies") or {}:
        parts = re.fullmatch(r"ns\[(.*)\]-policy\[(.*)\]-rule\[.*\]", str(name))
        found.add(f"{action} {parts[1]}/{parts[2]}" if parts else f"{action} {name}")
    return sorted(found)


def _clusters(config: Json) -> tuple[tuple[str, int], ...]:
    if config.get("cluster"):
        return ((str(config["cluster"]), 1),)
    found = (config.get("weighted_clusters") or {}).get("clusters") or ()
    # TCP has a plain number, HTTP a wrapped one that the dump shows plain too
    return tuple((str(entry.get("name", "")), number(entry.get("weight"))) for entry in found)


def _virtual_host(host: Json) -> VirtualHost:
    return VirtualHost(
        str(host.get("name", "")),
        tuple(host.get("domains") or ()),
        tuple(_route(one) for one in host.get("routes") or ()),
    )


def _route(route: Json) -> Route:
    return Route(
        str(route.get("name", "")), route.get("match") or {}, _clusters(route.get("route") or {}), _origin(route), route
    )


def _cluster(cluster: Json) -> Cluster:
    return Cluster(
        str(cluster.get("name", "")),
        str(cluster.get("type", "")),
        str(cluster.get("connect_timeout", "")),
        cluster.get("outlier_detection") or {},
        _origin(cluster),
        cluster,
    )


def _origin(part: Json) -> str:
    metadata = (part.get("metadata") or {}).get("filter_metadata") or {}
    return str((metadata.get("istio") or {}).get("config", ""))


def _endpoints(config: Json) -> Iterator[Endpoint]:
    for group in config.get("endpoints") or ():
        for entry in group.get("lb_endpoints") or ():
            socket = ((entry.get("endpoint") or {}).get("address") or {}).get("socket_address") or {}
            if socket:
                metadata = (entry.get("metadata") or {}).get("filter_metadata") or {}
                workload, namespace = [*str((metadata.get("istio") or {}).get("workload") or "").split(";"), ""][:2]
                yield Endpoint(
                    str(socket.get("address", "")),
                    int(socket.get("port_value", 0)),
                    str(entry.get("health_status", "UNKNOWN")),
                    workload=f"{namespace}/{workload}" if workload else "",
                    mutual_tls=(metadata.get("envoy.transport_socket_match") or {}).get("tlsMode") == "istio",
                )


def _live_endpoints(hosts: Iterable[Json], sent: Iterable[Endpoint]) -> Iterator[Endpoint]:
    """Join Envoy's own view with what istiod sent."""
    known = {(endpoint.address, endpoint.port): endpoint for endpoint in sent}
    for host in hosts:
        socket = (host.get("address") or {}).get("socket_address") or {}
        key = str(socket.get("address", "")), int(socket.get("port_value", 0))
        health = host.get("health_status") or {}
        stats = {str(entry.get("name")): number(entry.get("value")) for entry in host.get("stats") or ()}
        yield replace(
            known.get(key, Endpoint(*key)),
            health=str(health.get("eds_health_status", "HEALTHY")),
            problems=tuple(
                name for name, value in sorted(health.items()) if value is True and name.startswith("failed_")
            ),
            connections=stats.get("cx_total", 0),
            failures=stats.get("cx_connect_fail", 0),
        )


def _chain_of(secret: Json) -> bytes:
    """Return the certificate that is shown, or those that the other side's must be signed by."""
    source = (secret.get("tls_certificate") or {}).get("certificate_chain") or {}
    source = source or (secret.get("validation_context") or {}).get("trusted_ca") or {}
    if source.get("inline_string"):
        return str(source["inline_string"]).encode()
    try:
        return base64.b64decode(str(source.get("inline_bytes", "")), validate=True)
    except binascii.Error:
        return b""
