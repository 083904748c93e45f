# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""istioctl and Helm as a declared state: render, plan what would change, install.

Each is a process, which the caller runs (`Run`); the cluster is reached through `_cluster.Cluster` alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _objects
from ansible_collections.edgeway.istio.plugins.module_utils.installation import _installed, _settings
from ansible_collections.edgeway.istio.plugins.module_utils.installation._settings import Release, Settings

Manifest = dict[str, Any]

Run = Callable[[Sequence[str], str], tuple[int, str, str]]
"""Runs the program with arguments and a text for its standard input; returns its exit code, output and errors."""


class InstallerError(Exception):
    """The program is missing, or it failed. The message says what it was to do and quotes its own words."""


class Installer(Protocol):
    """What `_installing` needs of a program that installs Istio. `settings` may be set before anything is rendered."""

    settings: Settings

    @property
    def version(self) -> str:
        """The version of Istio that it installs."""

    def render(self) -> list[Manifest]:
        """All objects of the installation, without a cluster."""

    def plan(self, cluster: Cluster) -> list[Change]:
        """What `install` would change, unchanged objects among it."""

    def install(self, timeout: int) -> None:
        """Bring the cluster there and wait at most `timeout` seconds for what was installed."""


def called(run: Run, arguments: Sequence[str], text: str, what: str) -> str:
    """Run the program and return what it prints, or raise InstallerError."""
    code, out, err = run(arguments, text)
    if code:
        lines = [line.strip() for line in (err or out).splitlines() if line.strip()]
        # istioctl draws ships and tells of each step; what went wrong it marks
        marked = [line for line in lines if re.search(r"^✘|error:", line, re.IGNORECASE)]
        raise InstallerError(f"{what} failed (exit code {code}): {'. '.join(marked or lines)[-2000:]}")
    return out


def _refused(error: RefusedError, manifest: Manifest) -> RefusedError | ClusterError:
    """The same error, with the cure where there is one that the server doesn't know."""
    if error.status == 422 and manifest["kind"] == "Service" and "loadBalancerClass" in str(error):
        metadata = manifest["metadata"]
        return ClusterError(
            f"gateways: Service {metadata.get('namespace')}/{metadata['name']} is a LoadBalancer already, "
            "and Kubernetes doesn't let its class be changed.",
            'Set load_balancer_class of that gateway to the class it has, "" if it has none; or delete the Service.',
        )
    return error


def _tried(cluster: Cluster, manifest: Manifest, manager: str) -> Manifest:
    """What would become of an object."""
    try:
        return _objects.apply(cluster, manifest, manager, dry_run=True)
    except RefusedError as error:
        raise _refused(error, manifest) from error


def _change(live: Manifest, after: Manifest, manager: str) -> Change:
    same = _installed.comparable(live) == _installed.comparable(after)
    return Change("unchanged" if same else "update", live, after, manager)


def _creation(cluster: Cluster, manifest: Manifest, manager: str) -> Change:
    """A dry run tells of missing rights now; where the namespace is missing too, there is nothing to ask."""
    try:
        _objects.apply(cluster, manifest, manager, dry_run=True)
    except RefusedError as refused:
        if refused.status != 404:
            raise
    return Change("create", None, manifest, manager)


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
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
)


@dataclass(slots=True)
class Istioctl:
    """`istioctl install`."""

    run: Run
    settings: Settings
    version: str
    manager = "istio-operator"
    _rendered: list[Manifest] | None = None

    @classmethod
    def find(cls, run: Run, executable: str, settings: Settings) -> Istioctl:
        """Ask istioctl for its version, so that a missing or foreign program is found first."""
        code, out, err = run(["version", "--remote=false", "--output=json"], "")
        try:
            version = str(json.loads(out)["clientVersion"]["version"]) if code == 0 else ""
        except (ValueError, KeyError, TypeError):
            version = ""
        if not version:
            raise InstallerError(
                f"executable: {executable} isn't istioctl, or doesn't run: {(err or out).strip()[:500]}"
            )
        return cls(run, settings, version)

    @property
    def operator(self) -> str:
        """The IstioOperator as YAML."""
        return _yaml.dump(_settings.operator(self.settings))

    def render(self) -> list[Manifest]:
        if self._rendered is None:
            out = called(
                self.run, ["manifest", "generate", "--filename=-"], self.operator, "istioctl manifest generate"
            )
            self._rendered = _yaml.documents(out)
        return self._rendered

    def plan(self, cluster: Cluster) -> list[Change]:
        labels = _installed.owner_labels(self.settings.namespace, self._revision(), self.version)

        def compare(manifest: Manifest) -> Change:
            live = _objects.get(cluster, manifest)
            if live is None:
                return _creation(cluster, manifest, self.manager)
            wanted = _installed.as_installed(manifest, live, labels)
            return _change(live, _tried(cluster, wanted, self.manager), self.manager)

        # Of any version: istioctl itself removes only what one of its own version has installed
        ours = _installed.owner_labels(self.settings.namespace, self._revision())

        def listed(kind: tuple[str, str]) -> list[Manifest]:
            return [each for each in _objects.find(cluster, *kind, ours) if _installed.prunable(each)]

        live = [each for found in cluster.every(listed, PRUNED) for each in found]
        tags = _objects.find(cluster, *_installed.WEBHOOKS, {"istio.io/tag": "default"})
        tag = _installed.default_tag(tags, self._revision())
        gone = [Change("delete", each, None, self.manager) for each in _installed.left_over(self.render(), live)]
        return [*cluster.every(compare, self.render()), *([tag] if tag else []), *gone]

    def _revision(self) -> str:
        spec = _settings.operator(self.settings)["spec"]
        return str(spec["values"].get("revision") or spec.get("revision") or "")

    def install(self, timeout: int) -> None:
        arguments = ["install", "--skip-confirmation", f"--readiness-timeout={max(timeout, 1)}s", "--filename=-"]
        called(self.run, arguments, self.operator, "istioctl install")

    def precheck(self) -> list[dict[str, str]]:
        """What `istioctl x precheck` has to say of the cluster: level and message of each."""
        arguments = ["experimental", "precheck", "--output=json"]
        if self.settings.revision:
            arguments.append(f"--revision={self.settings.revision}")
        code, out, err = self.run(arguments, "")
        try:
            found = json.loads(out[out.index("[") :]) if "[" in out else []
        except ValueError:
            found = []
        if code and not found:
            raise InstallerError(
                f"istioctl experimental precheck failed (exit code {code}): {(err or out).strip()[-500:]}"
            )
        return [{"level": str(each.get("level")), "message": str(each.get("message"))} for each in found]


#: Where Istio's own source keeps the charts that are published under the names on the left.
_SOURCE_FOLDERS = {"istiod": "istio-control/istio-discovery", "cni": "istio-cni"}


def chart_location(charts: str, name: str, version: str) -> tuple[list[str], str]:
    """Helm's arguments for one chart, and where it is, for messages.

    `charts` is a folder of chart folders or archives, laid out as published (base, istiod, gateway, cni, ztunnel) or
    as in Istio's source; or the address of a repository (https://) or registry (oci://) that holds them.
    """
    if re.match(r"https?://", charts):
        return [name, f"--repo={charts}", *([f"--version={version}"] if version else [])], f"{name} in {charts}"
    if charts.startswith("oci://"):
        return [f"{charts.rstrip('/')}/{name}", *([f"--version={version}"] if version else [])], f"{charts}/{name}"
    root = Path(charts).expanduser()
    for folder in (root / name, root / _SOURCE_FOLDERS.get(name, name)):
        if (folder / "Chart.yaml").is_file():
            return [str(folder)], str(folder)
    archives = sorted(root.glob(f"{name}-{version or '[0-9]*'}.tgz"))
    if len(archives) == 1:
        return [str(archives[0])], str(archives[0])
    problem = "holds several versions of the chart" if archives else "has no chart"
    raise InstallerError(
        f"charts: {charts or 'the empty path'} {problem} {name}. Give a folder with {name}/Chart.yaml or one "
        f"{name}-VERSION.tgz, or the address of a chart repository; with several, set chart_version."
    )


#: The first with --take-ownership.
_OLDEST_HELM = (3, 17)


@dataclass(slots=True)
class Helm:
    """Istio's charts, one release each."""

    run: Run
    settings: Settings
    charts: str
    chart_version: str = ""
    version: str = ""
    manager = "helm"
    _manifests: dict[tuple[str, str], list[Manifest]] | None = None
    adopt: bool = False
    _changed: set[tuple[str, str]] = field(default_factory=set)
    _taking: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def find(
        cls, run: Run, executable: str, settings: Settings, charts: str, chart_version: str, *, adopt: bool
    ) -> Helm:
        """Ask Helm for its version and the chart for Istio's, so that what is missing is found first."""
        code, out, err = run(["version", "--template={{.Version}}"], "")
        found = re.match(r"v(\d+)\.(\d+)", out)
        if code or not found or not _OLDEST_HELM <= (int(found[1]), int(found[2])) < (5, 0):
            raise InstallerError(
                f"executable: {executable} isn't Helm 3.17 or newer, or 4, or doesn't run: {(err or out).strip()[:500]}"
            )
        chart, place = chart_location(charts, "istiod", chart_version)
        shown = _yaml.documents(called(run, ["show", "chart", *chart], "", f"Reading the chart {place}"))
        return cls(
            run,
            settings,
            charts,
            chart_version,
            str(shown[0].get("appVersion") or shown[0].get("version")),
            adopt=adopt,
        )

    @property
    def releases(self) -> list[Release]:
        """What is installed, in order."""
        return _settings.releases(self.settings)

    def _template(self, release: Release) -> list[Manifest]:
        chart, place = chart_location(self.charts, release.chart, self.chart_version)
        # As for an upgrade: istiod has taken over what the charts set for the first moments only
        arguments = ["template", release.name, *chart, f"--namespace={release.namespace}", "--is-upgrade", "--values=-"]
        out = called(self.run, arguments, _yaml.dump(release.values), f"Rendering the chart {place}")
        rendered = _yaml.documents(out)
        for each in rendered:
            if not _cluster_wide(each):
                each["metadata"].setdefault("namespace", release.namespace)
        return rendered

    def _templates(self) -> dict[tuple[str, str], list[Manifest]]:
        if self._manifests is None:
            self._manifests = {(each.namespace, each.name): self._template(each) for each in self.releases}
        return self._manifests

    def render(self) -> list[Manifest]:
        return [each for rendered in self._templates().values() for each in rendered]

    def _listed(self, selector: str = "") -> dict[tuple[str, str], dict[str, str]]:
        """Releases of the cluster by namespace and name, as `helm list` has them."""
        chosen = [f"--selector={selector}"] if selector else []
        # Helm 3 leaves out some that are there, Helm 4 adds some that aren't, unless told
        there = ["--deployed", "--failed", "--pending", "--uninstalling"]
        arguments = ["list", "--all-namespaces", *there, "--output=json", "--max=0", *chosen]
        out = called(self.run, arguments, "", "helm list")
        return {(each["namespace"], each["name"]): each for each in json.loads(out or "[]")}

    def plan(self, cluster: Cluster) -> list[Change]:
        there = self._listed()
        changes: list[Change] = []
        self._changed = set()
        for release in self.releases:
            key = release.namespace, release.name
            status = there[key]["status"] if key in there else "deployed"
            if status.startswith("pending-"):
                undo = "uninstall" if status == "pending-install" else "rollback"
                raise InstallerError(
                    f"Release {release.name} (namespace {release.namespace}) is {status}: Helm was ended in the middle "
                    f"of it, and refuses to go on. If none is at work there, run helm {undo} {release.name} "
                    f"--namespace={release.namespace}, and then this again."
                )
            found = self._plan(cluster, release, key in there)
            if status != "deployed":
                # One that failed half-way is installed again even if every object is as it should be
                found.append(Change("update", _release(*key), _release(*key), self.manager))
            if any(each.verb != "unchanged" for each in found):
                self._changed.add(key)
            changes += found
        changes += [Change("delete", _release(*key), None, self.manager) for key in self._unwanted()]
        return changes

    def _unwanted(self) -> list[tuple[str, str]]:
        """Gateways that we installed with this revision and that aren't asked for any more."""
        wanted = {(each.namespace, each.name) for each in self.releases}
        ours = self._listed(",".join(f"{key}={value}" for key, value in self._labels().items()))
        return [key for key, each in ours.items() if key not in wanted and each["chart"].startswith("gateway-")]

    def _labels(self, revision: str = "") -> dict[str, str]:
        named = revision or self.settings.revision or "default"
        return {HELM_LABEL: "installation", f"{HELM_LABEL}/revision": named}

    def _plan(self, cluster: Cluster, release: Release, exists: bool) -> list[Change]:
        rendered = self._templates()[release.namespace, release.name]

        before = self._before(release) if exists else []
        earlier = {_kinds.key_of(each): each for each in before}

        def compare(manifest: Manifest) -> Change:
            live = _objects.get(cluster, manifest)
            if live is None:
                return _creation(cluster, manifest, self.manager)
            if not _installed.is_released(live, release.name, release.namespace):
                self._take(release, live)
            wanted = _installed.as_released(manifest, live, release.name, release.namespace)
            after = _tried(cluster, wanted, self.manager)
            # Helm 3 doesn't apply: what it no longer renders it takes away by comparing with what it rendered before
            after = _installed.without_lost(after, earlier.get(_kinds.key_of(manifest)), wanted)
            return _change(live, after, self.manager)

        live = [_objects.get(cluster, each) for each in _installed.left_over(rendered, before)]
        gone = [Change("delete", each, None, self.manager) for each in live if each is not None]
        return [*cluster.every(compare, rendered), *gone]

    def _before(self, release: Release) -> list[Manifest]:
        """What Helm rendered for a release the last time."""
        arguments = ["get", "manifest", release.name, f"--namespace={release.namespace}"]
        before = _yaml.documents(called(self.run, arguments, "", f"helm get manifest {release.name}"))
        for each in before:
            if not _cluster_wide(each):
                each["metadata"].setdefault("namespace", release.namespace)
        return before

    def _take(self, release: Release, live: Manifest) -> None:
        """Note that a release has to take over an object; one that isn't ours needs `adopt`."""
        if not self.adopt and not _installed.is_ours(live):
            name = f"{live['kind']} {live['metadata']['name']}"
            cure = f"Set it to true to have Helm's release {release.name} take it over, or remove it"
            raise ModelError((Problem("adopt", f"{name} is there already and was installed by somebody else", cure),))
        self._taking.add((release.namespace, release.name))

    def install(self, timeout: int) -> None:
        for release in self.releases:
            if (release.namespace, release.name) in self._changed:
                self._install(release, timeout)
        for namespace, name in self._unwanted():
            self.uninstall(namespace, name, timeout)

    def _install(self, release: Release, timeout: int) -> None:
        chart, place = chart_location(self.charts, release.chart, self.chart_version)
        labels = ",".join(f"{key}={value}" for key, value in self._labels().items())
        arguments = ["upgrade", release.name, *chart, "--install", f"--namespace={release.namespace}"]
        arguments += ["--values=-", f"--labels={labels}"]
        arguments += ["--wait", f"--timeout={max(timeout, 1)}s"]
        if (release.namespace, release.name) in self._taking:
            arguments.append("--take-ownership")
        called(self.run, arguments, _yaml.dump(release.values), f"Installing {release.name} from {place}")

    def plan_removal(self, revisions: Sequence[str], *, last: bool) -> list[Manifest]:
        """Our releases to uninstall, in this order. What all revisions share goes with the `last` ones."""
        ours: dict[tuple[str, str], dict[str, str]] = {}
        for chosen in [{HELM_LABEL: "installation"}] if last else [self._labels(each) for each in revisions]:
            ours |= self._listed(",".join(f"{key}={value}" for key, value in chosen.items()))
        order = ("gateway", "ztunnel", "istiod", "cni", "base")
        shared = () if last else ("base", "cni", "ztunnel")
        kinds = {key: str(each["chart"]).rpartition("-")[0] for key, each in ours.items()}
        wanted = [key for key in ours if kinds[key] not in shared]
        ranked = sorted(wanted, key=lambda key: order.index(kinds[key]) if kinds[key] in order else 0)
        return [_release(*key) for key in ranked]

    def uninstall(self, namespace: str, name: str, timeout: int) -> None:
        """`helm uninstall` of one release."""
        arguments = ["uninstall", name, f"--namespace={namespace}", "--wait", f"--timeout={max(timeout, 1)}s"]
        called(self.run, arguments, "", f"Uninstalling {name}")


#: On a release (not on its objects): it is ours.
HELM_LABEL = "edgeway.istio"

_CLUSTER_WIDE = (
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "GatewayClass",
    "PriorityClass",
)


def _cluster_wide(manifest: Manifest) -> bool:
    return manifest["kind"] in _CLUSTER_WIDE


def _release(namespace: str, name: str) -> Manifest:
    """A release as a change names it."""
    return {"apiVersion": "helm.sh/v1", "kind": "Release", "metadata": {"name": name, "namespace": namespace}}
