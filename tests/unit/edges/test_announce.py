"""What an edge says of itself as it comes back, read as a neighbour reads it."""

from __future__ import annotations

import ipaddress
import sys

import pytest
from unit.edges.scripts import load

MAC = bytes.fromhex("020000000001")


announce = load("announce")


def test_arp_asks_everyone_for_the_address_that_it_tells() -> None:
    frame = announce.arp(MAC, ipaddress.ip_address("192.0.2.11"))
    assert (frame[:6], frame[6:12], frame[12:14]) == (b"\xff" * 6, MAC, b"\x08\x06")
    # Ethernet and IPv4, a request; sender and target are one address
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[22:] == MAC + bytes([192, 0, 2, 11]) + b"\0" * 6 + bytes([192, 0, 2, 11])


def test_ipv6_overrides_what_neighbours_know() -> None:
    address = ipaddress.ip_address("2001:db8::11")
    message = announce.advertisement(MAC, address)
    assert message[:8] == bytes.fromhex("8800000020000000")
    assert message[8:24] == address.packed
    assert message[24:] == b"\x02\x01" + MAC


def test_each_address_once_and_a_link_that_is_not_there_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def send(interface: str, address: object) -> None:
        if interface == "gone":
            raise OSError("No such device")
        seen.append((interface, str(address)))

    monkeypatch.setattr(announce, "announce", send)
    given = ["announce", "gone=192.0.2.12", "eth0=192.0.2.11", "eth0=192.0.2.11", "eth0=2001:db8::11"]
    monkeypatch.setattr(sys, "argv", given)
    assert announce.main() == 0
    assert seen == [("eth0", "192.0.2.11"), ("eth0", "2001:db8::11")]
    assert "192.0.2.12 isn't announced on gone: No such device" in capsys.readouterr().out
