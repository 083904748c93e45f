"""The plan of one edge's virtual routers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp
from ansible_collections.edgeway.istio.plugins.module_utils.edges._vrrp import Edge, weights

# An edge's position in the order, and the number of edges
Place = tuple[int, int]

EDGES = [
    Edge("node2", "192.0.2.12", "2001:db8::12"),
    Edge("node3", "192.0.2.13", "2001:db8::13"),
    Edge("node1", "192.0.2.11", ""),
]


WRONG_URLS = (
    "https://127.0.0.1/",
    "127.0.0.1:80",
    "http://",
    "http://:80/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:http/",
    "http://[::1/",
    "http://me@127.0.0.1/",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/#a",
    "http://127.0.0.1/ä",
)


def links(*addresses: str, interface: str = "eth0") -> list[dict[str, Any]]:
    entries = [address.split("/") for address in addresses]
    return [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}, {"local": "::1", "prefixlen": 128}]},
        {"ifname": interface, "addr_info": [{"local": text, "prefixlen": int(prefix)} for text, prefix in entries]},
    ]


NODE2 = links("192.0.2.12/24", "2001:db8::12/64", "fe80::1/64")


def plan(vips: Any, edge: str = "node2", **options: Any) -> _vrrp.Plan:
    given: dict[str, Any] = {"checks": [], "edges": EDGES, "links": NODE2, "preempt": False, **options}
    checks = given.pop("checks")
    return _vrrp.plan(vips, checks, edge=edge, **given)


def test_one_vip_needs_its_address_alone() -> None:
    result = plan([{"address": "192.0.2.100"}])
    assert result.problems == ()
    (instance,) = result.instances
    assert instance == _vrrp.Instance(
        name="192.0.2.100",
        unit="192.0.2.100",
        address="192.0.2.100/32",
        family=4,
        interface="eth0",
        virtual_router_id=100,
        source="192.0.2.12",
        peers=("192.0.2.13", "192.0.2.11"),
        weights=weights(0, 3, preempt=False),
    )
    assert result.units == {"192.0.2.100": ("192.0.2.100",)}


def test_options_of_a_vip() -> None:
    result = plan(
        [
            {
                "address": "192.0.2.100/24",
                "virtual_router_id": 7,
                "edges": ["node3", "node2"],
                "name": "web",
                "group": "both",
            },
            {"address": "2001:db8::64", "edges": ["node3", "node2"], "group": "both"},
        ]
    )
    assert result.problems == ()
    four, six = result.instances
    assert (four.address, four.virtual_router_id, four.peers) == ("192.0.2.100/24", 7, ("192.0.2.13",))
    assert four.weights == weights(1, 2, preempt=False)
    assert (six.address, six.source, six.peers, six.family) == (
        "2001:db8::64/128",
        "2001:db8::12",
        ("2001:db8::13",),
        6,
    )
    assert result.units == {"both": ("web", "2001:db8::64")}


def test_an_edge_without_this_vip_has_no_instance() -> None:
    result = plan([{"address": "192.0.2.100", "edges": ["node3", "node1"]}])
    assert (result.instances, result.problems) == ((), ())


def test_a_vip_that_is_there_already_does_not_decide_the_interface() -> None:
    found = [*links("192.0.2.12/24"), *links("192.0.2.100/24", "10.0.0.1/24", interface="eth1")]
    (instance,) = plan([{"address": "192.0.2.100"}], links=found).instances
    assert instance.interface == "eth0"


def test_the_narrowest_network_decides_the_interface() -> None:
    found = [*links("192.0.2.12/24"), *links("192.0.0.1/16", interface="eth1")]
    (instance,) = plan([{"address": "192.0.2.100"}], links=found).instances
    assert instance.interface == "eth0"


@pytest.mark.parametrize(
    ("vips", "options", "expected"),
    [
        ("192.0.2.100", {}, ["keepalived_vips: is not a list"]),
        (["192.0.2.100"], {}, ["keepalived_vips[0]: is a text, a map is expected"]),
        ([{}], {}, ["keepalived_vips[0].address: is missing"]),
        ([{"address": "192.0.2"}], {}, ["keepalived_vips[0].address: `192.0.2` is not an IP address"]),
        ([{"adress": "192.0.2.1", "address": "192.0.2.100"}], {}, ["keepalived_vips[0].adress: is not known"]),
        (
            [{"address": "192.0.2.100", "virtual_router_id": 256}],
            {},
            ["keepalived_vips[0].virtual_router_id: 256 is outside 1 to 255"],
        ),
        ([{"address": "192.0.2.0"}], {}, ["keepalived_vips[0].virtual_router_id: is missing, and 192.0.2.0 ends in 0"]),
        (
            [{"address": "192.0.2.100"}, {"address": "192.0.2.101", "virtual_router_id": 100}],
            {},
            ["keepalived_vips[1].virtual_router_id: 100 is that of 192.0.2.100 (keepalived_vips[0]) too"],
        ),
        (
            [{"address": "192.0.2.100"}, {"address": "192.0.2.100/24"}],
            {},
            ["keepalived_vips[1].address: 192.0.2.100 stands in keepalived_vips[0] too"],
        ),
        (
            [{"address": "192.0.2.100", "name": "a"}, {"address": "192.0.2.101", "name": "a"}],
            {},
            ["keepalived_vips[1].name: `a` is that of keepalived_vips[0] too"],
        ),
        (
            [{"address": "192.0.2.100", "group": "a"}, {"address": "192.0.2.101", "group": "a", "edges": ["node2"]}],
            {},
            ["keepalived_vips[1].edges: differ from those of keepalived_vips[0]"],
        ),
        (
            [{"address": "192.0.2.100", "name": "a"}, {"address": "192.0.2.101", "group": "a"}],
            {},
            ["keepalived_vips[0].name: `a` is the name of a group too"],
        ),
        ([{"address": "192.0.2.100", "edges": ["node9"]}], {}, ["keepalived_vips[0].edges: `node9` is no edge"]),
        (
            [{"address": "192.0.2.100", "edges": ["node2", "node2"]}],
            {},
            ["keepalived_vips[0].edges: names an edge twice"],
        ),
        ([{"address": "192.0.2.100", "edges": []}], {}, ["keepalived_vips[0].edges: names no edge"]),
        (
            [{"address": "198.51.100.1"}],
            {},
            ["keepalived_vips[0].address: 198.51.100.1 is in no network of edge node2. Choose a VIP from the edges'"],
        ),
        (
            [{"address": "192.0.2.100"}],
            {"links": [*links("192.0.2.12/24"), *links("192.0.2.14/24", interface="eth1")]},
            ["keepalived_vips[0].address: 192.0.2.100 is in the network of eth0 and eth1 of edge node2"],
        ),
        (
            [{"address": "192.0.2.100", "interface": "bond0"}],
            {},
            ["keepalived_vips[0].interface: `bond0` is not on edge node2. Its interfaces are `eth0`"],
        ),
        (
            [{"address": "192.0.2.100"}],
            {"links": links("192.0.2.99/24")},
            ["keepalived_address: 192.0.2.12 is not an address of eth0 on edge node2"],
        ),
        (
            [{"address": "192.0.2.100"}],
            {"edges": [EDGES[0], Edge("node3", "node3.example", "")]},
            ["keepalived_address: `node3.example` of edge node3 is not an IPv4 address. Set"],
        ),
        (
            [{"address": "2001:db8::64"}],
            {},
            ["keepalived_address6: edge node1 has no IPv6 address in the inventory"],
        ),
        (
            [{"address": "2001:db8::64", "edges": ["node2", "node3"]}],
            {"edges": [EDGES[0], Edge("node3", "", "192.0.2.13")]},
            ["keepalived_address6: 192.0.2.13 of edge node3 is not an IPv6 address"],
        ),
        ([{"address": "192.0.2.100"}], {"edge": "box1"}, ["keepalived_group: `box1` is not in this group"]),
        (
            [{"address": "192.0.2.100"}],
            {"foreign_config": True},
            ["keepalived_replace_config: edge node2 has a keepalived.conf that this role didn't write"],
        ),
        (
            [{"address": "192.0.2.100"}],
            {"lacks_ipvs": True},
            ["keepalived_virtual_servers: need IPVS, and the kernel of edge node2 has no module ip_vs"],
        ),
        ([], {"checks": [{"name": "A b", "command": "true"}]}, ["keepalived_checks[0].name: `A b` is not a name"]),
        ([], {"checks": [{"name": "a"}]}, ["keepalived_checks[0].command: is missing, and so is `url`"]),
        (
            [],
            {"checks": [{"name": "a", "command": "true", "url": "http://127.0.0.1/"}]},
            ["keepalived_checks[0].url: stands beside `command`"],
        ),
        *(
            ([], {"checks": [{"name": "a", "url": url}]}, [f"keepalived_checks[0].url: `{url}` is not an http URL"])
            for url in WRONG_URLS
        ),
        ([], {"checks": "true"}, ["keepalived_checks: is not a list"]),
        (
            [],
            {"checks": [{"name": "a", "command": "true"}, {"name": "a", "command": "true"}]},
            ["keepalived_checks[1].name: `a` is taken by another check"],
        ),
        (
            [],
            {"checks": [{"name": "a", "command": "true", "interval": 0}]},
            ["keepalived_checks[0].interval: 0 is outside 0.1 to 3600"],
        ),
        (
            [],
            {"checks": [{"name": "a", "command": "true", "timeout": "5s"}]},
            ["keepalived_checks[0].timeout: is a text, a number is expected"],
        ),
    ],
)
def test_problems(vips: Any, options: dict[str, Any], expected: list[str]) -> None:
    found = [str(problem) for problem in plan(vips, **options).problems]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "http://[::1]:8080/healthz?full=1", "http://localhost/100%25"])
def test_a_check_asks_a_url(url: str) -> None:
    found = plan([], checks=[{"name": "a", "url": url, "interval": "0.2", "timeout": 0.5}])
    assert found.problems == ()
    assert found.checks == (_vrrp.Check("a", "", url, 0.2, 0.5, rise=2, fall=1, tries=2),)


def test_more_edges_than_priorities() -> None:
    edges = [Edge(f"e{n}", f"192.0.2.{n}", "") for n in range(1, 10)]
    (problem,) = plan([{"address": "192.0.2.100"}], edge="e1", edges=edges).problems
    assert str(problem).startswith("keepalived_vips[0].edges: are 9, and priorities leave room for 8")


def test_the_file_does_not_depend_on_other_edges() -> None:
    """What `--limit` renders for one edge is what a full run renders: only this edge's links are looked at."""
    vips = [{"address": "192.0.2.100"}]
    for edge in EDGES:
        (instance,) = plan(vips, edge=edge.name, links=links(f"{edge.address}/24")).instances
        assert instance.source == edge.address
        assert set(instance.peers) == {other.address for other in EDGES} - {edge.address}


# Every state that two edges can be in, and who must hold the VIP


def points(place: Place, preempt: bool, state: str, held: bool, settling: bool = False) -> int:
    w = weights(*place, preempt=preempt)
    total = w.priority + (w.held if held else 0)
    total -= w.check if "failing" in state else 0
    total -= w.drained if "drained" in state else 0
    total -= w.settling if settling else 0
    return min(max(total, 1), 254)


COUNTS = range(1, _vrrp.MOST_EDGES + 1)
# (position, number of edges), and two of them
PLACES: list[Place] = [(position, count) for count in COUNTS for position in range(count)]
PAIRS = [
    ((first, count), (second, count)) for count in COUNTS for first, second in itertools.permutations(range(count), 2)
]


@pytest.mark.parametrize(
    ("preempt", "holder", "other"),
    [
        (False, "failing", "healthy"),
        (False, "failing", "drained"),
        (False, "drained", "healthy"),
        (False, "failing drained", "failing"),
        (False, "failing drained", "drained"),
        (True, "failing", "healthy"),
        (True, "failing", "drained"),
        (True, "drained", "healthy"),
        (True, "failing drained", "drained"),
    ],
)
def test_the_better_edge_takes_the_vip_over(preempt: bool, holder: str, other: str) -> None:
    for first, second in PAIRS:
        assert points(first, preempt, holder, held=True) < points(second, preempt, other, held=False)


@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize(("holder", "other"), [("healthy", "failing"), ("healthy", "drained"), ("drained", "failing")])
def test_the_worse_edge_never_takes_the_vip(preempt: bool, holder: str, other: str) -> None:
    for first, second in PAIRS:
        assert points(first, preempt, holder, held=True) > points(second, preempt, other, held=False)


@pytest.mark.parametrize(
    ("preempt", "state"), [(False, "healthy"), (False, "drained"), (False, "failing"), (True, "failing")]
)
def test_among_equals_the_vip_stays(preempt: bool, state: str) -> None:
    for first, second in PAIRS:
        assert points(first, preempt, state, held=True) > points(second, preempt, state, held=False)


@pytest.mark.parametrize("preempt", [False, True])
def test_adverts_tell_a_holder_that_is_leaving(preempt: bool) -> None:
    for place in PLACES:
        healthy = weights(*place, preempt=preempt).healthy
        assert points(place, preempt, "healthy", held=True) >= healthy
        assert points(place, preempt, "healthy", held=False) >= healthy
        assert points(place, preempt, "drained", held=True) < healthy
        assert points(place, preempt, "failing", held=True) < healthy


def test_with_preempt_the_preferred_edge_takes_the_vip_back() -> None:
    for first, second in PAIRS:
        if first > second:
            assert points(first, True, "healthy", held=True) < points(second, True, "healthy", held=False)


def test_an_edge_that_settles_takes_over_from_a_failing_one_only() -> None:
    for first, second in PAIRS:
        settling = points(second, True, "healthy", held=False, settling=True)
        assert settling < points(first, True, "healthy", held=True)
        assert settling > points(first, True, "failing", held=True)


@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize(("count", "apart"), [(2, 0.010), (3, 0.005), (5, 0.0025), (8, 0.0015)])
def test_backups_wait_for_each_other(preempt: bool, count: int, apart: float) -> None:
    priorities = [points((position, count), preempt, "healthy", held=False) for position in range(count)]
    limits = [_vrrp.failover_limit(0.1, priority) for priority in priorities]
    assert all(after - before >= apart for before, after in itertools.pairwise(limits))
    assert 0.3 <= limits[0] <= limits[-1] <= 0.3 + 0.028


def test_an_edge_that_joins_does_not_move_the_vip() -> None:
    """Edges are reconfigured one after the other: some know of three, some still of two."""
    for count in range(1, _vrrp.MOST_EDGES):
        for first, second in itertools.product(range(count), range(count + 1)):
            for here, there in ((count, count + 1), (count + 1, count)):
                held = points((first, here), False, "healthy", held=True)
                assert held > points((min(second, there - 1), there), False, "healthy", held=False)


def test_failover_limit() -> None:
    assert _vrrp.failover_limit(0.1, 156) == pytest.approx(0.3390625)
    assert _vrrp.failover_limit(1, 254, adverts=5) == pytest.approx(5.0078125)
