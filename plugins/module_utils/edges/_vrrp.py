# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a list of VIPs to the virtual routers of one edge.

Priorities. keepalived adds the weights of everything it tracks to an instance's priority and keeps the sum within
1 to 254. Its `nopreempt` and `preempt_delay` hold for *any* lower advert, also for that of a holder whose check has
just failed, so neither can be used together with weights. The weights below do their work instead. From the strongest:

* a failing check (`check`) outweighs everything else, so a healthy edge always beats one that fails;
* a drained edge (`drained`) loses to every healthy edge that isn't, and still beats one that fails;
* a settling edge (`settling`, with preempt delay) has just started: it takes over from a failing edge only;
* the holder's bonus (`held`) keeps the VIP where it is among equals. Without preempt it outweighs the order of the
  edges; with preempt it is smaller than one step of that order, and counts only when all edges fail alike.

Failover. VRRPv3 (RFC 5798, 6.1) declares a holder dead after 3 adverts and a skew of (256 - priority) / 256 adverts.
High priorities close to each other keep the skew small, and yet let the better backup be first.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Node, Problem, quoted

IpAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]  # noqa: UP007  pylint reads | as an operation
IpInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]  # noqa: UP007

MOST_EDGES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}")
_CHECK_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?")
# Of an address or name, a port, a path and a query
_URL = re.compile(r"http://[^/?#@\s\\]+(/[!\"$-~]*)?")
_VIP_KEYS = ("address", "virtual_router_id", "interface", "edges", "group", "name")
_CHECK_KEYS = ("name", "command", "url", "interval", "timeout", "rise", "fall", "tries")


@dataclass(frozen=True, slots=True)
class Weights:
    """Points of one edge for one VIP. `held` is added, the others are taken off.

    A holder that advertises less than `healthy` is about to lose the VIP and still there.
    """

    priority: int
    healthy: int
    held: int
    drained: int
    settling: int
    check: int


def weights(position: int, edges: int, *, preempt: bool) -> Weights:
    """Give the points of the edge at `position` (0 is the preferred holder) of `edges`, at most MOST_EDGES.

    Few edges stand further apart, so that the next one is heard in time by those after it.
    """
    if preempt:
        below = position * (56 // max(edges - 1, 1))
        # A failing edge loses its place in the order as well, so that the bonus decides among failing ones
        return Weights(priority=244 - below, healthy=188, held=7, drained=64, settling=64, check=128 - below)
    below = position * (28 // max(edges - 1, 1))
    return Weights(priority=222 - below, healthy=194, held=32, drained=64, settling=64, check=128)


@dataclass(frozen=True, slots=True)
class Edge:
    """A host that may hold VIPs, with its addresses on their networks ("" when there is none)."""

    name: str
    address: str
    address6: str


@dataclass(frozen=True, slots=True)
class Vip:
    """One entry of the list, read."""

    path: str
    name: str
    address: IpInterface
    router_id: int
    interface: str
    edges: tuple[str, ...]
    group: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One virtual router on one edge, as keepalived.conf needs it."""

    name: str
    unit: str
    address: str
    family: int
    interface: str
    virtual_router_id: int
    source: str
    peers: tuple[str, ...]
    weights: Weights


@dataclass(frozen=True, slots=True)
class Check:
    """A shell's command, or a URL to ask, that says whether this edge can serve; "" for the other. Times in seconds."""

    name: str
    command: str
    url: str
    interval: float
    timeout: float
    rise: int
    fall: int
    tries: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one edge's keepalived.conf holds, or why it can't be written.

    `units` are what has one holder: an instance by itself, or the instances of a sync group; name to instance names.
    """

    instances: tuple[Instance, ...]
    units: dict[str, tuple[str, ...]]
    checks: tuple[Check, ...]
    problems: tuple[Problem, ...]


def entries(value: object) -> list[dict[str, Any]]:
    """Give VIPs as `read_vips` takes them: an address stands for a map that has nothing else."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    return [dict(item) if isinstance(item, Mapping) else {"address": item} for item in listed]


def addresses(value: object) -> list[str]:
    """Give the addresses of VIPs as `entries` takes them, without a prefix; "" where there is none."""
    return [str(entry.get("address") or "").split("/", maxsplit=1)[0] for entry in entries(value)]


def read_vips(value: object, edges: Sequence[str], log: Log) -> list[Vip]:
    """Read the list `keepalived_vips`; every mistake is noted in `log`, and entries with one are left out."""
    if not isinstance(value, (list, tuple)):
        log.add("keepalived_vips", "is not a list", "Write a list, even of one VIP")
        return []
    vips = []
    for index, item in enumerate(value):
        before = len(log.problems)
        vip = _read_vip(Node(item, f"keepalived_vips[{index}]", log, _VIP_KEYS), edges)
        if vip is not None and len(log.problems) == before:
            vips.append(vip)
    _check_together(vips, log)
    return vips


def _read_vip(node: Node, edges: Sequence[str]) -> Vip | None:
    text = node.text("address")
    if text is None:
        if "address" not in node:
            node.add("address", "is missing", "Write the VIP, such as `192.0.2.100`")
        return None
    try:
        # Without a prefix ip_interface takes /32 and /128: no second route to the network, no secondary address that
        # goes with the primary one, and never chosen as a source
        address = ipaddress.ip_interface(text)
    except ValueError:
        node.add("address", f"`{text}` is not an IP address", "Write it as `192.0.2.100` or `192.0.2.100/24`")
        return None
    router_id = node.number("virtual_router_id", 1, 255, "VRRP has 8 bits for it, and 0 is none")
    if router_id is None and "virtual_router_id" not in node:
        router_id = int(address.ip) & 0xFF
        if router_id == 0:
            node.add("virtual_router_id", f"is missing, and {address.ip} ends in 0", "Write one from 1 to 255")
    order = [name for _index, name in node.texts("edges") or []] if "edges" in node else list(edges)
    for name in order:
        if name not in edges:
            node.add("edges", f"`{name}` is no edge", f"The edges are {quoted(edges)}" if edges else "")
    if len(set(order)) < len(order):
        node.add("edges", "names an edge twice", "List each edge once, the preferred holder first")
    if not order:
        node.add("edges", "names no edge", "List the edges that may hold the VIP, or leave the field out")
    if len(order) > MOST_EDGES:
        node.add(
            "edges",
            f"are {len(order)}, and priorities leave room for {MOST_EDGES}",
            f"List the {MOST_EDGES} edges, or fewer, that may hold this VIP",
        )
    name = node.text("name", _NAME, "a name of letters, digits and . _ : -") or str(address.ip)
    group = node.text("group", _NAME, "a name of letters, digits and . _ : -") or ""
    interface = node.text("interface") or ""
    return Vip(node.path, name, address, router_id or 0, interface, tuple(order), group)


def _check_together(vips: Iterable[Vip], log: Log) -> None:
    """Note what each entry allows and the list as a whole doesn't."""
    addresses: dict[IpAddress, Vip] = {}
    routers: dict[tuple[int, int], Vip] = {}
    names: dict[str, Vip] = {}
    groups: dict[str, Vip] = {}
    for vip in vips:
        other = addresses.setdefault(vip.address.ip, vip)
        if other is not vip:
            log.add(f"{vip.path}.address", f"{vip.address.ip} stands in {other.path} too", "List each VIP once")
            continue
        other = routers.setdefault((vip.address.version, vip.router_id), vip)
        if other is not vip:
            log.add(
                f"{vip.path}.virtual_router_id",
                f"{vip.router_id} is that of {other.address.ip} ({other.path}) too",
                "Give each VIP of one IP version its own number from 1 to 255",
            )
        other = names.setdefault(vip.name, vip)
        if other is not vip:
            log.add(f"{vip.path}.name", f"`{vip.name}` is that of {other.path} too", "Give each VIP its own name")
        if vip.group:
            other = groups.setdefault(vip.group, vip)
            if other.edges != vip.edges:
                log.add(
                    f"{vip.path}.edges",
                    f"differ from those of {other.path}, which is in the same group `{vip.group}`",
                    "VIPs that move together need the same edges in the same order",
                )
    for vip in vips:
        if vip.name in groups:
            log.add(f"{vip.path}.name", f"`{vip.name}` is the name of a group too", "Rename one of the two")


def read_checks(value: object, log: Log) -> list[Check]:
    """Read the list `keepalived_checks`."""
    checks: list[Check] = []
    if not isinstance(value, (list, tuple)):
        log.add("keepalived_checks", "is not a list", "Write a list, even of one check")
        return checks
    for index, item in enumerate(value):
        node = Node(item, f"keepalived_checks[{index}]", log, _CHECK_KEYS)
        name = node.text("name", _CHECK_NAME, "a name of lower-case letters, digits, - and _")
        command = node.text("command")
        url = _read_url(node)
        if "name" not in node:
            node.add("name", "is missing")
        if "command" not in node and "url" not in node:
            node.add("command", "is missing, and so is `url`", "Write a shell's command, or the URL to ask")
        if "command" in node and "url" in node:
            node.add("url", "stands beside `command`", "Keep one of the two, or make two checks of them")
        interval = node.seconds("interval", 0.1, 3600) or 1
        timeout = node.seconds("timeout", 0.1, 3600) or 2
        rise = node.number("rise", 1, 1000) or 2
        fall = node.number("fall", 1, 1000) or 1
        tries = node.number("tries", 1, 10) or 2
        if name is None:
            continue
        if any(name == other.name for other in checks):
            node.add("name", f"`{name}` is taken by another check", "Give each check its own name")
            continue
        checks.append(Check(name, command or "", url, interval, timeout, rise, fall, tries))
    return checks


def _read_url(node: Node) -> str:
    text = node.text("url") or ""
    if not text:
        return ""
    try:
        parts = urllib.parse.urlsplit(text)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not _URL.fullmatch(text):
        node.add(
            "url",
            f"`{text}` is not an http URL",
            "Write it as `http://127.0.0.1:8080/healthz`, or ask in another way with `command`",
        )
    return text


def find_interface(
    address: IpAddress, links: Iterable[Mapping[str, Any]], vips: Iterable[IpAddress]
) -> tuple[str, ...]:
    """Find the interfaces whose network holds `address`, those with the longest prefix only.

    `links` is what `ip -json address show` prints. VIPs don't count: they may be there already, and elsewhere.
    """
    own = set(vips)
    found: dict[str, int] = {}
    for link in links:
        for entry in link.get("addr_info", ()):
            local = _interface(entry)
            if local is None or local.ip in own or local.version != address.version or local.ip.is_loopback:
                continue
            if address in local.network and local.network.prefixlen < local.max_prefixlen:
                name = str(link.get("ifname", ""))
                found[name] = max(found.get(name, 0), local.network.prefixlen)
    longest = max(found.values(), default=0)
    return tuple(sorted(name for name, prefix in found.items() if prefix == longest))


def _interface(entry: Mapping[str, Any]) -> IpInterface | None:
    try:
        return ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}")
    except (KeyError, ValueError):
        return None


def addresses_of(links: Iterable[Mapping[str, Any]], interface: str) -> set[IpAddress]:
    """List the addresses of one interface."""
    return {
        local.ip
        for link in links
        if link.get("ifname") == interface
        for local in map(_interface, link.get("addr_info", ()))
        if local is not None
    }


def plan(
    vips: object,
    checks: object,
    *,
    edge: str,
    edges: Sequence[Edge],
    links: Sequence[Mapping[str, Any]],
    preempt: bool,
    foreign_config: bool = False,
    lacks_ipvs: bool = False,
) -> Plan:
    """Work out the virtual routers of `edge`.

    `links` is what `ip -json address show` printed on this edge. Nothing else depends on a host: what is written here
    about the other edges comes from the inventory alone, so that a run for one edge and a run for all write the same.
    """
    log = Log()
    by_name = {item.name: item for item in edges}
    wanted = read_vips(vips, list(by_name), log)
    read = read_checks(checks, log)
    if edge not in by_name:
        log.add(
            "keepalived_group",
            f"`{edge}` is not in this group of the inventory",
            "Run the role on the hosts of the group, or name their group",
        )
    if foreign_config:
        log.add(
            "keepalived_replace_config",
            f"edge {edge} has a keepalived.conf that this role didn't write",
            "Move it away, or set keepalived_replace_config to have it replaced and a copy kept",
        )
    if lacks_ipvs:
        log.add(
            "keepalived_virtual_servers",
            f"need IPVS, and the kernel of edge {edge} has no module ip_vs",
            "Install a kernel with it, or forward in another way",
        )
    own = {vip.address.ip for vip in wanted}
    instances = []
    for vip in wanted:
        if edge in vip.edges and edge in by_name:
            instance = _instance(vip, by_name, edge, links, own, preempt=preempt, log=log)
            if instance is not None:
                instances.append(instance)
    units: dict[str, tuple[str, ...]] = {}
    for instance in instances:
        units[instance.unit] = (*units.get(instance.unit, ()), instance.name)
    return Plan(tuple(instances), units, tuple(read), tuple(log.problems))


def _instance(
    vip: Vip,
    edges: Mapping[str, Edge],
    edge: str,
    links: Sequence[Mapping[str, Any]],
    own: set[IpAddress],
    *,
    preempt: bool,
    log: Log,
) -> Instance | None:
    before = len(log.problems)
    names = {str(link.get("ifname", "")) for link in links}
    interface = vip.interface
    if interface and interface not in names:
        log.add(
            f"{vip.path}.interface",
            f"`{interface}` is not on edge {edge}",
            f"Its interfaces are {quoted(sorted(names - {'lo'}))}. Leave the field out to find the right one",
        )
        return None
    if not interface:
        found = find_interface(vip.address.ip, links, own)
        if len(found) != 1:
            what = f"is in the network of {' and '.join(found)}" if found else "is in no network"
            log.add(
                f"{vip.path}.address",
                f"{vip.address.ip} {what} of edge {edge}",
                "Choose a VIP from the edges' own network, or set `interface`" if not found else "Set `interface`",
            )
            return None
        interface = found[0]
    addresses = {}
    for name in vip.edges:
        address = _address(edges[name], vip, log)
        if address is not None:
            addresses[name] = address
    source = addresses.get(edge)
    if source is not None and source not in addresses_of(links, interface):
        field = "keepalived_address" if vip.address.version == 4 else "keepalived_address6"
        log.add(
            field,
            f"{source} is not an address of {interface} on edge {edge}, which would carry {vip.address.ip}",
            f"Set {field} in the inventory to the edge's own address on that network",
        )
    if source is None or len(log.problems) > before:
        return None
    return Instance(
        name=vip.name,
        unit=vip.group or vip.name,
        address=str(vip.address),
        family=vip.address.version,
        interface=interface,
        virtual_router_id=vip.router_id,
        source=str(source),
        peers=tuple(str(addresses[name]) for name in vip.edges if name != edge),
        weights=weights(vip.edges.index(edge), len(vip.edges), preempt=preempt),
    )


def _address(edge: Edge, vip: Vip, log: Log) -> IpAddress | None:
    """Give an edge's address of the VIP's IP version. Names are not resolved: the answer may differ between runs."""
    four = vip.address.version == 4
    text, field = (edge.address, "keepalived_address") if four else (edge.address6, "keepalived_address6")
    kind = f"IPv{vip.address.version} address"
    cure = f"Set {field} for {edge.name} in the inventory to its {kind} on the network of {vip.address.ip}"
    if not text:
        log.add(field, f"edge {edge.name} has no {kind} in the inventory", cure)
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        log.add(field, f"`{text}` of edge {edge.name} is not an {kind}", cure)
        return None
    if address.version != vip.address.version:
        log.add(field, f"{text} of edge {edge.name} is not an {kind}", cure)
        return None
    return address


def failover_limit(advert: float, priority: int, adverts: int = 3) -> float:
    """Give the longest time in seconds until a backup of that priority takes over, from the last advert it heard.

    RFC 5798, 6.1. The holder dies up to one advert after its last one, so the time without a holder is between
    this and one advert less.
    """
    return adverts * advert + (256 - priority) / 256 * advert
