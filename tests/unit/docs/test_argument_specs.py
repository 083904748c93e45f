"""Every role's defaults and its argument_specs say the same."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[3] / "roles").iterdir() if path.is_dir())


@functools.cache
def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) or {}


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    return request.param


def options(role: Path) -> dict[str, Any]:
    return read(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})


def test_there_are_roles() -> None:
    assert {path.name for path in ROLES} >= {"istio", "gateway_ports", "keepalived", "exposures"}


def test_defaults_are_the_same_both_ways(role: Path) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert read(role / "defaults/main.yml") == specified


def test_options_are_named_after_the_role(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


def test_every_option_has_a_type_and_a_description(role: Path) -> None:
    def bare(at: str, found: dict[str, Any]) -> list[str]:
        missing = []
        for name, option in found.items():
            if not option.get("description") or "type" not in option:
                missing.append(f"{at}{name}")
            missing += bare(f"{at}{name}.", option.get("options", {}))
        return missing

    assert bare("", options(role)) == []


def test_every_entry_point_has_its_tasks(role: Path) -> None:
    for entry_point in read(role / "meta/argument_specs.yml")["argument_specs"]:
        assert (role / f"tasks/{entry_point}.yml").is_file()


def test_other_entry_points_take_the_same_options(role: Path) -> None:
    for entry_point, spec in read(role / "meta/argument_specs.yml")["argument_specs"].items():
        for name, option in spec.get("options", {}).items():
            assert option == options(role)[name], f"{entry_point}: {name}"


def test_a_list_is_tried_as_it_will_be_published() -> None:
    (main,), (preflight,) = (
        [task["edgeway.istio.exposures"] for task in read(path) if "edgeway.istio.exposures" in task]
        for path in (ROLES[0].parent / "exposures/tasks/main.yml", ROLES[0].parent / "exposures/tasks/preflight.yml")
    )
    different = {name for name in main if preflight.get(name) != main[name]}
    assert different == {"state", "strict", "edges", "path", "wait", "wait_timeout"}
