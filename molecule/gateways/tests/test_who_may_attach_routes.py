"""Our Gateway takes routes that others write by hand: from all namespaces, from its own, or from chosen ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from outside import clients
from outside.lab import Lab, wait_for
from outside.runs import ExposureSet

PORT = 8382
GUESTS = """
apiVersion: v1
kind: Namespace
metadata: {{name: sc-invited, labels: {{edge: open}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: sc-stranger}}
---
{}
---
{}
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: by-hand, namespace: {0}}}
spec:
  parentRefs: [{{name: {1}-istio-ingressgateway, namespace: istio-system, port: 8382}}]
  hostnames: [{0}.example]
  rules:
    - filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /{0}}}}}}}]
"""
RULES = {
    "All": ({"from": "All"}, {"sc-invited", "sc-stranger"}),
    "Same": ({"from": "Same"}, set()),
    "Selector": ({"from": "Selector", "labels": {"edge": "open"}}, {"sc-invited"}),
    "the list alone": (None, set()),
}


@pytest.fixture(scope="module")
def own(lab: Lab, set_name: str) -> Iterator[ExposureSet]:
    routes = [ROUTE.format(namespace, set_name) for namespace in ("sc-invited", "sc-stranger")]
    lab.apply(GUESTS.format(*routes))
    published = ExposureSet(lab, set_name, "gateway_api")
    yield published
    published.remove()
    lab.kubectl("delete", "namespace", "sc-invited", "sc-stranger", "--timeout=50s")


def accepted(lab: Lab, namespace: str) -> bool:
    (route,) = lab.objects("httproutes", f"--namespace={namespace}", "--field-selector=metadata.name=by-hand")
    parents = route.get("status", {}).get("parents", [])
    found: list[dict[str, Any]] = [one for parent in parents for one in parent["conditions"]]
    return any(one["type"] == "Accepted" and one["status"] == "True" for one in found)


@pytest.mark.parametrize("rule", RULES)
def test_allowed_routes(lab: Lab, own: ExposureSet, rule: str) -> None:
    allowed, invited = RULES[rule]
    # With Same and Selector the exposure itself must be let in
    namespace = "istio-system" if rule == "Same" else "sc-invited" if rule == "Selector" else "web"
    entry = {
        "name": "host",
        "namespace": namespace,
        "protocol": "HTTP",
        "port": PORT,
        "hostnames": ["host.example"],
        "gateway": {"allowed_routes": allowed} if allowed else {},
        "backend": {"service": "echo", "namespace": "web", "port": 80},
    }
    own.publish([entry])
    assert clients.http_get(lab.vip, "host.example", port=PORT).status == 200
    for guest in ("sc-invited", "sc-stranger"):
        treated(lab, guest, invited=guest in invited)


def treated(lab: Lab, guest: str, *, invited: bool) -> None:
    """Wait until a namespace's route is accepted and answers, or neither."""
    status = 302 if invited else 404
    wait_for(f"{guest} accepted: {invited}", lambda: accepted(lab, guest) == invited, seconds=10)
    wait_for(
        f"{guest} answered {status}",
        lambda: clients.http_get(lab.vip, f"{guest}.example", port=PORT).status == status,
        seconds=10,
    )
