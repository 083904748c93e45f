"""Settings -> IstioOperator, and what a re-run of istioctl would change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _install
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError

EDGES = ["node2", "node3", "node1"]


def component(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    built = _install.operator(ingress=_install.gateways([entry], **more))
    return built["spec"]["components"]["ingressGateways"][0]


def test_one_pod_on_each_edge_that_can_roll() -> None:
    k8s = component({"name": "istio-ingressgateway"}, edges=EDGES)["k8s"]
    assert k8s["replicaCount"] == 3
    assert k8s["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    (term,) = k8s["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": EDGES}]
    (apart,) = k8s["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"] == {"app": "istio-ingressgateway", "istio": "ingressgateway"}


def test_the_service_is_a_load_balancer_of_our_class_from_the_start() -> None:
    service = component({"name": "istio-ingressgateway"}, edges=EDGES)["k8s"]["service"]
    assert service == {
        "type": "LoadBalancer",
        "loadBalancerClass": "edgeway.istio/vip",
        "externalTrafficPolicy": "Local",
    }


@pytest.mark.parametrize(("kind", "fields"), [("NodePort", {"type", "externalTrafficPolicy"}), ("ClusterIP", {"type"})])
def test_other_service_types_get_no_class(kind: str, fields: set[str]) -> None:
    assert set(component({"name": "blue", "service_type": kind})["k8s"]["service"]) == fields


def test_the_autoscaler_is_off_only_where_edges_give_the_number() -> None:
    placed = _install.operator(ingress=_install.gateways([{"name": "blue"}], edges=EDGES))
    free = _install.operator(ingress=_install.gateways([{"name": "blue", "replicas": 2}]))
    assert placed["spec"]["values"]["gateways"]["istio-ingressgateway"] == {"autoscaleEnabled": False}
    assert free["spec"]["values"] == {}
    assert free["spec"]["components"]["ingressGateways"][0]["k8s"]["replicaCount"] == 2
    assert "affinity" not in free["spec"]["components"]["ingressGateways"][0]["k8s"]


def test_a_second_gateways_pods_are_not_chosen_by_the_first_ones_service() -> None:
    labels = component({"name": "blue", "selector": {"team": "blue"}})["label"]
    assert labels == {"app": "blue", "istio": "blue", "team": "blue"}


def test_user_settings_are_merged_over_ours() -> None:
    built = _install.operator(
        values={"pilot": {"env": {"A": "b"}}, "gateways": {"istio-ingressgateway": {"autoscaleEnabled": True}}},
        spec={"meshConfig": {"accessLogFile": "/dev/stdout"}, "profile": "demo"},
        ingress=_install.gateways([{"name": "blue", "settings": {"replicaCount": 7}}], edges=EDGES),
    )["spec"]
    assert built["profile"] == "demo"
    assert built["meshConfig"] == {"accessLogFile": "/dev/stdout"}
    assert built["values"]["pilot"] == {"env": {"A": "b"}}
    assert built["values"]["gateways"]["istio-ingressgateway"]["autoscaleEnabled"] is True
    assert built["components"]["ingressGateways"][0]["k8s"]["replicaCount"] == 7


def test_hub_tag_and_revision_are_left_to_istioctl_when_empty() -> None:
    assert not {"hub", "tag", "revision"} & set(_install.operator()["spec"])
    assert (
        _install.operator(hub="h", tag="t", revision="r")["spec"].items()
        >= {"hub": "h", "tag": "t", "revision": "r"}.items()
    )


def test_an_entrys_own_edges_and_namespace_win() -> None:
    (gateway,) = _install.gateways([{"name": "blue", "namespace": "team", "edges": ["node1"]}], edges=EDGES)
    assert (gateway.edges, gateway.namespace) == (("node1",), "team")


def test_all_problems_come_at_once_with_their_paths() -> None:
    with pytest.raises(ModelError) as caught:
        _install.gateways(
            [
                {"name": "a"},
                {"name": "a"},
                {"name": "Not_a_name"},
                {"name": "b", "edges": ["node1", "node1"]},
                {"name": "c", "replicas": 0},
                {"name": "d", "selector": {"app": "a", "istio": "a"}},
            ]
        )
    assert [problem.path for problem in caught.value.problems] == [
        "gateways[1].name",
        "gateways[2].name",
        "gateways[3].edges",
        "gateways[4].replicas",
        "gateways[5].selector",
    ]


def test_merging_alters_nothing_given() -> None:
    base, over = {"a": {"b": [1]}}, {"a": {"c": {"d": 1}}}
    kept = copy.deepcopy((base, over))
    result = _install.merged(base, over)
    result["a"]["b"].append(2)
    result["a"]["c"]["d"] = 2
    assert (base, over) == kept


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
    wanted = _install.as_installed(webhook("ValidatingWebhookConfiguration"), live, "1.1")
    assert wanted["metadata"]["labels"] == {"operator.istio.io/version": "1.1", "operator.istio.io/component": "Pilot"}


@pytest.mark.parametrize(("live", "expected"), [("Fail", "Fail"), ("Ignore", "Ignore")])
def test_the_failure_policy_that_istiod_raised_is_no_difference(live: str, expected: str) -> None:
    kind = "ValidatingWebhookConfiguration"
    wanted = _install.as_installed(webhook(kind, failurePolicy="Ignore"), webhook(kind, failurePolicy=live), "")
    assert wanted["webhooks"][0]["failurePolicy"] == expected


def test_an_injector_that_a_tag_replaced_stays_replaced() -> None:
    never = {"matchLabels": {"istio.io/deactivated": "never-match"}}
    kind = "MutatingWebhookConfiguration"
    rendered = webhook(kind, objectSelector={"a": 1}, namespaceSelector={"b": 1})
    replaced = webhook(kind, objectSelector=never, namespaceSelector=never)
    assert _install.as_installed(rendered, replaced, "")["webhooks"] == replaced["webhooks"]
    active = webhook(kind, objectSelector={"c": 1}, namespaceSelector=never)
    assert _install.as_installed(rendered, active, "")["webhooks"] == rendered["webhooks"]


def test_left_over_is_what_is_labelled_but_rendered_no_longer() -> None:
    old = {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"}}
    gone = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}}
    assert _install.left_over([{**old, "apiVersion": "apps/v1"}], [old, gone]) == [gone]


def deployment(**status: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "gateway", "namespace": "istio-system", "generation": 2},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "gateway"}}},
        "status": {"observedGeneration": 2, **status},
    }


def test_a_deployment_that_is_fully_rolled_out_is_ready() -> None:
    assert _install.unready([deployment(replicas=3, readyReplicas=3, updatedReplicas=3)], []) == []


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
    assert len(_install.unready([deployment(**status)], [])) == 1


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
    (line,) = _install.unready([deployment(replicas=3, readyReplicas=1, updatedReplicas=3)], pods)
    assert line == (
        "Deployment istio-system/gateway: 1 of 3 pods ready "
        "(p1 not scheduled: 0/3 nodes are available; p2: ImagePullBackOff no such image)"
    )


def definition(name: str, version: str | None) -> dict[str, Any]:
    annotations = {"gateway.networking.k8s.io/bundle-version": version} if version else None
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
    }


@pytest.mark.parametrize(
    ("given", "live", "applied"),
    [
        ("v1.6.0", None, True),
        ("v1.6.0", "", True),
        ("v1.6.0", "v1.5.9", True),
        ("v1.10.0", "v1.9.0", True),
        ("v1.6.0", "v1.6.0-rc.2", True),
        ("v1.6.0-rc.10", "v1.6.0-rc.9", True),
        ("v1.6.0", "v1.6.0", False),
        ("v1.5.0", "v1.6.0", False),
        ("v1.6.0-rc.1", "v1.6.0", False),
    ],
)
def test_definitions_are_applied_when_missing_or_older(given: str, live: str | None, applied: bool) -> None:
    there = [] if live is None else [definition("a", live)]
    assert bool(_install.outdated([definition("a", given)], there)) is applied


def test_two_channels_at_once_are_refused() -> None:
    with pytest.raises(ModelError, match="given twice"):
        _install.outdated([definition("a", "v1.6.0"), definition("a", "v1.6.0")], [])
