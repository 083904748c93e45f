"""What keepalived says of itself, and what that means for all edges together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _keepalived

# As keepalived 2.2.7 wrote it on a holder with one check
DATA = (Path(__file__).parent / "data/keepalived-2.2.7.data").read_text()


def test_parse() -> None:
    state = _keepalived.parse(DATA)
    (router,) = state.routers
    assert (router.name, router.state, router.address) == ("192.0.2.100", "MASTER", "192.0.2.100")
    assert router.priority == 246
    assert router.since > 1_700_000_000
    assert state.checks == {"up": "passed"}


def test_parse_a_failed_check() -> None:
    start = DATA.index(" Track file = check.up")
    for status, result in (("1", "failed"), ("7", "unknown")):
        text = DATA[:start] + DATA[start:].replace("Status = 0", f"Status = {status}", 1)
        assert _keepalived.parse(text).checks == {"up": result}


def test_parse_several_routers() -> None:
    start = DATA.index(" VRRP Instance = ")
    end = DATA.index("------< VRRP Sockpool")
    second = DATA[start:end].replace("192.0.2.100", "2001:db8::64").replace("State = MASTER", "State = BACKUP")
    routers = _keepalived.parse(DATA[:end] + second + DATA[end:]).routers
    assert [(router.name, router.state) for router in routers] == [
        ("192.0.2.100", "MASTER"),
        ("2001:db8::64", "BACKUP"),
    ]


@pytest.mark.parametrize("text", ["", "no headings\n", "------< VRRP Topology >------\n"])
def test_parse_little(text: str) -> None:
    assert _keepalived.parse(text) == _keepalived.State((), {})


def test_configured_vips() -> None:
    config = """
vrrp_instance a {
    interface eth0
    virtual_ipaddress {
        192.0.2.100/32 dev eth0
    }
}
vrrp_instance b {
    virtual_ipaddress {
        2001:db8::64/128 dev bond0.7
    }
}
"""
    assert _keepalived.configured_vips(config) == ("192.0.2.100", "2001:db8::64")
    assert _keepalived.configured_vips("") == ()


def test_complete() -> None:
    assert _keepalived.complete(DATA)
    assert not _keepalived.complete(DATA[: DATA.index("------< Interfaces")])
    assert not _keepalived.complete("")


VIP = "192.0.2.100"


def edge(state: str = "BACKUP", *, holds: bool | None = None, **facts: Any) -> dict[str, Any]:
    """What edge_info returns."""
    held = state == "MASTER" if holds is None else holds
    addresses = [{"local": VIP, "prefixlen": 32}] if held else []
    vip = {"name": VIP, "address": VIP, "held": held, "state": state, "since": 1000.0, "priority": 222}
    return {
        "links": [{"ifname": "eth0", "addr_info": addresses}],
        "running": True,
        "config": "ours",
        "drained": False,
        "now": 1300.0,
        "vips": [vip],
        "checks": {"gateway": "passed"},
        **facts,
    }


def test_overview_of_healthy_edges() -> None:
    found = _keepalived.overview({"node2": edge("MASTER"), "node3": edge()})
    assert found.problems == ()
    assert found.lines == (
        "192.0.2.100: node2",
        "node2: gateway passed",
        "  192.0.2.100: held, MASTER for 5 min, priority 222",
        "node3: gateway passed",
        "  192.0.2.100: not held, BACKUP for 5 min, priority 222",
    )


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({"node2": edge(), "node3": edge()}, ["192.0.2.100 is held by no edge that answers"]),
        ({"node2": edge("MASTER"), "node3": edge("MASTER")}, ["192.0.2.100 is held by node2 and node3"]),
        ({"node2": edge("MASTER"), "node3": None}, ["node3 doesn't answer over SSH"]),
        (
            {"node2": edge("MASTER"), "node3": edge(running=False, vips=[])},
            ["keepalived doesn't run on node3"],
        ),
        (
            {"node2": edge("MASTER"), "node3": edge(running=False, vips=[], holds=True)},
            ["192.0.2.100 is held by node2 and node3", "keepalived doesn't run on node3"],
        ),
        (
            {"node2": edge("MASTER", holds=False), "node3": edge(holds=True)},
            [
                "node2 lacks 192.0.2.100, and its keepalived says MASTER",
                "node3 holds 192.0.2.100, and its keepalived says",
            ],
        ),
    ],
)
def test_overview_finds(edges: dict[str, Any], expected: list[str]) -> None:
    found = _keepalived.overview(edges).problems
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_addresses_that_only_this_edge_knows_of_are_not_held() -> None:
    entry = {"addr_info": [{"local": VIP, "prefixlen": 32}]}
    links = [{"ifname": "lo", **entry}, {"ifname": "kube-ipvs0", **entry}]
    assert _keepalived.addresses(links) == set()
    assert _keepalived.addresses([*links, {"ifname": "eth0", **entry}]) == {VIP}


def test_overview_tells_edges_that_nobody_has_set_up() -> None:
    bare = edge(running=False, config="none", vips=[], checks={})
    assert not _keepalived.overview({"node2": bare, "node3": None}).installed
    assert _keepalived.overview({"node2": bare, "node3": edge()}).installed


def test_overview_shows_what_is_drained_and_failing() -> None:
    lines = _keepalived.overview({"node2": edge("MASTER", drained=True, checks={"gateway": "failed"})}).lines
    assert "node2: drained, gateway failed" in lines
    assert "node3: no answer" in _keepalived.overview({"node2": edge("MASTER"), "node3": None}).lines


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert f"for {text}," in " ".join(_keepalived.overview({"node2": edge("MASTER", now=1000.0 + seconds)}).lines)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"node3": edge()}, ""),
        ({"node3": None, "node1": edge()}, ""),
        ({}, "No other edge could serve: there is none."),
        ({"node3": None}, "No other edge could serve: node3 doesn't answer."),
        ({"node3": edge(drained=True)}, "No other edge could serve: node3 is drained."),
        ({"node3": edge(running=False)}, "No other edge could serve: keepalived doesn't run on node3."),
        ({"node3": edge(checks={"gateway": "failed"})}, "No other edge could serve: gateway of node3 failed."),
    ],
)
def test_may_leave(others: dict[str, Any], expected: str) -> None:
    assert _keepalived.may_leave({"node2": edge("MASTER"), **others}, "node2") == expected


def test_who_does_not_run_has_nothing_to_hand_over() -> None:
    for facts in (None, edge(running=False)):
        assert _keepalived.may_leave({"node2": facts, "node3": edge()}, "node2").startswith("node2 doesn't answer, or")
