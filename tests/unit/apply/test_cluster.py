"""How the API server is reached, and what its refusals and silences are called."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from ansible_collections.edgeway.istio.plugins.module_utils import _cluster
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import (
    Cluster,
    ClusterError,
    RefusedError,
    UnreachableError,
    connect,
)
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _objects
from memory_api import Server
from memory_api.sample import namespace, service
from memory_api.server import DropError, Request, StatusError

Json = dict[str, Any]


@pytest.fixture
def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    return connect({"kubeconfig": server.kubeconfig()})


def refusing(server: Server, code: int, message: str, **details: Any) -> None:
    def refuse(_request: Request) -> None:
        raise StatusError(code, "Refused", message, details)

    server.before = refuse


@pytest.mark.parametrize(
    ("code", "message", "said", "cure"),
    [
        (401, "Unauthorized", "doesn't accept the credentials: Unauthorized.", "Renew the kubeconfig"),
        (403, "services is forbidden", "is not allowed: services is forbidden.", "Give the user this right"),
        (
            500,
            "failed calling webhook validation.istio.io",
            "failed calling webhook",
            "See that the webhook's pods run",
        ),
        (500, "etcd is away", "etcd is away", ""),
    ],
)
def test_refusals(server: Server, cluster: Cluster, code: int, message: str, said: str, cure: str) -> None:
    refusing(server, code, message)
    with pytest.raises(RefusedError) as refused:
        cluster.find("v1", "Service")
    assert said in refused.value.message
    assert refused.value.cure.startswith(cure)
    assert refused.value.status == code
    with pytest.raises(RefusedError):
        cluster.get("v1", "Service", "shop", "shop")
    with pytest.raises(RefusedError):
        cluster.served("networking.istio.io")
    with pytest.raises(RefusedError):
        cluster.delete({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "b", "uid": "1"}})
    with pytest.raises(RefusedError):
        _objects.get(cluster, namespace("a"))
    with pytest.raises(RefusedError):
        _objects.delete(cluster, {**namespace("a"), "metadata": {"name": "a", "uid": "1"}})


RIGHT = 'services is forbidden: User "deployer" cannot create resource "services" in API group "" at the cluster scope'
GRANT = 'roles "a" is forbidden: user "deployer" is attempting to grant RBAC permissions not currently held'
QUOTA = 'services "a" is forbidden: exceeded quota: small, requested: services=1, used: services=1, limited: services=1'
ENDING = 'services "a" is forbidden: unable to create new content in namespace shop because it is being terminated'
WEBHOOK = 'admission webhook "deny.example.com" denied the request: no more ports'
POLICY = "services \"a\" is forbidden: ValidatingAdmissionPolicy 'ports' with binding 'all' denied request: no ports"


@pytest.mark.parametrize(
    ("message", "causes", "said", "cure"),
    [
        (RIGHT, (), "is not allowed: services is forbidden: User", "Give the user this right"),
        (GRANT, (), "is not allowed: roles", "Give the user this right"),
        (QUOTA, (), "is refused: services", "See what refuses it"),
        (WEBHOOK, (), "is refused: admission webhook", "See what refuses it"),
        (POLICY, (), "is refused: services", "See what refuses it"),
        (ENDING, ({"reason": "NamespaceTerminating"},), "is refused: services", "Wait until the namespace is gone"),
    ],
    ids=["right", "grant", "quota", "webhook", "policy", "namespace"],
)
def test_not_every_403_is_a_lack_of_rights(
    server: Server, cluster: Cluster, message: str, causes: tuple[Json, ...], said: str, cure: str
) -> None:
    refusing(server, 403, message, causes=list(causes))
    with pytest.raises(RefusedError) as refused:
        cluster.create(service("shop", "a", 80), "edgeway/default")
    assert said in refused.value.message
    assert refused.value.message.endswith(f"{message}.")
    assert refused.value.cure.startswith(cure)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_too_many_requests_are_sent_again(server: Server, cluster: Cluster, method: str) -> None:
    live = cluster.get("v1", "Service", "shop", "shop")
    assert live is not None
    send: dict[str, Callable[[], Any]] = {
        "GET": lambda: cluster.find("v1", "Service"),
        "POST": lambda: cluster.create(service("shop", "a", 81), "edgeway/default"),
        "PATCH": lambda: cluster.apply(service("shop", "shop", 80), "someone", force=True),
        "PUT": lambda: cluster.replace(live, "someone"),
        "DELETE": lambda: cluster.delete(live),
    }
    refused: list[str] = []

    def busy(request: Request) -> None:
        if len(refused) < 2:
            refused.append(request.method)
            raise StatusError(429, "TooManyRequests", "too many requests, please try again later")

    server.before = busy
    send[method]()
    assert refused == [method, method]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_may_have_been_done_is_not_sent_again(server: Server, cluster: Cluster, method: str) -> None:
    live = cluster.get("v1", "Service", "shop", "shop")
    assert live is not None
    server.log.clear()

    def drop(_request: Request) -> None:
        raise DropError

    server.after = drop
    with pytest.raises(UnreachableError):
        cluster.delete(live) if method == "DELETE" else cluster.create(service("shop", "a", 81), "edgeway/default")
    assert [request.method for request in server.log] == [method]


def test_whether_something_exists_may_be_unknown(server: Server, cluster: Cluster) -> None:
    assert cluster.exists("v1", "Service", "shop", "shop")
    assert not cluster.exists("v1", "Secret", "shop", "none")
    refusing(server, 403, "secrets is forbidden")
    assert cluster.exists("v1", "Secret", "shop", "none"), "who may not know must not wait for it"
    refusing(server, 500, "etcd is away")
    assert cluster.exists("v1", "Secret", "shop", "none"), "it may be asked again"
    refusing(server, 401, "Unauthorized")
    with pytest.raises(RefusedError, match="Unauthorized"):
        cluster.exists("v1", "Secret", "shop", "none")


def test_what_is_gone_already_may_be_deleted(server: Server, cluster: Cluster) -> None:
    live = cluster.get("v1", "Service", "shop", "shop")
    assert live is not None
    cluster.delete(live)
    cluster.delete(live)
    _objects.delete(cluster, live)
    assert server.get("Service", "shop", "shop") is None


def test_an_object_made_anew_is_not_deleted_in_the_others_place(server: Server, cluster: Cluster) -> None:
    live = cluster.get("v1", "Service", "shop", "shop")
    assert live is not None
    server.objects["", "Service", "shop", "shop"]["metadata"]["uid"] = "another"
    with pytest.raises(RefusedError) as refused:
        cluster.delete(live)
    assert refused.value.status == 409


def test_long_lists_come_in_pages(server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster, "_PAGE", 2)
    for number in range(5):
        server.add(namespace(f"n{number}"))
    found = {item["metadata"]["name"] for item in _objects.find(cluster, "v1", "Namespace")}
    assert found == {"istio-system", "shop", "db", *(f"n{number}" for number in range(5))}
    assert len([request for request in server.log if request.path == "/api/v1/namespaces"]) == 4


def test_what_is_no_json_is_quoted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        status, data = 502, b"<html>Bad Gateway</html>"

    class Pool:
        def request(self, *_args: Any, **_more: Any) -> Answer:
            return Answer()

    with pytest.raises(RefusedError, match="<html>Bad Gateway</html>"):
        Cluster(Pool(), "https://a.example").request("GET", "/version")


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (ssl.SSLError("certificate verify failed: unable to get local issuer certificate"), "Give the cluster's CA"),
        (ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "https or http is right"),
        (OSError("No route to host"), "has a route to it"),
    ],
)
def test_no_answer(error: Exception, cure: str) -> None:
    class Pool:
        def request(self, *_args: Any, **_more: Any) -> Any:
            raise urllib3.exceptions.MaxRetryError(urllib3.HTTPSConnectionPool("a"), "/", error)

    for ask in (lambda it: it.request("GET", "/version"), lambda it: it.forward("a", "b", 1)):
        with pytest.raises(UnreachableError, match=r"The API server https://a.example doesn't answer") as silent:
            ask(Cluster(Pool(), "https://a.example/"))
        assert cure in silent.value.cure


def test_a_forward_that_is_refused(server: Server, cluster: Cluster) -> None:
    with pytest.raises(RefusedError) as refused:
        cluster.forward("istio-system", "gateway-1", 15000)
    assert refused.value.status == 404


def test_a_forward_that_a_proxy_refuses() -> None:
    class Answer:
        status = 502

        def read(self, _size: int) -> bytes:
            return b"<html>"

        def release_conn(self) -> None:
            pass

    class Pool:
        def request(self, *_args: Any, **_more: Any) -> Answer:
            return Answer()

    with pytest.raises(RefusedError, match="<html>"):
        Cluster(Pool(), "https://a.example").forward("a", "b", 1)


# The way to the cluster


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def broken(folder: Path) -> Json:
    path = folder / "config"
    path.write_text("{}")
    return {"kubeconfig": str(path)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (lambda _folder: {"kubeconfig": "/nowhere/config"}, "No kubeconfig: /nowhere/config doesn't exist."),
        (broken, "config can't be used: "),
        (lambda _folder: {"kubeconfig": {"apiVersion": "v1"}}, "The kubeconfig given as a dictionary can't be used"),
    ],
)
def test_no_kubeconfig(clean: Path, options: Callable[[Path], Json], words: str) -> None:
    with pytest.raises(UnreachableError) as missing:
        connect(options(clean))
    assert words in missing.value.message
    assert missing.value.cure


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ClusterError, match="The Python package kubernetes is missing"):
        connect({})


def test_a_token_and_more_headers_are_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Pool:
        def request(self, _method: str, _url: str, **more: Any) -> Any:
            told.append(more["headers"])
            raise urllib3.exceptions.HTTPError("enough")

    cluster = connect(
        {"kubeconfig": server.kubeconfig(), "impersonate_user": "viewer", "impersonate_groups": ["a", "b"]}
    )
    cluster._pool = Pool()
    for _time in range(2):
        with pytest.raises(UnreachableError):
            cluster.request("GET", "/version")
    assert told[0] == told[1]
    assert {key.lower(): value for key, value in told[0].items()} == {
        "accept": "application/json",
        "user-agent": "edgeway.istio",
        "authorization": "Bearer none",
        "impersonate-user": "viewer",
        "impersonate-group": "a,b",
    }


def test_one_user_has_nothing_of_the_one_before(server: Server, tmp_path: Path) -> None:
    first = server.kubeconfig()
    for name in ("client-certificate", "client-key"):
        (tmp_path / name).write_text("")
        first["users"][0]["user"][name] = str(tmp_path / name)
    first["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    assert connect({"kubeconfig": first})._pool.connection_pool_kw["cert_file"]
    cluster = connect({"host": server.url, "api_key": "second", "validate_certs": False})
    assert cluster._pool.connection_pool_kw["cert_file"] is None


def test_names_of_kinds_in_paths() -> None:
    assert [_objects.plural(kind) for kind in ("NetworkPolicy", "IngressClass", "Gateway", "Service")] == [
        "networkpolicies", "ingressclasses", "gateways", "services",
    ]  # fmt: skip
    assert json.dumps(_objects.path(namespace("a"))) == '"/api/v1/namespaces/a"'
