"""A cluster as it would be after a set-up was applied, without one: pods, endpoints and times are made up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import Snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import Finding

from . import setups
from .setups import SetUp, State

Json = dict[str, Any]


def findings(setup: SetUp, state: State) -> list[Finding]:
    """Return what is found about a set-up: about its list, or about the cluster where it has none."""
    snapshot = snapshot_of(setup, state)
    if not state.exposures:
        return _findings.survey(snapshot, edges=setup.edges)
    model = parse(state.exposures, set_name="fx", api=setup.api, gateway=setup.gateway)
    return _findings.findings(model, snapshot, edges=setup.edges)


def manifests_of(setup: SetUp, state: State) -> list[Json]:
    """Return all that would be in the cluster: the base, the patches and the objects of a set-up, and their pods."""
    objects = {**setups.installed(), **setups.base()}
    whole = {key: setups.manifest(key, body) for key, body in objects.items()}
    for key, patch in state.patch.items():
        whole[key] = setups.merged(whole[key], patch, named=key.startswith("Deployment "))
    whole |= {key: setups.manifest(key, body) for key, body in state.objects.items()}
    times = (f"2026-01-01T00:{minute:02d}:{second:02d}Z" for minute, second in itertools.product(range(60), range(60)))
    found = [_stamped(one, time) for one, time in zip(whole.values(), times, strict=False)]
    found += _pods(found)
    return found + _slices(found)


def snapshot_of(setup: SetUp, state: State) -> Snapshot:
    """Return what would be read of it, with every right in the gateway's namespace."""
    found = manifests_of(setup, state)
    secrets = {(one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found if one["kind"] == "Secret"}
    found = [one for one in found if one["kind"] != "Secret" or one["metadata"]["namespace"] == "fx-edge"]
    elsewhere = frozenset((str(space), name) for space, name in secrets if space != "fx-edge")
    return _snapshot.of_objects(found, elsewhere=elsewhere, dns=dict(setup.dns))


def _stamped(manifest: Json, time: str) -> Json:
    return {**manifest, "metadata": {"creationTimestamp": time, **manifest["metadata"]}}


def _pods(manifests: list[Json]) -> list[Json]:
    """Make the pods of Deployments, with sidecars where the namespace is labelled for them."""
    labels = {
        one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in manifests if one["kind"] == "Namespace"
    }
    found = []
    for one in manifests:
        if one["kind"] != "Deployment" or one["spec"].get("replicas") == 0:
            continue
        template = one["spec"]["template"]
        spec = dict(template["spec"])
        metadata = {
            "name": f"{one['metadata']['name']}-0",
            "namespace": one["metadata"]["namespace"],
            "labels": {**(template["metadata"].get("labels") or {}), "pod-template-hash": "abc"},
            "annotations": dict(template["metadata"].get("annotations") or {}),
        }
        containers = list(spec["containers"])
        if "istio.io/rev" in labels.get(metadata["namespace"], {}) and containers[0]["name"] == "echo":
            containers.append({"name": "istio-proxy", "image": "localhost/lab/proxyv2:dev"})
            metadata["annotations"]["sidecar.istio.io/status"] = "{}"
        node = (spec.get("nodeSelector") or {}).get("kubernetes.io/hostname", "node1")
        ready = all(_ready(container) for container in containers)
        status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        found.append({**pod, "spec": {**spec, "containers": containers, "nodeName": node}, "status": status})
    return found


def _ready(container: Mapping[str, Any]) -> bool:
    return container.get("image") not in ("auto", "localhost/lab/nothing:1") and (
        ((container.get("readinessProbe") or {}).get("tcpSocket") or {}).get("port") != 1
    )


def _slices(manifests: list[Json]) -> list[Json]:
    """Make the EndpointSlices of Services with selectors."""
    pods = [one for one in manifests if one["kind"] == "Pod"]
    found = []
    for service in manifests:
        selector = (service.get("spec") or {}).get("selector") if service["kind"] == "Service" else None
        if not selector:
            continue
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        chosen = [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == namespace and selector.items() <= pod["metadata"]["labels"].items()
        ]
        ports = [
            {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            for port in service["spec"].get("ports") or ()
            if (number := _number(port, chosen)) is not None
        ]
        endpoints = [
            {
                "addresses": [f"10.78.1.{index + 10}"],
                "conditions": {"ready": pod["status"]["conditions"][0]["status"] == "True"},
            }
            for index, pod in enumerate(chosen)
        ]
        metadata = {"name": f"{name}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
        found.append(
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "ports": ports,
             "endpoints": endpoints}
        )  # fmt: skip
    return found


def _number(port: Mapping[str, Any], pods: list[Json]) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    named = [one for pod in pods for container in pod["spec"]["containers"] for one in container.get("ports") or ()]
    return next((int(one["containerPort"]) for one in named if one.get("name") == target), None)
