# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istioctl as a declared state: render, compare with the cluster, install when something differs, wait.

istioctl itself is a process, which the caller runs (`Run`); the cluster is reached through `_cluster.Cluster` alone.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _install, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError

Manifest = dict[str, Any]

DEFINITIONS_MANAGER = "edgeway/gateway-api"

Run = Callable[[Sequence[str], str], tuple[int, str, str]]
"""Runs istioctl with arguments and a text for its standard input; returns its exit code, output and errors."""

#: Kinds of which `istioctl install` removes what it once made and renders no longer (operator/pkg/uninstall in Istio's
#: source), without Secrets and Pods: Istio renders neither, and Secrets aren't read without need.
PRUNED = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
)


class IstioctlError(Exception):
    """istioctl is missing, or it failed. The message says which command and quotes its own words."""


@dataclass(frozen=True, slots=True)
class Istioctl:
    """istioctl with its version."""

    run: Run
    version: str

    @classmethod
    def find(cls, run: Run, executable: str) -> Istioctl:
        """Ask istioctl for its version, so that a missing or foreign program is found first."""
        code, out, err = run(["version", "--remote=false", "--output=json"], "")
        try:
            version = str(json.loads(out)["clientVersion"]["version"]) if code == 0 else ""
        except (ValueError, KeyError, TypeError):
            version = ""
        if not version:
            raise IstioctlError(f"{executable} isn't istioctl, or doesn't run: {(err or out).strip()[:500]}")
        return cls(run, version)

    def render(self, operator: Mapping[str, Any]) -> list[Manifest]:
        """Return the objects that this operator stands for."""
        out = self._call(["manifest", "generate", "--filename=-"], operator, "render Istio")
        return read_yaml(out)

    def install(self, operator: Mapping[str, Any], timeout: int) -> None:
        """Write them, and remove what the operator stands for no longer."""
        wait = ["--skip-confirmation", f"--readiness-timeout={max(timeout, 1)}s", "--filename=-"]
        self._call(["install", *wait], operator, "install Istio")

    def _call(self, arguments: Sequence[str], operator: Mapping[str, Any], what: str) -> str:
        code, out, err = self.run(arguments, yaml.safe_dump(dict(operator)))
        if code:
            said = "\n".join(line for line in (err or out).splitlines() if line.strip())
            raise IstioctlError(f"istioctl can't {what} (exit code {code}): {said[-2000:]}")
        return out


def read_yaml(text: str) -> list[Manifest]:
    """The documents of a YAML text, empty ones left out."""
    return [each for each in yaml.load_all(text, Loader=_LOADER) if each]


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def path(manifest: Mapping[str, Any]) -> str:
    """The API server's path of an object of any kind. The plural is guessed by Kubernetes' own rule."""
    group, version = _kinds.split(manifest["apiVersion"])
    metadata = manifest["metadata"]
    kind = _kinds.Kind(group, manifest["kind"], plural(manifest["kind"]), 0)
    return kind.path(version, metadata.get("namespace"), metadata["name"])


def plural(kind: str) -> str:
    """`NetworkPolicy` -> `networkpolicies`, `IngressClass` -> `ingressclasses`, `Role` -> `roles`."""
    name = kind.lower()
    if name.endswith("s"):
        return name + "es"
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


def get(cluster: Cluster, manifest: Mapping[str, Any]) -> Manifest | None:
    """The live object of this manifest's kind and name, None where there is none."""
    try:
        found, _status = cluster.request("GET", path(manifest))
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise
    return dict(found)


def apply(cluster: Cluster, manifest: Mapping[str, Any], manager: str, *, dry_run: bool) -> Manifest:
    """Apply an object of any kind on the server's side, taking over fields of others as istioctl does."""
    query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    found, _status = cluster.request(
        "PATCH", path(manifest), query=query, body=manifest, content_type="application/apply-patch+yaml"
    )
    return dict(found)


def plan(cluster: Cluster, operator: Mapping[str, Any], rendered: Sequence[Manifest], version: str) -> list[Change]:
    """What `istioctl install` would change in the cluster, by a dry run of the applies that it does."""

    def compare(manifest: Manifest) -> Change:
        live = get(cluster, manifest)
        if live is None:
            # No dry run: the namespace may be missing as well
            return Change("create", None, manifest, _install.MANAGER)
        wanted = _install.as_installed(manifest, live, version)
        after = apply(cluster, wanted, _install.MANAGER, dry_run=True)
        same = _install.comparable(live) == _install.comparable(after)
        return Change("unchanged" if same else "update", live, after, _install.MANAGER)

    def listed(kind: tuple[str, str]) -> list[Manifest]:
        return find(cluster, *kind, selector)

    selector = _install.prune_selector(operator, version)
    live = [each for found in cluster.every(listed, PRUNED) for each in found]
    gone = [Change("delete", each, None, _install.MANAGER) for each in _install.left_over(rendered, live)]
    return [*cluster.every(compare, rendered), *gone]


def find(cluster: Cluster, api_version: str, kind: str, selector: str = "") -> list[Manifest]:
    """All objects of any kind, in the whole cluster, that the label selector chooses."""
    group, version = _kinds.split(api_version)
    query = {"labelSelector": selector} if selector else None
    try:
        page, _status = cluster.request("GET", _kinds.Kind(group, kind, plural(kind), 0).path(version), query=query)
    except RefusedError as refused:
        if refused.status == 404:
            return []
        raise
    return [{**each, "apiVersion": api_version, "kind": kind} for each in page.get("items") or ()]


def check_edges(cluster: Cluster, gateways: Iterable[_install.Gateway]) -> None:
    """Raise ClusterError for an edge that no node of the cluster is called by: its gateway pod would wait for ever.

    Without the right to list nodes nothing is known, and nothing is refused.
    """
    wanted = {edge for gateway in gateways for edge in gateway.edges}
    if not wanted:
        return
    try:
        nodes = find(cluster, "v1", "Node")
    except RefusedError as refused:
        if refused.status == 403:
            return
        raise
    names = {
        each["metadata"].get("labels", {}).get("kubernetes.io/hostname", each["metadata"]["name"]) for each in nodes
    }
    if wanted - names:
        raise ClusterError(
            f"edges: {', '.join(sorted(wanted - names))} is no node of the cluster; it has {', '.join(sorted(names))}.",
            "Where an edge is called otherwise as a node, set edgeway_node_name for it; where edges are outside the "
            "cluster, set edgeway_gateway_nodes to the nodes that carry the gateways.",
        )


def install(
    istioctl: Istioctl, cluster: Cluster, operator: Mapping[str, Any], rendered: Iterable[Manifest], timeout: int
) -> None:
    """Run `istioctl install`; where it fails, say beside its own words which pods wait for what."""
    try:
        istioctl.install(operator, timeout)
    except IstioctlError as error:
        lines = _waiting(cluster, rendered)
        raise IstioctlError(". ".join([str(error), *lines])) from error


def wait(cluster: Cluster, rendered: Sequence[Manifest], timeout: float, pause: float = 1.0) -> None:
    """Return when every rendered Deployment is rolled out, or raise ClusterError saying which isn't and why."""
    end = time.monotonic() + timeout
    while _install.unready(_deployments(cluster, rendered), ()):
        if time.monotonic() >= end:
            raise ClusterError(
                ". ".join([f"Istio isn't ready after {timeout:g} s", *_waiting(cluster, rendered)]) + ".",
                "Mend what keeps the pods from running and run this again.",
            )
        time.sleep(pause)


def _deployments(cluster: Cluster, rendered: Iterable[Manifest]) -> list[Manifest]:
    wanted = [each for each in rendered if each["kind"] == "Deployment"]
    return [each for each in cluster.every(lambda each: get(cluster, each), wanted) if each]


def _waiting(cluster: Cluster, rendered: Iterable[Manifest]) -> list[str]:
    return _install.unready(_deployments(cluster, rendered), find(cluster, "v1", "Pod"))


def summary(version: str, changes: Sequence[Change]) -> str:
    """`Istio 1.31.0: 2 create, 1 update (Deployment istio-system/istiod, ...)`, ten names at most."""
    counts = Counter(each.verb for each in changes)
    if not counts:
        return f"Istio {version}: nothing to change"
    names = [f"{each.kind} {each.namespace + '/' if each.namespace else ''}{each.name}" for each in changes]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Istio {version}: {', '.join(f'{n} {verb}' for verb, n in counts.items())} ({', '.join(names[:10])}{more})"


def difference(change: Change) -> dict[str, str]:
    """One change as Ansible's diff shows it, without what the server counts."""
    name = f"{change.kind} {change.namespace}/{change.name}"

    def text(manifest: Manifest | None) -> str:
        return yaml.safe_dump(_install.comparable(manifest), sort_keys=True) if manifest else ""

    return {
        "before_header": name,
        "after_header": name,
        "before": text(change.before),
        "after": text(None if change.verb == "delete" else change.after),
    }


def definitions(cluster: Cluster, given: Sequence[Manifest]) -> list[Change]:
    """What has to be written so that the cluster has the given Gateway API bundle, or a newer one."""
    live = [each for each in cluster.every(lambda each: get(cluster, each), given) if each]
    there = {_kinds.key_of(each): each for each in live}
    return [
        Change("update" if before else "create", before, manifest, DEFINITIONS_MANAGER)
        for manifest in _install.outdated(given, live)
        for before in [there.get(_kinds.key_of(manifest))]
    ]


def establish(cluster: Cluster, changes: Sequence[Change], timeout: float = 30, pause: float = 0.2) -> None:
    """Write definitions and return when the server serves them."""
    # Definitions first: a bundle's own admission policy would judge them
    written = sorted((each.manifest for each in changes), key=lambda each: each["kind"] != "CustomResourceDefinition")
    for manifest in written:
        apply(cluster, manifest, DEFINITIONS_MANAGER, dry_run=False)
    waiting = [each for each in written if each["kind"] == "CustomResourceDefinition"]
    end = time.monotonic() + timeout
    while waiting:
        waiting = [each for each in waiting if not _install.established(get(cluster, each) or {})]
        if waiting and time.monotonic() >= end:
            names = ", ".join(each["metadata"]["name"] for each in waiting)
            raise ClusterError(f"The API server doesn't serve {names} after {timeout:g} s.", "Look at its conditions.")
        if waiting:
            time.sleep(pause)
