"""The modules through ansible-playbook: in Ansible's own process, and in one of their own. Both say the same."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import HTTP, TCP, installed
from unit.plays import play

Json = dict[str, Any]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIICopenlyshown\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEkeepthisforyourself\n-----END PRIVATE KEY-----\n"


def publish(**options: Any) -> Json:
    return {"edgeway.istio.exposures": {"exposures": [HTTP, TCP], "wait": False, **options}}


RIGHT: dict[str, Json] = {
    "publish": publish(),
    "again": publish(),
    "private key": publish(
        set="secure",
        validate=False,
        exposures=[
            {**HTTP, "name": "secure", "protocol": "HTTPS", "tls": {"certificate": CERTIFICATE, "private_key": KEY}}
        ],
    ),
}
# For both ways it is the same code; for one is enough
MORE: dict[str, Json] = {
    "gateway": {"edgeway.istio.gateway_service": {"ports": [{"port": 65533}], "vips": ["10.77.0.100"]}},
    "no backend": publish(exposures=[{**HTTP, "backend": {}}]),
    "no such api": publish(api="none"),
    "no such field": publish(exposures=[{**HTTP, "hostname": "x"}]),
    "another environment": {**publish(), "environment": {"K8S_AUTH_KUBECONFIG": "/nowhere/config"}},
    "other defaults": {
        **publish(),
        "module_defaults": {"group/edgeway.istio.edgeway": {"kubeconfig": "/elsewhere/config"}},
    },
    "no gateway": {
        **publish(set="lost", validate=False, gateway={"namespace": "istio-system", "service": "missing"}),
        "check_mode": True,
    },
}


@dataclass
class Played:
    """What came of the tasks: `would` in check mode, `did` for real; `printed` by both. `server` is as it was left."""

    server: Server
    would: dict[str, Json]
    did: dict[str, Json]
    printed: dict[str, str]


def played(folder: Path, interpreter: str, wanted: dict[str, Json]) -> Iterator[Played]:
    with installed() as server:
        would, checked = play(server, folder, interpreter, wanted, "--check", "--diff", "-vvv")
        assert server.writes() == []
        did, printed = play(server, folder, interpreter, wanted, "--diff", "-vvv")
        yield Played(server, would, did, {"check": checked, "real": printed})


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    yield from played(tmp_path_factory.mktemp("here"), "{{ ansible_playbook_python }}", {**RIGHT, **MORE})


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """In a process of its own: by another name it isn't known to be the same Python."""
    yield from played(tmp_path_factory.mktemp("apart"), str(Path(sys.executable).with_name("python3")), RIGHT)


@pytest.fixture(params=["here", "apart"])
def either(request: pytest.FixtureRequest) -> Played:
    found: Played = request.getfixturevalue(request.param)
    return found


def test_publishes_checks_and_shows_the_difference(either: Played) -> None:
    assert either.server.get("VirtualService", "shop", "shop") is not None
    assert "+++ after: VirtualService shop/shop" in either.printed["check"]
    assert either.would["publish"]["changed"]
    for name in ("changed", "changes", "manifests", "findings", "diff"):
        assert either.would["publish"][name] == either.did["publish"][name], name
    assert not either.did["again"]["changed"]
    assert either.did["again"]["diff"] == []


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("no backend", "backend"),
        ("no such api", "value of api must be one of: istio, gateway_api"),
        ("no such field", "Supported parameters include"),
        ("another environment", "/nowhere/config doesn't exist"),
        ("other defaults", "/elsewhere/config doesn't exist"),
    ],
)
def test_a_failure_says_what(here: Played, task: str, words: str) -> None:
    for result in (here.would[task], here.did[task]):
        assert result["failed"]
        assert words in result["msg"]
    assert here.did["no backend"]["problems"]
    for printed in here.printed.values():
        assert "Traceback" not in printed


def test_warnings_are_shown(here: Played) -> None:
    assert "istio-system/missing doesn't exist yet" in " ".join(here.printed["check"].split())


def test_a_private_key_is_never_shown(either: Played) -> None:
    assert either.did["private key"]["changed"], either.did["private key"]
    stored = [item for key, item in either.server.objects.items() if key[1] == "Secret"]
    assert base64.b64decode(stored[0]["data"]["tls.key"]).decode() == KEY
    for text in (*either.printed.values(), json.dumps([either.would, either.did])):
        assert "keepthisforyourself" not in text
        assert stored[0]["data"]["tls.key"] not in text
        assert base64.b64encode(KEY.strip().encode()).decode()[:40] not in text


def test_gateway_service(here: Played) -> None:
    assert here.did["gateway"]["changed"]
    assert here.did["gateway"]["service"]["vips"] == ["10.77.0.100"]
