# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading backends: Services and their subsets, outside hosts, and how the gateway speaks to them."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Node, kind_of, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import (
    DNS_CURE,
    DNS_RULE,
    LABEL,
    SUBDOMAIN,
    host_cure,
    is_address,
    read_labels,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    Mirror,
    Origination,
    OutlierDetection,
    Subset,
    Traffic,
)

BACKEND = ("service", "namespace", "host", "address", "port", "subset", "weight", "tls")
_ORIGINATION = ("sni", "ca_secret", "client_secret", "insecure")
_TRAFFIC = ("connect_timeout", "idle_timeout", "outlier_detection", "http2", "locality")
_OUTLIER = (
    *("consecutive_local_origin_failures", "consecutive_gateway_errors", "consecutive_5xx_errors"),
    *("interval", "base_ejection_time", "max_ejection_percent"),
)


class BackendReader:
    """Reads the backends of one exposure, its subsets first: backends name them."""

    def __init__(self, namespace: str, protocol: str | None, domain: str, *, gateway_api: bool) -> None:
        self.namespace = namespace
        self.protocol = protocol
        self.domain = domain
        self.gateway_api = gateway_api
        self.subset_names: dict[str, set[str]] = {}  # by the Service's FQDN

    def subsets(self, node: Node) -> tuple[Subset, ...]:
        """Read `subsets: {service or service.namespace: {name: {label: value}}}`."""
        result = []
        for path, key, value in node.pairs("subsets") or ():
            service, _dot, namespace = key.partition(".")
            if not LABEL.fullmatch(service) or (namespace and not LABEL.fullmatch(namespace)):
                node.log.add(path, f"`{shown(key)}` is neither service nor service.namespace", "Name the Service so")
                continue
            namespace = namespace or self.namespace
            fqdn = self._fqdn(service, namespace)
            if fqdn in self.subset_names:
                node.log.add(path, "names a Service that stands here already", "Put its subsets under one key")
            names = self.subset_names.setdefault(fqdn, set())
            if not isinstance(value, Mapping) or not value:
                said = "is empty" if isinstance(value, Mapping) else f"is {kind_of(value)}, a map is expected"
                node.log.add(path, said, "Write `NAME: {label: value}` pairs")
                continue
            part = Node(value, path, node.log, [str(name) for name in value])
            for name in sorted(str(name) for name in value):
                if not LABEL.fullmatch(name):
                    part.add(name, f"`{shown(name)}` is not {DNS_RULE}", DNS_CURE)
                names.add(name)
                labels = read_labels(part, name)
                if name not in part:
                    part.add(name, "is empty", "Give the labels of its pods")
                result.append(Subset(fqdn, service, namespace, name, labels or ()))
        return tuple(sorted(result, key=lambda subset: (subset.fqdn, subset.name)))

    def several(self, node: Node) -> tuple[Backend, ...]:
        """Read `backends` of a route."""
        found = node.items("backends")
        if found is None:
            if "backends" not in node and "redirect" not in node:
                node.add("backends", "is missing", "Give `backends`, or a `redirect`")
            return ()
        if "redirect" in node:
            node.add("backends", "can't stand beside `redirect`", "A redirect is answered by the gateway itself")
        if not found:
            node.add("backends", "is empty", "Give at least one backend")
            return ()
        result: dict[tuple[str, int, str | None], str] = {}
        backends = []
        for path, value in found:
            backend = self.one(Node(value, path, node.log, BACKEND))
            if backend is None:
                continue
            key = (backend.fqdn, backend.port, backend.subset)
            if key in result:
                node.log.add(path, f"is the same backend as {result[key]}", "Add the weights up in one of them")
            result.setdefault(key, path)
            backends.append(backend)
        if len(found) > 16:
            node.add("backends", f"holds {len(found)} backends, 16 are allowed", "Put them behind fewer Services")
        if backends and len(backends) == len(found) and not sum(backend.weight for backend in backends):
            node.add("backends", "all have weight 0: nothing would be sent anywhere", "Give one of them a weight")
        return tuple(backends)

    def mirror(self, node: Node) -> Mirror | None:
        part = node.node("mirror", (*(key for key in BACKEND if key != "weight"), "percent"))
        if part is None:
            return None
        percent = part.number("percent", 1, 100)
        backend = self.one(part, mirror=True)
        return Mirror(backend, percent or 100) if backend else None

    def one(self, node: Node, *, mirror: bool = False) -> Backend | None:
        """Read a Service or an outside host; a mirror has no weight."""
        port = node.number("port", 1, 65535)
        if "port" not in node:
            node.add("port", "is missing", "Write the port of the Service (not of its pods), or of the outside host")
        weight = None if mirror else node.number("weight", 0, 1_000_000)
        weight = 1 if weight is None else weight
        service = node.text("service")
        host = node.text("host")
        tls = _origination(node)
        if tls is not None and self.protocol == "TLS":
            message = "would wrap TLS in TLS: what clients encrypted is passed on unopened"
            node.add("tls", message, "Drop it, or write `protocol: HTTPS` to end TLS at the gateway")
        if "service" in node and "host" in node:
            node.add("host", "can't stand beside `service`", "A backend is a Service or an outside host")
            return None
        if "service" not in node and "host" not in node:
            node.add("service", "is missing", "Name a Service of the cluster, or a `host` outside of it")
            return None
        if service is not None:
            return self._inside(node, service, port, weight, tls)
        if host is not None:
            return self._outside(node, host.lower(), port, weight, tls)
        return None

    def _inside(
        self, node: Node, service: str, port: int | None, weight: int, tls: Origination | None
    ) -> Backend | None:
        if "address" in node:
            node.add("address", "is for outside hosts", "Drop it: the Service knows its endpoints")
        namespace = node.text("namespace", LABEL, DNS_RULE, DNS_CURE) or self.namespace
        if not LABEL.fullmatch(service):
            parts = service.split(".")
            cure = DNS_CURE
            if len(parts) > 1 and all(LABEL.fullmatch(part) for part in parts[:2]):
                cure = f"Write `service: {parts[0]}` and `namespace: {parts[1]}`; an outside name is a `host`"
            node.add("service", f"`{shown(service)}` is not {DNS_RULE}", cure)
            return None
        fqdn = self._fqdn(service, namespace)
        subset = node.text("subset")
        if subset is not None and self.gateway_api:
            cure = "Make a Service for each version and weigh those, or use `api: istio`"
            node.add("subset", "can't be said in the Gateway API", cure)
        elif subset is not None and subset not in self.subset_names.get(fqdn, ()):
            known = sorted(self.subset_names.get(fqdn, ()))
            key = service if namespace == self.namespace else f"{service}.{namespace}"
            cure = f"Known of `{key}`: {', '.join(known)}" if known else f"Define it in `subsets: {{{key}: ...}}`"
            node.add("subset", f"`{shown(subset)}` is not defined", cure)
        if port is None:
            return None
        return Backend(fqdn, port, service, namespace, subset, weight, None, tls)

    def _outside(self, node: Node, host: str, port: int | None, weight: int, tls: Origination | None) -> Backend | None:
        for key in node.given("namespace", "subset"):
            node.add(key, "is for Services of the cluster", f"Drop it: an outside host has no {key}")
        address = node.text("address")
        if address is not None and not is_address(address):
            address = address.lower()
            if host_cure(address) is not None:
                node.add("address", f"`{shown(address)}` is neither an IP address nor a DNS name", "Write one of them")
        if is_address(host):
            cure = f"Write `host: some.name` and `address: {host}`"
            node.add("host", f"`{host}` is an address, a name is expected", cure)
            return None
        wrong = host_cure(host)
        if wrong is not None:
            node.add("host", f"`{shown(host)}` is not a DNS name", wrong)
            return None
        if "." not in host:
            cure = f"Write its full name; a Service of the cluster is a `service: {host}`"
            node.add("host", f"`{host}` is not a full DNS name", cure)
            return None
        if host.endswith((".svc", f".svc.{self.domain}")):
            parts = host.split(".")
            cure = f"Write `service: {parts[0]}` and `namespace: {parts[1]}`"
            node.add("host", f"`{host}` is a Service of the cluster", cure)
            return None
        if port is None:
            return None
        return Backend(host, port, "", self.namespace, None, weight, address, tls)

    def _fqdn(self, service: str, namespace: str) -> str:
        return f"{service}.{namespace}.svc.{self.domain}"


def _origination(node: Node) -> Origination | None:
    part = node.node("tls", _ORIGINATION)
    if part is None:
        return None
    sni = part.text("sni")
    if sni is not None and host_cure(sni.lower()) is not None:
        part.add("sni", f"`{shown(sni)}` is not a DNS name", "Write the name that the backend's certificate has")
    authority = part.text("ca_secret", SUBDOMAIN, "the name of a Secret", DNS_CURE)
    client = part.text("client_secret", SUBDOMAIN, "the name of a Secret", DNS_CURE)
    insecure = part.flag("insecure")
    if insecure and authority:
        part.add("insecure", "can't stand beside `ca_secret`", "Check the certificate, or don't")
    if authority and client:
        part.add("ca_secret", "can't stand beside `client_secret`", "Put the CA into that Secret, as `ca.crt`")
    return Origination(sni.lower() if sni else None, authority, client, insecure)


def read_traffic(node: Node, protocol: str | None) -> Traffic | None:
    part = node.node("traffic", _TRAFFIC)
    if part is None:
        return None
    http2, idle = part.flag("http2"), part.duration("idle_timeout")
    for name, value in (("http2", http2), ("idle_timeout", idle)):
        if value and protocol in ("TLS", "TCP"):
            part.add(name, f"means nothing with {protocol}", "Drop it: the backend's bytes are passed on as they are")
    return Traffic(
        part.duration("connect_timeout"),
        idle or Traffic().idle_timeout,
        _outliers(part),
        http2,
        part.flag("locality"),
    )


def _outliers(node: Node) -> OutlierDetection | None:
    """Read `outlier_detection`: a map, or false to switch it off."""
    default = OutlierDetection()
    value = node.raw("outlier_detection")
    if not isinstance(value, Mapping):
        return default if node.flag("outlier_detection", default=True) else None
    part = Node(value, node.at("outlier_detection"), node.log, _OUTLIER)
    counts = {key: part.number(key, 0, 1000) for key in _OUTLIER[:3]}
    local = counts["consecutive_local_origin_failures"]
    result = OutlierDetection(
        default.local_origin_failures if local is None else local,
        counts["consecutive_gateway_errors"] or 0,
        counts["consecutive_5xx_errors"] or 0,
        part.duration("interval") or default.interval,
        part.duration("base_ejection_time") or default.base_ejection_time,
        part.number("max_ejection_percent", 1, 100) or default.max_ejection_percent,
    )
    if not (result.local_origin_failures or result.gateway_errors or result.server_errors):
        part.add("consecutive_local_origin_failures", "leaves nothing to look for", "Write `outlier_detection: false`")
    return result
