"""A list is edited and run again: what changed is changed, what left is removed, and nothing else is touched."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
from outside import clients
from outside.lab import ROOT, Lab, accepts
from outside.runs import Ended, ExposureSet
from outside.state import differing, state

CERTIFICATES = str(ROOT / ".lab/tls")


@pytest.fixture(scope="module")
def bare(lab: Lab, api: str) -> dict[str, Any]:
    """The cluster before anything of the set is there."""
    return state(lab)


@pytest.fixture
def published(bare: dict[str, Any], publish: Callable[..., Ended]) -> Callable[..., Ended]:
    """The list of the first day is there."""
    run = functools.partial(publish, certificates=CERTIFICATES)
    run("before")
    return run


def test_a_second_run_changes_nothing(lab: Lab, published: Callable[..., Ended]) -> None:
    before = state(lab)
    assert published("before").changed == 0
    assert differing(before, state(lab)) == set()


def test_add_change_and_remove(lab: Lab, published: Callable[..., Ended], set_name: str) -> None:
    for name in ("stays.example", "changes.example"):
        assert clients.http_get(lab.vip, name).status == 200, name
    assert clients.https_get(lab.vip, "leaves.echo.example", ca=lab.authority).status == 200
    assert b"StatusCode=200" in clients.tcp(lab.vip, 9390, b"hello\n", enough=20)
    published("after")
    assert clients.http_get(lab.vip, "stays.example").status == 200
    assert clients.http_get(lab.vip, "comes.example").status == 200
    for name in ("changes.example", "www.changes.example"):
        assert clients.http_get(lab.vip, name, "/api/x").status == 200, name
        assert clients.http_get(lab.vip, name, "/other").status == 404, name
    assert b"StatusCode=200" in clients.tcp(lab.vip, 9391, b"hello\n", enough=20)
    assert not accepts(lab.vip, 9390)
    with pytest.raises(OSError, match=r"reset|EOF|closed"):
        clients.tls_certificate(lab.vip, "leaves.echo.example")
    assert lab.ports().get(9391) == 31391
    assert 9390 not in lab.ports()
    mine = f"--selector=edgeway.istio/set={set_name}"
    assert lab.objects("secret", "--all-namespaces", mine) == [], "the certificate left with its exposure"
    assert lab.objects("destinationrule", "--namespace=shop", mine) == [], "the other namespace isn't forgotten"


def test_check_mode_tells_what_the_run_does(lab: Lab, published: Callable[..., Ended]) -> None:
    before = state(lab)
    would = published("after", "--check", "--diff")
    assert differing(before, state(lab)) == set()
    did = published("after", "--diff")
    # In any order: edges answer as they like
    assert sorted(would.said.splitlines()) == sorted(did.said.splitlines())
    told = set(re.findall(r"^\+\+\+ after: (\S+ \S+)$", did.said, re.MULTILINE))
    written = {re.sub(r"\.\S+", "", name, count=1) for name in differing(before, state(lab))}
    # The set's own record of where it has written is no concern of a reader
    assert told == {name for name in written if not name.startswith("ConfigMap istio-system/edgeway-set-")}


def test_everything_of_ours_goes_and_nothing_else(
    lab: Lab, bare: dict[str, Any], published: Callable[..., Ended], set_name: str, api: str
) -> None:
    others = state(lab)
    assert {name for name in bare if others.get(name) != bare[name]} == {"Service istio-system/istio-ingressgateway"}
    ExposureSet(lab, set_name, api).remove()
    assert differing(bare, state(lab)) == set()
