# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can only be seen with all exposures side by side: names, ports, hostnames and backends that clash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    Backend,
    Exposure,
    Gateway,
    Match,
    Subset,
    Traffic,
    backends_of,
    certificate_names,
    gateway_name,
    gateway_object,
    pods_of,
    redirect_name,
    wildcard_over,
)

MAX_LISTENERS = 64  # of one Gateway, says the Gateway API


@dataclass(frozen=True, slots=True)
class _Use:
    """One exposure on one port: itself, or the redirect on port 80 that goes with it."""

    exposure: Exposure
    port: int
    family: str
    redirect: bool = False

    @property
    def path(self) -> str:
        """Return the field that put it on this port."""
        return f"{self.exposure.at}.{'redirect_http' if self.redirect else 'port'}"

    @property
    def protocol(self) -> str:
        return "HTTP" if self.redirect else self.exposure.protocol

    @property
    def own_service(self) -> bool:
        """Tell whether the port is on a Service of its own; a redirect's is on the shared one always."""
        return self.exposure.service is not None and not self.redirect

    def matches(self) -> list[tuple[Match, str]]:
        """Return what it takes, each with the field that says so."""
        if self.redirect:
            return [(Match(), self.path)]
        return [
            (match, route.at if match.everything else f"{route.at}.matches[{index}]")
            for route in self.exposure.routes
            for index, match in enumerate(route.matches)
        ]


@dataclass(slots=True)
class _Owners:
    """Who publishes one hostname on one port, and what is taken of it."""

    first: _Use
    taken: dict[Match, str] = field(default_factory=dict)


def _certificate(entry: Exposure) -> tuple[object, ...]:
    """Return what exposures have in common that share a listener by their certificate."""
    return entry.tls, entry.port, entry.service, pods_of(entry.gateway)


class Across:
    """Checks a list of exposures, in the order in which they were written."""

    def __init__(
        self, log: Log, exposures: Sequence[Exposure], set_name: str, default: Gateway, *, gateway_api: bool
    ) -> None:
        self.log = log
        self.exposures = exposures
        self.set_name = set_name
        self.gateway_api = gateway_api
        self.certificates = certificate_names(set_name, default, exposures)

    def check(self) -> None:
        self.names()
        self.gateways()
        self.ports()
        self.target_ports()
        self.node_ports()
        self.policies()
        self.outside_hosts()
        self.log.exposure = ""

    def add(self, exposure: Exposure, path: str, message: str, cure: str) -> None:
        self.log.exposure = exposure.name
        self.log.add(path, message, cure)

    def names(self) -> None:
        """No two exposures have one name, nor objects that would."""
        seen: dict[str, Exposure] = {}
        objects: dict[tuple[str, str], Exposure] = {}
        for entry in self.exposures:
            first = seen.setdefault(entry.name, entry)
            if first is not entry:
                message = f"`{entry.name}` is also the name of {first.at}"
                self.add(entry, f"{entry.at}.name", message, "Give every exposure a name of its own")
                continue
            made = [gateway_name(entry)] + ([redirect_name(entry)] if entry.redirect_http else [])
            for name in made:
                twin = objects.setdefault((entry.gateway.namespace, name), entry)
                if twin is not entry:
                    message = f"`{name}` would be the name of objects of {twin.at} ({twin.name}) too"
                    self.add(entry, f"{entry.at}.name", message, "Choose another name")
        served: dict[tuple[str, str], Exposure] = {}
        for entry in self.exposures:
            if entry.at not in self.certificates:
                continue
            name = self.certificates[entry.at]
            twin = objects.get((entry.gateway.namespace, name), entry)
            if twin is not entry:
                message = f"`{name}` would be the name of objects of {entry.at} ({entry.name}) too"
                self.add(twin, f"{twin.at}.name", message, "Choose another name")
                break
            first = served.setdefault((entry.gateway.namespace, name), entry)
            if _certificate(first) != _certificate(entry):
                whose = f"that of {first.at} ({first.name})"
                message = f"`{name}` would be the name of the Gateway of another certificate too, {whose}"
                cure = "Give one of the Secrets another name: a dot counts as a dash"
                self.add(entry, f"{entry.at}.tls", message, cure)

    def gateways(self) -> None:
        """One Service has one description of the pods behind it."""
        seen: dict[tuple[str, str], tuple[Gateway, Exposure]] = {}
        for entry in self.exposures:
            known, holder = seen.setdefault((entry.gateway.namespace, entry.gateway.service), (entry.gateway, entry))
            if known is not entry.gateway and replace(known, existing=None) != replace(entry.gateway, existing=None):
                service = f"{known.namespace}/{known.service}"
                message = f"describes Service {service} in another way than {holder.at} ({holder.name}) does"
                self.add(entry, f"{entry.at}.gateway", message, "Give both the same selector and options")

    def uses(self) -> dict[tuple[tuple[str, ...], int], list[_Use]]:
        """Group the exposures by gateway pods and port."""
        groups: dict[tuple[tuple[str, ...], int], list[_Use]] = defaultdict(list)
        for entry in self.exposures:
            family = "TLS" if entry.protocol == "HTTPS" else entry.protocol
            pods = pods_of(entry.gateway)
            groups[pods, entry.port].append(_Use(entry, entry.port, family))
            if entry.redirect_http:
                groups[pods, 80].append(_Use(entry, 80, "HTTP", redirect=True))
        return groups

    def ports(self) -> None:
        for (_unused, port), uses in self.uses().items():
            first = uses[0]
            one = first.exposure
            for use in uses[1:]:
                two = use.exposure
                if use.family != first.family:
                    message = f"port {port} carries {first.protocol} for {one.at} ({one.name}), not {use.protocol} too"
                    self.add(two, use.path, message, "Give one of them another port")
                elif use.family == "TCP":
                    message = f"port {port} is taken by {one.at} ({one.name}), and TCP has no names to tell them apart"
                    self.add(two, use.path, message, "Give each its own port")
                elif use.own_service != first.own_service:
                    message = f"port {port} is exposed in another way by {one.at} ({one.name})"
                    field = "redirect_http" if use.redirect else "expose"
                    self.add(two, f"{two.at}.{field}", message, "Publish both in the same way, or on two ports")
                elif use.own_service:
                    message = f"port {port} has a Service of its own for {one.at} ({one.name})"
                    self.add(two, f"{two.at}.expose", message, "A port of the VIP is one Service's: give it another")
            if first.family != "TCP":
                same = [use for use in uses if use.family == first.family]
                self.hostnames(same)
                if self.gateway_api and first.family == "TLS":
                    self.tls_listeners(same)
        if self.gateway_api:
            self.listener_count()

    def target_ports(self) -> None:
        """A Service of its own ends where nothing else does, nor where Istio looks for another port by its number."""
        cure = "Give one of them another port"
        ends: dict[tuple[tuple[str, ...], int], Exposure] = {}
        shared: dict[tuple[tuple[str, ...], int], Exposure] = {}
        for entry in self.exposures:
            if entry.service is None:
                shared.setdefault((pods_of(entry.gateway), entry.port), entry)
        for entry in self.exposures:
            if entry.service is None:
                continue
            place = (pods_of(entry.gateway), entry.service.target_port)
            twin = ends.setdefault(place, entry)
            message = f"ends at port {entry.service.target_port} of the gateway's pods"
            if twin.port != entry.port:
                message += f", as port {twin.port} of {twin.at} ({twin.name}) does"
                self.add(entry, f"{entry.at}.port", message, cure)
            elif place in shared and entry.port != entry.service.target_port and not self.gateway_api:
                other = shared[place]
                message += f", which Istio takes for port {other.port} of {other.at} ({other.name})"
                self.add(entry, f"{entry.at}.port", message, cure)

    def hostnames(self, uses: list[_Use]) -> None:
        """Exposures may share a hostname where one table of routes can be made of them."""
        owners: dict[str, _Owners] = {}
        told: set[tuple[str, str]] = set()
        for use in uses:
            for name in use.exposure.hostnames or ("*",):
                there = owners.setdefault(name, _Owners(use))
                if there.first is use:
                    continue
                one, two = there.first.exposure, use.exposure
                problem = self.clash(there, use, "every hostname" if name == "*" else f"`{name}`")
                if problem is not None and (one.at, two.at) not in told:
                    told.add((one.at, two.at))
                    self.add(two, *problem)

    def clash(self, there: _Owners, use: _Use, name: str) -> tuple[str, str, str] | None:
        """Return path, message and cure where `use` can't have a hostname that is published already."""
        one, two = there.first.exposure, use.exposure
        owner = f"{one.at} ({one.name})"
        if "TLS" in (one.protocol, two.protocol):
            what = "passed through" if one.protocol == "TLS" else "ended at the gateway"
            message = f"{name} on port {use.port} is {what} for {owner} already"
            return f"{two.at}.hostnames", message, "Drop it in one of them: TLS is told apart by its name alone"
        if one.namespace != two.namespace:
            message = f"{name} on port {use.port} is published by {owner} in namespace `{one.namespace}`"
            return f"{two.at}.hostnames", message, "Move these routes there, with `namespace` in their backends"
        if use.family == "TLS" and one.tls != two.tls:
            message = f"{name} on port {use.port} has other `tls` in {owner}"
            return f"{two.at}.tls", message, "Give both the same: a name has one certificate"
        if not there.taken:
            there.taken = dict(there.first.matches())
        for match, place in use.matches():
            taken = there.taken.setdefault(match, place)
            if taken != place:
                message = f"takes the same requests for {name} on port {use.port} as {taken} ({one.name})"
                return place, message, "Make one of them more specific, or drop it"
        return None

    def tls_listeners(self, uses: list[_Use]) -> None:
        """Each certificate must have a listener hostname of its own: see `_gateway_api`."""
        groups: dict[str, set[str]] = defaultdict(set)
        first: dict[str, Exposure] = {}
        for use in uses:
            entry = use.exposure
            if entry.gateway.existing:
                continue
            if entry.tls is None:
                keys = {f"{entry.at} {name}": {name} for name in entry.hostnames}
            else:
                keys = {self.certificates[entry.at]: set(entry.hostnames or ("*",))}
            for key, names in keys.items():
                groups[key] |= names
                first.setdefault(key, entry)
        owners: dict[str, str] = {}
        for key, names in groups.items():
            wide = wildcard_over(names) or "*"
            owner = owners.setdefault(wide, key)
            if owner != key and len(names) + len(groups[owner]) > 2:
                one, two = (first[owner], first[key]) if len(names) > 1 else (first[key], first[owner])
                shown = "no hostname" if wide == "*" else f"hostname `{wide}`"
                message = f"serves several hostnames, whose listener has {shown}, as that of {one.at} ({one.name}) has"
                cure = "Give each hostname its own certificate, another port to one of them, or use `api: istio`"
                self.add(two, f"{two.at}.tls", message, cure)

    def listener_count(self) -> None:
        """Count as `_gateway_api` will."""
        counts: dict[tuple[str, str], set[str]] = defaultdict(set)
        last: dict[tuple[str, str], Exposure] = {}
        for entry in self.exposures:
            if entry.gateway.existing:
                continue
            name = self.certificates.get(entry.at, entry.name)
            place = (entry.gateway.namespace, gateway_object(self.set_name, entry, name))
            last[place] = entry
            if entry.redirect_http:
                there = gateway_object(self.set_name, entry, redirect_name(entry), redirect=True)
                counts[entry.gateway.namespace, there].add("80")
                last[entry.gateway.namespace, there] = entry
            if entry.protocol in ("HTTP", "TCP"):
                counts[place].add(str(entry.port))
            elif entry.protocol == "TLS":
                counts[place].update(f"{entry.port} {hostname}" for hostname in entry.hostnames)
            else:
                counts[place].add(name)
        for place, names in counts.items():
            if len(names) > MAX_LISTENERS:
                entry = last[place]
                message = f"brings its Gateway to {len(names)} listeners, and the Gateway API allows {MAX_LISTENERS}"
                cure = "Write `scope: exposure` in `gateway`, or share certificates"
                self.add(entry, f"{entry.at}.hostnames", message, cure)

    def node_ports(self) -> None:
        pinned: dict[int, tuple[tuple[str, str, int], Exposure]] = {}
        chosen: dict[tuple[str, str, int], tuple[int, Exposure]] = {}
        for entry in self.exposures:
            if entry.node_port is None:
                continue
            place = (
                entry.gateway.namespace,
                entry.service.name if entry.service else entry.gateway.service,
                entry.port,
            )
            path = f"{entry.at}.node_port"
            known, other = pinned.setdefault(entry.node_port, (place, entry))
            if known != place:
                message = f"{entry.node_port} is pinned for {other.at} ({other.name}) already"
                self.add(entry, path, message, "A nodePort leads to one port: choose another")
            number, holder = chosen.setdefault(place, (entry.node_port, entry))
            if number != entry.node_port:
                message = f"port {entry.port} is pinned to {number} by {holder.at} ({holder.name})"
                self.add(entry, path, message, "Pin it once, or to the same number")

    def policies(self) -> None:
        """A host has one DestinationRule: what exposures say of it must agree."""
        subsets: dict[tuple[str, str], tuple[Subset, Exposure]] = {}
        traffic: dict[str, tuple[Traffic, Exposure]] = {}
        spoken: dict[tuple[str, int], tuple[Backend, Exposure]] = {}
        for entry in self.exposures:
            for subset in entry.subsets:
                known, holder = subsets.setdefault((subset.fqdn, subset.name), (subset, entry))
                if known.labels != subset.labels:
                    message = f"subset `{subset.name}` of {subset.fqdn} has other labels in {holder.at} ({holder.name})"
                    self.add(entry, f"{entry.at}.subsets", message, "Give both the same labels, or another name")
            clashes = set()
            for backend, at in backends_of(entry):
                if entry.traffic is not None:
                    rule, holder = traffic.setdefault(backend.fqdn, (entry.traffic, entry))
                    if rule != entry.traffic and backend.fqdn not in clashes:
                        clashes.add(backend.fqdn)
                        message = f"differs for {backend.fqdn} from that of {holder.at} ({holder.name})"
                        self.add(entry, f"{entry.at}.traffic", message, "A host has one policy: give both the same")
                other, holder = spoken.setdefault((backend.fqdn, backend.port), (backend, entry))
                if other.tls != backend.tls:
                    message = f"differs for {backend.fqdn}:{backend.port} from that of {holder.at} ({holder.name})"
                    self.add(entry, f"{at}.tls", message, "A port is spoken to in one way: give both the same")

    def outside_hosts(self) -> None:
        """An outside host is made known once: one ServiceEntry, in one namespace, with one address."""
        hosts: dict[str, tuple[Backend, Exposure]] = {}
        carried: dict[tuple[str, int], tuple[str, Exposure]] = {}
        for entry in self.exposures:
            kind = "HTTP" if entry.protocol == "HTTPS" else entry.protocol
            for backend, at in backends_of(entry):
                if not backend.outside:
                    continue
                known, holder = hosts.setdefault(backend.fqdn, (backend, entry))
                if known.address != backend.address:
                    message = f"differs for {backend.fqdn} from that in {holder.at} ({holder.name})"
                    self.add(entry, f"{at}.address", message, "A host has one address: give both the same")
                if known.namespace != backend.namespace:
                    message = f"`{backend.fqdn}` is a backend of {holder.at} ({holder.name}) in `{known.namespace}`"
                    cure = "Publish both from one namespace: a host is made known once"
                    self.add(entry, f"{at}.host", message, cure)
                said, holder = carried.setdefault((backend.fqdn, backend.port), (kind, entry))
                if said != kind:
                    message = f"{backend.fqdn}:{backend.port} is spoken to as {said} by {holder.at} ({holder.name})"
                    self.add(entry, f"{at}.port", message, "One port of a host carries one protocol")
