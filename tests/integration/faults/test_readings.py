"""What a trace reads of the gateway's Envoys: one exposure's part of it, each with the object that it came from.

Needs KUBECONFIG of a lab on which site.yml was applied.
"""

import json
import os
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, connect
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking, _shown

pytestmark = pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs KUBECONFIG")

SPACE = "istio-system"
OTHERS = {"https://shop.example/": ("web.example", "mysql"), "http://web.example/": ("shop", "mysql"),
          "tcp://:65532": ("web.example", "shop")}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return connect({"kubeconfig": os.environ["KUBECONFIG"]})


def readings(cluster: Cluster, url: str) -> list[dict[str, Any]]:
    facts = _looking.look(cluster, _facts.chosen(url, None, []), _looking.Options())
    found: list[dict[str, Any]] = _shown.result(facts)["readings"]
    return found


@pytest.mark.parametrize("url", OTHERS)
def test_every_gateway_pod_is_read_and_nothing_of_other_exposures(cluster: Cluster, url: str) -> None:
    found = readings(cluster, url)
    assert len(found) == 3
    for one in found:
        said = json.dumps(one)
        assert not [other for other in (*OTHERS[url], "PRIVATE KEY") if other in said]
        assert one["bootstrap"]["node"].startswith("router~")
        assert one["bootstrap"]["discovery_address"] == f"istiod.{SPACE}.svc:15012"
        assert one["bootstrap"]["object"] == f"Pod {SPACE}/{one['pod']}"
        (cluster_,) = one["clusters"]
        assert {end["cluster"] for end in one["endpoints"]} == {cluster_["name"]}
        assert {end["health"] for end in one["endpoints"]} == {"HEALTHY"}
        assert all(end["object"].startswith("Pod ") for end in one["endpoints"])


def test_https_is_read_from_listener_to_secret(cluster: Cluster) -> None:
    one = readings(cluster, "https://shop.example/")[0]
    (listener,) = one["listeners"]
    assert listener["port"] == 8443
    assert listener["filter_chain"]["server_names"] == ["shop.example"]
    assert listener["filter_chain"]["ends_tls"]
    assert [name.startswith(f"Gateway {SPACE}/") for name in listener["objects"]] == [True]
    (route,) = [route for route in one["routes"] if route["taken"]]
    assert route["object"].startswith("VirtualService ")
    assert [each["name"] for each in route["clusters"]] == [one["clusters"][0]["name"]]
    assert one["clusters"][0]["services"] == ["Service shop/shop"]
    (secret,) = one["secrets"]
    assert secret["object"].startswith(f"Secret {SPACE}/")
    assert secret["certificates"][0]["names"] == ["shop.example"]


def test_readiness_and_metrics_are_where_istio_has_them(cluster: Cluster) -> None:
    found = readings(cluster, "http://web.example/")
    assert len(found) == 3
    for one in found:
        ((ready, _body),) = cluster.ask_pod(SPACE, one["pod"], 15021, ["/healthz/ready"])
        ((status, metrics),) = cluster.ask_pod(SPACE, one["pod"], 15090, ["/stats/prometheus"])
        assert (ready, status) == (200, 200)
        assert b"envoy_cluster_upstream_rq" in metrics
