"""Is a VIP free, and its virtual router id?"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _probe

MAC = bytes.fromhex("020000000012")


def answer(mac: str, address: str, *, operation: int = 2) -> bytes:
    """An ARP frame, by hand."""
    sender = bytes(map(int, address.split(".")))
    ethernet = MAC + bytes.fromhex(mac) + b"\x08\x06"
    return (
        ethernet
        + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        + bytes.fromhex(mac)
        + sender
        + MAC
        + bytes(4)
        + bytes(18)
    )


def test_request_claims_no_address() -> None:
    frame = _probe.arp_request(MAC, "192.0.2.100")
    assert frame.hex() == "ffffffffffff0200000000120806" + "0001080006040001" + "020000000012" + "00000000" + (
        "000000000000" + "c0000264"
    )


def test_answers() -> None:
    assert _probe.arp_answer(answer("0200000000aa", "192.0.2.100")) == ("192.0.2.100", "02:00:00:00:00:aa")
    assert _probe.arp_answer(answer("0200000000aa", "192.0.2.100", operation=1)) is None
    assert _probe.arp_answer(b"short") is None
    assert _probe.arp_answer(answer("0200000000aa", "192.0.2.100")[:12] + b"\x08\x00" + bytes(40)) is None


def test_solicitations_and_their_answers() -> None:
    vip = bytes.fromhex("fd770000000000000000000000abcdef")
    assert _probe.solicited_group("fd77::ab:cdef") == "ff02::1:ffab:cdef"
    assert _probe.solicitation(MAC, "fd77::ab:cdef") == bytes.fromhex("87000000 00000000") + vip + b"\x01\x01" + MAC
    said = bytes.fromhex("8800abcd 60000000") + vip
    mac = bytes.fromhex("0201 0200000000aa")
    assert _probe.advertisement(said + mac) == ("fd77::ab:cdef", "02:00:00:00:00:aa")
    # Behind another option, whose length is in units of eight bytes
    assert _probe.advertisement(said + b"\x0e\x02" + bytes(14) + mac) == ("fd77::ab:cdef", "02:00:00:00:00:aa")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        bytes.fromhex("8800000060000000"),
        bytes.fromhex("8700000000000000") + bytes(16) + bytes.fromhex("02010200000000aa"),
        bytes.fromhex("8800000060000000") + bytes(16),
        bytes.fromhex("8800000060000000") + bytes(16) + bytes.fromhex("02000200000000aa"),
        bytes.fromhex("8800000060000000") + bytes(16) + bytes.fromhex("020102"),
    ],
    ids=["empty", "cut short", "a solicitation", "no option", "an option of no length", "an option that is cut"],
)
def test_what_is_no_answer(message: bytes) -> None:
    assert _probe.advertisement(message) is None


def test_adverts() -> None:
    four = bytes.fromhex("3164fe01000a0000c0000264")
    assert _probe.advert(4, "192.0.2.9", four) == _probe.Advert(4, "192.0.2.9", 100, ("192.0.2.100",))
    # VRRPv2, with its authentication data behind the addresses
    assert _probe.advert(4, "192.0.2.9", bytes.fromhex("213364010001ffffc0000264") + bytes(8)) == _probe.Advert(
        4, "192.0.2.9", 51, ("192.0.2.100",)
    )
    six = bytes.fromhex("3165fe01000a0000") + bytes.fromhex("20010db8000000000000000000000064")
    assert _probe.advert(6, "fe80::9", six) == _probe.Advert(6, "fe80::9", 101, ("2001:db8::64",))


@pytest.mark.parametrize("payload", ["", "31", "41640001000a0000", "3264fe00000a0000"])
def test_what_is_no_advert(payload: str) -> None:
    assert _probe.advert(4, "192.0.2.9", bytes.fromhex(payload)) is None


def test_an_advert_that_is_cut_short() -> None:
    found = _probe.advert(4, "192.0.2.9", bytes.fromhex("3164fe02000a0000c0000264"))
    assert found is not None
    assert found.addresses == ("192.0.2.100",)


ROUTER: dict[str, Any] = {
    "address": "192.0.2.100/32",
    "family": 4,
    "virtual_router_id": 100,
    "source": "192.0.2.12",
    "peers": ["192.0.2.13"],
}
THEIRS = {"192.0.2.13": {"02:00:00:00:00:13"}}
HELD = {"192.0.2.100": {"02:00:00:00:00:13"}}
ADVERT = _probe.Advert(4, "192.0.2.13", 100, ("192.0.2.100",))


@pytest.mark.parametrize(
    ("answers", "adverts", "expected"),
    [
        ({}, [], []),
        ({**THEIRS, **HELD}, [ADVERT], []),
        (
            {**THEIRS, **HELD},
            [_probe.Advert(4, "192.0.2.13", 7, ("192.0.2.7",)), _probe.Advert(6, "192.0.2.13", 100, ())],
            ["keepalived_vips: 192.0.2.100 is held by 192.0.2.13, which isn't in this run and doesn't know"],
        ),
        (
            {**THEIRS, "192.0.2.100": {"02:00:00:00:00:99"}},
            [],
            ["keepalived_vips: 192.0.2.100 is taken by 02:00:00:00:00:99, which is no edge."],
        ),
        ({}, [_probe.Advert(4, "192.0.2.13", 100, ("192.0.2.100",))], []),
        ({}, [_probe.Advert(4, "192.0.2.9", 99, ("192.0.2.99",))], []),
        ({}, [_probe.Advert(6, "fe80::9", 100, ("2001:db8::64",))], []),
        (
            {},
            [_probe.Advert(4, "192.0.2.9", 100, ("192.0.2.50",))] * 2,
            ["keepalived_vips: virtual_router_id 100 of 192.0.2.100 is used by 192.0.2.9 (for 192.0.2.50). Set"],
        ),
    ],
)
def test_conflicts(answers: dict[str, set[str]], adverts: list[_probe.Advert], expected: list[str]) -> None:
    found = _probe.conflicts([ROUTER], answers, adverts)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_a_holder_that_is_in_this_run_is_told() -> None:
    assert _probe.conflicts([ROUTER], {**THEIRS, **HELD}, [], run=["192.0.2.12", "192.0.2.13"]) == []


def test_a_vip_may_leave_the_edge_that_holds_it() -> None:
    """The holder is an edge, and none of this VIP's any more."""
    router = {**ROUTER, "peers": ["192.0.2.14"]}
    edges = ["192.0.2.12", "192.0.2.13", "192.0.2.14"]
    assert _probe.conflicts([router], {**THEIRS, **HELD}, [], edges, edges) == []
    assert _probe.conflicts([router], {}, [ADVERT], edges, edges) == []
    (problem,) = _probe.conflicts([router], {**THEIRS, **HELD}, [], edges, ["192.0.2.12", "192.0.2.14"])
    assert "is held by 192.0.2.13, which isn't in this run" in problem


def test_only_addresses_can_be_asked_for() -> None:
    edges = ["192.0.2.1", "node1.example", "2001:DB8:0::1", ""]
    assert _probe.of_family(4, edges) == ["192.0.2.1"]
    assert _probe.of_family(6, edges) == ["2001:db8::1"]


def test_an_ipv6_vip_that_another_machine_or_another_edge_has() -> None:
    router = {
        "address": "fd77::101/128",
        "family": 6,
        "virtual_router_id": 101,
        "source": "fd77::31",
        "peers": ["fd77::32"],
    }
    edges = ["192.0.2.12", "fd77::31", "FD77:0::32"]
    heard = {"fd77::32": {"02:00:00:00:00:32"}, "fd77::101": {"02:00:00:00:00:99"}}
    (problem,) = _probe.conflicts([router], heard, [], edges)
    assert problem.startswith("keepalived_vips: fd77::101 is taken by 02:00:00:00:00:99, which is no edge.")
    heard["fd77::101"] = heard["fd77::32"]
    assert _probe.conflicts([router], heard, [], edges, ["fd77::31", "fd77::32"]) == []
    (problem,) = _probe.conflicts([router], heard, [], edges, ["fd77::31"])
    assert "fd77::101 is held by fd77::32, which isn't in this run" in problem
