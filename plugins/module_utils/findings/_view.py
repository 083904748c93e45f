# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list laid over a snapshot: which listener is bound where, which table hangs on which listener. Pure.

How Istio puts Gateways of one workload together is in mergeGateways and resolvePorts (pilot/pkg/model/gateway.go), how
it hangs VirtualServices on them in buildGatewayHTTPRouteConfig (pilot/pkg/networking/core/gateway.go).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_over, is_ready
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _reading as reading
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import Key, Snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    UNKNOWN,
    Finding,
    Listener,
    Manifest,
    Parent,
    Place,
    Rule,
    Table,
    Workload,
    labels_match,
    overlap,
    selects,
)
from ansible_collections.edgeway.istio.plugins.module_utils.installation._installed import release_number
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Model

# What isn't known of a kind that may not be read
_UNREAD = {
    snap.NAMESPACE: "which there are, and which of them selectors choose",
    snap.NODE: "whether nodePorts are served",
    snap.SERVICE: "which ports lead to a gateway, and whether backends exist",
    snap.SLICE: "whether backends are ready",
    snap.POD: "whether gateways run, and what backends understand",
    snap.SECRET: "whether certificates are there and can be used",
    snap.CONFIG_MAP: "how the mesh is set up",
    snap.NETWORK_POLICY: "whether one keeps connections away",
    snap.GATEWAY: "what else is published",
    snap.VIRTUAL_SERVICE: "which routes there are besides",
    snap.DESTINATION_RULE: "whether subsets are defined, and how backends are spoken to",
    snap.SERVICE_ENTRY: "which hosts outside are known",
    snap.ENVOY_FILTER: "whether one changes the gateway",
    snap.PEER: "whether backends take mutual TLS alone",
    snap.AUTHORIZATION: "whether one denies requests",
    snap.REQUEST_AUTHENTICATION: "whether tokens are read",
    snap.API_GATEWAY: "what else is published",
    snap.CLASS: "which Gateways are Istio's",
    snap.GRANT: "whether references to other namespaces are allowed",
    snap.BACKEND_TLS: "whether backends are spoken to in TLS",
    **dict.fromkeys(snap.ROUTES, "which routes there are besides"),
}
WorkloadKey = tuple[str, tuple[tuple[str, str], ...]]
_OF_ONE_POD = ("pod-template-hash", "controller-revision-hash", "pod-template-generation",
               "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener on the pods of one gateway, with the ports that Envoy listens on for it."""

    listener: Listener
    workload: Workload
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """A table on a listener: the names that both have, and the rules that the listener takes from it."""

    table: Table
    parent: Parent
    listener: Listener
    names: tuple[str, ...]
    rules: tuple[Rule, ...]


class View:
    """All that findings are made from. `survey` is for clusters as they are: everybody's objects are looked at.

    Without a snapshot only the list itself is known, and what needs a cluster is left out.
    """

    def __init__(self, model: Model | None, snapshot: Snapshot | None, *, edges: Sequence[str] = ()) -> None:
        self.model = model
        self.static = snapshot is None
        self.snapshot = snapshot if snapshot is not None else Snapshot({})
        self.edges = tuple(edges)
        self.survey = model is None
        self.found: list[Finding] = []
        self._resolved: dict[tuple[WorkloadKey, int], list[int]] = {}
        services = [_plain(one) for one in self.snapshot.items(snap.SERVICE)]
        if model is not None:
            services = reading.with_our_ports(model, services)
        self.services = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
        self.namespaces = {one["metadata"]["name"]: one for one in self.snapshot.items(snap.NAMESPACE)}

    # What was found

    def add(
        self, code: str, severity: str, place: Place, reason: str, cure: str, *objects: str, cluster: bool = False
    ) -> None:
        """Note a finding. One that no exposure has to do with is for surveys, or about the `cluster` as a whole."""
        if not (place.ours or cluster or self.survey):
            return
        named = tuple(dict.fromkeys(name for name in (place.object, *objects) if name))
        self.found.append(Finding(code, severity, place.exposure, place.path, named, reason, cure))

    def concerns(self, place: Place) -> bool:
        """Whether anybody wants to hear of it."""
        return place.ours or self.survey

    def readable(self, key: Key, namespace: str = "") -> bool:
        """Whether it means something that an object of a kind isn't there. It doesn't without a snapshot."""
        return not self.static and self.snapshot.readable(key, namespace)

    def unread(self) -> None:
        """Say what couldn't be looked at."""
        for key, hidden in sorted(self.snapshot.unread.items()):
            group, kind = key
            for place in sorted(hidden) if "" not in hidden else [""]:
                what = f"Objects of kind {kind}" + (f" ({group})" if group else "")
                where, grant = (f" in namespace `{place}`" if place else ""), "get and list on them"
                why, shown = _UNREAD[key], f"{kind} {place}/*" if place else kind
                if key == snap.CONFIG_MAP:
                    what, where, grant, shown = f"ConfigMap {place}", "", "get on it", f"ConfigMap {place}"
                    why = "how kube-proxy is set up" if place == snap.KUBE_PROXY else why
                self.add(
                    "unread",
                    UNKNOWN,
                    Place(shown),
                    f"{what}{where} may not be read, so it isn't known {why}.",
                    f"Grant {grant}{where}, or silence `unread` with your reason.",
                    cluster=True,
                )

    # Listeners and tables

    @cached_property
    def ours(self) -> str | None:
        return self.model.set_name if self.model is not None else None

    def foreign(self, key: Key) -> Iterator[Manifest]:
        """Return the objects of a kind that don't belong to the set of this list."""
        for one in self.snapshot.items(key):
            if self.ours is None or _kinds.holder(one) != self.ours:
                yield one

    @cached_property
    def foreign_rules(self) -> Mapping[str, Mapping[str, list[Manifest]]]:
        """Others' DestinationRules that hold for all pods, by namespace and host; all wildcards are under `*`."""
        found: dict[str, dict[str, list[Manifest]]] = defaultdict(lambda: defaultdict(list))
        for rule in self.foreign(snap.DESTINATION_RULE):
            spec, space = rule.get("spec") or {}, rule["metadata"]["namespace"]
            if not spec.get("workloadSelector"):
                host = reading.complete(str(spec.get("host") or ""), space)
                found[space]["*" if host.startswith("*") else host].append(rule)
        return found

    @cached_property
    def live_gateways(self) -> Mapping[tuple[str, str, str], Manifest]:
        """Gateways as they are now, by (api, namespace, name), ours too."""
        kinds = (("istio", snap.GATEWAY), ("gateway_api", snap.API_GATEWAY))
        return {
            (api, one["metadata"]["namespace"], one["metadata"]["name"]): one
            for api, key in kinds
            for one in self.snapshot.items(key)
        }

    @cached_property
    def listeners(self) -> list[Listener]:
        found = list(reading.listeners_of_model(self.model)) if self.model is not None else []
        for gateway in self.foreign(snap.GATEWAY):
            found += reading.listeners_of_gateway(gateway)
        for gateway in self.foreign(snap.API_GATEWAY):
            if self.is_istios(gateway):
                found += reading.listeners_of_kubernetes_gateway(gateway)
        return found

    def is_istios(self, gateway: Manifest) -> bool:
        """Whether a Gateway API Gateway is of a class that Istio implements for traffic from outside."""
        name = (gateway.get("spec") or {}).get("gatewayClassName")
        for one in self.snapshot.items(snap.CLASS):
            if one["metadata"]["name"] == name:
                return (one.get("spec") or {}).get("controllerName") == reading.CONTROLLER
        return name == "istio"

    @cached_property
    def tables(self) -> list[Table]:
        found = list(reading.tables_of_model(self.model)) if self.model is not None else []
        services = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one
            for one in self.snapshot.items(snap.VIRTUAL_SERVICE)
        }
        tables = [reading.table_of_virtual_service(one, services) for one in self.foreign(snap.VIRTUAL_SERVICE)]
        for key in snap.ROUTES:
            tables += [reading.table_of_route(one) for one in self.foreign(key)]
        # Without a Gateway they are for the mesh alone; without hosts they are parts of others
        return found + [table for table in tables if table.parents]

    @cached_property
    def gateways(self) -> Mapping[tuple[str, str, str], list[Listener]]:
        """The listeners by (api, namespace, name) of their Gateway."""
        found: dict[tuple[str, str, str], list[Listener]] = defaultdict(list)
        for listener in self.listeners:
            found[listener.api, listener.namespace, listener.gateway].append(listener)
        return found

    def parents_of(self, table: Table, parent: Parent) -> list[Listener]:
        """Return the listeners that a table names, whether or not they take it."""
        found = self.gateways.get((table.api, parent.namespace, parent.name), [])
        if table.api == "istio":
            return found
        return [
            one
            for one in found
            if (parent.section in ("", one.section) and parent.port in (None, one.number))
            or (table.ours and one.ours and one.number == parent.port)
        ]  # fmt: skip

    @cached_property
    def uses(self) -> list[Use]:
        """Every table on every listener that it shares a name with."""
        found = []
        for table in self.tables:
            for parent in table.parents:
                for listener in self.parents_of(table, parent):
                    names = overlap(listener.hostnames(table.namespace), table.hostnames)
                    if names and self.allows(listener, table):
                        rules = tuple(self._rules(table, listener))
                        found.append(Use(table, parent, listener, tuple(names), rules))
        return found

    def _rules(self, table: Table, listener: Listener) -> Iterator[Rule]:
        name = f"{listener.namespace}/{listener.gateway}"
        for rule in table.rules:
            if rule.family != listener.takes and not (table.kind == "TLSRoute" and listener.encrypted):
                continue
            requests = tuple(
                one
                for one in rule.requests
                if one.port in (None, listener.number) and (not one.gateways or name in one.gateways)
            )
            if requests:
                yield rule if requests == rule.requests else replace(rule, requests=requests)

    @cached_property
    def uses_of_listener(self) -> Mapping[int, list[Use]]:
        found: dict[int, list[Use]] = defaultdict(list)
        for use in self.uses:
            found[id(use.listener)].append(use)
        return found

    @cached_property
    def uses_of_table(self) -> Mapping[int, list[Use]]:
        found: dict[int, list[Use]] = defaultdict(list)
        for use in self.uses:
            found[id(use.table)].append(use)
        return found

    def allows(self, listener: Listener, table: Table) -> bool:
        """Whether a Gateway API listener lets routes of that namespace attach."""
        if listener.allowed is None:
            return True
        spaces = listener.allowed.get("namespaces") or {}
        source = spaces.get("from") or "Same"
        if source == "All":
            return True
        if source == "Same":
            return table.namespace == listener.namespace
        return self.chooses(spaces.get("selector"), table.namespace)

    def chooses(self, selector: Mapping[str, Any] | None, namespace: str) -> bool:
        """Whether a label selector chooses a namespace, or may: where namespaces can't be read."""
        return labels_match(selector, self.labels_of(namespace)) or not self.readable(snap.NAMESPACE)

    def labels_of(self, namespace: str) -> Mapping[str, str]:
        """Return a namespace's labels; every one has the label of its name."""
        found = self.namespaces.get(namespace)
        labels: Mapping[str, str] = (found or {}).get("metadata", {}).get("labels") or {}
        return {"kubernetes.io/metadata.name": namespace, **labels}

    # Gateway pods

    @cached_property
    def workloads(self) -> list[Workload]:
        """The gateways' pods, those with equal labels together; none is made up."""
        selectors = {_pairs(one.selector) for one in self.listeners if one.selector is not None}
        for key in self._named & self.services.keys():
            selectors.add(_pairs((self.services[key].get("spec") or {}).get("selector")))
        groups: dict[WorkloadKey, list[Manifest]] = defaultdict(list)
        for pod in self.snapshot.items(snap.POD):
            labels = pod["metadata"].get("labels") or {}
            chosen = reading.DEPLOYED in labels or any(pairs and selects(dict(pairs), labels) for pairs in selectors)
            if chosen or (() in selectors and _is_router(pod)):
                kept = tuple(sorted((key, value) for key, value in labels.items() if key not in _OF_ONE_POD))
                groups[pod["metadata"]["namespace"], kept].append(pod)
        return [
            # What a rollout or an eviction left says nothing of a gateway, unless nothing else is there
            Workload(
                namespace,
                dict(labels),
                tuple([pod for pod in pods if not is_over(pod)] or pods),
                tuple(self.services_before(namespace, dict(labels))),
            )
            for (namespace, labels), pods in sorted(groups.items())
        ]

    @property
    def _named(self) -> set[tuple[str, str]]:
        """The Services that lead to gateways, by name."""
        found: set[tuple[str, str]] = set()
        for one in self.listeners:
            for owner, _slash, name in (full.partition("/") for full in one.services or ()):
                found.add((owner, name))
        for entry in self.model.exposures if self.model is not None else ():
            found.add((entry.gateway.namespace, entry.gateway.service))
        return found

    def services_before(self, namespace: str, labels: Mapping[str, str]) -> Iterator[Manifest]:
        """Return the Services that lead to pods with these labels."""
        for (owner, _name), service in sorted(self.services.items()):
            selector = (service.get("spec") or {}).get("selector")
            if owner == namespace and selector and selects(selector, labels):
                yield service

    @cached_property
    def bound(self) -> list[Bound]:
        """Every listener on every set of pods that takes it."""
        return [one for listener in self.listeners for one in self.binds(listener)]

    @cached_property
    def bound_to(self) -> Mapping[int, list[Bound]]:
        found: dict[int, list[Bound]] = defaultdict(list)
        for one in self.bound:
            found[id(one.listener)].append(one)
        return found

    def binds(self, listener: Listener) -> Iterator[Bound]:
        for workload in self.workloads:
            if listener.selector is not None:
                if not selects(listener.selector, workload.labels) or not self.in_scope(listener, workload):
                    continue
                yield Bound(listener, workload, tuple(self.resolved(listener.number, workload)))
            elif listener.deployed:
                if (
                    workload.labels.get(reading.DEPLOYED) == listener.gateway
                    and workload.namespace == listener.namespace
                ):
                    yield Bound(listener, workload, (listener.number,))
            elif workload.namespace == listener.namespace:
                named = [one for one in workload.services if _full_name(one) in (listener.services or ())]
                if named:
                    yield Bound(listener, workload, tuple(targets(named, listener.number, workload)))

    def resolved(self, number: int, workload: Workload) -> list[int]:
        """Return what a Gateway's port number is bound as: the targetPort of a Service port, else the number itself.

        Where Services may not be read, that isn't known.
        """
        key = (workload.key, number)
        if key not in self._resolved:
            own = [number] if self.readable(snap.SERVICE, workload.namespace) else []
            self._resolved[key] = targets(workload.services, number, workload) or own
        return self._resolved[key]

    def outside(self, listener: Listener) -> set[int]:
        """Return the ports that clients reach a listener by: those of Services that end there, else its own number."""
        found = {
            int(port["port"])
            for bound in self.bound_to[id(listener)]
            for service in bound.workload.services
            for port in service["spec"].get("ports") or ()
            if target_of(port, bound.workload.pods) in bound.ports
        }
        return found or {listener.number}

    def in_scope(self, listener: Listener, workload: Workload) -> bool:
        """Whether PILOT_SCOPE_GATEWAY_TO_NAMESPACE keeps a Gateway from pods elsewhere."""
        if listener.api != "istio" or listener.namespace == workload.namespace:
            return True
        return self.setting(workload, "PILOT_SCOPE_GATEWAY_TO_NAMESPACE").lower() not in ("true", "1", "t")

    # Control planes

    def istiods(self, workload: Workload) -> list[Manifest]:
        """Return the pods of the istiod that a gateway listens to."""
        return [
            pod
            for pod in self.snapshot.items(snap.POD)
            if (pod["metadata"].get("labels") or {}).get("app") == "istiod"
            and pod["metadata"]["namespace"] == workload.control_plane
            and (pod["metadata"]["labels"].get("istio.io/rev") or "default") == workload.revision
        ]

    def setting(self, workload: Workload, name: str) -> str:
        """Return an environment variable of a gateway's istiod."""
        for pod in self.istiods(workload):
            for container in (pod.get("spec") or {}).get("containers") or ():
                for entry in container.get("env") or ():
                    if entry.get("name") == name:
                        return str(entry.get("value") or "")
        return ""

    def release(self, workload: Workload) -> tuple[int, ...] | None:
        """Return the release of a gateway's istiod by the tag of its image, None where the tag doesn't say it."""
        images = [
            str(container.get("image"))
            for pod in self.istiods(workload)
            for container in (pod.get("spec") or {}).get("containers") or ()
            if container.get("name") == "discovery"
        ]
        return release_number(images[0].rpartition("/")[2].partition(":")[2]) if images else None

    def mesh(self, workload: Workload | None) -> Mapping[str, Any]:
        """Return the mesh configuration that a gateway has."""
        place = (workload.control_plane, workload.revision) if workload else ("istio-system", "default")
        return self.snapshot.meshes.get(place, {})

    def knows_mesh(self, workload: Workload) -> bool:
        """Whether the mesh configuration that a gateway has could be read."""
        return self.readable(snap.CONFIG_MAP, snap.mesh_config(workload.control_plane, workload.revision))

    def root_namespace(self, workload: Workload | None) -> str:
        """Return the namespace whose policies hold for the whole mesh."""
        default = workload.control_plane if workload else "istio-system"
        return str(self.mesh(workload).get("rootNamespace") or default)

    def workloads_of(self, table: Table) -> list[Workload]:
        """Return the gateways that a table's requests come through."""
        found = {
            one.workload.key: one.workload
            for use in self.uses_of_table[id(table)]
            for one in self.bound_to[id(use.listener)]
        }
        return list(found.values())

    # Backends

    @cached_property
    def slices(self) -> Mapping[tuple[str, str], list[Manifest]]:
        """EndpointSlices by (namespace, name) of their Service."""
        found: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
        for one in self.snapshot.items(snap.SLICE):
            name = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
            if name:
                found[one["metadata"]["namespace"], name].append(one)
        return found

    @cached_property
    def pods_by_namespace(self) -> Mapping[str, list[Manifest]]:
        found: dict[str, list[Manifest]] = defaultdict(list)
        for pod in self.snapshot.items(snap.POD):
            found[pod["metadata"]["namespace"]].append(pod)
        return found

    def pods_of_service(self, service: Manifest) -> list[Manifest]:
        """Return the known pods behind a Service, of backends only where they were read."""
        selector = (service.get("spec") or {}).get("selector")
        if not selector:
            return []
        pods = self.pods_by_namespace[service["metadata"]["namespace"]]
        return [pod for pod in pods if selects(selector, pod["metadata"].get("labels"))]


def _full_name(manifest: Manifest) -> str:
    return f"{manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"


def _pairs(labels: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((labels or {}).items()))


def _plain(service: Manifest) -> Manifest:
    """Return a Service that has a spec and numbered ports, as the API server keeps them, whatever a file holds."""
    spec = service.get("spec") or {}
    return {**service, "spec": {**spec, "ports": [port for port in spec.get("ports") or () if port.get("port")]}}


def _is_router(pod: Manifest) -> bool:
    return any(
        "router" in (container.get("args") or ()) for container in (pod.get("spec") or {}).get("containers") or ()
    )


def targets(services: Iterable[Manifest], number: int, workload: Workload) -> list[int]:
    """Return the targetPorts of a TCP port number on some Services, each once, a named one looked up in the pods."""
    found: list[int] = []
    for service in services:
        labels = service["metadata"].get("labels") or {}
        if "experimental.istio.io/disable-gateway-port-translation" in labels:
            continue
        for port in (service.get("spec") or {}).get("ports") or ():
            if port["port"] == number and port.get("protocol", "TCP") == "TCP":
                target = target_of(port, workload.pods)
                if target is not None and target not in found:
                    found.append(target)
    return found


def target_of(port: Manifest, pods: Sequence[Manifest]) -> int | None:
    """Return the number of a Service port's targetPort, None for a name that no pod has."""
    target: int | str = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    if target.isdigit():
        return int(target)
    for pod in pods:
        for container in (pod.get("spec") or {}).get("containers") or ():
            for one in container.get("ports") or ():
                if one.get("name") == target:
                    return int(one["containerPort"])
    return None


def ready_nodes(workload: Workload) -> set[str]:
    """Return the nodes with a ready pod of a gateway."""
    return {str((pod.get("spec") or {}).get("nodeName")) for pod in workload.pods if is_ready(pod)}
