"""Settings and gateways -> an IstioOperator for istioctl, and releases for Helm."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _settings
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import Settings, gateways

EDGES = ["node2", "node3", "node1"]


def component(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    built = _settings.operator(Settings(gateways=gateways([entry], **more)))
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


@pytest.mark.parametrize(
    ("entries", "common"),
    [
        ([{"name": "blue", "edges": EDGES}], {"autoscaleEnabled": False, "replicaCount": 3}),
        ([{"name": "blue", "replicas": 2}, {"name": "red", "edges": EDGES}],
         {"autoscaleEnabled": False, "replicaCount": 2}),
        ([{"name": "blue"}, {"name": "red", "edges": EDGES}], {"autoscaleEnabled": False}),
    ],
    ids=["edges", "replicas", "one pod, which no disruption budget may hold"],
)  # fmt: skip
def test_nothing_but_the_list_says_how_many_pods_there_are(
    entries: list[dict[str, Any]], common: dict[str, Any]
) -> None:
    spec = _settings.operator(Settings(gateways=gateways(entries)))["spec"]
    assert spec["values"] == {"gateways": {"istio-ingressgateway": common}}
    counts = [each["k8s"]["replicaCount"] for each in spec["components"]["ingressGateways"]]
    assert counts == [len(each.get("edges", ())) or each.get("replicas", 1) for each in entries]


def test_without_gateways_there_is_nothing_to_say_of_them() -> None:
    assert _settings.operator(Settings())["spec"]["values"] == {}


def test_a_second_gateways_pods_are_not_chosen_by_the_first_ones_service() -> None:
    labels = component({"name": "blue", "selector": {"team": "blue"}})["label"]
    assert labels == {"app": "blue", "istio": "blue", "team": "blue"}


def test_user_settings_are_merged_over_ours() -> None:
    settings = Settings(
        values={"pilot": {"env": {"A": "b"}}, "gateways": {"istio-ingressgateway": {"autoscaleEnabled": True}}},
        operator={"meshConfig": {"accessLogFile": "/dev/stdout"}, "profile": "demo"},
        gateways=gateways([{"name": "blue", "settings": {"replicaCount": 7}}], edges=EDGES),
    )
    built = _settings.operator(settings)["spec"]
    assert built["profile"] == "demo"
    assert built["meshConfig"] == {"accessLogFile": "/dev/stdout"}
    assert built["values"]["pilot"] == {"env": {"A": "b"}}
    assert built["values"]["gateways"]["istio-ingressgateway"]["autoscaleEnabled"] is True
    assert built["components"]["ingressGateways"][0]["k8s"]["replicaCount"] == 7


def test_hub_tag_and_revision_are_left_to_istioctl_when_empty() -> None:
    assert not {"hub", "tag", "revision"} & set(_settings.operator(Settings())["spec"])
    spec = _settings.operator(Settings(hub="h", tag="t", revision="r"))["spec"]
    assert (spec["hub"], spec["tag"], spec["revision"]) == ("h", "t", "r")


def test_the_operator_is_known_as_ours_and_its_pods_say_nothing_of_it() -> None:
    built = _settings.operator(Settings(namespace="mesh"))
    assert built["metadata"] == {"name": "edgeway", "namespace": "mesh"}
    assert built["spec"]["values"] == {"global": {"istioNamespace": "mesh"}}


def test_an_entrys_own_edges_and_namespace_win() -> None:
    (gateway,) = gateways([{"name": "blue", "namespace": "team", "edges": ["node1"]}], edges=EDGES)
    assert (gateway.edges, gateway.namespace) == (("node1",), "team")


def test_all_problems_come_at_once_with_their_paths() -> None:
    with pytest.raises(ModelError) as caught:
        gateways(
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
    result = _settings.merged(base, over)
    result["a"]["b"].append(2)
    result["a"]["c"]["d"] = 2
    assert (base, over) == kept


def released(settings: Settings) -> dict[str, _settings.Release]:
    return {each.name: each for each in _settings.releases(settings)}


def test_helm_installs_the_control_plane_before_its_gateways() -> None:
    settings = Settings(revision="next", gateways=gateways([{"name": "istio-ingressgateway"}], edges=EDGES))
    assert list(released(settings)) == ["istio-base", "istiod-next", "istio-ingressgateway"]
    assert released(settings)["istio-base"].values["defaultRevision"] == "next"
    assert released(settings)["istiod-next"].values["revision"] == "next"
    assert released(settings)["istio-ingressgateway"].values["revision"] == "next"


def test_helm_puts_a_daemonset_on_the_edges() -> None:
    entry = {"name": "blue", "namespace": "team", "selector": {"team": "blue"}}
    release = released(Settings(gateways=gateways([entry], edges=EDGES)))["blue"]
    assert (release.namespace, release.chart) == ("team", "gateway")
    assert release.values["kind"] == "DaemonSet"
    (term,) = release.values["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"][0]["values"] == EDGES
    assert release.values["labels"] == {"app": "blue", "istio": "blue", "team": "blue"}
    assert release.values["autoscaling"] == {"enabled": False}


def test_helm_gives_the_service_the_same_listeners_as_istioctl() -> None:
    service = released(Settings(gateways=gateways([{"name": "blue"}])))["blue"].values["service"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [
        (15021, 15021),
        (80, 8080),
        (443, 8443),
    ]
    assert service["loadBalancerClass"] == "edgeway.istio/vip"
    assert service["externalTrafficPolicy"] == "Local"


def test_helm_without_edges_has_the_given_number_of_pods() -> None:
    values = released(Settings(gateways=gateways([{"name": "blue", "replicas": 2}])))["blue"].values
    assert values["replicaCount"] == 2
    assert values["podDisruptionBudget"] == {"minAvailable": 1}
    assert "kind" not in values


def test_helm_installs_ambients_agents_for_that_profile_alone() -> None:
    assert list(released(Settings(profile="ambient"))) == ["istio-base", "istio-cni", "istiod", "ztunnel"]
    assert released(Settings(profile="ambient"))["istiod"].values["profile"] == "ambient"
    assert "profile" not in released(Settings(profile="minimal"))["istiod"].values


def test_helm_images_come_from_the_given_registry() -> None:
    values = released(Settings(hub="h", tag="t", profile="ambient", values={"global": {"imagePullPolicy": "Never"}}))
    assert values["istiod"].values["global"] | {"hub": "h", "tag": "t"} == values["istiod"].values["global"]
    assert values["istiod"].values["global"]["imagePullPolicy"] == "Never"
    assert values["istio-cni"].values["global"] == values["istiod"].values["global"]
    assert values["ztunnel"].values["global"] == {"imagePullPolicy": "Never"}
    assert (values["ztunnel"].values["hub"], values["ztunnel"].values["tag"]) == ("h", "t")


def test_a_path_to_a_kubeconfig_is_handed_on() -> None:
    assert _settings.kubeconfig({"kubeconfig": "/k", "context": "c"}, {}) == ("/k", "c")
    assert _settings.kubeconfig({}, {"K8S_AUTH_KUBECONFIG": "/k"}) == ("/k", None)
    assert _settings.kubeconfig({}, {}) == (None, None)


def test_a_host_and_a_token_become_a_kubeconfig() -> None:
    environ = {"K8S_AUTH_HOST": "https://a:6443", "K8S_AUTH_API_KEY": "token", "K8S_AUTH_VALIDATE_CERTS": "no"}
    made, context = _settings.kubeconfig({"ca_cert": "/ca"}, environ)
    assert isinstance(made, dict)
    assert context is None
    assert made["users"][0]["user"] == {"token": "token"}
    assert made["clusters"][0]["cluster"] == {"server": "https://a:6443", "insecure-skip-tls-verify": True}


def test_the_variables_that_awx_sets_are_understood() -> None:
    environ = {"K8S_AUTH_HOST": "https://a", "K8S_AUTH_API_KEY": "t", "K8S_AUTH_SSL_CA_CERT": "/ca"}
    made, _context = _settings.kubeconfig({}, environ)
    assert isinstance(made, dict)
    assert made["clusters"][0]["cluster"] == {"server": "https://a", "certificate-authority": "/ca"}
    made, _context = _settings.kubeconfig({}, environ | {"K8S_AUTH_VERIFY_SSL": "False"})
    assert isinstance(made, dict)
    # Both at once are refused by the library that istioctl and Helm use
    assert made["clusters"][0]["cluster"] == {"server": "https://a", "insecure-skip-tls-verify": True}


@pytest.mark.parametrize(
    ("environ", "user"),
    [
        (
            {"K8S_AUTH_CERT_FILE": "me.crt", "K8S_AUTH_KEY_FILE": "~/me.key"},
            {"client-certificate": "/work/me.crt", "client-key": "/home/me/me.key"},
        ),
        ({"K8S_AUTH_USERNAME": "me", "K8S_AUTH_PASSWORD": "p"}, {"username": "me", "password": "p"}),
    ],
)
def test_a_host_is_never_left_to_another_clusters_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], user: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(os, "getcwd", lambda: "/work")
    made, _context = _settings.kubeconfig({"host": "https://a", "kubeconfig": "/of/b"}, environ)
    assert isinstance(made, dict)
    assert made["clusters"][0]["cluster"] == {"server": "https://a"}
    assert made["users"][0]["user"] == user
    for name, value in environ.items():
        with pytest.raises(ModelError, match="host: istioctl and Helm have no credentials for https://a"):
            _settings.kubeconfig({"host": "https://a"}, {name: value})


def test_a_home_is_a_home_for_programs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert _settings.kubeconfig({"kubeconfig": "~/.kube/a:/b"}, {}) == ("/home/me/.kube/a:/b", None)


def test_automated_gateways_are_placed_on_the_edges_one_pod_of_each_gateway() -> None:
    settings = Settings(automated=_settings.Gateway("automated", edges=("n1", "n2")))
    for values in (_settings.operator(settings)["spec"]["values"], released(settings)["istiod"].values):
        spec = values["gatewayClasses"]["istio"]["deployment"]["spec"]
        assert spec["replicas"] == 2
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        (apart,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert apart["matchLabelKeys"] == ["gateway.networking.k8s.io/gateway-name"]
    assert "gatewayClasses" not in _settings.operator(Settings())["spec"]["values"]
