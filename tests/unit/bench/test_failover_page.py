"""docs/failover.md is renewed part by part."""

import pytest
from bench import vip


@pytest.mark.parametrize("before", ["", "# Another head\n\nOf before.\n"])
def test_a_part_measured_again_replaces_its_own_section(before: str) -> None:
    page = vip.page("busy", "| first |", before)
    assert page.startswith(vip.HEAD)
    assert "Of before." not in page
    page = vip.page("tries", "| 1 |\n\n| 2 |", page)
    page = vip.page("latency", "| 3 |", page)
    again = vip.page("busy", "| second |", page)
    assert again == page.replace("| first |", "| second |")
    titles = [line.removeprefix("## ") for line in again.splitlines() if line.startswith("## ")]
    assert titles == ["The gap", "False failovers", "What the VIP costs"]
    assert again.count("Measured on ") == 3
