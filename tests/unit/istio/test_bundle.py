"""A Gateway API bundle."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _bundle
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError


def definition(name: str, version: str | None) -> dict[str, Any]:
    annotations = {"gateway.networking.k8s.io/bundle-version": version} if version else None
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
    }


@pytest.mark.parametrize(
    ("given", "live", "applied"),
    [
        ("v1.6.0", None, True),
        ("v1.6.0", "", True),
        ("v1.6.0", "v1.5.9", True),
        ("v1.10.0", "v1.9.0", True),
        ("v1.6.0", "v1.6.0-rc.2", True),
        ("v1.6.0-rc.10", "v1.6.0-rc.9", True),
        ("v1.6.0", "v1.6.0", False),
        ("v1.5.0", "v1.6.0", False),
        ("v1.6.0-rc.1", "v1.6.0", False),
    ],
)
def test_definitions_are_applied_when_missing_or_older(given: str, live: str | None, applied: bool) -> None:
    there = [] if live is None else [definition("a", live)]
    assert bool(_bundle.outdated([definition("a", given)], there)) is applied


def test_two_channels_at_once_are_refused() -> None:
    with pytest.raises(ModelError, match="given twice"):
        _bundle.outdated([definition("a", "v1.6.0"), definition("a", "v1.6.0")], [])
