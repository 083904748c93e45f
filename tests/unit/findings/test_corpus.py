"""Every broken set-up has its finding and loses it by its cure; the sound ones have none."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _findings
from integration.broken import in_memory, setups
from integration.broken.setups import SetUp

BROKEN, SOUND = setups.load("broken"), setups.load("sound")
# Set-ups whose cure isn't in the cluster, or that one alone has
ELSEWHERE = {"record-to-another-address", "record-with-an-old-address", "record-missing"}


@pytest.mark.parametrize("setup", BROKEN, ids=lambda setup: setup.name)
def test_broken(setup: SetUp) -> None:
    found = in_memory.findings(setup, setup.broken)
    assert {one.code for one in found} == {setup.expect, *setup.also}
    assert {one.severity for one in found if one.code == setup.expect} == {setup.severity}
    meant = [one for one in found if one.code == setup.expect]
    if setup.listed and meant[0].exposure:
        names = [entry["name"] for entry in setup.broken.exposures]
        assert meant[0].exposure in names
        assert meant[0].field.startswith(f"exposures[{names.index(meant[0].exposure)}].")


@pytest.mark.parametrize("setup", [one for one in BROKEN if one.name not in ELSEWHERE], ids=lambda setup: setup.name)
def test_cured(setup: SetUp) -> None:
    assert setup.cured is not None
    assert in_memory.findings(setup, setup.cured) == []


@pytest.mark.parametrize("setup", SOUND, ids=lambda setup: setup.name)
def test_sound(setup: SetUp) -> None:
    assert in_memory.findings(setup, setup.broken) == []


def test_the_corpora_are_large_enough_and_say_where_they_come_from() -> None:
    assert len(BROKEN) >= 60
    assert len(SOUND) >= 20
    reported = [one for one in BROKEN if one.reports]
    assert len(reported) >= 30
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#[0-9]+", report) for one in reported for report in one.reports)
    assert all(one.about for one in (*BROKEN, *SOUND))


def test_what_is_found_reads_well() -> None:
    for setup in BROKEN:
        for one in in_memory.findings(setup, setup.broken):
            assert one.reason.endswith((".", "!")), one
            assert one.cure.endswith("."), one
            assert not re.search(r"`None`|\bNone[:/,]|[{}]|\[\]", one.reason + one.cure), one
            assert one.objects, one
            assert one.code in _findings.CODES


def test_every_code_is_documented_and_in_a_set_up() -> None:
    text = (pathlib.Path(__file__).parents[3] / "docs/findings.md").read_text()
    documented = [
        code
        for line in re.findall(r"^### (.+)$", text, re.MULTILINE)
        for code in re.findall(r"[a-z0-9-]+(?![^(]*\))", line)
    ]
    assert sorted(documented) == sorted(_findings.CODES)
    for entry in text.split("\n### ")[1:]:
        assert all(f"\n- {part}: " in entry for part in ("Client", "Why", "Cure")), entry
    used = {setup.expect for setup in BROKEN} | {code for setup in BROKEN for code in setup.also}
    # Told by Istio's own conditions, by comparing with what is there, or by what may not be read
    others = {"gateway-not-programmed", "route-not-accepted", "route-api-old", "name-taken", "port-taken",
              "node-port-taken", "envoy-filter", "unread"}  # fmt: skip
    assert set(_findings.CODES) - used == others
