"""The lab's edges under one fault each: what every test of molecule/vip starts from, and what it may cost."""

import contextlib
import functools
import itertools
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import kubernetes
import pytest
import yaml
from ansible_collections.edgeway.istio.plugins.module_utils.edges import _vrrp
from outside import clients
from outside import lab as lab_module
from outside.lab import INVENTORY, ROOT, Lab

from integration.vip import faults, trial
from integration.vip.machines import Machine
from integration.vip.watch import Watch

GATEWAY = ("--namespace=istio-system", "deployment/istio-ingressgateway")
# Envoy's readiness, on the gateway's Service: no backend has a part in the answer
READINESS = trial.Target(15021, path="/healthz/ready")
BACKEND = trial.Target(80, host="web.example")

# All in milliseconds. The role's default. A holder lets go when it hears its successor's first advert, which may be
# just before that one has the address: that nobody has it for less than an advert is no failure
ADVERT = 80.0
SETTLED = 2000.0
SETTLED_FROZEN = 5000.0


def limit(edges: int) -> float:
    """The longest time until a backup takes over, counted from the holder's last advert."""
    backups = [_vrrp.weights(position, edges, preempt=False).priority for position in range(1, edges)]
    return 1000 * _vrrp.failover_limit(ADVERT / 1000, max(backups))


# Three edges; the link may be cut just before an advert is due, and machines take their time
FAILOVER = limit(3) + ADVERT + 20


def machines(lab: Lab) -> list[Machine]:
    return [Machine(name, lab.machines[name]) for name in lab.edges]


def run(
    lab: Lab,
    capsys: pytest.CaptureFixture[str],
    name: str,
    fault: faults.Fault,
    *,
    rate: float = 100,
    broken: float = 3,
    mended: float = 3,
    target: trial.Target = READINESS,
    edges: Sequence[str] = (),
) -> trial.Result:
    """One fault under load, with its result printed. Every edge (or every one of `edges`) is ready before it."""
    watched = [machine for machine in machines(lab) if machine.name in (edges or lab.edges)]
    ready(lab, watched)
    result = trial.run(name, fault, watched, lab.vip, target, rate=rate, broken=broken, mended=mended)
    with capsys.disabled():
        print(f"\n{result}")
    return result


def settled(result: trial.Result, *, within: float = SETTLED, healed_within: float = SETTLED) -> None:
    """Exactly one edge has the VIP in time, after the fault and after its healing."""
    assert result.fault.settled is not None, f"not one holder after the fault: {result}"
    assert result.fault.settled <= within, f"late after the fault: {result}"
    assert result.healing.settled is not None, f"not one holder after the healing: {result}"
    assert result.healing.settled <= healed_within, f"late after the healing: {result}"


def ready(lab: Lab, edges: Sequence[Machine]) -> None:
    """Wait until the gateways are there and each edge's checks pass."""
    lab.rolled_out("istio-system")
    for machine in edges:
        lab_module.wait_for(
            f"keepalived of {machine.name}", functools.partial(_healthy, machine), seconds=60, every=0.5
        )


def _healthy(machine: Machine) -> bool:
    """Whether all checks passed: as keepalived does, by running them."""
    command = "systemctl is-active --quiet keepalived && /usr/libexec/keepalived-vip/checks && echo well"
    return bool(machine.run("sh", "-c", command, check=False).strip())


def changes_while_busy(edges: Sequence[Machine], vip: str, *, cores: int, seconds: float) -> tuple[int, float]:
    """How often the holder changes while that many of its cores are busy, and the longest pause between looks (ms)."""
    with Watch(edges, vip) as watch:
        holder = watch.one_holder(10)
        with _busy(next(edge for edge in edges if edge.name == holder), cores):
            began = time.monotonic()
            time.sleep(seconds)
            end = time.monotonic()
    held = [sample.holders for sample in watch.samples if began <= sample.at <= end]
    return sum(1 for one, after in itertools.pairwise(held) if one != after), watch.slowest()


@contextlib.contextmanager
def _busy(edge: Machine, cores: int) -> Iterator[None]:
    """Keep that many cores busy with processes of normal priority: in the edge, for its CPU time."""
    units = [f"edgeway-busy-{number}" for number in range(cores)]
    try:
        for unit in units:
            edge.run("systemd-run", f"--unit={unit}", "sh", "-c", "while :; do :; done")
        yield
    finally:
        edge.run("systemctl", "stop", *units, check=False)


def gateway_gone(lab: Lab) -> faults.Fault:
    """A gateway pod is killed, the holder's where it has one, without a chance to say goodbye.

    Not by kubectl, which takes up to half a second until it asks: that is no failover.
    """
    core = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(lab_module.KUBECONFIG)))

    def fault(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        pods = core.list_namespaced_pod("istio-system", label_selector="istio=ingressgateway").items
        pod = next((pod for pod in pods if pod.spec.node_name == holder.name), pods[0])
        core.delete_namespaced_pod(pod.metadata.name, "istio-system", grace_period_seconds=0)
        return lambda: lab.rolled_out("istio-system")

    return fault


def all_gateways_gone(lab: Lab) -> faults.Fault:
    def fault(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        lab.kubectl("scale", *GATEWAY, "--replicas=0")

        def mend() -> None:
            lab.kubectl("scale", *GATEWAY, f"--replicas={1 + len(others)}")
            lab.rolled_out("istio-system")

        return mend

    return fault


def gateways_restarted(lab: Lab) -> faults.Fault:
    """As an upgrade does it: one pod after the other."""

    def fault(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        lab.kubectl("rollout", "restart", *GATEWAY)
        return lambda: lab.rolled_out("istio-system")

    return fault


def played(*steps: Callable[[], object], back: Sequence[Callable[[], object]] = ()) -> faults.Fault:
    """A change of configuration as a fault: `steps` one after the other, `back` as its healing."""

    def fault(holder: Machine, others: Sequence[Machine], vip: str) -> faults.Mend:
        for step in steps:
            step()

        def mend() -> None:
            for step in back:
                step()

        return mend

    return fault


def fewer_edges(lab: Lab, left_out: str) -> Iterator[pathlib.Path]:
    """The lab's inventory without one edge; the machine is still known, and in no group that matters."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        listed = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
        listed["all"]["children"]["edges"]["hosts"] = {name: None for name in lab.edges if name != left_out}
        listed["all"]["vars"] = {
            key: value.replace("{{ inventory_dir }}/../..", str(ROOT)) if isinstance(value, str) else value
            for key, value in listed["all"]["vars"].items()
        }
        (path / "hosts.yml").write_text(yaml.safe_dump(listed))
        variables = (INVENTORY / "group_vars/all.yml").read_text()
        (path / "group_vars").mkdir()
        (path / "group_vars/all.yml").write_text(
            variables.replace("{{ inventory_dir | dirname | dirname }}", str(ROOT))
        )
        yield path


def neighbour(vip: str) -> str:
    """The MAC address at which this machine, the client outside, has the VIP."""
    shown = subprocess.run(["ip", "neighbour", "show", "to", vip], capture_output=True, text=True, check=True).stdout
    words = shown.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def sees_its_client(lab: Lab, gateway: str) -> None:
    """A workload and the log of the gateway whose label `istio` this is have the address of the host outside."""
    client = "10.77.0.1"
    answer = clients.http_get(lab.vip, "web.example", path="/who")
    assert answer.status == 200
    (forwarded,) = [line for line in answer.body.splitlines() if "X-Forwarded-For:" in line]
    assert forwarded.endswith(client)
    log = lab.kubectl("logs", "--namespace=istio-system", f"--selector=istio={gateway}", "--tail=100")
    assert any("/who" in line and client in line for line in log.splitlines()), log


def mac(machine: Machine) -> str:
    return machine.run("cat", "/sys/class/net/eth0/address").strip()


def wait_until_well(lab: Lab) -> None:
    """After a machine was off: its node is ready, its pods too."""
    for name in lab.edges:
        lab_module.wait_for(f"{name} ready", functools.partial(lab.node_ready, name), seconds=120)
    ready(lab, machines(lab))
