"""Sound lists, and the manifests that each becomes through both APIs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api, _yaml
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from unit.model.lists import spelt_out

CASES: list[dict[str, Any]] = _yaml.documents(Path(__file__).with_name("right_lists.yml").read_text())[0]
GENERATE = {"istio": _istio_api.generate, "gateway_api": _gateway_api.generate}


def manifests_of(case: dict[str, Any], api: str) -> dict[str, Any]:
    """Return the manifests by `Kind namespace/name`, without what all have.

    `kinds` says which kinds are looked at; without it all but DestinationRules, which tell nothing new mostly.
    """
    options = {"set_name": case.get("set", "default"), "gateway": case.get("gateway")}
    found = {}
    for manifest in GENERATE[api](parse(spelt_out(case), api=api, **options)):
        kinds = case.get("kinds")
        if manifest["kind"] == "DestinationRule" if kinds is None else kinds != "all" and manifest["kind"] not in kinds:
            continue
        metadata = manifest["metadata"]
        rest = {key: value for key, value in manifest.items() if key not in ("kind", "metadata")}
        if "annotations" in metadata:
            rest["annotations"] = metadata["annotations"]
        group, _dot, version = rest.pop("apiVersion").rpartition("/")
        known = {"Gateway": {"istio": "networking.istio.io", "gateway_api": "gateway.networking.k8s.io"}[api]}
        assert group == known.get(manifest["kind"], group)
        assert version == ("v1beta1" if manifest["kind"] == "ReferenceGrant" else "v1")
        found[f"{manifest['kind']} {metadata['namespace']}/{metadata['name']}"] = rest.get("spec", rest) | (
            {"annotations": rest["annotations"]} if "annotations" in rest else {}
        )
    return found


RUNS = [(case, api) for case in CASES for api in ("istio", "gateway_api") if api in case]


@pytest.mark.parametrize(("case", "api"), RUNS, ids=[f"{case['about']} - {api}" for case, api in RUNS])
def test_right_list(case: dict[str, Any], api: str) -> None:
    found = manifests_of(case, api)
    assert list(found) == list(case[api])
    for name, manifest in found.items():
        assert manifest == case[api][name]
