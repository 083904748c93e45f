"""Before anything is installed, every playbook can say what it would do, and does nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from outside.lab import Lab
from outside.runs import playbook

# What comes and goes by itself, and what its owners write all the time
MOVING = ("events", "leases", "endpointslices", "pods", "replicasets", "nodes", "apiservices")
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


def state(lab: Lab) -> dict[str, str]:
    """Every object's version, and every file of the edges that a playbook could write."""
    listed = lab.kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = ",".join(name for name in listed if name.partition(".")[0] not in MOVING)
    found = json.loads(lab.kubectl("get", kinds, "--all-namespaces", "--output=json"))["items"]
    return {
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one["metadata"][
            "resourceVersion"
        ]
        for one in found
    } | {name: lab.host(name).run(FILES).stdout for name in lab.edges}


@pytest.fixture(scope="module", autouse=True)
def unchanged(lab: Lab) -> Iterator[None]:
    before = state(lab)
    yield
    assert state(lab) == before


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_check_mode_ends_without_error(name: str) -> None:
    playbook(f"playbooks/{name}.yml", "--check", "--diff", **PLAYBOOKS[name])
