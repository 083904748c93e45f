"""The module exposures, whole, against an API server in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from memory_api import Server, pods
from memory_api.kinds import CORE
from memory_api.sample import HTTP, TCP, service, verbs

Run = Callable[..., dict[str, Any]]


def test_publishes_and_then_changes_nothing(server: Server, run: Run) -> None:
    server.pods["istio-system", "gateway-1"] = {15000: pods.envoy(server)}
    first = run("exposures", exposures=[HTTP, TCP])
    assert first["changed"]
    assert set(verbs(first).values()) == {"create", "update"}
    vs = server.get("VirtualService", "shop", "shop")
    assert vs is not None
    assert vs["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "edgeway", "edgeway.istio/set": "default"}
    assert {entry["manager"] for entry in vs["metadata"]["managedFields"]} == {"edgeway/default"}
    gateway = server.get("Service", "istio-system", "istio-ingressgateway")
    assert gateway is not None
    assert "edgeway.istio/set" not in (gateway["metadata"].get("labels") or {})
    ours = [port for port in gateway["spec"]["ports"] if port["port"] == 65532]
    assert [port["nodePort"] for port in ours] == [31532]
    inventory = server.get("ConfigMap", "istio-system", "edgeway-set-default")
    assert inventory is not None
    assert inventory["data"]["namespaces"].split() == ["db", "istio-system", "shop"]

    before = server.state()
    server.log.clear()
    second = run("exposures", exposures=[TCP, HTTP])
    assert not second["changed"]
    assert set(verbs(second).values()) == {"unchanged"}
    assert second["diff"] == []
    assert server.state() == before
    assert {request.method for request in server.log} == {"GET"}
    lists = [request.path for request in server.log if request.path.endswith("virtualservices")]
    assert lists == ["/apis/networking.istio.io/v1/virtualservices"]


def test_everything_is_tried_before_the_first_write(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP, TCP])
    tries = [request.dry for request in server.log if request.dry or request.writes]
    assert tries == sorted(tries, reverse=True)
    # What was tried, and the inventory: made, taken, and written at the end
    assert tries.count(False) == tries.count(True) + 3


def test_without_validation_nothing_is_tried_and_the_same_comes_of_it(server: Server, run: Run) -> None:
    tried = run("exposures", exposures=[HTTP, TCP])
    state = server.state()
    run("exposures", state="absent")
    server.log.clear()
    untried = run("exposures", exposures=[HTTP, TCP], validate=False)
    assert not any(request.dry for request in server.log)
    assert server.state() == state
    for name in ("changed", "changes", "manifests", "diff", "endpoints"):
        assert untried[name] == tried[name], name
    assert not run("exposures", exposures=[HTTP, TCP], validate=False)["changed"]


def test_check_mode_shows_the_same_and_writes_nothing(server: Server, run: Run) -> None:
    before = server.state()
    would = run("exposures", exposures=[HTTP, TCP], check=True)
    assert server.state() == before
    did = run("exposures", exposures=[HTTP, TCP])
    for name in ("changed", "changes", "manifests", "diff"):
        assert would[name] == did[name], name
    text = str(would["diff"])
    assert "managedFields" not in text
    assert "resourceVersion" not in text


def test_prunes_its_own_and_nothing_else(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP, TCP])
    run("exposures", exposures=[{**HTTP, "name": "other", "hostnames": ["other.example"]}], set="second")
    foreign = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "by-hand", "namespace": "db"},
        "spec": {"hosts": ["by.hand"]},
    }
    server.add(foreign)
    result = run("exposures", exposures=[HTTP])
    assert verbs(result)["VirtualService/mysql"] == "delete"
    assert server.get("VirtualService", "db", "mysql") is None
    assert server.get("VirtualService", "db", "by-hand") is not None
    assert server.get("VirtualService", "shop", "other") is not None
    gateway = server.get("Service", "istio-system", "istio-ingressgateway")
    assert gateway is not None
    assert 65532 not in [port["port"] for port in gateway["spec"]["ports"]]


def test_the_service_that_istio_makes_of_a_gateway_of_ours_stays(server: Server, run: Run) -> None:
    gateway = {"namespace": "shop", "service": "own-istio", "class_name": "istio", "deploy": True}
    given = {"exposures": [{**HTTP, "gateway": gateway}], "api": "gateway_api", "validate": False, "wait": False}
    run("exposures", **given)
    [made] = [item for key, item in server.objects.items() if key[1] == "Gateway"]
    service_of_istio = service("shop", "own-istio", 80)
    # As istiod does: the labels are those of the Gateway
    metadata = made["metadata"]
    owner = {"apiVersion": made["apiVersion"], "kind": "Gateway", "name": metadata["name"], "uid": metadata["uid"]}
    service_of_istio["metadata"] |= {"labels": metadata["labels"], "ownerReferences": [owner]}
    server.apply(service_of_istio, "istio.io/gateway-controller")
    before = server.state()
    again = run("exposures", **given)
    assert not again["changed"], verbs(again)
    assert server.state() == before
    [shown] = run("exposures_info", findings=False)["sets"]
    assert "Service" not in {entry["kind"] for entry in shown["objects"]}
    run("exposures", **given | {"exposures": []})
    # It goes with its Gateway, by the cluster's own doing
    assert server.get("Service", "shop", "own-istio") is not None


def test_without_prune_nothing_is_removed(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP, TCP])
    assert not run("exposures", exposures=[HTTP, TCP], prune=False)["changed"]
    result = run("exposures", exposures=[HTTP], prune=False)
    assert "delete" not in verbs(result).values()
    assert server.get("VirtualService", "db", "mysql") is not None


def test_absent_leaves_the_cluster_as_it_was(server: Server, run: Run) -> None:
    before = server.state()
    run("exposures", exposures=[HTTP, TCP])
    assert server.state() != before
    assert run("exposures", state="absent", check=True)["changed"]
    assert run("exposures", state="absent")["changed"]
    after = server.state()
    # nodePorts that the server chose may not be the same: they are, as no other Service took them
    assert after == before
    assert not run("exposures", state="absent")["changed"]


def test_absent_removes_all_whatever_prune_says(server: Server, run: Run) -> None:
    before = server.state()
    run("exposures", exposures=[HTTP, TCP])
    run("exposures", exposures=[HTTP], prune=False)
    assert run("exposures", state="absent", prune=False)["changed"]
    assert server.state() == before


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_absent_finds_all_without_an_inventory(server: Server, run: Run, api: str) -> None:
    before = server.state()
    own = {**HTTP, "name": "own", "port": 8088, "expose": "service", "service_type": "NodePort"}
    run("exposures", exposures=[HTTP, TCP, own], api=api, validate=False)
    del server.objects["", "ConfigMap", "istio-system", "edgeway-set-default"]
    assert run("exposures", state="absent")["changed"]
    assert server.state() == before


@pytest.mark.parametrize("prune", [True, False])
def test_an_inventory_that_is_gone_is_written_again(server: Server, run: Run, prune: bool) -> None:
    run("exposures", exposures=[HTTP, TCP])
    run("exposures", exposures=[HTTP], prune=prune)
    state = server.state()
    del server.objects["", "ConfigMap", "istio-system", "edgeway-set-default"]
    assert run("exposures", exposures=[HTTP], prune=prune, check=True)["changed"] is False
    assert run("exposures", exposures=[HTTP], prune=prune)["changed"] is False
    assert server.state() == state
    server.log.clear()
    run("exposures", exposures=[HTTP], prune=prune)
    assert server.writes() == []


def test_rendered_asks_nobody(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kubernetes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    result = run("exposures", exposures=[HTTP, TCP], state="rendered", kubeconfig="/nowhere")
    assert not result["changed"]
    assert {manifest["kind"] for manifest in result["manifests"]} >= {"Gateway", "VirtualService"}
    assert result["endpoints"][0]["addresses"] == []
    assert server.log == []


def test_all_errors_of_the_list_at_once(server: Server, run: Run) -> None:
    wrong = [{**HTTP, "backend": None}, {**TCP, "port": 70000}]
    result = run("exposures", exposures=wrong)
    assert result["failed"]
    assert len(result["problems"]) >= 2
    assert {problem["path"].partition(".")[0] for problem in result["problems"]} == {"exposures[0]", "exposures[1]"}
    assert server.writes() == []


def test_a_name_of_another_set_or_of_nobody_is_refused(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP], set="first")
    server.add(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "mysql", "namespace": "db"},
            "spec": {"hosts": ["*"]},
        }
    )
    before = server.state()
    result = run("exposures", exposures=[HTTP, TCP], set="second")
    assert result["failed"]
    assert "VirtualService shop/shop belongs to the set 'first'" in result["msg"]
    assert "VirtualService db/mysql exists already" in result["msg"]
    assert server.state() == before


def test_a_conflict_quotes_field_and_manager(server: Server, run: Run) -> None:
    run("exposures", exposures=[HTTP])
    live = server.get("VirtualService", "shop", "shop")
    assert live is not None
    live["spec"]["hosts"] = ["stolen.example"]
    key = ("networking.istio.io", "VirtualService", "shop", "shop")
    kind = next(kind for kind in server.kinds if kind.plural == "virtualservices")
    server._update(kind, key, live, "kubectl-edit", "", dry=False)
    before = server.state()
    result = run("exposures", exposures=[HTTP])
    assert result["failed"]
    assert "VirtualService shop/shop" in result["msg"]
    assert ".spec.hosts belongs to 'kubectl-edit'" in result["msg"]
    assert server.state() == before
    assert run("exposures", exposures=[HTTP], force=True)["changed"]
    assert not run("exposures", exposures=[HTTP])["changed"]


def test_a_port_of_someone_else_is_refused(server: Server, run: Run) -> None:
    server.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
            "spec": {"ports": [{"name": "theirs", "port": 65532, "protocol": "TCP", "targetPort": 9999}]},
        },
        "platform-team",
    )
    before = server.state()
    result = run("exposures", exposures=[HTTP, TCP])
    assert result["failed"]
    assert "65532" in result["msg"]
    assert server.state() == before


@pytest.mark.parametrize("target", [9999, 65532])
def test_a_port_of_ours_that_somebody_edited(server: Server, run: Run, target: int) -> None:
    """Another targetPort is theirs to explain, and is neither taken up nor overwritten; the same one is no change."""
    run("exposures", exposures=[HTTP, TCP])
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    (ours,) = (port for port in live["spec"]["ports"] if port["port"] == 65532)
    ours["targetPort"] = target
    owned = live["metadata"]["managedFields"]
    (entry,) = (one for one in owned if one["manager"] == "edgeway/default")
    ports = entry["fieldsV1"]["f:spec"]["f:ports"]
    del ports['k:{"port":65532,"protocol":"TCP"}']["f:targetPort"]
    fields = {"f:spec": {"f:ports": {'k:{"port":65532,"protocol":"TCP"}': {"f:targetPort": {}}}}}
    owned.append({**entry, "manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields})
    server.objects["", "Service", "istio-system", "istio-ingressgateway"] = live
    before = server.state()
    result = run("exposures", exposures=[HTTP, TCP])
    if target == 65532:
        assert not result.get("failed")
    else:
        assert "belongs to 'kubectl-edit', with targetPort 9999, not 65532" in result["msg"]
        assert server.state() == before
        assert run("exposures", exposures=[HTTP, TCP], force=True)["changed"]
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    assert [port["targetPort"] for port in live["spec"]["ports"] if port["port"] == 65532] == [65532]
    assert not run("exposures", exposures=[HTTP, TCP])["changed"]


def test_a_pinned_node_port_moves_to_another_port(server: Server, run: Run) -> None:
    run("exposures", exposures=[TCP])
    assert run("exposures", exposures=[{**TCP, "port": 65533}])["changed"]
    live = server.get("Service", "istio-system", "istio-ingressgateway")
    assert live is not None
    found = {port["port"]: port["nodePort"] for port in live["spec"]["ports"]}
    assert (found[65533], 65532 in found) == (31532, False)


def test_a_node_port_of_another_service_is_refused(server: Server, run: Run) -> None:
    taken = service("shop", "other", 81, type="NodePort")
    taken["spec"]["ports"][0]["nodePort"] = 31532
    server.add(taken)
    result = run("exposures", exposures=[TCP])
    assert result["failed"]
    assert "nodePort 31532 is taken by port 81 of Service shop/other" in result["msg"]
    assert server.writes() == []


def test_check_mode_before_istio_is_there(run: Run, server: Server) -> None:
    server.kinds = CORE
    del server.objects["", "Service", "istio-system", "istio-ingressgateway"]
    del server.objects["", "Namespace", "", "istio-system"]
    del server.objects["", "Pod", "istio-system", "gateway-1"]
    would = run("exposures", exposures=[HTTP, TCP], check=True)
    assert not would.get("failed")
    assert would["changed"]
    assert verbs(would)["VirtualService/shop"] == "create"
    told = str(would["warnings"])
    assert "edgeway.istio.istio" in told
    assert "istio-system/istio-ingressgateway doesn't exist yet" in told
    # For real it is an error that says the same
    failed = run("exposures", exposures=[HTTP, TCP])
    assert failed["failed"]
    assert "role edgeway.istio.istio" in failed["msg"]
    assert server.writes() == []


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_what_istio_brings_is_not_missed_before_it_is_there(run: Run, server: Server, api: str) -> None:
    server.kinds = CORE
    for key in [key for key in server.objects if "istio-system" in key]:
        del server.objects[key]
    given = {"exposures": [HTTP, TCP], "api": api, "before_istio": True}
    would = run("exposures", **given, check=True)
    assert not would.get("failed"), would["msg"]
    assert would["changed"]
    assert not would.get("warnings")
    assert run("exposures", **given)["failed"]
    assert server.writes() == []


def test_another_gateway_may_be_installed_first(run: Run, server: Server) -> None:
    gateway = {"namespace": "istio-system", "service": "second", "selector": {"istio": "second"}}
    given = {"exposures": [HTTP], "gateway": gateway, "check": True}
    assert "nobody listens" in run("exposures", **given)["msg"]
    would = run("exposures", **given, before_istio=True)
    assert not would.get("failed"), would["msg"]
    # A gateway that is there and has other labels stays an error
    named = {"namespace": "istio-system", "service": "istio-ingressgateway", "selector": {"istio": "second"}}
    assert run("exposures", **(given | {"gateway": named}), before_istio=True)["failed"]
    assert server.writes() == []


def test_missing_crds_are_one_error(run: Run, server: Server) -> None:
    server.kinds = CORE
    result = run("exposures", exposures=[HTTP])
    assert result["failed"]
    assert "the cluster doesn't serve networking.istio.io/v1 Gateway" in result["msg"]
    assert result["msg"].count("Install the CRDs") == 1
    assert server.writes() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kubeconfig": "/nowhere/kubeconfig"}, ["/nowhere/kubeconfig doesn't exist", "K8S_AUTH_KUBECONFIG"]),
        ({"kubeconfig": None, "host": "http://127.0.0.1:9", "api_key": "x"}, ["http://127.0.0.1:9", "doesn't answer"]),
    ],
)
def test_no_cluster_is_one_clear_error(run: Run, options: dict[str, Any], words: list[str]) -> None:
    result = run("exposures", exposures=[HTTP], **options)
    assert result["failed"]
    assert "Traceback" not in result["msg"]
    for word in words:
        assert word in result["msg"]


def test_finds_the_only_gateway_and_its_labels(run: Run, server: Server) -> None:
    found = server.objects.pop(("", "Service", "istio-system", "istio-ingressgateway"))
    found["metadata"]["name"] = "edge"
    found["spec"]["selector"] = {"app": "edge", "istio": "ingress"}
    server.objects["", "Service", "istio-system", "edge"] = found
    server.objects["", "Pod", "istio-system", "gateway-1"]["metadata"]["labels"] = found["spec"]["selector"]
    run("exposures", exposures=[HTTP])
    gateways = [item for key, item in server.objects.items() if key[1] == "Gateway"]
    assert [item["spec"]["selector"] for item in gateways] == [{"app": "edge", "istio": "ingress"}]
