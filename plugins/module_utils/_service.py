# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One gateway's Service: ports and nodePorts that are ours, and the VIP in its status."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _fields, _kinds, _ports, _publish, _write
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log

Manifest = dict[str, Any]

VIP_CLASS = "edgeway.istio/vip"


@dataclass(frozen=True, slots=True)
class Options:
    """What the Service shall have; the module's options of the same names."""

    namespace: str
    name: str
    set_name: str = "default"
    ports: Sequence[Mapping[str, Any]] = ()
    vips: Sequence[str] = ()
    state: str = "present"
    force: bool = False
    check: bool = False

    @property
    def manager(self) -> str:
        """Our field manager. Sets have no dot in their names: an exposure list of the same name doesn't clash."""
        return f"edgeway/{self.set_name}.service"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did, or would do. `service` is what the Service came to, None where there is none yet."""

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
        try:
            ipaddress.ip_address(vip)
        except ValueError:
            log.add(f"vips[{index}]", f"`{vip}` is not an IP address", "Write an address without a prefix length")
    if log.problems:
        raise ModelError(tuple(log.problems))


def ensure(options: Options, cluster: Cluster) -> Result:
    """Make the Service have what the options say; raise ModelError or ClusterError with nothing changed."""
    checked(options)
    services = cluster.find("v1", "Service")
    wanted = ("", "Service", options.namespace, options.name)
    live = next((item for item in services if _kinds.key_of(item) == wanted), None)
    if live is None:
        return _without_service(options)
    change = _spec_change(live, options)
    problems = [str(finding["message"]) for finding in _publish.port_findings([change], services)]
    problems += vip_problems(live, services, options, other_controllers(cluster) if options.vips else [])
    if problems:
        raise _write.ApplyError(problems)
    tried = _write.dry_run(cluster, [change], force=options.force)
    change = tried.changes[0]
    spec = tried.results.get(wanted, live)
    status_manifest = _status_manifest(live, options)
    status = _try_status(cluster, live, status_manifest, options)
    status_changed = ips(status) != ips(live)
    result = Result(
        changed=change.verb != "unchanged" or status_changed,
        service=_summary(spec, ips(status)),
        diff=_differences(live, spec, ips(live), ips(status)),
    )
    if options.check or not result.changed:
        return result
    _write.write(cluster, [change], force=options.force)
    if status_changed:
        cluster.apply(status_manifest, options.manager, subresource="status", force=options.force)
    return result


def _without_service(options: Options) -> Result:
    name = f"Service {options.namespace}/{options.name}"
    if options.state == "absent":
        return Result(False, None)
    if not options.check:
        raise ClusterError(
            f"{name} doesn't exist.",
            "Install the gateway first (role edgeway.istio.istio), or name the gateway's Service.",
        )
    stand_in = {"metadata": {"namespace": options.namespace, "name": options.name}, "spec": {}}
    ports = [_entry(stand_in, port) for port in options.ports]
    after = {"ports": ports, "vips": list(options.vips)}
    diff = {"before_header": name, "after_header": name, "before": {}, "after": after}
    changed = bool(ports or options.vips)
    warning = f"{name} doesn't exist yet: what it would get can't be checked against it."
    return Result(changed, None, [diff] if changed else [], [warning])


def _entry(service: Mapping[str, Any], wish: Mapping[str, Any]) -> Manifest:
    """Return one port as we apply it: of an installer's own port only what is asked for."""
    port, protocol = wish["port"], wish.get("protocol") or "TCP"
    owners = _fields.port_owners(service, port, protocol)
    theirs = any(not owner.startswith("edgeway/") for owner in owners) or (
        not owners and _fields.item(service["spec"].get("ports") or (), {"port": port, "protocol": protocol})
    )
    entry: Manifest = {"port": port, "protocol": protocol}
    if wish.get("name") or not theirs:
        entry["name"] = wish.get("name") or f"{_ports.PREFIX}{port}" + (
            "" if protocol == "TCP" else f"-{protocol.lower()}"
        )
    if wish.get("target_port") is not None or not theirs:
        # As an exposure list chooses them: several lists may own one port if they agree
        entry["targetPort"] = wish.get("target_port") or _ports.target_port(port, set())
    if wish.get("node_port") is not None:
        entry["nodePort"] = wish["node_port"]
    return entry


def _spec_change(live: Manifest, options: Options) -> Change:
    ports = []
    if options.state == "present":
        ports = [_entry(live, port) for port in sorted(options.ports, key=lambda wish: wish["port"])]
    manifest = _changes.service_ports(live, ports)
    if not ports:
        del manifest["spec"]
        settled = not (_fields.owned(live, options.manager) or {})
    else:
        settled = _fields.settled(manifest, live, options.manager)
    return Change("unchanged" if settled else "update", live, manifest, options.manager)


def ips(service: Mapping[str, Any]) -> list[str]:
    """Return the addresses in a Service's status, which are its EXTERNAL-IP."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [str(entry.get("ip") or entry.get("hostname")) for entry in ingress]


def _status_manifest(live: Manifest, options: Options) -> Manifest:
    metadata = live["metadata"]
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }
    if options.state == "present" and options.vips:
        manifest["status"] = {"loadBalancer": {"ingress": [{"ip": vip} for vip in options.vips]}}
    return manifest


def _try_status(cluster: Cluster, live: Manifest, manifest: Manifest, options: Options) -> Manifest:
    if "status" not in manifest and _fields.owned(live, options.manager, "status") is None:
        return live
    became, _created = cluster.apply(manifest, options.manager, subresource="status", dry_run=True, force=options.force)
    return became


def vip_problems(
    live: Manifest, services: Iterable[Manifest], options: Options, controllers: Sequence[str]
) -> list[str]:
    """Return why the VIPs can't be this Service's EXTERNAL-IP.

    kube-proxy serves the addresses of `status.loadBalancer.ingress` for Services of type LoadBalancer alone.
    """
    if options.state == "absent" or not options.vips:
        return []
    spec, where = live["spec"], _kinds.shown(live)
    if spec.get("type") != "LoadBalancer":
        reason = f"{where} is of type {spec.get('type', 'ClusterIP')}: only a LoadBalancer carries a VIP."
        return [f"{reason} Install the gateway with type LoadBalancer and loadBalancerClass {VIP_CLASS}."]
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
    ports = {port["port"] for port in spec.get("ports") or ()} | {port["port"] for port in options.ports}
    for other in services:
        if other["metadata"]["uid"] == live["metadata"]["uid"]:
            continue
        shared_ips = set(ips(other)) & set(options.vips)
        shared_ports = sorted(ports & {port["port"] for port in other["spec"].get("ports") or ()})
        if shared_ips and shared_ports:
            found.append(
                f"{_kinds.shown(other)} has the VIP {', '.join(sorted(shared_ips))} too, with port "
                f"{', '.join(map(str, shared_ports))}. Give one of them another VIP or other ports."
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


def _differences(before: Manifest, after: Manifest, old: list[str], new: list[str]) -> list[dict[str, Any]]:
    name = _kinds.shown(before)
    one, two = _fields.quiet_pair(before, after)
    if old or new:
        one["status"], two["status"] = {"vips": old}, {"vips": new}
    return [{"before_header": name, "after_header": name, "before": one, "after": two}] if one != two else []
