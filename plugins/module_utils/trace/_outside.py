# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hops before the cluster: DNS, the VIP and its holder, and the way to it. Pure."""

from __future__ import annotations

from ansible_collections.edgeway.istio.plugins.module_utils.model._names import is_address
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import RESERVED, Edge, Facts
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, OK, UNKNOWN, Hop


def dns_hop(facts: Facts) -> Hop:
    host, found = facts.target.host, facts.dns
    if not host:
        return Hop("dns", OK, ("The exposure has no hostname: clients use the address.",))
    if is_address(host):
        return Hop("dns", OK, (f"{host} is an address already.",))
    if found is None:
        return Hop("dns", UNKNOWN, ("Not asked.",))
    vips = ", ".join(facts.vips)
    said = f"{found.server or 'The resolver'} says {', '.join(found.addresses) or found.error}"
    said += f" (through {', '.join(found.aliases)})." if found.aliases else "."
    cure = f"Have DNS answer {vips} for {host}." if vips else ""
    if found.error in ("nxdomain", "nodata"):
        tail = host.rstrip(".").lower().split(".")
        if not found.chosen and any(".".join(tail[index:]) in RESERVED for index in range(len(tail))):
            return Hop("dns", UNKNOWN, (said, f"{host} lies under a name that public DNS never has (RFC 2606)."), cure)
        return Hop("dns", BROKEN, (said, f"{host} has no address."), cure)
    if found.error or not facts.vips:
        return Hop("dns", UNKNOWN, (said,), "Name a DNS server that answers by the option nameservers.")
    strangers = [address for address in found.addresses if address not in facts.vips]
    if strangers:
        wrong = f"{', '.join(strangers)} {'is' if len(strangers) == 1 else 'are'} not the VIP {vips}."
        return Hop("dns", BROKEN, (said, wrong), cure)
    return Hop("dns", OK, (said,))


def vip_hop(facts: Facts) -> Hop:
    if not facts.vips:
        return Hop(
            "vip", UNKNOWN, ("No VIP is known.",), "Name it by the option vips, or put it in the Service's status."
        )
    if facts.edges is None:
        return Hop(
            "vip", UNKNOWN, (f"Which edge holds {facts.vips[0]} wasn't asked.",),
            "Run playbooks/trace.yml, which asks the edges over SSH.",
        )  # fmt: skip
    vip = facts.vips[0]
    holders = [edge for edge in facts.edges if vip in edge.held]
    silent = [edge.name for edge in facts.edges if not edge.answered]
    evidence = [f"{vip} is on {' and '.join(edge.name for edge in holders) or 'no edge'}."]
    evidence += [f"{name} doesn't answer over SSH." for name in silent]
    if not holders:
        probe = facts.probe("vip")
        if probe is not None and (probe.connected or probe.failure == "refused"):
            evidence.append("Something answers at it all the same.")
            if silent:
                return Hop("vip", UNKNOWN, tuple(evidence), f"Look on {', '.join(silent)} for it.")
            cure = "Find the machine that has it (ip neigh show on this network) and take it away there."
            return Hop("vip", BROKEN, tuple(evidence), cure)
        cure = (
            "Start keepalived on the edges (playbooks/vip.yml); journalctl --unit keepalived says why it has no holder."
        )
        return Hop("vip", BROKEN, tuple(evidence), cure)
    if len(holders) > 1:
        cure = "Adverts don't pass between them: look at the firewall (protocol 112) and at virtual_router_id."
        return Hop("vip", BROKEN, tuple(evidence), cure)
    return _holder(holders[0], vip, evidence)


def _holder(holder: Edge, vip: str, evidence: list[str]) -> Hop:
    states = dict(holder.states)
    if holder.running is False:
        evidence.append(f"keepalived doesn't run on {holder.name}: no other edge will take over.")
        return Hop(
            "vip", BROKEN, tuple(evidence), f"Start it: systemctl start keepalived on {holder.name}.", holder.name
        )
    if states.get(vip, "MASTER") != "MASTER":
        evidence.append(f"{holder.name}'s keepalived says {states[vip]}.")
        return Hop(
            "vip", BROKEN, tuple(evidence), f"Something else gave {holder.name} the address: restart keepalived there.",
            holder.name,
        )  # fmt: skip
    failed = [name for name, state in holder.checks if state == "failed"] if vip in states else []
    if failed:
        evidence.append(f"Its checks say: {', '.join(failed)} failed; no edge is better.")
        return Hop("vip", BROKEN, tuple(evidence), f"Mend what the check {failed[0]} looks at.", holder.name)
    if vip in states:
        evidence.append(f"keepalived runs there, {states[vip]}" + (", drained." if holder.drained else "."))
    return Hop("vip", OK, tuple(evidence), at=holder.name)


def route_hop(facts: Facts, service: Hop) -> Hop:
    way, probe = facts.way, facts.probe("vip")
    if way is not None and way.error:
        return Hop(
            "route", BROKEN, (f"This machine has no way to {facts.vips[0]}: {way.error}.",),
            f"Add a route to {facts.vips[0]}: ip route get {facts.vips[0]} shows the one in force.",
        )  # fmt: skip
    evidence = [f"From {way.source}."] if way is not None and way.source else []
    if probe is None:
        return Hop("route", OK if evidence else UNKNOWN, tuple(evidence) or ("Not tried.",))
    if probe.connected or probe.failure == "refused":
        evidence.append(f"{probe.address} {'answers' if probe.connected else 'refuses the connection'}.")
        return Hop("route", OK, tuple(evidence))
    evidence.append(f"{probe.address}: {probe.reason or probe.failure}.")
    holders = {edge.name for edge in facts.edges or () if facts.vips and facts.vips[0] in edge.held}
    reached = [one for one in facts.probes if one.place == "edge" and one.connected and one.at in holders]
    # kube-proxy drops what the Service doesn't let in: that isn't the way's fault
    if reached and service.state != BROKEN:
        evidence.append(f"{reached[0].address} on its holder answers, so the machine and kube-proxy are well.")
        return Hop(
            "route", BROKEN, tuple(evidence),
            f"Look for a firewall on {reached[0].at} or on the way that drops {probe.address}, or a stale ARP entry.",
        )  # fmt: skip
    return Hop("route", UNKNOWN, tuple(evidence), "No holder was reached in another way: see the hops after this one.")
