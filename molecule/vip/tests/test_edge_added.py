"""An edge joins: the others are told, and the VIP stays."""

import pathlib
from collections.abc import Iterator

import pytest
from integration.vip import suite
from outside.lab import Lab
from outside.runs import playbook

JOINING = 0  # the preferred holder: if the VIP moved at all, it would move there


@pytest.fixture
def without(lab: Lab) -> Iterator[pathlib.Path]:
    """Two edges hold the VIP, and the third one is a stranger."""
    for path in suite.fewer_edges(lab, lab.edges[JOINING]):
        playbook("playbooks/vip.yml", "--limit", f"localhost,{lab.edges[JOINING]}", keepalived_state="absent")
        playbook("playbooks/vip.yml", inventory=path)
        yield path
        playbook("playbooks/vip.yml")


def test_it_does_not_join_behind_the_holders_back(lab: Lab, without: pathlib.Path) -> None:
    """The holder's adverts don't reach it yet, so it would take the VIP as well."""
    before = lab.holders()
    refused = playbook("playbooks/vip.yml", "--limit", f"localhost,{lab.edges[JOINING]}", check=False)
    assert refused.status != 0
    assert "which isn't in this run and doesn't know" in refused.line
    assert lab.holders() == before


def test_the_vip_stays(lab: Lab, without: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.edges[JOINING] not in lab.holders()
    result = suite.run(
        lab, capsys, "edge-added", suite.played(lambda: playbook("playbooks/vip.yml")), edges=lab.edges[JOINING + 1 :]
    )
    assert (result.none, result.several, result.lost) == (0, 0, 0)
    assert result.before == result.fault.holder == result.healing.holder
    assert lab.holders() == [result.before]
