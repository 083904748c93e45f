"""One fault under load: a stream of new connections, one long-lived connection, and every edge's addresses."""

import contextlib
import dataclasses
import http.client
import threading
import time
from collections.abc import Sequence

from outside import stream

from integration.vip.faults import Fault, node_lost, peer_rebooted
from integration.vip.machines import Machine
from integration.vip.watch import Tally, Watch


class Lasting:
    """One HTTP connection that is kept, with a request every 100 ms. `lived` is in seconds from the beginning."""

    def __init__(self, address: str, port: int, host: str, path: str) -> None:
        self.broken = ""
        self.answers = 0
        self.lived = 0.0
        self._asked = (path, {"Host": host})
        self._target = (address, port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lasting")

    def __enter__(self) -> "Lasting":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            client = http.client.HTTPConnection(*self._target, timeout=1)
            with contextlib.closing(client):
                client.connect()
                opened = client.sock
                while not self._stop.wait(0.1):
                    client.request("GET", self._asked[0], headers=self._asked[1])
                    answer = client.getresponse()
                    answer.read()
                    if answer.status != 200:
                        raise ConnectionError(f"status {answer.status}")
                    if client.sock is not opened:
                        raise ConnectionError("the server closed it")
                    self.answers += 1
                    self.lived = time.monotonic() - began
        except (OSError, http.client.HTTPException) as error:
            self.broken = str(error) or type(error).__name__


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What one fault did. `fault` counts from the fault to its healing, `healing` from there to the end.

    `gap` and `healing_gap` are the longest times without an answer that begin before and after the healing, in ms.
    """

    name: str
    before: str
    fault: Tally
    healing: Tally
    gap: float
    healing_gap: float
    sent: int
    lost: int
    reasons: str
    lasting: str
    slowest_sample: float

    @property
    def longest_gap(self) -> float:
        return max(self.gap, self.healing_gap)

    @property
    def none(self) -> float:
        return self.fault.none + self.healing.none

    @property
    def several(self) -> float:
        return self.fault.several + self.healing.several

    def __str__(self) -> str:
        def settled(tally: Tally) -> str:
            return "never" if tally.settled is None else f"{tally.settled:.0f} ms"

        moved = f"{self.before} -> {self.fault.holder or '?'}"
        if self.healing.holder != self.fault.holder:
            moved += f" -> {self.healing.holder or '?'}"
        return (
            f"{self.name}: {moved}; no holder {self.none:.0f} ms, two {self.several:.0f} ms; "
            f"one holder after {settled(self.fault)}, after the healing {settled(self.healing)}; "
            f"longest gap {self.gap:.0f} ms, after the healing {self.healing_gap:.0f} ms; "
            f"lost {self.lost} of {self.sent}"
            f"{f' ({self.reasons}; the fault at 1 s)' if self.reasons else ''}; "
            f"long-lived connection {self.lasting}; sampled every {self.slowest_sample:.0f} ms at worst"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What clients ask of the VIP: HTTP at this port, hostname and path."""

    port: int
    host: str = "edge.example"
    path: str = "/"


def run(
    name: str,
    fault: Fault,
    edges: Sequence[Machine],
    vip: str,
    target: Target,
    *,
    rate: float = 100,
    broken: float = 3,
    mended: float = 3,
) -> Result:
    """Wait for one holder, break it for `broken` seconds, mend it, and look on for `mended` seconds."""
    with Watch(edges, vip) as watch:
        before = watch.one_holder(30, calm=1)
        holder = next(edge for edge in edges if edge.name == before)
        others = [edge for edge in edges if edge.name != before]
        attempt = stream.http_attempt(vip, target.host, target.path, port=target.port)
        with (
            Lasting(vip, target.port, target.host, target.path) as lasting,
            stream.Stream(attempt, rate=rate, seconds=600) as clients,
        ):
            time.sleep(1)
            gone = holder if fault is node_lost else others[0] if fault is peer_rebooted else None
            if gone:
                watch.drop(gone)
            at = time.monotonic()
            mend = fault(holder, others, vip)
            time.sleep(max(0.0, at + broken - time.monotonic()))
            healed = time.monotonic()
            mend()
            if gone:
                watch.add(gone)
            time.sleep(mended)
            end = time.monotonic()
        report = clients.report
    return Result(
        name=name,
        before=before,
        fault=watch.tally(at, healed),
        healing=watch.tally(healed, end),
        gap=report.gap(until=healed - clients.began)[0] * 1000,
        healing_gap=report.gap(since=healed - clients.began)[0] * 1000,
        sent=report.sent,
        lost=report.lost,
        reasons=report.told,
        lasting=f"broke after {lasting.lived:.1f} s ({lasting.broken})" if lasting.broken else "lived",
        slowest_sample=watch.slowest(),
    )
