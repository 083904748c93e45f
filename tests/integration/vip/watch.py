"""Who held a VIP when, read from every edge's kernel all through a fault."""

import dataclasses
import itertools
import threading
import time
from collections.abc import Sequence

from outside import stream

from integration.vip.kernel import Namespace
from integration.vip.machines import Machine

PERIOD = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """`at` in seconds of time.monotonic()."""

    at: float
    holders: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """Times in milliseconds since the fault. `settled` is when the last change to one holder came; None: never."""

    none: float
    several: float
    settled: float | None
    holder: str


class Watch:
    """Sample the edges until the `with` block ends.

    with Watch(machines, "192.0.2.100") as watch:
        fault = time.monotonic()
        ...
    print(watch.tally(fault))
    """

    def __init__(self, machines: Sequence[Machine], vip: str, period: float = PERIOD) -> None:
        self.vip = vip
        self.samples: list[Sample] = []
        self._period = period
        self._namespaces: dict[str, Namespace] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="watch")
        for machine in machines:
            self.add(machine)

    def add(self, machine: Machine) -> None:
        """Watch this machine, from now on."""
        namespace = Namespace(machine.pid)
        with self._lock:
            self._namespaces[machine.name] = namespace

    def drop(self, machine: Machine) -> None:
        """Let go of a machine that is about to be off: its network would live as long as it is watched."""
        with self._lock:
            namespace = self._namespaces.pop(machine.name, None)
        if namespace:
            namespace.close()

    @property
    def holders(self) -> tuple[str, ...]:
        """The newest sample's."""
        return self.samples[-1].holders

    def __enter__(self) -> "Watch":
        self._thread.start()
        while not self.samples and not self._failure:
            time.sleep(self._period)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        for namespace in self._namespaces.values():
            namespace.close()
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        stream.hurry()
        try:
            due = time.monotonic()
            while not self._stop.is_set():
                with self._lock:
                    holders = tuple(name for name, space in self._namespaces.items() if space.has(self.vip))
                self.samples.append(Sample(time.monotonic(), holders))
                due = max(due + self._period, time.monotonic())
                self._stop.wait(max(0.0, due - time.monotonic()))
        except OSError as failure:
            self._failure = failure

    def tally(self, since: float, until: float | None = None) -> Tally:
        """Add up what was seen between two moments of time.monotonic()."""
        return tally(self.samples, since, until)

    def slowest(self) -> float:
        """The longest pause between samples in milliseconds: nothing shorter than it can be told."""
        pauses = (after.at - before.at for before, after in itertools.pairwise(self.samples))
        return max(pauses, default=0.0) * 1000

    def one_holder(self, seconds: float, calm: float = 0.5) -> str:
        """Wait until one edge has held the VIP for `calm` seconds; TimeoutError if that never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            recent = [sample for sample in self.samples[-2000:] if sample.at >= time.monotonic() - calm]
            seen = {sample.holders for sample in recent}
            if recent and time.monotonic() - self.samples[0].at >= calm and len(seen) == 1:
                (holders,) = seen
                if len(holders) == 1:
                    return holders[0]
            time.sleep(self._period)
        raise TimeoutError(f"not one holder in {seconds:g} s: {self.holders}")


def tally(samples: Sequence[Sample], since: float, until: float | None = None) -> Tally:
    """Each sample counts until the next one."""
    end = until if until is not None else samples[-1].at
    none = several = 0.0
    settled: float | None = None
    holder = ""
    for sample, after in itertools.pairwise([*samples, Sample(max(end, samples[-1].at), ())]):
        begin, over = max(sample.at, since), min(after.at, end)
        if sample.at > end or (over <= begin and after.at < since):
            continue
        if not sample.holders:
            none += max(0.0, over - begin)
        elif len(sample.holders) > 1:
            several += max(0.0, over - begin)
        if len(sample.holders) != 1:
            settled, holder = None, ""
        elif sample.holders[0] != holder:
            settled, holder = max(0.0, sample.at - since), sample.holders[0]
    return Tally(none * 1000, several * 1000, None if settled is None else settled * 1000, holder)
