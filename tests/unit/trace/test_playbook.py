"""trace.yml, run against an API server in memory: which gateway's address it asks, and whether DNS is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory_api.sample import HTTP, gateway, installed
from unit import plays

GATEWAYS = [
    {"namespace": "istio-system", "service": "istio-ingressgateway", "vips": ["127.0.0.9"]},
    {"namespace": "db", "service": "team", "vips": ["127.0.0.10"]},
]
SILENCE = [{"code": "dns-elsewhere", "reason": "The router forwards another address to the VIP."}]


@pytest.mark.parametrize(("variables", "asked"), [({}, False), ({"dns": "true"}, True)], ids=["silenced", "asked for"])
def test_what_is_asked(tmp_path: Path, variables: dict[str, Any], asked: bool) -> None:
    """DNS isn't, where its findings are silenced, unless a user wants it."""
    exposure = {**HTTP, "gateway": {"namespace": "db", "service": "team"}}
    second = gateway()
    second["metadata"] = {"namespace": "db", "name": "team"}
    with installed() as server:
        server.add(second)
        (tmp_path / "kubeconfig").write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
        given = {"edgeway_kubeconfig": str(tmp_path / "kubeconfig"), "edgeway_exposures": [exposure],
                 "edgeway_gateways": GATEWAYS, "exposure": "shop", "exposures_silence": SILENCE,
                 "nameservers": "127.0.0.1:9", **variables}  # fmt: skip
        ended = plays.collection("trace", "--extra-vars", json.dumps(given), folder=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = " ".join(ended.stdout.split())
    assert ("DNS: unknown │ Not asked." in said) == (not asked), said
    assert "Which edge holds 127.0.0.10 wasn't asked." in said
    assert "127.0.0.9" not in said
