"""What a client outside does and gets, in a few words that can be compared.

    http://NAME[:PORT]/PATH, https://…      the status, and the version and path that the echo server saw
    node NODEPORT http://NAME/PATH          the same at a node's port
    both PORT NODEPORT http://NAME/PATH     at the VIP and at a node's port
    same https://A/ https://B/              both over one connection that was opened for A
    tcp PORT TEXT                           whether the echo server answers
    banner PORT                             whether a server that speaks first does
    grpc NAME                               the status of a call

Names are never looked up: all of them are asked at the VIP.
"""

from __future__ import annotations

import http.client
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
from urllib.parse import urlsplit

from . import setups

NODE = "10.77.0.12"
TIMEOUT = 4.0


def ask(text: str) -> str:
    """Do what a set-up's `ask` says and return what a client sees."""
    word, _space, rest = text.partition(" ")
    if word == "node":
        port, url = rest.split()
        return _url(url, NODE, int(port))
    if word == "both":
        port, node_port, url = rest.split()
        return f"{_url(url, setups.VIP, int(port))}, {_url(url, NODE, int(node_port))} at the node"
    if word == "same":
        return _same(*rest.split())
    if word == "tcp":
        port, words = rest.split(maxsplit=1)
        return _tcp(int(port), words.encode() + b"\n")
    if word == "banner":
        return _tcp(int(rest), b"")
    if word == "grpc":
        return _grpc(rest)
    return _url(text, setups.VIP)


def _url(url: str, address: str, port: int | None = None) -> str:
    split = urlsplit(url)
    host, path = str(split.hostname), split.path or "/"
    number = port or split.port or {"http": 80, "https": 443}[split.scheme]
    try:
        with _connected(address, number, host if split.scheme == "https" else None) as connection:
            return _request(connection, host if split.port is None else f"{host}:{split.port}", path)
    except OSError as error:
        return _failed(error)


def _connected(address: str, port: int, tls: str | None) -> socket.socket:
    plain = socket.create_connection((address, port), TIMEOUT)
    if tls is None:
        return plain
    context = ssl.create_default_context(cadata=setups.authority())
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as own:  # for servers that ask for it
        own.write(setups.client())
        own.flush()
        context.load_cert_chain(own.name)
    try:
        return context.wrap_socket(plain, server_hostname=tls)
    except OSError:
        plain.close()
        raise


def _request(connection: socket.socket, host: str, path: str) -> str:
    client = http.client.HTTPConnection(host)
    client.sock = connection
    try:
        client.request("GET", path, headers={"Host": host})
        answer = client.getresponse()
        body = answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        return f"no HTTP answer ({type(error).__name__})"
    location = answer.getheader("Location")
    if location:
        return f"{answer.status} to {location}"
    version = re.search(r"ServiceVersion=(\S+)", body)
    seen = re.search(r"^(?:\[\S+ body\] )?URL=(\S+)", body, re.MULTILINE)
    if answer.status == 200 and version:
        return f"200 {version[1]}{' at ' + seen[1] if seen else ''}"
    told = body.strip().splitlines()[0][:60] if body.strip() else ""
    return f"{answer.status} {told}".strip()


def _same(first: str, second: str) -> str:
    one, two = urlsplit(first), urlsplit(second)
    try:
        with _connected(setups.VIP, 443, str(one.hostname)) as connection:
            begun = _request(connection, str(one.hostname), one.path)
            return f"{begun.partition(' ')[0]}, then {_request(connection, str(two.hostname), two.path)}"
    except OSError as error:
        return _failed(error)


def _tcp(port: int, data: bytes) -> str:
    try:
        with socket.create_connection((setups.VIP, port), TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            if data:
                connection.sendall(data)
            received = connection.recv(65536)
    except OSError as error:
        return _failed(error)
    if not received:
        return "closed"
    version = re.search(rb"ServiceVersion=(\S+)", received)
    return f"answered {version[1].decode()}" if version else "answered"


def _grpc(name: str) -> str:
    # Istio's own, built beside the istioctl that the lab uses
    client = (pathlib.Path(__file__).parents[3] / ".lab/bin/istioctl").resolve().with_name("client")
    command = [str(client), f"grpc://{setups.VIP}:80", "--header", f"Host:{name}", "--timeout", "4s"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    text = ended.stdout + ended.stderr
    if ended.returncode == 0 and "StatusCode=200" in text:
        version = re.search(r"ServiceVersion=(\S+)", text)
        return f"OK {version[1] if version else ''}".strip()
    failed = re.search(r"code = (\w+)", text)
    return failed[1] if failed else "failed"


def _failed(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message.partition(',')[0]}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'closed').lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError):
        return "reset"
    return type(error).__name__
