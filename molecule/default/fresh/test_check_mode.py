"""Before anything is installed, every playbook can say what it would do, and does nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from outside.lab import Lab
from outside.runs import playbook
from outside.state import differing, state

FILES = "find /etc /usr/libexec /var/lib/dpkg /var/lib/keepalived-vip -xdev -printf '%p %T@\n' 2>/dev/null | sort"

PLAYBOOKS: dict[str, dict[str, Any]] = {
    "site": {},
    "istio": {},
    "vip": {},
    "expose": {},
    "vip_status": {},
    "drain": {"edge": "node2"},
    "trace": {"exposure": "web"},
    "report": {"report": "/nowhere/report.html"},
    "upgrade": {"istio_revision": "next", "edgeway_upgrade_from": ""},
    "uninstall": {},
}


def found(lab: Lab) -> dict[str, Any]:
    """Every object, and every file of the edges that a playbook could write."""
    return state(lab) | {name: lab.host(name).run(FILES).stdout for name in lab.edges}


@pytest.fixture(scope="module", autouse=True)
def unchanged(lab: Lab) -> Iterator[None]:
    before = found(lab)
    yield
    assert differing(found(lab), before) == set()


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_check_mode_ends_without_error(name: str) -> None:
    playbook(f"playbooks/{name}.yml", "--check", "--diff", **PLAYBOOKS[name])
