"""Figures and names in the pages that the code has as well."""

from __future__ import annotations

import re

import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp
from unit.docs.pages import ROOT

VIP = (ROOT / "docs/vip.md").read_text()


def test_the_points_by_which_an_edge_holds_the_vip() -> None:
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \|", VIP, re.MULTILINE))
    rows_preempt = dict(re.findall(r"^\| (.*?) \| .*? \| (.*?) \|", VIP, re.MULTILINE))
    for found, preempt in ((rows, False), (rows_preempt, True)):
        first, last = (_vrrp.weights(position, 3, preempt=preempt) for position in (0, 2))
        assert found["first to last edge"] == f"{first.priority} to {last.priority}"
        assert found["the holder gains"] == str(first.held)
        assert found["a drained edge, or one about to stop, loses"] == str(first.drained)
        assert found["a failing check takes off"].startswith(str(first.check))
    settling = "an edge that has just started loses, for `keepalived_preempt_delay`"
    assert rows_preempt[settling] == str(_vrrp.weights(0, 3, preempt=True).settling)


def test_how_long_a_backup_waits() -> None:
    (defaults,) = yaml.safe_load_all((ROOT / "roles/keepalived/defaults/main.yml").read_text())
    advert = defaults["keepalived_advert_interval"]
    backup = _vrrp.weights(1, 3, preempt=False).priority
    said = f"{1000 * _vrrp.failover_limit(advert, backup):.0f} ms"
    assert f"default of {advert} s, {said} after the holder's last advert" in VIP
    assert f"a backup waits {said}" in (ROOT / "docs/comparison.md").read_text()
    assert f"keepalived_handover` seconds ({defaults['keepalived_handover']})" in VIP


def test_every_hop_of_a_trace_is_explained() -> None:
    """In the order in which they are shown."""
    text = (ROOT / "docs/trace.md").read_text()
    table = text.partition("\n## The hops\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`([a-z_]+)`", row) for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)]
    assert [name for row in rows for name in row] == list(_trace.HOPS)
    symptoms = text.partition("\n## By symptom\n")[2].partition("\n## ")[0]
    hops = re.findall(r"^\| .*? \| (.*) \|$", symptoms, re.MULTILINE)
    assert hops
    assert {name for cell in hops for name in re.findall(r"`([a-z_]+)`", cell)} <= set(_trace.HOPS)


def written(role: str) -> dict[str, str]:
    """The files that a role writes on an edge, with their modes."""
    variables = yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text())
    files = variables[f"{role}_files"]
    entries = [one for group in files.values() for one in group] if isinstance(files, dict) else files

    def path(text: str) -> str:
        return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(variables[found[1]]), text)

    return {path(one["path"]): one.get("mode", "0644") for one in entries}


def test_modes_of_the_files_on_edges() -> None:
    files = written("keepalived") | written("haproxy")
    text = (ROOT / "docs/security.md").read_text()
    table = text.partition("\n## Files on the edges\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)`[^|]* \| root, (0\d+) \|", table, re.MULTILINE)
    assert len(rows) == 5
    for path, mode in rows:
        meant = {name: its for name, its in files.items() if name.startswith(path)}
        assert meant, path
        assert set(meant.values()) == {mode}, path
    # Nothing is written that others could change
    assert all(int(mode, 8) & 0o022 == 0 for mode in files.values())
