# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the exposure list: model, snapshot, changes, dry run, writes, and what to tell people about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import (
    _changes,
    _fields,
    _gateway_api,
    _istio_api,
    _kinds,
    _ports,
    _write,
)
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._model import Exposure, Gateway, Model, ModelError, parse

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How to publish; the module's options of the same names. `check` writes nothing."""

    set_name: str = "default"
    api: str = "istio"
    gateway: Mapping[str, Any] | None = None
    state: str = "present"
    prune: bool = True
    validate: bool = True
    force: bool = False
    check: bool = False
    wait: bool = True
    wait_timeout: int = 120


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did, or would do."""

    manifests: list[Manifest]
    changes: list[Change] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    diff: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any(change.verb != "unchanged" for change in self.changes)


def render(exposures: Any, options: Options) -> Result:
    """Return the desired objects; no cluster is asked."""
    model = _parsed(exposures, options, options.gateway)
    return Result(_generated(model, None), endpoints=endpoints(model, {}))


def publish(exposures: Any, options: Options, cluster: Cluster) -> Result:
    """Make the cluster hold what the list says.

    Raises ModelError for a list that can't be published and ClusterError for a cluster that won't have it; in both
    cases nothing has changed.
    """
    wanted = exposures if options.state == "present" else []
    model = _parsed(wanted, options, options.gateway)
    inventory = Inventory.read(cluster, options.set_name, model.gateway.namespace)
    services = {_kinds.key_of(item): item for item in cluster.find("v1", "Service")}
    if options.state == "present":
        model = _with_gateway(wanted, options, model, services)
    desired = _generated(model, cluster)
    live = _snapshot(cluster, desired, inventory, options.set_name, services)
    changes, taken = _changes.plan(desired, live, set_name=options.set_name, prune=options.prune)
    ports, warnings = _port_changes(model, services, inventory, options)
    findings = [_taken_finding(entry) for entry in taken] + port_findings(ports, services.values())
    errors = [str(finding["message"]) for finding in findings if finding["severity"] == "error"]
    if errors:
        raise _write.ApplyError(errors)
    changes = _changes.ordered(changes + ports)

    absent = [change for change in changes if change.before is None and change.verb == "update"]
    tried = _write.dry_run(
        cluster,
        [change for change in changes if change not in absent],
        force=options.force,
        forgiving=options.check,
    )
    changes = _changes.ordered(tried.changes + absent)
    result = Result(
        manifests=[_fields.without_secrets(manifest) for manifest in desired],
        changes=changes,
        findings=findings,
        endpoints=endpoints(model, services),
        diff=differences(changes, tried.results),
        warnings=warnings + tried.warnings,
    )
    if options.check or not result.changed:
        return result
    if options.state == "present":
        inventory.grown(changes).write(cluster)
    _write.write(cluster, changes, force=options.force)
    if options.state == "absent":
        inventory.remove(cluster)
    return result


def _parsed(exposures: Any, options: Options, gateway: Mapping[str, Any] | None) -> Model:
    return parse(exposures, set_name=options.set_name, api=options.api, gateway=gateway)


def _generated(model: Model, cluster: Cluster | None) -> list[Manifest]:
    if model.api == "istio":
        return _istio_api.generate(model)
    return _gateway_api.generate(model, cluster.served(_kinds.GATEWAY_API) if cluster else None)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The ConfigMap in which a set notes where it has written, so that a namespace that left the list is still pruned.

    `kinds` are (group, kind); `services` are (namespace, name) of Services that aren't ours but have ports of ours.
    """

    set_name: str
    namespace: str
    kinds: frozenset[tuple[str, str]] = frozenset()
    namespaces: frozenset[str] = frozenset()
    services: frozenset[tuple[str, str]] = frozenset()
    live: Manifest | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"edgeway-set-{self.set_name}"

    @classmethod
    def read(cls, cluster: Cluster, set_name: str, namespace: str) -> Inventory:
        """Find it by its labels in any namespace, or by its name in the gateway's where LIST isn't allowed."""
        empty = cls(set_name, namespace)
        labels = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: set_name}
        try:
            found = cluster.find("v1", "ConfigMap", None, labels)
            found = [item for item in found if item["metadata"]["name"] == empty.name]
        except RefusedError as refused:
            if refused.status != 403:
                raise
            single = cluster.get("v1", "ConfigMap", namespace, empty.name)
            found = [single] if single else []
        if not found:
            return empty
        live = next((item for item in found if item["metadata"]["namespace"] == namespace), found[0])
        data = live.get("data") or {}

        def pairs(key: str) -> frozenset[tuple[str, str]]:
            words = (word.partition("/") for word in str(data.get(key, "")).split())
            return frozenset((left, right) for left, _slash, right in words)

        return cls(
            set_name,
            str(live["metadata"]["namespace"]),
            pairs("kinds"),
            frozenset(str(data.get("namespaces", "")).split()),
            pairs("services"),
            live,
        )

    def grown(self, changes: Iterable[Change]) -> Inventory:
        """Return it with all that these changes touch."""
        changes = list(changes)
        mine = [change for change in changes if _kinds.holder(change.manifest) == self.set_name]
        shared = [change for change in changes if _kinds.holder(change.manifest) is None]
        return replace(
            self,
            kinds=self.kinds | {(_kinds.kind_of(change.manifest).group, change.kind) for change in mine},
            namespaces=self.namespaces | {change.namespace for change in mine},
            services=self.services | {(change.namespace, change.name) for change in shared},
        )

    def manifest(self) -> Manifest:
        """Return the ConfigMap."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: self.set_name},
            },
            "data": {
                "kinds": " ".join(sorted("/".join(pair) for pair in self.kinds)),
                "namespaces": " ".join(sorted(self.namespaces)),
                "services": " ".join(sorted("/".join(pair) for pair in self.services)),
            },
        }

    def write(self, cluster: Cluster) -> None:
        """Store it if it isn't so already."""
        manager = _changes.manager_of(self.set_name)
        if self.live is None or not _fields.settled(self.manifest(), self.live, manager):
            cluster.apply(self.manifest(), manager)

    def remove(self, cluster: Cluster) -> None:
        """Delete it, when nothing of the set is left."""
        if self.live is not None:
            cluster.delete(self.live)


def _with_gateway(
    exposures: Any, options: Options, model: Model, services: Mapping[_kinds.Key, Manifest]
) -> Model:  # fmt: skip
    """Return the model with what the gateways' own Services say: which one it is, and the labels of its pods."""
    gateway = model.gateway
    if options.gateway is None and _service(services, gateway) is None:
        likely = [
            item
            for item in services.values()
            if str((item.get("spec", {}).get("selector") or {}).get("istio", "")).startswith("ingress")
            and _kinds.holder(item) is None
        ]
        if len(likely) > 1:
            names = ", ".join(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in likely)
            raise ClusterError(
                f"There are several gateways: {names}.", "Say which one by gateway.namespace and gateway.service."
            )
        if likely:
            metadata = likely[0]["metadata"]
            found = {"namespace": metadata["namespace"], "service": metadata["name"]}
            model = _parsed(exposures, options, found)
    learnt: dict[Gateway, Gateway] = {}
    for gateway in {model.gateway, *(exposure.gateway for exposure in model.exposures)}:
        service = _service(services, gateway)
        labels = (service or {}).get("spec", {}).get("selector") or {}
        # What parse supposes where the user names no selector
        supposed = (("istio", gateway.service.removeprefix("istio-")),)
        if labels and gateway.selector == supposed and not set(supposed) <= set(labels.items()):
            learnt[gateway] = replace(gateway, selector=tuple(sorted(labels.items())))
    if not learnt:
        return model
    return replace(
        model,
        gateway=learnt.get(model.gateway, model.gateway),
        exposures=tuple(
            replace(exposure, gateway=learnt.get(exposure.gateway, exposure.gateway)) for exposure in model.exposures
        ),
    )


def _service(services: Mapping[_kinds.Key, Manifest], gateway: Gateway) -> Manifest | None:
    return services.get(("", "Service", gateway.namespace, gateway.service))


def _snapshot(
    cluster: Cluster,
    desired: Sequence[Manifest],
    inventory: Inventory,
    set_name: str,
    services: Mapping[_kinds.Key, Manifest],
) -> list[Manifest]:
    """Return what is there of the kinds that matter: one LIST a kind, by namespace where that is all we may do."""
    versions: dict[tuple[str, str], str] = {}
    for manifest in desired:
        kind = _kinds.kind_of(manifest)
        versions[kind.group, kind.name] = manifest["apiVersion"]
    for group, name in inventory.kinds:
        served = cluster.served(group).get(name, ()) if group else ("v1",)
        if served:
            versions.setdefault((group, name), f"{group}/{served[0]}" if group else "v1")
    versions.pop(("", "Service"), None)
    namespaces = sorted({manifest["metadata"]["namespace"] for manifest in desired} | inventory.namespaces)
    labels = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: set_name}

    def read(entry: tuple[tuple[str, str], str]) -> list[Manifest]:
        (_group, name), version = entry
        # Other people's Secrets and ConfigMaps are none of our business
        selector = labels if name in ("Secret", "ConfigMap") else None
        try:
            found = cluster.find(version, name, None, selector)
        except RefusedError as refused:
            if refused.status != 403:
                raise
            found = [item for space in namespaces for item in cluster.find(version, name, space, selector)]
        if selector:
            known = {_kinds.key_of(item) for item in found}
            for manifest in desired:
                if manifest["kind"] == name and _kinds.key_of(manifest) not in known:
                    single = cluster.get(version, name, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                    if single is not None:
                        found.append(single)
        return found

    kinds = [(key, version) for key, version in sorted(versions.items()) if cluster.serves(version, key[1])]
    found = [item for items in cluster.every(read, kinds) for item in items]
    found = [item for item in found if (item["kind"], item["metadata"]["name"]) != ("ConfigMap", inventory.name)]
    return found + list(services.values())


def _port_changes(
    model: Model, services: Mapping[_kinds.Key, Manifest], inventory: Inventory, options: Options
) -> tuple[list[Change], list[str]]:
    """Return the changes of Services that aren't ours but carry our ports, and warnings."""
    manager = _changes.manager_of(options.set_name)
    changes: list[Change] = []
    warnings: list[str] = []
    handled: set[tuple[str, str]] = set()
    if model.exposures:
        for gateway in _ports.gateways(model):
            handled.add((gateway.namespace, gateway.service))
            service = _service(services, gateway)
            ports = _ports.wanted(model, service, gateway)
            name = f"{gateway.namespace}/{gateway.service}"
            if service is not None:
                changes.append(_port_change(service, ports, manager))
            elif options.check:
                warnings.append(f"The gateway's Service {name} doesn't exist yet: its ports can't be checked.")
                if ports:
                    stand_in = {"metadata": {"namespace": gateway.namespace, "name": gateway.service}}
                    changes.append(Change("update", None, _changes.service_ports(stand_in, ports), manager))
            else:
                raise ClusterError(
                    f"The gateway's Service {name} doesn't exist.",
                    "Install the gateway first (role edgeway.istio.istio), or name yours by gateway.namespace and "
                    "gateway.service.",
                )
    for namespace, name in sorted(inventory.services - handled):
        service = services.get(("", "Service", namespace, name))
        if service is not None and options.prune:
            changes.append(_port_change(service, [], manager))
    return [change for change in changes if change.after is not None], warnings


def _port_change(service: Manifest, ports: list[Manifest], manager: str) -> Change:
    manifest = _changes.service_ports(service, ports)
    if not ports:
        del manifest["spec"]
        settled = not _fields.owned(service, manager)
    else:
        settled = _fields.settled(manifest, service, manager)
    return Change("unchanged" if settled else "update", service, manifest, manager)


def _finding(code: str, message: str, cure: str, objects: list[str], **more: Any) -> dict[str, Any]:
    return {"code": code, "severity": "error", "message": f"{message} {cure}", "objects": objects, "cure": cure, **more}


def _taken_finding(taken: _changes.Taken) -> dict[str, Any]:
    message, _dot, cure = str(taken).partition(". ")
    return _finding("name-taken", message + ".", cure, [_kinds.shown(taken.manifest)])


def port_findings(changes: Iterable[Change], services: Iterable[Manifest]) -> list[dict[str, Any]]:
    """Return why ports of ours can't go onto a Service: another manager's entry, or a nodePort that is taken."""
    node_ports = {
        port["nodePort"]: (service, port)
        for service in services
        for port in service.get("spec", {}).get("ports") or ()
        if port.get("nodePort")
    }
    found = []
    for change in changes:
        if change.before is None or change.after is None or "spec" not in change.after:
            continue
        service = change.before
        where = _kinds.shown(service)
        for port in change.after["spec"]["ports"]:
            keys = {"port": port["port"], "protocol": port["protocol"]}
            there = _fields.item(service["spec"].get("ports") or (), keys)
            for name in ("targetPort", "nodePort"):
                others = [
                    owner
                    for owner in _fields.port_owners(service, port["port"], port["protocol"], name)
                    if owner != change.manager
                ]
                if there is not None and name in port and others and there.get(name) != port[name]:
                    found.append(
                        _finding(
                            "port-taken",
                            f"Port {port['port']} of {where} belongs to {', '.join(map(repr, others))}, with {name} "
                            f"{there.get(name)}, not {port[name]}.",
                            f"Publish on another port, or have {others[0]!r} give up this one.",
                            [where],
                            field="port" if name == "targetPort" else "node_port",
                        )
                    )
            holder = node_ports.get(port.get("nodePort", 0))
            if holder is not None and not (
                holder[0]["metadata"]["uid"] == service["metadata"]["uid"] and holder[1]["port"] == port["port"]
            ):
                found.append(
                    _finding(
                        "node-port-taken",
                        f"nodePort {port['nodePort']} is taken by port {holder[1]['port']} of "
                        f"{_kinds.shown(holder[0])}.",
                        "Choose another node_port.",
                        [where, _kinds.shown(holder[0])],
                        field="node_port",
                    )
                )
    return found


def differences(changes: Iterable[Change], results: Mapping[_kinds.Key, Manifest]) -> list[dict[str, Any]]:
    """Return Ansible's diff of each change: the object before and after, without what the server alone writes."""
    shown = []
    for change in changes:
        if change.verb == "unchanged":
            continue
        name = f"{change.kind} {change.namespace}/{change.name}"
        became = results.get(_kinds.key_of(change.manifest), change.after) if change.after is not None else None
        before, after = _fields.quiet_pair(change.before, became)
        shown.append({"before_header": name, "after_header": name, "before": before, "after": after})
    return shown


def endpoints(model: Model, services: Mapping[_kinds.Key, Manifest]) -> list[dict[str, Any]]:
    """Return where each exposure answers, for people: URLs or addresses, and the nodePort."""
    return [_endpoint(exposure, services) for exposure in model.exposures]


def _endpoint(exposure: Exposure, services: Mapping[_kinds.Key, Manifest]) -> dict[str, Any]:
    service = _service(services, exposure.gateway)
    if exposure.service is not None:
        service = services.get(("", "Service", exposure.gateway.namespace, exposure.service.name))
    ingress = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    hosts = [str(entry.get("ip") or entry.get("hostname")) for entry in ingress]
    port = _fields.item((service or {}).get("spec", {}).get("ports") or (), {"port": exposure.port})
    scheme = {"HTTP": "http", "HTTPS": "https", "TLS": "https"}.get(exposure.protocol)
    usual = {"http": 80, "https": 443}.get(scheme or "")
    tail = "" if exposure.port == usual else f":{exposure.port}"
    return {
        "name": exposure.name,
        "namespace": exposure.namespace,
        "protocol": exposure.protocol,
        "port": exposure.port,
        "node_port": exposure.node_port or (port or {}).get("nodePort"),
        "urls": [f"{scheme}://{name}{tail}/" for name in exposure.hostnames or hosts] if scheme else [],
        "addresses": [f"[{host}]:{exposure.port}" if ":" in host else f"{host}:{exposure.port}" for host in hosts],
    }


__all__ = ["Inventory", "ModelError", "Options", "Result", "publish", "render"]
