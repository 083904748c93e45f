"""YAML with and without the package."""

from __future__ import annotations

import importlib
import sys

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _yaml


def test_documents_without_the_empty_ones() -> None:
    assert _yaml.documents("a: 1\n---\n---\n- b\n") == [{"a": 1}, ["b"]]
    assert _yaml.documents("") == []


def test_what_is_no_yaml() -> None:
    with pytest.raises(ValueError, match="This is no YAML"):
        _yaml.documents("a: [1")


def test_out_and_in_again() -> None:
    value = {"b": [1, {"c": "d"}], "a": None}
    assert _yaml.documents(_yaml.dump(value)) == [value]
    assert _yaml.dump(value).startswith("a:")
    assert _yaml.dump(value, sort_keys=False).startswith("b:")


def test_without_the_package_its_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, "yaml", None)
            importlib.reload(_yaml)
            for call in (_yaml.documents, _yaml.dump):
                with pytest.raises(ImportError, match="ansible_playbook_python"):
                    call("a: 1")
    finally:
        importlib.reload(_yaml)
    assert _yaml.documents("a: 1") == [{"a": 1}]
