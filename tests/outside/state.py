"""What a cluster holds, to be compared: every object, without what comes, goes and counts by itself."""

import json
from typing import Any

from outside.lab import Lab

MOVING = {
    *("events", "leases", "endpoints", "endpointslices", "pods", "replicasets", "controllerrevisions", "podmetrics"),
    "componentstatuses",
}
# Istio's elections, renewed every few seconds
LEADER = "control-plane.alpha.kubernetes.io/leader"


def state(lab: Lab) -> dict[str, Any]:
    """Each object by "Kind.group namespace/name": what somebody has decided about it, and who.

    That is its content but for the status, labels, annotations, owners, and the managers of its fields.
    """
    resources = {
        name
        for name in lab.kubectl("api-resources", "--verbs=list", "--output=name").split()
        if name.partition(".")[0] not in MOVING
    }
    kinds = ",".join(sorted(resources))
    listed = json.loads(lab.kubectl("get", kinds, "--all-namespaces", "--show-managed-fields", "--output=json"))
    return dict(_decided(item) for item in listed["items"])


def _decided(item: dict[str, Any]) -> tuple[str, Any]:
    metadata = item["metadata"]
    group = item["apiVersion"].rpartition("/")[0]
    name = f"{item['kind']}.{group}".rstrip(".") + f" {metadata.get('namespace', '')}/{metadata['name']}"
    content = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != LEADER}
    entries = metadata.get("managedFields", [])
    managers = sorted({(one["manager"], one["operation"]) for one in entries if "subresource" not in one})
    owners = metadata.get("ownerReferences", [])
    return name, {
        **content,
        "labels": metadata.get("labels", {}),
        "annotations": annotations,
        "owners": owners,
        "managers": managers,
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The names of objects that two states don't have in common."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
