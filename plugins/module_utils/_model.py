# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exposure list as a user writes it, checked and turned into dataclasses.

`parse` is the only way in. It reads the whole list before it complains, so that one `ModelError` carries every
problem there is, each with the path to the field and what to write instead. What it returns can be generated for the
chosen API without a further check: `_istio_api.generate`, `_gateway_api.generate`, `_ports.wanted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Pairs = tuple[tuple[str, str], ...]
"""A map with string values, sorted by key: hashable, and equal whatever order the user wrote it in."""

MANAGED_BY = "app.kubernetes.io/managed-by"
SET_LABEL = "edgeway.istio/set"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is (`exposures[2].tls.secret`), what is wrong, and what to do about it."""

    path: str
    message: str
    cure: str = ""
    exposure: str = ""

    def __str__(self) -> str:
        place = f"{self.path} ({self.exposure})" if self.exposure else self.path
        return f"{place}: {self.message}" + (f" {self.cure}" if self.cure else "")


class ModelError(ValueError):
    """The list can't be published as it is. `problems` holds every reason."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class AllowedRoutes:
    """Which namespaces may attach routes to a Gateway of ours (Gateway API): `All`, `Same`, or by `labels`."""

    source: str
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway pods that an exposure is published through, and the Service in front of them.

    `selector` holds the labels of the pods, all in `namespace`. The rest concerns Gateway objects: `existing` names
    one that somebody else made, which routes are attached to; `scope` is `shared` (one Gateway API Gateway for the
    set) or `exposure`; `deploy` lets Istio's controller make Deployment and Service of a Gateway API Gateway.
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
    grpc: tuple[str | None, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Origination:
    """TLS that the gateway speaks to a backend. `sni` is also the name the certificate must have."""

    sni: str | None = None
    ca_secret: str | None = None
    client_secret: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """Where requests go: a Service of the cluster, or a `host` outside of it (then `service` is empty).

    `fqdn` is the name Istio knows it by: service.namespace.svc.domain, or the outside host itself.
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
    """Headers to set (replacing), add (appending) and remove."""

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
    """`attempts` more tries on connection errors and the given status codes; times in milliseconds."""

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
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Requests that fit any of `matches` go to `backends` by weight, or are redirected. Times in milliseconds."""

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
    is ours. `mode` is SIMPLE, or MUTUAL when clients must show a certificate signed by the CA in the Secret.
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
    namespace: str
    name: str
    labels: Pairs


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is left out: `consecutive_errors` in a row, judged each `interval`; times in milliseconds."""

    consecutive_errors: int = 3
    interval: int = 1000
    base_ejection_time: int = 10_000
    max_ejection_percent: int = 100


@dataclass(frozen=True, slots=True)
class Traffic:
    """How the gateway deals with the backends of an exposure. None for `outlier_detection` switches it off."""

    connect_timeout: int = 1000
    outlier_detection: OutlierDetection | None = OutlierDetection()
    http2: bool = False


@dataclass(frozen=True, slots=True)
class DedicatedService:
    """The Service that `expose: service` makes beside the shared one."""

    name: str
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

    @property
    def labels(self) -> dict[str, str]:
        """The labels that every object of ours carries."""
        return {MANAGED_BY: "edgeway", SET_LABEL: self.set_name}


def parse(
    exposures: Any,
    *,
    set_name: str = "default",
    api: str = "istio",
    gateway: Mapping[str, Any] | Gateway | None = None,
    cluster_domain: str = "cluster.local",
) -> Model:
    """Check the list and return it as a Model.

    `api` is `istio` or `gateway_api`. `gateway` is the default gateway, as a user writes it (namespace, service,
    selector, ...). A key whose value is None counts as not written, as Ansible fills options in that way.
    Raises ModelError with every problem found.
    """
    raise NotImplementedError
