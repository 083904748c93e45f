# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of an Istio installation -> an IstioOperator, and what a re-run of istioctl would change.

Pure: no Ansible, no cluster, no process. istioctl writes every rendered object by a forced server-side apply under the
manager ``istio-operator``; what it would change is therefore the difference between an object and the result of that
same apply as a dry run. This module prepares the object for that dry run and compares.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem

Object = dict[str, Any]

MANAGER = "istio-operator"
VIP_CLASS = "edgeway.istio/vip"
SYSTEM_NAMESPACE = "istio-system"

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_HOSTNAME = "kubernetes.io/hostname"
_COMPONENT = "operator.istio.io/component"
_OWNER = "install.operator.istio.io/owning-resource"
_KEPT = "install.operator.istio.io/owning-resource-not-pruned"
_VERSION = "operator.istio.io/version"
#: Labels that `istioctl install` adds to every object after rendering; `istioctl manifest generate` lacks some of them.
_OWNER_LABELS = (
    "operator.istio.io/managed",
    _VERSION,
    _OWNER,
    "install.operator.istio.io/owning-resource-namespace",
    "istio.io/rev",
    _COMPONENT,
)
#: `istioctl` gives this selector to injectors that a default revision tag has replaced.
_DEACTIVATED = {"matchLabels": {"istio.io/deactivated": "never-match"}}
_SERVER_KEYS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Gateway:
    """One set of ingress gateway pods and its Service.

    `edges` are Kubernetes node names: one pod is placed on each. Without edges the scheduler places `replicas` pods.
    """

    name: str
    namespace: str = SYSTEM_NAMESPACE
    selector: Mapping[str, str] = field(default_factory=dict)
    edges: tuple[str, ...] = ()
    replicas: int = 1
    service_type: str = "LoadBalancer"
    load_balancer_class: str = VIP_CLASS
    external_traffic_policy: str = "Local"
    service_annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Mapping[str, Any], ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the pods, and the selector of Deployment and Service.

        Istio's chart merges its own `app` and `istio` labels under the given ones: both are always set here, or the
        pods of a second gateway would also be chosen by the first one's Service.
        """
        return {"app": self.name, "istio": self.name.removeprefix("istio-"), **self.selector}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """Merge two mappings key by key; `over` wins, lists are replaced whole, nothing given is altered."""
    result: Object = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def gateways(
    entries: Iterable[Mapping[str, Any]],
    *,
    namespace: str = SYSTEM_NAMESPACE,
    edges: Sequence[str] = (),
    tolerations: Sequence[Mapping[str, Any]] = (),
) -> tuple[Gateway, ...]:
    """Read the list of gateways. `namespace`, `edges` and `tolerations` are for entries that don't give their own.

    A key whose value is None counts as not given. Raises ModelError with all problems at once.
    """
    problems: list[Problem] = []
    read: list[Gateway] = []
    for index, entry in enumerate(entries):
        given: Object = {"namespace": namespace, "edges": list(edges), "tolerations": list(tolerations)}
        given |= {key: value for key, value in entry.items() if value is not None}
        fields: Object = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        gateway = Gateway(**fields)
        problems += _problems(gateway, f"gateways[{index}]", read)
        read.append(gateway)
    if problems:
        raise ModelError(tuple(problems))
    return tuple(read)


def _problems(gateway: Gateway, path: str, before: Iterable[Gateway]) -> Iterator[Problem]:
    name = f"{gateway.namespace}/{gateway.name}"
    others = [each for each in before if each.namespace == gateway.namespace]
    if len(gateway.name) > 63 or not _DNS_LABEL.fullmatch(gateway.name):
        cure = "Use a-z, 0-9 and -, at most 63 of them"
        yield Problem(f"{path}.name", f"{gateway.name!r} is no name for a Service", cure)
    if any(each.name == gateway.name for each in others):
        yield Problem(f"{path}.name", f"{name} is listed twice", "Give each gateway a name of its own")
    elif any(each.labels == gateway.labels for each in others):
        message = "another gateway of this namespace has the same labels, so each Service would also choose its pods"
        yield Problem(f"{path}.selector", message, "Give them different selectors")
    if len(set(gateway.edges)) != len(gateway.edges):
        yield Problem(f"{path}.edges", "a node is named twice", "One gateway pod runs on each edge")
    if gateway.replicas < 1:
        yield Problem(f"{path}.replicas", f"{gateway.replicas} leaves {name} without a pod", "Use 1 or more")


def operator(
    *,
    profile: str = "default",
    hub: str = "",
    tag: str = "",
    revision: str = "",
    namespace: str = SYSTEM_NAMESPACE,
    values: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    ingress: Sequence[Gateway] = (),
) -> Object:
    """Build the IstioOperator. `values` are Helm values, `spec` is merged over everything (lists replace lists)."""
    result: Object = {"profile": profile, "components": {"ingressGateways": [_component(each) for each in ingress]}}
    for key, value in (("hub", hub), ("tag", tag), ("revision", revision)):
        if value:
            result[key] = value
    result["values"] = merged(_own_values(namespace, ingress), values or {})
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"namespace": namespace},
        "spec": merged(result, spec or {}),
    }


def _own_values(namespace: str, ingress: Sequence[Gateway]) -> Object:
    own: Object = {}
    if namespace != SYSTEM_NAMESPACE:
        own["global"] = {"istioNamespace": namespace}
    if any(each.edges for each in ingress):
        # The number of pods is the number of edges: an autoscaler would ask for pods that no node may take.
        own["gateways"] = {"istio-ingressgateway": {"autoscaleEnabled": False}}
    return own


def _component(gateway: Gateway) -> Object:
    service: Object = {"type": gateway.service_type}
    if gateway.service_type == "LoadBalancer" and gateway.load_balancer_class:
        service["loadBalancerClass"] = gateway.load_balancer_class
    if gateway.service_type != "ClusterIP":
        service["externalTrafficPolicy"] = gateway.external_traffic_policy
    if gateway.ports:
        service["ports"] = [dict(port) for port in gateway.ports]
    settings: Object = {"service": service, "replicaCount": len(gateway.edges) or gateway.replicas}
    if gateway.edges:
        settings |= _placement(gateway)
    if gateway.service_annotations:
        settings["serviceAnnotations"] = dict(gateway.service_annotations)
    if gateway.resources:
        settings["resources"] = dict(gateway.resources)
    if gateway.tolerations:
        settings["tolerations"] = [dict(each) for each in gateway.tolerations]
    return {
        "name": gateway.name,
        "namespace": gateway.namespace,
        "enabled": True,
        "label": gateway.labels,
        "k8s": merged(settings, gateway.settings),
    }


def _placement(gateway: Gateway) -> Object:
    """One pod on each edge. With anti-affinity a surge pod would have no node left, so a rollout replaces in place."""
    terms = [{"matchExpressions": [{"key": _HOSTNAME, "operator": "In", "values": list(gateway.edges)}]}]
    apart = [{"labelSelector": {"matchLabels": gateway.labels}, "topologyKey": _HOSTNAME}]
    return {
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart},
        },
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    }


# --- what a re-run would change ---


def as_installed(manifest: Mapping[str, Any], live: Mapping[str, Any], version: str) -> Object:
    """A rendered object as `istioctl install` would apply it over `live`.

    Adds the owner labels that istioctl sets after rendering, and keeps what istiod and istioctl themselves set once it
    runs: the failure policy of the validating webhooks (istiod raises it from Ignore to Fail) and the selectors of an
    injector that the default revision tag replaced. `version` is istioctl's own.
    """
    wanted: Object = copy.deepcopy(dict(manifest))
    labels = wanted["metadata"].setdefault("labels", {})
    for key in _OWNER_LABELS:
        current = live["metadata"].get("labels", {}).get(key)
        if key not in labels and current is not None:
            labels[key] = version if key == _VERSION else current
    if wanted["kind"] in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        before = {hook["name"]: hook for hook in live.get("webhooks", ())}
        for hook in wanted.get("webhooks", ()):
            _keep_webhook(hook, before.get(hook["name"], {}))
    return wanted


def _keep_webhook(hook: Object, before: Mapping[str, Any]) -> None:
    if hook.get("failurePolicy") == "Ignore" and before.get("failurePolicy") == "Fail":
        hook["failurePolicy"] = "Fail"
    if before.get("objectSelector") == _DEACTIVATED and before.get("namespaceSelector") == _DEACTIVATED:
        hook["objectSelector"] = copy.deepcopy(_DEACTIVATED)
        hook["namespaceSelector"] = copy.deepcopy(_DEACTIVATED)


def comparable(manifest: Mapping[str, Any]) -> Object:
    """An object without status and without what the server counts; for comparing and for showing a difference."""
    result: Object = {key: copy.deepcopy(value) for key, value in manifest.items() if key != "status"}
    metadata: Object = result.get("metadata", {})
    for key in _SERVER_KEYS:
        metadata.pop(key, None)
    return result


def prune_selector(operator: Mapping[str, Any], version: str) -> str:
    """The label selector of what `istioctl install` of this version may prune: what the same install made before."""
    labels = {
        "operator.istio.io/managed": "Reconcile",
        _VERSION: version,
        "install.operator.istio.io/owning-resource-namespace": operator["metadata"]["namespace"],
        "istio.io/rev": revision(operator),
    }
    return ",".join([*(f"{key}={value}" for key, value in labels.items()), _COMPONENT, f"{_KEPT}!=true"])


def revision(operator: Mapping[str, Any]) -> str:
    """The revision as Istio's labels have it."""
    spec = operator["spec"]
    return str(spec.get("values", {}).get("revision") or spec.get("revision") or "default")


def left_over(rendered: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Objects of an earlier install that are rendered no longer."""
    keep = {_kinds.key_of(each) for each in rendered}
    return [dict(each) for each in live if _kinds.key_of(each) not in keep]


def unready(deployments: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say of each Deployment that isn't fully rolled out how far it is, and why its pods wait."""
    waiting = list(pods)
    lines = []
    for each in deployments:
        name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
        status, wanted = each.get("status", {}), each["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= each["metadata"].get("generation", 0)
        ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
        # Old pods that are still there besides the new ones (`replicas` above `updated`) mean a rollout in progress.
        if seen and min(ready, updated) >= wanted and status.get("replicas", 0) <= wanted:
            continue
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
            f"Deployment {namespace}/{name}: {ready} of {wanted} pods ready"
            + (f", {updated} of them new" if updated < wanted else "")
            + (f" ({'; '.join(reasons)})" if reasons else "")
        )
    return lines


def _reasons(pod: Mapping[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{name} not scheduled: {condition.get('message') or condition.get('reason')}"
    for container in status.get("containerStatuses", ()):
        state = container.get("state", {}).get("waiting")
        if state:
            yield f"{name}: {state.get('reason', 'waiting')} {state.get('message', '')}".rstrip()


# --- definitions of resources (CRDs) ---

_BUNDLE = "gateway.networking.k8s.io/bundle-version"


def outdated(given: Iterable[Mapping[str, Any]], live: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The given objects of a Gateway API bundle that the cluster lacks or has from an older bundle.

    An object there without the bundle's annotation counts as older; nothing newer is ever replaced. Raises ModelError
    when one object is given twice, as in a folder that holds the standard and the experimental channel.
    """
    there = {_kinds.key_of(each): each for each in live}
    chosen: set[_kinds.Key] = set()
    result = []
    for manifest in given:
        key = _kinds.key_of(manifest)
        if key in chosen:
            cure = "Give one channel: the folder `standard` or `experimental`, or its bundle file"
            raise ModelError((Problem("path", f"{key[1]} {key[3]} is given twice", cure),))
        chosen.add(key)
        if key not in there or bundle_version(there[key]) < bundle_version(manifest):
            result.append(dict(manifest))
    return result


def established(definition: Mapping[str, Any]) -> bool:
    """Whether the server serves a CustomResourceDefinition, by its own condition."""
    conditions = definition.get("status", {}).get("conditions", ())
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def bundle_version(manifest: Mapping[str, Any]) -> tuple[int, ...]:
    """`v1.6.0` as (1, 6, 0, 1), `v1.6.0-rc.1` as (1, 6, 0, 0, 1): a candidate is older. () without the annotation."""
    text = str((manifest["metadata"].get("annotations") or {}).get(_BUNDLE, ""))
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)(?:-(.+))?", text)
    if not match:
        return ()
    candidate = [int(number) for number in re.findall(r"\d+", match[4])] if match[4] else []
    return (*(int(match[part]) for part in (1, 2, 3)), 0 if match[4] else 1, *candidate)


def bundle_line(manifest: Mapping[str, Any]) -> str:
    """One object of a bundle as a difference shows it: its name, version and channel."""
    notes = manifest["metadata"].get("annotations") or {}
    channel = notes.get("gateway.networking.k8s.io/channel", "no channel")
    return f"{manifest['kind']} {manifest['metadata']['name']}: {notes.get(_BUNDLE, 'no version')}, {channel}\n"


# --- how istioctl and Helm reach the cluster ---


def kubeconfig(options: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str | Object | None, str | None]:
    """The kubeconfig and the context that a program run beside kubernetes.core's options needs.

    A path, or a kubeconfig to write to a file where the options hold one, or hold a host and a token instead. (None,
    None) leaves it to the program's own defaults. Environment variables count as in kubernetes.core (K8S_AUTH_*).
    """

    def given(name: str) -> Any:
        value = options.get(name)
        return environ.get(f"K8S_AUTH_{name.upper()}") if value is None else value

    host, token = given("host"), given("api_key")
    if not (host and token):
        return given("kubeconfig"), given("context")
    cluster: Object = {"server": host}
    if given("ca_cert"):
        cluster["certificate-authority"] = given("ca_cert")
    if str(given("validate_certs")).lower() in ("false", "no", "0"):
        cluster["insecure-skip-tls-verify"] = True
    name = "edgeway"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }, None
