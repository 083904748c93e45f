"""Istio is upgraded in place, by revision, and back again, and no request is lost."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from outside import answers
from outside.lab import Lab
from outside.runs import playbook
from outside.stream import Stream, http_attempt

RATE, SECONDS = 50, 150


def gateways(lab: Lab) -> dict[str, str]:
    """The revision of each ingress gateway's pods."""
    found = lab.objects("pods", "--namespace=istio-system", "--selector=istio=ingressgateway")
    return {each["metadata"]["name"]: each["metadata"]["labels"]["istio.io/rev"] for each in found}


def control_planes(lab: Lab) -> list[str]:
    return sorted(
        each["metadata"]["name"] for each in lab.objects("deploy", "--namespace=istio-system", "--selector=app=istiod")
    )


def under_a_stream(lab: Lab, *arguments: str, **variables: Any) -> None:
    """Run a playbook while clients ask; it must end in time, and no request may be lost."""
    with Stream(http_attempt(lab.vip, "web.example"), rate=RATE, seconds=SECONDS) as stream:
        playbook(*arguments, timeout=SECONDS - 10, **variables)
        stream.wait(3)
    print(f"{' '.join(arguments)}: {stream.report}")
    assert stream.report.lost == 0, stream.report.losses


def test_in_place(lab: Lab) -> None:
    before = set(gateways(lab))
    changed = [{"name": "istio-ingressgateway", "resources": {"requests": {"cpu": "101m", "memory": "64Mi"}}}]
    under_a_stream(lab, "playbooks/istio.yml", istio_gateways=changed)
    assert not before & set(gateways(lab)), "the gateways' pods were not replaced"
    under_a_stream(lab, "playbooks/istio.yml")
    assert playbook("playbooks/istio.yml").changed == 0


def from_a_url() -> dict[str, str]:
    """Have the lab's istioctl fetched."""
    path = shutil.which("istioctl")
    assert path
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return {
        "istio_istioctl": "/none",
        "istio_istioctl_url": f"file://{path}",
        "istio_istioctl_checksum": f"sha256:{digest}",
    }


@pytest.mark.parametrize(
    ("to", "leaving", "planes", "fetched"),
    [("next", "", ["istiod-next"], True), ("", "next", ["istiod"], False)],
    ids=["forth", "back"],
)
def test_by_revision(lab: Lab, to: str, leaving: str, planes: list[str], fetched: bool) -> None:
    under_a_stream(
        lab,
        "playbooks/upgrade.yml",
        istio_revision=to,
        edgeway_upgrade_from=leaving,
        edgeway_upgrade_until="old",
        **(from_a_url() if fetched else {}),
    )
    assert set(gateways(lab).values()) == {to or "default"}
    assert control_planes(lab) == planes
    assert playbook("playbooks/istio.yml", istio_revision=to).changed == 0


def test_half_way_and_back(lab: Lab) -> None:
    """Only the control plane, and back: the gateways have not moved."""
    before = gateways(lab)
    playbook(
        "playbooks/upgrade.yml", istio_revision="next", edgeway_upgrade_from="", edgeway_upgrade_until="control_plane"
    )
    assert control_planes(lab) == ["istiod", "istiod-next"]
    assert gateways(lab) == before
    playbook("playbooks/upgrade.yml", istio_revision="", edgeway_upgrade_from="next", edgeway_upgrade_until="old")
    assert control_planes(lab) == ["istiod"]
    assert gateways(lab) == before


def test_everything_still_answers(lab: Lab) -> None:
    assert [each.asked for each in (answers.ask(lab, one) for one in lab.exposures) if not each.good] == []
