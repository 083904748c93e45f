"""The role keepalived without Istio or Kubernetes, on two bare machines, from the example in its README."""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from outside import clients
from outside.lab import BOXES, ROOT, Lab, wait_for
from outside.runs import Ended, playbook

VIP, VIP6 = "10.77.0.101", "fd77::101"
HOSTS = {"web1": "box1", "web2": "box2"}
ADDRESS6 = "{{ {'web1': 'fd77::31', 'web2': 'fd77::32'}[inventory_hostname] }}"
# A web server with IPv4 and IPv6, as every Python has one
SERVER = "systemd-run --unit=web --property=WorkingDirectory=/etc/hosts.d python3 -m http.server --bind :: 80"


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Lab:
    """The boxes under the names that the README gives them; the VIP is the README's."""
    machines = {name: lab.machines[box] for name, box in HOSTS.items()}
    return Lab(vip=VIP, machines=machines, edges=tuple(HOSTS), exposures=())


@pytest.fixture(scope="module")
def files(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the README's inventory and playbook, with the addresses of the lab."""
    text = (ROOT / "roles/keepalived/README.md").read_text().replace("192.0.2.100", VIP)
    for name, address in zip(("192.0.2.11", "192.0.2.12"), lab.machines.values(), strict=True):
        text = text.replace(name, address)
    inventory, play = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    folder = tmp_path_factory.mktemp("alone")
    (folder / "inventory/group_vars").mkdir(parents=True)
    (folder / "inventory/hosts.yml").write_text(inventory)
    # How the lab's machines are reached over SSH
    listed = yaml.safe_load((BOXES / "hosts.yml").read_text())["all"]["vars"]
    ssh = {key: value.replace("{{ inventory_dir }}/../..", str(ROOT)) for key, value in listed.items()}
    (folder / "inventory/group_vars/all.yml").write_text(yaml.safe_dump(ssh))
    (folder / "vip.yml").write_text(play)
    return folder


def run(files: pathlib.Path, *arguments: str, **variables: Any) -> Ended:
    return playbook(str(files / "vip.yml"), *arguments, inventory=files / "inventory", **variables)


@pytest.fixture(scope="module", autouse=True)
def web(lab: Lab, files: pathlib.Path) -> Iterator[None]:
    """Web servers on both machines, which say their names; the machines are bare again afterwards."""
    for name in lab.edges:
        host = lab.host(name)
        host.check_output(f"mkdir --parents /etc/hosts.d && echo {name} >/etc/hosts.d/index.html && {SERVER}")
    yield
    run(files, keepalived_state="absent")
    for name in lab.edges:
        lab.host(name).check_output("systemctl stop web; rm -r /etc/hosts.d; ! ls /etc/keepalived/keepalived.conf")
    assert lab.holders() == []


@pytest.fixture
def link(lab: Lab) -> str:
    """The interface of this machine that leads to the lab's: one more machine in their network."""
    said = subprocess.run(
        ["ip", "-json", "route", "get", lab.machines["web1"]], capture_output=True, text=True, check=True
    )
    return str(json.loads(said.stdout)[0]["dev"])


@pytest.mark.parametrize("vip", [VIP, VIP6], ids=["ipv4", "ipv6"])
def test_a_vip_that_another_machine_has_is_refused(lab: Lab, files: pathlib.Path, link: str, vip: str) -> None:
    taken = (
        ["address", "add", f"{vip}/128", "dev", link, "nodad"] if ":" in vip else ["address", "add", vip, "dev", link]
    )
    subprocess.run(["ip", *taken], check=True)
    try:
        refused = run(files, check=False, keepalived_vips=[{"address": vip}], keepalived_address6=ADDRESS6)
    finally:
        subprocess.run(["ip", "address", "del", *taken[2:5]], check=True)
    assert refused.status != 0
    assert f"keepalived_vips: {vip} is taken by" in refused.line
    for name in lab.edges:
        assert not lab.host(name).file("/etc/keepalived/keepalived.conf").exists


@contextlib.contextmanager
def another_router(number: int, address: str, source: str) -> Iterator[None]:
    """Adverts of a virtual router that is nobody's here, as VRRPv3 sends them (RFC 5798, 5.2), three a second."""
    advert = bytes([0x31, number, 100, 1, 0, 30, 0, 0]) + socket.inet_aton(address)
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as opened:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            while not over.wait(0.3):
                opened.sendto(advert, ("224.0.0.18", 0))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_virtual_router_id_that_is_heard_is_refused(lab: Lab, files: pathlib.Path) -> None:
    with another_router(77, "10.77.0.250", "10.77.0.1"):
        refused = run(files, check=False, keepalived_vips=[{"address": VIP, "virtual_router_id": 77}])
    assert refused.status != 0
    assert f"virtual_router_id 77 of {VIP} is used by 10.77.0.1 (for 10.77.0.250)" in refused.line
    for name in lab.edges:
        assert not lab.host(name).file("/etc/keepalived/keepalived.conf").exists


def test_one_machine_holds_the_vip_and_answers(lab: Lab, files: pathlib.Path) -> None:
    run(files)
    wait_for("one holder", lambda: len(lab.holders()) == 1, seconds=10)
    assert clients.http_get(VIP, "web.example").body.strip() == lab.holders()[0]
    assert run(files).changed == 0


def test_the_other_one_takes_over_when_the_web_server_is_gone(lab: Lab, files: pathlib.Path) -> None:
    (holder,) = lab.holders()
    lab.host(holder).check_output("systemctl stop web")
    wait_for("another holder", lambda: lab.holders() not in ([], [holder]), seconds=5, every=0.2)
    assert clients.http_get(VIP, "web.example").body.strip() == lab.holders()[0] != holder
    lab.host(holder).check_output(SERVER)


def test_ipv6_beside_ipv4(lab: Lab, files: pathlib.Path) -> None:
    """Two instances of one sync group: both VIPs are on the same machine, and move together."""
    vips = [{"address": VIP, "group": "both"}, {"address": VIP6, "group": "both"}]
    run(files, keepalived_vips=vips, keepalived_address6=ADDRESS6)
    six = Lab(vip=VIP6, machines=lab.machines, edges=lab.edges, exposures=())

    def together() -> bool:
        return len(lab.holders()) == 1 and lab.holders() == six.holders()

    wait_for("both VIPs on one machine", together, seconds=10)
    (holder,) = lab.holders()
    assert clients.http_get(VIP6, "web.example").body.strip() == holder
    lab.host(holder).check_output("systemctl stop keepalived")
    wait_for("both VIPs elsewhere", lambda: together() and lab.holders() != [holder], seconds=5, every=0.2)
    assert clients.http_get(VIP6, "web.example").body.strip() == lab.holders()[0]
    lab.host(holder).check_output("systemctl start keepalived")
