"""The report page in a real browser, at 3 and at 500 exposures: what it draws, what a search leaves, and no network."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _report
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from jinja2 import Environment

Json = dict[str, Any]

TEMPLATE = Path(__file__).parents[3] / "playbooks/templates/report.html.j2"
CHROMIUM = shutil.which("chromium")

browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def entry(number: int) -> Json:
    name, namespace = f"app-{number:03}", f"team-{number % 20:02}"
    known: Json = {"name": name, "namespace": namespace, "backend": {"service": name, "port": 80}}
    if number % 10 == 3:
        return {**known, "protocol": "TCP", "port": 20_000 + number}
    return {**known, "protocol": "HTTP", "hostnames": [f"{name}.example"]}


def rendered(count: int) -> str:
    finding = {"code": "x", "severity": "error", "exposure": "team-01/app-001", "reason": "</script><b>bold</b>"}
    data = _report.page(parse([entry(number) for number in range(count)]), vips=["192.0.2.100"], findings=[finding])
    environment = Environment(autoescape=False)  # noqa: S701 - as Ansible renders it
    environment.filters["to_json"] = json.dumps
    return environment.from_string(TEMPLATE.read_text()).render(edgeway_map=data)


def drawn(tmp_path: Path, count: int, search: str = "") -> str:
    """The page's elements once its script has run."""
    page = tmp_path / "report.html"
    page.write_text(rendered(count))
    ended = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         f"{page.as_uri()}{'#' + search if search else ''}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return ended.stdout


def shown(page: str) -> int:
    match = re.search(r'data-shown="(\d+)"', page)
    assert match, page[:500]
    return int(match[1])


def boxes(page: str) -> list[str]:
    svg = page.partition("<svg")[2].partition("</svg>")[0]
    return [html.unescape(title).partition("\n")[0] for title in re.findall(r"<title>(.*?)</title>", svg, re.DOTALL)]


@pytest.mark.parametrize("count", [3, 500])
def test_nothing_is_loaded_from_elsewhere(count: int) -> None:
    page = rendered(count)
    assert not re.search(r"""(src|href)\s*=|@import|url\(|fetch\(|https?://(?!\S*example|\$)""", page)
    assert "default-src 'none'" in page


def test_data_can_not_end_the_script() -> None:
    assert rendered(3).count("</script>") == 2


@browser
def test_three_are_drawn_one_by_one(tmp_path: Path) -> None:
    page = drawn(tmp_path, 3)
    assert shown(page) == 3
    found = boxes(page)
    assert found[0] == "192.0.2.100"
    assert {"istio-ingressgateway", "port 80", "team-00/app-000", "team-01/app-001", "team-02/app-002"} <= set(found)
    assert "<b>bold</b>" not in page


@browser
def test_five_hundred_are_drawn_by_namespace(tmp_path: Path) -> None:
    page = drawn(tmp_path, 500)
    assert shown(page) == 500
    found = boxes(page)
    assert sum(title.startswith("namespace ") for title in found) == 20
    assert "50 other ports" in found
    assert len(found) < 60


@browser
@pytest.mark.parametrize(
    ("search", "count"), [("app-123", 1), ("team-07", 25), ("team-03%20tcp", 25), ("nothing-like-it", 0)]
)
def test_a_search_leaves_what_fits(tmp_path: Path, search: str, count: int) -> None:
    page = drawn(tmp_path, 500, search)
    assert shown(page) == count
    assert sum(title.startswith("team-") for title in boxes(page)) == count * 2
