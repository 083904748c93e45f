# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hops at the gateway's Service: its ports, VIPs and pods, and kube-proxy, which serves it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.edgeway.istio.plugins.module_utils.trace import _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    Facts,
    Manifest,
    leaving,
    ready,
    selected,
)
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, OK, UNKNOWN, Hop


def the_service(facts: Facts) -> Manifest | None:
    return facts.snapshot.get("Service", facts.target.namespace, facts.target.service)


def _outside(facts: Facts) -> bool | None:
    """Whether the edges are machines outside the cluster, which forward to the nodePorts; None where nobody can say."""
    nodes = {node["metadata"]["name"] for node in facts.snapshot.all("Node")}
    if not nodes or not facts.edges:
        return None
    return not any(edge.node in nodes for edge in facts.edges)


def service_hop(facts: Facts) -> Hop:
    target, snapshot = facts.target, facts.snapshot
    name = f"Service {target.namespace}/{target.service}"
    if not snapshot.known("Service"):
        return Hop("service", UNKNOWN, (f"{name} can't be read: {snapshot.refused.get('Service', 'not asked')}.",))
    service = the_service(facts)
    if service is None:
        cure = "Install the gateway (role istio), or name its Service by the option gateway."
        return Hop("service", BROKEN, (f"{name} doesn't exist.",), cure, objects=(name,))
    spec = service["spec"]
    kind = spec.get("type", "ClusterIP")
    evidence = [f"{name}, {kind}, externalTrafficPolicy {spec.get('externalTrafficPolicy', 'Cluster')}."]

    def broken(reason: str, cure: str) -> Hop:
        return Hop("service", BROKEN, (*evidence, reason), cure, objects=(name,))

    ports = [one for one in spec.get("ports") or () if one.get("protocol", "TCP") == "TCP"]
    port = next((one for one in ports if one["port"] == target.port), None)
    outside = _outside(facts)
    unsure = ""
    if kind == "NodePort" and outside is None:
        unsure = "Nothing but edges outside the cluster leads to a NodePort; whether there are any isn't known."
    if kind == "ClusterIP" or (kind == "NodePort" and outside is False):
        reason = f"Nothing outside the cluster reaches a {kind} at the VIP."
        return broken(reason, "Install the gateway with type LoadBalancer and loadBalancerClass edgeway.istio/vip.")
    if port is None:
        has = ", ".join(str(one["port"]) for one in ports) or "none"
        return broken(f"It has no port {target.port}; it has {has}.", "Run playbooks/expose.yml, which adds the port.")
    evidence.append(
        f"Port {port['port']} → targetPort {port.get('targetPort')}, nodePort {port.get('nodePort', 'none')}."
    )
    carried = [
        str(one.get("ip") or one.get("hostname"))
        for one in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    ]
    missing = [vip for vip in facts.vips if vip not in carried]
    if kind == "LoadBalancer" and (missing or not carried):
        reason = f"Its EXTERNAL-IP is {', '.join(carried) or 'pending'}"
        if outside is False:
            return broken(
                f"{reason}: kube-proxy doesn't serve {missing[0] if missing else 'it'}.",
                "Run site.yml with the tag gateway_ports, which writes the VIP into the Service's status.",
            )
        if outside is None:
            unsure = f"{reason}, which only edges outside the cluster do without; whether there are any isn't known."
    if target.node_port and port.get("nodePort") != target.node_port:
        reason = f"The exposure pins nodePort {target.node_port}, and the port has {port.get('nodePort', 'none')}."
        return broken(reason, "Run playbooks/expose.yml; it says who has the nodePort if it is taken.")
    ranges = [str(one) for one in spec.get("loadBalancerSourceRanges") or ()]
    if ranges and facts.way is not None and facts.way.source and not _within(facts.way.source, ranges):
        reason = f"loadBalancerSourceRanges {', '.join(ranges)} leave out {facts.way.source}."
        return broken(reason, "Add this client's network to spec.loadBalancerSourceRanges.")
    found = _service_pods(facts, service, evidence)
    if unsure and found.state == OK:
        cure = "Name the edges by the option edges, as playbooks/trace.yml does, and give the right to list Nodes."
        return replace(found, state=UNKNOWN, evidence=(*found.evidence, unsure), cure=cure)
    return found


def _within(address: str, ranges: Sequence[str]) -> bool:
    found = ipaddress.ip_address(address)
    networks = [ipaddress.ip_network(one.strip(), strict=False) for one in ranges]
    return any(found.version == network.version and found in network for network in networks)


def _service_pods(facts: Facts, service: Manifest, evidence: list[str]) -> Hop:
    name = _why.named({**service, "kind": "Service"})
    selector = service["spec"].get("selector") or {}
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    there = [
        pod for pod in facts.snapshot.all("Pod")
        if pod["metadata"].get("namespace") == facts.target.namespace and not leaving(pod)
    ]  # fmt: skip
    picked = selected(there, selector)
    if facts.snapshot.known("Pod") and not picked:
        meant = [
            pod["metadata"]["name"]
            for gateway, server in _why.servers(facts.snapshot)
            if int((server.get("port") or {}).get("number") or 0) == facts.target.port
            for pod in selected(there, gateway["spec"].get("selector"))
        ]
        if meant:
            reason = (
                f"It asks for pods with {labels or 'no labels'}, which no pod has; Gateways here are for {meant[0]}."
            )
            cure = f"Give {name} the labels of the gateway's pods."
            return Hop("service", BROKEN, (*evidence, reason), cure, objects=(name,))
    target = next(
        (one.get("targetPort") for one in service["spec"]["ports"] if one["port"] == facts.target.port),
        facts.target.port,
    )
    if isinstance(target, str) and picked and _why.target_ports(service, facts.target.port, picked[0]) is None:
        reason = f"targetPort {target!r} is a name that no port of {picked[0]['metadata']['name']} has."
        return Hop("service", BROKEN, (*evidence, reason), "Write the number that the listener binds.", objects=(name,))
    return Hop("service", OK, tuple(evidence), objects=(name,))


def kube_proxy_hop(facts: Facts) -> Hop:
    service = the_service(facts)
    if service is None:
        return Hop("kube_proxy", UNKNOWN, ("There is no Service to ask about.",))
    evidence = []
    for one in facts.proxies:
        count = "" if one.local_endpoints is None else f"{one.local_endpoints} of the gateway's endpoints on it"
        word = {True: "well", False: "not well", None: ""}[one.healthy]
        evidence.append(f"{one.node}: {', '.join(filter(None, (word, count, one.error)))}.")
    pods = [pod for pod in facts.pods if ready(pod.manifest)]
    local = service["spec"].get("externalTrafficPolicy") == "Local"
    holders = [edge for edge in facts.edges or () if facts.vips and facts.vips[0] in edge.held]
    if len(holders) == 1 and _outside(facts) is False:
        node = holders[0].node
        health = next((one for one in facts.proxies if one.node == node), None)
        if health is not None and health.healthy is False:
            cure = f"kubectl --namespace kube-system logs --selector k8s-app=kube-proxy says why on {node}."
            return Hop("kube_proxy", BROKEN, tuple(evidence), cure, node)
        mine = [pod for pod in pods if pod.node == node]
        if local and pods and not mine:
            evidence.append(f"{node} holds the VIP, has no ready gateway pod, and Local sends to pods on {node} alone.")
            here = [_why.trouble(pod.manifest) for pod in facts.pods if pod.node == node]
            cure = f"Mend {here[0]}." if here else f"Run a gateway pod on {node}, or take it out of the edges."
            return Hop("kube_proxy", BROKEN, tuple(evidence), cure, node)
        if local and mine and health is not None and health.local_endpoints == 0:
            evidence.append(f"{mine[0].name} on {node} is ready, and kube-proxy counts none.")
            return Hop("kube_proxy", BROKEN, tuple(evidence), f"Restart kube-proxy on {node}.", node)
    if not evidence:
        return Hop("kube_proxy", UNKNOWN, ("No node was asked.",))
    if all(one.local_endpoints is None and one.healthy is None for one in facts.proxies):
        return Hop(
            "kube_proxy", UNKNOWN, tuple(evidence), "Nodes answer at the health ports only where no firewall is."
        )
    return Hop("kube_proxy", OK, tuple(evidence))
