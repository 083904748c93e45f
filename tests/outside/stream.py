"""A bounded stream of requests, each on a new connection, without a retry: what is lost and for how long.

The rate is kept whatever the answers do: a request that waits for its timeout doesn't delay the next ones. So N
requests a second for S seconds are N × S attempts, and a lost one is one that a user would have lost.
"""

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping

# One attempt: returns if the answer was right, raises OSError or asyncio.TimeoutError if not
Attempt = Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """`at` in seconds from the stream's start, when the attempt began."""

    at: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Times in seconds from the stream's start. `answered`: its beginning, each good answer, and its end."""

    sent: int
    answered: tuple[float, ...]
    losses: tuple[Loss, ...]

    def gap(self, since: float = 0.0, until: float = math.inf) -> tuple[float, float]:
        """(length, beginning) of the longest time without a good answer, of those that begin between two moments."""
        gaps = [(after - at, at) for at, after in itertools.pairwise(self.answered) if since <= at < until]
        return max(gaps, default=(0.0, 0.0))

    @property
    def longest_gap(self) -> float:
        return self.gap()[0]

    @property
    def lost(self) -> int:
        return len(self.losses)

    def __str__(self) -> str:
        text = f"{self.sent} sent, {self.lost} lost, longest gap {self.longest_gap * 1000:.0f} ms"
        return f"{text} ({self.told})" if self.losses else text

    @property
    def told(self) -> str:
        """Each reason with the times of its first and last loss."""
        told = []
        for reason in sorted({loss.reason for loss in self.losses}):
            times = [loss.at for loss in self.losses if loss.reason == reason]
            told.append(f"{len(times)} × {reason}, {min(times):.2f} to {max(times):.2f} s")
        return "; ".join(told)


def http_attempt(
    address: str, host: str, path: str = "/", *, port: int = 80, status: int = 200, expect: bytes = b""
) -> Attempt:
    """Good is: this status, the body as long as it says, with `expect` in it."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    async def attempt() -> None:
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(request)
            # Not until the end of the connection: Envoy keeps it for a second after an answer of its own
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                body = await (reader.readexactly(length[0]) if length else reader.read(-1))
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("answer cut short" if error.partial else "closed without an answer") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        got = b"".join(head.split(b"\r\n", 1)[0].split(b" ", 2)[1:2]).decode(errors="replace")
        if got != str(status):
            # Envoy says in it why it couldn't serve
            said = body.partition(b"\n")[0].decode(errors="replace").strip()
            raise ConnectionError(f"status {got} {said[:100]}".rstrip())
        if expect not in body:
            raise ConnectionError("another answer")

    return attempt


def tcp_attempt(address: str, port: int, send: bytes = b"", *, expect: bytes) -> Attempt:
    """Good is: `expect` among the bytes that come back (or come first, with nothing sent)."""

    async def attempt() -> None:
        reader, writer = await asyncio.open_connection(address, port)
        received = b""
        try:
            writer.write(send)
            while expect not in received:
                chunk = await reader.read(65536)
                if not chunk:
                    raise ConnectionError("closed before the answer")
                received += chunk
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return attempt


def hurry() -> None:
    """Let this thread run before all that isn't in a hurry; without the right to that, like the others."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_RR, os.sched_param(1))


class Stream:
    """`rate` attempts a second until `seconds` are over or the `with` block ends, whichever is first.

    with Stream(http_attempt(vip, "hello.example"), rate=50, seconds=60) as stream:
        ...  # the fault
        stream.wait(3)
    print(stream.report)
    """

    def __init__(self, attempt: Attempt, *, rate: float, seconds: float, timeout: float = 1.0) -> None:
        self._attempt = attempt
        self._interval = 1 / rate
        self._count = math.floor(rate * seconds)
        self._timeout = timeout
        self.began = 0.0
        self._sent = 0
        self._answers: list[float] = []
        self._losses: list[Loss] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="stream")
        self._ended = 0.0

    def __enter__(self) -> "Stream":
        self.began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, seconds: float) -> None:
        """Let the stream run on for a while; at most until its end."""
        self._thread.join(seconds)

    def finish(self) -> None:
        """Wait for the stream's end."""
        self._thread.join()

    @property
    def report(self) -> Report:
        """Whole once the `with` block is over."""
        answered = (0.0, *sorted(self._answers), self._ended)
        return Report(self._sent, answered, tuple(sorted(self._losses, key=lambda loss: loss.at)))

    async def _run(self) -> None:
        # A gap is the VIP's: clients don't wait for what else this machine has to do
        hurry()
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                delay = self.began + number * self._interval - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                if self._stop.is_set():
                    break
                self._sent += 1
                group.create_task(self._one())
            # The stream ends with its last attempt's beginning: one still under way may only add an answer
            self._ended = time.monotonic() - self.began

    async def _one(self) -> None:
        at = time.monotonic() - self.began
        try:
            async with asyncio.timeout(self._timeout):
                await self._attempt()
        except TimeoutError:
            self._losses.append(Loss(at, f"no answer in {self._timeout:g} s"))
        except OSError as error:
            kind = f"{errno.errorcode.get(error.errno, error.errno)}: " if error.errno else ""
            self._losses.append(Loss(at, f"{kind}{error.strerror or error}"))
        else:
            self._answers.append(time.monotonic() - self.began)


def in_turn(ways: Mapping[str, Attempt], count: int) -> dict[str, list[float]]:
    """How long each of `count` attempts took in each way, in seconds; in turn, so that all see the same load.

    Raises what an attempt raises: a lost request has no time.
    """

    async def run() -> dict[str, list[float]]:
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(count):
            # Whoever comes first finds what the one before has left
            for name in sorted(ways, reverse=bool(number % 2)):
                began = time.perf_counter()
                await ways[name]()
                times[name].append(time.perf_counter() - began)
        return times

    return asyncio.run(run())
