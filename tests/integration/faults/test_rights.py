"""What a trace needs of rights and time: a ServiceAccount that may get and list, and forward ports in two namespaces.

Needs KUBECONFIG of a lab on which site.yml was applied.
"""

import base64
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError, connect
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking, _shown

pytestmark = pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs KUBECONFIG")

RBAC = "/apis/rbac.authorization.k8s.io/v1"
SPACE = "tr-rights"
INSIDE = ("sync", "listener", "filter_chain", "certificate", "virtual_host", "route_match", "cluster", "endpoints")
READ = [
    {"apiGroups": [""], "resources": ["services", "pods", "nodes"], "verbs": ["get", "list"]},
    {"apiGroups": ["networking.istio.io", "security.istio.io", "gateway.networking.k8s.io"], "resources": ["*"],
     "verbs": ["get", "list"]},
]  # fmt: skip
FORWARD = [{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create"]}]


@pytest.fixture(scope="module")
def admin() -> Cluster:
    return connect({"kubeconfig": os.environ["KUBECONFIG"]})


def _as(admin: Cluster, name: str, folder: pathlib.Path) -> Cluster:
    """The API server as a ServiceAccount sees it: a short-lived token, and no client certificate."""
    token, _status = admin.request(
        "POST",
        f"/api/v1/namespaces/{SPACE}/serviceaccounts/{name}/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}},
    )
    known = yaml.safe_load(pathlib.Path(os.environ["KUBECONFIG"]).read_text())["clusters"][0]["cluster"]
    authority = folder / "ca.crt"
    authority.write_bytes(base64.b64decode(known["certificate-authority-data"]))
    return connect({"host": admin.host, "api_key": token["status"]["token"], "ca_cert": str(authority)})


@pytest.fixture(scope="module")
def accounts(admin: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cluster]]:
    """`reader` may get and list; `tracer` may also create port forwards in the gateway's namespace."""
    made: list[str] = []

    def make(path: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        admin.request("POST", path, body=body)
        made.append(f"{path}/{name}")

    try:
        make("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        make(f"{RBAC}/clusterroles", {"metadata": {"name": SPACE}, "rules": READ})
        forwards = f"{RBAC}/namespaces/istio-system"
        make(f"{forwards}/roles", {"metadata": {"name": SPACE}, "rules": FORWARD})
        for name in ("reader", "tracer"):
            make(f"/api/v1/namespaces/{SPACE}/serviceaccounts", {"metadata": {"name": name}})
            subject = {"kind": "ServiceAccount", "name": name, "namespace": SPACE}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SPACE}
            binding = {"metadata": {"name": f"{SPACE}-{name}"}, "subjects": [subject], "roleRef": role}
            make(f"{RBAC}/clusterrolebindings", binding)
        make(
            f"{forwards}/rolebindings",
            {"metadata": {"name": SPACE},
             "subjects": [{"kind": "ServiceAccount", "name": "tracer", "namespace": SPACE}],
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": SPACE}},
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("authority")
        yield {name: _as(admin, name, folder) for name in ("reader", "tracer")}
    finally:
        for path in reversed(made):
            try:
                admin.request("DELETE", path)
            except RefusedError as refused:
                if refused.status != 404:
                    raise


def _look(cluster: Cluster, url: str) -> tuple[_facts.Facts, float]:
    target = _facts.chosen(url, None, [])
    began = time.monotonic()
    return _looking.look(cluster, target, _looking.Options()), time.monotonic() - began


@pytest.mark.parametrize("url", ["http://web.example/", "https://shop.example/", "tcp://:65532"])
def test_create_on_portforward_is_enough(accounts: dict[str, Cluster], url: str) -> None:
    facts, seconds = _look(accounts["tracer"], url)
    hops = _trace.trace(facts)
    shown = "\n".join(_shown.tree(facts, hops))
    assert _trace.first_broken(hops) is None, shown
    assert {hop.state for hop in hops if hop.name in INSIDE} == {"ok"}, shown
    print(f"{url}: {seconds:.2f} s")
    assert seconds < 5


def test_without_it_what_is_inside_pods_is_unknown(accounts: dict[str, Cluster]) -> None:
    facts, _seconds = _look(accounts["reader"], "https://shop.example/")
    hops = _trace.trace(facts)
    shown = "\n".join(_shown.tree(facts, hops))
    assert _trace.first_broken(hops) is None, shown
    assert {hop.state for hop in hops if hop.name in INSIDE} == {"unknown"}, shown
    assert _trace.answers(facts) is True
    assert "is not allowed" in shown
