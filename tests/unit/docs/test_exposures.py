"""docs/exposures.md has every field, and what it says of refusals is what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse
from ansible_collections.edgeway.istio.plugins.module_utils.model import (
    _backends,
    _entry,
    _filters,
    _gateways,
    _matches,
    _routes,
    _tls,
)
from unit.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/exposures.md"
TEXT = PAGE.read_text()
ENTRIES = TEXT.split("\n### ")[1:]


def test_every_field_is_explained() -> None:
    """Fields of an exposure and of a route have a heading; those below stand in code."""
    named = {word for entry in ENTRIES for word in entry.splitlines()[0].split(" and ")}
    assert named >= {"matches", "backends", *_routes._FILTERS}
    inner = {"service_type", "external_traffic_policy"}
    assert named >= set(_entry._EXPOSURE) - inner
    of_backends = (_backends.BACKEND, _backends._ORIGINATION)
    for fields in (_gateways._GATEWAY, _tls._TLS, *of_backends, _filters._CORS, _matches._MATCH):
        assert [field for field in (*fields, *inner) if f"`{field}`" not in TEXT] == []
    for fields in (_backends._TRAFFIC, _backends._OUTLIER):
        assert [field for field in fields if f"`{field}`" not in TEXT] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.splitlines()[0])
def test_every_field_has_an_example(entry: str) -> None:
    """In its own section, under its own name."""
    examples = "\n".join(re.findall(r"^```yaml\n(.*?)^```$", entry, re.MULTILINE | re.DOTALL))
    for field in entry.splitlines()[0].split(" and "):
        assert re.search(rf"\b{field}:", examples), field


def test_every_field_below_has_an_example() -> None:
    """Of those that the module takes, as deep as they go; and those of maps that it hands on as they are."""
    used: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            used.update(node)
        for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(each)

    def fields(options: Mapping[str, Any]) -> Iterator[str]:
        for name, option in options.items():
            yield name
            yield from fields(option.get("options") or {})

    for block in blocks(PAGE):
        if block.language == "yaml":
            walk(block.data)
    wanted = {*fields(_arguments.EXPOSURES["exposures"]["options"]), *_backends._OUTLIER}
    assert wanted <= used


def test_refusals_read_as_the_page_shows_them() -> None:
    (shown,) = [block.text for block in blocks(PAGE) if block.language == "text"]
    wrong = yaml.safe_load("""
      - name: shop
        namespace: shop
        protocol: HTTP
        port: 80
        node_port: 30080
        routes:
          - backends: [{service: shop, port: 80}]
          - {matches: [{path: {prefix: api}}], backends: [{service: api, port: 80}]}
      - {name: web, namespace: web, protocol: TCP, port: 1234, backend: {service: web, port: 80}}
      - {name: mysql, namespace: db, protocol: TCP, port: 3306, node_port: 30080, backend: {service: mysql, port: 3306}}
    """)
    with pytest.raises(ModelError) as refused:
        parse(wrong)
    assert str(refused.value) == shown.strip()
