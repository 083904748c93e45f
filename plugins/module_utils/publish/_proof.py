# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway pod's own configuration must hold once a change has reached it. Pure.

istiod sends no version that could be compared. So every HTTP route carries a name with a digest of the object it stands
in and of what it leads to; Envoy has that name exactly when it has the objects as they are now. TCP and TLS routes and
clusters are compared themselves.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any, Union

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Chain, Cluster, Config
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Manifest = dict[str, Any]
Clusters = tuple[tuple[str, int], ...]

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label of the pods that Istio's controller runs for a Gateway of the Gateway API."""


_NAMED = {"VirtualService": "http", "HTTPRoute": "rules", "GRPCRoute": "rules"}


def named(manifests: Sequence[Manifest], domain: str) -> list[Manifest]:
    """Return the objects of a set with digests that Envoy will show. `domain` is that of the cluster's Services.

    HTTP routes get names: `shop-0-1f3a9c2b` is the first of shop. The digest is of the object and of all that stands
    behind it, since Envoy isn't told what chooses endpoints alone, as a subset's labels. The name is also what its
    access log has as %ROUTE_NAME%. Routes of TCP and TLS can't have one. There the rule of the backend has the digest,
    as a limit on HTTP's retries so high that it is none even where the host speaks HTTP on another port.
    """
    behind: dict[str, list[str]] = defaultdict(list)
    for item in manifests:
        for host in _shapes(item):
            behind[host].append(_text(item))
    found, unnamed = [], set()
    for item in manifests:
        hosts = sorted({_rule_key(name)[0] for name in _leads_to(item, domain)})
        key, spec = _NAMED.get(item["kind"], ""), item.get("spec") or {}
        if spec.get(key):
            name = item["metadata"]["name"]
            digest = _hash([_text(item), *(text for host in hosts for text in behind[host])])[:8]
            routes = [{"name": f"{name[:200]}-{index}-{digest}", **route} for index, route in enumerate(spec[key])]
            found.append({**item, "spec": {**spec, key: routes}})
        else:
            unnamed.update(hosts)
            found.append(item)
    return [
        _limited(item, 2**31 - 1 - int(_hash(behind[item["spec"]["host"]])[:6], 16))
        if item["kind"] == "DestinationRule" and item["spec"]["host"] in unnamed
        else item
        for item in found
    ]


def _shapes(item: Manifest) -> list[str]:
    """Return the hosts whose clusters an object shapes."""
    if item["kind"] == "DestinationRule":
        return [item["spec"]["host"]]
    return list(item["spec"]["hosts"]) if item["kind"] == "ServiceEntry" else []


def _text(item: Manifest) -> str:
    metadata = item["metadata"]
    return json.dumps([item["apiVersion"], metadata["namespace"], metadata["name"], item["spec"]], sort_keys=True)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def _limited(rule: Manifest, number: int) -> Manifest:
    """Return a DestinationRule with this limit, on each level, as one of a port replaces that of the host."""

    def limited(policy: Manifest) -> Manifest:
        pool = policy["connectionPool"]
        return {**policy, "connectionPool": {**pool, "http": {**pool.get("http", {}), "maxRetries": number}}}

    policy = limited(rule["spec"]["trafficPolicy"])
    if "portLevelSettings" in policy:
        policy["portLevelSettings"] = [limited(level) for level in policy["portLevelSettings"]]
    return {**rule, "spec": {**rule["spec"], "trafficPolicy": policy}}


@dataclass(frozen=True, slots=True)
class Place:
    """The pods of one gateway: their namespace and labels."""

    namespace: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HasRoute:
    """A route of this name answers for `host` ('' for any name) on a port of the pod."""

    port: int
    host: str
    route: str

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration has it."""
        for listener in config.on(self.port):
            for chain in listener.chains:
                for host in config.routes.get(chain.route_config, ()):
                    if (not self.host or self.host in host.domains) and any(
                        route.name == self.route for route in host.routes
                    ):
                        return True
        return False

    def __str__(self) -> str:
        return f"route {self.route} on port {self.port}"


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route of this name is left."""

    route: str

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration has none."""
        return not any(
            route.name == self.route for hosts in config.routes.values() for host in hosts for route in host.routes
        )

    def __str__(self) -> str:
        return f"the end of route {self.route}"


@dataclass(frozen=True, slots=True)
class HasChain:
    """Connections to a port, with this SNI name ('' for any), go to these clusters."""

    port: int
    name: str
    clusters: Clusters

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration does so."""
        return any(_takes(chain, self.name, self.clusters) for one in config.on(self.port) for chain in one.chains)

    def __str__(self) -> str:
        names = ", ".join(name for name, _weight in self.clusters)
        return f"port {self.port}{f' ({self.name})' if self.name else ''} to {names}"


@dataclass(frozen=True, slots=True)
class NoChain:
    """Connections to a port, with this SNI name, don't go to these clusters any more."""

    port: int
    name: str
    clusters: Clusters

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration doesn't do so."""
        return not HasChain(self.port, self.name, self.clusters).holds(config)

    def __str__(self) -> str:
        return f"the end of {HasChain(self.port, self.name, self.clusters)}"


@dataclass(frozen=True, slots=True)
class HasCluster:
    """A cluster is there, shaped by the DestinationRule at `origin` ('' where none of ours does) with `policy`."""

    name: str
    origin: str = ""
    policy: tuple[tuple[str, float], ...] = ()

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration has it so."""
        cluster = config.clusters.get(self.name)
        if cluster is None:
            return False
        return not self.origin or (
            cluster.origin.endswith(self.origin) and all(_setting(cluster, key) == value for key, value in self.policy)
        )

    def __str__(self) -> str:
        return f"cluster {self.name}"


@dataclass(frozen=True, slots=True)
class HasCertificate:
    """A certificate of this name is the one with this digest."""

    secret: str
    digest: str = field(repr=False)

    def holds(self, config: Config) -> bool:
        """Whether a pod with this configuration shows it."""
        return any(
            name.rpartition("/")[2] == self.secret and _digest(chain) == self.digest
            for name, chain in config.secrets.items()
        )

    def __str__(self) -> str:
        return f"certificate {self.secret}"


Fact = Union[HasRoute, NoRoute, HasChain, NoChain, HasCluster, HasCertificate]  # noqa: UP007  pylint reads | as an operation


def missing(facts: Iterable[Fact], config: Config) -> list[str]:
    """Return which of the facts a pod with this configuration lacks, for people."""
    return list(dict.fromkeys(str(fact) for fact in facts if not fact.holds(config)))


def _takes(chain: Chain, name: str, clusters: Clusters) -> bool:
    return (name in chain.names if name else not chain.names) and _ratio(chain.clusters) == _ratio(clusters)


def _ratio(clusters: Clusters) -> Clusters:
    """Weights in lowest terms, without what gets nothing."""
    some = [(name, weight) for name, weight in clusters if weight]
    divisor = gcd(*(weight for _name, weight in some)) or 1
    return tuple(sorted((name, weight // divisor) for name, weight in some))


def _digest(chain: bytes) -> str:
    return hashlib.sha256(b"".join(chain.split())).hexdigest()


_SETTINGS = {
    "connectTimeout": ("connect_timeout",),
    "interval": ("outlier_detection", "interval"),
    "baseEjectionTime": ("outlier_detection", "base_ejection_time"),
    "maxEjectionPercent": ("outlier_detection", "max_ejection_percent"),
    "maxRetries": ("circuit_breakers", "thresholds", "max_retries"),
}


def _setting(cluster: Cluster, key: str) -> float | None:
    value: Any = cluster.raw
    for part in _SETTINGS[key]:
        if isinstance(value, list):
            value = value[0] if value else None
        value = (value or {}).get(part)
    if isinstance(value, Mapping):
        value = value.get("value")
    return _seconds(value)


def _seconds(value: Any) -> float | None:
    """Read a number, or a duration as Go and protobuf write it: 1s, 0.5s, 500ms, 1m30s, 1h."""
    if isinstance(value, int | float):
        return float(value)
    total, number, unit = 0.0, "", ""
    for char in f"{value} ":
        if unit and not char.isalpha():
            factor = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}.get(unit)
            if factor is None or not number:
                return None
            total, number, unit = total + float(number) * factor, "", ""
        if char.isdigit() or char == ".":
            number += char
        elif char.isalpha():
            unit += char
    return round(total, 6) if not number else None


@dataclass(frozen=True, slots=True)
class World:
    """What must be known of the cluster to say where a port is bound, and what can't be told beforehand.

    `no_secrets` are Secrets that aren't there, as (namespace, name); `shared_hosts` are hosts that somebody else has a
    DestinationRule for: istiod makes one of both.
    """

    services: Sequence[Mapping[str, Any]]
    domain: str = "cluster.local"
    no_secrets: frozenset[tuple[str, str]] = frozenset()
    shared_hosts: frozenset[str] = frozenset()

    def service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Service by its name."""
        for item in self.services:
            if item["metadata"]["namespace"] == namespace and item["metadata"]["name"] == name:
                return item
        return None

    def has(self, host: str, port: int) -> bool:
        """Whether a Service of the cluster has this port, so that there is a cluster for it."""
        name, _dot, rest = host.partition(".")
        namespace, _svc, _domain = rest.partition(".svc.")
        found = self.service(namespace, name)
        return found is not None and any(entry["port"] == port for entry in found["spec"].get("ports") or ())

    def bound(self, place: Place, port: int, service: Mapping[str, Any] | None = None) -> list[int]:
        """Return where the pods bind a Gateway's port: at the targetPorts of their Services' ports, else as it is.

        resolvePorts in istiod's pilot/pkg/model/gateway.go. A targetPort by name is left out: only the pod knows it.
        """
        labels = set(place.labels)
        found: set[int] = set()
        named = False
        for item in [service] if service is not None else self.services:
            selector = item["spec"].get("selector") or {}
            if item["metadata"]["namespace"] != place.namespace or not selector:
                continue
            # The Gateway's labels may be fewer than the Service's, or more
            if not (labels <= set(selector.items()) or set(selector.items()) <= labels):
                continue
            for entry in item["spec"].get("ports") or ():
                if entry["port"] == port and entry.get("protocol", "TCP") == "TCP":
                    target = entry.get("targetPort", port)
                    if isinstance(target, int):
                        found.add(target)
                    else:
                        named = True
        return sorted(found) if found or named else [port]


@dataclass(frozen=True, slots=True)
class _Entrance:
    """One port of a Gateway object, and the pods that open it."""

    place: Place
    port: int
    bound: tuple[int, ...]
    section: str = ""


def facts(
    desired: Sequence[Manifest], gone: Iterable[Mapping[str, Any]], world: World
) -> dict[Place, list[Fact]]:  # fmt: skip
    """Return what each gateway's pods must hold.

    `desired` are all objects of the set, `gone` the live states that were changed or deleted. What goes through a
    Gateway that isn't among the objects isn't covered.
    """
    found: dict[Place, dict[Fact, None]] = defaultdict(dict)
    entrances = _entrances(desired, world)
    outside = {host for item in desired if item["kind"] == "ServiceEntry" for host in item["spec"].get("hosts") or ()}
    rules = {key: rule for key, rule in _rules(desired).items() if key[0] not in world.shared_hosts}
    # One pod may be in two places: the two APIs name it by other labels
    now: set[Fact] = set()
    for item in desired:
        for place, fact in _routing(item, entrances, world):
            if isinstance(fact, HasChain) and not all(
                _exists(name, world, outside) for name, weight in fact.clusters if weight
            ):
                continue
            found[place][fact] = None
            now.add(fact)
        for place, name in _destinations(item, entrances, world.domain):
            if _exists(name, world, outside):
                origin, policy = rules.get(_rule_key(name), ("", ()))
                found[place][HasCluster(name, origin, policy)] = None
    for item in desired:
        for key, suffix in (("tls.crt", ""), ("ca.crt", "-cacert")) if item["kind"] == "Secret" else ():
            if not (item.get("data") or {}).get(key):
                continue
            fact = HasCertificate(item["metadata"]["name"] + suffix, _digest(base64.b64decode(item["data"][key])))
            for place in {entrance.place for group in entrances.values() for entrance in group}:
                if _shows(desired, entrances, item, place):
                    found[place][fact] = None
    old = _entrances([*desired, *(dict(item) for item in gone)], world)
    for before in gone:
        for place, fact in _routing(dict(before), old, world):
            opposite: Fact | None = None
            if isinstance(fact, HasRoute) and not any(
                isinstance(other, HasRoute) and other.route == fact.route for other in now
            ):
                opposite = NoRoute(fact.route)
            elif isinstance(fact, HasChain) and fact not in now:
                opposite = NoChain(fact.port, fact.name, fact.clusters)
            if opposite is not None:
                found[place][opposite] = None
    return {place: list(inner) for place, inner in found.items()}


def _shows(
    desired: Sequence[Manifest],
    entrances: Mapping[tuple[str, str, str], Sequence[_Entrance]],
    secret: Manifest,
    place: Place,
) -> bool:
    """Whether a Gateway at this place shows a Secret's certificate."""
    name, namespace = secret["metadata"]["name"], secret["metadata"]["namespace"]
    for item in desired:
        if item["kind"] != "Gateway":
            continue
        spec, own = item["spec"], item["metadata"]["namespace"]
        key = _kinds.split(item["apiVersion"])[0], own, item["metadata"]["name"]
        if not any(entrance.place == place for entrance in entrances.get(key, ())):
            continue
        if spec.get("servers") is not None:
            named = any((server.get("tls") or {}).get("credentialName") == name for server in spec["servers"])
            if named and namespace == place.namespace:
                return True
        elif any(
            reference.get("name") == name and reference.get("namespace", own) == namespace
            for listener in spec.get("listeners") or ()
            for reference in (listener.get("tls") or {}).get("certificateRefs") or ()
        ):
            return True
    return False


def _entrances(manifests: Iterable[Mapping[str, Any]], world: World) -> dict[tuple[str, str, str], list[_Entrance]]:
    """Return the ports of each Gateway among the manifests: (group, namespace, name) -> entrances."""
    found: dict[tuple[str, str, str], list[_Entrance]] = {}
    for item in manifests:
        if item["kind"] != "Gateway":
            continue
        group = _kinds.split(item["apiVersion"])[0]
        namespace, name, spec = item["metadata"]["namespace"], item["metadata"]["name"], item["spec"]
        entrances = []
        if group == _kinds.ISTIO:
            place = Place(namespace, tuple(sorted((spec.get("selector") or {}).items())))
            for server in spec.get("servers") or ():
                secret = (server.get("tls") or {}).get("credentialName")
                if (namespace, secret) not in world.no_secrets:
                    number = server["port"]["number"]
                    entrances.append(_Entrance(place, number, tuple(world.bound(place, number))))
        else:
            service = service_of(item, world)
            labels = (service or {}).get("spec", {}).get("selector") or {GATEWAY_NAME: name}
            place = Place(namespace, tuple(sorted(labels.items())))
            for listener in spec.get("listeners") or ():
                references = (listener.get("tls") or {}).get("certificateRefs") or ()
                if any((one.get("namespace", namespace), one["name"]) in world.no_secrets for one in references):
                    continue
                port = listener["port"]
                bound = world.bound(place, port, service) if service is not None else [port]
                entrances.append(_Entrance(place, port, tuple(bound), listener["name"]))
        found[group, namespace, name] = entrances
    return found


def service_of(gateway: Mapping[str, Any], world: World) -> Mapping[str, Any] | None:
    """Return the Service that a Gateway of the Gateway API is tied to by its address, None where it has its own."""
    for address in gateway["spec"].get("addresses") or ():
        if address.get("type") == "Hostname":
            name, _dot, rest = str(address["value"]).partition(".")
            return world.service(rest.partition(".svc")[0], name)
    return None


Found = Iterable[tuple[Place, Fact]]


def _routing(item: Manifest, entrances: Mapping[tuple[str, str, str], list[_Entrance]], world: World) -> Found:
    """Yield what one VirtualService or route asks of the pods of its gateways."""
    spec = item.get("spec") or {}
    if item["kind"] == "VirtualService":
        for entrance in _of_virtual_service(item, entrances):
            for port in entrance.bound:
                for host in spec.get("hosts") or ():
                    for route in _reachable(spec.get("http") or ()):
                        yield entrance.place, HasRoute(port, host, str(route.get("name", "")))
                for tcp in spec.get("tcp") or ():
                    if any(match.get("port", entrance.port) == entrance.port for match in tcp.get("match") or [{}]):
                        yield entrance.place, HasChain(port, "", _targets(tcp))
                for tls in spec.get("tls") or ():
                    for match in tls.get("match") or ():
                        if match.get("port", entrance.port) == entrance.port:
                            for name in match.get("sniHosts") or ():
                                yield entrance.place, HasChain(port, name, _targets(tls))
    elif item["kind"] in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"):
        for entrance in _of_route(item, entrances):
            for port in entrance.bound:
                for fact in _route_facts(item, port, world.domain):
                    yield entrance.place, fact


def _route_facts(item: Manifest, port: int, domain: str) -> Iterable[Fact]:
    spec = item["spec"]
    hosts = spec.get("hostnames") or [""]
    if item["kind"] in ("HTTPRoute", "GRPCRoute"):
        catch_all = 0
        for rule in spec.get("rules") or ():
            catch_all += _catches_all(rule)
            if catch_all < 2 or not _catches_all(rule):
                # A listener's own name may narrow a wildcard
                yield from (HasRoute(port, "" if "*" in host else host, str(rule.get("name", ""))) for host in hosts)
    else:
        for rule in spec.get("rules") or ():
            clusters = tuple(_backend(reference, item, domain) for reference in rule.get("backendRefs") or ())
            yield from (HasChain(port, host if item["kind"] == "TLSRoute" else "", clusters) for host in hosts)


def _of_virtual_service(
    item: Manifest, entrances: Mapping[tuple[str, str, str], list[_Entrance]]
) -> Iterable[_Entrance]:  # fmt: skip
    for name in item["spec"].get("gateways") or ():
        namespace, slash, own = str(name).partition("/")
        key = (_kinds.ISTIO, namespace, own) if slash else (_kinds.ISTIO, item["metadata"]["namespace"], namespace)
        yield from entrances.get(key, ())


def _of_route(
    item: Manifest, entrances: Mapping[tuple[str, str, str], list[_Entrance]]
) -> Iterable[_Entrance]:  # fmt: skip
    for parent in item["spec"].get("parentRefs") or ():
        namespace = parent.get("namespace", item["metadata"]["namespace"])
        for entrance in entrances.get((_kinds.GATEWAY_API, namespace, parent["name"]), ()):
            section, port = parent.get("sectionName", entrance.section), parent.get("port", entrance.port)
            if (section, port) == (entrance.section, entrance.port):
                yield entrance


def _reachable(routes: Sequence[Manifest]) -> Iterable[Manifest]:
    """Yield routes up to the first that takes every request: istiod leaves out the rest."""
    for route in routes:
        yield route
        matches = route.get("match") or ()
        if not matches or any(_takes_all(match) for match in matches):
            return


def _takes_all(match: Mapping[str, Any]) -> bool:
    return all(key == "uri" and value == {"prefix": "/"} for key, value in match.items() if key not in ("name", "port"))


def _catches_all(rule: Mapping[str, Any]) -> bool:
    return any(
        (match.get("path") or {}).get("value", "/") == "/"
        and (match.get("path") or {}).get("type", "PathPrefix") == "PathPrefix"
        and not match.get("headers")
        and not match.get("queryParams")
        and not match.get("method")
        for match in rule.get("matches") or [{}]
    )


def _targets(route: Mapping[str, Any]) -> Clusters:
    entries = route.get("route") or ()
    return tuple(
        (_cluster_name(entry["destination"]), entry.get("weight", 0 if entries[1:] else 1)) for entry in entries
    )


def _cluster_name(destination: Mapping[str, Any]) -> str:
    port = (destination.get("port") or {}).get("number", 0)
    return f"outbound|{port}|{destination.get('subset', '')}|{destination['host']}"


def _backend(reference: Mapping[str, Any], item: Manifest, domain: str) -> tuple[str, int]:
    namespace = reference.get("namespace", item["metadata"]["namespace"])
    host = reference["name"]
    if reference.get("kind", "Service") == "Service":
        host = f"{host}.{namespace}.svc.{domain}"
    return f"outbound|{reference.get('port', 0)}||{host}", reference.get("weight", 1)


def _destinations(
    item: Manifest, entrances: Mapping[tuple[str, str, str], list[_Entrance]], domain: str
) -> Iterable[tuple[Place, str]]:  # fmt: skip
    """Yield the clusters that one route sends requests to, with the pods that do so."""
    found = _of_virtual_service if item["kind"] == "VirtualService" else _of_route
    names = _leads_to(item, domain)
    for place in {entrance.place for entrance in found(item, entrances)} if names else ():
        for name in names:
            yield place, name


def _leads_to(item: Manifest, domain: str) -> list[str]:
    """Return the clusters that one route sends requests to, copies of them too."""
    spec = item.get("spec") or {}
    if item["kind"] == "VirtualService":
        routes = [*(spec.get("http") or ()), *(spec.get("tcp") or ()), *(spec.get("tls") or ())]
        entries = [entry for route in routes for key in ("route", "mirrors") for entry in route.get(key) or ()]
        return [_cluster_name(entry["destination"]) for entry in entries]
    if item["kind"] not in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"):
        return []
    rules = spec.get("rules") or ()
    references = [reference for rule in rules for reference in rule.get("backendRefs") or ()]
    filters = [one for rule in rules for one in rule.get("filters") or ()]
    references += [one["requestMirror"]["backendRef"] for one in filters if "requestMirror" in one]
    return [_backend(reference, item, domain)[0] for reference in references]


def _exists(cluster: str, world: World, outside: set[str]) -> bool:
    _direction, port, _subset, host = cluster.split("|", 3)
    return host in outside or world.has(host, int(port))


def _rule_key(cluster: str) -> tuple[str, str]:
    _direction, _port, subset, host = cluster.split("|", 3)
    return host, subset


def _rules(
    desired: Iterable[Mapping[str, Any]]
) -> dict[tuple[str, str], tuple[str, tuple[tuple[str, float], ...]]]:  # fmt: skip
    """Return, by host and subset, the DestinationRule's path as istiod writes it and what it settles."""
    found = {}
    for item in desired:
        if item["kind"] != "DestinationRule":
            continue
        metadata, spec = item["metadata"], item["spec"]
        origin = f"/namespaces/{metadata['namespace']}/destination-rule/{metadata['name']}"
        policy = spec.get("trafficPolicy") or {}
        pool = policy.get("connectionPool") or {}
        values = {
            key: value
            for part in (policy.get("outlierDetection"), pool.get("tcp"), pool.get("http"))
            for key, value in (part or {}).items()
            if key in _SETTINGS
        }
        settled = tuple(
            (key, seconds) for key, value in sorted(values.items()) if (seconds := _seconds(value)) is not None
        )
        for subset in ["", *(one["name"] for one in spec.get("subsets") or ())]:
            found[str(spec["host"]), subset] = origin, settled
    return found
