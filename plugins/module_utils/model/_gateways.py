# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a gateway: whose pods take the requests, and in the Gateway API which Gateway."""

from __future__ import annotations

import re

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import (
    DNS_CURE,
    DNS_RULE,
    LABEL,
    SUBDOMAIN,
    read_labels,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import AllowedRoutes, Gateway

_GATEWAY = (
    *("namespace", "service", "selector", "class_name", "existing", "scope", "deploy", "service_type"),
    "allowed_routes",
)
_PLACE = re.compile(rf"({LABEL.pattern}/)?{LABEL.pattern}")


def read_gateway(value: object, path: str, log: Log, default: Gateway, *, gateway_api: bool) -> Gateway:
    """Read a gateway; what isn't written is taken from `default`."""
    node = Node(value, path, log, _GATEWAY)
    namespace = node.text("namespace", LABEL, DNS_RULE, DNS_CURE) or default.namespace
    service = node.text("service", LABEL, DNS_RULE, DNS_CURE) or default.service
    same = (namespace, service) == (default.namespace, default.service)
    selector = read_labels(node, "selector")
    if selector is None:
        # Istio's charts label the pods of Service istio-NAME and of Service NAME with istio=NAME.
        selector = default.selector if same else (("istio", service.removeprefix("istio-")),)
    result = Gateway(
        namespace,
        service,
        selector,
        node.text("class_name", SUBDOMAIN, "the name of a GatewayClass", DNS_CURE) or default.class_name,
        _existing(node, namespace) or (default.existing if same else None),
        node.choice("scope", ("shared", "exposure")) or default.scope,
        node.flag("deploy", default.deploy),
        node.choice("service_type", ("ClusterIP", "NodePort", "LoadBalancer")) or default.service_type,
        _allowed_routes(node) or default.allowed_routes,
    )
    if not gateway_api:
        for key in node.given("class_name", "scope", "deploy", "service_type", "allowed_routes"):
            node.add(key, "is for the Gateway API only", "Leave it out, or set `api: gateway_api`")
    elif result.existing:
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


def _existing(node: Node, namespace: str) -> str | None:
    """Read the name of a Gateway, which may lie elsewhere than the pods; returns namespace/name."""
    cure = "Write `NAME`, or `NAMESPACE/NAME` where it doesn't lie with the gateway's pods"
    text = node.text("existing", _PLACE, "the name of a Gateway", cure)
    return text if text is None or "/" in text else f"{namespace}/{text}"


def _allowed_routes(node: Node) -> AllowedRoutes | None:
    rule = node.node("allowed_routes", ("from", "labels"))
    if rule is None:
        return None
    source = rule.choice("from", ("All", "Same", "Selector"))
    labels = read_labels(rule, "labels")
    if source is None:
        if "from" not in rule:
            rule.add("from", "is missing", "Write `All`, `Same` or `Selector`")
        return None
    if source == "Selector" and "labels" not in rule:
        rule.add("labels", "is missing", "Give the labels of the namespaces that may attach routes")
    elif source != "Selector" and "labels" in rule:
        rule.add("labels", "needs `from: Selector`", "Write it, or leave the labels out")
    return AllowedRoutes(source, labels or ())
