"""A name's addresses: the hosts file as clients use it, then DNS; each failure by its name."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _requests
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Dns
from unit.trace import names

NOWHERE = "127.0.0.1:9"


def test_both_families_and_what_the_name_is_an_alias_of() -> None:
    records = ("www.example. CNAME edge.example.", "edge.example. A 192.0.2.1", "edge.example. AAAA 2001:db8::1")
    with names.serving(*records) as server:
        found = _requests.resolve("www.example", [server])
    assert found == Dns(("192.0.2.1", "2001:db8::1"), "", server, chosen=True, aliases=("edge.example",))


@pytest.mark.parametrize(
    ("code", "error"), [("NXDOMAIN", "nxdomain"), ("SERVFAIL", "servfail"), ("REFUSED", "servfail"), ("", "nodata")]
)
def test_errors(code: str, error: str) -> None:
    with names.serving(**({"web__example": code} if code else {})) as server:
        assert _requests.resolve("web.example", [server], 1.0) == Dns(error=error, server=server, chosen=True)


def test_no_answer_in_time() -> None:
    with names.serving(web__example="SILENT") as server:
        assert _requests.resolve("web.example", [server], 0.2).error == "timeout"


def test_one_family_is_enough() -> None:
    with names.serving("web.example. AAAA 2001:db8::1") as server:
        found = _requests.resolve("web.example", [server])
    assert (found.addresses, found.error) == (("2001:db8::1",), "")


def test_the_hosts_file_comes_first_unless_a_server_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# 192.0.2.9 web.example\n192.0.2.7 shop.example web.example # ours\n::1 localhost\n")
    monkeypatch.setattr(_requests, "_HOSTS", hosts)
    assert _requests.resolve("web.example") == Dns(("192.0.2.7",), server=str(hosts))
    with names.serving("web.example. A 192.0.2.1") as server:
        assert _requests.resolve("web.example", [server]).addresses == ("192.0.2.1",)


def test_a_machine_without_dns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import dns.resolver  # noqa: PLC0415

    monkeypatch.setattr(_requests, "_HOSTS", tmp_path / "none")
    empty = tmp_path / "resolv.conf"
    empty.write_text("")
    made = dns.resolver.Resolver
    monkeypatch.setattr(dns.resolver, "Resolver", lambda configure: made(str(empty), configure=configure))
    assert _requests.resolve("web.example").error == "no DNS server is configured on this machine"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("dns"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert _requests.resolve("web.example", [NOWHERE]).error == "the Python package dnspython is missing"
