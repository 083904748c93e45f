"""Every wrong list is refused for exactly the reasons that the table gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse
from unit.model.lists import CERTIFICATE, KEY, spelt_out

CASES: list[dict[str, Any]] = _yaml.documents(Path(__file__).with_name("wrong_lists.yml").read_text())[0]
CURES: dict[str, list[str]] = _yaml.documents(Path(__file__).with_name("cures.yml").read_text())[0]


def refused(case: dict[str, Any]) -> ModelError:
    options = {"api": case.get("api", "istio"), "set_name": case.get("set", "default"), "gateway": case.get("gateway")}
    with pytest.raises(ModelError) as caught:
        parse(spelt_out(case), **options)
    return caught.value


def test_there_are_enough() -> None:
    assert len(CASES) >= 150
    assert len({case["about"] for case in CASES}) == len(CASES)
    assert CURES.keys() == {case["about"] for case in CASES}
    assert all(cure for cures in CURES.values() for cure in cures)


def whose(case: dict[str, Any], path: str) -> str:
    """Return the name of the exposure that a path leads to, where it has a sound one."""
    found = re.match(r"exposures\[([0-9]+)\]", path)
    entry = spelt_out(case)[int(found[1])] if found else None
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and re.fullmatch("[a-z0-9-]{1,62}[a-z0-9]|[a-z0-9]", name) else ""


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_wrong_list(case: dict[str, Any]) -> None:
    error = refused(case)
    assert [f"{problem.path}: {problem.message}" for problem in error.problems] == case["errors"]
    assert [problem.cure for problem in error.problems] == CURES[case["about"]]
    assert [problem.exposure for problem in error.problems] == [whose(case, one.path) for one in error.problems]
    assert all(str(problem) in str(error) for problem in error.problems)


@pytest.mark.parametrize("field", ["secret", "mode", "min_version", "certificate", "private_key", "namespace"])
@pytest.mark.parametrize("content", [KEY, f"{CERTIFICATE}{KEY}", KEY.replace("BEGIN", "BEGINN")])
def test_a_key_in_the_wrong_field_is_never_shown(field: str, content: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(spelt_out({"https": {"tls": {field: content, "unknown": content}}}))
    assert "MIIE" not in str(caught.value)


def test_what_is_said_in_place_of_a_key() -> None:
    with pytest.raises(ModelError) as caught:
        parse(spelt_out({"https": {"tls": {"secret": KEY}}}))
    assert [one.message for one in caught.value.problems] == ["`(a private key)` is not the name of a Secret"]
