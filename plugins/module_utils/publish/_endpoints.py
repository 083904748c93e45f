# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an exposure answers, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def endpoint(
    name: str,
    namespace: str,
    protocol: str,
    port: int,
    hostnames: Sequence[str],
    service: Mapping[str, Any] | None,
    node_port: int | None = None,
) -> dict[str, Any]:
    """Return one exposure's URLs, or addresses and port, its nodePort, and the Service that it answers through.

    `service` is the one in front of the gateway, None where there is none to look at. Without hostnames the URLs are
    those of the Service's addresses.
    """
    ingress = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or ()
    hosts = [str(entry.get("ip") or entry.get("hostname")) for entry in ingress]
    brackets = [f"[{host}]" if ":" in host else host for host in hosts]
    scheme = {"HTTP": "http", "HTTPS": "https", "TLS": "https"}.get(protocol)
    usual = {"http": 80, "https": 443}.get(scheme or "")
    tail = "" if port == usual else f":{port}"
    ports = [entry for entry in (service or {}).get("spec", {}).get("ports") or () if entry["port"] == port]
    return {
        "name": name,
        "namespace": namespace,
        "protocol": protocol,
        "port": port,
        "service": "/".join(service["metadata"][key] for key in ("namespace", "name")) if service else "",
        "node_port": node_port or (ports[0].get("nodePort") if ports else None),
        "urls": [f"{scheme}://{host}{tail}/" for host in hostnames or brackets] if scheme else [],
        "addresses": [f"{host}:{port}" for host in brackets],
    }
