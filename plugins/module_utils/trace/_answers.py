# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hops of the real requests: what each came to, and what its answer tells of the backend. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.edgeway.istio.plugins.module_utils._envoy import Endpoint
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import Facts, GatewayPod, Probe, ready
from ansible_collections.edgeway.istio.plugins.module_utils.trace._gateway_service import the_service
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import BROKEN, OK, UNKNOWN, Hop

_UPSTREAM = ("upstream connect error", "no healthy upstream", "upstream request timeout", "upstream_reset")


def request_hops(facts: Facts) -> list[Hop]:
    found = []
    for place, name in (("pod", "probe_pod"), ("edge", "probe_edge"), ("vip", "probe_vip")):
        probes = [probe for probe in facts.probes if probe.place == place]
        if not probes:
            found.append(Hop(name, UNKNOWN, ("Not tried.",)))
        found += [_request_hop(facts, name, probe) for probe in probes]
    return found


def _request_hop(facts: Facts, name: str, probe: Probe) -> Hop:
    said = complaint(facts, probe)
    at = probe.at if probe.place != "vip" else ""
    evidence = [f"{probe.address}: {answered(probe)}"]
    if probe.certificates:
        first = probe.certificates[0]
        trust = {True: ", trusted by this machine", False: ", not trusted by this machine", None: ""}[probe.trusted]
        evidence.append(f"{probe.tls_version}, {first.subject} for {', '.join(first.names)}{trust}.")
    if not said and facts.target.unasked:
        cure = "Trace a URL that it takes." if facts.target.guessed else "Try with a real client."
        return Hop(name, UNKNOWN, (*evidence, f"{facts.target.unasked}."), cure, at)
    if not said:
        return Hop(name, OK, tuple(evidence), at=at)
    if probe.failure == "client-certificate":
        return Hop(name, UNKNOWN, (*evidence, said), "The trace has no client certificate to show.", at)
    if probe.place == "edge" and not probe.connected and _elsewhere(facts, probe):
        return Hop(name, OK, (*evidence, "No gateway pod is ready on it, and Local answers on no other edge."), at=at)
    return Hop(name, BROKEN, (*evidence, said), "The first broken hop says why.", at)


def _elsewhere(facts: Facts, probe: Probe) -> bool:
    service = the_service(facts)
    if service is None or service["spec"].get("externalTrafficPolicy") != "Local":
        return False
    nodes = {edge.name: edge.node for edge in facts.edges or ()}
    node = nodes.get(probe.at, probe.at)
    return not any(ready(pod.manifest) and pod.node == node for pod in facts.pods)


def answered(probe: Probe) -> str:
    if probe.failure:
        return f"{probe.reason or probe.failure}."
    taken = f" in {probe.milliseconds:.0f} ms"
    if probe.status:
        server = probe.headers.get("server", "")
        return f"HTTP {probe.status}{f' by {server}' if server else ''}{taken}."
    if probe.first:
        return f"the server says {probe.first!r}{taken}."
    return f"connected{taken}."


def complaint(facts: Facts, probe: Probe) -> str:
    """Why an answer is none; empty for a good one. An application's own 404 is an answer, the gateway's isn't.

    Where another request was sent than the exposure takes, only that it could be sent is judged.
    """
    unasked = bool(facts.target.unasked)
    sent = probe.connected and (bool(probe.tls_version) or not facts.target.encrypted)
    if probe.failure and not (unasked and sent):
        return f"{probe.reason or probe.failure}."
    if not unasked and (probe.status >= 500 or (probe.status in (401, 403, 404) and not probe.from_backend)):
        who = "the backend" if probe.from_backend else "the gateway"
        return f"{probe.status} comes from {who}{f': {probe.body[:160]}' if probe.body else ''}."
    if probe.certificates and facts.target.host and not probe.certificates[0].covers(facts.target.host):
        return f"The certificate isn't for {facts.target.host}."
    if probe.certificates and not probe.certificates[0].not_before <= facts.now <= probe.certificates[0].not_after:
        return "The certificate isn't valid now."
    return ""


def backend_trouble(
    facts: Facts, probe: Probe | None, pod: GatewayPod, endpoints: Sequence[Endpoint]
) -> tuple[str, str] | None:  # fmt: skip
    """What is wrong behind the gateway, as its own answer tells, with a cure; None where nothing is."""
    where = ", ".join(str(one) for one in endpoints[:3])
    if endpoints and all(one.problems for one in endpoints) and (probe is None or _poor(probe)):
        return (
            f"{where} failed so often that Envoy leaves it out: {', '.join(endpoints[0].problems)}.",
            "See that its pods listen on the Service's targetPort, on all addresses, and speak this protocol.",
        )
    if probe is None:
        return None
    if probe.from_backend and probe.status == 403 and "RBAC" in probe.body:
        return f"Its sidecar refuses: 403 {probe.body}.", "Allow the gateway in the AuthorizationPolicies there."
    if probe.from_backend and probe.status >= 500:
        return f"It answers {probe.status} itself: {probe.body[:100]}", "See its own log: the request reached it."
    text = probe.body
    if not probe.from_backend and probe.status == 504:
        return f"It doesn't answer in time: {text}", "See why it is slow, or raise the route's timeout."
    if not probe.from_backend and probe.status >= 500 and any(word in text for word in _UPSTREAM):
        return (
            f"{where} can't be reached: {probe.status} {text}",
            "See that its pods listen on the Service's targetPort, on all addresses, and speak this protocol.",
        )
    if probe.failure in ("closed", "reset") and pod.failures:
        return (
            f"{where} refuses connections: {pod.failures} failed while the trace asked.",
            "See that its pods listen on the Service's targetPort and on all addresses.",
        )
    if probe.failure in ("closed", "reset", "tls", "timeout") and not facts.target.protocol.startswith("HTTP"):
        return (
            f"The connection ends without an answer: {probe.reason}.",
            "See the backend's log: the gateway reached it.",
        )
    return None


def _poor(probe: Probe) -> bool:
    """Whether nothing says that the backend answered. Where it waits for the client to speak first, silence doesn't."""
    silent = not (probe.status or probe.first or probe.tls_version)
    return bool(probe.failure) or silent or (probe.status >= 500 and not probe.from_backend)
