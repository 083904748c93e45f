"""The API server in memory against a real one: the same requests, the same objects, owners and errors.

Needs KUBECONFIG, with Istio's CRDs and the Gateway API's. istiod is stopped meanwhile: its webhook refuses more
VirtualServices and ServiceEntries than the server does, and it writes their status. Writes to one namespace of its own
and removes it.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import random
import ssl
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError, connect
from memory_api import Server
from memory_api.sample import namespace
from outside.lab import wait_for

Json = dict[str, Any]
Step = tuple[str, Json, dict[str, str], str]

SEQUENCES = int(os.environ.get("EDGEWAY_SEQUENCES", "200"))
STEPS = 10
MANAGERS = ("edgeway/one", "edgeway/two", "istio-operator", "helm")
# The server gives these out only when asked to
PINNED = range(30000, 30080)

pytestmark = pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs KUBECONFIG")


@pytest.fixture(scope="module")
def real() -> Cluster:
    return connect({"kubeconfig": os.environ["KUBECONFIG"]})


@pytest.fixture(scope="module")
def no_istiod(real: Cluster) -> Iterator[None]:
    """Stop istiod, and let its webhook pass what it can't look at; a started istiod closes it again."""
    found = real.request("GET", "/apis/apps/v1/deployments", query={"labelSelector": "app=istiod"})[0]["items"]
    for item in found:
        scale(real, item, 0)
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    for hook in real.request("GET", hooks)[0]["items"]:
        if hook["metadata"]["name"].startswith("istio"):
            for each in hook["webhooks"]:
                each["failurePolicy"] = "Ignore"
            real.request("PUT", f"{hooks}/{hook['metadata']['name']}", body=hook)
    yield
    for item in found:
        scale(real, item, item["spec"]["replicas"])


def scale(cluster: Cluster, item: Json, replicas: int) -> None:
    """Set a Deployment's replicas, and wait until it has as many."""
    path = f"/apis/apps/v1/namespaces/{item['metadata']['namespace']}/deployments/{item['metadata']['name']}"
    cluster.request("PATCH", path, body={"spec": {"replicas": replicas}}, content_type="application/merge-patch+json")

    def there() -> bool:
        status = cluster.request("GET", path)[0]["status"]
        return bool(status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas)

    wait_for(f"{replicas} ready replicas of {path}", there, seconds=180)


@pytest.fixture(scope="module")
def space(real: Cluster) -> Iterator[str]:
    name = f"edgeway-test-{uuid.uuid4().hex[:8]}"
    real.request("POST", "/api/v1/namespaces", body=namespace(name))
    yield name
    real.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def memory(space: str) -> Iterator[Cluster]:
    with Server().running() as server:
        server.add(namespace(space))
        yield Cluster(urllib3.PoolManager(cert_reqs=ssl.CERT_NONE), server.url)


def some(choose: random.Random, pool: list[Any]) -> list[Any]:
    return choose.sample(pool, choose.randint(0, len(pool)))


def service(choose: random.Random) -> Json:
    ports = []
    for port in some(choose, [80, 443, 8080, 65532]):
        entry: Json = {"port": port, "protocol": choose.choice(["TCP", "TCP", "TCP", "UDP"])}
        if choose.random() < 0.8:
            entry["name"] = choose.choice([f"p{port}-{entry['protocol'].lower()}", "same", f"edgeway-{port}"])
        if choose.random() < 0.6:
            entry["targetPort"] = choose.choice([port, 9000, "http"])
        if choose.random() < 0.4:
            entry["nodePort"] = choose.choice([*PINNED[:3], *PINNED[:3], 20])
        ports.append(entry)
    spec: Json = {}
    if ports:
        spec["ports"] = ports
    if choose.random() < 0.5:
        spec["selector"] = {key: choose.choice("xy") for key in some(choose, ["app", "istio"])}
    if choose.random() < 0.5:
        spec["type"] = choose.choice(["NodePort", "LoadBalancer"])
    if choose.random() < 0.3:
        spec["externalTrafficPolicy"] = choose.choice(["Local", "Cluster"])
    return {"apiVersion": "v1", "kind": "Service", "spec": spec}


def config_map(choose: random.Random) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": {key: choose.choice("xyz") for key in some(choose, ["a", "b", "c"])},
    }


def virtual_service(choose: random.Random) -> Json:
    spec: Json = {}
    if choose.random() < 0.7:
        spec["hosts"] = [f"{name}.example" for name in some(choose, ["a", "b"])] or ["c.example"]
    if choose.random() < 0.5:
        spec["gateways"] = ["istio-system/gw"]
    if choose.random() < 0.5:
        route = {"destination": {"host": choose.choice("ab"), "port": {"number": 80}}}
        spec["http"] = [{"route": [{**route, "weight": choose.choice([10, 90])}], "timeout": "5s"}]
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": spec}


def service_entry(choose: random.Random) -> Json:
    spec: Json = {"hosts": ["out.example"]}
    if choose.random() < 0.7:
        spec["ports"] = [
            {
                "name": name,
                "number": {"one": 80, "two": 81, "three": 443}[name],
                "protocol": choose.choice(["HTTP", "TLS"]),
            }
            for name in some(choose, ["one", "two", "three"])
        ]
    if choose.random() < 0.5:
        spec["resolution"] = "DNS"
    if choose.random() < 0.3:
        spec["workloadSelector"] = {"labels": dict.fromkeys(some(choose, ["a", "b"]), "x")}
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec}


def gateway(choose: random.Random) -> Json:
    listeners = []
    for name in some(choose, ["http", "other", "tcp"]) or ["http"]:
        listener: Json = {"name": name, "port": {"http": 80, "other": 81, "tcp": 3306}[name], "protocol": "HTTP"}
        if choose.random() < 0.4:
            listener["hostname"] = choose.choice(["a.example", "b.example"])
        if choose.random() < 0.5:
            rule: Json = {"from": choose.choice(["All", "Same"])}
            if choose.random() < 0.3:
                rule = {"from": "Selector", "selector": {"matchLabels": {choose.choice("ab"): "x"}}}
            listener["allowedRoutes"] = {"namespaces": rule}
        listeners.append(listener)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "spec": {"gatewayClassName": "none", "listeners": listeners},
    }


KINDS: dict[str, tuple[str, Callable[[random.Random], Json]]] = {
    "services": ("/api/v1", service),
    "configmaps": ("/api/v1", config_map),
    "virtualservices": ("/apis/networking.istio.io/v1", virtual_service),
    "serviceentries": ("/apis/networking.istio.io/v1", service_entry),
    "gateways": ("/apis/gateway.networking.k8s.io/v1", gateway),
}


def metadata(choose: random.Random) -> Json:
    found: Json = {}
    if choose.random() < 0.5:
        found["labels"] = {key: choose.choice("xy") for key in some(choose, ["a", "b"])}
    if choose.random() < 0.3:
        found["annotations"] = {key: choose.choice("xy") for key in some(choose, ["a", "b"])}
    return found


class Both:
    """Sends each request to both servers, and compares."""

    def __init__(self, real: Cluster, memory: Cluster, space: str, plural: str, name: str) -> None:
        self.servers = (real, memory)
        root, self.make = KINDS[plural]
        self.space, self.name = space, name
        self.collection = f"{root}/namespaces/{space}/{plural}"
        self.path = f"{self.collection}/{name}"

    def send(self, method: str, path: str, **request: Any) -> list[Any]:
        answers = []
        for server in self.servers:
            try:
                answers.append(
                    normal(server.request(method, path, **request)[0], dry="dryRun" in request.get("query", {}))
                )
            except RefusedError as refused:
                answers.append(error(refused))
        return answers

    def live(self) -> list[Json | None]:
        found: list[Json | None] = []
        for server in self.servers:
            try:
                found.append(server.request("GET", self.path)[0])
            except RefusedError:
                found.append(None)
        return found

    def step(self, choose: random.Random) -> tuple[str, list[Any]]:
        manager = choose.choice(MANAGERS)
        body = self.make(choose)
        body["metadata"] = {**metadata(choose), "name": self.name, "namespace": self.space}
        kind = choose.choices(
            ["apply", "merge", "replace", "owners", "release", "create", "delete"], [9, 3, 2, 1, 2, 1, 1]
        )[0]
        query = {"fieldManager": manager}
        if kind == "apply":
            query["force"] = choose.choice(["true", "false", "false"])
            if choose.random() < 0.2:
                query["dryRun"] = "All"
            answers = self.send("PATCH", self.path, query=query, body=body, content_type="application/apply-patch+yaml")
        elif kind == "release":
            body = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": self.name}}
            answers = self.send("PATCH", self.path, query=query, body=body, content_type="application/apply-patch+yaml")
        elif kind == "merge":
            part = {key: value for key, value in body.items() if key in ("metadata", "spec", "data")}
            part["metadata"] = metadata(choose)
            answers = self.send("PATCH", self.path, query=query, body=part, content_type="application/merge-patch+json")
        elif kind == "create":
            answers = self.send("POST", self.collection, query=query, body=body)
        elif kind == "delete":
            options = {"apiVersion": "v1", "kind": "DeleteOptions"}
            request: Json = choose.choice(
                [
                    {},
                    {"query": {"dryRun": "All"}},
                    {"body": {**options, "dryRun": ["All"]}},
                    # Not dry: with a body the query isn't read
                    {"body": {**options, "propagationPolicy": "Background"}, "query": {"dryRun": "All"}},
                ]
            )
            body |= {"delete": request}
            answers = [answer.get("error") for answer in self.send("DELETE", self.path, **request)]
        else:
            answers = self.replaced(kind, body, query)
        return f"{kind} {json.dumps(query)} {json.dumps(body)}", answers

    def replaced(self, kind: str, body: Json, query: dict[str, str]) -> list[Any]:
        """PUT: another spec (`replace`), or the same object with somebody else's list of owners (`owners`)."""
        answers: list[Any] = []
        for server, live in zip(self.servers, self.live(), strict=True):
            if live is None:
                answers.append("absent")
                continue
            new = copy.deepcopy(live)
            if kind == "replace":
                new.update({key: value for key, value in body.items() if key == "data"})
                if "spec" in body:
                    new["spec"] = {**live.get("spec", {}), **body["spec"]}
            else:
                owners = live["metadata"].get("managedFields", [])
                owners.sort(key=lambda entry: (entry["manager"], entry["operation"], entry["apiVersion"]))
                new["metadata"]["managedFields"] = owners[:1]
            try:
                answers.append(normal(server.request("PUT", self.path, query=query, body=new)[0]))
            except RefusedError as refused:
                answers.append(error(refused))
        return answers


def error(refused: RefusedError) -> Json:
    causes = (refused.body.get("details") or {}).get("causes") or []
    fields = sorted((str(cause.get("field", "")), conflict(cause)) for cause in causes)
    if refused.status == 422 and refused.body["details"].get("group"):
        fields = []  # what CRDs say of values is no business of the merge
    return {"error": refused.status, "fields": fields}


def conflict(cause: Json) -> str:
    return str(cause.get("message", "")) if cause.get("reason") == "FieldManagerConflict" else ""


def normal(found: Json, *, dry: bool = False) -> Json:
    """Return an object without what no two servers agree on: times, counters, addresses and ports they chose."""
    if "metadata" not in found or found.get("kind") == "Status":
        return {}
    item = copy.deepcopy(found)
    for name in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        item["metadata"].pop(name, None)
    item.pop("status", None)
    for entry in item["metadata"].get("managedFields") or ():
        entry.pop("time", None)
    owners = item["metadata"].pop("managedFields", [])
    item["owners"] = sorted(owners, key=lambda entry: json.dumps(entry, sort_keys=True))
    spec = item.get("spec") or {}
    for name in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
        if name in spec:
            spec[name] = "chosen"
    if item["kind"] == "Service":
        for port in spec.get("ports") or ():
            # A dry run may answer with any free one
            if port.get("nodePort") and (dry or port["nodePort"] not in PINNED):
                port["nodePort"] = "chosen"
    return item


def same(answers: list[Any], done: list[str]) -> None:
    """Fail with the lines that differ, and the requests that led there."""
    real, memory = (json.dumps(answer, indent=1, sort_keys=True).splitlines() for answer in answers)
    if real != memory:
        difference = difflib.unified_diff(real, memory, "real", "memory", n=2, lineterm="")
        pytest.fail("\n".join([*done, *difference]), pytrace=False)


@pytest.mark.usefixtures("no_istiod")
@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_same_requests_same_answers(real: Cluster, memory: Cluster, space: str, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - repeatable, not secret
    plural = list(KINDS)[seed % len(KINDS)]
    both = Both(real, memory, space, plural, f"object-{seed}")
    done = []
    try:
        for _step in range(STEPS):
            what, answers = both.step(choose)
            done.append(what)
            same(answers, done)
            same([live and normal(live) for live in both.live()], done)
    finally:
        both.send("DELETE", both.path)
