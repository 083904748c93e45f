# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One gateway's Service: ports and nodePorts that are ours, and the VIP in its status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _findings, _ports
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.model import _shapes
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import is_address
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _write
from ansible_collections.edgeway.istio.plugins.module_utils.publish._service_ports import port_findings

Manifest = dict[str, Any]

VIP_CLASS = "edgeway.istio/vip"


@dataclass(frozen=True, slots=True)
class Options:
    """What the Service shall have; the module's options of the same names. None stands for: as it is.

    With `selector` the Service is one of our own beside the gateway's.
    """

    namespace: str
    name: str
    set_name: str = "default"
    ports: Sequence[Mapping[str, Any]] = ()
    vips: Sequence[str] = ()
    type: str | None = None
    external_traffic_policy: str | None = None
    selector: Mapping[str, str] | None = None
    state: str = "present"
    force: bool = False
    check: bool = False
    before_istio: bool = False

    @property
    def holder(self) -> str:
        """The set that our Services belong to. Sets of exposures have no dot: one of this name leaves them alone."""
        return f"{self.set_name}.service"

    @property
    def manager(self) -> str:
        """Our field manager."""
        return _changes.manager_of(self.holder)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did, or would do. `service` is what the Service came to, None where there is none."""

    changed: bool
    service: Manifest | None
    diff: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def checked(options: Options) -> None:
    """Raise ModelError with all that can't be right whatever the cluster."""
    log = Log()
    seen: dict[tuple[int, str], int] = {}
    node_ports: dict[int, int] = {}
    for index, entry in enumerate(options.ports):
        at = f"ports[{index}]"
        key = entry["port"], entry.get("protocol") or "TCP"
        if not 1 <= entry["port"] <= 65535:
            log.add(f"{at}.port", f"`{entry['port']}` is not a port", "Use 1 to 65535")
        if entry.get("target_port") is not None and not 1 <= entry["target_port"] <= 65535:
            log.add(f"{at}.target_port", f"`{entry['target_port']}` is not a port", "Use 1 to 65535")
        if key in seen:
            log.add(f"{at}.port", f"{key[0]}/{key[1]} is in ports[{seen[key]}] already", "Remove one of them")
        seen.setdefault(key, index)
        pinned = entry.get("node_port")
        if pinned is not None:
            if not 1 <= pinned <= 65535:
                log.add(f"{at}.node_port", f"`{pinned}` is not a port", "Use 30000 to 32767")
            if pinned in node_ports:
                # The server's own error for this names no field
                log.add(f"{at}.node_port", f"{pinned} is in ports[{node_ports[pinned]}] already", "Choose another")
            node_ports.setdefault(pinned, index)
    for index, vip in enumerate(options.vips):
        if not is_address(vip):
            log.add(f"vips[{index}]", f"`{vip}` is not an IP address", "Write an address without a prefix length")
    if options.selector is not None and options.state == "present":
        if not options.selector:
            log.add("selector", "is empty", "Write the labels of the gateway's pods")
        if not options.ports:
            log.add("ports", "is empty", "Give the Service at least one port")
    if options.external_traffic_policy and options.type == "ClusterIP":
        log.add("external_traffic_policy", "means nothing for type ClusterIP", "Leave it out, or choose another type")
    if log.problems:
        raise ModelError(tuple(log.problems))


def ensure(options: Options, cluster: Cluster) -> Result:
    """Make the Service have what the options say; raise ModelError or ClusterError with nothing changed."""
    checked(options)
    services = cluster.find("v1", "Service")
    key = ("", "Service", options.namespace, options.name)
    live = next((item for item in services if _kinds.key_of(item) == key), None)
    if live is None and (options.selector is None or options.state == "absent"):
        return _without_service(options)
    change = _change(live, options)
    found = port_findings([change], services, force=options.force)
    problems = [f"{finding.reason} {finding.cure}" for finding in found]
    if problems:
        raise _write.ApplyError(problems)
    tried = _write.dry_run(cluster, [change], force=options.force, forgiving=options.check)
    change = tried.changes[0]
    if change.verb == "delete":
        spec, status = {}, _no_status(options)
    else:
        spec = tried.results.get(key) or change.manifest
        controllers = other_controllers(cluster) if options.vips and options.state == "present" else []
        problems = vip_problems(spec, live, services, options, controllers)
        if problems:
            raise _write.ApplyError(problems)
        status = _try_status(cluster, live, spec, options)
    old, new = ips(live or {}), ips(status)
    result = Result(
        changed=change.verb != "unchanged" or old != new,
        service=_summary(spec, new) if spec else None,
        diff=_differences(change, spec, old, new),
        warnings=tried.warnings + (_unbound(cluster, services, spec, options) if spec else []),
    )
    if options.check or not result.changed:
        return result
    done: list[_write.Written] = []
    adding, removing = _changes.steps([change])
    try:
        _write.write(cluster, adding, done, force=options.force)
        if old != new and change.verb != "delete":
            manifest = _status_manifest(options)
            cluster.apply(manifest, options.manager, subresource="status", force=options.force)
        _write.write(cluster, removing, done, force=options.force)
    except BaseException as error:
        left = _put_status_back(cluster, live, options) if live is not None else []
        raise _write.undo(cluster, done, error, left) from error
    final = cluster.get("v1", "Service", options.namespace, options.name)
    return replace(result, service=_summary(final, ips(final)) if final is not None else None)


def _unbound(cluster: Cluster, services: Iterable[Manifest], planned: Manifest, options: Options) -> list[str]:
    """Return which of the ports end where no listener is, with the Service as it is planned: nobody answers there."""
    if not options.ports or options.state == "absent":
        return []
    key, name = _kinds.key_of(planned), _kinds.shown(planned)
    there = [item for item in services if _kinds.key_of(item) != key]
    snapshot = _snapshot.read(cluster, None, known={("", "Service"): [*there, planned]}, resolve=lambda _names: {})
    ours = tuple(f"Port {wish['port']} of {name} " for wish in options.ports)
    return [
        f"{found.reason} {found.cure}"
        for found in _findings.survey(snapshot)
        if found.code in ("port-without-listener", "port-privileged", "port-reserved", "target-port-name")
        and found.reason.startswith(ours)
    ]


def _without_service(options: Options) -> Result:
    name = f"Service {options.namespace}/{options.name}"
    if options.state == "absent":
        return Result(False, None)
    if not options.check:
        raise ClusterError(
            f"{name} doesn't exist.",
            "Install the gateway first (role edgeway.istio.istio), or name the gateway's Service.",
        )
    after = {**_spec(None, options), "vips": list(options.vips)}
    diff = {"before_header": name, "after_header": name, "before": {}, "after": after}
    changed = any(after.values())
    warning = f"{name} doesn't exist yet: what it would get can't be checked against it."
    return Result(changed, None, [diff] if changed else [], [] if options.before_istio else [warning])


def _change(live: Manifest | None, options: Options) -> Change:
    metadata: Manifest = {"name": options.name, "namespace": options.namespace}
    manifest: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    if options.selector is not None:
        if live is not None and _kinds.holder(live) != options.holder:
            raise _write.ApplyError([str(_changes.Taken(manifest, _kinds.holder(live)))])
        if options.state == "absent":
            return Change("delete", live, None, options.manager)
        metadata["labels"] = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: options.holder}
    spec = _spec(live, options) if options.state == "present" else {}
    if spec:
        manifest["spec"] = spec
    if live is None:
        return Change("create", None, manifest, options.manager)
    if spec:
        settled = _fields.settled(manifest, live, options.manager)
    else:
        settled = not (_fields.owned(live, options.manager) or {})
    return Change("unchanged" if settled else "update", live, manifest, options.manager)


def _spec(live: Manifest | None, options: Options) -> Manifest:
    """Return what we own of the Service's spec."""
    spec: Manifest = {}
    wished = options.type
    if options.selector is not None:
        spec["selector"] = dict(options.selector)
        wished = wished or "LoadBalancer"
    if wished:
        spec["type"] = wished
        before = (live or {}).get("spec", {})
        # A class is given when the Service becomes a LoadBalancer, and never afterwards
        if wished == "LoadBalancer" and (before.get("type") != wished or before.get("loadBalancerClass") == VIP_CLASS):
            spec["loadBalancerClass"] = VIP_CLASS
    if options.external_traffic_policy:
        spec["externalTrafficPolicy"] = options.external_traffic_policy
    ports = [_entry(live, port) for port in sorted(options.ports, key=lambda wish: wish["port"])]
    if ports:
        spec["ports"] = ports
    return spec


def _entry(service: Mapping[str, Any] | None, wish: Mapping[str, Any]) -> Manifest:
    """Return one port as we apply it: of an installer's own port only what is asked for."""
    port, protocol = wish["port"], wish.get("protocol") or "TCP"
    owners = _fields.port_owners(service, port, protocol) if service is not None else []
    there = (service or {}).get("spec", {}).get("ports") or ()
    theirs = any(not owner.startswith("edgeway/") for owner in owners) or (
        not owners and _fields.item(there, {"port": port, "protocol": protocol})
    )
    entry: Manifest = {"port": port, "protocol": protocol}
    if wish.get("name") or not theirs:
        entry["name"] = wish.get("name") or f"{_ports.PREFIX}{port}" + (
            "" if protocol == "TCP" else f"-{protocol.lower()}"
        )
    if wish.get("target_port") is not None or not theirs:
        # As an exposure list chooses them: several lists may own one port if they agree
        entry["targetPort"] = wish.get("target_port") or _shapes.target_port(port, set())
    if wish.get("node_port") is not None:
        entry["nodePort"] = wish["node_port"]
    return entry


def ips(service: Mapping[str, Any]) -> list[str]:
    """Return the addresses in a Service's status, which are its EXTERNAL-IP."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [str(entry.get("ip") or entry.get("hostname")) for entry in ingress]


def _no_status(options: Options) -> Manifest:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": options.name, "namespace": options.namespace}}


def _status_manifest(options: Options) -> Manifest:
    manifest = _no_status(options)
    if options.state == "present" and options.vips:
        manifest["status"] = {"loadBalancer": {"ingress": [{"ip": vip} for vip in options.vips]}}
    return manifest


def _try_status(cluster: Cluster, live: Manifest | None, spec: Manifest, options: Options) -> Manifest:
    """Return the Service with the status that it would have."""
    manifest = _status_manifest(options)
    was = (live or {}).get("spec", {}).get("type")
    if live is None or was != spec["spec"].get("type"):
        # The server would judge the status by the type that is there now
        return manifest
    if "status" not in manifest and _fields.owned(live, options.manager, "status") is None:
        return live
    became, _created = cluster.apply(manifest, options.manager, subresource="status", dry_run=True, force=options.force)
    return became


def _put_status_back(cluster: Cluster, before: Manifest, options: Options) -> list[str]:
    """Give the Service the addresses back that it had. Returns what could not be put back, and why."""
    name = f"The status of {_kinds.shown(before)}"
    try:
        live = cluster.get("v1", "Service", options.namespace, options.name)
        if live is None or ips(live) == ips(before):
            return []
        manifest = {**_no_status(options), **_fields.mine(before, options.manager, "status")}
        became, _created = cluster.apply(manifest, options.manager, subresource="status")
    except ClusterError as error:
        return [f"{name}: {error}"]
    lost = [address for address in ips(before) if address not in ips(became)]
    return [f"{name}: {', '.join(lost)} was another manager's. Have it write that again."] if lost else []


def vip_problems(
    wanted: Manifest,
    live: Manifest | None,
    services: Iterable[Manifest],
    options: Options,
    controllers: Sequence[str],
) -> list[str]:
    """Return why the VIPs can't be the EXTERNAL-IP of the Service, which will be as `wanted`.

    kube-proxy serves the addresses of `status.loadBalancer.ingress` for Services of type LoadBalancer alone.
    """
    if options.state == "absent" or not options.vips:
        return []
    spec, where = wanted["spec"], _kinds.shown(wanted)
    if spec.get("type") != "LoadBalancer":
        reason = f"{where} is of type {spec.get('type', 'ClusterIP')}: only a LoadBalancer carries a VIP."
        cure = f"Install the gateway with type LoadBalancer and loadBalancerClass {VIP_CLASS}, or set the option type."
        return [f"{reason} {cure}"]
    found = []
    given = spec.get("loadBalancerClass")
    if given and given != VIP_CLASS:
        found.append(
            f"{where} has loadBalancerClass {given!r}: its addresses are that controller's. Use a gateway Service of "
            f"class {VIP_CLASS}, or of none."
        )
    if not given and controllers:
        found.append(
            f"{where} has no loadBalancerClass, and {', '.join(controllers)} gives such Services their addresses. "
            f"Install the gateway with loadBalancerClass {VIP_CLASS}."
        )
    ports = {(port["port"], port.get("protocol", "TCP")) for port in spec.get("ports") or ()}
    for other in services:
        if live is not None and other["metadata"]["uid"] == live["metadata"]["uid"]:
            continue
        both = set(ips(other)) & set(options.vips)
        theirs = {(port["port"], port.get("protocol", "TCP")) for port in other["spec"].get("ports") or ()}
        if both and ports & theirs:
            numbers = ", ".join(str(port) for port, _protocol in sorted(ports & theirs))
            found.append(
                f"{_kinds.shown(other)} has the VIP {', '.join(sorted(both))} too, with port {numbers}. Give one of "
                f"them another VIP or other ports."
            )
    return found


def other_controllers(cluster: Cluster) -> list[str]:
    """Return the controllers found that give addresses to LoadBalancer Services without a class."""
    signs = {
        "MetalLB": ("/apis/metallb.io/v1beta1/ipaddresspools", None),
        "Cilium": ("/apis/cilium.io/v2alpha1/ciliumloadbalancerippools", None),
        "k3s ServiceLB": ("/apis/apps/v1/namespaces/kube-system/daemonsets", "svccontroller.k3s.cattle.io/svcname"),
    }
    found = []
    for name, (path, label) in signs.items():
        try:
            items = cluster.items(path)
        except ClusterError:
            continue
        if any(label is None or label in (item["metadata"].get("labels") or {}) for item in items):
            found.append(name)
    return found


def _summary(service: Manifest, vips: list[str]) -> Manifest:
    spec = service["spec"]
    return {
        "namespace": service["metadata"]["namespace"],
        "name": service["metadata"]["name"],
        "type": spec.get("type", "ClusterIP"),
        "load_balancer_class": spec.get("loadBalancerClass"),
        "external_traffic_policy": spec.get("externalTrafficPolicy"),
        "health_check_node_port": spec.get("healthCheckNodePort"),
        "cluster_ip": spec.get("clusterIP"),
        "vips": vips,
        "ports": [
            {
                "port": port["port"],
                "protocol": port.get("protocol", "TCP"),
                "name": port.get("name"),
                "target_port": port.get("targetPort"),
                "node_port": port.get("nodePort"),
            }
            for port in spec.get("ports") or ()
        ],
    }


def _differences(change: Change, after: Manifest, old: list[str], new: list[str]) -> list[dict[str, Any]]:
    name = _kinds.shown(change.manifest)
    one, two = _fields.quiet_pair(change.before, after or None)
    if old or new:
        one["status"], two["status"] = {"vips": old}, {"vips": new}
    return [{"before_header": name, "after_header": name, "before": one, "after": two}] if one != two else []
