"""Requests over TLS against a real server on the loopback: its certificate, and who trusts it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates, _requests
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Probe, ProxyHealth, Target
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "web.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    plain = serialization.NoEncryption()
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(written + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answer every connection by a function, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def secure(certificate: Path, *, clients: bool = False, answers: bool = True) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as talking:
            try:
                talking.do_handshake()
            except ssl.SSLError:
                # Closed with bytes unread, the client would see a reset instead of the reason
                while os.read(talking.fileno(), 4096):
                    pass
                return
            if talking.recv(4096) and answers:
                talking.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: 1\r\n\r\nok")

    return answer


def ask(port: int, authorities: str | None = None) -> Probe:
    target = Target("t", "HTTPS", HOST, 443)
    connect = _requests.opener("127.0.0.1", port, 1)
    return _requests.send(target, "vip", "x", f"127.0.0.1:{port}", connect, 1, authorities=authorities)


def test_the_answer_and_the_certificate(certificate: Path) -> None:
    with serving(secure(certificate)) as port:
        found = ask(port)
    assert (found.status, found.body, found.failure, found.from_backend) == (200, "ok", "", True)
    assert found.certificates == _certificates.read(
        certificate.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2]
    )
    assert found.tls_version.startswith("TLSv1")
    assert found.trusted is None, "nobody asked"


def test_who_trusts_it(certificate: Path) -> None:
    with serving(secure(certificate)) as port:
        assert ask(port, str(certificate)).trusted is True
        assert ask(port, "").trusted is False


def test_trust_is_unknown_where_the_second_connection_fails(certificate: Path) -> None:
    connections: list[socket.socket] = []
    once = secure(certificate)

    def answer(connection: socket.socket) -> None:
        connections.append(connection)
        if len(connections) == 1:
            once(connection)

    with serving(answer) as port:
        found = ask(port, "")
    assert (found.status, found.trusted) == (200, None)


def test_a_client_certificate_is_wanted(certificate: Path) -> None:
    with serving(secure(certificate, clients=True)) as port:
        found = ask(port)
    assert (found.failure, found.reason) == ("client-certificate", "the gateway wants a client certificate")


def test_closed_after_the_handshake(certificate: Path) -> None:
    with serving(secure(certificate, answers=False)) as port:
        assert ask(port).failure == "closed"


def test_reset() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(reset) as port:
        found = ask(port)
    assert (found.failure, found.reason) == ("reset", "the connection is reset")


@pytest.mark.parametrize(
    ("error", "failure", "reason"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable", "no route to host"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "unreachable", "network is unreachable"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "other", "Cannot assign requested address"),
        (OSError(), "other", "OSError"),
    ],
)
def test_what_the_network_says(error: OSError, failure: str, reason: str) -> None:
    def connect() -> socket.socket:
        raise error

    found = _requests.send(Target("t", "TCP", "", 9000), "vip", "x", "192.0.2.1:9000", connect, 1)
    assert (found.connected, found.failure, found.reason) == (False, failure, reason)


def test_no_way_to_an_address() -> None:
    assert _requests.way_to("255.255.255.255").error


# kube-proxy on a node


def health(status: int, body: str) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())

    return answer


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [(200, '{"localEndpoints": 1}', 1), (503, '{"localEndpoints": 0}', 0), (200, "<html>", None), (404, "{}", None)],
)
def test_local_endpoints(status: int, body: str, found: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _requests._get

    def well(address: str, port: int, path: str, timeout: float) -> tuple[int, str, str]:
        # kube-proxy's own port is a fixed one, which this machine's kube-proxy may hold
        return (200, "", "") if port == 10256 else real(address, port, path, timeout)

    monkeypatch.setattr(_requests, "_get", well)
    with serving(health(status, body)) as port:
        assert _requests.proxy_health("node1", "127.0.0.1", port) == ProxyHealth("node1", found, healthy=True)


def test_a_node_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = _requests.proxy_health("node1", "127.0.0.2", port, 0.3)
    assert (found.healthy, found.local_endpoints) == (None, None)
    assert "127.0.0.2:10256: the connection is refused" in found.error
