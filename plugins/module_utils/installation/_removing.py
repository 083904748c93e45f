# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take an installation of ours away again, in order, with what istiod made on its own, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _objects
from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_over
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed, _installing
from ansible_collections.edgeway.istio.plugins.module_utils.installation._installers import PRUNED, Helm, Installer
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import OWNER, Settings

Manifest = dict[str, Any]

_DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_CONTROLLERS = ("istio.io/gateway-controller", "istio.io/unmanaged-gateway", "istio.io/mesh-controller")

#: What goes first: with the webhooks gone nothing waits for an istiod that isn't there any more; gateways go before the
#: control plane that they ask, and roles last.
_ORDER = (
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
    "DaemonSet",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How far to go; the module's options every_revision, remove_definitions and in_use, and the usual ones."""

    every: bool = False
    definitions: bool = False
    in_use: bool = False
    check: bool = False
    wait_timeout: int = 300


def remove(installer: Installer, settings: Settings, cluster: Cluster, options: Options) -> _installing.Result:
    """Remove control planes, their gateways, and what is left when no istiod is.

    That is the one of the settings' revision or, with `every`, all of ours in its namespace.
    """
    there = _installing.control_planes(cluster)
    revisions, others = _revisions(there, installer, settings, every=options.every)
    last = all(each.namespace == settings.namespace and each.revision in revisions for each in there)
    found = _ours(cluster, settings, revisions, last=last)
    releases = installer.plan_removal(revisions, last=last) if isinstance(installer, Helm) else []
    if not options.in_use:
        _refuse_users(cluster, revisions, [*found, *_released(cluster, releases)], last=last)
    rest = _left_behind(cluster, settings.namespace) if last else []
    definitions = _definitions(cluster, releases) if last and options.definitions else []
    made = _objects.find(cluster, "v1", "Namespace", _installing.NAMESPACE_LABELS) if last else []
    kinds = _namespaced(cluster, definitions) if made else []
    going = {_kinds.key_of(each) for each in [*found, *rest]}
    staying = {each["metadata"]["name"]: _staying(cluster, kinds, each, going, releases) for each in made}
    homes = [each for each in made if not staying[each["metadata"]["name"]]]
    doomed = _unique([*found, *rest, *definitions, *homes])
    changes = [Change("delete", each, None, "") for each in [*releases, *doomed]]
    result = _installing.Result(installer.version, changes, others)
    if changes:
        result.warnings += [f"Namespace {name} stays: {_some(names)}." for name, names in staying.items() if names]
    if options.check or not changes:
        return result
    if isinstance(installer, Helm):
        for release in releases:
            metadata = release["metadata"]
            installer.uninstall(metadata["namespace"], metadata["name"], options.wait_timeout)
    for each in sorted(found, key=_rank):
        _objects.delete(cluster, each)
    _gone(cluster, found, options.wait_timeout)
    # Only now: a dying istiod would write them again
    rest = _left_behind(cluster, settings.namespace) if last else []
    homes = [each for each in homes if not _staying(cluster, kinds, each, going, [])]
    for each in _unique([*rest, *definitions, *homes]):
        _objects.delete(cluster, each)
    _gone(cluster, [*definitions, *homes], options.wait_timeout)
    return result


def _revisions(
    there: Sequence[_installed.Installed], installer: Installer, settings: Settings, *, every: bool
) -> tuple[list[str], list[str]]:
    """The revisions to remove, and what is to be said of those of ours that stay."""
    program = "helm" if isinstance(installer, Helm) else "istioctl"
    wanted = settings.revision or "default"
    revisions, lines = [wanted], []
    for each in there:
        name = f"Istio (namespace {each.namespace}, revision {each.revision})"
        here = each.namespace == settings.namespace
        if here and each.revision == wanted and not each.ours:
            raise ClusterError(
                f"{name} was installed by {each.by}, not by us.", "Remove it with the program that installed it."
            )
        if here and each.revision == wanted and each.by != program:
            raise ClusterError(f"method: {name} was installed by {each.by}.", f"Set it to {each.by}.")
        if not every or not each.ours or (here and each.revision == wanted):
            continue
        if here and each.by == program:
            revisions.append(each.revision)
        else:
            lines.append(f"{name} is ours and stays: it was installed by {each.by}. Remove it by a run of its own.")
    return revisions, lines


#: Kinds of which nothing that isn't ours may be in a namespace that we made and would remove, beside those that
#: definitions add. Events and leases, and what Kubernetes derives from these, say nothing of users.
_INHABITANTS = (
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "LimitRange"),
    ("v1", "ResourceQuota"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)

#: What every namespace has: Kubernetes and istiod put it there.
_EVERYWHERE = (
    ("ServiceAccount", "default"),
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ConfigMap", "istio-ca-crl"),
)

_Served = tuple[_kinds.Kind, str]
"""A kind and the version to ask for it in."""


def _namespaced(cluster: Cluster, doomed: Sequence[Manifest]) -> list[_Served]:
    """All kinds to look for in a namespace. Objects of `doomed` definitions go with these, wherever they are."""
    without = {_kinds.key_of(each) for each in doomed}
    found = []
    for api_version, kind in _INHABITANTS:
        group, version = _kinds.split(api_version)
        found.append((_kinds.Kind(group, kind, _objects.plural(kind), 0), version))
    for definition in _objects.find(cluster, *_DEFINITION):
        spec = definition["spec"]
        served = [each["name"] for each in spec.get("versions") or () if each.get("served")]
        if spec.get("scope") == "Namespaced" and served and _kinds.key_of(definition) not in without:
            names = spec["names"]
            found.append((_kinds.Kind(spec["group"], names["kind"], names["plural"], 0), served[-1]))
    return found


def _staying(
    cluster: Cluster,
    kinds: Sequence[_Served],
    home: Mapping[str, Any],
    going: set[_kinds.Key],
    releases: Sequence[Manifest],
) -> list[str]:
    """What stays in a namespace: anything but what goes, what that owns, and what every namespace has."""
    namespace = home["metadata"]["name"]
    released = {each["metadata"]["name"] for each in releases if each["metadata"]["namespace"] == namespace}

    def stays(kind: _kinds.Kind, each: Manifest) -> bool:
        metadata = each["metadata"]
        labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if (kind.name, metadata["name"]) in _EVERYWHERE:
            return False
        if (kind.group, kind.name, namespace, metadata["name"]) in going:
            return False
        if metadata.get("ownerReferences") or metadata.get("deletionTimestamp") or _installed.is_ours(each):
            return False
        if labels.get("owner") == "helm":
            return labels.get("name") not in released
        return notes.get(_installed.RELEASE) not in released

    def look(served: _Served) -> list[tuple[str, str, Manifest]]:
        kind, version = served
        try:
            found = cluster.items(kind.path(version, namespace))
        except RefusedError as refused:
            if refused.status != 403:
                raise
            return [(kind.name, f"{kind.plural} can't be listed", {})]
        return [(kind.name, f"{kind.name} {each['metadata']['name']}", each) for each in found if stays(kind, each)]

    found = [each for listed in cluster.every(look, kinds) for each in listed]
    accounts = {each["metadata"]["name"] for kind, _name, each in found if kind == "ServiceAccount" and each}
    # A token goes with the account that it is for
    return [name for kind, name, each in found if kind != "Secret" or _account(each) in (None, "default", *accounts)]


def _account(secret: Mapping[str, Any]) -> str | None:
    """The ServiceAccount whose token a Secret holds, None for any other Secret."""
    if secret.get("type") != "kubernetes.io/service-account-token":
        return None
    return str((secret["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _rank(manifest: Manifest) -> int:
    return _ORDER.index(manifest["kind"]) if manifest["kind"] in _ORDER else len(_ORDER)


def _unique(found: Iterable[Manifest]) -> list[Manifest]:
    return list({_kinds.key_of(each): each for each in found}.values())


#: What istioctl installs and never prunes.
_UNPRUNED = (
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
)


def _ours(cluster: Cluster, settings: Settings, revisions: Sequence[str], *, last: bool) -> list[Manifest]:
    """What istioctl installed for us. The base, which revisions share, is part of it when no control plane is left."""
    labels = {
        _installed.OWNED: OWNER,
        "install.operator.istio.io/owning-resource-namespace": settings.namespace,
    }
    chosen = [labels] if last else [{**labels, _installed.REVISION: each} for each in revisions]
    asked = [(kind, each) for kind in (*PRUNED, *_UNPRUNED) for each in chosen]
    found = cluster.every(lambda ask: _objects.find(cluster, *ask[0], ask[1]), asked)
    return [each for objects in found for each in objects if last or not _installed.of_base(each)]


def _released(cluster: Cluster, releases: Sequence[Manifest]) -> list[Manifest]:
    """The workloads of Helm's releases."""
    names = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in releases}
    kinds = [("apps/v1", "Deployment"), ("apps/v1", "DaemonSet")] if names else []
    found = cluster.every(lambda kind: _objects.find(cluster, *kind), kinds)
    return [
        each
        for objects in found
        for each in objects
        if (each["metadata"].get("namespace"), (each["metadata"].get("annotations") or {}).get(_installed.RELEASE))
        in names
    ]


def _definitions(cluster: Cluster, releases: Sequence[Manifest]) -> list[Manifest]:
    """Istio's definitions that we installed; Helm leaves them, marked as of a release that is there no more."""
    names = {"istio-base", *(each["metadata"]["name"] for each in releases)}
    return [
        each
        for each in _objects.find(cluster, *_DEFINITION)
        if each["spec"]["group"].endswith(".istio.io")
        and (_installed.is_ours(each) or (each["metadata"].get("annotations") or {}).get(_installed.RELEASE) in names)
    ]


def _left_behind(cluster: Cluster, namespace: str) -> list[Manifest]:
    """What istiod itself made: its CA, its elections, the CA's certificate in each namespace, its GatewayClasses."""
    roots = _objects.find(cluster, "v1", "ConfigMap", {"istio.io/config": "true"})
    maps = _objects.find(cluster, "v1", "ConfigMap", namespace=namespace)
    secrets = [{"metadata": {"namespace": namespace, "name": "istio-ca-secret"}, "apiVersion": "v1", "kind": "Secret"}]
    classes = _objects.find(cluster, "gateway.networking.k8s.io/v1", "GatewayClass")
    return [
        *(each for each in roots if each["metadata"]["name"] in ("istio-ca-root-cert", "istio-ca-crl")),
        *(each for each in maps if _election(each)),
        *(found for found in (_objects.get(cluster, each) for each in secrets) if found),
        *(each for each in classes if each["spec"]["controllerName"] in _CONTROLLERS),
    ]


def _election(config_map: Mapping[str, Any]) -> bool:
    """Whether istiod elected itself by it; one that ends in good order leaves it without a holder."""
    notes = config_map["metadata"].get("annotations") or {}
    try:
        leader = json.loads(notes.get("control-plane.alpha.kubernetes.io/leader", "null"))
    except ValueError:
        return False
    if not isinstance(leader, dict) or not config_map["metadata"]["name"].startswith("istio-"):
        return False
    holder = str(leader.get("holderIdentity", ""))
    return not holder or holder.startswith("istiod")


def _refuse_users(cluster: Cluster, revisions: Sequence[str], going: Sequence[Manifest], *, last: bool) -> None:
    """Raise ClusterError while something that isn't `going` itself still needs these control planes."""
    workloads = [
        (each["metadata"]["namespace"], each["spec"]["selector"].get("matchLabels") or {})
        for each in going
        if each["kind"] in ("Deployment", "DaemonSet")
    ]

    def goes(pod: Mapping[str, Any]) -> bool:
        labels = (pod["metadata"].get("labels") or {}).items()
        return any(
            pod["metadata"]["namespace"] == namespace and chosen.items() <= labels for namespace, chosen in workloads
        )

    pods = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in _objects.find(cluster, "v1", "Pod")
        if _proxy_revision(each) in revisions and not goes(each)
    ]
    gateways = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in (_objects.find(cluster, "gateway.networking.k8s.io/v1", "Gateway") if last else [])
        if str(each["spec"].get("gatewayClassName", "")).startswith("istio")
    ]
    users = [*_counted("pod", pods), *_counted("Gateway", gateways)]
    if users:
        raise ClusterError(
            f"state: {' and '.join(users)} still need Istio of revision {', '.join(revisions)}.",
            "Remove them or take their sidecars away first, or set in_use to true to remove it all the same.",
        )


def _counted(what: str, names: Sequence[str]) -> list[str]:
    more = ", ..." if len(names) > 3 else ""
    return [f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({', '.join(names[:3])}{more})"] if names else []


def _proxy_revision(pod: Mapping[str, Any]) -> str | None:
    """The revision that a pod's proxy asks: a sidecar's, or that of a gateway of somebody's own. None without one."""
    metadata = pod["metadata"]
    notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    if is_over(pod):
        return None
    try:
        status = json.loads(notes.get("sidecar.istio.io/status", "null"))
    except ValueError:
        status = None
    if status:
        return str(status.get("revision") or "default")
    # A gateway of istioctl's isn't injected; one of the Gateway API's is counted as a Gateway
    bare = any(each.get("name") == "istio-proxy" for each in pod["spec"].get("containers") or ())
    if bare and "gateway.networking.k8s.io/gateway-name" not in labels:
        return labels.get(_installed.REVISION)
    return None


def _gone(cluster: Cluster, doomed: Sequence[Manifest], timeout: float, pause: float = 0.5) -> None:
    """Wait until objects and what they own are gone."""
    end = time.monotonic() + timeout
    waiting = list(doomed)
    while waiting:
        live = cluster.every(lambda each: _objects.get(cluster, each), waiting)
        waiting = [each for each, now in zip(waiting, live, strict=True) if now and _same(each, now)]
        if waiting and time.monotonic() >= end:
            names = ", ".join(f"{each['kind']} {each['metadata']['name']}" for each in waiting)
            if timeout:
                raise ClusterError(f"After {timeout:g} s there still is {names}.", "Look at its finalizers.")
            return
        if waiting:
            time.sleep(pause)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["metadata"].get("uid") == other["metadata"].get("uid"))
