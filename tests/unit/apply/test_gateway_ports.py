"""The role gateway_ports, through ansible-playbook: what its module can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments
from memory_api import Server
from unit.plays import ROOT, play

Json = dict[str, Any]
ROLE = ROOT / "roles/gateway_ports"


def role(tasks_from: str = "main", **options: Any) -> Json:
    variables = {f"gateway_ports_{name}": value for name, value in options.items()}
    return {
        "ansible.builtin.include_role": {"name": "edgeway.istio.gateway_ports", "tasks_from": tasks_from},
        "vars": variables,
    }


def run(server: Server, folder: Path, **wanted: Json) -> None:
    play(server, folder, "{{ ansible_playbook_python }}", wanted)


@pytest.mark.parametrize("tasks", ["main", "preflight"])
def test_it_hands_on_every_option_of_its_module(tasks: str) -> None:
    (task,) = yaml.safe_load((ROLE / f"tasks/{tasks}.yml").read_text())
    missing = set(_arguments.SERVICE) - task["edgeway.istio.gateway_service"].keys()
    assert missing == ({"before_istio"} if tasks == "main" else set())
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {f"gateway_ports_{name}" for name in _arguments.SERVICE} - {"gateway_ports_name"} <= options.keys()
    ports = options["gateway_ports_ports"]["options"]
    spec = _arguments.GATEWAY_SERVICE["ports"]["options"]
    assert ports.keys() == spec.keys()
    for name in ("type", "external_traffic_policy"):
        assert options[f"gateway_ports_{name}"]["choices"] == _arguments.GATEWAY_SERVICE[name]["choices"]
    assert ports["protocol"]["choices"] == spec["protocol"]["choices"]


def test_the_installers_service(server: Server, tmp_path: Path) -> None:
    options = {
        "type": "NodePort",
        "external_traffic_policy": "Local",
        "force": True,
        "ports": [{"port": 8443, "protocol": "UDP", "node_port": 30443}],
    }
    run(server, tmp_path, check=role("preflight", **options))
    assert server.writes() == []
    run(server, tmp_path, write=role(**options))
    spec = server.objects["", "Service", "istio-system", "istio-ingressgateway"]["spec"]
    assert (spec["type"], spec["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert [(port["port"], port["nodePort"]) for port in spec["ports"] if port["protocol"] == "UDP"] == [(8443, 30443)]


def test_a_service_of_its_own(server: Server, tmp_path: Path) -> None:
    before = server.state()
    options = {"service": "web", "selector": {"istio": "ingressgateway"}, "ports": [{"port": 8088}]}
    run(server, tmp_path, write=role(**options))
    spec = server.objects["", "Service", "istio-system", "web"]["spec"]
    assert (spec["type"], spec["selector"]) == ("LoadBalancer", {"istio": "ingressgateway"})
    run(server, tmp_path, remove=role(**options, state="absent"))
    assert server.state() == before
