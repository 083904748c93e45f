# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a VIP free, and its virtual router id? Packets as bytes, and what their answers mean.

This runs on the edges, so it keeps to what Python 3.9 has. ARP is RFC 826 (a probe that claims no address is RFC 5227),
neighbour discovery RFC 4861, VRRP adverts are RFC 5798, 5.2.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ARP = struct.Struct("!HHBBH6s4s6s4s")
ETHERTYPE_ARP = 0x0806
PROTOCOL_VRRP = 112
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
SOURCE_LINK_LAYER_ADDRESS, TARGET_LINK_LAYER_ADDRESS = 1, 2
_ADVERTISED = struct.Struct("!BBHI16s")


def mac_text(mac: bytes) -> str:
    """Write a MAC address as people do."""
    return mac.hex(":")


def of_family(family: int, addresses: Iterable[str]) -> list[str]:
    """List those that ARP (4) or neighbour discovery (6) can ask for: an inventory may name edges by hostname."""
    found = []
    for address in addresses:
        with contextlib.suppress(ValueError):
            read = ipaddress.ip_address(address)
            if read.version == family:
                found.append(str(read))
    return found


def arp_request(mac: bytes, address: str) -> bytes:
    """Ask who has `address`, as an Ethernet frame from `mac` that claims no address itself."""
    ethernet = b"\xff" * 6 + mac + struct.pack("!H", ETHERTYPE_ARP)
    wanted = ipaddress.IPv4Address(address).packed
    return ethernet + _ARP.pack(1, 0x0800, 6, 4, 1, mac, b"\0" * 4, b"\0" * 6, wanted)


def arp_answer(frame: bytes) -> tuple[str, str] | None:
    """Read who says to have which address: (address, MAC); None for what is no answer."""
    if len(frame) < 14 + _ARP.size or frame[12:14] != struct.pack("!H", ETHERTYPE_ARP):
        return None
    fields = _ARP.unpack_from(frame, 14)
    protocol, operation, mac, sender = fields[1], fields[4], fields[5], fields[6]
    if operation != 2 or protocol != 0x0800:
        return None
    return str(ipaddress.IPv4Address(sender)), mac_text(mac)


def solicited_group(address: str) -> str:
    """Return the multicast address at which the holder of an IPv6 address is asked (RFC 4291, 2.7.1)."""
    return str(ipaddress.IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + _packed(address)[-3:]))


def solicitation(mac: bytes, address: str) -> bytes:
    """Ask who has an IPv6 `address`, as an ICMPv6 message without its checksum."""
    head = struct.pack("!BBHI", NEIGHBOUR_SOLICITATION, 0, 0, 0)
    return head + _packed(address) + struct.pack("!BB", SOURCE_LINK_LAYER_ADDRESS, 1) + mac


def advertisement(message: bytes) -> tuple[str, str] | None:
    """Read who says to have which address: (address, MAC); None for what says neither."""
    if len(message) < _ADVERTISED.size or message[0] != NEIGHBOUR_ADVERTISEMENT:
        return None
    target, rest = _ADVERTISED.unpack_from(message)[4], message[_ADVERTISED.size :]
    # Options are a type, a length in units of 8 bytes, and what they hold
    while len(rest) >= 8 and rest[1]:
        if rest[0] == TARGET_LINK_LAYER_ADDRESS and rest[1] == 1:
            return str(ipaddress.IPv6Address(target)), mac_text(rest[2:8])
        rest = rest[rest[1] * 8 :]
    return None


def _packed(address: str) -> bytes:
    return ipaddress.IPv6Address(address).packed


@dataclass(frozen=True)
class Advert:
    """What one VRRP advert says."""

    family: int
    source: str
    virtual_router_id: int
    addresses: tuple[str, ...]


def advert(family: int, source: str, payload: bytes) -> Advert | None:
    """Read a VRRP packet's payload; None for what is no advert."""
    if len(payload) < 8 or payload[0] & 0x0F != 1 or payload[0] >> 4 not in (2, 3):
        return None
    count, size = payload[3], 4 if family == 4 else 16
    found = [payload[8 + n * size : 8 + (n + 1) * size] for n in range(count)]
    addresses = tuple(str(ipaddress.ip_address(item)) for item in found if len(item) == size)
    return Advert(family, source, payload[1], addresses)


def conflicts(
    routers: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Iterable[str]],
    adverts: Sequence[Advert],
    edges: Iterable[str] = (),
    run: Iterable[str] = (),
) -> list[str]:
    """Say what is in the way of these virtual routers. All edges of one network say the same of strangers.

    `routers` have address, family, virtual_router_id, source and peers; `answers` are MACs by address. Another edge
    that has the VIP already is no conflict: it is known by the MAC with which it answers for its own address. Only it
    must send its adverts here, or be set up in this `run` too: else both would have the VIP. `edges` are the addresses
    of all edges, as the VIP may be leaving one that isn't among its own.
    """
    found = []
    for router in routers:
        vip = str(router["address"]).split("/", maxsplit=1)[0]
        others = {*of_family(router["family"], edges), *map(str, router["peers"])} - {str(router["source"])}
        taken = set(answers.get(vip, ()))
        strange = sorted(taken - {mac for address in others for mac in answers.get(address, ())})
        if strange:
            found.append(
                f"keepalived_vips: {vip} is taken by {' and '.join(strange)}, which is no edge. "
                "Choose a free address, or take it from that machine."
            )
        heard = [
            item
            for item in adverts
            if item.family == router["family"] and item.virtual_router_id == router["virtual_router_id"]
        ]
        found.extend(
            f"keepalived_vips: {vip} is held by {holder}, which isn't in this run and doesn't know {router['source']} "
            "as an edge: both would hold it. Run on all edges at once, without --limit and serial."
            for holder in sorted(others - set(run) - {item.source for item in heard})
            if taken & set(answers.get(holder, ()))
        )
        strangers = sorted(
            {
                f"{item.source} (for {', '.join(item.addresses)})"
                for item in heard
                if item.source not in {*others, str(router["source"])}
            }
        )
        if strangers:
            found.append(
                f"keepalived_vips: virtual_router_id {router['virtual_router_id']} of {vip} is used by "
                f"{' and '.join(strangers)}. Set another virtual_router_id for {vip}."
            )
    return found
