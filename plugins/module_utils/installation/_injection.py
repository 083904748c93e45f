# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces whose pods get a sidecar: the label by which Istio's webhook chooses them, and restarts where asked for.

The label is owned by our field manager: one that somebody else set is neither changed nor taken away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _objects
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed

Manifest = dict[str, Any]

MANAGER = "edgeway/injection"
ENABLED, REVISION = "istio-injection", "istio.io/rev"
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(slots=True)
class Result:
    """`changes` are labels on namespaces, `restarts` workloads whose pods had not the sidecar they should have."""

    changes: list[Change] = field(default_factory=list)
    restarts: list[Manifest] = field(default_factory=list)


def label(revision: str) -> dict[str, str]:
    """The namespace label that asks this revision or tag for sidecars; the default one has a label of its own."""
    return {REVISION: revision} if revision else {ENABLED: "enabled"}


def owned(namespace: Mapping[str, Any]) -> set[str]:
    """The injection labels of a namespace that we set."""
    found: set[str] = set()
    for entry in namespace["metadata"].get("managedFields") or ():
        if entry.get("manager") == MANAGER:
            fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
            found |= {name.removeprefix("f:") for name in fields}
    return found & {ENABLED, REVISION}


def plan(live: Iterable[Mapping[str, Any]], wanted: Sequence[str], revision: str) -> list[Change]:
    """The changes of labels; raises ModelError with all namespaces that can't have theirs."""
    there = {str(each["metadata"]["name"]): each for each in live}
    problems = [
        problem
        for index, name in enumerate(wanted)
        for problem in _problems(f"namespaces[{index}]", name, there.get(name), revision)
    ]
    if problems:
        raise ModelError(tuple(problems))
    changes = []
    for name, namespace in sorted(there.items()):
        labels = label(revision) if name in wanted else {}
        current = namespace["metadata"].get("labels") or {}
        ours = owned(namespace)
        if ours == set(labels) and all(current.get(key) == value for key, value in labels.items()):
            continue
        if not ours and all(current.get(key) == value for key, value in labels.items()):
            continue  # somebody else set it, which is as good
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        changes.append(Change("update", dict(namespace), manifest, MANAGER))
    return changes


def _problems(path: str, name: str, namespace: Mapping[str, Any] | None, revision: str) -> list[Problem]:
    if namespace is None:
        return [Problem(path, f"there is no namespace {name}", "Create it, or take it off the list")]
    labels = namespace["metadata"].get("labels") or {}
    foreign = {key: labels[key] for key in (ENABLED, REVISION) if key in labels} if not owned(namespace) else {}
    wanted = label(revision)
    if ENABLED in foreign and foreign.items() & wanted.items() != wanted.items():
        cure = f"Remove that label from the namespace, or take {name} off the list"
        return [Problem(path, f"somebody else labelled {name} {ENABLED}={foreign[ENABLED]}", cure)]
    if REVISION in foreign and foreign[REVISION] != revision:
        cure = "Remove that label from the namespace, or set the revision to it"
        return [Problem(path, f"somebody else labelled {name} {REVISION}={foreign[REVISION]}", cure)]
    return []


def line(namespace: Mapping[str, Any]) -> str:
    """A namespace as a difference shows it: its name and its injection labels."""
    labels = namespace["metadata"].get("labels") or {}
    shown = [f"{key}={labels[key]}" for key in (ENABLED, REVISION) if key in labels]
    return f"{namespace['metadata']['name']}: {', '.join(shown) or 'no label'}\n"


def ensure(
    cluster: Cluster, wanted: Sequence[str], revision: str, *, restart: bool, check: bool, timeout: float
) -> Result:
    """Label the namespaces and, with `restart`, start their workloads anew where pods lack what they should have."""
    result = Result(plan(_objects.find(cluster, "v1", "Namespace"), wanted, revision))
    if restart:
        resolved = _resolve(_objects.find(cluster, "admissionregistration.k8s.io/v1", _WEBHOOK), revision)
        expected: dict[str, str | None] = {each.name: None for each in result.changes}
        expected |= dict.fromkeys(wanted, resolved)
        result.restarts = [each for name in sorted(expected) for each in _stale(cluster, name, expected[name])]
    if check:
        return result
    for change in result.changes:
        _objects.apply(cluster, change.manifest, MANAGER, force=False)
    for workload in result.restarts:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        notes = {"kubectl.kubernetes.io/restartedAt": now}
        _objects.merge(cluster, workload, {"spec": {"template": {"metadata": {"annotations": notes}}}}, MANAGER)
    _wait(cluster, result.restarts, timeout)
    return result


_WEBHOOK = "MutatingWebhookConfiguration"


def _resolve(webhooks: Iterable[Mapping[str, Any]], revision: str) -> str:
    """The revision that a tag stands for; a revision stands for itself."""
    tag = revision or "default"
    for each in webhooks:
        labels = each["metadata"].get("labels") or {}
        if labels.get("istio.io/tag") == tag:
            return str(labels.get(REVISION, tag))
    return tag


def _stale(cluster: Cluster, namespace: str, expected: str | None) -> list[Manifest]:
    """Workloads of a namespace whose pods have another sidecar than that of revision `expected` (None: no sidecar)."""
    found: dict[_kinds.Key, Manifest] = {}
    for pod in _objects.find(cluster, "v1", "Pod", namespace=namespace):
        if has_its_sidecar(pod, expected):
            continue
        workload = _controller(cluster, pod)
        if workload:
            found[_kinds.key_of(workload)] = workload
    return list(found.values())


def has_its_sidecar(pod: Mapping[str, Any], expected: str | None) -> bool:
    """Whether a pod is as the namespace's label would have it, or isn't concerned."""
    metadata, spec = pod["metadata"], pod["spec"]
    notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or spec.get("hostNetwork"):
        return True
    if "inject.istio.io/templates" in notes or "sidecar.istio.io/inject" in labels:
        return True  # the pod says itself what it wants
    if notes.get("sidecar.istio.io/inject") == "false":
        return True
    try:
        status = json.loads(notes.get("sidecar.istio.io/status", "null"))
    except ValueError:
        status = None
    return (str(status.get("revision") or "default") if status else None) == expected


def _controller(cluster: Cluster, pod: Mapping[str, Any]) -> Manifest | None:
    """The Deployment, StatefulSet or DaemonSet that a pod belongs to; None for one of its own or of a Job."""
    current: Mapping[str, Any] = pod
    for _step in range(2):
        owner = next(
            (each for each in current["metadata"].get("ownerReferences") or () if each.get("controller")), None
        )
        if owner is None:
            return None
        place = {"namespace": pod["metadata"]["namespace"], "name": owner["name"]}
        if owner["kind"] not in (*_WORKLOADS, "ReplicaSet"):
            return None
        found = _objects.get(cluster, {"apiVersion": "apps/v1", "kind": owner["kind"], "metadata": place})
        if found is None or owner["kind"] in _WORKLOADS:
            return found
        current = found
    return None


def _wait(cluster: Cluster, workloads: Sequence[Manifest], timeout: float, pause: float = 1.0) -> None:
    end = time.monotonic() + timeout
    while workloads:
        live = [each for each in (_objects.get(cluster, one) for one in workloads) if each]
        late = _installed.unready(live, ())
        if not late:
            return
        if time.monotonic() >= end:
            pods = _objects.find(cluster, "v1", "Pod")
            lines = ". ".join(_installed.unready(live, pods))
            raise ClusterError(f"After {timeout:g} s workloads aren't back: {lines}.", "Mend what keeps the pods.")
        time.sleep(pause)
