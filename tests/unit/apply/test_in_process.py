"""The modules through ansible-playbook: in Ansible's own process, and in one of their own. Both say the same."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import HTTP, TCP

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIICopenlyshown\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEkeepthisforyourself\n-----END PRIVATE KEY-----\n"
HERE = "{{ ansible_playbook_python }}"


@pytest.fixture(params=["in-process", "module"])
def interpreter(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "in-process":
        return HERE
    # The same Python by another name: not known to be the same, so the module gets a process
    return str(Path(sys.executable).with_name("python3"))


def play(server: Server, folder: Path, interpreter: str, task: Json, *options: str, **more: Any) -> tuple[Json, str]:
    """Run one task; return what it registered, and all that was printed."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
    keep = {
        "name": "Keep the result",
        "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(folder / "result"), "mode": "0600"},
        "check_mode": False,
        "no_log": True,
    }
    variables = {"ansible_python_interpreter": interpreter}
    first = {"name": "Run", **task, "register": "result", "ignore_errors": True}
    plays = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, **more,
              "tasks": [first, keep]}]  # fmt: skip
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps(plays), encoding="utf-8")
    environment = {
        **{
            key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH", "KUBECONFIG", "ANSIBLE"))
        },
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "KUBECONFIG": str(kubeconfig),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", *options, str(playbook)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "result").read_text(encoding="utf-8")), done.stdout + done.stderr


def publish(**options: Any) -> Json:
    return {"edgeway.istio.exposures": {"exposures": [HTTP, TCP], "wait": False, **options}}


def test_publishes_checks_and_shows_the_difference(server: Server, tmp_path: Path, interpreter: str) -> None:
    would, printed = play(server, tmp_path, interpreter, publish(), "--check", "--diff")
    assert server.writes() == []
    assert "+++ after: VirtualService shop/shop" in printed
    did, _printed = play(server, tmp_path, interpreter, publish(), "--diff")
    assert server.get("VirtualService", "shop", "shop") is not None
    assert would["changed"]
    for name in ("changed", "changes", "manifests", "findings", "diff"):
        assert would[name] == did[name], name
    again, _printed = play(server, tmp_path, interpreter, publish())
    assert not again["changed"]
    assert again["diff"] == []


def test_a_failure_says_what_and_warnings_are_shown(server: Server, tmp_path: Path) -> None:
    result, printed = play(server, tmp_path, HERE, publish(exposures=[{**HTTP, "backend": {}}]))
    assert result["failed"]
    assert result["problems"]
    assert "Traceback" not in printed
    del server.objects["", "Pod", "istio-system", "gateway-1"]
    del server.objects["", "Service", "istio-system", "istio-ingressgateway"]
    _result, printed = play(server, tmp_path, HERE, publish(), "--check")
    assert "doesn't exist yet" in " ".join(printed.split())


def test_options_are_checked(server: Server, tmp_path: Path) -> None:
    result, _printed = play(server, tmp_path, HERE, publish(api="none"))
    assert "value of api must be one of: istio, gateway_api" in result["msg"]
    result, _printed = play(server, tmp_path, HERE, publish(exposures=[{**HTTP, "hostname": "x"}]))
    assert "hostname" in result["msg"]
    assert "Supported parameters include" in result["msg"]


def test_environment_and_module_defaults_count(server: Server, tmp_path: Path) -> None:
    with_environment = {**publish(), "environment": {"K8S_AUTH_KUBECONFIG": "/nowhere/config"}}
    result, _printed = play(server, tmp_path, HERE, with_environment)
    assert "/nowhere/config doesn't exist" in result["msg"]
    defaults = {"group/edgeway.istio.edgeway": {"kubeconfig": "/elsewhere/config"}}
    result, _printed = play(server, tmp_path, HERE, publish(), module_defaults=defaults)
    assert "/elsewhere/config doesn't exist" in result["msg"]


def test_a_private_key_is_never_shown(server: Server, tmp_path: Path, interpreter: str) -> None:
    tls = {"certificate": CERTIFICATE, "private_key": KEY}
    secure = publish(exposures=[{**HTTP, "protocol": "HTTPS", "tls": tls}], validate=False)
    result, printed = play(server, tmp_path, interpreter, secure, "-vvv", "--diff")
    assert result["changed"], result
    stored = [item for key, item in server.objects.items() if key[1] == "Secret"]
    assert base64.b64decode(stored[0]["data"]["tls.key"]).decode() == KEY
    for text in (printed, json.dumps(result)):
        assert "keepthisforyourself" not in text
        assert stored[0]["data"]["tls.key"] not in text
        assert base64.b64encode(KEY.strip().encode()).decode()[:40] not in text


def test_gateway_service(server: Server, tmp_path: Path) -> None:
    task = {"edgeway.istio.gateway_service": {"ports": [{"port": 65532}], "vips": ["10.77.0.100"]}}
    result, _printed = play(server, tmp_path, HERE, task)
    assert result["changed"]
    assert result["service"]["vips"] == ["10.77.0.100"]
