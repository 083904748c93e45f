"""MetalLB at its defaults on the lab, for comparison: how long a client waits when the announcing node's link is cut.

Built from its Go module, at the version of go/metallb/go.mod; installed from the manifests in that module (layer 2),
without its validating webhook. Its programs come from a folder of the node instead of an image.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from integration.vip.machines import PODMAN, Machine
from integration.vip.machines import run as command
from outside import stream
from outside.lab import Lab, wait_for

MODULE = "go.universe.tf/metallb"
FOLDER = pathlib.Path(__file__).parent / "go/metallb"
BUILT = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "edgeway-lab/metallb"
PLACE = "/opt/metallb"  # in the nodes
ADDRESS = "10.77.0.110"
SERVICE = "metallb-gateway"
SPACE = "metallb-system"
PORT = 15021  # Envoy's readiness
METRICS = 7472  # of a speaker, as the manifests have it
WATCHED = 20.0  # seconds with the link cut


def _go(*arguments: str) -> str:
    kept = BUILT.parent
    return command(
        "go",
        *arguments,
        timeout=900,
        CGO_ENABLED="0",
        GOPATH=str(kept / "go"),
        GOCACHE=str(kept / "go-build"),
        GOFLAGS="",
    )


def _built() -> pathlib.Path:
    """The folder of the module's sources; the programs are in BUILT."""
    if not (BUILT / "speaker").exists():
        _go("build", "-C", str(FOLDER), "-trimpath", "-mod=readonly", "-o", f"{BUILT}/", "tool")
    _go("mod", "download", "-C", str(FOLDER), MODULE)
    return pathlib.Path(json.loads(_go("list", "-C", str(FOLDER), "-m", "-json", MODULE))["Dir"])


def _manifests(sources: pathlib.Path) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all((sources / "config/manifests/metallb-native.yaml").read_text())
    found = [one for one in documents if one and one["kind"] != "ValidatingWebhookConfiguration"]
    for one in found:
        if one["kind"] in ("Deployment", "DaemonSet"):
            pod = one["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            container["image"] = "localhost/lab/echo:1"
            container["imagePullPolicy"] = "Never"
            container["command"] = [f"{PLACE}/{container['name']}"]
            container.setdefault("volumeMounts", []).append({"name": "programs", "mountPath": PLACE, "readOnly": True})
            pod.setdefault("volumes", []).append({"name": "programs", "hostPath": {"path": PLACE}})
    return found


_SETTINGS = [
    {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "one", "namespace": SPACE},
        "spec": {"addresses": [f"{ADDRESS}/32"]},
    },
    {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"name": "one", "namespace": SPACE},
        "spec": {"ipAddressPools": ["one"]},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": "istio-system"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"istio": "ingressgateway"},
            "ports": [{"name": "status-port", "port": PORT, "targetPort": PORT}],
        },
    },
]


@contextlib.contextmanager
def installed(lab: Lab, machines: Sequence[Machine]) -> Iterator[None]:
    """MetalLB, and a Service in front of the lab's gateways with an address of its own; all gone afterwards."""
    sources = _built()
    for machine in machines:
        machine.run("mkdir", "--parents", PLACE)
        for program in ("controller", "speaker"):
            command(PODMAN, "cp", str(BUILT / program), f"{machine.name}:{PLACE}/{program}")
    manifests = yaml.safe_dump_all(_manifests(sources))
    try:
        lab.kubectl("apply", "--server-side", "--filename=-", text=manifests)
        lab.kubectl("wait", "--for=condition=Established", "crd", "ipaddresspools.metallb.io", "--timeout=30s")
        lab.rolled_out(SPACE)
        settings = yaml.safe_dump_all(_SETTINGS)
        lab.kubectl("apply", "--filename=-", text=settings)
        wait_for("MetalLB's address to answer", _answers, seconds=60)
        yield
    finally:
        lab.kubectl("delete", "service", SERVICE, "--namespace=istio-system", "--ignore-not-found")
        lab.kubectl("delete", "--ignore-not-found", "--wait=false", "--filename=-", text=manifests)
        for machine in machines:
            machine.run("rm", "-r", PLACE)


def _answers() -> bool:
    attempt = stream.http_attempt(ADDRESS, "edge.example", "/healthz/ready", port=PORT)
    with stream.Stream(attempt, rate=10, seconds=0.5) as asked:
        asked.finish()
    return asked.report.lost == 0


def _one_announces(machines: Sequence[Machine]) -> bool:
    """Say whether one speaker alone answers for the address.

    After a cut both sides do, until they have joined again, which each tries once a minute: a cut before that says
    nothing of failover.
    """
    count = 0
    for machine in machines:
        with urllib.request.urlopen(f"http://{machine.address}:{METRICS}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        count += sum(
            line.startswith("metallb_speaker_announced{") and SERVICE in line and line.endswith(" 1") for line in lines
        )
    return count == 1


def _announcer(machines: Sequence[Machine]) -> Machine:
    """The node whose network card answers for the address: asked by ARP, as clients do."""
    subprocess.run(["ip", "neighbour", "flush", "to", ADDRESS], check=True, capture_output=True)
    wait_for("MetalLB's address to answer", _answers, seconds=60)
    shown = command("ip", "-json", "neighbour", "show", "to", ADDRESS)
    mac = json.loads(shown)[0]["lladdr"]
    return next(machine for machine in machines if machine.run("cat", "/sys/class/net/eth0/address").strip() == mac)


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """`gap` in milliseconds. `over` says whether clients had an answer again before the link came back."""

    gap: float
    over: bool


def cuts(lab: Lab, machines: Sequence[Machine], count: int) -> list[Cut]:
    """Cut the announcing node's link, `count` times."""
    found = []
    attempt = stream.http_attempt(ADDRESS, "edge.example", "/healthz/ready", port=PORT)
    with installed(lab, machines):
        for _number in range(count):
            wait_for("one of MetalLB's speakers to announce", lambda: _one_announces(machines), seconds=180)
            machine = _announcer(machines)
            with stream.Stream(attempt, rate=200, seconds=60) as clients:
                clients.wait(1)
                machine.cable(plugged=False)
                clients.wait(WATCHED)
            machine.cable(plugged=True)
            report = clients.report
            gap, at = report.gap()
            found.append(Cut(gap * 1000, over=at + gap < WATCHED))
            lab.rolled_out("istio-system")
    return found
