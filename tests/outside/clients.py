"""One request each: HTTP by Host header, HTTPS and TLS by server name, MariaDB, and plain TCP.

Every function opens a connection of its own, never retries, and raises OSError (or pymysql.MySQLError, ssl.SSLError)
with the address in its text where the answer isn't one. `timeout` is in seconds, for each of connecting and reading.
"""

import contextlib
import dataclasses
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`headers` has lower-case names; `certificate` is the server's own, of HTTPS only."""

    status: int
    headers: Mapping[str, str]
    body: str
    certificate: x509.Certificate | None = None


@contextlib.contextmanager
def _naming(address: str, port: int) -> Iterator[None]:
    """Python's own errors say "timed out" and not what did."""
    try:
        yield
    except TimeoutError as error:
        raise TimeoutError(f"{address}:{port}: {error or 'timed out'}") from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"{address}:{port}: {type(error).__name__} {error}".rstrip()) from error


def _trusting(ca: str | None) -> ssl.SSLContext:
    """Check the server against `ca` (PEM text); without it take any certificate, to look at it."""
    context = ssl.create_default_context(cadata=ca)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificate(connection: ssl.SSLSocket) -> x509.Certificate:
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise ConnectionError(f"{connection.getpeername()}: no certificate")
    return x509.load_der_x509_certificate(der)


def _ask(
    connection: socket.socket, host: str, path: str, method: str, headers: Mapping[str, str], body: bytes | None
) -> HttpAnswer:
    client = http.client.HTTPConnection(host)
    client.sock = connection
    client.request(method, path, body=body, headers={"Host": host, "Connection": "close"} | dict(headers))
    answer = client.getresponse()
    text = answer.read().decode(errors="replace")
    return HttpAnswer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)


def http_get(
    address: str,
    host: str,
    path: str = "/",
    *,
    port: int = 80,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = TIMEOUT,
) -> HttpAnswer:
    """Ask address:port for the hostname `host`, as a browser would whose DNS points there."""
    with _naming(address, port), socket.create_connection((address, port), timeout) as connection:
        return _ask(connection, host, path, method, headers or {}, body)


def https_get(
    address: str,
    host: str,
    path: str = "/",
    *,
    port: int = 443,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    ca: str | None = None,
    timeout: float = TIMEOUT,
) -> HttpAnswer:
    """The same over TLS with `host` as server name. With `ca` the chain and the name must be right."""
    with (
        _naming(address, port),
        socket.create_connection((address, port), timeout) as plain,
        _trusting(ca).wrap_socket(plain, server_hostname=host) as connection,
    ):
        certificate = _certificate(connection)
        return dataclasses.replace(_ask(connection, host, path, method, headers or {}, body), certificate=certificate)


def tls_certificate(
    address: str, server_name: str, *, port: int = 443, ca: str | None = None, timeout: float = TIMEOUT
) -> x509.Certificate:
    """The certificate that a client sees who asks for `server_name`."""
    with (
        _naming(address, port),
        socket.create_connection((address, port), timeout) as plain,
        _trusting(ca).wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        return _certificate(connection)


def subject(certificate: x509.Certificate) -> str:
    """As openssl prints it, e.g. "CN=shop.example"."""
    return certificate.subject.rfc4514_string()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def sql(
    address: str,
    statement: str,
    *,
    port: int,
    user: str,
    password: str,
    database: str | None = None,
    timeout: float = TIMEOUT,
) -> list[tuple[object, ...]]:
    """The rows of one statement, from a MariaDB or MySQL server that speaks first."""
    connection = pymysql.connect(
        host=address,
        port=port,
        user=user,
        password=password,
        database=database,
        connect_timeout=max(1, round(timeout)),
        read_timeout=timeout,
        write_timeout=timeout,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def tcp(address: str, port: int, send: bytes = b"", *, enough: int = 1, timeout: float = TIMEOUT) -> bytes:
    """Send `send`, then read until the server closes or `enough` bytes are there."""
    received = b""
    with _naming(address, port), socket.create_connection((address, port), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(send)
        while len(received) < enough and (chunk := connection.recv(65536)):
            received += chunk
    return received
