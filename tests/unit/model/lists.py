"""Short forms of exposure lists for the tables in this folder."""

from __future__ import annotations

from typing import Any

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
LOCKED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n"

BASES: dict[str, dict[str, Any]] = {
    "http": {"name": "web", "namespace": "web", "protocol": "HTTP", "backend": {"service": "web", "port": 80}},
    "https": {
        "name": "shop",
        "namespace": "shop",
        "protocol": "HTTPS",
        "hostnames": ["shop.example"],
        "tls": {"secret": "shop-cert"},
        "backend": {"service": "shop", "port": 80},
    },
    "tls": {
        "name": "vault",
        "namespace": "vault",
        "protocol": "TLS",
        "hostnames": ["vault.example"],
        "backend": {"service": "vault", "port": 8200},
    },
    "tcp": {
        "name": "db",
        "namespace": "db",
        "protocol": "TCP",
        "port": 3306,
        "backend": {"service": "db", "port": 3306},
    },
}

BACKEND = {"service": "a", "port": 80}


def spelt_out(case: dict[str, Any]) -> Any:
    """Return the exposure list that a case stands for.

    `list` is the list itself. `http`, `https`, `tls` and `tcp` change a sound exposure of that protocol. `routes`,
    `route`, `match_list` and `match` are a sound HTTP exposure but for that part.
    """
    if "list" in case:
        return case["list"]
    for base, entry in BASES.items():
        if base in case:
            return [_with_pem({**entry, **case[base]})]
    if "many" in case:
        return [
            {
                **BASES["https"],
                "name": f"s{number}",
                "hostnames": [f"s{number}.example"],
                "tls": {"secret": f"s{number}"},
            }
            for number in range(case["many"])
        ]
    if "seventeen" in case:
        routes: Any = [{"backends": [{"service": f"s{number}", "port": 80} for number in range(17)]}]
    elif "routes" in case:
        routes = case["routes"]
    elif "route" in case:
        routes = [{"backends": [BACKEND], **case["route"]}]
    else:
        routes = [{"matches": case["match_list"] if "match_list" in case else [case["match"]], "backends": [BACKEND]}]
    return [{**BASES["http"], "backend": None, "routes": routes}]


def _with_pem(entry: dict[str, Any]) -> dict[str, Any]:
    words = {"CERT": CERTIFICATE, "KEY": KEY, "LOCKED": LOCKED}
    if isinstance(entry.get("tls"), dict):
        values = {
            key: words.get(value, value) if isinstance(value, str) else value for key, value in entry["tls"].items()
        }
        return {**entry, "tls": values}
    return entry
