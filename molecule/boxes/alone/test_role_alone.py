"""The role keepalived without Istio or Kubernetes, on two bare machines, from the example in its README."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from outside import clients
from outside.lab import BOXES, ROOT, Lab, wait_for
from outside.runs import Ended, playbook

VIP, VIP6 = "10.77.0.101", "fd77::101"
HOSTS = {"web1": "box1", "web2": "box2"}
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
    addresses = {"web1": "fd77::31", "web2": "fd77::32"}
    run(files, keepalived_vips=vips, keepalived_address6="{{ " + str(addresses) + "[inventory_hostname] }}")
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
