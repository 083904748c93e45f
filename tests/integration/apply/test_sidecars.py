"""What sidecars do is unchanged by anything we publish, as their own Envoy says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _wait
from outside.lab import Lab, wait_for
from outside.runs import playbook

from integration.apply.conftest import ECHO, Publish

Json = dict[str, Any]
SPACE = "edgeway-test-meshed"
GATEWAY = "istio-ingressgateway.istio-system.svc.cluster.local"


@pytest.fixture(scope="module")
def sidecar(lab: Lab) -> Iterator[str]:
    """The name of a pod with a sidecar."""
    lab.apply(ECHO.format(space=SPACE))
    playbook("molecule/protocols/inject.yml", inject_namespaces=[SPACE])
    lab.rolled_out(SPACE)
    pods = [pod for pod in lab.objects("pod", f"--namespace={SPACE}") if "deletionTimestamp" not in pod["metadata"]]
    (name,) = (
        pod["metadata"]["name"]
        for pod in pods
        if any(
            one["name"] == "istio-proxy" for one in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        )
    )
    yield name
    lab.kubectl("delete", "namespace", SPACE, "--timeout=50s")


def plain(value: Any) -> Any:
    """Without what changes with each push: versions, times, and warming."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key not in ("version_info", "last_updated")}
    return [plain(one) for one in value] if isinstance(value, list) else value


def parts(cluster: Cluster, pod: str) -> dict[str, Json]:
    """Each listener, route table, cluster and endpoint set of the sidecar by its name."""
    found: dict[str, Json] = {}
    dump = _wait.dump(cluster, SPACE, pod)
    for section in dump["configs"]:
        kind = section["@type"].rpartition(".")[2]
        for items in section.values():
            for item in items if isinstance(items, list) else ():
                inner = item.get("active_state", item)
                inner = next((inner[key] for key in ("listener", "cluster", "route_config") if key in inner), inner)
                found[f"{kind} {item.get('name') or inner.get('name') or json.dumps(plain(item))}"] = plain(item)
    return found


def exposures(space: str) -> list[Json]:
    """HTTP with a policy, weights and a mirror, an outside host, and mutual TLS to the sidecar."""
    http = {"namespace": space, "protocol": "HTTP"}
    return [
        {
            **http,
            "name": "it-meshed",
            "hostnames": ["it-meshed.example"],
            "traffic": {"connect_timeout": "1s"},
            "routes": [
                {
                    "backends": [
                        {"service": "echo", "port": 80, "weight": 90},
                        {"service": "echo", "namespace": "web", "port": 80, "weight": 10},
                    ],
                    "timeout": "3s",
                    "retries": {"attempts": 1, "codes": [503]},
                }
            ],
        },
        {
            **http,
            "name": "it-outside",
            "hostnames": ["it-outside.example"],
            "backend": {"host": "nginx.com", "port": 443, "address": "10.77.0.51", "tls": {"insecure": True}},
        },
    ]


def test_a_sidecar_has_the_same_configuration(lab: Lab, cluster: Cluster, sidecar: str, put: Publish) -> None:
    before = parts(cluster, sidecar)
    assert f"ClustersConfigDump outbound|80||echo.{SPACE}.svc.cluster.local" in before
    assert put(exposures(SPACE), "it-sidecars").pods
    after = parts(cluster, sidecar)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()


def test_a_new_port_of_the_gateway_is_all_that_it_learns(
    lab: Lab, cluster: Cluster, sidecar: str, put: Publish
) -> None:
    """Sidecars may call the gateway's Service as any other: they know its ports."""
    before = parts(cluster, sidecar)
    backend = {"service": "echo", "port": 9090}
    more = {"name": "it-tcp", "namespace": SPACE, "protocol": "TCP", "port": 9490, "backend": backend}
    put([*exposures(SPACE), more], "it-sidecars")
    cluster_name = f"ClustersConfigDump outbound|9490||{GATEWAY}"
    wait_for("the gateway's port at the sidecar", lambda: cluster_name in parts(cluster, sidecar), seconds=20)
    after = parts(cluster, sidecar)
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert differing
    assert {name for name in differing if "9490" not in name} == set()
