"""How the snapshot is read: once a kind, with what may not be read noted, and no key kept."""

from __future__ import annotations

import base64
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import RefusedError, UnreachableError
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _looking, _snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import SecretFacts, facts_of_secret
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Dns
from integration.broken import in_memory, setups
from integration.broken.setups import SetUp

LIST = [
    {"name": "web", "namespace": "fx-app", "protocol": "HTTPS", "hostnames": ["web.fx.example"],
     "tls": {"secret": "cert"}, "backend": {"service": "web", "port": 80}},
]  # fmt: skip


class Api:
    """Answers GET from plain objects, as much of the API as the reader asks."""

    def __init__(self, objects: list[dict[str, Any]], refuses: Callable[[str], int] = lambda _path: 0) -> None:
        self.objects = objects
        self.refuses = refuses
        self.asked: list[str] = []
        self.versions = {kind: ("v1",) for _group, kind in _snapshot._LISTED}

    def every(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        return [task(item) for item in items]

    def served(self, group: str) -> dict[str, tuple[str, ...]]:
        if self.refuses(f"/apis/{group}"):
            raise RefusedError(403, "no")
        return self.versions

    def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, accept: str = "") -> Any:
        assert method == "GET"
        self.asked.append(path + "?" + (query or {}).get("labelSelector", ""))
        status = self.refuses(path)
        if status:
            raise RefusedError(status, "no")
        parts = path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        version = parts[2] if group else parts[1]
        rest = parts[3:] if group else parts[2:]
        namespace = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else ""
        rest = rest[2:] if namespace else rest
        api_version = f"{group}/{version}" if group else version
        wanted = dict(part.partition("=")[::2] for part in (query or {}).get("labelSelector", "").split(",") if part)
        found = [
            one
            for one in self.objects
            if one["apiVersion"] == api_version
            and _plural(one["kind"]) == rest[0]
            and namespace in ("", one["metadata"].get("namespace"))
            and all((one["metadata"].get("labels") or {}).get(key) == value for key, value in wanted.items())
        ]
        if len(rest) > 1:
            named = [one for one in found if one["metadata"]["name"] == rest[1]]
            if not named:
                raise RefusedError(404, "no")
            return named[0], 200
        return {"items": found}, 200


def _plural(kind: str) -> str:
    name = kind.lower()
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith(("cy", "ry")) else f"{name}s"


@pytest.fixture
def objects() -> list[dict[str, Any]]:
    setup = dataclasses.replace(setups.load("sound")[0], broken=setups.State([], {}, {}))
    return in_memory.manifests_of(setup, setup.broken) + setups.manifests(
        {"Secret fx-edge/cert": {"certificate": {"names": ["web.fx.example"]}}}
    )


def _model() -> Any:
    return parse(LIST, set_name="fx", gateway=setups.GATEWAY)


def test_each_kind_is_listed_once_and_what_is_known_not_at_all(objects: list[dict[str, Any]]) -> None:
    api = Api(objects)
    services = [one for one in objects if one["kind"] == "Service"]
    found = _looking.look(api, _model(), known={("", "Service"): services})  # type: ignore[arg-type]
    assert found == []
    assert len(api.asked) == len(set(api.asked))
    assert not [path for path in api.asked if path.endswith("/services?")]


@pytest.mark.parametrize("setup", [*setups.load("broken"), *setups.load("sound")], ids=lambda setup: setup.name)
def test_what_is_read_is_enough(setup: SetUp) -> None:
    """The same is found of what the reader asks for as of everything that there is."""
    api = Api(in_memory.manifests_of(setup, setup.broken))
    state = setup.broken
    model = parse(state.exposures, set_name="fx", api=setup.api, gateway=setup.gateway) if state.exposures else None
    snapshot = _snapshot.read(api, model, resolve=lambda _names: {})  # type: ignore[arg-type]
    snapshot = dataclasses.replace(snapshot, dns=dict(setup.dns))
    found = _findings.findings(model, snapshot, edges=setup.edges) if model else _findings.survey(snapshot)
    assert found == in_memory.findings(setup, state)
    assert len(api.asked) == len(set(api.asked))


def test_what_may_not_be_read_is_unknown_and_never_an_error(objects: list[dict[str, Any]]) -> None:
    api = Api(objects, lambda path: 403)
    snapshot = _snapshot.read(api, _model())  # type: ignore[arg-type]
    found = _findings.findings(_model(), snapshot)
    assert {one.severity for one in found} == {"unknown"}
    assert {one.code for one in found} == {"unread"}
    kinds = {one.objects[0].partition(" ")[0] for one in found}
    assert kinds == {
        kind for _group, kind in (*_snapshot._LISTED, _snapshot.POD, _snapshot.SECRET, _snapshot.CONFIG_MAP)
    }
    maps = {name for one in found for name in one.objects if name.startswith("ConfigMap ")}
    assert maps == {"ConfigMap istio-system/istio", "ConfigMap kube-system/kube-proxy"}
    assert len(found) == len(kinds) + 2  # two kinds are called Gateway, and there are two ConfigMaps


REFUSED = {
    **{
        f"{kind}.{group}" if group else kind: f"/{plural}"
        for (group, kind), (plural, *_more) in _snapshot._LISTED.items()
    },
    "Pod": "/pods",
    "Secret": "/secrets",
    "ConfigMap": "/configmaps/",
}


@pytest.mark.parametrize("plural", REFUSED.values(), ids=REFUSED)
def test_a_kind_that_may_not_be_read_makes_nothing_sound_a_mistake(plural: str) -> None:
    for setup in setups.load("sound"):
        found = _with_refused(setup, lambda path: 403 if plural in path else 0)
        assert {one.code for one in found} <= {"unread"}, setup.name
        # Secrets are read where a listener has one alone
        assert found or plural == REFUSED["Secret"], setup.name


def _with_refused(setup: SetUp, refuses: Callable[[str], int]) -> list[Any]:
    api = Api(in_memory.manifests_of(setup, setup.broken), refuses)
    model = None
    if setup.listed:
        model = parse(setup.broken.exposures, set_name="fx", api=setup.api, gateway=setup.gateway)
    return _looking.look(api, model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("provider-nobody-defined", "ConfigMap"),
        ("gateway-s-namespace-not-discovered", "Namespace"),
        ("backend-without-a-grant", f"ReferenceGrant.{_snapshot.GATEWAY_API}"),
        ("certificate-without-a-grant", f"ReferenceGrant.{_snapshot.GATEWAY_API}"),
        ("namespace-without-the-label", "Namespace"),
        ("tokens-nobody-reads", f"RequestAuthentication.{_snapshot.SECURITY}"),
        ("gateway-misspelt", f"Gateway.{_snapshot.ISTIO}"),
        ("http-gateway-alone", f"VirtualService.{_snapshot.ISTIO}"),
        ("port-without-a-gateway", f"Gateway.{_snapshot.ISTIO}"),
        ("network-policy-around-the-backend", "Namespace"),
    ],
)
def test_what_depends_on_an_unread_kind_is_unknown(name: str, kind: str) -> None:
    setup = next(one for one in setups.load("broken") if one.name == name)
    found = _with_refused(setup, lambda path: 403 if REFUSED[kind] in path else 0)
    assert "unread" in {one.code for one in found}
    assert setup.expect not in {one.code for one in found}


def test_a_kind_that_is_not_served_is_not_unread(objects: list[dict[str, Any]]) -> None:
    """The server asks for rights first, and says 403 of a kind that it doesn't have."""
    api = Api(objects, lambda path: 403 if "/tcproutes" in path else 0)
    assert [one.code for one in _looking.look(api, _model())] == ["unread"]  # type: ignore[arg-type]
    del api.versions["TCPRoute"]
    assert _looking.look(api, _model()) == []  # type: ignore[arg-type]


def test_the_publisher_s_role_may_read_what_findings_are_made_from() -> None:
    text = (pathlib.Path(__file__).parents[3] / "roles/exposures/files/rbac.yml").read_text()
    roles = [one for one in yaml.safe_load(text)["items"] if "rules" in one]
    everywhere = [rule for one in roles if one["kind"] == "ClusterRole" for rule in one["rules"]]
    readable = {
        (group, plural)
        for rule in everywhere
        if {"get", "list"} <= set(rule["verbs"]) and "resourceNames" not in rule
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }
    listed = {(group, plural) for (group, _kind), (plural, _versions) in _snapshot._LISTED.items()} | {("", "pods")}
    assert listed <= readable
    # Secrets in the gateway's namespace alone, and of ConfigMaps those two
    assert not readable & {("", "secrets"), ("", "configmaps")}
    maps = [rule for rule in everywhere if "configmaps" in rule["resources"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in maps] == [(["istio", "kube-proxy"], ["get"])]
    assert not [rule for rule in everywhere if "secrets" in rule["resources"]]


def test_without_cluster_wide_rights_the_list_s_namespaces_are_asked(objects: list[dict[str, Any]]) -> None:
    api = Api(objects, lambda path: 0 if "/namespaces/fx-" in path else 403)
    snapshot = _snapshot.read(api, _model())  # type: ignore[arg-type]
    assert {one["metadata"]["namespace"] for one in snapshot.items(("", "Service"))} == {"fx-app", "fx-edge"}
    assert _findings.stopping(_findings.findings(_model(), snapshot)) == []


def test_an_api_server_that_is_away_stops_the_run() -> None:
    class Away(Api):
        def request(self, *_arguments: Any, **_more: Any) -> Any:
            raise UnreachableError("away")

    with pytest.raises(UnreachableError):
        _snapshot.read(Away([]), _model())  # type: ignore[arg-type]


def test_no_key_is_kept(objects: list[dict[str, Any]]) -> None:
    secret = next(one for one in objects if one["kind"] == "Secret" and one["metadata"]["name"] == "cert")
    key = base64.b64decode(secret["data"]["tls.key"]).decode()
    snapshot = _snapshot.read(Api(objects), _model())  # type: ignore[arg-type]
    facts = snapshot.secrets["fx-edge", "cert"]
    assert facts.fits is True
    assert facts.chain[0].names == ("web.fx.example",)
    body = key.splitlines()[1]
    assert body not in repr(snapshot)
    assert secret["data"]["tls.key"][:40] not in repr(snapshot)


def test_a_secret_elsewhere_is_found_without_reading_it(objects: list[dict[str, Any]]) -> None:
    moved = [
        {**one, "metadata": {**one["metadata"], "namespace": "fx-app"}} if one["metadata"]["name"] == "cert" else one
        for one in objects
    ]
    api = Api(moved)
    found = _looking.look(api, _model())  # type: ignore[arg-type]
    assert [one.code for one in found] == ["secret-elsewhere"]
    assert not [path for path in api.asked if path.startswith("/api/v1/namespaces/fx-app/secrets?")]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"names": ["a.example"]}, {"fits": True, "broken": ""}),
        ({"names": ["a.example"], "key": "other"}, {"fits": False}),
        ({"names": ["a.example"], "without": ["tls.key"]}, {"fits": None}),
        ({"names": ["a.example"], "emptied": ["tls.key"]}, {"fits": None, "empty": frozenset({"tls.key"})}),
        ({"names": ["a.example"], "text": "nothing"}, {"broken": "tls.crt holds no certificate"}),
        (
            {"names": ["a.example"], "text": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
            {"broken": "tls.crt can't be read as a certificate"},
        ),
    ],
)
def test_facts_of_a_secret(wanted: dict[str, Any], expected: dict[str, Any]) -> None:
    secret = setups.manifest("Secret fx-edge/cert", {"certificate": wanted})
    facts = facts_of_secret(secret)
    assert isinstance(facts, SecretFacts)
    assert {name: getattr(facts, name) for name in expected} == expected


def test_a_secret_may_use_the_older_keys() -> None:
    secret = setups.manifest("Secret fx-edge/cert", {"type": "Opaque", "certificate": {"names": ["a.example"]}})
    secret["data"] = {"cert": secret["data"]["tls.crt"], "key": secret["data"]["tls.key"]}
    assert facts_of_secret(secret).fits is True


def test_names_are_looked_up_and_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"a.test": Dns(("192.0.2.1",)), "b.test": Dns(error="nxdomain"), "c.test": Dns(error="timeout")}
    asked: list[str] = []

    def resolve(name: str, timeout: float) -> Dns:
        asked.append(name)
        return answers.get(name, Dns(error="timeout"))

    monkeypatch.setattr(_looking._requests, "resolve", resolve)
    assert _looking.resolve(["c.test", "b.test", "a.test"]) == {"a.test": ("192.0.2.1",), "b.test": ()}
    asked.clear()
    assert _looking.resolve([f"n{number}.test" for number in range(100)]) == {}
    assert len(asked) == 32


def test_reserved_names_are_never_asked(objects: list[dict[str, Any]]) -> None:
    asked: list[str] = []

    def resolve(names: Any) -> dict[str, tuple[str, ...]]:
        asked.extend(names)
        return {}

    model = parse(
        [{"name": "web", "namespace": "fx-app", "protocol": "HTTP", "backend": {"service": "web", "port": 80},
          "hostnames": ["web.fx.example", "www.edgeway.dev", "*.edgeway.dev"]}],
        set_name="fx", gateway=setups.GATEWAY,
    )  # fmt: skip
    snapshot = _snapshot.read(Api(objects), model, resolve=resolve)  # type: ignore[arg-type]
    assert asked == ["www.edgeway.dev"]
    assert [(one.code, one.severity) for one in _findings.findings(model, snapshot)] == [("unread", "unknown")]


def test_a_list_alone_is_looked_at_without_a_cluster() -> None:
    entry = {"name": "web", "namespace": "fx-app", "protocol": "HTTP", "port": 443, "node_port": 443,
             "hostnames": ["web.fx.example"], "backend": {"service": "web", "port": 80}}  # fmt: skip
    found = _findings.findings(parse([entry], set_name="fx"))
    assert [one.code for one in found] == ["node-port-range", "plaintext-on-443"]
