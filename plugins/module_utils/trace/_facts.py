# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trace is made from: what is asked for, and the facts that were found. Pure; `_looking` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Config
from ansible_collections.edgeway.istio.plugins.module_utils._model import Exposure, Match, Model, parse
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _gateways
from ansible_collections.edgeway.istio.plugins.module_utils.trace._certificates import Certificate

Manifest = dict[str, Any]

RESERVED = ("test", "example", "invalid", "localhost", "example.com", "example.net", "example.org")
"""Names that public DNS never answers usefully (RFC 2606, RFC 6761)."""

SENT = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110, 9.2.1); in place of any other GET is sent."""


class TargetError(ValueError):
    """What is asked for can't be traced. `cure` says what to write instead."""

    def __init__(self, message: str, cure: str) -> None:
        self.message, self.cure = message, cure
        super().__init__(f"{message} {cure}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backend that the exposure names: its Service (namespace/name, or the outside host), port and subset."""

    service: str
    port: int
    subset: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One request to follow. `host` is empty where any name will do; `backends` where only a URL is known.

    `redirects`: the exposure also redirects. `guessed`: which requests it takes isn't known, this is only near them.
    """

    name: str
    protocol: str
    host: str
    port: int
    namespace: str = "istio-system"
    service: str = "istio-ingressgateway"
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    backends: tuple[Wanted, ...] = ()
    node_port: int | None = None
    credential: str = ""
    exposure_namespace: str = ""
    redirects: bool = False
    guessed: bool = False

    @property
    def unasked(self) -> str:
        """Why what is sent isn't a request that the exposure takes; empty where it is."""
        if self.guessed:
            return "The exposure matches by regexes: which requests it takes isn't known"
        return "" if self.method in SENT else f"{self.method} isn't sent, as a trace changes nothing"

    @property
    def encrypted(self) -> bool:
        return self.protocol in ("HTTPS", "TLS")

    @property
    def url(self) -> str:
        if self.protocol in ("TCP", "TLS"):
            return f"{self.protocol.lower()}://{self.host or '*'}:{self.port}"
        usual = {"HTTP": 80, "HTTPS": 443}[self.protocol] == self.port
        return f"{self.protocol.lower()}://{self.host or '*'}{'' if usual else f':{self.port}'}{self.path}"


def chosen(
    url: str | None,
    exposure: str | None,
    exposures: Any,
    *,
    api: str = "istio",
    gateway: Mapping[str, Any] | None = None,
    set_name: str = "default",
    services: Iterable[Manifest] = (),
) -> Target:
    """Return what is to be traced: an exposure of the list, or a URL with what the list says of it.

    `services` tell which gateway is meant where none is named. Raises ModelError for a list that is wrong, ClusterError
    where several gateways may be meant, TargetError for a request that can't be traced.
    """
    model = parse(exposures, set_name=set_name, api=api, gateway=gateway)
    model = _gateways.found(exposures, model, gateway, services)
    if url:
        return known_as(from_url(url, model.gateway.namespace, model.gateway.service), model)
    return from_model(model, exposure or "")


def from_url(url: str, namespace: str, service: str) -> Target:
    """Read a URL: http, https, tls (a server name, passed through) or tcp. TargetError for what is none."""
    split = urlsplit(url)
    try:
        port = split.port
    except ValueError:
        port = 0
    protocol = split.scheme.upper()
    if protocol not in ("HTTP", "HTTPS", "TLS", "TCP") or port == 0 or not (split.hostname or protocol == "TCP"):
        raise TargetError(f"{url!r} can't be traced.", "Write http, https, tls or tcp, as in http://HOST:PORT.")
    port = port or {"HTTP": 80, "HTTPS": 443, "TLS": 443}.get(protocol)
    if port is None:
        raise TargetError(f"{url!r} has no port.", "Write tcp://HOST:PORT.")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    host = split.hostname or ""
    return Target(url, protocol, "" if host == "*" else host, port, namespace, service, path)


def from_model(model: Model, name: str) -> Target:
    """Turn an exposure into the first request that it takes; NAME or NAMESPACE/NAME. TargetError where it isn't."""
    found = [one for one in model.exposures if name in (one.name, f"{one.namespace}/{one.name}")]
    if len(found) != 1:
        known = ", ".join(f"{one.namespace}/{one.name}" for one in found or model.exposures) or "nothing"
        raise TargetError(
            f"There {'are several exposures' if found else 'is no exposure'} {name!r}.", f"The list has {known}."
        )
    return of_exposure(found[0])


def known_as(target: Target, model: Model) -> Target:
    """Give a URL's target what the list says of it: its gateway, and where it may go.

    The nearest name counts, and all exposures that have it: which of them takes the path is the gateway's to say. A URL
    of https may lead to TLS that is passed through.
    """
    protocols = ("HTTPS", "TLS") if target.protocol == "HTTPS" else (target.protocol,)
    found: list[tuple[tuple[int, int], Target]] = []
    for exposure in model.exposures:
        scores = [nearness(name.lower(), target.host) for name in exposure.hostnames or ("*",)]
        score = max((one for one in scores if one is not None), default=None)
        if score is None:
            continue
        if exposure.protocol in protocols and exposure.port == target.port:
            found.append((score, of_exposure(exposure)))
        if exposure.redirect_http and (target.protocol, target.port) == ("HTTP", 80):
            namespace, service = exposure.gateway.namespace, exposure.gateway.service
            known = replace(target, namespace=namespace, service=service, exposure_namespace=exposure.namespace)
            found.append((score, replace(known, redirects=True)))
    if not found:
        return target
    nearest = max(score for score, _known in found)
    first, *rest = [known for score, known in found if score == nearest]
    same = [first, *(one for one in rest if (one.namespace, one.service) == (first.namespace, first.service))]
    return replace(
        first,
        name=target.name,
        host=target.host,
        path=target.path,
        method="GET",
        headers=(),
        backends=tuple(dict.fromkeys(backend for one in same for backend in one.backends)),
        redirects=any(one.redirects for one in same),
        guessed=False,
    )


def vips_of(gateways: Iterable[Mapping[str, Any]], target: Target) -> tuple[str, ...]:
    """Return the addresses of the gateway that a request goes through; its `vips` are as `_vrrp.entries` takes them."""
    for one in gateways:
        if (one.get("namespace"), one.get("service")) == (target.namespace, target.service):
            vips = one.get("vips") or ()
            return tuple(_vrrp.addresses(vips))
    return ()


def nearness(domain: str, host: str) -> tuple[int, int] | None:
    """How near a name comes to a host, None where it isn't meant.

    Envoy's order: the host itself, `*.suffix`, `prefix.*`, `*`; what is longer is nearer.
    """
    if domain == host:
        return 3, 0
    if domain == "*":
        return 0, 0
    if domain.startswith("*") and len(host) >= len(domain) and host.endswith(domain[1:]):
        return 2, len(domain)
    if domain.endswith("*") and len(host) >= len(domain) and host.startswith(domain[:-1]):
        return 1, len(domain)
    return None


def of_exposure(exposure: Exposure) -> Target:
    """Turn an exposure into the first request that it takes and that can be sent."""
    host = exposure.hostnames[0] if exposure.hostnames else ""
    # A star stands for at least one label
    host = host.replace("*", "any", 1) if host.startswith("*") else host
    path, method, guessed = "/", "GET", False
    headers: tuple[tuple[str, str], ...] = ()
    if exposure.protocol in ("HTTP", "HTTPS"):
        matches = [match for route in exposure.routes for match in route.matches]
        match = min(matches, key=lambda one: (_by_regex(one), one.method not in (None, *SENT)), default=Match())
        path = match.path if match.kind != "regex" else "/"
        query = "&".join(f"{one.name}={one.value}" for one in match.query if not one.regex)
        path += f"?{query}" if query else ""
        method, guessed = match.method or "GET", _by_regex(match)
        headers = tuple((one.name, one.value) for one in match.headers if not one.regex)
    backends = tuple(
        Wanted(
            backend.fqdn if backend.outside else f"{backend.namespace}/{backend.service}",
            backend.port,
            backend.subset or "",
        )
        for route in exposure.routes
        for backend in route.backends
    )
    own = exposure.service
    return Target(
        name=f"{exposure.namespace}/{exposure.name}",
        protocol=exposure.protocol,
        host=host,
        port=exposure.port,
        namespace=exposure.gateway.namespace,
        service=own.name if own else exposure.gateway.service,
        path=path,
        method=method,
        headers=headers,
        backends=backends,
        node_port=exposure.node_port,
        credential=exposure.tls.secret if exposure.tls else "",
        exposure_namespace=exposure.namespace,
        redirects=any(route.redirect is not None for route in exposure.routes),
        guessed=guessed,
    )


def _by_regex(match: Match) -> bool:
    return match.kind == "regex" or any(one.regex for one in (*match.headers, *match.query))


@dataclass(frozen=True, slots=True)
class Dns:
    """What the name resolves to. `error`: none, nxdomain, nodata, servfail, timeout or why nobody was asked."""

    addresses: tuple[str, ...] = ()
    error: str = ""
    server: str = ""
    chosen: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge as the playbook found it over SSH. `node` is its name in the cluster, `held` its kernel's addresses.

    `states` is what keepalived says of each VIP, `checks` what its checks say; empty where it wasn't asked.
    """

    name: str
    node: str = ""
    address: str = ""
    answered: bool = False
    held: frozenset[str] = frozenset()
    running: bool | None = None
    drained: bool = False
    states: tuple[tuple[str, str], ...] = ()
    checks: tuple[tuple[str, str], ...] = ()


def edge(name: str, given: Mapping[str, Any]) -> Edge:
    """Read one entry of the option `edges`: {node, address, facts}; facts are what edge_info returned, or none."""
    facts = given.get("facts")
    known = Edge(name, str(given.get("node") or name), str(given.get("address") or ""))
    if not isinstance(facts, Mapping) or "links" not in facts:
        return known
    return replace(
        known,
        answered=True,
        held=frozenset(str(one.get("local")) for link in facts["links"] for one in link.get("addr_info") or ()),
        running=bool(facts.get("running")) if facts.get("keepalived") else None,
        drained=bool(facts.get("drained")),
        states=tuple((str(vip["address"]), str(vip["state"])) for vip in facts.get("vips") or ()),
        checks=tuple(sorted((str(key), str(value)) for key, value in (facts.get("checks") or {}).items())),
    )


@dataclass(frozen=True, slots=True)
class Way:
    """The control machine's own route to the VIP: the source address that it would take, or why it has none."""

    source: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One real request. `place` is pod, edge or vip; `at` the pod's or edge's name; `address` what was asked.

    `connected`: TCP came up. `failure` is empty when an answer came, else one of refused, timeout, unreachable,
    reset, closed, tls, client-certificate, other; `reason` is in words. `first` are a TCP server's first bytes.
    `trusted` is whether this machine trusts the chain, None where that wasn't tried. `passed_on`: the gateway passes
    TLS on as it comes, and can't answer itself.
    """

    place: str
    at: str
    address: str
    passed_on: bool = False
    connected: bool = False
    failure: str = ""
    reason: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    certificates: tuple[Certificate, ...] = ()
    tls_version: str = ""
    trusted: bool | None = None
    first: str = ""
    milliseconds: float = 0.0

    @property
    def from_backend(self) -> bool:
        """Whether the backend itself answered: Envoy notes how long it took on what it passes on, not on its own."""
        noted = "x-envoy-upstream-service-time" in self.headers
        return noted or bool(self.first) or (self.passed_on and bool(self.status))


@dataclass(frozen=True, slots=True)
class Sync:
    """What istiod says of one gateway pod. `behind` are the kinds sent and not acknowledged."""

    istiod: str
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """One gateway pod. `config` is None where its Envoy wasn't read; `unread` says why.

    `failures` counts connections that failed to the request's endpoints while the trace asked, None where unknown.
    """

    manifest: Manifest
    config: Config | None = None
    unread: str = ""
    sync: Sync | None = None
    failures: int | None = None
    connections: int | None = None

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def node(self) -> str:
        return str((self.manifest.get("spec") or {}).get("nodeName") or "")


@dataclass(frozen=True, slots=True)
class Istiod:
    """What could be asked of the control plane. `asked` are istiod pods that answered, `silent` those that didn't.

    `ready` counts istiod pods that Kubernetes calls ready, None where they can't be read. `root` is the mesh's root
    namespace, whose policies hold everywhere.
    """

    ready: int | None = None
    asked: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    forbidden: str = ""
    root: str = "istio-system"


@dataclass(frozen=True, slots=True)
class ProxyHealth:
    """kube-proxy on one node: the endpoints that it counts there (healthCheckNodePort), and whether it is well."""

    node: str
    local_endpoints: int | None = None
    healthy: bool | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects by kind; a kind that may not be read is missing. `refused` says what couldn't be read and why."""

    kinds: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def all(self, kind: str) -> tuple[Manifest, ...]:
        return self.kinds.get(kind, ())

    def known(self, kind: str) -> bool:
        return kind in self.kinds

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        for item in self.all(kind):
            if (item["metadata"].get("namespace", ""), item["metadata"]["name"]) == (namespace, name):
                return item
        return None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was found. `edges` None: nobody looked. `now` is UTC."""

    target: Target
    now: datetime
    vips: tuple[str, ...] = ()
    dns: Dns | None = None
    edges: tuple[Edge, ...] | None = None
    way: Way | None = None
    snapshot: Snapshot = field(default_factory=Snapshot)
    pods: tuple[GatewayPod, ...] = ()
    istiod: Istiod = field(default_factory=Istiod)
    proxies: tuple[ProxyHealth, ...] = ()
    probes: tuple[Probe, ...] = ()

    def probe(self, place: str, at: str | None = None) -> Probe | None:
        return next((one for one in self.probes if one.place == place and at in (None, one.at)), None)


def ready(pod: Manifest) -> bool:
    """Whether Kubernetes sends requests to a pod."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def leaving(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def selected(pods: Iterable[Manifest], selector: Mapping[str, str] | None) -> list[Manifest]:
    """The pods that carry all these labels. No labels at all select none, as in a Service."""
    wanted = list((selector or {}).items())

    def fits(pod: Manifest) -> bool:
        labels = pod["metadata"].get("labels") or {}
        return all(labels.get(key) == value for key, value in wanted)

    return [pod for pod in pods if wanted and fits(pod)]
