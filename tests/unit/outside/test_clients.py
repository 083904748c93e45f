import datetime
import http.server
import ipaddress
import pathlib
import socketserver
import ssl
import threading
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from outside import clients


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(f"{self.command} {self.headers['Host']} {self.path} {self.headers.get('X-User', '')}")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("X-Seen", "yes")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


class _Greeter(socketserver.BaseRequestHandler):
    """Speaks first, then says back what it hears."""

    def handle(self) -> None:
        self.request.sendall(b"hello ")
        self.request.sendall(self.request.recv(100))


class _Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(100)


def _serve(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]  # type: ignore[index]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def web() -> Iterator[int]:
    yield from _serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler))


@pytest.fixture
def greeter() -> Iterator[int]:
    yield from _serve(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Greeter))


@pytest.fixture
def silent() -> Iterator[int]:
    yield from _serve(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """(file with key and certificate, the certificate's PEM) for shop.example."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("shop.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = signed.public_bytes(serialization.Encoding.PEM)
    file.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file, pem.decode()


@pytest.fixture
def secure_web(certificate: tuple[pathlib.Path, str]) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    yield from _serve(server)


def test_http_asks_for_the_hostname_at_the_address(web: int) -> None:
    answer = clients.http_get("127.0.0.1", "hello.example", "/a?b=c", port=web, headers={"X-User": "jason"})
    assert answer.status == 200
    assert answer.headers["x-seen"] == "yes"
    assert answer.body == "GET hello.example /a?b=c jason"
    assert answer.certificate is None


def test_http_sends_a_body(web: int) -> None:
    assert clients.http_get("127.0.0.1", "hello.example", port=web, method="POST", body=b"abc").body == "abc"


def test_https_shows_the_certificate_and_checks_it_when_asked(
    secure_web: int, certificate: tuple[pathlib.Path, str]
) -> None:
    answer = clients.https_get("127.0.0.1", "shop.example", port=secure_web, ca=certificate[1])
    assert answer.body == "GET shop.example / "
    assert answer.certificate is not None
    assert clients.subject(answer.certificate) == "CN=shop.example"
    assert clients.pem(answer.certificate) == certificate[1]
    with pytest.raises(ssl.SSLCertVerificationError):
        clients.https_get("127.0.0.1", "other.example", port=secure_web, ca=certificate[1])
    assert clients.https_get("127.0.0.1", "other.example", port=secure_web).status == 200


def test_tls_certificate(secure_web: int, certificate: tuple[pathlib.Path, str]) -> None:
    seen = clients.tls_certificate("127.0.0.1", "shop.example", port=secure_web, ca=certificate[1])
    assert clients.subject(seen) == "CN=shop.example"


def test_tcp_reads_what_the_server_says_first(greeter: int) -> None:
    assert clients.tcp("127.0.0.1", greeter, enough=6) == b"hello "
    assert clients.tcp("127.0.0.1", greeter, b"you", enough=100) == b"hello you"


def test_a_timeout_names_the_address(silent: int) -> None:
    with pytest.raises(TimeoutError, match=f"127.0.0.1:{silent}"):
        clients.tcp("127.0.0.1", silent, timeout=0.1)


def test_an_answer_that_is_not_http_is_an_os_error(greeter: int) -> None:
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{greeter}: BadStatusLine"):
        clients.http_get("127.0.0.1", "hello.example", port=greeter)


def test_sql_to_a_server_that_says_nothing_times_out(silent: int) -> None:
    with pytest.raises(clients.pymysql.MySQLError):
        clients.sql("127.0.0.1", "SELECT 1", port=silent, user="nobody", password="none", timeout=1)
