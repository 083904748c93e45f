"""What holds for every list, against an API server in memory: it settles, order means nothing, others' things stay."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import CONNECTIONS, Cluster
from ansible_collections.edgeway.istio.plugins.module_utils._publish import Options, Result, publish
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_api import Server
from memory_api.sample import installed

Json = dict[str, Any]

SOME = settings(max_examples=int(os.environ.get("EDGEWAY_EXAMPLES", "10")), deadline=None)
APIS = pytest.mark.parametrize("api", ["istio", "gateway_api"])
PINNED = 31_000
ISTIO = "networking.istio.io/v1"
FOREIGN = {ISTIO: ("VirtualService", "Gateway", "DestinationRule"), "v1": ("Secret",)}
MADE_OF_OURS = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: "default"}
"""The labels of what a controller made of an object of ours, beside its owner."""


class Fresh:
    """The server, as it was in the beginning whenever it is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._first = copy.deepcopy(server.objects)
        self.cluster = Cluster(urllib3.PoolManager(maxsize=CONNECTIONS), server.url)

    def server(self) -> Server:
        self._server.objects = copy.deepcopy(self._first)
        return self._server

    def publish(self, exposures: list[Json], api: str, *, set_name: str = "default", check: bool = False) -> Result:
        options = Options(set_name=set_name, api=api, check=check, wait=False, validate=False)
        return publish(exposures, options, self.cluster)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Fresh]:
    with installed() as server:
        yield Fresh(server)


@st.composite
def an_exposure(draw: st.DrawFn, name: str, number: int) -> Json:
    """One that gets along with those of other numbers."""
    entry: Json = {
        "name": name,
        "namespace": draw(st.sampled_from(["shop", "db"])),
        "protocol": draw(st.sampled_from(["HTTP", "HTTP", "HTTPS", "TLS", "TCP"])),
        "backend": {"service": draw(st.sampled_from(["shop", "mysql", f"own-{number}"])), "port": 80},
    }
    if entry["protocol"] == "TCP":
        entry["port"] = 20_000 + number
    else:
        # The Gateway API's listener of one certificate has one hostname, which may be a wildcard, of this number alone
        entry["hostnames"] = [f"{part}.n{number}.example" for part in draw(st.sampled_from(["a", "ab", "b"]))]
    if entry["protocol"] == "HTTPS":
        entry |= {"tls": {"secret": f"cert-{number}"}, "redirect_http": draw(st.booleans())}
    if entry["protocol"] == "HTTP":
        entry["port"] = draw(st.sampled_from([80, 80, 8080 + number]))
    # A host has one policy
    if entry["backend"]["service"] == f"own-{number}" and draw(st.booleans()):
        entry["traffic"] = {"connect_timeout": f"{number + 1}s"}
    if entry.get("port", 80) != 80:
        # A nodePort is one Service's: it can't move to another within one change
        node_port = PINNED + number
        if draw(st.booleans()):
            entry |= {"expose": "service", "service_type": "NodePort"}
            node_port += 100 * (1 + 2 * name.startswith("x") + (entry["namespace"] == "shop"))
        if draw(st.booleans()):
            entry["node_port"] = node_port
    return entry


@st.composite
def a_list(draw: st.DrawFn, first: int = 0) -> list[Json]:
    numbers = draw(st.lists(st.integers(first, first + 5), unique=True, max_size=4))
    return [draw(an_exposure(f"{draw(st.sampled_from('xy'))}-{number}", number)) for number in numbers]


@st.composite
def a_foreign(draw: st.DrawFn) -> Json:
    """An object that isn't of the set, whatever it is labelled with."""
    version = draw(st.sampled_from(sorted(FOREIGN)))
    labels = draw(
        st.sampled_from(
            [
                {},
                {_kinds.MANAGED_BY: "Helm", _kinds.SET_LABEL: "default"},
                {_kinds.SET_LABEL: "default"},
                {_kinds.MANAGED_BY: "edgeway"},
                {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: "defaults"},
                {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: "default.service"},
                MADE_OF_OURS,
            ]
        )
    )
    metadata: Json = {
        "name": draw(st.sampled_from(["default-theirs", "edgeway", "x-7", "y-7"])),
        "namespace": draw(st.sampled_from(["shop", "db", "istio-system"])),
    }
    if labels:
        metadata["labels"] = labels
    if labels == MADE_OF_OURS:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Gateway", "name": "x", "uid": "1"}]
    return {"apiVersion": version, "kind": draw(st.sampled_from(FOREIGN[version])), "metadata": metadata}


@APIS
@SOME
@given(before=a_list(), wanted=a_list())
def test_what_was_applied_needs_nothing_more(fresh: Fresh, api: str, before: list[Json], wanted: list[Json]) -> None:
    server = fresh.server()
    fresh.publish(before, api)
    fresh.publish(wanted, api)
    again = fresh.publish(wanted, api, check=True)
    assert [change.summary() for change in again.changes if change.verb != "unchanged"] == []
    assert not again.diff
    left = {key for key, item in server.objects.items() if _kinds.holder(item) == "default"}
    inventory = {("", "ConfigMap", "istio-system", "edgeway-set-default")}
    assert left - inventory == {_kinds.key_of(manifest) for manifest in again.manifests}


def without_what_was_free(state: dict[Any, Json]) -> dict[Any, Json]:
    """Services that are made at once get the addresses and nodePorts that are free just then."""
    for key, item in state.items():
        if key[1] == "Service":
            for name in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
                item["spec"].pop(name, None)
            for port in item["spec"]["ports"]:
                if port.get("nodePort", 0) < PINNED:
                    port.pop("nodePort", None)
    return state


@APIS
@SOME
@given(wanted=a_list(), seed=st.integers())
def test_order_means_nothing(fresh: Fresh, api: str, wanted: list[Json], seed: int) -> None:
    other = random.Random(seed).sample(wanted, len(wanted))  # noqa: S311 - repeatable, not secret
    server = fresh.server()
    fresh.publish(wanted, api)
    state = without_what_was_free(server.state())
    assert not fresh.publish(other, api).changed
    server = fresh.server()
    fresh.publish(other, api)
    assert without_what_was_free(server.state()) == state


@APIS
@SOME
@given(before=a_list(), wanted=a_list(), theirs=a_list(first=10), foreign=st.lists(a_foreign(), max_size=6))
def test_pruning_never_names_what_is_not_of_the_set(
    fresh: Fresh, api: str, before: list[Json], wanted: list[Json], theirs: list[Json], foreign: list[Json]
) -> None:
    server = fresh.server()
    for manifest in {_kinds.key_of(manifest): manifest for manifest in foreign}.values():
        server.add(manifest)
    fresh.publish(theirs, api, set_name="defaults")
    outside = server.state()
    deleted = {
        (change.kind, change.namespace, change.name)
        for exposures in (before, wanted, [])
        for change in fresh.publish(exposures, api).changes
        if change.verb == "delete"
    }
    assert not deleted & {key[1:] for key in outside}
    # An empty list keeps the set's inventory, which says that there is nothing; all else is as before
    after = server.state()
    after.pop(("", "ConfigMap", "istio-system", "edgeway-set-default"), None)
    assert after == outside
