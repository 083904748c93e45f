# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client sees of a certificate: for which names, and from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. `names` are the DNS names and addresses that it is for."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    serial: str

    def covers(self, host: str) -> bool:
        """Whether it is for this host. A wildcard stands for one label (RFC 6125, 6.4.3)."""
        host = host.lower().rstrip(".")
        return any(
            name == host or (name.startswith("*.") and "." in host and name[2:] == host.partition(".")[2])
            for name in map(str.lower, self.names)
        )


def read(pem: bytes) -> tuple[Certificate, ...]:
    """Read a chain in PEM, the server's own certificate first. ValueError when it is none; () when it is empty."""
    if b"-----BEGIN" not in pem:
        return ()
    from cryptography import x509  # noqa: PLC0415 - only what looks at certificates needs it

    return tuple(_described(found) for found in x509.load_pem_x509_certificates(pem))


def read_der(der: bytes) -> Certificate:
    """Read one certificate as a TLS handshake gives it."""
    from cryptography import x509  # noqa: PLC0415

    return _described(x509.load_der_x509_certificate(der))


def _described(found: Any) -> Certificate:
    from cryptography import x509  # noqa: PLC0415

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        dns = []
    return Certificate(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        names=tuple(dns),
        not_before=_utc(found, "not_valid_before"),
        not_after=_utc(found, "not_valid_after"),
        serial=f"{found.serial_number:x}",
    )


def _utc(found: Any, name: str) -> datetime:
    # cryptography 42 gave these names with a time zone, and warns of the old ones
    aware = getattr(found, f"{name}_utc", None)
    when: datetime = aware if aware is not None else getattr(found, name).replace(tzinfo=UTC)
    return when
