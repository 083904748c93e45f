# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checked exposure list is made of.

`_model.parse` makes these from what a user writes; the generators, the ports and the findings read them. Everything
is frozen and comparable, times are whole milliseconds, and `at` is the place in the user's list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Pairs = tuple[tuple[str, str], ...]
"""A map with string values, sorted by key: hashable, and equal whatever order the user wrote it in."""

MANAGED_BY = "app.kubernetes.io/managed-by"
SET_LABEL = "edgeway.istio/set"

# Where ports 80 and 443 end in Istio's own installation.
INSTALLED_TARGETS = frozenset({8080, 8443})

# Ports that Istio's proxy listens on itself.
# https://istio.io/latest/docs/ops/deployment/application-requirements/#ports-used-by-istio
PROXY_PORTS = frozenset({15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090})


@dataclass(frozen=True, slots=True)
class AllowedRoutes:
    """Which namespaces may attach routes to a Gateway of ours (Gateway API): `All`, `Same`, or by `labels`."""

    source: str
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway pods that an exposure is published through, and the Service in front of them.

    `selector` holds the labels of the pods, all in `namespace`. The rest concerns Gateway objects: `existing` is
    the namespace/name of one that somebody else made, which routes are attached to; `scope` is `shared` (one
    Gateway API Gateway for the set) or `exposure`; with `deploy` Istio's controller makes Deployment and Service of
    a Gateway API Gateway, and `service` is the name that it gives the Service.
    """

    namespace: str = "istio-system"
    service: str = "istio-ingressgateway"
    selector: Pairs = (("istio", "ingressgateway"),)
    class_name: str = "istio"
    existing: str | None = None
    scope: str = "shared"
    deploy: bool = False
    service_type: str | None = None
    allowed_routes: AllowedRoutes | None = None


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or query parameter that must equal `value`, or match it wholly when it is a regex (RE2)."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One way to enter a route; everything given must hold.

    `kind` says how `path` is compared: `exact`, `prefix` (by segment: /api takes /api and /api/x, never /apis) or
    `regex` (RE2, whole path). `grpc` is (service, method) where the user wrote a gRPC match; `kind` and `path` then
    say the same in terms of HTTP.
    """

    kind: str = "prefix"
    path: str = "/"
    method: str | None = None
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    grpc: tuple[str, str | None] | None = field(default=None, compare=False)

    @property
    def everything(self) -> bool:
        return (self.kind, self.path) == ("prefix", "/") and not (self.method or self.headers or self.query)


@dataclass(frozen=True, slots=True)
class Origination:
    """TLS that the gateway speaks to a backend. `sni` is also the name that the backend's certificate must have."""

    sni: str | None = None
    ca_secret: str | None = None
    client_secret: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """Where requests go: a Service of the cluster, or a `host` outside of it (then `service` is empty).

    `fqdn` is the name that Istio knows it by: service.namespace.svc.domain, or the outside host itself. The
    `namespace` of an outside host is that of the exposure: its ServiceEntry lies there.
    """

    fqdn: str
    port: int
    service: str = ""
    namespace: str = ""
    subset: str | None = None
    weight: int = 1
    address: str | None = None
    tls: Origination | None = None

    @property
    def outside(self) -> bool:
        return not self.service


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Headers to set (replacing), add (appending) and remove; names in lower case."""

    set: Pairs = ()
    add: Pairs = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`full` replaces the whole path, `prefix` the matched prefix; `hostname` the Host header."""

    hostname: str | None = None
    full: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends the client elsewhere. What is None stays as it was in the request."""

    scheme: str | None = None
    hostname: str | None = None
    port: int | None = None
    full: str | None = None
    prefix: str | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Retries:
    """`attempts` more tries on connection errors and the given status codes."""

    attempts: int
    codes: tuple[int, ...] = ()
    backoff: int | None = None
    per_try_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of `percent` of the requests goes to `backend`; its answers are thrown away."""

    backend: Backend
    percent: int = 100


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins a browser may call from. `max_age` in seconds."""

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 5


@dataclass(frozen=True, slots=True)
class Route:
    """Requests that fit any of `matches` go to `backends` by weight, or are redirected."""

    matches: tuple[Match, ...] = (Match(),)
    backends: tuple[Backend, ...] = ()
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    request_headers: HeaderChange | None = None
    response_headers: HeaderChange | None = None
    timeout: int | None = None
    retries: Retries | None = None
    mirror: Mirror | None = None
    cors: Cors | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """How HTTPS is ended at the gateway.

    `secret` is the Secret's name; `namespace` is where it lies. With `certificate` and `private_key` (PEM) the Secret
    is ours and `secret` is empty. `mode` is SIMPLE, or MUTUAL when clients must show a certificate signed by the CA
    in the Secret.
    """

    secret: str
    namespace: str
    mode: str = "SIMPLE"
    min_version: str | None = None
    certificate: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    ca_certificate: str | None = field(default=None, repr=False)

    @property
    def ours(self) -> bool:
        return self.certificate is not None


@dataclass(frozen=True, slots=True)
class Subset:
    """The endpoints of one Service whose pods carry `labels`."""

    fqdn: str
    service: str
    namespace: str
    name: str
    labels: Pairs


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is left out for a while.

    The defaults keep a dead node's pods from failing requests until Kubernetes takes them away (about 40 s), and do
    nothing else: only what fails before an answer counts (`local_origin_failures`: refused, unreachable, reset, timed
    out), never a 5xx that the application means. Three such failures in a row eject an endpoint for 10 s, then 20 s
    and so on. All endpoints may be ejected, since at Istio's 10 % none is below ten endpoints; once less than one
    percent is left, Envoy spreads over all of them again (`minHealthPercent`), so that a wrong guess costs nothing.
    """

    local_origin_failures: int = 3
    gateway_errors: int = 0
    server_errors: int = 0
    interval: int = 1000
    base_ejection_time: int = 10_000
    max_ejection_percent: int = 100


@dataclass(frozen=True, slots=True)
class Traffic:
    """How the gateway deals with the backends of an exposure.

    `connect_timeout` None means 500 ms for a Service, 5 s for an outside host: Istio's 10 s is longer than clients
    wait, and its retries (connect-failure, twice, on another endpoint) only start when it is over. A handshake in the
    cluster takes a few milliseconds, with the sidecar's TLS in it. `idle_timeout` (HTTP) is when a connection without a
    request is closed. A backend that closes it first may do so while a request is on its way, which ends in a 503:
    Istio's retries leave out what a backend may have seen. Node.js, Apache and uvicorn close theirs after 5 s, Istio
    after an hour, so that it is 4 s here. None for `outlier_detection` switches it off.
    `locality` keeps traffic near: with outlier detection Istio would prefer endpoints of the gateway's own zone, which
    is a surprise as a side effect.
    """

    connect_timeout: int | None = None
    idle_timeout: int = 4000
    outlier_detection: OutlierDetection | None = OutlierDetection()
    http2: bool = False
    locality: bool = False


@dataclass(frozen=True, slots=True)
class DedicatedService:
    """The Service that `expose: service` makes beside the shared one, and the port that its pods listen on."""

    name: str
    target_port: int
    type: str = "LoadBalancer"
    external_traffic_policy: str | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """One entry of the list, complete: every default is filled in, and `backend:` has become a route.

    `hostnames` is empty where every name is meant, `port` is the port on the VIP, `at` the entry's path in the list.
    `service` is the dedicated Service of `expose: service`, else None.
    """

    name: str
    namespace: str
    protocol: str
    port: int
    gateway: Gateway
    routes: tuple[Route, ...]
    hostnames: tuple[str, ...] = ()
    node_port: int | None = None
    tls: Tls | None = None
    redirect_http: bool = False
    subsets: tuple[Subset, ...] = ()
    traffic: Traffic | None = None
    service: DedicatedService | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Model:
    """A list that can be published. `exposures` are sorted by name: the order of the list means nothing."""

    set_name: str
    api: str
    gateway: Gateway
    exposures: tuple[Exposure, ...]
    cluster_domain: str = "cluster.local"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that every object of ours carries."""
        return {MANAGED_BY: "edgeway", SET_LABEL: self.set_name}


def short(name: str, limit: int = 63) -> str:
    """Return a name that fits `limit` characters of a DNS label and starts with a letter.

    A Service's name is such a label, and Istio names the Service of a deployed Gateway NAME-istio. What is cut off is
    stood for by a hash of the whole, so that two long names stay two.
    """
    name = name if name[:1].isalpha() else f"x-{name}"
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


def target_port(port: int, taken: Iterable[int]) -> int:
    """Choose what the gateway's pods listen on: the same, 8000 more below 1024, or a free one where that is taken.

    Two ports of a Service with one targetPort are one listener, and the pods need not have the right to bind ports
    below 1024.
    """
    busy = PROXY_PORTS.union(taken)
    candidates = [port] if port >= 1024 else [port + 8000]
    candidates += [candidates[0] + 10_000, *range(20_000, 65_536)]
    return next(one for one in candidates if one < 65_536 and one not in busy)


def gateway_name(exposure: Exposure) -> str:
    """Name the object that stands for one exposure in the gateway's namespace, where namespaces meet.

    Six characters are left for Istio's suffix `-istio`.
    """
    return short(f"{exposure.namespace}-{exposure.name}", 57)


def redirect_name(exposure: Exposure) -> str:
    """Name the Gateway on port 80 that goes with `redirect_http`."""
    return short(f"{exposure.namespace}-{exposure.name}-redirect", 57)


def certificate_names(set_name: str, default: Gateway, exposures: Sequence[Exposure]) -> dict[str, str]:
    """Name the Gateway of every exposure with a certificate, by the exposure's place in the list.

    Those of one certificate share it where the same pods take them. It is called after the Secret, so that it stays
    when they change; for other pods than the default gateway's after their Service too, the first of several.
    """
    secrets = secret_names(exposures)
    services: dict[tuple[str, ...], str] = {}
    for entry in exposures:
        name = entry.gateway.service
        services[pods_of(entry.gateway)] = min(services.get(pods_of(entry.gateway), name), name)
    services[pods_of(default)] = ""
    return {
        entry.at: _certificate_name(set_name, secrets[entry.tls], entry.tls, entry, services[pods_of(entry.gateway)])
        for entry in exposures
        if entry.tls is not None and not entry.gateway.existing
    }


def _certificate_name(set_name: str, secret: str, tls: Tls, exposure: Exposure, service: str) -> str:
    parts = [set_name, secret, str(exposure.port)]
    parts += [tls.mode.lower()] if tls.mode != "SIMPLE" else []
    parts += [f"tls{tls.min_version}"] if tls.min_version else []
    parts += [tls.namespace] if tls.namespace != exposure.gateway.namespace else []
    parts += [exposure.service.name] if exposure.service else []
    parts += [service] if service else []
    return short("-".join(parts).replace(".", "-"), 57)


def listener_number(exposure: Exposure) -> int:
    """Return the number of an exposure's port in Istio's Gateway.

    It is looked up in all Services in front of the pods, and the first that has it decides. A port of a Service of its
    own may be on the shared one too, so there the targetPort is said, which is bound as it is.
    """
    return exposure.port if exposure.service is None else exposure.service.target_port


def gateway_object(set_name: str, exposure: Exposure, listener: str, *, redirect: bool = False) -> str:
    """Name the Gateway API Gateway that a listener of an exposure is on.

    A shared one is called after the set and the gateway's Service. A Service of its own has a Gateway of its own,
    since a Gateway is tied to one Service by its address.
    """
    gateway = exposure.gateway
    if gateway.deploy:
        return gateway.service.removesuffix(f"-{gateway.class_name}")
    if gateway.scope == "exposure" or (exposure.service is not None and not redirect):
        return listener
    return short(f"{set_name}-{gateway.service}", 57)


def secret_names(exposures: Iterable[Exposure]) -> dict[Tls, str]:
    """Name the Secret of every certificate: the user's, or ours, called after the first exposure that has it."""
    found: dict[Tls, str] = {}
    for entry in sorted(exposures, key=lambda entry: (entry.namespace, entry.name)):
        if entry.tls is not None and entry.tls not in found:
            found[entry.tls] = short(f"{gateway_name(entry)}-tls") if entry.tls.ours else entry.tls.secret
    return found


def pods_of(gateway: Gateway) -> tuple[str, ...]:
    """Return what tells one set of gateway pods from another: they share listeners whatever Service leads there."""
    if gateway.existing:
        return ("existing", gateway.existing)
    if gateway.deploy:
        return ("deployed", gateway.namespace, gateway.service)
    return ("pods", gateway.namespace, *(f"{key}={value}" for key, value in gateway.selector))


def backends_of(exposure: Exposure) -> list[tuple[Backend, str]]:
    """Return every backend of an exposure, mirrors too, with its path in the list."""
    found: list[tuple[Backend, str]] = []
    for route in exposure.routes:
        if route.at.endswith(".backend"):
            found.extend((backend, route.at) for backend in route.backends)
        else:
            found.extend((backend, f"{route.at}.backends[{i}]") for i, backend in enumerate(route.backends))
        if route.mirror is not None:
            found.append((route.mirror.backend, f"{route.at}.mirror"))
    return found


def wildcard_over(hostnames: Iterable[str]) -> str | None:
    """Return the narrowest hostname that takes all of `hostnames`, or None where only no hostname at all does.

    As Istio matches them, a wildcard stands for one or more labels: *.example takes a.example and a.b.example, and
    not example itself.
    """
    names = sorted(set(hostnames))
    if "*" in names or not names:
        return None
    if len(names) == 1:
        return names[0]
    wilds = [name for name in names if name.startswith("*.")]
    for wild in wilds:
        if all(name.endswith(wild[1:]) for name in names):
            return wild
    # The star of the new one stands for the first label at least.
    tails = [name.split(".")[1:] for name in names]
    common: list[str] = []
    for labels in zip(*(reversed(tail) for tail in tails), strict=False):
        if len(set(labels)) > 1:
            break
        common.insert(0, labels[0])
    return f"*.{'.'.join(common)}" if common else None
