"""How long a VIP is nowhere, fault by fault, beside the time that VRRP allows: python tests/bench/vip.py --help"""

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from integration.vip import faults, trial
from integration.vip.machines import Machine
from integration.vip.watch import Watch
from outside import lab

ADVERT = 0.1
# What the role gives the second edge in order, and the third (plugins/module_utils/_vrrp.py)
BACKUP_PRIORITIES = (218, 214)


def limit(adverts: int = 3) -> float:
    """The longest time until a backup takes over, in milliseconds, counted from the holder's last advert."""
    return 1000 * (adverts * ADVERT + (256 - BACKUP_PRIORITIES[0]) / 256 * ADVERT)


def _edges(options: argparse.Namespace) -> tuple[list[Machine], str, trial.Target]:
    """Those of the command line, else the lab's; Envoy's readiness there, so that no backend has a part in it."""
    if options.edge:
        edges = [Machine(*text.split("=", 1)) for text in options.edge]
        return edges, options.vip, trial.Target(options.port, path=options.path)
    found = lab.load()
    edges = [Machine(name, found.machines[name]) for name in found.edges]
    return edges, options.vip or found.vip, trial.Target(options.port, path=options.path)


def _row(name: str, values: Sequence[float], extra: str) -> str:
    middle = statistics.median(values)
    return f"{name:<20} {len(values):>5} {middle:>8.0f} {max(values):>8.0f}  {extra}"


def tries(names: Sequence[str], count: int, edges: Sequence[Machine], vip: str, target: trial.Target) -> int:
    """Each fault `count` times; p50 and maximum of the gap that clients saw."""
    print(f"VRRP allows {limit():.0f} ms without a holder: 3 adverts of {ADVERT * 1000:.0f} ms and the backup's skew.")
    print(f"{'fault':<20} {'tries':>5} {'p50 ms':>8} {'max ms':>8}  lost, time with no holder and with two")
    bad = 0
    for name in names:
        results = []
        for _number in range(count):
            result = trial.run(
                name,
                faults.FAULTS[name],
                edges,
                vip,
                target,
                rate=200,
                broken=3.5 if name in ("process-stopped", "check-failed") else 1.5,
                mended=1.5,
            )
            results.append(result)
            if result.fault.settled is None and name != "partition":
                bad += 1
                print(result, file=sys.stderr)
        lost = sum(result.lost for result in results)
        sent = sum(result.sent for result in results)
        none = max(result.none for result in results)
        several = max(result.several for result in results)
        extra = f"{lost} of {sent} lost; no holder at most {none:.0f} ms, two at most {several:.0f} ms"
        print(_row(name, [result.gap for result in results], extra), flush=True)
    return bad


def one_after_the_other(count: int, seed: int, edges: Sequence[Machine], vip: str) -> int:
    """Random faults, each mended before the next; exactly one holder within 2 s of each and of its healing."""
    choose = random.Random(seed)  # noqa: S311  faults, not keys
    names = [name for name in faults.FAULTS if name not in ("node-lost", "peer-rebooted", "partition", "check-failed")]
    names = [name for name in names if name != "all-checks-failed"]
    slowest: dict[str, float] = {}
    bad = 0
    with Watch(edges, vip) as watch:
        for number in range(1, count + 1):
            name = choose.choice(names)
            holder = next(edge for edge in edges if edge.name == watch.one_holder(10))
            others = [edge for edge in edges if edge is not holder]
            allowed = 5.0 if name == "process-stopped" else 2.0
            began = time.monotonic()
            mend = faults.FAULTS[name](holder, others, vip)
            time.sleep(choose.uniform(0.0, 3.0))
            middle = watch.tally(began)
            healed = time.monotonic()
            mend()
            time.sleep(allowed)
            after = watch.tally(healed)
            late = [tally for tally in (after,) if tally.settled is None or tally.settled > allowed * 1000]
            took = max((tally.settled or 0.0) for tally in (middle, after))
            slowest[name] = max(slowest.get(name, 0.0), took)
            if late:
                bad += 1
                print(f"fault {number} (seed {seed}): {name} on {holder.name}: {after}", file=sys.stderr, flush=True)
        final = watch.one_holder(10)
    for name, took in sorted(slowest.items()):
        print(f"{name:<20} one holder after {took:.0f} ms at most")
    print(f"{count} faults with seed {seed}: {bad} without exactly one holder in time; {final} holds the VIP now")
    return bad


@contextlib.contextmanager
def _busy(cores: int) -> Iterator[None]:
    """Keep that many cores busy with processes of normal priority."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _number in range(cores)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def quiet(minutes: float, cores: int, edges: Sequence[Machine], vip: str) -> int:
    """Nothing fails, the machine is busy: whatever moves the VIP is a false failover."""
    with Watch(edges, vip, period=0.02) as watch:
        holder = watch.one_holder(10)
        with _busy(cores):
            began = time.monotonic()
            time.sleep(minutes * 60)
            end = time.monotonic()
        moves = sum(
            1
            for sample, after in zip(watch.samples, watch.samples[1:], strict=False)
            if sample.holders != after.holders
        )
        found = watch.tally(began, end)
    print(
        f"{minutes:g} minutes with {cores} cores busy: {moves} changes of holder (from {holder}), "
        f"no holder {found.none:.0f} ms, two {found.several:.0f} ms, sampled every {watch.slowest():.0f} ms at worst"
    )
    return moves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", action="append", metavar="NAME=ADDRESS", help="an edge, instead of the lab's")
    parser.add_argument("--vip", help="instead of the lab's")
    parser.add_argument("--port", type=int, default=15021, help="what clients ask (15021, Envoy's readiness)")
    parser.add_argument("--path", default="/healthz/ready")
    commands = parser.add_subparsers(dest="command", required=True)
    added = commands.add_parser("tries", help="one kind of fault again and again")
    added.add_argument("fault", nargs="+", choices=list(faults.FAULTS))
    added.add_argument("--count", type=int, default=20)
    added = commands.add_parser("random", help="random faults one after the other")
    added.add_argument("--count", type=int, default=100)
    added.add_argument("--seed", type=int, default=1)
    added = commands.add_parser("quiet", help="no fault, busy cores")
    added.add_argument("--minutes", type=float, default=10)
    added.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    edges, vip, target = _edges(options)
    match options.command:
        case "tries":
            bad = tries(options.fault, options.count, edges, vip, target)
        case "random":
            bad = one_after_the_other(options.count, options.seed, edges, vip)
        case _:
            bad = quiet(options.minutes, options.cores, edges, vip)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
