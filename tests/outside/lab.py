"""The lab that is up, as its inventory and .lab/ describe it: machines over SSH, VIP holders, the power switch."""

import concurrent.futures
import dataclasses
import functools
import json
import pathlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import testinfra

ROOT = pathlib.Path(__file__).parents[2]
KUBECONFIG = ROOT / ".lab/kubeconfig"
INVENTORY = ROOT / "inventories/lab"
BOXES = ROOT / "inventories/lab-boxes"


@dataclasses.dataclass(frozen=True)
class Lab:
    """`machines` is name: address. `edges` are in order of priority, the VIP's preferred holder first."""

    vip: str
    machines: dict[str, str]
    edges: tuple[str, ...]
    exposures: tuple[dict[str, Any], ...]

    @functools.cached_property
    def authority(self) -> str:
        """The certificate (PEM) that signed those of the lab's servers."""
        return (ROOT / ".lab/tls/ca.crt").read_text()

    def host(self, name: str) -> Any:
        """A machine for testinfra. No kept connection: it would hang when the machine's power is cut."""
        ssh = ROOT / ".lab/ssh"
        return testinfra.get_host(
            f"ssh://root@{self.machines[name]}",
            ssh_identity_file=str(ssh / "id_ed25519"),
            ssh_extra_args=f"-o UserKnownHostsFile={ssh / 'known_hosts'} -o LogLevel=ERROR "
            "-o StrictHostKeyChecking=accept-new",
            controlpersist=0,
            timeout=3,
        )

    def holders(self) -> list[str]:
        """The edges whose kernel has the VIP; one that can't be reached has lost it as far as clients can tell."""

        def holds(name: str) -> bool:
            try:
                shown = self.host(name).check_output(f"ip -oneline address show to {self.vip}")
            except RuntimeError:  # ssh itself failed
                return False
            # On the loopback interface it may be anywhere: nobody is told of that
            return any(f" {self.vip}/" in line and not line.startswith("1: lo ") for line in shown.splitlines())

        with concurrent.futures.ThreadPoolExecutor(len(self.edges)) as pool:
            return [name for name, holding in zip(self.edges, pool.map(holds, self.edges), strict=True) if holding]

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints, with an administrator's rights; `text` is its standard input."""
        return self._command("kubectl", *arguments, text=text)

    def istioctl(self, *arguments: str) -> str:
        """What istioctl prints; it may wait for pods."""
        return self._command("istioctl", *arguments, timeout=240)

    def helm(self, *arguments: str, text: str | None = None) -> str:
        """What Helm prints."""
        return self._command("helm", *arguments, text=text)

    def apply(self, manifests: str) -> None:
        """Apply manifests, as somebody does by hand."""
        self.kubectl("apply", "--filename=-", text=manifests)

    def _command(self, name: str, *arguments: str, text: str | None = None, timeout: float = 60) -> str:
        command = [str(ROOT / ".lab/bin" / name), "--kubeconfig", str(KUBECONFIG), *arguments]
        ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, check=False)
        if ended.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)}: {ended.stderr.strip()}")
        return ended.stdout

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """What `kubectl get ARGUMENTS` finds, each object as a dict."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "--output", "json"))["items"]
        return items

    def ports(self, service: str = "istio-ingressgateway", namespace: str = "istio-system") -> dict[int, int]:
        """The ports of a gateway's Service, each with its nodePort."""
        (found,) = self.objects("service", f"--namespace={namespace}", f"--field-selector=metadata.name={service}")
        return {port["port"]: port.get("nodePort", 0) for port in found["spec"]["ports"]}

    def taken_up(self, ports: Iterable[tuple[int, int]]) -> None:
        """Wait until the VIP and every edge accept connections at new (port, nodePort) of a gateway's Service.

        kube-proxy takes a Service up at most once a second, and there is nobody to ask whether it has.
        """
        for port, node_port in ports:
            self.opens(self.vip, port)
            for name in self.edges:
                self.opens(self.machines[name], node_port)

    def opens(self, address: str, port: int) -> None:
        """Wait until a connection can be opened."""
        wait_for(f"{address}:{port} to open", lambda: accepts(address, port), seconds=5, every=0.1)

    def rolled_out(self, namespace: str, *, seconds: float = 120) -> None:
        """Wait until every Deployment of a namespace runs as it was asked for."""

        def there(one: dict[str, Any]) -> bool:
            status = one.get("status", {})
            seen = status.get("observedGeneration") == one["metadata"]["generation"]
            counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
            return seen and counts == {one["spec"]["replicas"]}

        wait_for(
            f"Deployments of {namespace}",
            lambda: all(there(one) for one in self.objects("deployment", f"--namespace={namespace}")),
            seconds=seconds,
        )

    def node_ready(self, name: str) -> bool:
        (node,) = self.objects("node", f"--field-selector=metadata.name={name}")
        return any(it["type"] == "Ready" and it["status"] == "True" for it in node["status"]["conditions"])

    def power(self, name: str, *, on: bool) -> None:
        """Pull a machine's plug, or start it again and wait for its SSH."""
        subprocess.run(
            ["ansible-playbook", "lab/node.yml", "-e", f"node={name}", "-e", f"state={'on' if on else 'off'}"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )


def load(inventory: pathlib.Path = INVENTORY) -> Lab:
    """Read the lab's inventory. FileNotFoundError where no lab is up."""
    if not KUBECONFIG.exists():
        raise FileNotFoundError(f"{KUBECONFIG}: no lab is up; make lab")
    listed = json.loads(
        subprocess.run(
            ["ansible-inventory", "--inventory", str(inventory), "--list"], check=True, capture_output=True, text=True
        ).stdout
    )
    variables = listed["_meta"]["hostvars"]
    edges = tuple(listed["edges"]["hosts"])
    first = variables[edges[0]]
    vips = first["edgeway_vip"]
    return Lab(
        vip=vips if isinstance(vips, str) else vips[0],
        machines={name: values["ansible_host"] for name, values in variables.items() if "ansible_host" in values},
        edges=edges,
        exposures=tuple(first["edgeway_exposures"]),
    )


def accepts(address: str, port: int) -> bool:
    """Whether a connection can be opened."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def wait_for(what: str, check: Callable[[], bool], *, seconds: float, every: float = 1.0) -> float:
    """Seconds until `check()` held; TimeoutError with `what` if it never did.

    A check that raises RuntimeError (the API server or SSH is away) doesn't hold yet.
    """
    began = time.monotonic()
    while True:
        try:
            if check():
                return time.monotonic() - began
            why = ""
        except RuntimeError as error:
            why = f": {error}"
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not in {seconds:g} s{why}")
        time.sleep(every)
