"""The module exposures keeps a set's objects as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from memory_api import Server
from memory_api.sample import HTTP, TCP, verbs
from unit.model.lists import CERTIFICATE, KEY

Json = dict[str, Any]
Run = Callable[..., Json]

OTHER = {**HTTP, "name": "other", "hostnames": ["other.example"]}
NAMES = {
    "shop.destinationrule.default-shop.yml", "istio-system.gateway.shop-shop.yml", "shop.virtualservice.shop.yml",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "manifests"


@pytest.fixture
def keep(run: Run, folder: Path) -> Run:
    def keep_files(*exposures: Json, **options: Any) -> Json:
        return run("exposures", exposures=list(exposures), state="rendered", path=str(folder), **options)

    return keep_files


def held(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()} if folder.exists() else {}


def test_one_file_for_each_object(server: Server, keep: Run, folder: Path) -> None:
    would = keep(HTTP, check=True)
    assert held(folder) == {}
    did = keep(HTTP)
    assert would == did
    assert set(verbs(did).values()) == {"create"}
    assert len(did["diff"]) == 3
    assert held(folder).keys() == NAMES
    assert [yaml.safe_load(text) for _name, text in sorted(held(folder).items())] == sorted(
        did["manifests"], key=lambda item: item["metadata"]["namespace"] + item["kind"]
    )
    assert server.log == []
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = keep(HTTP)
    assert (again["changed"], again["diff"], set(verbs(again).values())) == (False, [], {"unchanged"})
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_the_files_are_what_is_applied(server: Server, run: Run, keep: Run, folder: Path, api: str) -> None:
    keep(HTTP, TCP, api=api)
    for text in held(folder).values():
        assert "&id" not in text
        server.apply(yaml.safe_load(text), "edgeway/default")
    result = run("exposures", exposures=[HTTP, TCP], api=api, validate=False, wait=False)
    assert {kind for kind, verb in verbs(result).items() if verb != "unchanged"} == {"Service/istio-ingressgateway"}


def test_what_left_the_list_leaves_the_folder_and_nothing_else_does(keep: Run, folder: Path) -> None:
    keep(HTTP, OTHER, TCP)
    keep({**OTHER, "name": "beside"}, set="second")
    second = held(folder).keys()
    copied, broken = folder / "copy.yml", folder / "shop.virtualservice.mine.yml"
    copied.write_text((folder / "shop.virtualservice.other.yml").read_text())
    broken.write_text("<<<<<<< HEAD\n")
    (folder / "kustomization.yml").write_text("resources: []\n")
    (folder / "notes.txt").write_text("mine")
    kept = {"copy.yml", broken.name, "kustomization.yml", "notes.txt"}
    kept |= {name for name in second if "second" in name or "beside" in name}
    assert len(kept) == 7
    assert not keep(HTTP, prune=False)["changed"]
    would = keep(HTTP, check=True)
    did = keep(HTTP)
    assert would == did
    assert verbs(did)["DestinationRule/default-mysql"] == "delete"
    assert held(folder).keys() == kept | NAMES
    assert not keep(HTTP)["changed"]
    assert keep()["changed"]
    assert held(folder).keys() == kept


def test_an_edited_file_is_set_right(keep: Run, folder: Path) -> None:
    keep(HTTP)
    file = folder / "shop.virtualservice.shop.yml"
    was = file.read_text()
    file.write_text(was.replace("shop.example", "else.example"))
    assert verbs(keep(HTTP))["VirtualService/shop"] == "update"
    assert file.read_text() == was


@pytest.mark.parametrize("content", ["a: b\n", "- [\n", "{}\n---\n{}\n", "", "kind: Gateway\nmetadata: x\n"])
def test_somebody_elses_file_in_the_way_is_an_error(keep: Run, folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "shop.virtualservice.shop.yml").write_text(content)
    for check in (True, False):
        result = keep(HTTP, check=check)
        assert result["problems"][0]["path"] == "path"
        assert "shop.virtualservice.shop.yml" in result["msg"]
    assert held(folder) == {"shop.virtualservice.shop.yml": content}


def test_so_is_a_file_of_another_set(keep: Run, folder: Path) -> None:
    keep(HTTP)
    before = held(folder)
    result = keep(HTTP, set="second")
    assert "is not of the set 'second'" in result["msg"]
    assert held(folder) == before


def test_a_private_key_is_not_written_into_a_file(keep: Run, folder: Path) -> None:
    secure = {**HTTP, "protocol": "HTTPS", "tls": {"certificate": CERTIFICATE, "private_key": KEY}}
    result = keep(TCP, secure, validate=False)
    assert [problem["path"] for problem in result["problems"]] == ["exposures[1].tls.private_key"]
    assert "(shop)" in result["msg"]
    assert "tls.secret" in result["msg"]
    assert not folder.exists()


def test_a_file_where_the_folder_should_be(keep: Run, folder: Path) -> None:
    folder.parent.write_text("a file")
    result = keep(HTTP)
    assert result["problems"][0]["path"] == "path"
    assert str(folder.parent) in result["msg"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_only_what_is_rendered_has_a_path(server: Server, run: Run, folder: Path, state: str) -> None:
    result = run("exposures", exposures=[HTTP], state=state, path=str(folder))
    assert "state: rendered" in result["msg"]
    assert server.log == []
