"""Every example in docs/exposures.md is a list that can be published, and every field has one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _entry, _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from unit.model.lists import CERTIFICATE, KEY

TEXT = (Path(__file__).parents[3] / "docs" / "exposures.md").read_text()
BLOCKS = [
    block for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) if "# playbook" not in block
]


def list_in(block: str) -> list[dict[str, Any]]:
    block = block.replace("{{ lookup('ansible.builtin.file', 'shop.pem') }}", CERTIFICATE.replace("\n", "\\n"))
    found: Any = yaml.safe_load(block.replace("{{ vault_shop_key }}", KEY.replace("\n", "\\n")))
    entries: list[dict[str, Any]] = found["edgeway_exposures"] if isinstance(found, dict) else found
    return entries


@pytest.mark.parametrize("block", BLOCKS, ids=[f"example {number}" for number in range(len(BLOCKS))])
def test_example(block: str) -> None:
    api = "gateway_api" if "# api: gateway_api" in block else "istio"
    model = parse(list_in(block), api=api)
    assert _gateway_api.generate(model) if api == "gateway_api" else _istio_api.generate(model)


def test_every_field_is_explained() -> None:
    """Fields of an exposure and of a route have a heading; those below stand in code."""
    headings = re.findall(r"^### (.*)$", TEXT, re.MULTILINE)
    named = {word for heading in headings for word in heading.split(" and ")}
    assert named >= {"matches", "backends", *_entry._FILTERS}
    inner = {"service_type", "external_traffic_policy"}
    assert named >= set(_entry._EXPOSURE) - inner
    for fields in (_entry._GATEWAY, _entry._TLS, _entry._BACKEND, _entry._ORIGINATION, _entry._CORS, _entry._MATCH):
        assert [field for field in (*fields, *inner) if f"`{field}`" not in TEXT] == []
    for fields in (_entry._TRAFFIC, _entry._OUTLIER):
        assert [field for field in fields if f"`{field}`" not in TEXT] == []


def test_every_link_in_the_page_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= anchors
