# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one exposure: types, names, what goes together and what doesn't, and what the chosen API can't say.

Every method notes what is wrong in the log and returns the best it can, so that one run finds everything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node, kind_of, quoted, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    INSTALLED_TARGETS,
    PROXY_PORTS,
    AllowedRoutes,
    Backend,
    Cors,
    DedicatedService,
    Exposure,
    Gateway,
    HeaderChange,
    Match,
    Mirror,
    Origination,
    OutlierDetection,
    Pairs,
    Redirect,
    Retries,
    Rewrite,
    Route,
    Subset,
    Tls,
    Traffic,
    ValueMatch,
    short,
    target_port,
)

PROTOCOLS = ("HTTP", "HTTPS", "TLS", "TCP")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
DEFAULT_PORTS = {"HTTP": 80, "HTTPS": 443, "TLS": 443}

OTHER_PROTOCOLS = {
    "GRPC": "Write `HTTP`, or `HTTPS`: gRPC is HTTP/2, which both carry",
    "HTTP2": "Write `HTTP`: it takes HTTP/1.1, HTTP/2 and WebSocket alike",
    "H2C": "Write `HTTP`: it takes HTTP/1.1, HTTP/2 and WebSocket alike",
    "WS": "Write `HTTP`: it carries WebSocket",
    "WEBSOCKET": "Write `HTTP`: it carries WebSocket",
    "WSS": "Write `HTTPS`: it carries WebSocket",
    "SSL": "Write `TLS` to pass it through to the backend, `HTTPS` to end it at the gateway",
    "PASSTHROUGH": "Write `TLS`: it is passed through to the backend",
    "MYSQL": "Write `TCP`",
    "MONGO": "Write `TCP`",
    "REDIS": "Write `TCP`",
}

_EXPOSURE = (
    *("name", "namespace", "protocol", "port", "node_port", "hostnames", "gateway", "tls", "redirect_http"),
    *("backend", "routes", "subsets", "traffic", "expose", "service_type", "external_traffic_policy"),
)
_GATEWAY = (
    *("namespace", "service", "selector", "class_name", "existing", "scope", "deploy", "service_type"),
    "allowed_routes",
)
_TLS = ("secret", "namespace", "mode", "min_version", "certificate", "private_key", "ca_certificate")
_FILTERS = ("rewrite", "redirect", "request_headers", "response_headers", "timeout", "retries", "mirror", "cors")
_ROUTE = ("matches", "backends", *_FILTERS)
_MATCH = ("path", "headers", "query", "method", "grpc")
_BACKEND = ("service", "namespace", "host", "address", "port", "subset", "weight", "tls")
_ORIGINATION = ("sni", "ca_secret", "client_secret", "insecure")
_CORS = ("allow_origins", "allow_methods", "allow_headers", "expose_headers", "allow_credentials", "max_age")
_TRAFFIC = ("connect_timeout", "outlier_detection", "http2", "locality")
_OUTLIER = (
    *("consecutive_local_origin_failures", "consecutive_gateway_errors", "consecutive_5xx_errors"),
    *("interval", "base_ejection_time", "max_ejection_percent"),
)

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PLACE = re.compile(rf"({_LABEL.pattern}/)?{_LABEL.pattern}")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")  # a header's name: RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]{1,4096}")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PATH = re.compile(r"/([A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ORIGIN = re.compile(r"\*|https?://(\*|(\*\.)?([A-Za-z0-9-]+\.)*[A-Za-z0-9-]+)(:[0-9]{1,5})?")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_KEY = re.compile(r"-----BEGIN ((RSA |EC )?PRIVATE KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----")

# Lookaround, atomic groups, conditions, back references, possessive repetition; searched for outside of classes.
_NOT_RE2 = re.compile(r"\(\?<?[=!]|\(\?>|\(\?\(|\(\?P=|\\[1-9]|[*+?}]\+")

# Istio takes only statuses that have a name (validateHTTPRetry in pkg/config/validation/validation.go).
_RETRIABLE = frozenset(int(status) for status in HTTPStatus if 400 <= status <= 599)

_DNS_RULE = "a DNS label (a-z, 0-9 and -, at most 63)"
_DNS_CURE = "Use lower-case letters, digits and dashes, with a letter or digit at both ends"


class EntryReader:
    """Reads one exposure after the other."""

    def __init__(self, log: Log, api: str, cluster_domain: str) -> None:
        self.log = log
        self.gateway_api = api == "gateway_api"
        self.domain = cluster_domain
        self.own_namespace = ""  # of the exposure being read
        self.subset_names: dict[str, set[str]] = {}  # by the Service's FQDN, of the exposure being read

    def gateway(self, value: object, path: str, default: Gateway) -> Gateway:
        """Read a gateway; what isn't written is taken from `default`."""
        node = Node(value, path, self.log, _GATEWAY)
        if not self.gateway_api:
            for key in node.given("class_name", "scope", "deploy", "service_type", "allowed_routes"):
                node.add(key, "is for the Gateway API only", "Leave it out, or set `api: gateway_api`")
        namespace = node.text("namespace", _LABEL, _DNS_RULE, _DNS_CURE) or default.namespace
        service = node.text("service", _LABEL, _DNS_RULE, _DNS_CURE) or default.service
        selector = self.labels(node, "selector")
        if selector is None:
            same = (namespace, service) == (default.namespace, default.service)
            # Istio's charts label the pods of Service istio-NAME and of Service NAME with istio=NAME.
            selector = default.selector if same else (("istio", service.removeprefix("istio-")),)
        result = Gateway(
            namespace,
            service,
            selector,
            node.text("class_name", _SUBDOMAIN, "the name of a GatewayClass", _DNS_CURE) or default.class_name,
            self.existing(node, namespace) or default.existing,
            node.choice("scope", ("shared", "exposure"), default.scope) or default.scope,
            node.flag("deploy", default.deploy),
            node.choice("service_type", ("ClusterIP", "NodePort", "LoadBalancer"), default.service_type),
            self.allowed_routes(node) or default.allowed_routes,
        )
        if result.existing:
            for key in node.given("deploy", "service_type", "scope", "allowed_routes", "class_name"):
                node.add(key, "can't be said of a Gateway that isn't ours", "Drop it, or drop `existing`")
        elif result.deploy and result.scope == "shared" and not service.endswith(f"-{result.class_name}"):
            node.add(
                "service",
                f"`{service}` can't be the Service of a Gateway that Istio deploys",
                f"Istio names it NAME-{result.class_name}: write such a name",
            )
        elif result.deploy and result.scope == "exposure" and "service" in node:
            node.add("service", "is chosen by Istio for each exposure's Gateway", "Drop it, or `scope: exposure`")
        elif "service_type" in node and not result.deploy:
            node.add("service_type", "needs `deploy: true`", "Without it the gateway's Service is not made here")
        return result

    def existing(self, node: Node, namespace: str) -> str | None:
        """Read the name of a Gateway, which may lie elsewhere than the pods; returns namespace/name."""
        cure = "Write `NAME`, or `NAMESPACE/NAME` where it doesn't lie with the gateway's pods"
        text = node.text("existing", _PLACE, "the name of a Gateway", cure)
        return text if text is None or "/" in text else f"{namespace}/{text}"

    def allowed_routes(self, node: Node) -> AllowedRoutes | None:
        rule = node.node("allowed_routes", ("from", "labels"))
        if rule is None:
            return None
        source = rule.choice("from", ("All", "Same", "Selector"))
        labels = self.labels(rule, "labels")
        if source is None:
            if "from" not in rule:
                rule.add("from", "is missing", "Write `All`, `Same` or `Selector`")
            return None
        if source == "Selector" and "labels" not in rule:
            rule.add("labels", "is missing", "Give the labels of the namespaces that may attach routes")
        elif source != "Selector" and "labels" in rule:
            rule.add("labels", "needs `from: Selector`", "Write it, or leave the labels out")
        return AllowedRoutes(source, labels or ())

    def labels(self, node: Node, key: str) -> Pairs | None:
        found = node.pairs(key)
        if found is None:
            return None
        result = []
        for path, name, value in found:
            if not _LABEL_KEY.fullmatch(name):
                self.log.add(path, f"`{shown(name)}` is not the key of a label", "Write it as Kubernetes shows it")
            text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
            if text is None:
                self.log.add(path, f"is {kind_of(value)}, a text is expected", "Put it in quotes")
            elif len(text) > 63 or not _LABEL_VALUE.fullmatch(text):
                self.log.add(path, f"`{shown(text)}` is not the value of a label", "Write it as Kubernetes shows it")
            else:
                result.append((name, text))
        if not found:
            node.add(key, "is empty", "Give at least one label: without any, every pod is meant")
        return tuple(result)

    def exposure(self, value: object, path: str, default: Gateway) -> Exposure | None:
        node = Node(value, path, self.log, _EXPOSURE)
        raw_name = node.raw("name")
        self.log.exposure = raw_name if isinstance(raw_name, str) and _LABEL.fullmatch(raw_name) else ""
        name = self.required(node, "name", _LABEL, "Write one: it names the objects")
        namespace = self.required(node, "namespace", _LABEL, "Write the one of the backends: the routes lie there too")
        self.own_namespace = namespace or ""
        protocol = self.protocol(node)
        gateway = default
        if "gateway" in node:
            gateway = self.gateway(node.raw("gateway"), node.at("gateway"), default)
        if gateway.deploy and gateway.scope == "exposure" and name and namespace:
            own = short(f"{namespace}-{name}", 62 - len(gateway.class_name))
            gateway = replace(gateway, service=f"{own}-{gateway.class_name}", scope="shared")
        allowed = gateway.allowed_routes
        if allowed is not None and allowed.source == "Same" and namespace not in (None, gateway.namespace):
            cure = f"Publish from `{gateway.namespace}`, or choose other `allowed_routes`"
            node.add("namespace", "may not attach routes to the Gateway, which takes them from its own alone", cure)
        port = self.port(node, protocol)
        node_port = node.number("node_port", 1, 65535, "Kubernetes takes 30000 to 32767 unless told otherwise")
        if node_port is not None and gateway.existing:
            node.add("node_port", "can't be pinned on a Gateway that isn't ours", "Pin it where that Gateway is made")
        elif node_port is not None and gateway.deploy:
            cure = "Use a Service that is there already, or let Kubernetes choose"
            node.add("node_port", "can't be pinned on a Service that Istio makes", cure)
        hostnames = self.hostnames(node, protocol)
        tls = self.tls(node, protocol, gateway)
        redirect = self.redirect_http(node, protocol, port, gateway)
        subsets = self.subsets(node)
        routes = self.routes(node, protocol)
        traffic = self.traffic(node, protocol)
        service = self.dedicated(node, namespace, name, port, gateway)
        if name is None or namespace is None or protocol is None or port is None:
            return None
        return Exposure(
            name,
            namespace,
            protocol,
            port,
            gateway,
            routes,
            hostnames,
            node_port,
            tls,
            redirect,
            subsets,
            traffic,
            service,
            path,
        )

    def required(self, node: Node, key: str, pattern: re.Pattern[str], why: str) -> str | None:
        if key not in node:
            node.add(key, "is missing", why)
            return None
        return node.text(key, pattern, _DNS_RULE, _DNS_CURE)

    def protocol(self, node: Node) -> str | None:
        value = node.text("protocol")
        if value is None:
            if "protocol" not in node:
                node.add("protocol", "is missing", f"Write {quoted(PROTOCOLS)}")
            return None
        word = value.upper()
        if word in PROTOCOLS:
            return word
        if word in ("UDP", "QUIC", "HTTP3", "SCTP"):
            node.add(
                "protocol",
                f"{word} can't be published: Istio's ingress gateway forwards TCP only",
                "Give that workload a Service of type LoadBalancer or NodePort of its own",
            )
        else:
            node.add(
                "protocol", f"`{shown(value)}` is not known", OTHER_PROTOCOLS.get(word, f"Write {quoted(PROTOCOLS)}")
            )
        return None

    def port(self, node: Node, protocol: str | None) -> int | None:
        port = node.number("port", 1, 65535)
        if "port" not in node:
            port = DEFAULT_PORTS.get(protocol or "")
            if protocol == "TCP":
                node.add("port", "is missing", "TCP has no default: write the port that clients connect to")
        if port in PROXY_PORTS:
            node.add("port", f"{port} is used by Istio's proxy itself", "Choose another port")
        return port

    def hostnames(self, node: Node, protocol: str | None) -> tuple[str, ...]:
        found = node.texts("hostnames")
        if found is None:
            if protocol == "TLS" and "hostnames" not in node:
                node.add(
                    "hostnames", "is missing", "TLS is routed by the name that clients ask for; without one use TCP"
                )
            return ()
        if protocol == "TCP":
            node.add("hostnames", "means nothing with TCP, which carries no name", "Drop it: the port alone decides")
            return ()
        if not found and not any(problem.path.startswith(node.at("hostnames")) for problem in self.log.problems):
            node.add("hostnames", "is empty", "Give a hostname, or drop the field to take every name")
        result: dict[str, str] = {}
        for path, text in found:
            name = text.lower()
            cure = hostname_cure(name)
            if cure is not None:
                self.log.add(path, f"`{shown(text)}` is not a hostname", cure)
            elif name in result:
                self.log.add(path, f"`{name}` stands twice", f"Drop one: the other is {result[name]}")
            else:
                result[name] = path
        return tuple(sorted(result))

    def redirect_http(self, node: Node, protocol: str | None, port: int | None, gateway: Gateway) -> bool:
        if not node.flag("redirect_http"):
            return False
        if protocol in ("HTTP", "TLS", "TCP"):
            node.add("redirect_http", f"means nothing with protocol {protocol}", "Drop it, or write `protocol: HTTPS`")
        elif port == 80:
            node.add("redirect_http", "needs port 80 for itself", "Give the HTTPS exposure another port")
        elif gateway.existing:
            node.add(
                "redirect_http",
                "needs a listener of its own, and the Gateway isn't ours",
                "Add an HTTP exposure with a redirect on that Gateway's HTTP port",
            )
        else:
            return protocol == "HTTPS"
        return False

    def tls(self, node: Node, protocol: str | None, gateway: Gateway) -> Tls | None:
        part = node.node("tls", _TLS)
        if part is None:
            if protocol == "HTTPS" and not gateway.existing:
                node.add("tls", "is missing", "Give `tls: {secret: NAME}`, or `certificate` and `private_key`")
            return None
        if protocol in ("HTTP", "TCP", "TLS"):
            cure = "Write `protocol: HTTPS` to end TLS at the gateway, or drop `tls`"
            node.add("tls", f"means nothing with protocol {protocol}", cure)
            return None
        secret = part.text("secret", _SUBDOMAIN, "the name of a Secret", _DNS_CURE)
        namespace = part.text("namespace", _LABEL, _DNS_RULE, _DNS_CURE) or gateway.namespace
        mode = part.choice("mode", ("SIMPLE", "MUTUAL"), "SIMPLE") or "SIMPLE"
        version = part.choice("min_version", ("1.2", "1.3"))
        if version is not None and self.gateway_api:
            cure = "Set `meshConfig.tlsDefaults.minProtocolVersion` for the mesh, or use `api: istio`"
            part.add("min_version", "can't be said in the Gateway API", cure)
        certificate = self.pem(part, "certificate", _CERTIFICATE, "a certificate in PEM")
        key = self.pem(part, "private_key", _KEY, "a private key in PEM, without a passphrase")
        authority = self.pem(part, "ca_certificate", _CERTIFICATE, "a certificate in PEM")
        content = part.given("certificate", "private_key")
        if "secret" in part and content:
            part.add("secret", f"can't stand beside `{content[0]}`", "Name a Secret, or give its content")
        elif len(content) == 1:
            missing = "private_key" if content[0] == "certificate" else "certificate"
            part.add(missing, "is missing", f"`{content[0]}` needs it")
        elif "secret" not in part and not content:
            part.add("secret", "is missing", "Name a Secret, or give `certificate` and `private_key`")
        if "ca_certificate" in part:
            if "secret" in part:
                cure = "Put it into the Secret, as `ca.crt`"
                part.add("ca_certificate", "can't be added to a Secret that isn't ours", cure)
            elif mode != "MUTUAL":
                part.add("ca_certificate", "needs `mode: MUTUAL`", "Write it, or drop the CA: clients aren't asked")
        elif mode == "MUTUAL" and content:
            part.add("ca_certificate", "is missing", "MUTUAL needs the CA that signs the clients' certificates")
        if content and "namespace" in part:
            part.add("namespace", "is chosen for a Secret of ours", "Drop it: the Secret lies with the gateway's pods")
        elif namespace != gateway.namespace and not self.gateway_api:
            part.add(
                "namespace",
                f"`{namespace}` can't be read by gateway pods in `{gateway.namespace}`",
                f"Put the Secret into `{gateway.namespace}` and drop the field, or set `api: gateway_api`",
            )
        if gateway.existing:
            node.add("tls", "belongs to the Gateway, which isn't ours", "Drop it: that Gateway has its own certificate")
        return Tls(secret or "", namespace, mode, version, certificate, key, authority)

    def pem(self, node: Node, key: str, pattern: re.Pattern[str], rule: str) -> str | None:
        """Read PEM text. Its content never goes into a message."""
        value = node.raw(key)
        if value is None:
            return None
        if not isinstance(value, str):
            node.add(key, f"is {kind_of(value)}, a text is expected", "Give the file's content")
            return None
        if "ENCRYPTED" in value:
            node.add(key, "is locked with a passphrase", "Give the key without one: nobody could type it in")
        elif not pattern.search(value):
            node.add(key, f"is not {rule}", "Give the file's content, with its BEGIN and END lines")
        return str(value).strip() + "\n"

    def subsets(self, node: Node) -> tuple[Subset, ...]:
        """Read `subsets: {service or service.namespace: {name: {label: value}}}`."""
        self.subset_names = {}
        result = []
        for path, key, value in node.pairs("subsets") or ():
            service, _dot, namespace = key.partition(".")
            if not _LABEL.fullmatch(service) or (namespace and not _LABEL.fullmatch(namespace)):
                self.log.add(path, f"`{shown(key)}` is neither service nor service.namespace", "Name the Service so")
                continue
            namespace = namespace or self.own_namespace
            fqdn = self.fqdn(service, namespace)
            if fqdn in self.subset_names:
                self.log.add(path, "names a Service that stands here already", "Put its subsets under one key")
            names = self.subset_names.setdefault(fqdn, set())
            if not isinstance(value, Mapping) or not value:
                said = "is empty" if isinstance(value, Mapping) else f"is {kind_of(value)}, a map is expected"
                self.log.add(path, said, "Write `NAME: {label: value}` pairs")
                continue
            part = Node(value, path, self.log, [str(name) for name in value])
            for name in sorted(str(name) for name in value):
                if not _LABEL.fullmatch(name):
                    part.add(name, f"`{shown(name)}` is not {_DNS_RULE}", _DNS_CURE)
                names.add(name)
                labels = self.labels(part, name)
                if name not in part:
                    part.add(name, "is empty", "Give the labels of its pods")
                result.append(Subset(fqdn, service, namespace, name, labels or ()))
        return tuple(sorted(result, key=lambda subset: (subset.fqdn, subset.name)))

    def fqdn(self, service: str, namespace: str) -> str:
        return f"{service}.{namespace}.svc.{self.domain}"

    def backend(self, node: Node, *, mirror: bool = False) -> Backend | None:
        port = node.number("port", 1, 65535)
        if "port" not in node:
            node.add("port", "is missing", "Write the port of the Service (not of its pods), or of the outside host")
        weight = 1
        if not mirror:
            weight_given = node.number("weight", 0, 1_000_000)
            weight = 1 if weight_given is None else weight_given
        service = node.text("service")
        host = node.text("host")
        tls = self.origination(node)
        if "service" in node and "host" in node:
            node.add("host", "can't stand beside `service`", "A backend is a Service or an outside host")
            return None
        if "service" not in node and "host" not in node:
            node.add("service", "is missing", "Name a Service of the cluster, or a `host` outside of it")
            return None
        if service is not None:
            return self.inside(node, service, port, weight, tls)
        if host is not None:
            return self.outside(node, host.lower(), port, weight, tls)
        return None

    def inside(
        self, node: Node, service: str, port: int | None, weight: int, tls: Origination | None
    ) -> Backend | None:
        if "address" in node:
            node.add("address", "is for outside hosts", "Drop it: the Service knows its endpoints")
        namespace = node.text("namespace", _LABEL, _DNS_RULE, _DNS_CURE) or self.own_namespace
        if not _LABEL.fullmatch(service):
            parts = service.split(".")
            cure = _DNS_CURE
            if len(parts) > 1 and all(_LABEL.fullmatch(part) for part in parts[:2]):
                cure = f"Write `service: {parts[0]}` and `namespace: {parts[1]}`; an outside name is a `host`"
            node.add("service", f"`{shown(service)}` is not {_DNS_RULE}", cure)
            return None
        fqdn = self.fqdn(service, namespace)
        subset = node.text("subset")
        if subset is not None and self.gateway_api:
            cure = "Make a Service for each version and weigh those, or use `api: istio`"
            node.add("subset", "can't be said in the Gateway API", cure)
        elif subset is not None and subset not in self.subset_names.get(fqdn, ()):
            known = sorted(self.subset_names.get(fqdn, ()))
            key = service if namespace == self.own_namespace else f"{service}.{namespace}"
            cure = f"Known of `{key}`: {', '.join(known)}" if known else f"Define it in `subsets: {{{key}: ...}}`"
            node.add("subset", f"`{shown(subset)}` is not defined", cure)
        if port is None:
            return None
        return Backend(fqdn, port, service, namespace, subset, weight, None, tls)

    def outside(self, node: Node, host: str, port: int | None, weight: int, tls: Origination | None) -> Backend | None:
        for key in node.given("namespace", "subset"):
            node.add(key, "is for Services of the cluster", f"Drop it: an outside host has no {key}")
        address = node.text("address")
        if address is not None and not is_address(address) and hostname_cure(address) is not None:
            node.add("address", f"`{shown(address)}` is neither an IP address nor a DNS name", "Write one of them")
        if is_address(host):
            cure = f"Write `host: some.name` and `address: {host}`"
            node.add("host", f"`{host}` is an address, a name is expected", cure)
            return None
        if host.startswith("*") or hostname_cure(host) is not None:
            node.add("host", f"`{shown(host)}` is not a DNS name", hostname_cure(host) or "Name one host, no wildcard")
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
        return Backend(host, port, "", self.own_namespace, None, weight, address, tls)

    def origination(self, node: Node) -> Origination | None:
        part = node.node("tls", _ORIGINATION)
        if part is None:
            return None
        sni = part.text("sni")
        if sni is not None and (sni.startswith("*") or hostname_cure(sni.lower()) is not None):
            part.add("sni", f"`{shown(sni)}` is not a DNS name", "Write the name that the backend's certificate has")
        authority = part.text("ca_secret", _SUBDOMAIN, "the name of a Secret", _DNS_CURE)
        client = part.text("client_secret", _SUBDOMAIN, "the name of a Secret", _DNS_CURE)
        insecure = part.flag("insecure")
        if insecure and authority:
            part.add("insecure", "can't stand beside `ca_secret`", "Check the certificate, or don't")
        if authority and client:
            part.add("ca_secret", "can't stand beside `client_secret`", "Put the CA into that Secret, as `ca.crt`")
        return Origination(sni.lower() if sni else None, authority, client, insecure)

    def routes(self, node: Node, protocol: str | None) -> tuple[Route, ...]:
        if "backend" in node and "routes" in node:
            node.add("backend", "can't stand beside `routes`", "`backend` is short for one route with one backend")
        if "backend" in node:
            part = node.node("backend", _BACKEND)
            backend = self.backend(part) if part is not None else None
            if part is not None and "weight" in part:
                part.add("weight", "means nothing with a single backend", "Drop it, or write `routes` with `backends`")
            return (Route(backends=(backend,) if backend else (), at=node.at("backend")),)
        found = node.items("routes")
        if found is None:
            if "routes" not in node:
                node.add("backend", "is missing", "Give a `backend`, or `routes` with `backends`")
            return ()
        if not found:
            node.add("routes", "is empty", "Give at least one route, or a `backend`")
        result = [self.route(value, path, protocol) for path, value in found]
        if protocol not in ("TCP", "TLS"):
            self.repeated(result)
        if protocol in ("TCP", "TLS") and len(result) > 1:
            cure = "Put all backends into one route, with weights"
            node.add("routes", f"holds {len(result)} routes, and {protocol} can't tell them apart", cure)
        return tuple(result)

    def repeated(self, routes: list[Route]) -> None:
        """Refuse a match that an earlier route of the exposure has already: it would never be reached."""
        seen: dict[Match, str] = {}
        for route in routes:
            for index, match in enumerate(route.matches):
                place = route.at if match.everything else f"{route.at}.matches[{index}]"
                first = seen.setdefault(match, place)
                if first != place:
                    what = "every request" if match.everything else "the same requests"
                    self.log.add(place, f"takes {what} as {first} does", "Make one of them more specific, or drop it")

    def route(self, value: object, path: str, protocol: str | None) -> Route:
        node = Node(value, path, self.log, _ROUTE)
        if protocol in ("TCP", "TLS"):
            for key in node.given("matches", *_FILTERS):
                choice = "`protocol: HTTPS`" if protocol == "TLS" else "`protocol: HTTP`"
                node.add(
                    key, f"means nothing with {protocol}, which is passed on unread", f"Drop it, or write {choice}"
                )
        matches = self.matches(node)
        redirect = self.redirect(node)
        backends = self.backends(node)
        rewrite = self.rewrite(node)
        if redirect is not None:
            for key in node.given("rewrite", "timeout", "retries", "mirror"):
                node.add(key, "can't stand beside `redirect`", "A redirect is answered by the gateway itself")
        for name, change in (("rewrite", rewrite), ("redirect", redirect)):
            if change is not None and change.prefix is not None:
                self.replaced_prefix(node, f"{name}.path.prefix", change.prefix, matches)
        timeout = node.duration("timeout")
        retries = self.retries(node, timeout)
        return Route(
            matches,
            backends,
            rewrite,
            redirect,
            self.header_change(node, "request_headers"),
            self.header_change(node, "response_headers"),
            timeout,
            retries,
            self.mirror(node),
            self.cors(node),
            path,
        )

    def replaced_prefix(self, node: Node, key: str, new: str, matches: tuple[Match, ...]) -> None:
        if any(match.kind != "prefix" or match.grpc for match in matches):
            cure = "Match by `path: {prefix: ...}` in this route, or use `full`"
            node.add(key, "replaces a matched prefix, and a match here has none", cure)
        elif self.gateway_api and key.startswith("rewrite") and new != "/" and any(m.path == "/" for m in matches):
            # Istio hands `/foo` to Envoy as the replacement of `/` (createRewriteFilter): /x becomes /foox.
            cure = "Match a longer prefix, or use `api: istio`"
            node.add(key, f"can't put `{new}` before every path with the Gateway API: Istio makes {new}x of /x", cure)
        elif self.gateway_api and key.startswith("redirect") and new == "/" and any(m.path != "/" for m in matches):
            # Istio hands `/` to Envoy as the replacement of `/api` (createRedirectFilter): /api/x becomes //x.
            cure = "Redirect to a longer prefix or a `full` path, or use `api: istio`"
            node.add(key, "can't take the prefix away with the Gateway API: Istio makes //x of it", cure)

    def backends(self, node: Node) -> tuple[Backend, ...]:
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
            backend = self.backend(Node(value, path, self.log, _BACKEND))
            if backend is None:
                continue
            key = (backend.fqdn, backend.port, backend.subset)
            if key in result:
                self.log.add(path, f"is the same backend as {result[key]}", "Add the weights up in one of them")
            result.setdefault(key, path)
            backends.append(backend)
        if len(found) > 16:
            node.add("backends", f"holds {len(found)} backends, 16 are allowed", "Put them behind fewer Services")
        if backends and len(backends) == len(found) and not sum(backend.weight for backend in backends):
            node.add("backends", "all have weight 0: nothing would be sent anywhere", "Give one of them a weight")
        return tuple(backends)

    def matches(self, node: Node) -> tuple[Match, ...]:
        found = node.items("matches")
        if found is None:
            return (Match(),)
        if not found:
            node.add("matches", "is empty", "Give a match, or drop the field to take every request")
        result: dict[Match, str] = {}
        for path, value in found:
            match = self.match(value, path)
            if match in result:
                self.log.add(path, f"is the same match as {result[match]}", "Drop one of them")
            result.setdefault(match, path)
        return tuple(result) or (Match(),)

    def match(self, value: object, path: str) -> Match:
        node = Node(value, path, self.log, _MATCH)
        if isinstance(value, Mapping) and not node.given(*_MATCH):
            self.log.add(path, "is empty", f"Give {quoted(_MATCH)}; drop `matches` to take every request")
        method = node.choice("method", METHODS)
        headers = self.value_matches(node, "headers")
        query = self.value_matches(node, "query")
        if "grpc" in node:
            for key in node.given("path", "method"):
                node.add(key, "can't stand beside `grpc`", "gRPC's service and method are the path")
            return self.grpc(node, headers, query)
        kind, text = self.path_match(node)
        return Match(kind, text, method, headers, query)

    def path_match(self, node: Node) -> tuple[str, str]:
        part = node.node("path", ("exact", "prefix", "regex"))
        if part is None:
            return "prefix", "/"
        given = part.given("exact", "prefix", "regex")
        if len(given) != 1:
            if part.mapped and not part.strange:
                cure = "Write one of `exact`, `prefix` or `regex`"
                node.add("path", f"holds {len(given)} ways to match, one is expected", cure)
            return "prefix", "/"
        kind = given[0]
        text = part.text(kind)
        if text is None:
            return kind, "/"
        if kind == "regex":
            self.check_regex(part, kind, text, starts_with_slash=True)
            return kind, text
        self.check_path(part, kind, text)
        if kind == "prefix" and text != "/":
            text = text.rstrip("/") or "/"  # the Gateway API takes /x and /x/ for the same prefix
        return kind, text

    def check_path(self, node: Node, key: str, text: str) -> None:
        """Apply the Gateway API's rules for a path, so that both APIs take the same list."""
        if not text.startswith("/"):
            node.add(key, f"`{shown(text)}` doesn't start with /", f"Write `/{shown(text)}`")
        elif "?" in text or "#" in text:
            node.add(key, f"`{shown(text)}` holds more than a path", "Put parameters into `query`")
        elif "//" in text or re.search(r"/\.{1,2}(/|$)", text) or re.search(r"%2[fF]", text):
            node.add(key, f"`{shown(text)}` is never seen so", "Write it without //, /./, /../ and %2F")
        elif not _PATH.fullmatch(text):
            node.add(key, f"`{shown(text)}` holds characters that no path has", "Write them percent-encoded")
        elif len(text) > 1024:
            node.add(key, f"is {len(text)} characters long, 1024 are allowed", "Write a shorter path")

    def check_regex(self, node: Node, key: str, text: str, *, starts_with_slash: bool = False) -> None:
        """Envoy's regexes are RE2 and match the whole value: refuse what RE2 has not, and what can never match."""
        if len(text) > 1024:
            node.add(key, f"is {len(text)} characters long, 1024 are allowed", "Write a shorter regex")
        elif _NOT_RE2.search(re.sub(r"\\[^1-9]|\[\^?\]?(\\.|[^\]\\])*\]", "_", text)):
            cure = "RE2 has no lookaround, backreferences or possessive repetition: say it without"
            node.add(key, f"`{shown(text)}` is no regex that Envoy takes", cure)
        else:
            try:
                re.compile(text)
            except (re.error, OverflowError, RecursionError) as error:
                # RE2 knows escapes and classes that Python doesn't: only what is wrong in both is refused.
                if "bad escape" not in str(error):
                    node.add(key, f"`{shown(text)}` is no regex: {error}", "Write it in RE2's syntax")
                    return
            if starts_with_slash and re.match(r"[A-Za-z0-9_]", text):
                cure = "The whole path must match, and it starts with /"
                node.add(key, f"`{shown(text)}` matches no path", cure)

    def value_matches(self, node: Node, key: str) -> tuple[ValueMatch, ...]:
        result = []
        seen: dict[str, str] = {}
        for path, name, value in node.pairs(key) or ():
            label = name.lower() if key == "headers" else name
            if key == "headers" and label == "host":
                self.log.add(path, "is the hostname", "Put the name into the exposure's `hostnames`")
            elif not _TOKEN.fullmatch(name):
                what = "the name of a header" if key == "headers" else "the name of a query parameter"
                self.log.add(path, f"`{shown(name)}` is not {what}", "Use letters, digits and dashes")
            if label in seen:
                self.log.add(path, f"is the same header as {seen[label]}", "Headers have no case: drop one")
                continue
            seen[label] = path
            part = Node(value, path, self.log, ("exact", "regex"))
            given = part.given("exact", "regex")
            if len(given) != 1:
                if part.mapped and not part.strange:
                    self.log.add(path, f"holds {len(given)} ways to match, one is expected", "Write `exact` or `regex`")
                continue
            text = part.text(given[0])
            if text is None:
                continue
            if given[0] == "regex":
                self.check_regex(part, "regex", text)
            elif not _HEADER_VALUE.fullmatch(text):
                part.add("exact", "holds control characters, or is too long", "Write what clients send")
            if key == "query" and len(text) > 1024:
                part.add(given[0], f"is {len(text)} characters long, 1024 are allowed", "Write a shorter value")
            result.append(ValueMatch(label, text, given[0] == "regex"))
        if len(result) > 16:
            node.add(key, f"holds {len(result)} matches, 16 are allowed", "Split the route")
        return tuple(sorted(result, key=lambda match: match.name))

    def grpc(self, node: Node, headers: tuple[ValueMatch, ...], query: tuple[ValueMatch, ...]) -> Match:
        part = node.node("grpc", ("service", "method"))
        if part is None:
            return Match()
        if query:
            node.add("query", "can't stand beside `grpc`", "gRPC has no query parameters: match by `headers`")
        service = part.text("service", _GRPC_SERVICE, "a gRPC service", "Write it with its package: `pkg.v1.Service`")
        method = part.text("method", _GRPC_METHOD, "a gRPC method", "Write the method's name alone")
        if "service" not in part:
            if "method" in part:
                part.add("service", "is missing", "Say whose method is meant")
            elif isinstance(node.raw("grpc"), Mapping):
                part.add("service", "is missing", "Give the service, and a method where only that is meant")
        if method:
            return Match("exact", f"/{service}/{method}", None, headers, (), (service or "", method))
        return Match("prefix", f"/{service}", None, headers, (), (service or "", None))

    def target(self, node: Node, *, full: str, prefix: str) -> tuple[str | None, str | None]:
        """Read the new path of a rewrite or redirect: (full, prefix), one of them at most."""
        part = node.node("path", (full, prefix))
        if part is None:
            return None, None
        given = part.given(full, prefix)
        if len(given) != 1:
            if part.mapped and not part.strange:
                cure = f"Write `{full}` to replace the path, `{prefix}` to replace the matched prefix"
                node.add("path", f"holds {len(given)} new paths, one is expected", cure)
            return None, None
        text = part.text(given[0])
        if text is None:
            return None, None
        self.check_path(part, given[0], text)
        return (text, None) if given[0] == full else (None, text.rstrip("/") or "/")

    def rewrite(self, node: Node) -> Rewrite | None:
        part = node.node("rewrite", ("hostname", "path"))
        if part is None:
            return None
        if isinstance(node.raw("rewrite"), Mapping) and not part.given("hostname", "path"):
            node.add("rewrite", "is empty", "Give `hostname` or `path`")
        full, prefix = self.target(part, full="full", prefix="prefix")
        return Rewrite(self.plain_hostname(part), full, prefix)

    def plain_hostname(self, node: Node) -> str | None:
        text = node.text("hostname")
        if text is None:
            return None
        cure = "Name one host, no wildcard" if text.startswith("*") else hostname_cure(text.lower())
        if cure is not None:
            node.add("hostname", f"`{shown(text)}` is not a DNS name", cure)
        return text.lower()

    def redirect(self, node: Node) -> Redirect | None:
        part = node.node("redirect", ("scheme", "hostname", "port", "path", "status"))
        if part is None:
            return None
        if isinstance(node.raw("redirect"), Mapping) and not part.given("scheme", "hostname", "port", "path"):
            node.add("redirect", "leads back to where it came from", "Give `scheme`, `hostname`, `port` or `path`")
        scheme = part.choice("scheme", ("http", "https"))
        port = part.number("port", 1, 65535)
        full, prefix = self.target(part, full="full", prefix="prefix")
        status = part.number("status", 300, 399)
        if status is not None and status not in (301, 302, 303, 307, 308):
            part.add("status", f"{status} is no redirect that can be sent", "Write 301, 302, 303, 307 or 308")
        return Redirect(scheme, self.plain_hostname(part), port, full, prefix, status or 302)

    def header_change(self, node: Node, key: str) -> HeaderChange | None:
        part = node.node(key, ("set", "add", "remove"))
        if part is None:
            return None
        if isinstance(node.raw(key), Mapping) and not part.given("set", "add", "remove"):
            node.add(key, "is empty", "Give `set`, `add` or `remove`")
        seen: dict[str, str] = {}
        changes: dict[str, list[tuple[str, str]]] = {"set": [], "add": []}
        for verb in ("set", "add"):
            for path, name, value in part.pairs(verb) or ():
                self.header_name(path, name, seen)
                text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
                if text is None:
                    self.log.add(path, f"is {kind_of(value)}, a text is expected", "Put it in quotes")
                elif not _HEADER_VALUE.fullmatch(text):
                    self.log.add(path, "is empty, too long, or holds control characters", "Write a header's value")
                else:
                    changes[verb].append((name.lower(), text))
        removed = []
        for path, name in part.texts("remove") or ():
            self.header_name(path, name, seen)
            removed.append(name.lower())
        for verb, count in (("set", len(changes["set"])), ("add", len(changes["add"])), ("remove", len(removed))):
            if count > 16:
                part.add(verb, f"holds {count} headers, 16 are allowed", "Change fewer")
        return HeaderChange(tuple(changes["set"]), tuple(changes["add"]), tuple(sorted(removed)))

    def header_name(self, path: str, name: str, seen: dict[str, str]) -> None:
        label = name.lower()
        if not _TOKEN.fullmatch(name):
            self.log.add(path, f"`{shown(name)}` is not the name of a header", "Use letters, digits and dashes")
        elif label == "host":
            self.log.add(path, "can't be changed so", "Use `rewrite: {hostname: ...}`")
        elif label in seen:
            self.log.add(path, f"changes the same header as {seen[label]}", "Change it in one place")
        seen.setdefault(label, path)

    def retries(self, node: Node, timeout: int | None) -> Retries | None:
        part = node.node("retries", ("attempts", "codes", "backoff", "per_try_timeout"))
        if part is None:
            return None
        attempts = part.number("attempts", 0, 100)
        if "attempts" not in part:
            part.add("attempts", "is missing", "Say how often to try again")
        elif attempts == 0 and self.gateway_api:
            part.add("attempts", "can't be 0 in the Gateway API", "Drop `retries`, or use `api: istio`")
        codes = set()
        for path, value in part.items("codes") or ():
            code = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{3}", value) else value
            if isinstance(code, bool) or not isinstance(code, int) or code not in _RETRIABLE:
                self.log.add(path, "is not a status that can be retried", "Write an HTTP status from 400 to 599")
            else:
                codes.add(code)
        backoff = part.duration("backoff")
        per_try = part.duration("per_try_timeout")
        if per_try is not None and timeout is not None and per_try > timeout:
            part.add("per_try_timeout", "is longer than the route's `timeout`", "Write a shorter one")
        if attempts == 0:
            for key in part.given("codes", "backoff", "per_try_timeout"):
                part.add(key, "means nothing with `attempts: 0`", "Drop it")
        return Retries(attempts or 0, tuple(sorted(codes)), backoff, per_try)

    def mirror(self, node: Node) -> Mirror | None:
        part = node.node("mirror", (*(key for key in _BACKEND if key != "weight"), "percent"))
        if part is None:
            return None
        percent = part.number("percent", 1, 100)
        backend = self.backend(part, mirror=True)
        return Mirror(backend, percent or 100) if backend else None

    def cors(self, node: Node) -> Cors | None:
        part = node.node("cors", _CORS)
        if part is None:
            return None
        origins = self.words(part, "allow_origins", 64)
        for path, text in origins.items():
            if not _ORIGIN.fullmatch(text):
                self.log.add(
                    path, f"`{shown(text)}` is not an origin", "Write `https://name`, with a port if it has one"
                )
        if "allow_origins" not in part:
            part.add("allow_origins", "is missing", "Name the origins that may call, such as `https://app.example`")
        methods = {path: text.upper() for path, text in self.words(part, "allow_methods", 9).items()}
        for path, text in methods.items():
            if text not in (*METHODS, "*"):
                self.log.add(path, f"`{shown(text)}` is not an HTTP method", f"Write {quoted(METHODS)}")
        allowed = self.words(part, "allow_headers", 64)
        exposed = self.words(part, "expose_headers", 64)
        for path, text in (allowed | exposed).items():
            if not _TOKEN.fullmatch(text):
                self.log.add(path, f"`{shown(text)}` is not the name of a header", "Use letters, digits and dashes")
        for key, values in (("allow_origins", origins), ("allow_methods", methods), ("allow_headers", allowed)):
            if "*" in values.values() and len(values) > 1:
                part.add(key, "holds `*` beside others", "Write `*` alone, or drop it")
        return Cors(
            tuple(sorted(set(origins.values()))),
            tuple(sorted(set(methods.values()))),
            tuple(sorted(set(allowed.values()))),
            tuple(sorted(set(exposed.values()))),
            part.flag("allow_credentials"),
            part.number("max_age", 1, 86400) or Cors(()).max_age,
        )

    def words(self, node: Node, key: str, limit: int) -> dict[str, str]:
        """Read a list of texts by path; an empty list is a mistake."""
        found = node.texts(key)
        if found == [] and node.raw(key) == []:
            node.add(key, "is empty", "Give at least one, or drop the field")
        if found is not None and len(found) > limit:
            node.add(key, f"holds {len(found)}, {limit} are allowed", "Name fewer")
        return dict(found or ())

    def traffic(self, node: Node, protocol: str | None) -> Traffic | None:
        part = node.node("traffic", _TRAFFIC)
        if part is None:
            return None
        http2 = part.flag("http2")
        if http2 and protocol in ("TLS", "TCP"):
            part.add(
                "http2", f"means nothing with {protocol}", "Drop it: the backend's bytes are passed on as they are"
            )
        return Traffic(part.duration("connect_timeout"), self.outliers(part), http2, part.flag("locality"))

    def outliers(self, node: Node) -> OutlierDetection | None:
        """Read `outlier_detection`: a map, or false to switch it off."""
        default = OutlierDetection()
        if not isinstance(node.raw("outlier_detection"), Mapping):
            return default if node.flag("outlier_detection", default=True) else None
        part = node.node("outlier_detection", _OUTLIER)
        if part is None:
            raise AssertionError("it is a map")
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
            part.add(
                "consecutive_local_origin_failures", "leaves nothing to look for", "Write `outlier_detection: false`"
            )
        return result

    def dedicated(
        self, node: Node, namespace: str | None, name: str | None, port: int | None, gateway: Gateway
    ) -> DedicatedService | None:
        choice = node.choice("expose", ("port", "service"), "port")
        kind = node.choice("service_type", ("ClusterIP", "NodePort", "LoadBalancer"))
        policy = node.choice("external_traffic_policy", ("Cluster", "Local"))
        if choice != "service":
            for key in node.given("service_type", "external_traffic_policy"):
                node.add(key, "is for a Service of its own", "Write `expose: service`, or drop it")
            return None
        if gateway.existing or gateway.deploy:
            node.add("expose", "can't be `service` on this gateway", "Its Service is made with its Gateway")
        if kind == "ClusterIP":
            for key in node.given("node_port", "external_traffic_policy"):
                node.add(key, "means nothing with `service_type: ClusterIP`", "Drop it, or write NodePort")
        target = target_port(port or 0, INSTALLED_TARGETS)
        return DedicatedService(short(f"{namespace}-{name}"), target, kind or "LoadBalancer", policy)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def hostname_cure(name: str) -> str | None:
    """Say how to write a hostname (a wildcard is allowed as its first label), or None when it is right already."""
    if name == "*":
        return "Drop `hostnames` to take every name"
    if "://" in name or "/" in name:
        return "Write the name alone; scheme and path go elsewhere"
    if is_address(name.strip("[]")):
        return "An address is no name: drop `hostnames` to take every name"
    if re.search(r":[0-9]+$", name):
        return f"Write `{shown(name.rsplit(':', 1)[0])}`; the port goes into `port`"
    if not name.isascii():
        try:
            return f"Write `{name.encode('idna').decode()}`"
        except UnicodeError:
            return "Write it in its ASCII form, xn--..."
    if name.endswith("."):
        return f"Write `{shown(name.rstrip('.'))}`"
    rest = name.removeprefix("*.")
    if "*" in rest:
        return "A wildcard stands for the whole first label: `*.example.com`"
    if not _SUBDOMAIN.fullmatch(rest) or len(name) > 253:
        return "Use a-z, 0-9 and - in labels of 1 to 63 characters, joined by dots"
    return None
