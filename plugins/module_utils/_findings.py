# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What will break, or may, and how to mend it: findings about a list, and about a cluster made by hand. Pure.

`findings(model, snapshot)` is about a list that is going to be applied, `survey(snapshot)` about a cluster as it is.
`findings._snapshot.read` makes the snapshot; without one, what the list alone shows is found. docs/findings.md has an
entry for every code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.findings import (
    _access,
    _backends,
    _edge,
    _listeners,
    _routes,
    _tls,
)
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import Snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import View
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    UNKNOWN,
    WARNING,
    Finding,
    SilenceError,
)
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Model

CODES = (
    "authorization-denies",
    "authorization-provider",
    "backend-external-name",
    "backend-missing",
    "backend-not-exported",
    "backend-not-h2",
    "backend-port-missing",
    "backend-port-unsaid",
    "backend-protocol",
    "backend-sniffed",
    "backend-speaks-plain",
    "backend-speaks-tls",
    "backend-target-port",
    "backend-unready",
    "certificate-early",
    "certificate-expired",
    "certificate-expiring",
    "certificate-file",
    "certificate-hostname",
    "certificate-key",
    "certificate-shared",
    "certificate-unreadable",
    "client-ca-missing",
    "delegate-missing",
    "destination-rule-foreign",
    "destination-rule-hides",
    "dns-elsewhere",
    "dns-missing",
    "edge-without-gateway",
    "envoy-filter",
    "gateway-class-missing",
    "gateway-missing",
    "gateway-no-pods",
    "gateway-not-injected",
    "gateway-not-programmed",
    "gateway-not-ready",
    "gateway-out-of-scope",
    "gateway-section-missing",
    "host-not-on-gateway",
    "hostname-clash",
    "istiod-not-ready",
    "kube-proxy-arp",
    "listener-without-routes",
    "mtls-clash",
    "name-taken",
    "namespace-ignored",
    "namespace-missing",
    "network-policy",
    "node-port-addresses",
    "node-port-differs",
    "node-port-range",
    "node-port-taken",
    "not-exported",
    "outside-loop",
    "outside-unresolved",
    "path-star",
    "plaintext-on-443",
    "port-ambiguous",
    "port-clash",
    "port-not-on-service",
    "port-privileged",
    "port-reserved",
    "port-taken",
    "port-without-listener",
    "proxy-protocol",
    "redirect-loop",
    "redirect-nowhere",
    "reference-not-granted",
    "revision-ignored",
    "rewrite-slashes",
    "route-api-old",
    "route-gateway",
    "route-hidden",
    "route-kind",
    "route-not-accepted",
    "route-not-allowed",
    "route-port",
    "secret-elsewhere",
    "secret-incomplete",
    "secret-missing",
    "service-inside",
    "subset-empty",
    "subset-missing",
    "target-port-name",
    "tls-mode-clash",
    "tls-mode-missing",
    "unread",
    "vip-missing",
    "vip-port-shared",
    "weights-odd",
    "weights-zero",
)
"""Every code there is; `name-taken`, `port-taken` and `node-port-taken` come from comparing with what is there."""

_ORDER = {ERROR: 0, WARNING: 1, UNKNOWN: 2}
_CHECKS = (
    _listeners.check,
    _routes.check,
    _tls.check,
    _backends.check,
    _access.check,
    _edge.check,
)


def findings(model: Model, snapshot: Snapshot | None = None, *, edges: Sequence[str] = ()) -> list[Finding]:
    """Return what is found about a list and what it meets in the cluster, the worst first.

    `edges` are the names of the nodes that may hold the VIP.
    """
    return _run(View(model, snapshot, edges=edges))


def survey(snapshot: Snapshot, *, edges: Sequence[str] = ()) -> list[Finding]:
    """Return what is found about everything in a cluster, by whomever it was made."""
    return _run(View(None, snapshot, edges=edges))


def _run(view: View) -> list[Finding]:
    for check in _CHECKS:
        check(view)
    view.unread()
    return ordered(view.found)


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """Return findings, each once, sorted by severity, exposure, field and code."""
    each = dict.fromkeys(found)
    return sorted(
        each, key=lambda one: (_ORDER[one.severity], one.exposure, one.field, one.code, one.objects, one.reason)
    )


def settle(
    found: Iterable[Finding], *, strict: bool = False, silence: Iterable[Mapping[str, Any]] = ()
) -> list[Finding]:
    """Apply a user's choices: `strict` makes errors of warnings; what is silenced stops nothing, but stays to be seen.

    `silence` holds {code, reason}. Raises SilenceError for one without a reason, or of a code that there isn't.
    """
    reasons: dict[str, str] = {}
    for index, entry in enumerate(silence):
        code, reason = str(entry.get("code") or ""), str(entry.get("reason") or "").strip()
        if code not in CODES:
            raise SilenceError(f"silence[{index}].code: `{code}` is no finding's code. See docs/findings.md.")
        if not reason:
            raise SilenceError(f"silence[{index}].reason: say why `{code}` is no harm here.")
        reasons[code] = reason
    result = []
    for one in found:
        if one.code in reasons:
            result.append(
                replace(one, severity=WARNING if one.severity == ERROR else one.severity, silenced=reasons[one.code])
            )
        elif strict and one.severity == WARNING:
            result.append(replace(one, severity=ERROR))
        else:
            result.append(one)
    return ordered(result)


def stopping(found: Iterable[Finding]) -> list[Finding]:
    """Return those that stop a run before anything is written."""
    return [one for one in found if one.severity == ERROR and not one.silenced]
