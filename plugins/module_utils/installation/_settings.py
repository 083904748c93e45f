# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Istio shall be: settings and gateways -> an IstioOperator for istioctl, or releases for Helm.

Pure: no Ansible, no cluster, no process.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem

Object = dict[str, Any]

VIP_CLASS = "edgeway.istio/vip"
SYSTEM_NAMESPACE = "istio-system"
#: The IstioOperator's name, and istiod's `ownerName` for Helm: a label on what is installed tells ours from others'.
OWNER = "edgeway"

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_HOSTNAME = "kubernetes.io/hostname"

#: Ports of a gateway's Service as Istio's installer for istioctl has them. Helm's chart lets Envoy bind 80 and 443 and
#: needs a kernel setting in the pod for that; with these, listeners are the same under both.
PORTS: tuple[Mapping[str, Any], ...] = (
    {"name": "status-port", "port": 15021, "protocol": "TCP", "targetPort": 15021},
    {"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080},
    {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443},
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One set of ingress gateway pods and its Service.

    `edges` are Kubernetes node names: one pod is placed on each. Without edges the scheduler places `replicas` pods.
    `settings` is merged over the gateway's `k8s` settings under istioctl, over its chart's values under Helm.
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
        """Labels of the pods, and the selector of their controller and Service.

        Istio's charts merge their own `app` and `istio` labels under the given ones: both are always set here, or the
        pods of a second gateway would also be chosen by the first one's Service.
        """
        return {"app": self.name, "istio": self.name.removeprefix("istio-"), **self.selector}


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation: a control plane and its gateways. Empty `hub`, `tag` and `revision` are the installer's own.

    `values` are Helm values of istiod's chart, `operator` is merged over the IstioOperator's spec (istioctl alone).
    `automated` says where the pods of Gateways stand that Istio makes itself for the Gateway API; its name counts not.
    """

    namespace: str = SYSTEM_NAMESPACE
    profile: str = "default"
    hub: str = ""
    tag: str = ""
    revision: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    operator: Mapping[str, Any] = field(default_factory=dict)
    gateways: tuple[Gateway, ...] = ()
    automated: Gateway | None = None

    @property
    def istiod(self) -> str:
        """The control plane's Deployment, and its release by Helm."""
        return f"istiod-{self.revision}" if self.revision else "istiod"


@dataclass(frozen=True, slots=True)
class Release:
    """One Helm release: `chart` is base, cni, istiod, ztunnel or gateway."""

    name: str
    namespace: str
    chart: str
    values: Object


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


_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


def _class_defaults(automated: Gateway | None) -> Object:
    """Values by which istiod places the pods of each Gateway of class `istio`, as we place those of our own.

    The Service is left out: a class or traffic policy there would break a Gateway whose annotation asks for ClusterIP.
    """
    if automated is None or not automated.edges:
        return {}
    # One pod of each Gateway on an edge, not one of all Gateways
    apart = {
        "labelSelector": {"matchExpressions": [{"key": _GATEWAY_NAME, "operator": "Exists"}]},
        "matchLabelKeys": [_GATEWAY_NAME],
        "topologyKey": _HOSTNAME,
    }
    pod: Object = {
        "affinity": {
            "nodeAffinity": _on(automated.edges),
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
        }
    }
    if automated.tolerations:
        pod["tolerations"] = [dict(each) for each in automated.tolerations]
    deployment = {"replicas": len(automated.edges), "strategy": copy.deepcopy(_IN_PLACE), "template": {"spec": pod}}
    return {"gatewayClasses": {"istio": {"deployment": {"spec": deployment}}}}


#: With anti-affinity a surge pod would have no node left, so a rollout replaces in place.
_IN_PLACE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


# --- for istioctl ---


def operator(settings: Settings) -> Object:
    """Build the IstioOperator."""
    spec: Object = {
        "profile": settings.profile,
        "components": {"ingressGateways": [_component(each) for each in settings.gateways]},
        "values": merged(_own_values(settings) | _class_defaults(settings.automated), settings.values),
    }
    for key in ("hub", "tag", "revision"):
        if getattr(settings, key):
            spec[key] = getattr(settings, key)
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": OWNER, "namespace": settings.namespace},
        "spec": merged(spec, settings.operator),
    }


def _own_values(settings: Settings) -> Object:
    own: Object = {}
    if settings.namespace != SYSTEM_NAMESPACE:
        own["global"] = {"istioNamespace": settings.namespace}
    if settings.gateways:
        # The number of pods is given: an autoscaler would change it, and ask for pods that no node may take.
        common: Object = {"autoscaleEnabled": False}
        fewest = min(_pods(each) for each in settings.gateways)
        if fewest > 1:
            # Each gateway's own number is laid over this one, by which the chart decides on a disruption budget for
            # all of them. With a single pod a budget would keep its node from being drained.
            common["replicaCount"] = fewest
        own["gateways"] = {"istio-ingressgateway": common}
    return own


def _pods(gateway: Gateway) -> int:
    return len(gateway.edges) or gateway.replicas


def _component(gateway: Gateway) -> Object:
    settings: Object = {"service": _service(gateway), "replicaCount": _pods(gateway)}
    if gateway.edges:
        apart = [{"labelSelector": {"matchLabels": gateway.labels}, "topologyKey": _HOSTNAME}]
        settings["affinity"] = {
            "nodeAffinity": _on(gateway.edges),
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart},
        }
        settings["strategy"] = copy.deepcopy(_IN_PLACE)
    if gateway.service_annotations:
        settings["serviceAnnotations"] = dict(gateway.service_annotations)
    settings |= _pod(gateway)
    return {
        "name": gateway.name,
        "namespace": gateway.namespace,
        "enabled": True,
        "label": gateway.labels,
        "k8s": merged(settings, gateway.settings),
    }


def _service(gateway: Gateway) -> Object:
    service: Object = {"type": gateway.service_type}
    if gateway.service_type == "LoadBalancer" and gateway.load_balancer_class:
        service["loadBalancerClass"] = gateway.load_balancer_class
    if gateway.service_type != "ClusterIP":
        service["externalTrafficPolicy"] = gateway.external_traffic_policy
    if gateway.ports:
        service["ports"] = [dict(port) for port in gateway.ports]
    return service


def _on(edges: Sequence[str]) -> Object:
    terms = [{"matchExpressions": [{"key": _HOSTNAME, "operator": "In", "values": list(edges)}]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _pod(gateway: Gateway) -> Object:
    settings: Object = {}
    if gateway.resources:
        settings["resources"] = dict(gateway.resources)
    if gateway.tolerations:
        settings["tolerations"] = [dict(each) for each in gateway.tolerations]
    return settings


# --- for Helm ---

#: Profiles that istioctl knows and that Helm's charts need no file for.
_PLAIN_PROFILES = ("default", "minimal", "empty")


def releases(settings: Settings) -> list[Release]:
    """The releases in the order in which they are installed; they are removed the other way round."""
    space = settings.namespace
    world: Object = {"istioNamespace": space}
    images = {key: getattr(settings, key) for key in ("hub", "tag") if getattr(settings, key)}
    common: Object = {"global": world | images}
    if settings.profile not in _PLAIN_PROFILES:
        common["profile"] = settings.profile
    shared = {key: value for key, value in settings.values.items() if key == "global"}
    istiod = merged(common, {"ownerName": OWNER, "revision": settings.revision} | _class_defaults(settings.automated))
    found = [Release("istio-base", space, "base", {"global": world, "defaultRevision": settings.revision or "default"})]
    if settings.profile == "ambient":
        # Ambient's node agents take images from the charts' own `global`, as istiod does
        found.append(Release("istio-cni", space, "cni", merged(common, shared)))
    found.append(Release(settings.istiod, space, "istiod", merged(istiod, settings.values)))
    if settings.profile == "ambient":
        found.append(Release("ztunnel", space, "ztunnel", merged(images | {"istioNamespace": space}, shared)))
    found += [_gateway_release(each, settings) for each in settings.gateways]
    return found


def _gateway_release(gateway: Gateway, settings: Settings) -> Release:
    service = _service(gateway) | {"ports": [dict(port) for port in gateway.ports or PORTS]}
    if gateway.service_annotations:
        service["annotations"] = dict(gateway.service_annotations)
    values: Object = {
        "name": gateway.name,
        "labels": gateway.labels,
        "service": service,
        "autoscaling": {"enabled": False},
        # Listeners stay above 1023: the kernel setting that the chart would ask for isn't needed
        "securityContext": {"runAsNonRoot": True},
        "containerSecurityContext": {
            "capabilities": {"drop": ["ALL"]},
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 1337,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
        },
    }
    if settings.revision:
        values["revision"] = settings.revision
    if gateway.edges:
        # A DaemonSet needs neither a number nor anti-affinity; its rollout replaces in place, one at a time
        values |= {"kind": "DaemonSet", "affinity": {"nodeAffinity": _on(gateway.edges)}}
    else:
        # The chart makes a disruption budget only where there are two pods or more
        values |= {"replicaCount": gateway.replicas, "podDisruptionBudget": {"minAvailable": 1}}
    policy = settings.values.get("global", {}).get("imagePullPolicy")
    if policy:
        values["imagePullPolicy"] = policy
    return Release(gateway.name, gateway.namespace, "gateway", merged(values | _pod(gateway), gateway.settings))


# --- how istioctl and Helm reach the cluster ---

#: Any of these will do: what kubernetes.core takes beside a host without reading a kubeconfig.
_CREDENTIALS: tuple[set[str], ...] = ({"token"}, {"client-certificate", "client-key"}, {"username", "password"})


def kubeconfig(options: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str | Object | None, str | None]:
    """The kubeconfig and the context that a program run beside kubernetes.core's options needs.

    A path, or a kubeconfig to write to a file where the options hold one, or hold a host instead. (None, None) leaves
    it to the program's own defaults. Environment variables count as in kubernetes.core (K8S_AUTH_*). Raises ModelError
    for a host without credentials: the program would go to the cluster of a kubeconfig, which may be another one.
    """

    def given(name: str, other: str = "") -> Any:
        value = options.get(name)
        names = [f"K8S_AUTH_{each.upper()}" for each in (name, other) if each]
        return next((environ[each] for each in names if environ.get(each)), None) if value is None else value

    def file(name: str, other: str) -> str | None:
        # In a kubeconfig a path is relative to that file
        value = given(name, other)
        return os.path.abspath(os.path.expanduser(value)) if value else None

    host = given("host")
    if not host:
        path = given("kubeconfig")
        if isinstance(path, str):
            # Programs take `~` as it stands
            path = os.pathsep.join(os.path.expanduser(each) for each in path.split(os.pathsep))
        return path, given("context")
    user: Object = {
        "token": given("api_key"),
        "client-certificate": file("client_cert", "cert_file"),
        "client-key": file("client_key", "key_file"),
        "username": given("username"),
        "password": given("password"),
    }
    user = {key: value for key, value in user.items() if value}
    if not any(needed <= user.keys() for needed in _CREDENTIALS):
        cure = (
            "Give api_key, or client_cert and client_key, or username and password with it, or a kubeconfig alone, "
            "in which the host stands"
        )
        raise ModelError((Problem("host", f"istioctl and Helm have no credentials for {host}", cure),))
    cluster: Object = {"server": host}
    if str(given("validate_certs", "verify_ssl")).lower() in ("false", "no", "0"):
        # kubectl's library refuses this beside a certificate authority
        cluster["insecure-skip-tls-verify"] = True
    elif authority := file("ca_cert", "ssl_ca_cert"):
        cluster["certificate-authority"] = authority
    if proxy := given("proxy"):
        cluster["proxy-url"] = proxy
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": OWNER, "cluster": cluster}],
        "users": [{"name": OWNER, "user": user}],
        "contexts": [{"name": OWNER, "context": {"cluster": OWNER, "user": OWNER}}],
        "current-context": OWNER,
    }, None
