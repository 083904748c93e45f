"""Real requests against servers on the loopback: what each failure is called."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _requests
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Probe, Target

HTTP = Target("t", "HTTP", "web.example", 80)
TCP = Target("t", "TCP", "", 9000)
HTTPS = Target("t", "HTTPS", "web.example", 443)


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _address = listening.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(3)


def send(target: Target, port: int) -> Probe:
    return _requests.send(target, "vip", "x", f"127.0.0.1:{port}", _requests.opener("127.0.0.1", port, 1), 1)


def http(text: str) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text.encode())

    return answer


def test_http() -> None:
    with serving(http("HTTP/1.1 404 Not Found\r\nServer: istio-envoy\r\nContent-Length: 2\r\n\r\nno")) as port:
        found = send(HTTP, port)
    assert (found.status, found.body, found.headers["server"], found.failure) == (404, "no", "istio-envoy", "")
    assert not found.from_backend


def test_the_host_header_is_the_target_s() -> None:
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(answer) as port:
        send(Target("t", "HTTP", "web.example", 8088, path="/a?b=c"), port)
    assert b"GET /a?b=c HTTP/1.1" in seen[0]
    assert b"Host: web.example:8088" in seen[0]


def test_only_safe_methods_are_sent() -> None:
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(answer) as port:
        send(Target("t", "HTTP", "web.example", 80, method="DELETE"), port)
    assert seen[0].startswith(b"GET ")


@pytest.mark.parametrize("target", [HTTP, HTTPS])
def test_closed_without_an_answer(target: Target) -> None:
    with serving(lambda connection: (connection.recv(4096), None)[1]) as port:
        assert send(target, port).failure in ("closed", "reset")


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = send(HTTP, port)
    assert (found.connected, found.failure) == (False, "refused")


def test_no_answer_in_time() -> None:
    gone = threading.Event()
    with serving(lambda connection: (gone.wait(3), None)[1]) as port:
        assert send(HTTP, port).failure == "timeout"
        gone.set()


def test_first_bytes_of_a_server_that_speaks_first() -> None:
    with serving(lambda connection: connection.sendall(b"J\0\0\0 hello")) as port:
        assert send(TCP, port).first == "J... hello"


def test_a_server_that_waits_is_well() -> None:
    gone = threading.Event()
    with serving(lambda connection: (gone.wait(3), None)[1]) as port:
        found = send(TCP, port)
        gone.set()
    assert (found.failure, found.first, found.connected) == ("", "", True)


def test_tcp_closed_at_once() -> None:
    with serving(lambda connection: None) as port:
        assert send(TCP, port).failure == "closed"


def test_plain_server_where_tls_is_asked() -> None:
    with serving(http("HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert send(HTTPS, port).failure == "tls"


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_dns_server(server: str, found: tuple[str, int]) -> None:
    assert _requests._split(server) == found


def test_way() -> None:
    assert _requests.way_to("127.0.0.1").source == "127.0.0.1"
