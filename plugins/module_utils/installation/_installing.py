# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: look at what is there, refuse what can't work, install what differs, wait until it is ready."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _objects
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed
from ansible_collections.edgeway.istio.plugins.module_utils.installation._installers import (
    PRUNED,
    Installer,
    InstallerError,
    Istioctl,
)
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import Gateway, Settings

Manifest = dict[str, Any]

MANAGER = "edgeway/installation"
NAMESPACE_LABELS = {"app.kubernetes.io/managed-by": "edgeway", "edgeway.istio/made-for": "installation"}


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes about it; the module's options of the same names, `move` being move_gateways."""

    method: str
    adopt: bool = False
    any_version: bool = False
    move: Sequence[str] | None = None
    check: bool = False
    wait_timeout: int = 300


@dataclass(slots=True)
class Result:
    """What a run did, or would do. `changes` leaves out what stays as it is."""

    version: str
    changes: list[Change]
    warnings: list[str] = field(default_factory=list)


def ensure(installer: Installer, settings: Settings, cluster: Cluster, options: Options) -> Result:
    """Bring the cluster to what the installer renders. Raises ClusterError or InstallerError."""
    there = control_planes(cluster)
    _refuse(there, settings, installer.version, options)
    if options.move is not None:
        settings = _staying(cluster, settings, options.move)
        installer.settings = settings
        if not options.move and _stands(cluster, settings):
            return Result(installer.version, [])
    rendered = installer.render()
    nodes = _nodes(cluster)
    _refuse_edges(settings, nodes)
    homes = _namespaces(cluster, settings)
    former = _former(cluster, installer, rendered) if options.adopt else []
    changes = homes + [each for each in installer.plan(cluster) if each.verb != "unchanged"]
    changes += [Change("delete", each, None, MANAGER) for each in former]
    result = Result(installer.version, changes)
    result.warnings += [f"{line}." for line in _installed.untolerated(settings.gateways, nodes)]
    if changes:
        result.warnings += _before(installer, settings, cluster, rendered, changes, nodes)
    if options.check:
        return result
    for each in homes:
        _objects.apply(cluster, each.manifest, MANAGER)
    if changes:
        try:
            installer.install(options.wait_timeout)
        except InstallerError as error:
            raise InstallerError(". ".join([str(error), *_waiting(cluster, rendered)])) from error
    if isinstance(installer, Istioctl):
        # What istioctl leaves: it tells installations by their names and versions
        for each in changes:
            if each.verb == "delete" and each.before:
                _objects.delete(cluster, each.before)
    if options.wait_timeout:
        late = wait(cluster, rendered, options.wait_timeout if changes else 0)
        if late and changes:
            raise ClusterError(
                ". ".join([f"Istio isn't ready after {options.wait_timeout} s", *late]) + ".",
                "Mend what keeps the pods from running and run this again.",
            )
        # Nothing of ours to wait for: an edge that is down must not keep the rest from being managed
        result.warnings += [f"{line}." for line in late]
    return result


def existing(settings: Settings, cluster: Cluster) -> Result:
    """Look at an Istio that somebody else keeps: it must be there, and the gateways of the list as well."""
    wanted = settings.revision or "default"
    here = settings.namespace, wanted
    there = [each for each in control_planes(cluster) if (each.namespace, each.revision) == here]
    if not there:
        raise ClusterError(
            f"method: there is no Istio of revision {wanted} in namespace {settings.namespace}.",
            "Install it, or set the method to istioctl or helm to have it installed.",
        )
    services = [each["metadata"] for each in _objects.find(cluster, "v1", "Service")]
    names = {(each["namespace"], each["name"]) for each in services}
    missing = [
        f"{each.namespace}/{each.name}" for each in settings.gateways if (each.namespace, each.name) not in names
    ]
    if missing:
        raise ClusterError(
            f"gateways: there is no Service {', '.join(missing)}.",
            "Name the gateways that are there, or set the method to istioctl or helm to have them installed.",
        )
    return Result(there[0].version, [])


def control_planes(cluster: Cluster) -> list[_installed.Installed]:
    """Every istiod in the cluster."""
    return [
        _installed.control_plane(each) for each in _objects.find(cluster, "apps/v1", "Deployment", {"app": "istiod"})
    ]


def _refuse(there: Sequence[_installed.Installed], settings: Settings, version: str, options: Options) -> None:
    problem = _installed.objection(
        there, namespace=settings.namespace, revision=settings.revision, method=options.method, adopt=options.adopt
    )
    if problem:
        raise ModelError((problem,))
    for each in there:
        if (each.namespace, each.revision) == (settings.namespace, settings.revision or "default"):
            if options.move is not None and each.version not in ("", version):
                name = f"revision {each.revision} is Istio {each.version}"
                cure = (
                    f"To go back to it as it is, take the istioctl or the charts of {each.version}; to bring it to "
                    f"{version} in place, run istio.yml"
                )
                raise ModelError((Problem("executable", f"{name}, and this would make it {version}", cure),))
            reason = "" if options.any_version else _installed.step_objection(each.version, version)
            if reason:
                cure = "Take an installer of a version between, or set any_version to true"
                raise ModelError((Problem("executable", reason, cure),))


def _stands(cluster: Cluster, settings: Settings) -> bool:
    """Whether the control plane is there and ready: the one that gateways go back to is left as it is.

    Whatever else differs is written when the first gateway moves to it. So istioctl takes the tag `default` back for
    the default revision only when that gateway is there.
    """
    place = {"namespace": settings.namespace, "name": settings.istiod}
    live = _objects.get(cluster, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place})
    return live is not None and not _installed.unready([live], ())


def _staying(cluster: Cluster, settings: Settings, move: Sequence[str]) -> Settings:
    """The settings without the gateways that another revision serves and that aren't to be moved now.

    Their objects carry that revision's label, so an installer of this revision doesn't take them for left over.
    """
    wanted = settings.revision or "default"

    def here(gateway: Gateway) -> bool:
        place = {"namespace": gateway.namespace, "name": gateway.name}
        for kind in ("Deployment", "DaemonSet"):
            live = _objects.get(cluster, {"apiVersion": "apps/v1", "kind": kind, "metadata": place})
            if live:
                return _installed.served_by(live) == wanted
        return False

    kept = tuple(each for each in settings.gateways if each.name in move or here(each))
    return replace(settings, gateways=kept)


def _former(cluster: Cluster, installer: Installer, rendered: Sequence[Manifest]) -> list[Manifest]:
    """What an adopted control plane has and ours hasn't.

    Helm's releases keep their names when they are adopted, and Helm removes by itself.
    """
    if not isinstance(installer, Istioctl):
        return []
    found = cluster.every(lambda kind: _objects.find(cluster, *kind, {_installed.MANAGED: "Reconcile"}), PRUNED)
    settings = installer.settings
    live = [
        each
        for objects in found
        for each in objects
        if _installed.of_former(each, settings.revision, settings.gateways)
    ]
    return _installed.left_over(rendered, live)


def _namespaces(cluster: Cluster, settings: Settings) -> list[Change]:
    """Namespaces that are missing. Those that we make carry a label, so that removing may take them away again."""
    names = dict.fromkeys([settings.namespace, *(each.namespace for each in settings.gateways)])
    wanted: list[Manifest] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each, "labels": dict(NAMESPACE_LABELS)}}
        for each in names
    ]
    return [Change("create", None, each, MANAGER) for each in wanted if _objects.get(cluster, each) is None]


def _nodes(cluster: Cluster) -> list[Manifest]:
    """The nodes; none where we have no right to list them, and then nothing is said of edges."""
    try:
        return _objects.find(cluster, "v1", "Node")
    except RefusedError as refused:
        if refused.status == 403:
            return []
        raise


def _refuse_edges(settings: Settings, nodes: Sequence[Manifest]) -> None:
    unknown = _installed.unknown_edges(settings.gateways, nodes) if nodes else []
    if unknown:
        raise ClusterError(
            f"edges: {', '.join(unknown)} is no node of the cluster; it has "
            f"{', '.join(sorted(_installed.hostname(each) for each in nodes))}.",
            "Where an edge is called otherwise as a node, set edgeway_node_name for it; where edges are outside the "
            "cluster, set edgeway_gateway_nodes to the nodes that carry the gateways.",
        )


def _before(
    installer: Installer,
    settings: Settings,
    cluster: Cluster,
    rendered: Sequence[Manifest],
    changes: Iterable[Change],
    nodes: Sequence[Manifest],
) -> list[str]:
    """What is worth knowing before something is installed. An error of istioctl's own precheck stops the run."""
    warnings = []
    if isinstance(installer, Istioctl):
        found = installer.precheck()
        errors = [each["message"] for each in found if each["level"] == "Error"]
        if errors:
            raise ClusterError(f"istioctl's precheck: {'; '.join(errors)}.", "Mend that first.")
        warnings += [f"istioctl's precheck: {each['message']}." for each in found if each["level"] == "Warning"]
    created = {(each.namespace, each.name) for each in changes if each.verb == "create"}
    new = [each for each in settings.gateways if (each.namespace, each.name) in created]
    if new and nodes:
        workloads = [each for each in rendered if each["kind"] in ("Deployment", "DaemonSet")]
        pods = _objects.find(cluster, "v1", "Pod")
        warnings += [f"{line}." for line in _installed.crowded(workloads, new, nodes, pods)]
    return warnings


def wait(cluster: Cluster, rendered: Sequence[Manifest], timeout: float, pause: float = 1.0) -> list[str]:
    """Wait until every rendered workload is rolled out; return what isn't when the time is over."""
    end = time.monotonic() + timeout
    while _installed.unready(_workloads(cluster, rendered), ()):
        if time.monotonic() >= end:
            return _waiting(cluster, rendered)
        time.sleep(pause)
    return []


def _workloads(cluster: Cluster, rendered: Iterable[Manifest]) -> list[Manifest]:
    wanted = [each for each in rendered if each["kind"] in ("Deployment", "DaemonSet")]
    return [each for each in cluster.every(lambda each: _objects.get(cluster, each), wanted) if each]


def _waiting(cluster: Cluster, rendered: Iterable[Manifest]) -> list[str]:
    return _installed.unready(_workloads(cluster, rendered), _objects.find(cluster, "v1", "Pod"))


def difference(change: Change) -> dict[str, str]:
    """One change as Ansible's diff shows it, without what the server counts and without what a Secret holds."""
    name = f"{change.kind} {change.namespace}/{change.name}"
    before, after = _fields.quiet_pair(change.before, None if change.verb == "delete" else change.after)
    return {
        "before_header": name,
        "after_header": name,
        "before": _yaml.dump(before, sort_keys=True) if before else "",
        "after": _yaml.dump(after, sort_keys=True) if after else "",
    }
