"""What Istio is in a cluster, and what an installer would change."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import gateways


def webhook(kind: str, **hook: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "w"},
        "webhooks": [{"name": "h", **hook}],
    }


def test_labels_that_istioctl_adds_are_kept_and_its_version_is_its_own() -> None:
    live = webhook("ValidatingWebhookConfiguration")
    live["metadata"]["labels"] = {
        "operator.istio.io/version": "1.0",
        "operator.istio.io/component": "Pilot",
        "somebody": "else",
    }
    labels = _installed.owner_labels("istio-system", "", "1.1")
    wanted = _installed.as_installed(webhook("ValidatingWebhookConfiguration"), live, labels)
    assert wanted["metadata"]["labels"] == labels | {"operator.istio.io/component": "Pilot"}
    assert labels["operator.istio.io/version"] == "1.1"
    assert labels["istio.io/rev"] == "default"


@pytest.mark.parametrize(("live", "expected"), [("Fail", "Fail"), ("Ignore", "Ignore")])
def test_the_failure_policy_that_istiod_raised_is_no_difference(live: str, expected: str) -> None:
    kind = "ValidatingWebhookConfiguration"
    wanted = _installed.as_installed(webhook(kind, failurePolicy="Ignore"), webhook(kind, failurePolicy=live), {})
    assert wanted["webhooks"][0]["failurePolicy"] == expected


def test_a_failure_policy_that_the_chart_leaves_to_istiod_is_no_difference() -> None:
    kind = "ValidatingWebhookConfiguration"
    wanted = _installed.as_released(webhook(kind), webhook(kind, failurePolicy="Ignore"), "istio-base", "istio-system")
    assert wanted["webhooks"][0]["failurePolicy"] == "Ignore"


def test_a_release_is_known_by_helms_marks() -> None:
    rendered = webhook("ValidatingWebhookConfiguration")
    wanted = _installed.as_released(rendered, rendered, "istiod", "istio-system")
    assert _installed.is_released(wanted, "istiod", "istio-system")
    assert not _installed.is_released(wanted, "istiod", "mesh")
    assert not _installed.is_released(rendered, "istiod", "istio-system")
    assert wanted["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}


@pytest.mark.parametrize(
    ("tags", "revision", "verb"),
    [
        ([], "", "create"),
        ([], "next", "create"),
        (["default"], "", None),
        (["next"], "", "update"),
        (["default"], "next", None),
        (["next"], "next", None),
    ],
)
def test_the_default_tag_is_pointed_as_istioctl_would(tags: list[str], revision: str, verb: str | None) -> None:
    live = [{"metadata": {"name": "t", "labels": {"istio.io/tag": "default", "istio.io/rev": tag}}} for tag in tags]
    change = _installed.default_tag(live, revision)
    assert (change.verb if change else None) == verb


def test_an_injector_that_a_tag_replaced_stays_replaced() -> None:
    never = {"matchLabels": {"istio.io/deactivated": "never-match"}}
    kind = "MutatingWebhookConfiguration"
    rendered = webhook(kind, objectSelector={"a": 1}, namespaceSelector={"b": 1})
    replaced = webhook(kind, objectSelector=never, namespaceSelector=never)
    assert _installed.as_installed(rendered, replaced, {})["webhooks"] == replaced["webhooks"]
    active = webhook(kind, objectSelector={"c": 1}, namespaceSelector=never)
    assert _installed.as_installed(rendered, active, {})["webhooks"] == rendered["webhooks"]


def test_left_over_is_what_is_labelled_but_rendered_no_longer() -> None:
    old = {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}}
    gone = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}}
    assert _installed.left_over([{**old, "apiVersion": "apps/v1"}], [old, gone]) == [gone]


def test_what_an_earlier_manifest_set_and_the_new_one_does_not_is_lost() -> None:
    hook = {"name": "h", "failurePolicy": "Fail"}
    one, two = {"name": "v", "path": "/1"}, {"name": "v", "path": "/2"}
    before: dict[str, Any] = {
        "a": 1, "gone": {"x": 1}, "none": None, "env": [{"name": "A"}, {"name": "B", "value": "1"}],
        "args": ["-a", "-b"], "mounts": [one, two], "hooks": [hook],
    }  # fmt: skip
    wanted = {"a": 2, "env": [{"name": "B"}], "args": ["-b"], "mounts": [two], "hooks": [hook]}
    after = {"a": 2, "gone": {"x": 1}, "none": 3, "env": [*before["env"], {"name": "theirs"}],
             "args": ["-a", "-b", "-theirs"], "mounts": before["mounts"], "hooks": [hook], "theirs": 1}  # fmt: skip
    assert _installed.without_lost(after, before, wanted) == {
        "a": 2, "none": 3, "env": [{"name": "B"}, {"name": "theirs"}], "args": ["-b", "-theirs"],
        "mounts": [two], "hooks": [hook], "theirs": 1,
    }  # fmt: skip
    assert _installed.without_lost(after, None, wanted) == after


def deployment(**status: int) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "gateway", "namespace": "istio-system", "generation": 2},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "gateway"}}},
        "status": {"observedGeneration": 2, **status},
    }


def test_a_deployment_that_is_fully_rolled_out_is_ready() -> None:
    assert _installed.unready([deployment(replicas=3, readyReplicas=3, updatedReplicas=3)], []) == []


@pytest.mark.parametrize(
    "status",
    [
        {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3},
        {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 2},
        {"replicas": 4, "readyReplicas": 3, "updatedReplicas": 3},
        {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3, "observedGeneration": 1},
        {},
    ],
)
def test_a_deployment_in_the_middle_of_a_rollout_is_not_ready(status: dict[str, int]) -> None:
    assert len(_installed.unready([deployment(**status)], [])) == 1


def pod(name: str, namespace: str = "istio-system", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "gateway", "x": "y"}},
        "status": status,
    }


def test_why_pods_wait_is_told() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    no_image = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pods = [
        pod("p1", conditions=[unscheduled]),
        pod("p2", containerStatuses=[no_image]),
        pod("other", "elsewhere", conditions=[unscheduled]),
    ]
    (line,) = _installed.unready([deployment(replicas=3, readyReplicas=1, updatedReplicas=3)], pods)
    assert line == (
        "Deployment istio-system/gateway: 1 of 3 pods ready "
        "(p1 not scheduled: 0/3 nodes are available; p2: ImagePullBackOff no such image)"
    )


@pytest.mark.parametrize(
    ("ready", "updated", "lines"),
    [(3, 3, 0), (2, 3, 1), (3, 2, 1)],
)
def test_a_daemonset_is_ready_when_every_node_has_the_new_pod(ready: int, updated: int, lines: int) -> None:
    daemon_set = {
        "kind": "DaemonSet",
        "metadata": {"name": "gateway", "namespace": "istio-system", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "gateway"}}},
        "status": {
            "observedGeneration": 1,
            "desiredNumberScheduled": 3,
            "currentNumberScheduled": 3,
            "numberReady": ready,
            "updatedNumberScheduled": updated,
        },
    }
    assert len(_installed.unready([daemon_set], [])) == lines


def istiod(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "istiod", "namespace": "istio-system", **metadata}}


BY_ISTIOCTL = {"operator.istio.io/managed": "Reconcile", "operator.istio.io/version": "1.30.1"}
OURS = {"install.operator.istio.io/owning-resource": "edgeway"}
HELM_NOTES = {"meta.helm.sh/release-name": "istiod"}


@pytest.mark.parametrize(
    ("metadata", "by", "ours"),
    [
        ({"labels": BY_ISTIOCTL | OURS}, "istioctl", True),
        ({"labels": BY_ISTIOCTL}, "istioctl", False),
        ({"labels": OURS, "annotations": HELM_NOTES}, "helm", True),
        ({"annotations": HELM_NOTES}, "helm", False),
        ({"labels": OURS, "ownerReferences": [{"kind": "IstioRevision", "name": "prod"}]}, "IstioRevision prod", False),
        ({}, "another program", False),
    ],
)
def test_who_installed_a_control_plane(metadata: dict[str, Any], by: str, ours: bool) -> None:
    found = _installed.control_plane(istiod(**metadata))
    assert (found.by, found.ours) == (by, ours)


def found(**fields: Any) -> _installed.Installed:
    given = {"namespace": "istio-system", "revision": "default", "by": "istioctl", "ours": True, "version": "1.30.1"}
    return _installed.Installed(**(given | fields))


@pytest.mark.parametrize(
    ("there", "wanted", "field"),
    [
        ([], {}, None),
        ([found()], {}, None),
        ([found(by="helm")], {}, "method"),
        ([found()], {"method": "helm"}, "method"),
        ([found(by="IstioRevision prod", ours=False)], {"adopt": True}, "method"),
        ([found(ours=False)], {}, "adopt"),
        ([found(ours=False)], {"adopt": True}, None),
        ([found(namespace="mesh")], {}, "namespace"),
        ([found(namespace="mesh")], {"revision": "next"}, None),
        ([found(ours=False)], {"revision": "next"}, None),
        ([found(revision="next", by="helm")], {"revision": "next"}, "method"),
    ],
)
def test_where_installing_is_refused(there: list[Any], wanted: dict[str, Any], field: str | None) -> None:
    options = {"namespace": "istio-system", "revision": "", "method": "istioctl", "adopt": False} | wanted
    problem = _installed.objection(there, **options)
    assert (problem.path if problem else None) == field


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("1.30.1", "1.30.2", False),
        ("1.30.1", "1.31.0", False),
        ("1.30.1", "1.30.0", False),
        ("1.30.1", "1.29.9", True),
        ("1.29.1", "1.31.0", True),
        ("1.31-lab", "1.31-lab", False),
        ("1.0.0", "1.31.0", False),
        ("unknown", "1.31.0", False),
    ],
)
def test_versions_that_are_not_neighbours(before: str, after: str, refused: bool) -> None:
    assert bool(_installed.step_objection(before, after)) is refused


def node(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}},
    }


def test_edges_that_are_no_nodes_are_named() -> None:
    wanted = gateways([{"name": "a"}, {"name": "b", "edges": ["n3"]}], edges=["n1", "n2"])
    assert _installed.unknown_edges(wanted, [node("n1")]) == ["n2", "n3"]


CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "refused"),
    [
        (None, True),
        ({"operator": "Exists"}, False),
        ({"key": CONTROL_PLANE["key"], "operator": "Exists"}, False),
        ({"key": CONTROL_PLANE["key"], "operator": "Exists", "effect": "NoExecute"}, True),
        ({"key": CONTROL_PLANE["key"], "value": ""}, False),
        ({"key": CONTROL_PLANE["key"], "value": "x"}, True),
        ({"key": "other", "operator": "Exists"}, True),
    ],
)
def test_a_taint_that_keeps_a_gateway_off_its_edge_is_told(toleration: dict[str, str] | None, refused: bool) -> None:
    wanted = gateways([{"name": "a"}], edges=["n1"], tolerations=[toleration] if toleration else [])
    lines = _installed.untolerated(wanted, [node("n1", taints=[CONTROL_PLANE])])
    assert bool(lines) is refused
    if refused:
        assert lines == [
            "istio-system/a has no pod on n1, which has the taint node-role.kubernetes.io/control-plane:NoSchedule"
        ]


def test_a_soft_taint_keeps_nobody_off() -> None:
    soft = node("n1", taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    assert _installed.untolerated(gateways([{"name": "a"}], edges=["n1"]), [soft]) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("2", 2.0),
        ("64Mi", 64 * 2.0**20),
        ("1k", 1000.0),
        ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000.0),
        ("", 0.0),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert _installed.quantity(text) == value


def workload(**requests: str) -> dict[str, Any]:
    pod = {"containers": [{"resources": {"requests": requests}}]}
    return {"metadata": {"name": "a", "namespace": "istio-system"}, "spec": {"template": {"spec": pod}}}


def test_a_gateway_that_does_not_fit_beside_others_is_told() -> None:
    busy = {"spec": {"nodeName": "n1", "containers": [{"resources": {"requests": {"cpu": "950m"}}}]}}
    done = {"status": {"phase": "Succeeded"}, "spec": {"nodeName": "n2", "containers": busy["spec"]["containers"]}}
    wanted = gateways([{"name": "a"}], edges=["n1", "n2"])
    nodes = [node("n1"), node("n2")]
    assert _installed.crowded([workload(cpu="100m", memory="64Mi")], wanted, nodes, [busy, done]) == [
        "n1 has 50m of CPU left, a asks for 100m of CPU"
    ]
    assert _installed.crowded([workload(cpu="50m")], wanted, nodes, [busy, done]) == []


def test_images_are_those_of_workloads_and_of_injected_proxies() -> None:
    pod = {"containers": [{"image": "h/pilot:t"}], "initContainers": [{"image": "h/init:t"}, {"image": "auto"}]}
    rendered = [
        {"kind": "Deployment", "metadata": {"name": "istiod"}, "spec": {"template": {"spec": pod}}},
        {
            "kind": "ConfigMap",
            "metadata": {"name": "istio-sidecar-injector-next"},
            "data": {
                "values": '{"global": {"hub": "h", "tag": "t", "proxy": {"image": "proxyv2"}, "variant": "distroless"}}'
            },
        },
        {"kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {}},
    ]
    assert _installed.images(rendered) == ["h/init:t", "h/pilot:t", "h/proxyv2:t-distroless"]


def change(verb: str, kind: str, name: str) -> Change:
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}}
    return Change(verb, None if verb == "create" else manifest, None if verb == "delete" else manifest, "")


def test_the_summary_names_what_runs_first() -> None:
    changes = [change("create", "Role", "r"), change("update", "Deployment", "istiod")]
    assert _installed.summary("1.31.0", changes) == (
        "Istio 1.31.0: create 1, update 1 (Deployment istio-system/istiod, Role istio-system/r)"
    )
    assert _installed.summary("1.31.0", []) == "Istio 1.31.0: nothing to change"
    assert _installed.summary("1", [change("delete", "Role", f"r{i}") for i in range(12)]).endswith(" and 2 more)")
