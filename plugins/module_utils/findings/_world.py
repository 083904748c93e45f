# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What findings are made from: listeners, tables of routes, gateway pods, and where each was written. Pure.

Exposures of a list and objects that somebody made by hand become the same few shapes (`_reading`), so that
every rule is written once and holds for both, and for what the one does to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_ready

Manifest = dict[str, Any]
Labels = Mapping[str, str]

ERROR, WARNING, UNKNOWN = "error", "warning", "unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a field of an exposure, or of an object that somebody else made.

    `object` is what holds it in the cluster, or will (`Gateway istio-system/shop-web`); `path` is the field, in the
    list (`exposures[2].tls.secret`) where there is an `exposure`, else in the object (`spec.servers[0].tls`).
    """

    object: str
    path: str = ""
    exposure: str = ""

    @property
    def ours(self) -> bool:
        return bool(self.exposure)

    def __str__(self) -> str:
        return f"exposure {self.exposure}" if self.exposure else self.object


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a list or a cluster that breaks requests, or may.

    `severity`: an `error` can never work, or harms others; a `warning` may be so only now; `unknown` could not be
    looked at. `exposure` is empty where somebody else's object, or the cluster, is meant. `silenced` holds the reason
    why a user doesn't want to be told.
    """

    code: str
    severity: str
    exposure: str
    field: str
    objects: tuple[str, ...]
    reason: str
    cure: str
    silenced: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as modules return findings."""
        told = {"silenced": self.silenced} if self.silenced else {}
        return {
            "code": self.code,
            "severity": self.severity,
            "exposure": self.exposure,
            "field": self.field,
            "objects": list(self.objects),
            "message": f"{self.reason} {self.cure}".strip(),
            "reason": self.reason,
            "cure": self.cure,
            **told,
        }


class SilenceError(ValueError):
    """The option `silence` can't be used."""


@dataclass(frozen=True, slots=True)
class Request:
    """One way to enter a route.

    `kind` says how `path` is compared: exact, prefix (by letters, as a VirtualService does), segment (the Gateway API's
    prefix), regex, or any. `conditions` are (what, name, how, value) that must hold too. `port` and `gateways` are the
    listeners that a VirtualService's match is limited to.
    """

    kind: str = "any"
    path: str = ""
    conditions: frozenset[tuple[str, str, str, str]] = frozenset()
    port: int | None = None
    gateways: tuple[str, ...] = ()
    at: str = field(default="", compare=False)

    @property
    def everything(self) -> bool:
        """Whether Istio takes it for a catch-all, which it moves to the end (IsCatchAllRoute, core/route/route.go)."""
        wide = self.kind == "any" or (self.kind in ("prefix", "segment") and self.path == "/")
        return (wide or (self.kind, self.path) == ("regex", ".*")) and not self.conditions

    def covers(self, other: Request) -> bool:
        """Whether every request that `other` takes is taken by this one."""
        return self._covers_path(other) and self.conditions <= other.conditions

    def _covers_path(self, other: Request) -> bool:
        if self.kind == "any" or (self.kind in ("prefix", "segment") and self.path in ("/", "")):
            return True
        if self.kind == "regex":
            return self.path == ".*" or (other.kind, other.path) == ("regex", self.path)
        if other.kind in ("any", "regex"):
            return False
        if self.kind == "exact":
            return (other.kind, other.path) == ("exact", self.path)
        if self.kind == "prefix":
            return other.path.startswith(self.path)
        below = other.path.startswith(f"{self.path}/")
        return below or (other.kind in ("exact", "segment") and other.path == self.path)

    def __str__(self) -> str:
        path = {"any": "every path", "exact": self.path, "regex": f"~{self.path}"}.get(self.kind, f"{self.path}*")
        return " and ".join([path, *(f"{what} {name}".strip() for what, name, _how, _value in sorted(self.conditions))])


@dataclass(frozen=True, slots=True)
class Target:
    """A backend as it was written. `host` is what Istio looks up, empty where that isn't known here; `port` is None
    where none was given. `granted` says that another namespace must allow it by a ReferenceGrant."""

    place: Place
    host: str
    port: int | None = None
    subset: str = ""
    weight: int | None = None
    service: str = ""
    namespace: str = ""
    originates: bool = False
    outside: bool = False
    mirror: bool = False
    granted: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests (or, for tls and tcp, connections) that fit any of `requests` go to `targets`.

    `family` is http, tls or tcp. `names` are a TLS rule's SNI hosts. `redirect` is (scheme, host, port) of an answer
    that sends the client elsewhere, empty text and 0 for what stays. `rewrite` is the new prefix. `delegate` is
    (namespace, name) of a VirtualService that should have the rules and doesn't.
    """

    family: str
    place: Place
    requests: tuple[Request, ...] = (Request(),)
    targets: tuple[Target, ...] = ()
    names: tuple[str, ...] = ()
    redirect: tuple[str, str, int] | None = None
    rewrite: str | None = None
    delegate: tuple[str, str] | None = None
    grpc: bool = False


@dataclass(frozen=True, slots=True)
class Parent:
    """A Gateway that a table hangs on. `section` and `port` choose among the listeners of a Gateway API Gateway."""

    namespace: str
    name: str
    place: Place
    section: str = ""
    port: int | None = None

    def __str__(self) -> str:
        return f"Gateway {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Table:
    """A VirtualService, a route of the Gateway API, or what becomes one: hostnames and rules in their order.

    `api` is istio or gateway_api. `hostnames` is empty where every name is meant. `exported` are the namespaces that
    see it, None for all. `mesh` says that sidecars take it too; what is for them alone isn't among the rules. `made`
    orders objects as Istio does: by creation, then name.
    """

    api: str
    kind: str
    namespace: str
    name: str
    place: Place
    hosts_at: Place
    hostnames: tuple[str, ...]
    parents: tuple[Parent, ...]
    rules: tuple[Rule, ...]
    exported: frozenset[str] | None = None
    made: tuple[str, str] = ("", "")
    object: Manifest | None = field(default=None, compare=False, repr=False)
    mesh: bool = False

    @property
    def ours(self) -> bool:
        return self.place.ours


@dataclass(frozen=True, slots=True)
class Listener:
    """One server of an Istio Gateway, one listener of a Gateway API Gateway, or what an exposure needs of either.

    `family` is HTTP, TLS or TCP: what may share a port. `mode` is the TLS mode, empty without TLS. `hosts` are
    (namespace or *, hostname): only tables of that namespace may use the name. `selector` chooses pods (None: by
    `services`, as the Gateway API does). `credentials` are (namespace or empty for that of the pods, name);
    `authority` says by what else clients' certificates are checked: a Secret's name, or TYPE://NAMESPACE/NAME.
    `widened` is what Envoy chooses it by besides, where one hostname stands for several.
    """

    api: str
    namespace: str
    gateway: str
    place: Place
    port_at: Place
    hosts_at: Place
    tls_at: Place
    number: int
    protocol: str
    family: str
    hosts: tuple[tuple[str, str], ...]
    mode: str = ""
    credentials: tuple[tuple[str, str], ...] = ()
    authority: str = ""
    files: tuple[str, ...] = ()
    redirects: bool = False
    selector: Labels | None = None
    services: tuple[str, ...] | None = None
    deployed: bool = False
    section: str = ""
    bind: str = ""
    widened: tuple[tuple[str, str], ...] = ()
    allowed: Manifest | None = field(default=None, compare=False)
    made: tuple[str, str] = ("", "")
    object: Manifest | None = field(default=None, compare=False, repr=False)

    @property
    def ours(self) -> bool:
        return self.place.ours

    @property
    def encrypted(self) -> bool:
        return self.family == "TLS"

    @property
    def terminates(self) -> bool:
        return self.family == "TLS" and self.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH")

    @property
    def takes(self) -> str:
        """The family of rules that it uses: http, tls or tcp."""
        if self.family == "TCP":
            return "tcp"
        if self.family == "HTTP" or (self.protocol == "HTTPS" and self.terminates):
            return "http"
        return "tcp" if self.terminates else "tls"

    def hostnames(self, namespace: str) -> list[str]:
        """Return the names that tables of a namespace may use."""
        return [name for owner, name in self.hosts if owner in ("*", namespace)]


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods of one gateway: of one namespace and with equal labels. `services` lead to them."""

    namespace: str
    labels: Labels
    pods: tuple[Manifest, ...] = ()
    services: tuple[Manifest, ...] = ()

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        return self.namespace, tuple(sorted(self.labels.items()))

    @property
    def ready(self) -> tuple[Manifest, ...]:
        return tuple(pod for pod in self.pods if is_ready(pod))

    @property
    def shown(self) -> str:
        name = next((self.labels[key] for key in ("istio", "app", "gateway.networking.k8s.io/gateway-name")
                     if key in self.labels), "")  # fmt: skip
        return f"gateway pods {self.namespace}/{name or self.key[1]}"

    def environment(self, name: str) -> str:
        """Return an environment variable of the proxy."""
        return next((value for pod in self.pods for value in [environment(pod, name)] if value), "")

    @property
    def unprivileged(self) -> bool:
        """Whether istiod leaves ports below 1024 out (IsUnprivileged in pilot/pkg/model/context.go)."""
        return self.environment("ISTIO_META_UNPRIVILEGED_POD").lower() in ("true", "1", "t")

    @property
    def revision(self) -> str:
        for pod in self.pods:
            metadata = pod["metadata"]
            for source in (metadata.get("annotations") or {}, metadata.get("labels") or {}):
                if source.get("istio.io/rev"):
                    return str(source["istio.io/rev"])
        return "default"

    @property
    def control_plane(self) -> str:
        """The namespace of its istiod, which CA_ADDR names (istiod.istio-system.svc:15012)."""
        parts = self.environment("CA_ADDR").partition(":")[0].split(".")
        return parts[1] if len(parts) > 1 else "istio-system"


def environment(pod: Manifest, name: str) -> str:
    """Return the plain value of an environment variable of any container of a pod, empty where there is none."""
    for container in (pod.get("spec") or {}).get("containers") or ():
        for entry in container.get("env") or ():
            if entry.get("name") == name:
                return str(entry.get("value") or "")
    return ""


def injected(pod: Manifest) -> bool:
    """Whether a pod carries Istio's sidecar, also as a native one among the init containers."""
    spec = pod.get("spec") or {}
    named = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    annotated = "sidecar.istio.io/status" in (pod["metadata"].get("annotations") or {})
    return annotated or any(container.get("name") == "istio-proxy" for container in named)


def takes_mutual_tls(pod: Manifest) -> bool:
    """Whether a pod understands Istio's mutual TLS: by a sidecar, or by a ztunnel (HBONE), which gateways send that
    instead where a rule says ISTIO_MUTUAL (applyHBONETransportSocketMatches in pilot/pkg/networking/core)."""
    annotations = pod["metadata"].get("annotations") or {}
    return injected(pod) or annotations.get("ambient.istio.io/redirection") == "enabled"


def selects(selector: Labels | None, labels: Labels | None) -> bool:
    """Whether all labels of a selector are there."""
    have = labels or {}
    return all(have.get(key) == value for key, value in (selector or {}).items())


def strict_peer(peers: Iterable[Manifest], pod: Manifest, ends: Collection[str], root: str) -> Manifest | None:
    """Return the PeerAuthentication that makes mutual TLS a must for a pod's ports `ends`, None where none does."""
    peer, mode = governing_peer(peers, pod, ends, root)
    return peer if mode == "STRICT" else None


def governing_peer(
    peers: Iterable[Manifest], pod: Manifest, ends: Collection[str], root: str
) -> tuple[Manifest | None, str]:
    """Return the PeerAuthentication that governs a pod's ports `ends`, and its mode; (None, "") where none does.

    The narrowest that says something wins: with a selector, then the namespace's, then the root namespace's.
    """
    labels, namespace = pod["metadata"].get("labels") or {}, pod["metadata"]["namespace"]
    ranked: list[tuple[int, Manifest]] = []
    for peer in peers:
        space, selector = peer["metadata"]["namespace"], (peer.get("spec") or {}).get("selector") or {}
        if selector.get("matchLabels"):
            if space == namespace and selects(selector["matchLabels"], labels):
                ranked.append((0, peer))
        elif space == namespace:
            ranked.append((1, peer))
        elif space == root:
            ranked.append((2, peer))
    for _rank, peer in sorted(ranked, key=lambda entry: entry[0]):
        spec = peer.get("spec") or {}
        levels = spec.get("portLevelMtls") or {}
        mode = next(((levels[end] or {}).get("mode") for end in ends if end in levels), None)
        mode = mode or (spec.get("mtls") or {}).get("mode")
        if mode not in (None, "UNSET"):
            return peer, str(mode)
    return None, ""


def labels_match(selector: Mapping[str, Any] | None, labels: Labels | None) -> bool:
    """Whether a Kubernetes LabelSelector (matchLabels, matchExpressions) chooses these labels."""
    have = labels or {}
    wanted = selector or {}
    if not selects(wanted.get("matchLabels"), have):
        return False
    for rule in wanted.get("matchExpressions") or ():
        value, values = have.get(rule["key"]), rule.get("values") or ()
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(rule["operator"], True)
        if not holds:
            return False
    return True


def covers(wide: str, name: str) -> bool:
    """Whether a hostname takes all that another one names; `*.a` takes b.a, c.b.a and *.b.a, and not a itself."""
    wide, name = wide.lower(), name.lower()
    if wide in ("*", name):
        return True
    return wide.startswith("*") and name.endswith(wide[1:]) and len(name) > len(wide) - 1


def intersection(one: str, two: str) -> str | None:
    """Return the narrower of two hostnames where some name is meant by both, else None."""
    if covers(one, two):
        return two.lower()
    return one.lower() if covers(two, one) else None


def overlap(left: Iterable[str], right: Sequence[str]) -> list[str]:
    """Return the names that two lists of hostnames have in common, each as the narrower of the two."""
    found = (intersection(one, two) for one in left for two in right)
    return sorted({name for name in found if name is not None})


def shown(manifest: Manifest) -> str:
    """Name an object as messages do: `Service shop/web`, without a namespace where it has none."""
    metadata = manifest["metadata"]
    return f"{manifest['kind']} " + "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def made(manifest: Manifest) -> tuple[str, str]:
    """Return what Istio sorts objects by (sortConfigByCreationTime): the time, then name and namespace."""
    metadata = manifest["metadata"]
    return str(metadata.get("creationTimestamp") or "9999"), f"{metadata['name']}.{metadata.get('namespace', '')}"
