"""How long the lab's VIP is nowhere, fault by fault, beside the time that VRRP allows.

Runs on the lab that is up, and writes what it measured into docs/failover.md. About 65 minutes; give names of parts to
measure these alone. With fewer tries than usual it only prints.
"""

import argparse
import datetime
import pathlib
import platform
import random
import re
import statistics
import sys
import time

from bench import metallb
from integration.vip import faults, suite, trial
from integration.vip.watch import Watch
from outside import lab as lab_module
from outside import stream
from outside.lab import ROOT, Lab

PAGE = ROOT / "docs/failover.md"
HEAD = f"""# Failover, measured

Written by `make bench-vip` on the lab: edges as containers of one machine, the role's defaults (adverts every
{suite.ADVERT:.0f} ms). Clients open a new connection every 5 ms, never try again, and wait a second at most; the gap
is the longest time between two good answers until the fault is healed. Who holds the VIP is read from every edge's
kernel each 10 ms.

VRRP itself allows {suite.limit(3):.0f} ms: three adverts and the skew of the next of three edges, from the last advert
that was heard (RFC 5798, 6.1). A link that is cut just before an advert is due is noticed that much later, so
{suite.limit(3) + suite.ADVERT:.0f} ms counted from the cut.
"""
# Each part's section: its title, and how to read it
SECTIONS = {
    "tries": (
        "The gap",
        """\
"The gateway" is Envoy's own readiness answer: nothing behind it counts. "A backend" is an answer that a pod gives,
through any edge: the cluster needs longer than VRRP to notice that a node with backends is gone, and ejection of the
dead ones does the rest. "Once healed" is the same from the healing on: where power was lost, an edge and its pods start
again then, on the cores that all of them share.""",
    ),
    "random": (
        "One holder, whatever happens",
        'Each is mended before the next. A seed gives the same ones again: `make bench-vip ARGS="random --seed 1"`.',
    ),
    "busy": ("False failovers", "Adverts that are late look like a dead holder. Nothing fails here."),
    "metallb": (
        "Beside MetalLB",
        """\
The same cluster, gateways and clients, with a Service of its own; MetalLB as its own manifests install it, at its
defaults. Each try begins when one of its speakers alone announces the address.""",
    ),
    "latency": ("What the VIP costs", "In turn through the VIP and through the node port of the edge that holds it."),
}
TRIES = 20


class Bench:
    """The lab's edges, and how often each fault is tried."""

    def __init__(self, lab: Lab, tries: int, seed: int) -> None:
        self.lab = lab
        self.edges = suite.machines(lab)
        self.count = tries
        self.seed = seed

    def _series(self, name: str, fault: faults.Fault, count: int, target: trial.Target, **options: float) -> str:
        results = []
        for _number in range(count):
            suite.ready(self.lab, self.edges)
            results.append(
                trial.run(name, fault, self.edges, self.lab.vip, target, **{"rate": 200, "broken": 1.5} | options)
            )
            if results[-1].fault.settled is None:
                print(results[-1], file=sys.stderr, flush=True)
        gaps = [result.gap for result in results]
        lost, sent = sum(result.lost for result in results), sum(result.sent for result in results)
        none = max(result.none for result in results)
        after = max(result.healing_gap for result in results)
        row = f"{count} | {statistics.median(gaps):.0f} | {max(gaps):.0f} | {after:.0f} | {none:.0f} | {lost} of {sent}"
        print(f"{name}: {row}", flush=True)
        return row

    def tries(self) -> str:
        """The gap that clients see, each fault again and again."""
        lines = [
            "| fault | asked | tries | p50 ms | max ms | once healed, max ms | no holder ms, at most | requests lost |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        gone = suite.gateway_gone(self.lab)
        for title, name, fault, count, options in (
            ("link cut", "link-cut", faults.link_cut, 5 * self.count, {}),
            ("power lost", "node-lost", faults.node_lost, self.count, {}),
            ("keepalived killed (`kill -9`)", "process-killed", faults.process_killed, self.count, {}),
            ("gateway pod killed", "gateway-gone", gone, self.count, {"broken": 4}),
            ("planned, by drain", "drained", faults.drained, self.count, {"broken": 3}),
        ):
            lines.append(f"| {title} | the gateway | {self._series(name, fault, count, suite.READINESS, **options)} |")
        for title, name, fault in (
            ("link cut", "link-cut", faults.link_cut),
            ("power lost", "node-lost", faults.node_lost),
        ):
            row = self._series(f"{name}, through a backend", fault, self.count, suite.BACKEND)
            lines.append(f"| {title} | a backend | {row} |")
        return "\n".join(lines)

    def random(self) -> str:
        """Random faults, each mended before the next; exactly one holder in time after each and after its healing."""
        choose = random.Random(self.seed)  # noqa: S311  faults, not keys
        names = ["link-cut", "process-killed", "main-process-killed", "process-stopped", "address-removed"]
        names += ["network-restarted", "restarted", "drained"]
        count = 5 * self.count
        slowest: dict[str, float] = {}
        tried: dict[str, int] = {}
        late = 0
        with Watch(self.edges, self.lab.vip) as watch:
            for number in range(1, count + 1):
                name = choose.choice(names)
                holder = next(edge for edge in self.edges if edge.name == watch.one_holder(10))
                others = [edge for edge in self.edges if edge is not holder]
                allowed = (suite.SETTLED_FROZEN if name == "process-stopped" else suite.SETTLED) / 1000
                began = time.monotonic()
                mend = faults.FAULTS[name](holder, others, self.lab.vip)
                # As long as the clock allows: what isn't settled by then counts, and then it heals
                time.sleep(allowed + choose.uniform(0.0, 1.0))
                healed = time.monotonic()
                mend()
                time.sleep(suite.SETTLED / 1000)
                found = (watch.tally(began, healed), watch.tally(healed))
                times = [allowed * 1000 + 1 if tally.settled is None else tally.settled for tally in found]
                tried[name] = tried.get(name, 0) + 1
                slowest[name] = max(slowest.get(name, 0.0), *times)
                if times[0] > allowed * 1000 or times[1] > suite.SETTLED:
                    late += 1
                    print(f"fault {number}: {name} on {holder.name}: {found}", file=sys.stderr, flush=True)
            watch.one_holder(10)
        lines = ["| fault | times | one holder after, at most |", "| --- | --- | --- |"]
        lines += [f"| {name} | {tried[name]} | {slowest[name]:.0f} ms |" for name in sorted(tried)]
        lines += ["", f"{count} faults, seed {self.seed}: {late} times there was not exactly one holder in time."]
        return "\n".join(lines)

    def busy(self) -> str:
        """Nothing fails while both cores are busy: whatever moves the VIP is a false failover."""
        minutes = self.count / 2
        moves, pause = suite.changes_while_busy(self.edges, self.lab.vip, cores=len(_cores()), seconds=minutes * 60)
        return (
            f"{minutes:g} minutes with all cores kept busy by processes of normal priority on the holder: {moves} "
            f"changes of holder, sampled every {pause:.0f} ms at worst."
        )

    def metallb(self) -> str:
        """The same fault under MetalLB at its defaults, one run after the other."""
        gaps = []
        for _number in range(self.count // 2):
            suite.ready(self.lab, self.edges)
            ours = trial.run("link-cut", faults.link_cut, self.edges, self.lab.vip, suite.READINESS, rate=200)
            gaps.append(ours.gap)
        cuts = metallb.cuts(self.lab, self.edges, self.count // 2)
        theirs = [cut.gap for cut in cuts]
        ratio = statistics.median(theirs) / statistics.median(gaps)
        shown = [f"{cut.gap:.0f}" if cut.over else f"more than {cut.gap:.0f}" for cut in cuts]
        return "\n".join(
            [
                f"| link of the node that answers cut | gap in ms, {len(gaps)} tries |",
                "| --- | --- |",
                f"| this role | {', '.join(f'{gap:.0f}' for gap in gaps)} |",
                f"| MetalLB, layer 2 | {', '.join(shown)} |",
                "",
                f"MetalLB's median is {ratio:.0f} × ours, its best {min(theirs) / max(gaps):.0f} × our worst.",
            ]
        )

    def latency(self) -> str:
        """Requests through the VIP and through the node port of the same node, in turn."""
        (holder,) = self.lab.holders()
        node_port = self.lab.ports()[80]
        ways = {
            "the VIP": stream.http_attempt(self.lab.vip, suite.BACKEND.host),
            "the node port": stream.http_attempt(self.lab.machines[holder], suite.BACKEND.host, port=node_port),
        }
        times = stream.in_turn(ways, count=500 * self.count)
        p99 = {name: statistics.quantiles(found, n=100)[98] for name, found in times.items()}
        lines = ["| through | requests | p50 ms | p99 ms |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {len(found)} | {1000 * statistics.median(found):.2f} | {1000 * p99[name]:.2f} |"
            for name, found in times.items()
        ]
        lines += [
            "",
            f"p99 through the VIP is {p99['the VIP'] / p99['the node port']:.2f} × that through the node port.",
        ]
        return "\n".join(lines)


def page(part: str, found: str, before: str) -> str:
    """docs/failover.md with a part's section anew, and the others as they were in `before`."""
    sections = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", before, re.MULTILINE | re.DOTALL))
    title, about = SECTIONS[part]
    today = datetime.datetime.now(tz=datetime.UTC)
    measured = f"Measured on {today:%Y-%m-%d}, on {len(_cores())} cores with Linux {platform.release()}."
    sections[title] = f"\n{about}\n\n{found}\n\n{measured}\n"
    titles = [title for title, _about in SECTIONS.values() if title in sections]
    return HEAD + "".join(f"\n## {title}\n{sections[title].rstrip()}\n" for title in titles)


def _cores() -> list[str]:
    return [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(SECTIONS)}; all if none is given")
    parser.add_argument(
        "--tries", type=int, default=TRIES, help=f"of each fault ({TRIES}); five times as many of those that count"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random faults (1)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(SECTIONS):
        parser.error(f"no part {', '.join(unknown)}: {', '.join(SECTIONS)}")
    lab = lab_module.load()
    bench = Bench(lab, options.tries, options.seed)
    for name in options.parts or SECTIONS:
        found = getattr(bench, name)()
        print(f"\n{found}\n", flush=True)
        if len(lab.holders()) != 1:
            print(f"The VIP's holders after {name}: {lab.holders()}", file=sys.stderr)
            return 1
        if options.tries >= TRIES:
            PAGE.write_text(page(name, found, PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
