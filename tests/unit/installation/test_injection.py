"""Namespaces whose pods get a sidecar, against an API server in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _injection
from memory_api import Server

from .conftest import RunModule

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def namespaces(server: Server) -> None:
    for name, labels in (
        ("shop", {}),
        ("db", {}),
        ("off", {"istio-injection": "disabled"}),
        ("rev", {"istio.io/rev": "x"}),
    ):
        server.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def labels(server: Server, name: str) -> Json:
    found = server.get("Namespace", "", name)
    assert found is not None
    return {key: value for key, value in (found["metadata"].get("labels") or {}).items() if "istio" in key}


def test_a_namespace_gets_the_label_and_loses_it_when_it_leaves_the_list(run: RunModule, server: Server) -> None:
    assert run("injection", namespaces=["shop"])["changed"]
    assert labels(server, "shop") == {"istio-injection": "enabled"}
    assert not run("injection", namespaces=["shop"])["changed"]
    result = run("injection", namespaces=[])
    assert [each["name"] for each in result["changes"]] == ["shop"]
    assert labels(server, "shop") == {}


def test_check_mode_changes_nothing(run: RunModule, server: Server) -> None:
    result = run("injection", namespaces=["shop"], check=True)
    assert result["changed"]
    assert result["diff"] == {"before": "shop: no label\n", "after": "shop: istio-injection=enabled\n"}
    assert server.writes() == []


def test_another_revision_takes_the_place_of_the_default_one(run: RunModule, server: Server) -> None:
    run("injection", namespaces=["shop"])
    run("injection", namespaces=["shop"], revision="next")
    assert labels(server, "shop") == {"istio.io/rev": "next"}


def test_a_label_that_somebody_else_set_stays(run: RunModule, server: Server) -> None:
    assert not run("injection", namespaces=[])["changed"]
    assert labels(server, "off") == {"istio-injection": "disabled"}
    assert not run("injection", namespaces=["rev"], revision="x")["changed"]
    run("injection", namespaces=[])
    assert labels(server, "rev") == {"istio.io/rev": "x"}


def test_all_namespaces_that_cannot_have_theirs_are_named_at_once(run: RunModule) -> None:
    result = run("injection", namespaces=["shop", "off", "nowhere", "rev"])
    assert [each["path"] for each in result["problems"]] == ["namespaces[1]", "namespaces[2]", "namespaces[3]"]
    assert "somebody else labelled off istio-injection=disabled" in result["msg"]
    assert "there is no namespace nowhere" in result["msg"]


def workload(server: Server, name: str, revision: str | None, **pod: Any) -> None:
    """A Deployment, its ReplicaSet and a pod with a sidecar of a revision."""
    place = {"namespace": "shop"}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {}, "spec": {}}}
    server.add({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place | {"name": name}, "spec": spec})
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "controller": True, "uid": "1"}
    replicas = place | {"name": f"{name}-1", "ownerReferences": [owner]}
    server.add({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": replicas, "spec": spec})
    notes = {"sidecar.istio.io/status": json.dumps({"revision": revision})} if revision else {}
    metadata = place | {"name": f"{name}-1-a", "annotations": notes | pod.pop("annotations", {})}
    metadata["ownerReferences"] = [owner | {"kind": "ReplicaSet", "name": f"{name}-1", "uid": "2"}]
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []} | pod})


def test_only_workloads_without_their_sidecar_are_restarted(run: RunModule, server: Server) -> None:
    workload(server, "bare", None)
    workload(server, "old", "before")
    workload(server, "right", "default")
    workload(server, "host", None, hostNetwork=True)
    workload(server, "unwilling", None, annotations={"sidecar.istio.io/inject": "false"})
    result = run("injection", namespaces=["shop"], restart=True, wait_timeout=0, check=True)
    assert result["restarted"] == ["Deployment shop/bare", "Deployment shop/old"]
    assert "restart Deployment shop/bare\n" in result["diff"]["after"]


def test_a_restart_is_a_new_template(run: RunModule, server: Server) -> None:
    workload(server, "bare", None)
    server.objects["apps", "Deployment", "shop", "bare"]["status"] = {"observedGeneration": 9}
    run("injection", namespaces=["shop"], restart=True, wait_timeout=5)
    live = server.get("Deployment", "shop", "bare")
    assert live is not None
    assert "kubectl.kubernetes.io/restartedAt" in live["spec"]["template"]["metadata"]["annotations"]


def test_without_being_asked_nothing_is_restarted(run: RunModule, server: Server) -> None:
    workload(server, "bare", None)
    assert run("injection", namespaces=["shop"])["restarted"] == []


def test_the_sidecar_of_a_tag_is_that_of_its_revision(run: RunModule, server: Server) -> None:
    tag = {"name": "istio-revision-tag-default", "labels": {"istio.io/tag": "default", "istio.io/rev": "next"}}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    server.add(kind | {"metadata": tag})
    workload(server, "moved", "next")
    workload(server, "behind", "default")
    assert run("injection", namespaces=["shop"], restart=True, check=True)["restarted"] == ["Deployment shop/behind"]


def test_a_namespace_that_leaves_the_list_loses_its_sidecars(run: RunModule, server: Server) -> None:
    run("injection", namespaces=["shop"])
    workload(server, "with", "default")
    assert run("injection", namespaces=[], restart=True, check=True)["restarted"] == ["Deployment shop/with"]


def test_a_pod_that_has_ended_counts_not() -> None:
    pod = {"metadata": {}, "spec": {}, "status": {"phase": "Succeeded"}}
    assert _injection.has_its_sidecar(pod, "default")
    assert not _injection.has_its_sidecar(pod | {"status": {"phase": "Running"}}, "default")


def test_a_pod_says_itself_what_it_wants() -> None:
    for metadata in (
        {"annotations": {"inject.istio.io/templates": "gateway"}},
        {"labels": {"sidecar.istio.io/inject": "true"}},
    ):
        assert _injection.has_its_sidecar({"metadata": metadata, "spec": {}}, "default")
    broken = {"metadata": {"annotations": {"sidecar.istio.io/status": "{"}}, "spec": {}}
    assert not _injection.has_its_sidecar(broken, "default")
    assert _injection.has_its_sidecar(broken, None)


def test_a_label_of_ours_that_somebody_changed_is_a_conflict(run: RunModule, server: Server) -> None:
    run("injection", namespaces=["shop"])
    live = server.objects["", "Namespace", "", "shop"]
    live["metadata"]["labels"]["istio-injection"] = "disabled"
    result = run("injection", namespaces=["shop"])
    assert result["changed"]
    assert labels(server, "shop") == {"istio-injection": "enabled"}


def test_the_same_label_by_somebody_else_is_as_good(run: RunModule, server: Server) -> None:
    server.objects["", "Namespace", "", "db"]["metadata"]["labels"] = {"istio-injection": "enabled"}
    assert not run("injection", namespaces=["db"])["changed"]
    assert not run("injection", namespaces=[])["changed"]
    assert labels(server, "db") == {"istio-injection": "enabled"}


def test_both_labels_of_somebody_else_clash_with_ours(run: RunModule) -> None:
    result = run("injection", namespaces=["rev", "off"], revision="next")
    assert [each["message"] for each in result["problems"]] == [
        "somebody else labelled rev istio.io/rev=x",
        "somebody else labelled off istio-injection=disabled",
    ]


@pytest.mark.parametrize("owner", ["Job", "ReplicaSet", None])
def test_pods_that_nobody_can_start_anew_are_left_alone(run: RunModule, server: Server, owner: str | None) -> None:
    metadata: Json = {"name": "task-1", "namespace": "shop"}
    if owner:
        reference = {"apiVersion": "x/v1", "kind": owner, "name": "task", "uid": "1"}
        # The first isn't the one that keeps it; of the second the ReplicaSet is gone, or on its own
        metadata["ownerReferences"] = [{**reference, "uid": "2"}, {**reference, "controller": True}]
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
    assert run("injection", namespaces=["shop"], restart=True, check=True)["restarted"] == []
    place = {"name": "task", "namespace": "shop"}
    server.add({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": place, "spec": {}})
    assert run("injection", namespaces=["shop"], restart=True, check=True)["restarted"] == []


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_other_workloads_are_restarted_too(run: RunModule, server: Server, kind: str) -> None:
    place = {"name": "store", "namespace": "shop"}
    spec = {"replicas": 0, "selector": {}, "template": {"metadata": {}, "spec": {}}}
    server.add({"apiVersion": "apps/v1", "kind": kind, "metadata": place, "spec": spec})
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": "store", "controller": True, "uid": "1"}
    pod = {"name": "store-0", "namespace": "shop", "ownerReferences": [owner]}
    server.add({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": []}})
    assert run("injection", namespaces=["shop"], restart=True, check=True)["restarted"] == [f"{kind} shop/store"]


def test_a_workload_that_does_not_come_back_is_named(run: RunModule, server: Server) -> None:
    workload(server, "bare", None)
    server.objects["apps", "Deployment", "shop", "bare"]["status"] = {"observedGeneration": 0}
    result = run("injection", namespaces=["shop"], restart=True, wait_timeout=1)
    assert "After 1 s workloads aren't back: Deployment shop/bare" in result["msg"]
