# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real requests from the control machine: DNS, the way to an address, and one HTTP, TLS or TCP request on a socket.

Nothing here raises for what the network does: every failure is part of what is returned.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    SENT,
    Dns,
    Probe,
    ProxyHealth,
    Target,
    Way,
)

Opener = Callable[[], socket.socket]

_HOSTS = Path("/etc/hosts")


def resolve(host: str, servers: Sequence[str] = (), timeout: float = 2.0) -> Dns:
    """Ask for a name's addresses: the hosts file, as clients on this machine do, then DNS; or the given servers alone.

    A server is ADDRESS or ADDRESS:PORT ([ADDRESS]:PORT for IPv6).
    """
    if not servers:
        listed = _in_hosts(host)
        if listed:
            return Dns(listed, server=str(_HOSTS))
    try:
        import dns.exception  # noqa: PLC0415 - only a trace needs it
        import dns.nameserver  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415
    except ImportError:
        return Dns(error="the Python package dnspython is missing", chosen=bool(servers))
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        return Dns(error="no DNS server is configured on this machine")
    if servers:
        split = [_split(server) for server in servers]
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in split]
    resolver.lifetime = resolver.timeout = timeout
    server = ", ".join(servers) or ", ".join(map(str, resolver.nameservers))
    found: list[str] = []
    aliases: list[str] = []
    errors: list[str] = []
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(host + ".", kind, search=False)
        except dns.resolver.NXDOMAIN:
            return Dns(error="nxdomain", server=server, chosen=bool(servers))
        except dns.resolver.NoAnswer:
            errors.append("nodata")
        except dns.resolver.NoNameservers:
            errors.append("servfail")
        except dns.exception.Timeout:
            return Dns(tuple(found), "" if found else "timeout", server, bool(servers))
        except (dns.exception.DNSException, OSError) as failed:
            errors.append(str(failed) or type(failed).__name__)
        else:
            found += [record.address for record in answer]
            canonical = str(answer.canonical_name).rstrip(".")
            aliases += [canonical] if canonical != host.rstrip(".") and canonical not in aliases else []
    error = "" if found else next((one for one in errors if one != "nodata"), "nodata")
    return Dns(tuple(found), error, server, bool(servers), tuple(aliases))


def _split(server: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[(.+)\]:(\d+)|([^:]+):(\d+)", server)
    if not match:
        return server.strip("[]"), 53
    return (match[1] or match[3]), int(match[2] or match[4])


def _in_hosts(host: str) -> tuple[str, ...]:
    try:
        lines = _HOSTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    words = [line.partition("#")[0].split() for line in lines]
    return tuple(entry[0] for entry in words if host in entry[1:])


def way_to(address: str) -> Way:
    """Ask the kernel which source address it would take; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, 9))
            return Way(str(asked.getsockname()[0]))
    except OSError as error:
        return Way(error=error.strerror or str(error))


def opener(address: str, port: int, timeout: float) -> Opener:
    """Connect over the network when called."""
    return lambda: socket.create_connection((address, port), timeout)


def send(
    target: Target,
    place: str,
    at: str,
    address: str,
    connect: Opener,
    timeout: float,
    *,
    authorities: str | None = None,
) -> Probe:  # fmt: skip
    """Send the target's request over a fresh connection and tell what came back.

    With `authorities` ("" for the machine's own, else a PEM file) it is also tried whether the chain is trusted.
    """
    probe = Probe(place, at, address, passed_on=target.protocol == "TLS")
    began = time.monotonic()
    try:
        plain = connect()
    except OSError as error:
        return replace(probe, **_failed(error), milliseconds=_since(began))
    probe = replace(probe, connected=True)
    try:
        with contextlib.ExitStack() as opened:
            talking = opened.enter_context(plain)
            talking.settimeout(timeout)
            if target.encrypted:
                # The socket is the encrypted one's from here on, which has to be closed itself
                encrypted = _unchecked().wrap_socket(plain, server_hostname=target.host or None)
                talking = opened.enter_context(encrypted)
                probe = replace(probe, certificates=_chain(encrypted), tls_version=encrypted.version() or "")
            probe = _ask(target, talking, probe) if target.protocol != "TCP" else _listen(talking, probe)
    except (OSError, http.client.HTTPException) as error:
        probe = replace(probe, **_failed(error))
    probe = replace(probe, milliseconds=_since(began))
    if authorities is not None and probe.certificates:
        probe = replace(probe, trusted=_trusted(target, connect, authorities, timeout))
    return probe


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _unchecked() -> ssl.SSLContext:
    """Take any certificate: the trace looks at it afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _chain(talking: ssl.SSLSocket) -> tuple[_certificates.Certificate, ...]:
    der = talking.getpeercert(binary_form=True)
    # Public from Python 3.13 on, and there since 3.10
    whole = getattr(talking, "get_unverified_chain", None) or getattr(
        getattr(talking, "_sslobj", None), "get_unverified_chain", None
    )
    with contextlib.suppress(Exception):
        found = [one if isinstance(one, bytes) else one.public_bytes(2) for one in (whole() if whole else ())]
        if found:
            return tuple(map(_certificates.read_der, found))
    with contextlib.suppress(Exception):
        return (_certificates.read_der(der),) if der else ()
    return ()


def _trusted(target: Target, connect: Opener, authorities: str, timeout: float) -> bool | None:
    context = ssl.create_default_context(cafile=authorities or None)
    context.check_hostname = False
    try:
        with connect() as plain:
            plain.settimeout(timeout)
            with context.wrap_socket(plain, server_hostname=target.host or None):
                return True
    except ssl.SSLCertVerificationError:
        return False
    except OSError:
        return None


def _ask(target: Target, talking: socket.socket, probe: Probe) -> Probe:
    usual = {"HTTP": 80}.get(target.protocol, 443) == target.port
    host = target.host or probe.address.rpartition(":")[0]
    client = http.client.HTTPConnection("localhost")
    client.sock = talking
    headers = {"Host": host if usual else f"{host}:{target.port}", "Connection": "close", "User-Agent": "edgeway-trace"}
    method = target.method if target.method in SENT else "GET"
    client.request(method, target.path, headers={**headers, **dict(target.headers)})
    answer = client.getresponse()
    body = answer.read(2000).decode(errors="replace")
    return replace(
        probe,
        status=answer.status,
        headers={name.lower(): value for name, value in answer.getheaders()},
        body=" ".join(body.split())[:300],
    )


def _listen(talking: socket.socket, probe: Probe) -> Probe:
    """Wait for a server that speaks first. One that waits for the client stays silent, and keeps the connection."""
    ready, _write, _error = select.select([talking], [], [], 0.7)
    if not ready:
        return probe
    first = talking.recv(32)
    if not first:
        return replace(probe, failure="closed", reason="the connection is closed at once")
    return replace(probe, first="".join(chr(byte) if 32 <= byte < 127 else "." for byte in first))


def _failed(error: Exception) -> dict[str, Any]:
    text = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
    code = getattr(error, "errno", None)
    if isinstance(error, ssl.SSLError):
        wanted = "CERTIFICATE_REQUIRED" in text.upper().replace(" ", "_")
        # Which of the three depends on the context's options and on how far the handshake was
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
            return {"failure": "closed", "reason": "the connection is closed during the TLS handshake"}
        if wanted:
            return {"failure": "client-certificate", "reason": "the gateway wants a client certificate"}
        return {"failure": "tls", "reason": f"TLS fails: {text.replace('_', ' ').lower()}"}
    if isinstance(error, TimeoutError):
        return {"failure": "timeout", "reason": "no answer in time"}
    if isinstance(error, ConnectionRefusedError):
        return {"failure": "refused", "reason": "the connection is refused"}
    if isinstance(error, http.client.RemoteDisconnected):
        return {"failure": "closed", "reason": "the connection is closed without an answer"}
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return {"failure": "reset", "reason": "the connection is reset"}
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return {"failure": "unreachable", "reason": (text or "unreachable").lower()}
    return {"failure": "other", "reason": text or type(error).__name__}


def proxy_health(node: str, address: str, port: int | None, timeout: float = 1.0) -> ProxyHealth:
    """Ask kube-proxy on a node: its own health (10256) and, where the Service has a port for it, local endpoints."""
    health = ProxyHealth(node)
    status, _body, error = _get(address, 10256, "/healthz", timeout)
    health = replace(health, healthy={200: True, 503: False}.get(status), error=error)
    if port:
        status, body, error = _get(address, port, "/healthz", timeout)
        try:
            found = json.loads(body).get("localEndpoints") if status in (200, 503) else None
        except ValueError:
            found = None
        health = replace(health, local_endpoints=found, error=health.error or error)
    return health


def _get(address: str, port: int, path: str, timeout: float) -> tuple[int, str, str]:
    client = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read(2000).decode(errors="replace"), ""
    except (OSError, http.client.HTTPException) as error:
        return 0, "", f"{address}:{port}: {_failed(error)['reason']}"
    finally:
        client.close()
