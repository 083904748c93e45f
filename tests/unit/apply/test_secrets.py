"""A private key in the list is printed by no playbook that is handed the list, however much they are asked to say."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from memory_api import Server
from memory_api.sample import HTTP
from unit import plays

SECRET = "keepthisforyourself"
KEY = f"-----BEGIN PRIVATE KEY-----\nMIIE{SECRET}\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIICopenlyshown\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("playbook", "more"),
    [
        ("expose", ["--diff"]),
        ("expose", ["--check", "--diff"]),
        ("site", ["--check", "--tags", "always"]),
        ("trace", ["--extra-vars", "exposure=secure"]),
        ("report", []),
        ("uninstall", ["--tags", "exposures"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_private_key_is_never_printed(server: Server, tmp_path: Path, playbook: str, more: list[str]) -> None:
    exposure = {**HTTP, "name": "secure", "protocol": "HTTPS", "tls": {"certificate": CERTIFICATE, "private_key": KEY}}
    (tmp_path / "kubeconfig").write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
    variables = {
        "edgeway_kubeconfig": str(tmp_path / "kubeconfig"),
        "edgeway_exposures": [exposure],
        "edgeway_vip": "10.77.0.100",
        "exposures_validate": False,
        "exposures_wait": False,
        "istio_method": "existing",
        "report": str(tmp_path / "report.html"),
    }
    (tmp_path / "all.yml").write_text(json.dumps(variables), encoding="utf-8")
    ended = plays.collection(playbook, "-vvvv", "--extra-vars", f"@{tmp_path / 'all.yml'}", *more)
    printed = ended.stdout + ended.stderr
    # It was really handed the list, and said what it was given
    assert "openlyshown" in printed, printed
    assert SECRET not in printed
    assert base64.b64encode(KEY.encode()).decode()[:60] not in printed
    page = tmp_path / "report.html"
    assert not page.exists() or SECRET not in page.read_text(encoding="utf-8")
