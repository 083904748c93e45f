"""Who owns which field: read from managedFields as an API server records them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields

Json = dict[str, Any]
OURS = "edgeway/default"


def entry(fields: Json, manager: str = OURS, operation: str = "Apply", **more: Any) -> Json:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def live(spec: Json, *entries: Json, **more: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "managedFields": list(entries)},
            "spec": spec, **more}  # fmt: skip


def port(number: int) -> str:
    return "k:" + json.dumps({"port": number, "protocol": "TCP"})


LEAF: Json = {}
HTTP, TLS = {"port": 80, "protocol": "TCP", "targetPort": 8080}, {"port": 443, "protocol": "TCP", "targetPort": 8443}
OF_80 = {"f:spec": {"f:ports": {port(80): {".": LEAF, "f:port": LEAF, "f:protocol": LEAF, "f:targetPort": LEAF}}}}
FINALIZER = {"f:metadata": {"f:finalizers": {".": LEAF, 'v:"keep"': LEAF}}}


def wish(spec: Json, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", **metadata}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "there", "fields", "expected"),
    [
        # The same value, owned by us
        ({"type": "NodePort"}, {"type": "NodePort"}, {"f:spec": {"f:type": LEAF}}, True),
        ({"type": "NodePort"}, {"type": "ClusterIP"}, {"f:spec": {"f:type": LEAF}}, False),
        # Another's value may stay equal: we don't own it yet
        ({"type": "NodePort"}, {"type": "NodePort"}, {"f:metadata": {"f:labels": LEAF}}, False),
        # We own more than we want any longer
        ({"type": "NodePort"}, {"type": "NodePort", "x": 1}, {"f:spec": {"f:type": LEAF, "f:x": LEAF}}, False),
        # One entry of a keyed list, beside another's
        ({"ports": [HTTP]}, {"ports": [TLS, HTTP]}, OF_80, True),
        ({"ports": [{**HTTP, "targetPort": 1}]}, {"ports": [HTTP]}, OF_80, False),
        ({"ports": [HTTP]}, {"ports": [TLS]}, OF_80, False),
        ({"ports": [TLS]}, {"ports": [HTTP, TLS]}, OF_80, False),
        ({"ports": [HTTP, TLS]}, {"ports": [HTTP, TLS]}, OF_80, False),
        # What was a list isn't one any more, or the other way round
        ({"ports": [HTTP]}, {"ports": "none"}, OF_80, False),
        ({"type": {"a": 1}}, {"type": "x"}, {"f:spec": {"f:type": {"f:a": LEAF}}}, False),
        ({"type": "x"}, {"type": {"a": 1}}, {"f:spec": {"f:type": {"f:a": LEAF}}}, False),
    ],
)
def test_whether_an_apply_would_change_anything(spec: Json, there: Json, fields: Json, expected: bool) -> None:
    assert _fields.settled(wish(spec), live(there, entry(fields)), OURS) is expected


@pytest.mark.parametrize(
    ("wanted", "there", "expected"),
    [(["keep"], ["keep", "theirs"], True), (["keep"], ["theirs"], False), (["keep", "more"], ["keep", "more"], False)],
)
def test_members_of_a_set(wanted: list[str], there: list[str], expected: bool) -> None:
    found = live({}, entry(FINALIZER))
    found["metadata"]["finalizers"] = there
    want = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "finalizers": wanted}}
    assert _fields.settled(want, found, OURS) is expected


@pytest.mark.parametrize(
    "other",
    [entry(OF_80, "someone"), entry(OF_80, operation="Update"), entry(OF_80, subresource="status")],
    ids=["another manager", "an update", "a subresource"],
)
def test_what_somebody_else_or_another_way_wrote_is_not_ours(other: Json) -> None:
    found = live({"ports": [HTTP]}, other)
    assert _fields.owned(found, OURS) is None
    assert not _fields.settled(wish({"ports": [HTTP]}), found, OURS)
    assert _fields.mine(found, OURS) == {}


def test_mine_is_only_what_we_applied() -> None:
    found = live({"type": "NodePort", "ports": [TLS, HTTP], "x": 1}, entry({**OF_80, **FINALIZER}))
    found["metadata"] |= {"finalizers": ["theirs", "keep"], "labels": {"a": "b"}}
    assert _fields.mine(found, OURS) == {"spec": {"ports": [HTTP]}, "metadata": {"finalizers": ["keep"]}}


def test_mine_passes_over_what_is_gone_by_now() -> None:
    fields = {"f:spec": {"f:gone": LEAF, "f:type": {"f:a": LEAF}, **OF_80["f:spec"]}}
    assert _fields.mine(live({"type": "x", "ports": [TLS]}, entry(fields)), OURS) == {
        "spec": {"type": "x", "ports": []}
    }


def test_owners_of_a_port_in_the_servers_order() -> None:
    by_name = {"f:spec": {"f:ports": {port(80): {"f:name": LEAF}, ".": LEAF}}}
    udp = {"f:spec": {"f:ports": {"k:" + json.dumps({"port": 80, "protocol": "UDP"}): {"f:port": LEAF}}}}
    found = live({"ports": [HTTP]}, entry(by_name, "someone"), entry(OF_80), entry(udp, "dns"), entry(OF_80, "someone"))
    assert _fields.port_owners(found, 80) == ["someone", OURS]
    assert _fields.port_owners(found, 80, field="targetPort") == [OURS, "someone"]
    assert _fields.port_owners(found, 80, "UDP") == ["dns"]
    assert _fields.port_owners(found, 443) == []


def secret(**data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "uid": "1"}, "data": data}


def test_a_difference_of_secrets_shows_which_keys_changed_and_no_value() -> None:
    before, after = _fields.quiet_pair(secret(crt="YQ==", key="Yg=="), secret(crt="YQ==", key="Yw==", ca="ZA=="))
    assert before["data"] == {"crt": "hidden", "key": "hidden"}
    assert after["data"] == {"ca": "hidden", "crt": "hidden", "key": "hidden, changed"}
    assert "uid" not in after["metadata"]
    made = _fields.quiet_pair(None, secret(key="Yg=="))
    assert made == ({}, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"key": "hidden"}})
    emptied = _fields.quiet_pair(secret(key="Yg=="), {"kind": "Secret", "metadata": {"name": "a"}})
    assert "data" not in emptied[1]


def test_two_states_are_the_same_whatever_the_server_counts() -> None:
    one = live({"type": "NodePort"}, entry(OF_80, time="1"), status={"a": 1})
    two = live({"type": "NodePort"}, entry(OF_80, time="2"), status={"a": 2})
    two["metadata"] |= {"resourceVersion": "9", "generation": 4}
    assert _fields.same_object(one, two)
    assert _fields.same_stored(one, two)
    taken = live({"type": "NodePort"}, entry(OF_80, "someone"))
    assert _fields.same_object(one, taken)
    assert not _fields.same_stored(one, taken)
    assert not _fields.same_object(one, live({"type": "ClusterIP"}))


def test_what_kubectl_noted_of_a_secret_is_hidden_too() -> None:
    note = "kubectl.kubernetes.io/last-applied-configuration"
    metadata = {"name": "s", "annotations": {note: '{"data":{"key":"c2VjcmV0"}}', "a": "b"}}
    secret = {"kind": "Secret", "metadata": metadata, "data": {"key": "c2VjcmV0"}}
    shown = _fields.quiet(secret)
    assert "c2VjcmV0" not in str(shown)
    assert shown["metadata"]["annotations"]["a"] == "b"
    assert metadata["annotations"][note] != "hidden", "what is shown is a copy"
