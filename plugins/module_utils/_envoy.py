# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Envoy config dump, read: listeners, routes, clusters, endpoints and certificates. Pure.

The dump is what Envoy's admin interface answers at /config_dump (with ?include_eds for endpoints):
https://www.envoyproxy.io/docs/envoy/latest/api-v3/admin/v3/config_dump.proto
Only what is in force is read: what is warming or draining isn't there yet, or any more.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


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
    `clusters`, as (name, weight). `secrets` are the certificates it shows.
    """

    names: tuple[str, ...] = ()
    route_config: str = ""
    clusters: tuple[tuple[str, int], ...] = ()
    secrets: tuple[str, ...] = ()
    tls: bool = False


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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a cluster, with Envoy's own view of its health: HEALTHY, UNHEALTHY, DRAINING, ..."""

    address: str
    port: int
    health: str = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Config:
    """A whole dump. `secrets` maps an SDS name to its PEM chain; keys are never read."""

    listeners: tuple[Listener, ...] = ()
    routes: Mapping[str, tuple[VirtualHost, ...]] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)

    def on(self, port: int) -> list[Listener]:
        """Return the listeners of a port."""
        return [listener for listener in self.listeners if listener.port == port]


def read(dump: Json) -> Config:
    """Return what a config dump says. Parts that it lacks are empty; unknown ones are passed over."""
    listeners: list[Listener] = []
    routes: dict[str, tuple[VirtualHost, ...]] = {}
    clusters: dict[str, Cluster] = {}
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    secrets: dict[str, bytes] = {}
    for part in dump.get("configs") or ():
        kind = str(part.get("@type", "")).rpartition(".")[2]
        if kind == "ListenersConfigDump":
            found = [entry.get("active_state") or {} for entry in part.get("dynamic_listeners") or ()]
            found += part.get("static_listeners") or ()
            for entry in found:
                if "listener" in entry:
                    listeners.append(_listener(entry["listener"], routes))
        elif kind == "RoutesConfigDump":
            for entry in _entries(part, "route_configs"):
                config = entry.get("route_config") or {}
                if config.get("name"):
                    routes[str(config["name"])] = tuple(_virtual_host(one) for one in config.get("virtual_hosts") or ())
        elif kind == "ClustersConfigDump":
            for entry in [*(part.get("static_clusters") or ()), *(part.get("dynamic_active_clusters") or ())]:
                cluster = entry.get("cluster") or {}
                clusters[str(cluster.get("name", ""))] = _cluster(cluster)
        elif kind == "EndpointsConfigDump":
            for entry in _entries(part, "endpoint_configs"):
                config = entry.get("endpoint_config") or {}
                endpoints[str(config.get("cluster_name", ""))] = tuple(_endpoints(config))
        elif kind == "SecretsConfigDump":
            for entry in [*(part.get("static_secrets") or ()), *(part.get("dynamic_active_secrets") or ())]:
                chain = _chain_of((entry.get("secret") or {}).get("tls_certificate") or {})
                if chain:
                    secrets[str(entry.get("name", ""))] = chain
    return Config(tuple(listeners), routes, clusters, endpoints, secrets)


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
    route_config, clusters = "", ()
    for filter_ in chain.get("filters") or ():
        config = filter_.get("typed_config") or {}
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
    names = tuple((chain.get("filter_chain_match") or {}).get("server_names") or ())
    return Chain(names, route_config, clusters, secrets, bool(common))


def _clusters(config: Json) -> tuple[tuple[str, int], ...]:
    if config.get("cluster"):
        return ((str(config["cluster"]), 1),)
    found = (config.get("weighted_clusters") or {}).get("clusters") or ()

    def weight(entry: Json) -> int:
        # TCP has a plain number, HTTP a wrapped one that the dump shows plain too
        value = entry.get("weight", 0)
        return int(value.get("value", 0) if isinstance(value, Mapping) else value)

    return tuple((str(entry.get("name", "")), weight(entry)) for entry in found)


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
                health = str(entry.get("health_status", "UNKNOWN"))
                yield Endpoint(str(socket.get("address", "")), int(socket.get("port_value", 0)), health)


def _chain_of(certificate: Json) -> bytes:
    source = certificate.get("certificate_chain") or {}
    if source.get("inline_string"):
        return str(source["inline_string"]).encode()
    try:
        return base64.b64decode(str(source.get("inline_bytes", "")), validate=True)
    except binascii.Error:
        return b""
