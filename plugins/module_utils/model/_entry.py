# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one exposure: types, names, what goes together and what doesn't, and what the chosen API can't say.

What is inside of it is read by the files beside this one. Every function notes what is wrong in the log and returns the
best it can, so that one run finds everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node, quoted, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._backends import BackendReader, read_traffic
from ansible_collections.edgeway.istio.plugins.module_utils.model._gateways import read_gateway
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import DNS_CURE, DNS_RULE, LABEL, hostname_cure
from ansible_collections.edgeway.istio.plugins.module_utils.model._routes import read_routes
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    INSTALLED_TARGETS,
    PROXY_PORTS,
    DedicatedService,
    Exposure,
    Gateway,
    short,
    target_port,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._tls import read_tls

PROTOCOLS = ("HTTP", "HTTPS", "TLS", "TCP")
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


def read_exposure(
    value: object, path: str, log: Log, default: Gateway, *, domain: str, gateway_api: bool
) -> Exposure | None:
    """Read one entry of the list; None where too little of it can be read."""
    raw_name = value.get("name") if isinstance(value, Mapping) else None
    log.exposure = raw_name if isinstance(raw_name, str) and LABEL.fullmatch(raw_name) else ""
    node = Node(value, path, log, _EXPOSURE)
    name = _required(node, "name", LABEL, "Write one: it names the objects")
    namespace = _required(node, "namespace", LABEL, "Write the one of the backends: the routes lie there too")
    protocol = _protocol(node)
    gateway = default
    if "gateway" in node:
        gateway = read_gateway(node.raw("gateway"), node.at("gateway"), log, default, gateway_api=gateway_api)
    if gateway.deploy and gateway.scope == "exposure" and name and namespace:
        own = short(f"{namespace}-{name}", 62 - len(gateway.class_name))
        gateway = replace(gateway, service=f"{own}-{gateway.class_name}", scope="shared")
    allowed = gateway.allowed_routes
    if allowed is not None and allowed.source == "Same" and namespace not in (None, gateway.namespace):
        cure = f"Publish from `{gateway.namespace}`, or choose other `allowed_routes`"
        node.add("namespace", "may not attach routes to the Gateway, which takes them from its own alone", cure)
    port = _port(node, protocol)
    node_port = node.number("node_port", 1, 65535, "Kubernetes takes 30000 to 32767 unless told otherwise")
    if node_port is not None and gateway.existing:
        node.add("node_port", "can't be pinned on a Gateway that isn't ours", "Pin it where that Gateway is made")
    elif node_port is not None and gateway.deploy:
        cure = "Use a Service that is there already, or let Kubernetes choose"
        node.add("node_port", "can't be pinned on a Service that Istio makes", cure)
    hostnames = _hostnames(node, protocol)
    tls = read_tls(node, protocol, gateway, gateway_api=gateway_api)
    redirect = _redirect_http(node, protocol, port, gateway)
    reader = BackendReader(namespace or "", protocol, domain, gateway_api=gateway_api)
    subsets = reader.subsets(node)
    routes = read_routes(node, protocol, reader, gateway_api=gateway_api)
    traffic = read_traffic(node, protocol)
    service = _dedicated(node, namespace, name, port, gateway)
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


def _required(node: Node, key: str, pattern: re.Pattern[str], why: str) -> str | None:
    if key not in node:
        node.add(key, "is missing", why)
        return None
    return node.text(key, pattern, DNS_RULE, DNS_CURE)


def _protocol(node: Node) -> str | None:
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
        node.add("protocol", f"`{shown(value)}` is not known", OTHER_PROTOCOLS.get(word, f"Write {quoted(PROTOCOLS)}"))
    return None


def _port(node: Node, protocol: str | None) -> int | None:
    port = node.number("port", 1, 65535)
    if "port" not in node:
        port = DEFAULT_PORTS.get(protocol or "")
        if protocol == "TCP":
            node.add("port", "is missing", "TCP has no default: write the port that clients connect to")
    if port in PROXY_PORTS:
        node.add("port", f"{port} is used by Istio's proxy itself", "Choose another port")
    return port


def _hostnames(node: Node, protocol: str | None) -> tuple[str, ...]:
    found = node.texts("hostnames")
    if found is None:
        if protocol == "TLS" and "hostnames" not in node:
            node.add("hostnames", "is missing", "TLS is routed by the name that clients ask for; without one use TCP")
        return ()
    if protocol == "TCP":
        node.add("hostnames", "means nothing with TCP, which carries no name", "Drop it: the port alone decides")
        return ()
    if not node.raw("hostnames"):
        node.add("hostnames", "is empty", "Give a hostname, or drop the field to take every name")
    result: dict[str, str] = {}
    for path, text in found:
        name = text.lower()
        cure = hostname_cure(name)
        if cure is not None:
            node.log.add(path, f"`{shown(text)}` is not a hostname", cure)
        elif name in result:
            node.log.add(path, f"`{name}` stands twice", f"Drop one: the other is {result[name]}")
        else:
            result[name] = path
    return tuple(sorted(result))


def _redirect_http(node: Node, protocol: str | None, port: int | None, gateway: Gateway) -> bool:
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


def _dedicated(
    node: Node, namespace: str | None, name: str | None, port: int | None, gateway: Gateway
) -> DedicatedService | None:
    choice = node.choice("expose", ("port", "service"))
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
