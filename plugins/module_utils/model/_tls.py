# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the TLS that ends at the gateway: a Secret that is there, or a certificate for one of ours."""

from __future__ import annotations

import re

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Node, kind_of
from ansible_collections.edgeway.istio.plugins.module_utils.model._names import DNS_CURE, DNS_RULE, LABEL, SUBDOMAIN
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Gateway, Tls

_TLS = ("secret", "namespace", "mode", "min_version", "certificate", "private_key", "ca_certificate")

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_KEY = re.compile(r"-----BEGIN ((RSA |EC )?PRIVATE KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----")


def read_tls(node: Node, protocol: str | None, gateway: Gateway, *, gateway_api: bool) -> Tls | None:
    part = node.node("tls", _TLS)
    if part is None:
        if protocol == "HTTPS" and not gateway.existing:
            node.add("tls", "is missing", "Give `tls: {secret: NAME}`, or `certificate` and `private_key`")
        return None
    if protocol in ("HTTP", "TCP", "TLS"):
        cure = "Write `protocol: HTTPS` to end TLS at the gateway, or drop `tls`"
        node.add("tls", f"means nothing with protocol {protocol}", cure)
        return None
    secret = part.text("secret", SUBDOMAIN, "the name of a Secret", DNS_CURE)
    namespace = part.text("namespace", LABEL, DNS_RULE, DNS_CURE) or gateway.namespace
    mode = part.choice("mode", ("SIMPLE", "MUTUAL")) or "SIMPLE"
    version = part.choice("min_version", ("1.2", "1.3"))
    if version is not None and gateway_api:
        cure = "Set `meshConfig.tlsDefaults.minProtocolVersion` for the mesh, or use `api: istio`"
        part.add("min_version", "can't be said in the Gateway API", cure)
    certificate = _pem(part, "certificate", _CERTIFICATE, "a certificate in PEM")
    key = _pem(part, "private_key", _KEY, "a private key in PEM, without a passphrase")
    authority = _pem(part, "ca_certificate", _CERTIFICATE, "a certificate in PEM")
    content = part.given("certificate", "private_key")
    if "secret" in part and content:
        part.add("secret", f"can't stand beside `{content[0]}`", "Name a Secret, or give its content")
    elif len(content) == 1:
        missing = "private_key" if content[0] == "certificate" else "certificate"
        part.add(missing, "is missing", f"`{content[0]}` needs it")
    elif "secret" not in part and not content:
        part.add("secret", "is missing", "Name a Secret, or give `certificate` and `private_key`")
    if "ca_certificate" in part:
        if "secret" in part:
            cure = "Put it into the Secret, as `ca.crt`"
            part.add("ca_certificate", "can't be added to a Secret that isn't ours", cure)
        elif mode != "MUTUAL":
            part.add("ca_certificate", "needs `mode: MUTUAL`", "Write it, or drop the CA: clients aren't asked")
    elif mode == "MUTUAL" and content:
        part.add("ca_certificate", "is missing", "MUTUAL needs the CA that signs the clients' certificates")
    if content and "namespace" in part:
        part.add("namespace", "is chosen for a Secret of ours", "Drop it: the Secret lies with the gateway's pods")
    elif namespace != gateway.namespace and not gateway_api:
        part.add(
            "namespace",
            f"`{namespace}` can't be read by gateway pods in `{gateway.namespace}`",
            f"Put the Secret into `{gateway.namespace}` and drop the field, or set `api: gateway_api`",
        )
    if gateway.existing:
        node.add("tls", "belongs to the Gateway, which isn't ours", "Drop it: that Gateway has its own certificate")
    return Tls(secret or "", namespace, mode, version, certificate, key, authority)


def _pem(node: Node, key: str, pattern: re.Pattern[str], rule: str) -> str | None:
    """Read PEM text. Its content never goes into a message."""
    value = node.raw(key)
    if value is None:
        return None
    if not isinstance(value, str):
        node.add(key, f"is {kind_of(value)}, a text is expected", "Give the file's content")
        return None
    if "ENCRYPTED" in value:
        node.add(key, "is locked with a passphrase", "Give the key without one: nobody could type it in")
    elif not pattern.search(value):
        node.add(key, f"is not {rule}", "Give the file's content, with its BEGIN and END lines")
    return str(value).strip() + "\n"
