"""The module installation, whole: against an API server in memory, with stand-ins for istioctl and Helm."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from memory_api import Server
from memory_api.server import StatusError

from .conftest import ADMISSION, Program, RunModule, config_map, istiod

Json = dict[str, Any]


def installed(run: RunModule, istioctl: Program, **options: Any) -> Json:
    return run("installation", executable=str(istioctl.path), **({"wait_timeout": 0} | options))


def by_helm(run: RunModule, helm: Program, **options: Any) -> Json:
    given = {"method": "helm", "executable": str(helm.path), "charts": str(helm.folder / "charts"), "wait_timeout": 0}
    return run("installation", **(given | options))


def verbs(result: Json) -> dict[str, str]:
    return {f"{each['kind']} {each['name']}": each["verb"] for each in result["changes"]}


def test_check_mode_on_an_empty_cluster_says_what_would_be_done(
    run: RunModule, istioctl: Program, server: Server
) -> None:
    result = installed(run, istioctl, check=True)
    assert result["changed"]
    assert verbs(result) == {
        "Namespace istio-system": "create",
        "Deployment istiod": "create",
        "ConfigMap istio": "create",
        "MutatingWebhookConfiguration istio-revision-tag-default": "create",
    }
    assert server.writes() == []
    assert istioctl.calls("install") == []
    assert result["images"] == ["h/pilot:t"]


def test_a_second_run_changes_nothing(run: RunModule, istioctl: Program, server: Server) -> None:
    assert installed(run, istioctl)["changed"]
    server.log.clear()
    result = installed(run, istioctl)
    assert not result["changed"], result["diff"]
    assert server.writes() == []
    assert len(istioctl.calls("install")) == 1


def test_the_operator_is_what_istioctl_gets(run: RunModule, istioctl: Program) -> None:
    installed(run, istioctl, edges=["n1", "n2"], gateways=[{"name": "blue"}], values={"pilot": {"a": 1}}, hub="h")
    (call,) = istioctl.calls("install")
    operator = yaml.safe_load(call["input"])
    assert operator["spec"]["hub"] == "h"
    assert operator["spec"]["values"]["pilot"] == {"a": 1}
    assert operator["spec"]["components"]["ingressGateways"][0]["k8s"]["replicaCount"] == 2


def test_one_changed_value_is_shown_and_written(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    istioctl.renders([istiod(), config_map("istio", "b")])
    result = installed(run, istioctl, check=True)
    assert verbs(result) == {"ConfigMap istio": "update"}
    (difference,) = result["diff"]
    assert "key: a" in difference["before"]
    assert "key: b" in difference["after"]
    assert "managedFields" not in difference["after"]
    assert installed(run, istioctl)["changed"]
    assert (server.get("ConfigMap", "istio-system", "istio") or {})["data"] == {"key": "b"}


def test_what_somebody_changed_by_hand_is_a_difference(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    server.apply(config_map("istio", "by hand"), "kubectl", force=True)
    assert verbs(installed(run, istioctl, check=True)) == {"ConfigMap istio": "update"}


def test_what_others_add_is_none(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    more = config_map("istio", "a")
    more["data"] = {"mine": "too"}
    server.apply(more, "kubectl")
    assert not installed(run, istioctl)["changed"]


def test_an_object_that_is_rendered_no_longer_is_shown_as_removed(run: RunModule, istioctl: Program) -> None:
    istioctl.renders([istiod(), config_map("istio", "a"), config_map("old", "a")])
    installed(run, istioctl)
    istioctl.renders([istiod(), config_map("istio", "a")])
    assert verbs(installed(run, istioctl, check=True)) == {"ConfigMap old": "delete"}


def test_what_another_version_installed_is_left_over_too(run: RunModule, istioctl: Program, server: Server) -> None:
    istioctl.renders([istiod(), config_map("istio", "a"), config_map("old", "a")])
    installed(run, istioctl)
    labels = server.objects["", "ConfigMap", "istio-system", "old"]["metadata"]["labels"]
    labels["operator.istio.io/version"] = "1.30.2"
    istioctl.renders([istiod(), config_map("istio", "a")])
    assert verbs(installed(run, istioctl)) == {"ConfigMap old": "delete"}
    assert server.get("ConfigMap", "istio-system", "old") is None
    assert not installed(run, istioctl)["changed"]


def test_an_installation_that_was_cut_short_is_gone_on_with(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    for key in [each for each in server.objects if each[3] == "istio-revision-tag-default"]:
        del server.objects[key]
    result = installed(run, istioctl)
    assert verbs(result) == {"MutatingWebhookConfiguration istio-revision-tag-default": "create"}
    assert not installed(run, istioctl)["changed"]


def test_an_edge_that_is_no_node_is_refused_before_anything(run: RunModule, istioctl: Program, server: Server) -> None:
    result = installed(run, istioctl, gateways=[{"name": "a", "edges": ["n1", "n9"]}])
    assert result["failed"]
    assert result["msg"].startswith("edges: n9 is no node of the cluster; it has n1, n2.")
    assert server.writes() == []


def test_a_foreign_istio_is_left_alone_until_adopted(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    live = server.get("Deployment", "istio-system", "istiod")
    assert live is not None
    server.objects["apps", "Deployment", "istio-system", "istiod"]["metadata"]["labels"][
        "install.operator.istio.io/owning-resource"
    ] = "unknown"
    server.log.clear()
    result = installed(run, istioctl)
    assert result["problems"][0]["path"] == "adopt"
    assert server.writes() == []
    assert verbs(installed(run, istioctl, adopt=True)) == {"Deployment istiod": "update"}
    assert not installed(run, istioctl)["changed"]


def test_what_only_an_adopted_istio_had_goes_and_its_gateways_stay(
    run: RunModule, istioctl: Program, server: Server
) -> None:
    installed(run, istioctl)
    server.objects["apps", "Deployment", "istio-system", "istiod"]["metadata"]["labels"][
        "install.operator.istio.io/owning-resource"
    ] = "unknown"
    by_others = {
        "operator.istio.io/managed": "Reconcile",
        "install.operator.istio.io/owning-resource": "unknown",
        "istio.io/rev": "default",
    }
    for name, component, more in (
        ("tuning", "Pilot", {}),
        ("of-a-gateway", "IngressGateways", {}),
        ("of-another-revision", "Pilot", {"istio.io/rev": "next"}),
        ("kept", "Pilot", {"install.operator.istio.io/owning-resource-not-pruned": "true"}),
    ):
        added = config_map(name, "x")
        added["metadata"]["labels"] = {**by_others, "operator.istio.io/component": component, **more}
        server.add(added)
    for name in ("listed", "not-listed"):
        labels = {**by_others, "operator.istio.io/component": "IngressGateways"}
        metadata = {"name": name, "namespace": "istio-system", "labels": labels}
        server.add({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata})
    listed: Json = {"adopt": True, "gateways": [{"name": "listed"}]}
    assert verbs(installed(run, istioctl, check=True, **listed))["ConfigMap tuning"] == "delete"
    assert server.get("ConfigMap", "istio-system", "tuning")
    result = verbs(installed(run, istioctl, **listed))
    assert result == {
        "Deployment istiod": "update",
        "ConfigMap tuning": "delete",
        "HorizontalPodAutoscaler listed": "delete",
    }
    assert server.get("HorizontalPodAutoscaler", "istio-system", "not-listed")
    maps = [name for name in left(server) if name.startswith("ConfigMap")]
    assert maps == ["ConfigMap istio", "ConfigMap kept", "ConfigMap of-a-gateway", "ConfigMap of-another-revision"]
    assert not installed(run, istioctl, adopt=True)["changed"]


def test_an_older_version_is_refused(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    labels = server.objects["apps", "Deployment", "istio-system", "istiod"]["metadata"]["labels"]
    labels["operator.istio.io/version"] = "1.32.0"
    assert installed(run, istioctl)["msg"].startswith("executable: Istio 1.32.0 would be replaced by the older 1.31.0.")
    assert installed(run, istioctl, any_version=True)["changed"]


def test_an_error_of_the_precheck_stops_and_a_warning_warns(run: RunModule, istioctl: Program, server: Server) -> None:
    istioctl.says("precheck", [{"level": "Error", "message": "too old a cluster"}])
    assert "too old a cluster" in installed(run, istioctl)["msg"]
    assert server.writes() == []
    istioctl.says("precheck", [{"level": "Warning", "message": "beware"}])
    assert installed(run, istioctl)["changed"]


def test_what_istioctl_says_when_it_fails_is_quoted_without_its_ships(run: RunModule, istioctl: Program) -> None:
    istioctl.says("fail", {"install": "  /____\\\n- Processing\n✘ Istiod encountered an error: no room\nmore"})
    message = installed(run, istioctl)["msg"]
    assert message.startswith("istioctl install failed (exit code 1): ✘ Istiod encountered an error: no room")
    assert "____" not in message


def test_a_program_that_is_not_there_is_named(run: RunModule) -> None:
    assert run("installation", executable="/nowhere/istioctl")["msg"].startswith("executable: /nowhere/istioctl")


def test_a_rollout_that_does_not_end_says_why(run: RunModule, istioctl: Program, server: Server) -> None:
    deployment = istiod()
    deployment["spec"]["replicas"] = 1
    istioctl.renders([deployment])
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    metadata = {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}}
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no h/pilot:t"}}}
    server.objects["", "Pod", "istio-system", "istiod-1"]["status"] = {"containerStatuses": [waiting]}
    result = installed(run, istioctl, wait_timeout=1)
    assert result["failed"]
    assert "Deployment istio-system/istiod: 0 of 1 pods ready" in result["msg"]
    assert "istiod-1: ImagePullBackOff no h/pilot:t" in result["msg"]
    again = installed(run, istioctl, wait_timeout=1)
    assert not again.get("failed"), "an unchanged run doesn't wait for an edge that is down"
    assert any("0 of 1 pods ready" in str(each) for each in again["warnings"])


def test_only_the_named_gateways_move_to_another_revision(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    for name, revision in (("a", "default"), ("b", "next")):
        gateway = istiod()
        gateway["metadata"] = {"name": name, "namespace": "istio-system", "labels": {"istio.io/rev": revision}}
        server.add(gateway)
    gateways = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    for move, expected in (([], ["b"]), (["a"], ["a", "b"]), (None, ["a", "b", "c"])):
        more = {} if move is None else {"move_gateways": move}
        installed(run, istioctl, gateways=gateways, revision="next", check=True, **more)
        operator = yaml.safe_load(istioctl.calls("manifest")[-1]["input"])
        assert [each["name"] for each in operator["spec"]["components"]["ingressGateways"]] == expected


def test_moving_back_leaves_the_control_plane_as_it_is(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    tag = server.objects[ADMISSION, "MutatingWebhookConfiguration", "", "istio-revision-tag-default"]
    tag["metadata"]["labels"]["istio.io/rev"] = "next"
    gateway = istiod()
    gateway["metadata"] = {"name": "a", "namespace": "istio-system", "labels": {"istio.io/rev": "next"}}
    server.add(gateway)
    istioctl.renders([istiod(), config_map("istio", "b")])
    server.objects["apps", "Deployment", "istio-system", "istiod"]["status"] = {"observedGeneration": 99}
    # The tag, too, stays where it is until a gateway has moved
    assert not installed(run, istioctl, gateways=[{"name": "a"}], move_gateways=[])["changed"]
    assert installed(run, istioctl, gateways=[{"name": "a"}], move_gateways=["a"])["changed"]
    assert len(istioctl.calls("install")) == 2
    server.objects["apps", "Deployment", "istio-system", "istiod"]["status"] = {}
    server.objects["", "ConfigMap", "istio-system", "istio"]["data"] = {}
    assert installed(run, istioctl, gateways=[{"name": "a"}], move_gateways=[])["changed"], (
        "one cut short is gone on with"
    )


@pytest.mark.parametrize("version", ["1.30.4", "1.31.1"])
def test_moving_to_a_revision_of_another_version_is_refused(
    run: RunModule, istioctl: Program, server: Server, version: str
) -> None:
    installed(run, istioctl)
    labels = server.objects["apps", "Deployment", "istio-system", "istiod"]["metadata"]["labels"]
    labels["operator.istio.io/version"] = version
    server.log.clear()
    message = installed(run, istioctl, move_gateways=[], any_version=True)["msg"]
    assert message.startswith(
        f"executable: revision default is Istio {version}, and this would make it 1.31.0. To go back"
    )
    assert f"take the istioctl or the charts of {version}" in message
    assert server.writes() == []


def test_an_existing_istio_is_looked_at_only(run: RunModule, istioctl: Program, server: Server) -> None:
    assert run("installation", method="existing")["msg"].startswith("method: there is no Istio of revision default")
    installed(run, istioctl)
    server.log.clear()
    result = run("installation", method="existing")
    assert (result["changed"], result["version"]) == (False, "1.31.0")
    assert "no Service istio-system/a" in run("installation", method="existing", gateways=[{"name": "a"}])["msg"]
    assert run("installation", method="existing", state="absent")["failed"]
    assert server.writes() == []


def test_rendering_needs_no_cluster(run: RunModule, istioctl: Program, server: Server) -> None:
    server.stop()
    result = run("installation", executable=str(istioctl.path), state="rendered")
    assert [each["kind"] for each in result["manifests"]] == ["Deployment", "ConfigMap"]


# --- by Helm ---


def test_helm_installs_each_release_and_then_changes_nothing(run: RunModule, helm: Program, server: Server) -> None:
    assert by_helm(run, helm)["changed"]
    assert [each["arguments"][1] for each in helm.calls("upgrade")] == ["istio-base", "istiod"]
    server.log.clear()
    result = by_helm(run, helm)
    assert not result["changed"], result["diff"]
    assert server.writes() == []


def test_helm_upgrades_only_what_changed(run: RunModule, helm: Program) -> None:
    by_helm(run, helm)
    rendered = yaml.safe_load((helm.folder / "rendered.json").read_text())
    rendered["istiod"][1]["data"]["key"] = "b"
    helm.renders(rendered)
    assert verbs(by_helm(run, helm, check=True)) == {"ConfigMap istio": "update"}
    by_helm(run, helm)
    assert [each["arguments"][1] for each in helm.calls("upgrade")] == ["istio-base", "istiod", "istiod"]


def test_helm_removes_a_gateway_that_left_the_list(run: RunModule, helm: Program) -> None:
    rendered = yaml.safe_load((helm.folder / "rendered.json").read_text())
    helm.renders(rendered | {"blue": [config_map("blue", "a")]})
    by_helm(run, helm, gateways=[{"name": "blue"}])
    assert verbs(by_helm(run, helm, check=True)) == {"Release blue": "delete"}
    by_helm(run, helm)
    assert [each["arguments"][1] for each in helm.calls("uninstall")] == ["blue"]


def test_helm_installs_a_failed_release_again(run: RunModule, helm: Program) -> None:
    by_helm(run, helm)
    releases = yaml.safe_load((helm.folder / "releases.json").read_text())
    releases["istiod"]["status"] = "failed"
    helm.says("releases", releases)
    assert verbs(by_helm(run, helm, check=True)) == {"Release istiod": "update"}


@pytest.mark.parametrize(("status", "undo"), [("pending-install", "uninstall"), ("pending-upgrade", "rollback")])
def test_a_release_that_helm_was_ended_in_is_named_with_its_cure(
    run: RunModule, helm: Program, status: str, undo: str
) -> None:
    by_helm(run, helm)
    releases = yaml.safe_load((helm.folder / "releases.json").read_text())
    releases["istiod"]["status"] = status
    helm.says("releases", releases)
    message = by_helm(run, helm, check=True)["msg"]
    assert message.startswith(f"Release istiod (namespace istio-system) is {status}:")
    assert f"run helm {undo} istiod --namespace=istio-system" in message


def test_a_setting_that_helm_3_would_take_away_is_seen(run: RunModule, helm: Program, server: Server) -> None:
    """Its fields aren't applied, so that nothing that is applied takes them away."""
    by_helm(run, helm)
    rendered = yaml.safe_load((helm.folder / "rendered.json").read_text())
    releases = yaml.safe_load((helm.folder / "releases.json").read_text())
    for each in (server.objects["", "ConfigMap", "istio-system", "istio"], releases["istiod"]["objects"][1]):
        each["data"]["more"] = "b"
    helm.says("releases", releases)
    result = by_helm(run, helm, check=True)
    assert verbs(result) == {"ConfigMap istio": "update"}
    assert "more: b" in result["diff"][0]["before"]
    assert "more: b" not in result["diff"][0]["after"]
    assert rendered["istiod"][1]["data"] == {"key": "a"}


def test_a_service_whose_class_cannot_be_set_any_more_has_a_cure(
    run: RunModule, istioctl: Program, server: Server
) -> None:
    metadata = {"name": "istio-ingressgateway", "namespace": "istio-system"}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    server.add(service)
    istioctl.renders([istiod(), service])

    def immutable(request: Any) -> None:
        if request.method == "PATCH" and request.path.endswith("/istio-ingressgateway"):
            raise StatusError(422, "Invalid", "spec.loadBalancerClass: Invalid value: may not change once set")

    server.before = immutable
    message = installed(run, istioctl)["msg"]
    assert message.startswith("gateways: Service istio-system/istio-ingressgateway is a LoadBalancer already")
    assert 'load_balancer_class of that gateway to the class it has, "" if it has none' in message


def test_helm_takes_over_only_what_is_ours_or_adopted(run: RunModule, helm: Program, server: Server) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "istio-reader"}}
    server.add(role)
    result = by_helm(run, helm)
    assert result["problems"][0]["path"] == "adopt"
    assert helm.calls("upgrade") == []
    by_helm(run, helm, adopt=True)
    taking = [each["arguments"][1] for each in helm.calls("upgrade") if "--take-ownership" in each["arguments"]]
    assert taking == ["istio-base"]


def test_helm_and_istioctl_keep_off_each_others_istio(run: RunModule, helm: Program, istioctl: Program) -> None:
    by_helm(run, helm)
    assert installed(run, istioctl)["problems"][0] == {
        "path": "method",
        "message": "Istio (namespace istio-system, revision default) was installed by helm, not by istioctl",
        "cure": "Set it to helm",
    }


def test_a_chart_that_is_nowhere_is_named(run: RunModule, helm: Program) -> None:
    assert "has no chart istiod" in by_helm(run, helm, charts="/nowhere")["msg"]


# --- away again ---


def left(server: Server) -> list[str]:
    """What is there, without what every namespace has and Kubernetes takes away with it."""
    return sorted(f"{key[1]} {key[3]}" for key in server.objects if key[3] not in ("default", "kube-root-ca.crt"))


@pytest.fixture
def before(server: Server) -> list[str]:
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return left(server)


CA_KEY = "cHJpdmF0ZQ=="


def made_by_istiod(server: Server) -> None:
    # One that istiod gives up when it ends has no holder any more
    for name, holder in (("istio-leader", "istiod-1"), ("istio-status-leader", "")):
        leader = config_map(name, "x")
        note = json.dumps({"holderIdentity": holder})
        leader["metadata"]["annotations"] = {"control-plane.alpha.kubernetes.io/leader": note}
        server.add(leader)
    for namespace in ("istio-system", "shop"):
        root = config_map("istio-ca-root-cert", "x", namespace)
        root["metadata"]["labels"] = {"istio.io/config": "true"}
        server.add(root)
    secret = {"name": "istio-ca-secret", "namespace": "istio-system"}
    server.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": {"ca-key.pem": CA_KEY}})
    # What every namespace has
    server.add(config_map("kube-root-ca.crt", "x"))
    account = {"name": "default", "namespace": "istio-system"}
    server.add({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    group = "gateway.networking.k8s.io/v1"
    spec = {"controllerName": "istio.io/gateway-controller"}
    server.add({"apiVersion": group, "kind": "GatewayClass", "metadata": {"name": "istio"}, "spec": spec})


@pytest.mark.parametrize("method", ["istioctl", "helm"])
def test_nothing_is_left(
    method: str, run: RunModule, istioctl: Program, helm: Program, server: Server, before: list[str]
) -> None:
    install = {
        "istioctl": lambda **more: installed(run, istioctl, **more),
        "helm": lambda **more: by_helm(run, helm, **more),
    }
    install[method]()
    made_by_istiod(server)
    server.log.clear()
    check = install[method](state="absent", check=True)
    assert check["changed"]
    assert server.writes() == []
    gone = install[method](state="absent")
    assert gone["changed"]
    assert left(server) == before
    for result in (check, gone):
        assert "ca-key.pem: hidden" in str(result["diff"])
        assert CA_KEY not in json.dumps(result)
    assert not install[method](state="absent")["changed"]


def test_a_namespace_in_which_a_user_has_something_stays(
    run: RunModule, istioctl: Program, server: Server, before: list[str]
) -> None:
    installed(run, istioctl)
    server.add({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-cert", "namespace": "istio-system"}})
    installed(run, istioctl, state="absent")
    assert left(server) == sorted([*before, "Namespace istio-system", "Secret shop-cert"])


def test_a_namespace_that_was_there_before_stays(run: RunModule, istioctl: Program, server: Server) -> None:
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    installed(run, istioctl)
    installed(run, istioctl, state="absent")
    assert "Namespace istio-system" in left(server)


def definition(name: str, labels: Json) -> Json:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "labels": labels},
        "spec": {"group": name.partition(".")[2]},
    }


def test_definitions_go_only_when_told_and_only_ours(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    ours = {"install.operator.istio.io/owning-resource": "edgeway"}
    server.add(definition("gateways.networking.istio.io", ours))
    server.add(definition("sidecars.networking.istio.io", {}))
    installed(run, istioctl, state="absent")
    assert "CustomResourceDefinition gateways.networking.istio.io" in left(server)
    installed(run, istioctl, state="absent", remove_definitions=True)
    assert "CustomResourceDefinition gateways.networking.istio.io" not in left(server)
    assert "CustomResourceDefinition sidecars.networking.istio.io" in left(server)


def test_a_foreign_istio_is_not_removed(run: RunModule, istioctl: Program, server: Server) -> None:
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    server.add(istiod())
    assert "was installed by another program, not by us" in installed(run, istioctl, state="absent")["msg"]
    assert "Deployment istiod" in left(server)


def test_a_control_plane_in_use_is_removed_only_when_told(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    notes = {"sidecar.istio.io/status": '{"revision":"default"}'}
    pod = {"name": "shop-1", "namespace": "shop", "annotations": notes}
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": []}})
    message = installed(run, istioctl, state="absent")["msg"]
    assert message.startswith("state: 1 pod (shop/shop-1) still need Istio of revision default.")
    assert "Deployment istiod" in left(server)
    assert installed(run, istioctl, state="absent", in_use=True)["changed"]


def test_the_other_revision_and_what_they_share_stay(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    second = istiod()
    second["metadata"]["name"] = "istiod-next"
    istioctl.renders([second])
    installed(run, istioctl, revision="next")
    shared = copy.deepcopy(server.objects["", "ConfigMap", "istio-system", "istio"])
    shared["metadata"] |= {
        "name": "reader",
        "labels": shared["metadata"]["labels"] | {"operator.istio.io/component": "Base"},
    }
    server.objects["", "ConfigMap", "istio-system", "reader"] = shared
    installed(run, istioctl, state="absent")
    names = left(server)
    assert "Deployment istiod" not in names
    assert "ConfigMap istio" not in names
    assert {"Deployment istiod-next", "ConfigMap reader", "Namespace istio-system"} <= set(names)


def api_gateway(name: str, class_name: str, namespace: str = "shop") -> Json:
    group = "gateway.networking.k8s.io/v1"
    spec = {"gatewayClassName": class_name, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    return {"apiVersion": group, "kind": "Gateway", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_gateways_of_the_gateway_api_need_istio_too(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    for number in range(4):
        server.add(api_gateway(f"g{number}", "istio"))
    server.add(api_gateway("theirs", "nginx"))
    result = installed(run, istioctl, state="absent")
    assert "4 Gateways (shop/g0, shop/g1, shop/g2, ...) still need Istio of revision default" in result["msg"]
    assert "in_use" in result["msg"]
    assert "Deployment istiod" in left(server)


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"sidecar.istio.io/status": "{"},
        {"sidecar.istio.io/status": "null"},
        {"sidecar.istio.io/status": '{"revision":"next"}'},
    ],
)
def test_pods_without_its_sidecar_do_not_need_it(
    run: RunModule, istioctl: Program, server: Server, notes: Json
) -> None:
    installed(run, istioctl)
    server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    pod = {"name": "shop-1", "namespace": "shop", "annotations": notes}
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": []}})
    assert installed(run, istioctl, state="absent")["changed"]


def proxy(name: str, labels: Json, notes: Json, **spec: Any) -> Json:
    metadata = {"name": name, "namespace": "istio-system", "labels": labels, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [], **spec}}


INJECTED = {"sidecar.istio.io/status": '{"revision":"default"}', "inject.istio.io/templates": "gateway"}
BARE = {"containers": [{"name": "istio-proxy", "image": "h/proxyv2:t"}]}


@pytest.mark.parametrize("method", ["istioctl", "helm"])
def test_gateways_that_go_do_not_need_it_and_those_of_others_do(
    method: str, run: RunModule, istioctl: Program, helm: Program, server: Server
) -> None:
    blue = istiod()
    blue["metadata"] = {"name": "blue", "namespace": "istio-system"}
    blue["spec"]["selector"] = {"matchLabels": {"app": "blue"}}
    if method == "helm":
        rendered = yaml.safe_load((helm.folder / "rendered.json").read_text())
        helm.renders(rendered | {"blue": [blue]})
        by_helm(run, helm, gateways=[{"name": "blue"}])
    else:
        istioctl.renders([istiod(), blue])
        installed(run, istioctl)

    def remove(**more: Any) -> Json:
        options = {"state": "absent", **more}
        return by_helm(run, helm, **options) if method == "helm" else installed(run, istioctl, **options)

    server.add(proxy("blue-1", {"app": "blue"}, INJECTED))
    assert remove(check=True)["changed"]
    for name, pod in (
        ("injected-1", proxy("injected-1", {"app": "theirs"}, INJECTED)),
        ("bare-1", proxy("bare-1", {"app": "theirs", "istio.io/rev": "default"}, {}, **BARE)),
    ):
        server.add(pod)
        assert remove()["msg"].startswith(f"state: 1 pod (istio-system/{name}) still need Istio of revision default.")
        del server.objects["", "Pod", "istio-system", name]
    named = {"istio.io/rev": "default", "gateway.networking.k8s.io/gateway-name": "theirs"}
    server.add(proxy("of-a-gateway", named, {}, **BARE))
    assert remove(check=True)["changed"]


def definition_of(manifest: Json) -> Json:
    """The definition by which the API server knows such an object, if it needs one."""
    group, _slash, version = manifest["apiVersion"].rpartition("/")
    plural = manifest["kind"].lower() + "s"
    return definition(f"{plural}.{group or 'none'}", {}) | {
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": manifest["kind"], "plural": plural},
            "versions": [{"name": version, "served": True}],
        }
    }


PEERS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "peerauthentications.security.istio.io"},
    "spec": {
        "group": "security.istio.io",
        "scope": "Namespaced",
        "names": {"kind": "PeerAuthentication", "plural": "peerauthentications"},
        "versions": [{"name": "v1", "served": True}, {"name": "v1alpha1", "served": False}],
    },
}


def peers(name: str) -> Json:
    metadata = {"name": name, "namespace": "istio-system"}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": {}}


def test_a_users_object_of_any_definition_keeps_its_namespace_and_is_named(
    run: RunModule, istioctl: Program, server: Server
) -> None:
    ours = {"install.operator.istio.io/owning-resource": "edgeway"}
    server.add(copy.deepcopy(PEERS) | {"metadata": PEERS["metadata"] | {"labels": ours}})
    installed(run, istioctl)
    server.add(peers("strict"))
    told = "Namespace istio-system stays: PeerAuthentication strict."
    assert told in str(installed(run, istioctl, state="absent", check=True)["warnings"])
    # With its definition it goes itself
    away = installed(run, istioctl, state="absent", check=True, remove_definitions=True)
    assert "Namespace istio-system" in verbs(away)
    assert told in str(installed(run, istioctl, state="absent")["warnings"])
    assert {"Namespace istio-system", "PeerAuthentication strict"} <= set(left(server))


def test_what_may_not_be_listed_keeps_a_namespace(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)

    def forbid(request: Any) -> None:
        if request.path.endswith("/istio-system/jobs"):
            raise StatusError(403, "Forbidden", "jobs is forbidden")

    server.before = forbid
    result = installed(run, istioctl, state="absent")
    assert "Namespace istio-system stays: jobs can't be listed." in str(result["warnings"])
    assert "Namespace istio-system" in left(server)


def test_a_token_goes_with_its_account(run: RunModule, istioctl: Program, server: Server) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "istio-system"}}
    istioctl.renders([istiod(), account])
    installed(run, istioctl)
    notes = {"kubernetes.io/service-account.name": "a"}
    secret = {"name": "a-token", "namespace": "istio-system", "annotations": notes}
    kind = "kubernetes.io/service-account-token"
    server.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "type": kind})
    assert "Namespace istio-system" in verbs(installed(run, istioctl, state="absent", check=True))
    server.add({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account["metadata"] | {"name": "b"}})
    server.objects["", "Secret", "istio-system", "a-token"]["metadata"]["annotations"] = {next(iter(notes)): "b"}
    result = installed(run, istioctl, state="absent", check=True)
    assert "Namespace istio-system stays: ServiceAccount b, Secret a-token." in str(result["warnings"])


def test_every_revision_of_ours_goes_at_once(
    run: RunModule, istioctl: Program, server: Server, before: list[str]
) -> None:
    installed(run, istioctl)
    second = istiod()
    second["metadata"]["name"] = "istiod-next"
    istioctl.renders([second])
    installed(run, istioctl, revision="next")
    made_by_istiod(server)
    server.add(proxy("a-1", {}, {"sidecar.istio.io/status": '{"revision":"default"}'}))
    options = {"state": "absent", "revision": "next", "every_revision": True}
    assert "still need Istio of revision next, default" in installed(run, istioctl, **options)["msg"]
    del server.objects["", "Pod", "istio-system", "a-1"]
    assert installed(run, istioctl, **options)["changed"]
    assert left(server) == before


def test_every_revision_of_ours_goes_at_once_by_helm(run: RunModule, helm: Program, server: Server) -> None:
    by_helm(run, helm)
    second = istiod()
    second["metadata"] |= {"name": "istiod-next"}
    second["metadata"]["labels"] |= {
        "install.operator.istio.io/owning-resource": "edgeway", "istio.io/rev": "next",
    }  # fmt: skip
    rendered = yaml.safe_load((helm.folder / "rendered.json").read_text())
    helm.renders({"istio-base": rendered["istio-base"], "istiod-next": [second]})
    by_helm(run, helm, revision="next")
    by_helm(run, helm, state="absent", revision="next", every_revision=True)
    assert [each["arguments"][1] for each in helm.calls("uninstall")] == ["istiod", "istiod-next", "istio-base"]


def test_what_the_other_program_installed_is_told(
    run: RunModule, istioctl: Program, helm: Program, server: Server
) -> None:
    by_helm(run, helm)
    assert installed(run, istioctl, state="absent")["msg"].startswith(
        "method: Istio (namespace istio-system, revision default) was installed by helm."
    )
    result = installed(run, istioctl, state="absent", revision="next", every_revision=True)
    assert "revision default) is ours and stays" in str(result["warnings"])


@pytest.mark.parametrize(
    "theirs",
    [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "istio-system"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
         "metadata": {"name": "robot", "namespace": "istio-system"}, "rules": []},
        api_gateway("edge", "nginx", "istio-system"),
        {"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
         "metadata": {"name": "edge", "namespace": "istio-system"}, "spec": {"servers": []}},
        {"apiVersion": "v1", "kind": "Secret",
         "metadata": {"name": "sh.helm.release.v1.shop.v1", "namespace": "istio-system",
                      "labels": {"owner": "helm", "name": "shop"}}},
    ],
    ids=["a ServiceAccount", "a Role", "a Gateway of another class", "a Gateway of Istio's API", "a release of Helm"],
)  # fmt: skip
def test_a_namespace_with_somebody_elses_object_stays(
    run: RunModule, istioctl: Program, server: Server, theirs: Json
) -> None:
    server.add(definition_of(theirs))
    installed(run, istioctl)
    server.add(theirs)
    installed(run, istioctl, state="absent")
    assert "Namespace istio-system" in left(server)
    assert f"{theirs['kind']} {theirs['metadata']['name']}" in left(server)


def test_what_goes_with_its_owner_or_is_going_already_keeps_no_namespace(
    run: RunModule, istioctl: Program, server: Server
) -> None:
    installed(run, istioctl)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "istiod-1", "uid": "1"}
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    for name, more in (("istiod-1-a", {"ownerReferences": [owner]}), ("leaving", going)):
        server.add({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "istio-system"},
                    "spec": {"containers": []}})  # fmt: skip
        server.objects["", "Pod", "istio-system", name]["metadata"] |= more
    installed(run, istioctl, state="absent")
    assert "Namespace istio-system" not in left(server)


def test_what_does_not_go_is_named(run: RunModule, istioctl: Program, server: Server) -> None:
    installed(run, istioctl)
    stuck = copy.deepcopy(server.objects["apps", "Deployment", "istio-system", "istiod"])

    def stays(request: Any) -> None:
        if request.method == "DELETE" and request.path.endswith("/deployments/istiod"):
            server.objects["apps", "Deployment", "istio-system", "istiod"] = stuck

    server.after = stays
    result = installed(run, istioctl, state="absent", wait_timeout=1)
    assert "After 1 s there still is Deployment istiod. Look at its finalizers." in result["msg"]
    # Who doesn't want to wait is told nothing, and it goes when it goes
    assert installed(run, istioctl, state="absent", wait_timeout=0)["changed"]
