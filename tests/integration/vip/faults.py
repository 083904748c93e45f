"""What can go wrong with an edge. Each fault is a function that breaks something and returns what mends it again."""

from collections.abc import Callable, Sequence

from integration.vip.machines import Machine

Mend = Callable[[], None]
# fault(holder, the other edges, vip)
Fault = Callable[[Machine, Sequence[Machine], str], Mend]


def _nothing() -> None:
    """The edge mends itself."""


def node_lost(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    holder.off()
    return holder.on


def link_cut(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    holder.cable(plugged=False)
    return lambda: holder.cable(plugged=True)


def process_killed(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """All of keepalived at once: nothing is left that could take the VIP away."""
    holder.signal("keepalived", "KILL")
    return _nothing


def main_process_killed(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """The parent alone: its child is told by the kernel."""
    holder.run("kill", "-KILL", str(holder.pids("keepalived")[0]))
    return _nothing


def process_stopped(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """Frozen, as by a debugger or a storage that hangs."""
    pids = [str(pid) for pid in holder.pids("keepalived")]
    holder.run("kill", "-STOP", *pids)
    # A guard may have ended them by then
    return lambda: (holder.run("kill", "-CONT", *pids, check=False), None)[1]


def address_removed(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """By hand, or by some other program that owns the interface."""
    holder.run("ip", "address", "delete", f"{vip}/32", "dev", "eth0")
    return _nothing


def network_restarted(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """systemd-networkd takes away what isn't in its files."""
    holder.run("systemctl", "restart", "systemd-networkd.service")
    return _nothing


def partition(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """Adverts are lost between the holder and the others, everything else passes: two holders until it heals."""
    rules = (
        "add table inet edgeway_fault; "
        "add chain inet edgeway_fault in { type filter hook input priority -300; }; "
        "add chain inet edgeway_fault out { type filter hook output priority -300; }; "
        "add rule inet edgeway_fault in meta l4proto 112 drop; "
        "add rule inet edgeway_fault out meta l4proto 112 drop"
    )
    holder.run("nft", rules)
    return lambda: (holder.run("nft", "delete table inet edgeway_fault"), None)[1]


def peer_rebooted(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """A backup goes and comes back: the VIP stays where it is."""
    others[0].off()
    return others[0].on


def restarted(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """As an upgrade of the package does."""
    holder.run("systemctl", "restart", "keepalived.service")
    return _nothing


def drained(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """Planned, as drain.yml does it."""
    _drain(holder, "1")
    return lambda: _drain(holder, "0")


def _drain(machine: Machine, value: str) -> None:
    folder = "/var/lib/keepalived-vip"
    machine.run("sh", "-c", f"echo {value} >{folder}/.drained && mv {folder}/.drained {folder}/drained")


def haproxy_stopped(holder: Machine, others: Sequence[Machine], vip: str) -> Mend:
    """What forwards on an edge outside the cluster."""
    holder.run("systemctl", "stop", "haproxy.service")
    return lambda: (holder.run("systemctl", "start", "haproxy.service"), None)[1]


FAULTS: dict[str, Fault] = {
    "node-lost": node_lost,
    "link-cut": link_cut,
    "process-killed": process_killed,
    "main-process-killed": main_process_killed,
    "process-stopped": process_stopped,
    "address-removed": address_removed,
    "network-restarted": network_restarted,
    "partition": partition,
    "peer-rebooted": peer_rebooted,
    "restarted": restarted,
    "drained": drained,
}
