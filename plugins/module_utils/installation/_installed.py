# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Istio is in a cluster: who installed it, what an installer would change, what isn't ready, what fits where.

Pure: no Ansible, no cluster, no process.

istioctl writes every rendered object by a forced server-side apply under the manager ``istio-operator``, Helm 4 by one
under ``helm``. What they would change is therefore the difference between an object and the result of that same apply
as a dry run. This module prepares the object for that dry run and compares.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import OWNER, Gateway

Object = dict[str, Any]

OWNED = "install.operator.istio.io/owning-resource"
MANAGED = "operator.istio.io/managed"
REVISION = "istio.io/rev"
RELEASE = "meta.helm.sh/release-name"

_COMPONENT = "operator.istio.io/component"
_KEPT = "install.operator.istio.io/owning-resource-not-pruned"
_OWNER_NAMESPACE = "install.operator.istio.io/owning-resource-namespace"
_VERSION = "operator.istio.io/version"
_HOSTNAME = "kubernetes.io/hostname"
#: `istioctl` gives this selector to injectors that a default revision tag has replaced.
_DEACTIVATED = {"matchLabels": {"istio.io/deactivated": "never-match"}}
_SERVER_KEYS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
_WORKLOADS = ("Deployment", "DaemonSet")


# --- who installed it ---


@dataclass(frozen=True, slots=True)
class Installed:
    """A control plane that is there: `by` which program, and whether it is `ours`, installed by this collection."""

    namespace: str
    revision: str
    by: str
    ours: bool
    version: str


def control_plane(deployment: Mapping[str, Any]) -> Installed:
    """Read from istiod's Deployment who installed it."""
    metadata = deployment["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    owners = [str(each["kind"]) for each in metadata.get("ownerReferences") or ()]
    if owners:
        by = f"{owners[0]} {metadata['ownerReferences'][0]['name']}"
    elif RELEASE in notes:
        by = "helm"
    elif MANAGED in labels:
        by = "istioctl"
    else:
        by = "another program"
    ours = by in ("helm", "istioctl") and labels.get(OWNED) == OWNER
    version = labels.get(_VERSION) or labels.get("app.kubernetes.io/version") or ""
    return Installed(str(metadata["namespace"]), str(labels.get(REVISION) or "default"), by, ours, str(version))


def objection(there: Sequence[Installed], *, namespace: str, revision: str, method: str, adopt: bool) -> Problem | None:
    """Why `method` mustn't install this revision beside or over these control planes, None if it may."""
    wanted = revision or "default"
    for each in there:
        if each.revision != wanted:
            continue
        if each.namespace != namespace:
            message = (
                f"revision {wanted} of Istio is in namespace {each.namespace} already, and two fight over webhooks"
            )
            return Problem("namespace", message, f"Set it to {each.namespace}, or give this one a revision of its own")
        name = " ".join(filter(None, ["Istio", each.version])) + f" (namespace {namespace}, revision {wanted})"
        if each.by != method and each.by in ("helm", "istioctl"):
            return Problem("method", f"{name} was installed by {each.by}, not by {method}", f"Set it to {each.by}")
        if each.by != method:
            message = f"{name} is kept by {each.by}, which would undo what is written here"
            return Problem("method", message, "Set it to existing, to use Istio as it is")
        if not each.ours and not adopt:
            cure = (
                "Set it to true to keep Istio by this collection from now on, or method to existing to use it as it is"
            )
            return Problem("adopt", f"{name} was installed by somebody else with {each.by}", cure)
    return None


def served_by(workload: Mapping[str, Any]) -> str:
    """The revision that a gateway's Deployment or DaemonSet belongs to. Helm's chart marks the pods alone."""
    pod = workload["spec"]["template"]["metadata"].get("labels") or {}
    return str(pod.get(REVISION) or (workload["metadata"].get("labels") or {}).get(REVISION) or "default")


def release_number(version: str) -> tuple[int, ...] | None:
    """`1.31.0-alpha.1` -> (1, 31, 0), `1.31-lab` -> (1, 31); None where no release is named, as in own builds."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?![\d.])", version)
    return tuple(int(part) for part in match.groups() if part is not None) if match else None


def step_objection(before: str, after: str) -> str:
    """Why going from one version to another in place is refused: back, or over a minor version. Empty if it isn't."""
    old, new = release_number(before), release_number(after)
    if old is None or new is None or (old[0], new[0]) != (1, 1) or old[1] == 0 or new[1] == 0:
        return ""  # charts of own builds say 1.0.0
    if new[:2] < old[:2]:
        return f"Istio {before} would be replaced by the older {after}"
    if new[1] - old[1] > 1:
        return f"Istio {before} would be replaced by {after}; in place, Istio goes one minor version at a time"
    return ""


# --- what an installer would change ---


def as_installed(manifest: Mapping[str, Any], live: Mapping[str, Any], labels: Mapping[str, str]) -> Object:
    """A rendered object as `istioctl install` would apply it over `live`.

    Adds the owner labels that istioctl sets after rendering, and keeps what istiod and istioctl themselves set once it
    runs: the failure policy of the validating webhooks (istiod raises it from Ignore to Fail) and the selectors of an
    injector that the default revision tag replaced. The label that names the component isn't known from rendering
    for every object: it is the live one's.
    """
    wanted: Object = copy.deepcopy(dict(manifest))
    metadata = wanted["metadata"]
    current = (live["metadata"].get("labels") or {}).get(_COMPONENT)
    component = {_COMPONENT: current} if current is not None else {}
    metadata["labels"] = {**component, **(metadata.get("labels") or {}), **labels}
    return kept_by_istio(wanted, live)


def kept_by_istio(wanted: Object, live: Mapping[str, Any]) -> Object:
    """Keep what istiod and istioctl set on webhooks after installation; `wanted` is altered and returned."""
    if wanted["kind"] in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        before = {hook["name"]: hook for hook in live.get("webhooks", ())}
        for hook in wanted.get("webhooks") or ():
            _keep_webhook(hook, before.get(hook["name"], {}))
    return wanted


def _keep_webhook(hook: Object, before: Mapping[str, Any]) -> None:
    if "failurePolicy" in before and hook.get("failurePolicy", "Ignore") == "Ignore":
        hook["failurePolicy"] = before["failurePolicy"]
    if before.get("objectSelector") == _DEACTIVATED and before.get("namespaceSelector") == _DEACTIVATED:
        hook["objectSelector"] = copy.deepcopy(_DEACTIVATED)
        hook["namespaceSelector"] = copy.deepcopy(_DEACTIVATED)


def as_released(manifest: Mapping[str, Any], live: Mapping[str, Any], release: str, namespace: str) -> Object:
    """A rendered object as Helm would apply it over `live`: with the marks by which Helm knows its own."""
    wanted: Object = copy.deepcopy(dict(manifest))
    metadata = wanted["metadata"]
    metadata["labels"] = (metadata.get("labels") or {}) | {"app.kubernetes.io/managed-by": "Helm"}
    marks = {RELEASE: release, "meta.helm.sh/release-namespace": namespace}
    metadata["annotations"] = (metadata.get("annotations") or {}) | marks
    return kept_by_istio(wanted, live)


def without_lost(after: Any, before: Any, wanted: Any) -> Any:
    """`after` without what `before` sets and `wanted` doesn't: what a merge of three takes away."""
    if isinstance(after, dict) and isinstance(before, dict) and isinstance(wanted, dict):
        return {
            key: without_lost(value, before.get(key), wanted.get(key))
            for key, value in after.items()
            if key in wanted or before.get(key) in (None, {}, [])
        }
    if isinstance(after, list) and isinstance(before, list) and isinstance(wanted, list):
        old, new = _named(before), _named(wanted)
        if old is None or new is None or _named(after) is None:
            return [each for each in after if each in wanted or each not in before]
        return [
            without_lost(each, old.get(each["name"]), new.get(each["name"]))
            for each in after
            if each["name"] in new or each["name"] not in old
        ]
    return after


def _named(items: list[Any]) -> dict[str, Any] | None:
    """A list's items by their names, None where these don't tell them apart."""
    named = {each["name"]: each for each in items if isinstance(each, dict) and "name" in each}
    return named if len(named) == len(items) else None


def is_released(live: Mapping[str, Any], release: str, namespace: str) -> bool:
    """Whether an object carries the marks of this release; Helm refuses to touch one that doesn't."""
    notes = live["metadata"].get("annotations") or {}
    return (notes.get(RELEASE), notes.get("meta.helm.sh/release-namespace")) == (release, namespace)


def is_ours(live: Mapping[str, Any]) -> bool:
    """Whether an object carries the label that this collection's installations have."""
    return label(live, OWNED) == OWNER


def comparable(manifest: Mapping[str, Any]) -> Object:
    """An object without status and without what the server counts; for comparing and for showing a difference."""
    result: Object = {key: copy.deepcopy(value) for key, value in manifest.items() if key != "status"}
    metadata: Object = result.get("metadata", {})
    for key in _SERVER_KEYS:
        metadata.pop(key, None)
    return result


def owner_labels(namespace: str, revision: str, version: str = "") -> dict[str, str]:
    """The labels that istioctl, of this version or of any, gives to everything it installs for us."""
    labels = {MANAGED: "Reconcile", OWNED: OWNER, _OWNER_NAMESPACE: namespace, REVISION: revision or "default"}
    return {**labels, _VERSION: version} if version else labels


def prunable(manifest: Mapping[str, Any]) -> bool:
    """Whether `istioctl install` may remove an object that carries its owner labels: one of a component, not kept."""
    return bool(label(manifest, _COMPONENT)) and label(manifest, _KEPT) != "true"


def of_former(manifest: Mapping[str, Any], revision: str, gateways: Iterable[Gateway] = ()) -> bool:
    """Whether an object belongs to a control plane of this revision that istioctl installed for somebody else.

    The gateways of such an installation are meant only where they are in our list: clients may use another. Of those it
    is what bears their name, as an autoscaler that would go on scaling what is now ours.
    """
    metadata = manifest["metadata"]
    place = metadata.get("namespace"), metadata["name"]
    return (
        label(manifest, REVISION) == (revision or "default")
        and label(manifest, OWNED) not in ("", OWNER)
        and prunable(manifest)
        and (
            label(manifest, _COMPONENT) not in ("IngressGateways", "EgressGateways")
            or place in [(each.namespace, each.name) for each in gateways]
        )
    )


def of_base(manifest: Mapping[str, Any]) -> bool:
    """Whether an object belongs to what all revisions share."""
    return label(manifest, _COMPONENT) == "Base"


WEBHOOKS = ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")


def default_tag(tags: Sequence[Mapping[str, Any]], revision: str) -> Change | None:
    """What `istioctl install` does last and doesn't render: it points the tag `default` to the default revision.

    A control plane with another revision gets the tag only where nobody has it. `tags` are the webhooks of that tag.
    An installation that was cut short lacks it, though all that is rendered is there.
    """
    if tags and (revision or label(tags[0], REVISION) == "default"):
        return None
    metadata: Object = {
        "name": "istio-revision-tag-default",
        "labels": {"istio.io/tag": "default", REVISION: revision or "default"},
    }
    after: Object = {"apiVersion": WEBHOOKS[0], "kind": WEBHOOKS[1], "metadata": metadata}
    return Change("update" if tags else "create", dict(tags[0]) if tags else None, after, "istio-operator")


def label(manifest: Mapping[str, Any], name: str) -> str:
    """A label's value, empty where there is none."""
    return str((manifest["metadata"].get("labels") or {}).get(name, ""))


def left_over(rendered: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Objects of an earlier install that are rendered no longer."""
    keep = {_kinds.key_of(each) for each in rendered}
    return [dict(each) for each in live if _kinds.key_of(each) not in keep]


def summary(version: str, changes: Sequence[Change]) -> str:
    """`Istio 1.31.0: create 2, update 1 (Deployment istio-system/istiod, ...)`: what runs first, ten names at most."""
    counts = Counter(each.verb for each in changes)
    if not counts:
        return f"Istio {version}: nothing to change"
    order = ("Deployment", "DaemonSet", "Service", "ConfigMap", "MutatingWebhookConfiguration")
    ranked = sorted(changes, key=lambda each: order.index(each.kind) if each.kind in order else len(order))
    names = [f"{each.kind} {each.namespace + '/' if each.namespace else ''}{each.name}" for each in ranked]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    verbs = ", ".join(f"{verb} {counts[verb]}" for verb in ("create", "update", "delete") if counts[verb])
    return f"Istio {version}: {verbs} ({', '.join(names[:10])}{more})"


def images(rendered: Iterable[Mapping[str, Any]]) -> list[str]:
    """The images that rendered objects and injected proxies need: what a registry of one's own must hold."""
    found: set[str] = set()
    for each in rendered:
        pod = each.get("spec", {}).get("template", {}).get("spec", {}) if each["kind"] in _WORKLOADS else {}
        for container in [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]:
            if container.get("image") not in (None, "auto"):
                found.add(str(container["image"]))
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("istio-sidecar-injector"):
            found |= _proxy_image(each)
    return sorted(found)


def _proxy_image(injector: Mapping[str, Any]) -> set[str]:
    values = json.loads(injector["data"]["values"])["global"]
    image = values.get("proxy", {}).get("image", "proxyv2")
    variant = values.get("proxy", {}).get("variant") or values.get("variant")
    return {image if "/" in image else f"{values['hub']}/{image}:{values['tag']}{'-' + variant if variant else ''}"}


# --- what isn't ready ---


def unready(workloads: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say of each Deployment and DaemonSet that isn't fully rolled out how far it is, and why its pods wait."""
    waiting = list(pods)
    lines = []
    for each in workloads:
        wanted, ready, updated, present = _counts(each)
        seen = each.get("status", {}).get("observedGeneration", 0) >= each["metadata"].get("generation", 0)
        # Old pods that are still there besides the new ones mean a rollout in progress
        if seen and min(ready, updated) >= wanted and present <= wanted:
            continue
        namespace = each["metadata"]["namespace"]
        chosen = each["spec"]["selector"].get("matchLabels", {}).items()
        reasons = sorted(
            {
                reason
                for pod in waiting
                if pod["metadata"]["namespace"] == namespace and chosen <= pod["metadata"].get("labels", {}).items()
                for reason in _reasons(pod)
            }
        )
        lines.append(
            f"{each['kind']} {namespace}/{each['metadata']['name']}: {ready} of {wanted} pods ready"
            + (f", {updated} of them new" if updated < wanted else "")
            + (f" ({'; '.join(reasons)})" if reasons else "")
        )
    return lines


def _counts(workload: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Pods that are wanted, ready, of the newest template, and there at all."""
    status = workload.get("status", {})
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        ready, updated = status.get("numberReady", 0), status.get("updatedNumberScheduled", 0)
        return wanted, ready, updated, status.get("currentNumberScheduled", 0)
    wanted = workload["spec"].get("replicas", 1)
    return wanted, status.get("readyReplicas", 0), status.get("updatedReplicas", 0), status.get("replicas", 0)


def _reasons(pod: Mapping[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{name} not scheduled: {condition.get('message') or condition.get('reason')}"
    for container in status.get("containerStatuses") or ():
        state = container.get("state", {}).get("waiting")
        if state:
            yield f"{name}: {state.get('reason', 'waiting')} {state.get('message', '')}".rstrip()


# --- what fits where ---


def hostname(node: Mapping[str, Any]) -> str:
    """The name by which a node is chosen: its label, which is nearly always its name."""
    return str((node["metadata"].get("labels") or {}).get(_HOSTNAME, node["metadata"]["name"]))


def unknown_edges(gateways: Iterable[Gateway], nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Edges that no node is called by: their gateway pods would wait for ever."""
    return sorted({edge for gateway in gateways for edge in gateway.edges} - {hostname(each) for each in nodes})


def untolerated(gateways: Iterable[Gateway], nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say which gateway has no pod on which edge because of a taint, and of edges that take no pods now."""
    named = {hostname(each): each for each in nodes}
    lines = []
    for gateway in gateways:
        for edge in gateway.edges:
            taints = named.get(edge, {}).get("spec", {}).get("taints") or ()
            for taint in (each for each in taints if each["effect"] != "PreferNoSchedule"):
                if not any(_tolerates(each, taint) for each in gateway.tolerations):
                    text = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}".replace("=:", ":")
                    lines.append(f"{gateway.namespace}/{gateway.name} has no pod on {edge}, which has the taint {text}")
    return lines


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint["key"]
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


_UNITS = {"m": Decimal("0.001"), "": Decimal(1)} | {
    unit: Decimal(base) ** power
    for base, units in ((1000, ("k", "M", "G", "T")), (1024, ("Ki", "Mi", "Gi", "Ti")))
    for power, unit in enumerate(units, 1)
}


def quantity(text: object) -> Decimal:
    """`250m` -> 0.25, `64Mi` -> 67108864: a quantity as Kubernetes writes it, in cores or bytes."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][0-9]+)?)([A-Za-z]*)", str(text))
    return Decimal(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else Decimal(0)


def crowded(
    workloads: Iterable[Mapping[str, Any]],
    gateways: Iterable[Gateway],
    nodes: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Say on which edges a gateway's new pod doesn't fit beside what is there. `workloads` are the rendered ones."""
    rendered = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in workloads}
    used: dict[tuple[str, str], Decimal] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            for name, amount in _requests(pod["spec"]).items():
                key = pod["spec"].get("nodeName", ""), name
                used[key] = used.get(key, 0) + amount
    named = {hostname(each): each for each in nodes}
    lines = []
    for gateway in gateways:
        workload = rendered.get((gateway.namespace, gateway.name))
        asked = _requests(workload["spec"]["template"]["spec"]) if workload else {}
        for edge in (each for each in gateway.edges if each in named):
            node = named[edge]
            for name, amount in asked.items():
                free = quantity(node["status"]["allocatable"].get(name)) - used.get((node["metadata"]["name"], name), 0)
                if amount > free:
                    short = f"{edge} has {_shown(name, free)} left"
                    lines.append(f"{short}, {gateway.name} asks for {_shown(name, amount)}")
    return lines


def _requests(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for container in pod.get("containers") or ():
        for name, amount in (container.get("resources", {}).get("requests") or {}).items():
            if name in ("cpu", "memory"):
                total[name] = total.get(name, 0) + quantity(amount)
    return total


def _shown(name: str, amount: Decimal) -> str:
    return f"{amount * 1000:.0f}m of CPU" if name == "cpu" else f"{amount / 2**20:.0f}Mi of memory"
