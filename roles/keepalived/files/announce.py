# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell a link where this edge's own addresses are, before it waits for adverts there.

Adverts come by unicast, from a holder that lost this edge's MAC address while it was away and asks for it once a
second. A backup says nothing by itself and waits a third of that: it would take the VIP, and the clients with it, for
the moment until the two hear each other. What is sent are a gratuitous ARP request (RFC 5227, 3) and an unsolicited
neighbour advertisement (RFC 4861, 7.2.6).

Usage: announce [INTERFACE=ADDRESS ...]
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from pathlib import Path

ETHERTYPE_ARP = 0x0806
NEIGHBOUR_ADVERTISEMENT = 136
OVERRIDE = 0x20000000
TARGET_LINK_LAYER_ADDRESS = 2
ALL_NODES = "ff02::1"


def arp(mac: bytes, address: ipaddress.IPv4Address) -> bytes:
    """Make the Ethernet frame of a gratuitous ARP request."""
    packed = address.packed
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return b"\xff" * 6 + mac + struct.pack("!H", ETHERTYPE_ARP) + head + mac + packed + b"\0" * 6 + packed


def advertisement(mac: bytes, address: ipaddress.IPv6Address) -> bytes:
    """Make the ICMPv6 message; the kernel writes its checksum."""
    head = struct.pack("!BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, OVERRIDE)
    return head + address.packed + struct.pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac


def announce(interface: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Send it once; OSError where that can't be."""
    mac = bytes.fromhex(Path("/sys/class/net", interface, "address").read_text(encoding="ascii").replace(":", ""))
    if isinstance(address, ipaddress.IPv4Address):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((interface, ETHERTYPE_ARP))
            link.send(arp(mac, address))
        return
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as link:
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        link.bind((str(address), 0))
        link.sendto(advertisement(mac, address), (ALL_NODES, 0, 0, socket.if_nametoindex(interface)))


def main() -> int:
    """Announce what is given. A link that isn't there yet is no reason to stop keepalived, which waits for it."""
    for interface, address in dict.fromkeys(tuple(pair.split("=", 1)) for pair in sys.argv[1:]):
        try:
            announce(interface, ipaddress.ip_address(address))
        except OSError as error:
            print(f"{address} isn't announced on {interface}: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
