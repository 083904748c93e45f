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
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _objects
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
    """How far to go; the module's options remove_definitions and in_use, and the usual ones."""

    definitions: bool = False
    in_use: bool = False
    check: bool = False
    wait_timeout: int = 300


def remove(installer: Installer, settings: Settings, cluster: Cluster, options: Options) -> _installing.Result:
    """Remove the control plane of the settings' revision, its gateways, and what is left when no istiod is."""
    here = settings.namespace, settings.revision or "default"
    there = _installing.control_planes(cluster)
    foreign = [each for each in there if (each.namespace, each.revision) == here and not each.ours]
    if foreign:
        raise ClusterError(
            f"Istio (namespace {here[0]}, revision {here[1]}) was installed by {foreign[0].by}, not by us.",
            "Remove it with the program that installed it.",
        )
    last = all((each.namespace, each.revision) == here for each in there)
    if not options.in_use:
        _refuse_users(cluster, here[1], last=last)
    found = _ours(cluster, settings, last=last)
    releases = installer.plan_removal(last=last) if isinstance(installer, Helm) else []
    rest = _left_behind(cluster, settings.namespace) if last else []
    definitions = _definitions(cluster, releases) if last and options.definitions else []
    homes = _objects.find(cluster, "v1", "Namespace", _installing.NAMESPACE_LABELS) if last else []
    going = {_kinds.key_of(each) for each in [*found, *rest]}
    homes = [each for each in homes if not _inhabited(cluster, each["metadata"]["name"], going, releases)]
    doomed = _unique([*found, *rest, *definitions, *homes])
    changes = [Change("delete", each, None, "") for each in [*releases, *doomed]]
    result = _installing.Result(installer.version, changes)
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
    homes = [each for each in homes if not _inhabited(cluster, each["metadata"]["name"], going, [])]
    for each in _unique([*rest, *definitions, *homes]):
        _objects.delete(cluster, each)
    _gone(cluster, [*definitions, *homes], options.wait_timeout)
    return result


#: Kinds of which nothing that isn't ours may be in a namespace that we made and would remove.
_INHABITANTS = (
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "VirtualService"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
)


def _inhabited(cluster: Cluster, namespace: str, going: set[_kinds.Key], releases: Sequence[Manifest]) -> bool:
    """Whether something stays in a namespace: anything but what goes, what that owns, and what every namespace has."""
    released = {each["metadata"]["name"] for each in releases}

    def stays(each: Manifest) -> bool:
        metadata = each["metadata"]
        if _kinds.key_of(each) in going or metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
            return False
        if metadata["name"] in ("kube-root-ca.crt", "istio-ca-root-cert"):
            return False
        if (metadata.get("labels") or {}).get("owner") == "helm":
            return (metadata["labels"].get("name")) not in released
        return (metadata.get("annotations") or {}).get(_installed.RELEASE) not in released

    found = cluster.every(lambda kind: _objects.find(cluster, *kind, namespace=namespace), _INHABITANTS)
    return any(stays(each) for objects in found for each in objects)


def _rank(manifest: Manifest) -> int:
    return _ORDER.index(manifest["kind"]) if manifest["kind"] in _ORDER else len(_ORDER)


def _unique(found: Iterable[Manifest]) -> list[Manifest]:
    return list({_kinds.key_of(each): each for each in found}.values())


def _ours(cluster: Cluster, settings: Settings, *, last: bool) -> list[Manifest]:
    """What istioctl installed for us. The base, which revisions share, is part of it when this is the last one."""
    labels = {
        _installed.OWNED: OWNER,
        "install.operator.istio.io/owning-resource-namespace": settings.namespace,
    }
    if not last:
        labels[_installed.REVISION] = settings.revision or "default"
    found = cluster.every(lambda kind: _objects.find(cluster, *kind, labels), PRUNED)
    return [each for objects in found for each in objects if last or not _installed.of_base(each)]


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


def _refuse_users(cluster: Cluster, revision: str, *, last: bool) -> None:
    """Raise ClusterError while something still needs this control plane."""
    pods = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in _objects.find(cluster, "v1", "Pod")
        if _sidecar_revision(each) == revision
    ]
    gateways = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in (_objects.find(cluster, "gateway.networking.k8s.io/v1", "Gateway") if last else [])
        if str(each["spec"].get("gatewayClassName", "")).startswith("istio")
    ]
    users = [*_counted("pod", pods), *_counted("Gateway", gateways)]
    if users:
        raise ClusterError(
            f"state: {' and '.join(users)} still need Istio of revision {revision}.",
            "Remove them or take their sidecars away first, or set in_use to true to remove it all the same.",
        )


def _counted(what: str, names: Sequence[str]) -> list[str]:
    more = ", ..." if len(names) > 3 else ""
    return [f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({', '.join(names[:3])}{more})"] if names else []


def _sidecar_revision(pod: Mapping[str, Any]) -> str | None:
    """The revision that injected a pod's sidecar; None for a pod without one, or for a gateway's."""
    notes = pod["metadata"].get("annotations") or {}
    try:
        status = json.loads(notes.get("sidecar.istio.io/status", "null"))
    except ValueError:
        return None
    if not status or notes.get("inject.istio.io/templates") == "gateway":
        return None
    return str(status.get("revision") or "default")


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
