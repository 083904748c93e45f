#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vip_probe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vip_probe
short_description: Whether VIPs and their virtual router ids are free
version_added: 0.1.0
author: Contributors to the edgeway.istio project (!UNKNOWN)
description:
  - Asks an edge's network by ARP or neighbour discovery whether another machine has a VIP, and listens for VRRP adverts
    of other routers with the same virtual router id.
  - Changes nothing. Runs on the edge itself, as root.
options:
  routers:
    description: Virtual routers, as the filter P(edgeway.istio.vrrp_plan#filter) gives them in V(instances).
    type: list
    elements: dict
    required: true
  edges:
    description: Addresses of all edges, also of those that hold none of the VIPs. They are no strangers.
    type: list
    elements: str
    default: []
  run:
    description:
      - Addresses of the edges that this run sets up. Another edge that holds a VIP and sends no adverts here is a
        problem, as it doesn't know this edge.
    type: list
    elements: str
    default: []
  seconds:
    description: How long to listen. Adverts come every second unless somebody chose otherwise.
    type: float
    default: 1.2
attributes:
  check_mode:
    description: Reads only, so check mode is the same.
    support: full
  diff_mode:
    description: Reads only.
    support: none
"""

EXAMPLES = r"""
- name: Check that the VIP is free
  edgeway.istio.vip_probe:
    routers: "{{ plan.instances }}"
  register: probe
  failed_when: probe.problems | length > 0
"""

RETURN = r"""
problems:
  description: What is in the way, as sentences with their cure. Empty if nothing is.
  returned: always
  type: list
  elements: str
  sample: []
answers:
  description: MAC addresses that answered, by IP address.
  returned: always
  type: dict
  sample: {192.0.2.12: ["02:00:00:00:00:12"]}
"""

import selectors
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _probe

VRRP_GROUP = socket.inet_aton("224.0.0.18")
VRRP_GROUP6 = socket.inet_pton(socket.AF_INET6, "ff02::12")


def _arp_socket(interface: str) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_probe.ETHERTYPE_ARP))
    found.bind((interface, _probe.ETHERTYPE_ARP))
    return found


def _neighbour_socket(interface: str) -> socket.socket:
    found = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    # A hop fewer would be no neighbour (RFC 4861, 7.1); and an edge doesn't answer itself
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    return found


def _ask(opened: socket.socket, interface: str, address: str) -> None:
    mac = bytes.fromhex(Path(f"/sys/class/net/{interface}/address").read_text().strip().replace(":", ""))
    if opened.family == socket.AF_INET6:
        group = (_probe.solicited_group(address), 0, 0, socket.if_nametoindex(interface))
        opened.sendto(_probe.solicitation(mac, address), group)
    else:
        opened.send(_probe.arp_request(mac, address))


def _vrrp_socket(interface: str, family: int) -> socket.socket:
    index = socket.if_nametoindex(interface)
    if family == 4:
        found = socket.socket(socket.AF_INET, socket.SOCK_RAW, _probe.PROTOCOL_VRRP)
        member = VRRP_GROUP + b"\0\0\0\0" + struct.pack("@i", index)
        found.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    else:
        found = socket.socket(socket.AF_INET6, socket.SOCK_RAW, _probe.PROTOCOL_VRRP)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, VRRP_GROUP6 + struct.pack("@i", index))
    return found


class _Ears:
    """Everything that is listened to, and what was heard."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self.answers: dict[str, set[str]] = {}
        self.adverts: list[_probe.Advert] = []

    def add(self, opened: socket.socket, kind: str) -> socket.socket:
        self._stack.enter_context(opened)
        self._selector.register(opened, selectors.EVENT_READ, kind)
        return opened

    def listen(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for key, _events in self._selector.select(left):
                packet, sender = key.fileobj.recvfrom(65536)  # type: ignore[union-attr]
                if key.data in ("arp", "neighbour"):
                    answer = _probe.arp_answer(packet) if key.data == "arp" else _probe.advertisement(packet)
                    if answer:
                        self.answers.setdefault(answer[0], set()).add(answer[1])
                    continue
                family = 4 if key.data == "vrrp4" else 6
                # A raw IPv4 socket gives the IP header as well
                payload = packet[(packet[0] & 0x0F) * 4 :] if family == 4 else packet
                heard = _probe.advert(family, sender[0].split("%")[0], payload)
                if heard:
                    self.adverts.append(heard)


def _probe_network(routers: list[dict[str, Any]], edges: list[str], seconds: float) -> _Ears:
    with ExitStack() as stack:
        ears = _Ears(stack)
        askers = {}
        for interface, family in sorted({(router["interface"], router["family"]) for router in routers}):
            ears.add(_vrrp_socket(interface, family), f"vrrp{family}")
            asker = (_arp_socket(interface), "arp") if family == 4 else (_neighbour_socket(interface), "neighbour")
            askers[interface, family] = ears.add(*asker)
        until = time.monotonic() + seconds
        # Twice, as a first packet may be lost
        for part in (1, 2):
            for router in routers:
                interface, family = router["interface"], router["family"]
                vip = router["address"].split("/")[0]
                for address in {vip, *_probe.of_family(family, [*router["peers"], *edges])}:
                    _ask(askers[interface, family], interface, address)
            ears.listen(until if part == 2 else min(until, time.monotonic() + seconds / 3))
        return ears


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "routers": {"type": "list", "elements": "dict", "required": True},
            "edges": {"type": "list", "elements": "str", "default": []},
            "run": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "float", "default": 1.2},
        },
        supports_check_mode=True,
    )
    routers, edges = module.params["routers"], module.params["edges"]
    try:
        ears = _probe_network(routers, edges, module.params["seconds"])
    except OSError as error:
        module.fail_json(msg=f"The network can't be asked: {error}. Run this as root")
    module.exit_json(
        changed=False,
        problems=_probe.conflicts(routers, ears.answers, ears.adverts, edges, module.params["run"]),
        answers={address: sorted(macs) for address, macs in ears.answers.items()},
    )


if __name__ == "__main__":
    main()
