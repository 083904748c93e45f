"""Benchmarks take an hour and a lab; that they start at all is seen here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["publishing", "findings", "vip"])
def test_it_starts(name: str) -> None:
    subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--help"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/.ansible/collections:{ROOT}/tests"},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


def test_each_has_a_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    started = {path.stem for path in (ROOT / "tests/bench").glob("*.py") if f"-m bench.{path.stem} " in makefile}
    assert started == {"publishing", "findings", "vip"}
