"""Two gateways of one inventory, each with pods, a Service and a VIP of its own, which prefer different edges."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from outside import answers, clients
from outside.lab import INVENTORY, Lab, wait_for
from outside.runs import Ended, playbook

VIP = "10.77.0.102"


def inventory(lab: Lab) -> dict[str, Any]:
    """What an operator adds to the lab's variables."""
    own = yaml.safe_load((INVENTORY / "group_vars/all.yml").read_text())
    blue = {"namespace": "blue", "service": "blue"}
    site = {
        "name": "blue",
        "namespace": "web",
        "protocol": "HTTP",
        "hostnames": ["blue.example"],
        "gateway": blue,
        "backend": {"service": "echo", "port": 80},
    }
    return {
        "istio_gateways": [*own["istio_gateways"], {"name": "blue", "namespace": "blue", "selector": {"team": "blue"}}],
        "edgeway_gateways": [
            {"namespace": "istio-system", "service": "istio-ingressgateway", "vips": [lab.vip]},
            {**blue, "vips": [{"address": VIP, "edges": list(reversed(lab.edges))}]},
        ],
        "edgeway_exposures": [*own["edgeway_exposures"], site],
    }


@pytest.fixture(scope="module")
def blue(lab: Lab) -> Lab:
    return dataclasses.replace(lab, vip=VIP)


@pytest.fixture(scope="module", autouse=True)
def installed(lab: Lab, blue: Lab) -> Iterator[Ended]:
    yield playbook("playbooks/site.yml", **inventory(lab))
    playbook("playbooks/site.yml")
    lab.kubectl("delete", "namespace", "blue", "--ignore-not-found", "--timeout=50s")
    assert blue.holders() == []
    assert len(lab.holders()) == 1


def test_each_vip_is_on_the_edge_that_it_prefers(lab: Lab, blue: Lab) -> None:
    preferred = lab.edges[-1]
    wait_for("one holder of each", lambda: len(lab.holders()) == len(blue.holders()) == 1, seconds=5)
    (first,) = blue.holders()
    if first != preferred:
        # Whichever edge knew of it first has a new VIP, and keeps it. When that one hands over, preference decides
        playbook("playbooks/drain.yml", edge=first)
        playbook("playbooks/drain.yml", edge=first, state="active")
    assert blue.holders() == [preferred]


def test_each_vip_is_its_services_address(lab: Lab) -> None:
    for namespace, name, vip in (("istio-system", "istio-ingressgateway", lab.vip), ("blue", "blue", VIP)):
        (service,) = lab.objects("service", f"--namespace={namespace}", f"--field-selector=metadata.name={name}")
        assert [each["ip"] for each in service["status"]["loadBalancer"]["ingress"]] == [vip]


def test_each_answers_for_its_own_names(lab: Lab, blue: Lab) -> None:
    lab.opens(VIP, 80)
    assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
    assert clients.http_get(VIP, "blue.example").status == 200
    assert clients.http_get(VIP, "web.example").status == 404
    assert clients.http_get(lab.vip, "blue.example").status == 404


def test_a_trace_goes_through_the_right_vip(lab: Lab) -> None:
    for name in ("blue", "web"):
        ended = playbook("playbooks/trace.yml", exposure=name, strict=True, dns=False, check=False, **inventory(lab))
        assert ended.status == 0, ended.said


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    assert playbook("playbooks/site.yml", **inventory(lab)).changed == 0
