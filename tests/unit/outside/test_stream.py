"""The measuring stick itself: a stream that counted wrongly would make every failover look good."""

import asyncio
import http.server
import threading
from collections.abc import Iterator

import pytest
from outside import stream


async def _good() -> None:
    await asyncio.sleep(0)


def _failing(*numbers: int, error: Exception | None = None) -> stream.Attempt:
    """The attempts with these numbers, from 0, fail; with no error given they never answer."""
    count = iter(range(10**6))

    async def attempt() -> None:
        if next(count) not in numbers:
            return
        if error:
            raise error
        await asyncio.sleep(3600)

    return attempt


def _run(attempt: stream.Attempt, *, rate: float = 100, seconds: float = 0.3, timeout: float = 5) -> stream.Report:
    with stream.Stream(attempt, rate=rate, seconds=seconds, timeout=timeout) as running:
        running.finish()
    return running.report


def test_all_good() -> None:
    report = _run(_good)
    assert (report.sent, report.lost) == (30, 0)
    assert 0.005 < report.longest_gap < 1
    assert str(report).startswith("30 sent, 0 lost, longest gap ")


def test_a_loss_is_counted_and_widens_the_gap() -> None:
    report = _run(_failing(10, 11, 12, 13, 14, error=ConnectionRefusedError(111, "Connection refused")))
    assert (report.sent, report.lost) == (30, 5)
    assert 0.03 < report.longest_gap < 1
    assert report.gap()[1] == pytest.approx(0.09, abs=0.5)
    assert {loss.reason for loss in report.losses} == {"ECONNREFUSED: Connection refused"}
    assert report.losses[0].at == pytest.approx(0.10, abs=0.5)


def test_a_request_that_waits_for_its_timeout_does_not_delay_the_next() -> None:
    report = _run(_failing(5), timeout=1)
    assert (report.sent, report.lost) == (30, 1)
    assert report.losses[0].reason == "no answer in 1 s"
    assert report.longest_gap < 0.9


def test_nothing_answers_is_one_gap_from_beginning_to_end() -> None:
    report = _run(_failing(*range(100), error=OSError(113, "No route to host")))
    assert report.lost == report.sent == 30
    assert report.longest_gap == pytest.approx(0.3, abs=0.5)


def test_leaving_the_block_ends_the_stream() -> None:
    with stream.Stream(_good, rate=100, seconds=60) as running:
        running.wait(0.1)
    assert 1 <= running.report.sent <= 30


@pytest.mark.parametrize(
    ("answered", "between", "expected"),
    [
        ([], {}, (0.0, 0.0)),
        ([0.0], {}, (0.0, 0.0)),
        ([0.0, 1.0, 1.5, 4.0, 4.5], {}, (2.5, 1.5)),
        ([0.0, 1.0, 1.5, 4.0, 4.5], {"until": 1.5}, (1.0, 0.0)),
        ([0.0, 1.0, 1.5, 4.0, 4.5], {"since": 1.5}, (2.5, 1.5)),
        ([0.0, 1.0, 1.5, 4.0, 4.5], {"since": 1.6}, (0.5, 4.0)),
    ],
)
def test_the_longest_gap(answered: list[float], between: dict[str, float], expected: tuple[float, float]) -> None:
    assert stream.Report(0, tuple(answered), ()).gap(**between) == expected


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello from v1"
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", str(len(body) + (7 if self.path == "/short" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "expect", "reason"),
    [
        ("/", b"from v1", None),
        ("/none", b"", "status 404 hello from v1"),
        ("/short", b"", "answer cut short"),
        ("/", b"from v2", "another answer"),
    ],
)
def test_http_attempt(port: int, path: str, expect: bytes, reason: str | None) -> None:
    attempt = stream.http_attempt("127.0.0.1", "hello.example", path, port=port, expect=expect)
    report = _run(attempt, rate=20, seconds=0.2, timeout=1)
    assert report.sent == 4
    assert {loss.reason for loss in report.losses} == ({reason} if reason else set())


def test_http_attempt_that_expects_not_found(port: int) -> None:
    attempt = stream.http_attempt("127.0.0.1", "hello.example", "/none", port=port, status=404)
    assert _run(attempt, rate=20, seconds=0.1).lost == 0


def test_http_attempt_where_nothing_listens() -> None:
    report = _run(stream.http_attempt("127.0.0.1", "hello.example", port=1), rate=20, seconds=0.1)
    assert report.lost == report.sent == 2


def test_tcp_attempt(port: int) -> None:
    request = b"GET / HTTP/1.0\r\n\r\n"
    assert _run(stream.tcp_attempt("127.0.0.1", port, request, expect=b"v1"), rate=20, seconds=0.1).lost == 0
    wrong = _run(stream.tcp_attempt("127.0.0.1", port, request, expect=b"v2"), rate=20, seconds=0.1)
    assert {loss.reason for loss in wrong.losses} == {"closed before the answer"}
