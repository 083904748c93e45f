"""A trace without an API server: what can be seen from outside is still there."""

import socket
import time

import pytest
import urllib3
from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking


@pytest.fixture
def away() -> Cluster:
    """An address that nothing listens on any more."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return Cluster(urllib3.PoolManager(), f"http://127.0.0.1:{port}")


def test_the_api_server_is_away(away: Cluster) -> None:
    target = _facts.chosen("http://web.example/", None, [])
    edge = _facts.Edge("node1", answered=True, held=frozenset({"127.0.0.1"}))
    began = time.monotonic()
    facts = _looking.look(away, target, _looking.Options(vips=("127.0.0.1",), edges=(edge,), dns=False, timeout=0.5))
    assert time.monotonic() - began < 5
    states = {hop.name: hop.state for hop in _trace.trace(facts)}
    assert states["vip"] == "ok"
    assert {states[name] for name in ("service", "pod", "listener", "backend")} == {"unknown"}
    assert "doesn't answer" in facts.snapshot.refused["Service"]


@pytest.mark.parametrize("url", ["ftp://a/", "http:///x", "tcp://a", "http://a:0/", "http://a:x/", "web.example"])
def test_what_can_not_be_traced(url: str) -> None:
    with pytest.raises(_facts.TargetError):
        _facts.chosen(url, None, [])


def test_an_exposure_that_is_not_in_the_list() -> None:
    with pytest.raises(_facts.TargetError, match="There is no exposure 'x'"):
        _facts.chosen(None, "x", [])


def test_a_url_knows_its_exposure() -> None:
    exposure = {
        "name": "web", "namespace": "web", "protocol": "HTTP", "hostnames": ["*.example"],
        "backend": {"service": "echo", "port": 80},
    }  # fmt: skip
    target = _facts.chosen("http://a.example/x", None, [exposure])
    assert (target.host, target.path) == ("a.example", "/x")
    assert target.backends == (_facts.Wanted("web/echo", 80),)
    assert _facts.chosen("http://a.test/x", None, [exposure]).backends == ()
