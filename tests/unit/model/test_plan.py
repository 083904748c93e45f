"""What becomes of each object, and in which order: the plan, case by case."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _changes
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change, Step, Taken
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Json = dict[str, Any]
ISTIO, API = "networking.istio.io/v1", "gateway.networking.k8s.io/v1"
OURS = "edgeway/default"


def thing(kind: str, name: str, spec: Json | None = None, *, version: str = ISTIO, held: str | None = "default",
          namespace: str = "shop") -> Json:  # fmt: skip
    labels = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: held} if held else {}
    metadata = {"name": name, "namespace": namespace, **({"labels": labels} if labels else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec or {}}


def fields(value: Any) -> Json:
    """Ownership of a whole value, as the server records it for objects without a schema of their own."""
    if isinstance(value, dict) and value:
        return {f"f:{key}": fields(inner) for key, inner in value.items()}
    return {}


def owned(manifest: Json, manager: str = OURS, **more: Json) -> Json:
    """The live object that an apply of this manifest has made."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key == "labels"}
    ours = fields({"metadata": metadata, **({"spec": manifest["spec"]} if manifest["spec"] else {})})
    entry = {"manager": manager, "operation": "Apply", "fieldsV1": {**ours, **more}}
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "1", "managedFields": [entry]}}


ROUTE, OTHER = thing("VirtualService", "a", {"hosts": ["a"]}), thing("VirtualService", "b", {"hosts": ["b"]})


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ([], [("create", "a")]),
        ([OTHER], [("create", "a"), ("delete", "b")]),
        ([owned(ROUTE)], [("unchanged", "a")]),
        ([owned(thing("VirtualService", "a", {"hosts": ["old"]}))], [("update", "a")]),
        # Ours by its labels, and applied by somebody else
        ([owned(ROUTE, "kubectl")], [("update", "a")]),
        ([thing("VirtualService", "b", held="second")], [("create", "a")]),
        ([thing("VirtualService", "b", held=None)], [("create", "a")]),
        # The same name is another object in another namespace, or of another kind
        ([thing("VirtualService", "a", held=None, namespace="db")], [("create", "a")]),
        ([thing("Gateway", "a", held=None)], [("create", "a")]),
        ([thing("Gateway", "a", held=None, version=API)], [("create", "a")]),
    ],
)
def test_what_becomes_of_an_object(live: list[Json], expected: list[tuple[str, str]]) -> None:
    changes, taken = _changes.plan([ROUTE], live, set_name="default")
    assert [(change.verb, change.name) for change in changes] == expected
    assert taken == []
    kept, _taken = _changes.plan([ROUTE], live, set_name="default", prune=False)
    assert [(change.verb, change.name) for change in kept] == [one for one in expected if one[0] != "delete"]


def test_what_a_controller_made_of_ours_is_the_controllers() -> None:
    """Istio gives the Service that it makes for a Gateway the Gateway's labels, and makes the Gateway its owner."""
    theirs = thing("Service", "g-istio", version="v1")
    owner = {"apiVersion": API, "kind": "Gateway", "name": "g", "uid": "1"}
    theirs["metadata"]["ownerReferences"] = [owner]
    changes, _taken = _changes.plan([ROUTE], [owned(ROUTE), theirs], set_name="default")
    assert [(change.verb, change.name) for change in changes] == [("unchanged", "a")]
    same_name = thing("Service", "g-istio", version="v1")
    assert _changes.plan([same_name], [theirs], set_name="default") == ([], [Taken(same_name, None)])


def test_what_a_change_holds() -> None:
    before = owned(thing("VirtualService", "a", {"hosts": ["old"]}))
    same = thing("VirtualService", "c", {"hosts": ["c"]})
    live = [before, OTHER, owned(same)]
    changes, _taken = _changes.plan([ROUTE, same, thing("Gateway", "g")], live, set_name="default")
    assert changes == [
        Change("create", None, thing("Gateway", "g"), OURS),
        Change("update", before, ROUTE, OURS),
        Change("unchanged", owned(same), same, OURS),
        Change("delete", OTHER, None, OURS),
    ]
    assert changes[3].summary() == {
        "verb": "delete",
        "api_version": ISTIO,
        "kind": "VirtualService",
        "namespace": "shop",
        "name": "b",
    }
    assert Change("create", None, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}, OURS).namespace == ""


def test_names_that_are_taken_go_on_with_the_rest() -> None:
    live = [thing("VirtualService", "a", held="second"), thing("VirtualService", "b", held=None)]
    changes, taken = _changes.plan([ROUTE, OTHER, thing("Gateway", "g")], live, set_name="default")
    assert [(change.verb, change.name) for change in changes] == [("create", "g")]
    assert taken == [Taken(ROUTE, "second"), Taken(OTHER, None)]
    assert str(taken[0]) == (
        "VirtualService shop/a belongs to the set 'second'. Give the exposure another name, or remove it from that set."
    )
    assert str(taken[1]) == (
        "VirtualService shop/b exists already and wasn't made by this collection. Give the exposure another name, or "
        "delete the object first."
    )


KINDS = [
    thing("VirtualService", "r"),
    thing("Gateway", "l"),
    thing("Service", "s", version="v1"),
    thing("DestinationRule", "d"),
    thing("Secret", "c", version="v1"),
]


def test_backends_are_made_before_what_leads_to_them_and_removed_after() -> None:
    made = [Change("create", None, one, OURS) for one in KINDS]
    gone = [Change("delete", one, None, OURS) for one in KINDS]
    shown = [f"{change.verb} {change.kind}" for change in _changes.ordered([*gone, *made])]
    assert shown == [
        *(f"create {kind}" for kind in ("DestinationRule", "Secret", "Service", "Gateway", "VirtualService")),
        *(f"delete {kind}" for kind in ("VirtualService", "Gateway", "Service", "DestinationRule", "Secret")),
    ]
    adding, removing = _changes.steps([*gone, *made])
    assert [[step.change.kind for step in group] for group in adding] == [
        ["DestinationRule", "Secret"], ["Service"], ["Gateway"], ["VirtualService"],
    ]  # fmt: skip
    assert [[step.change.kind for step in group] for group in removing] == [
        ["VirtualService"], ["Gateway"], ["Service"], ["DestinationRule", "Secret"],
    ]  # fmt: skip
    assert all(step.manifest is not None for group in adding for step in group)
    assert all(step.manifest is None for group in removing for step in group)


def test_within_a_phase_they_are_sorted_by_kind_namespace_and_name() -> None:
    changes = [
        Change("create", None, thing(kind, name, namespace=space), OURS)
        for kind, space, name in (
            ("ServiceEntry", "a", "a"),
            ("DestinationRule", "b", "a"),
            ("DestinationRule", "a", "b"),
            ("DestinationRule", "a", "a"),
        )
    ]
    assert [(change.kind, change.namespace, change.name) for change in _changes.ordered(changes)] == [
        ("DestinationRule", "a", "a"), ("DestinationRule", "a", "b"), ("DestinationRule", "b", "a"),
        ("ServiceEntry", "a", "a"),
    ]  # fmt: skip


def steps(before: Json, after: Json) -> tuple[list[Json | None], list[Json | None]]:
    """The specs that are written to change one object: first and last."""
    adding, removing = _changes.steps([Change("update", before, after, OURS)])

    def specs(groups: list[list[Step]]) -> list[Json | None]:
        return [step.manifest["spec"] if step.manifest else None for group in groups for step in group]

    return specs(adding), specs(removing)


def server(number: int, *hosts: str, **more: Any) -> Json:
    return {"port": {"number": number, "protocol": "HTTP", "name": f"http-{number}"}, "hosts": list(hosts), **more}


def listener(name: str, port: int, *spaces: str, **more: Any) -> Json:
    expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(spaces)}
    allowed = {"namespaces": {"from": "Selector", "selector": {"matchExpressions": [expression]}}}
    return {"name": name, "port": port, "protocol": "HTTP", **({"allowedRoutes": allowed} if spaces else {}), **more}


SUBSETS = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]
TLS = {"tls": {"credentialName": "b"}}

WIDENED: list[tuple[str, str, str, Json, Json, Json]] = [
    ("a route just changes", ISTIO, "VirtualService", {"hosts": ["a"]}, {"hosts": ["b"]}, {"hosts": ["b"]}),
    ("a subset more", ISTIO, "DestinationRule", {"host": "h", "subsets": SUBSETS[:1]},
     {"host": "h", "subsets": SUBSETS},
     {"host": "h", "subsets": SUBSETS}),
    ("a subset less", ISTIO, "DestinationRule", {"host": "h", "subsets": SUBSETS},
     {"host": "h", "subsets": SUBSETS[1:]},
     {"host": "h", "subsets": SUBSETS[1:] + SUBSETS[:1]}),
    ("the last subset goes", ISTIO, "DestinationRule", {"host": "h", "subsets": SUBSETS[:1]}, {"host": "h"},
     {"host": "h", "subsets": SUBSETS[:1]}),
    ("a subset with other labels has the new ones", ISTIO, "DestinationRule",
     {"subsets": [{**SUBSETS[0], "labels": {}}]},
     {"subsets": SUBSETS[:1]}, {"subsets": SUBSETS[:1]}),
    ("an outside host in another's place", ISTIO, "ServiceEntry",
     {"hosts": ["a", "b"], "ports": [{"name": "x", "number": 1}]},
     {"hosts": ["c", "a"], "ports": [{"name": "y", "number": 2}]},
     {"hosts": ["c", "a", "b"], "ports": [{"name": "y", "number": 2}, {"name": "x", "number": 1}]}),
    ("ports that go, of an entry without hosts", ISTIO, "ServiceEntry", {"ports": [{"name": "x", "number": 1}]},
     {"hosts": ["a"], "ports": [{"name": "y", "number": 2}]},
     {"hosts": ["a"], "ports": [{"name": "y", "number": 2}, {"name": "x", "number": 1}]}),
    ("a server that had no hosts", ISTIO, "Gateway", {"servers": [{"port": server(80)["port"]}]},
     {"servers": [server(80, "a")]}, {"servers": [server(80, "a")]}),
    ("a server with another host has both", ISTIO, "Gateway", {"servers": [server(80, "a", "b")]},
     {"servers": [server(80, "b", "c")]}, {"servers": [server(80, "b", "c", "a")]}),
    ("a server on another port stays beside", ISTIO, "Gateway", {"servers": [server(80, "a")]},
     {"servers": [server(81, "a")]}, {"servers": [server(81, "a"), server(80, "a")]}),
    ("a server with another certificate stays beside", ISTIO, "Gateway", {"servers": [server(80, "a")]},
     {"servers": [server(80, "a", **TLS)]}, {"servers": [server(80, "a", **TLS), server(80, "a")]}),
    ("a listener takes routes from old and new namespaces", API, "Gateway",
     {"listeners": [listener("l", 80, "a", "b")]},
     {"listeners": [listener("l", 80, "b", "c")]}, {"listeners": [listener("l", 80, "b", "c", "a")]}),
    ("a namespace more", API, "Gateway", {"listeners": [listener("l", 80, "a")]},
     {"listeners": [listener("l", 80, "a", "b")]}, {"listeners": [listener("l", 80, "a", "b")]}),
    ("from every namespace from now on", API, "Gateway", {"listeners": [listener("l", 80, "a")]},
     {"listeners": [listener("l", 80)]}, {"listeners": [listener("l", 80)]}),
    ("a listener by another name in its place has it at once", API, "Gateway", {"listeners": [listener("l", 80)]},
     {"listeners": [listener("m", 80)]}, {"listeners": [listener("m", 80)]}),
    ("a listener of the same name elsewhere has it at once", API, "Gateway", {"listeners": [listener("l", 80)]},
     {"listeners": [listener("l", 81)]}, {"listeners": [listener("l", 81)]}),
    ("a listener for another hostname stays beside", API, "Gateway", {"listeners": [listener("l", 80, hostname="a")]},
     {"listeners": [listener("m", 80, hostname="b")]},
     {"listeners": [listener("m", 80, hostname="b"), listener("l", 80, hostname="a")]}),
    ("grants", API, "ReferenceGrant", {"from": [{"namespace": "a"}], "to": [{"name": "x"}]},
     {"from": [{"namespace": "b"}], "to": [{"name": "x"}]},
     {"from": [{"namespace": "b"}, {"namespace": "a"}], "to": [{"name": "x"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("version", "kind", "old", "new", "both"), [row[1:] for row in WIDENED],
                         ids=[row[0] for row in WIDENED])  # fmt: skip
def test_what_is_taken_away_stays_until_nothing_leads_to_it(
    version: str, kind: str, old: Json, new: Json, both: Json
) -> None:
    before, after = owned(thing(kind, "x", old, version=version)), thing(kind, "x", new, version=version)
    wanted = copy.deepcopy(after)
    assert _changes.widened(before, after, OURS)["spec"] == both
    assert after == wanted, "what is wanted is left as it is"
    written = steps(before, after)
    if both == new:
        assert written == ([new], [])
    elif both == old:
        # Nothing is added: it is only taken away in the end
        assert written == ([], [new])
    else:
        assert written == ([both], [new])


def test_only_what_we_applied_is_kept() -> None:
    old = thing("DestinationRule", "x", {"host": "h", "subsets": SUBSETS})
    before = owned(old, "kubectl")
    after = thing("DestinationRule", "x", {"host": "h"})
    assert _changes.widened(before, after, OURS) == after


def port(number: int, name: str, **more: Any) -> Json:
    return {"name": name, "port": number, "protocol": "TCP", "targetPort": number, **more}


@pytest.mark.parametrize(
    ("later", "both"),
    [
        ([port(80, "a")], [port(80, "a")]),
        ([port(81, "b")], [port(81, "b"), port(80, "a")]),
        # One protocol more on a port is another entry
        ([{**port(80, "b"), "protocol": "UDP"}], [{**port(80, "b"), "protocol": "UDP"}, port(80, "a")]),
        # A name, or a nodePort, can't be in two entries
        ([port(81, "a")], [port(81, "a")]),
        ([port(80, "a", nodePort=30080)], [port(80, "a", nodePort=30080)]),
    ],
)
def test_ports_of_a_service(later: list[Json], both: list[Json]) -> None:
    keys = 'k:{"port":80,"protocol":"TCP"}'
    live = thing("Service", "s", {"ports": [port(80, "a"), port(443, "theirs")]}, version="v1", held=None)
    entry = {"manager": OURS, "operation": "Apply", "fieldsV1": {"f:spec": {"f:ports": {keys: {}}}}}
    live["metadata"]["managedFields"] = [entry]
    after = _changes.service_ports(live, later)
    assert after == {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"},
                     "spec": {"ports": later}}  # fmt: skip
    assert _changes.widened(live, after, OURS)["spec"] == {"ports": both}


def test_a_node_port_moves_at_once() -> None:
    keys = 'k:{"port":80,"protocol":"TCP"}'
    live = thing("Service", "s", {"ports": [port(80, "a", nodePort=30080)]}, version="v1", held=None)
    entry = {"manager": OURS, "operation": "Apply", "fieldsV1": {"f:spec": {"f:ports": {keys: {}}}}}
    live["metadata"]["managedFields"] = [entry]
    after = _changes.service_ports(live, [port(81, "b", nodePort=30080)])
    assert _changes.widened(live, after, OURS)["spec"] == {"ports": [port(81, "b", nodePort=30080)]}


def test_an_object_without_a_spec_gets_none() -> None:
    bare = {"apiVersion": ISTIO, "kind": "DestinationRule", "metadata": {"name": "x", "namespace": "shop"}}
    assert _changes.widened(owned(thing("DestinationRule", "x", {"host": "h"})), bare, OURS) == bare


def test_an_update_is_written_even_where_nothing_seems_to_change() -> None:
    """Only the server knows: its dry run has said so."""
    assert _changes.steps([Change("update", owned(ROUTE), ROUTE, OURS)]) == (
        [[Step(Change("update", owned(ROUTE), ROUTE, OURS), ROUTE)]],
        [],
    )


def test_unchanged_objects_take_no_step() -> None:
    assert _changes.steps([Change("unchanged", owned(ROUTE), ROUTE, OURS)]) == ([], [])


def test_all_that_we_own_given_up_is_one_step() -> None:
    """An apply without a spec gives everything up."""
    live = owned(thing("DestinationRule", "x", {"host": "h", "subsets": SUBSETS}))
    bare = {"apiVersion": ISTIO, "kind": "DestinationRule", "metadata": {"name": "x", "namespace": "shop"}}
    adding, removing = _changes.steps([Change("update", live, bare, OURS)])
    assert [step.manifest for group in [*adding, *removing] for step in group][-1] == bare
