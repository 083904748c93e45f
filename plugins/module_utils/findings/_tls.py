# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about certificates: Secrets that aren't there or can't be used, dates, names, and HTTP/2. Pure."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot as snap
from ansible_collections.edgeway.istio.plugins.module_utils.findings._reading import is_secret
from ansible_collections.edgeway.istio.plugins.module_utils.findings._snapshot import SecretFacts, facts_of_secret
from ansible_collections.edgeway.istio.plugins.module_utils.findings._view import View
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import (
    ERROR,
    UNKNOWN,
    WARNING,
    Listener,
    Manifest,
    Place,
)

SOON = timedelta(days=14)
_MUTUAL = ("MUTUAL", "OPTIONAL_MUTUAL")


def check(view: View) -> None:
    """Look at every certificate that is served to clients."""
    given(view)
    for listener in view.listeners:
        if not view.concerns(listener.place) or listener.family != "TLS":
            continue
        _mode(view, listener)
        if listener.terminates and not view.static:
            _files(view, listener)
            for space, name in _lookups(view, listener):
                secret(view, listener, space, name)
    if not view.static:
        shared(view)


def given(view: View) -> None:
    """Certificates that are written in the list: they can be looked at without a cluster."""
    for entry in view.model.exposures if view.model is not None else ():
        tls = entry.tls
        if tls is None or not tls.ours:
            continue
        content = {"tls.crt": tls.certificate, "tls.key": tls.private_key, "ca.crt": tls.ca_certificate}
        facts = facts_of_secret(
            {
                "metadata": {"name": f"of {entry.name}", "namespace": tls.namespace},
                "data": {key: base64.b64encode(text.encode()).decode() for key, text in content.items() if text},
            }
        )
        place = Place(f"Secret {tls.namespace}/{entry.name}", f"{entry.at}.tls.certificate", entry.name)
        _certificate(view, place, facts, list(entry.hostnames))


def _mode(view: View, listener: Listener) -> None:
    server = next(_server(listener), {})
    tls = server.get("tls") or {}
    if (listener.credentials or listener.files) and not tls.get("mode") and listener.api == "istio" and tls:
        view.add(
            "tls-mode-missing",
            ERROR,
            listener.tls_at,
            f"{listener.place.object} names a certificate for port {listener.number} and no TLS mode, which then is "
            "PASSTHROUGH: the certificate is never used.",
            "Write `mode: SIMPLE`.",
        )


def _server(listener: Listener) -> Iterator[Manifest]:
    for index, server in enumerate(((listener.object or {}).get("spec") or {}).get("servers") or ()):
        if listener.place.path == f"spec.servers[{index}]":
            yield server


def _lookups(view: View, listener: Listener) -> list[tuple[str, str]]:
    """Return where istiod looks for the Secrets: beside the pods, or as the Gateway API says."""
    found = set()
    for owner, name in listener.credentials:
        spaces = {bound.workload.namespace for bound in view.bound_to[id(listener)]}
        if listener.api == "gateway_api":
            spaces = {owner}
        elif listener.ours and not spaces:
            spaces = {listener.namespace}
        found |= {(space, name) for space in spaces}
    return sorted(found)


def secret(view: View, listener: Listener, namespace: str, name: str) -> None:
    """One Secret that a listener needs, where istiod looks for it."""
    if not view.readable(snap.SECRET, namespace):
        return
    shown = f"Secret {namespace}/{name}"
    foreign = listener.api == "gateway_api" and not listener.ours and namespace != listener.namespace
    if foreign and not granted(view, "Gateway", listener.namespace, "Secret", namespace, name):
        view.add(
            "reference-not-granted",
            ERROR,
            listener.tls_at,
            f"{listener.place.object} uses {shown} of another namespace, and no ReferenceGrant there allows it.",
            f"Create a ReferenceGrant in `{namespace}`, or move the Secret.",
            shown,
        )
        return
    facts = view.snapshot.secrets.get((namespace, name))
    if facts is None:
        _missing(view, listener, namespace, name)
        return
    place = Place(listener.tls_at.object, listener.tls_at.path, listener.tls_at.exposure)
    if not ({"tls.crt", "tls.key"} <= facts.filled or {"cert", "key"} <= facts.filled):
        has = ", ".join(sorted(facts.filled)) or "nothing"
        view.add(
            "secret-incomplete",
            ERROR,
            place,
            f"{shown} holds {has}; tls.crt and tls.key are needed"
            + (f" ({', '.join(sorted(facts.empty))} are empty)." if facts.empty else "."),
            "Make it with kubectl create secret tls.",
            shown,
        )
        return
    _certificate(view, place, facts, _names(listener), shown)
    if listener.mode in _MUTUAL:
        _clients(view, listener, place, namespace, name)


def _clients(view: View, listener: Listener, place: Place, namespace: str, name: str) -> None:
    """Whether something says whose certificates clients have (GetCaCert in pilot/pkg/credentials/kube/secrets.go)."""
    if not is_secret(listener.authority):
        return
    where = listener.authority.partition("://")[2] or listener.authority or f"{name}-cacert"
    where = where.rpartition("/")[2]
    for one in (where, where.removesuffix("-cacert")):
        facts = view.snapshot.secrets.get((namespace, one))
        if facts is not None and {"cacert", "ca.crt"} & facts.filled:
            return
    nobody = f"neither ca.crt in Secret {namespace}/{name} nor Secret {where} says whose"
    if listener.authority:
        nobody = f"Secret {namespace}/{where} (caCertCredentialName) doesn't say whose"
    view.add(
        "client-ca-missing",
        ERROR,
        place,
        f"Clients must show certificates, and {nobody}.",
        "Add the clients' authority as ca.crt.",
        f"Secret {namespace}/{name}",
    )


def _names(listener: Listener) -> list[str]:
    return sorted({name for _owner, name in listener.hosts} - {"*"})


def _missing(view: View, listener: Listener, namespace: str, name: str) -> None:
    shown = f"Secret {namespace}/{name}"
    beside = listener.namespace
    entry = next(
        (one for one in (view.model.exposures if view.model else ()) if one.name == listener.place.exposure), None
    )
    candidates = {beside, entry.namespace if entry is not None else beside}
    known = view.snapshot.elsewhere | set(view.snapshot.secrets)
    others = sorted(f"{space}/{name}" for space in candidates - {namespace} if (space, name) in known)
    if others:
        view.add(
            "secret-elsewhere",
            ERROR,
            listener.tls_at,
            f"{shown} doesn't exist; there is {others[0]}, and gateways read Secrets of their own namespace alone.",
            f"Copy it to namespace `{namespace}`.",
            shown,
            f"Secret {others[0]}",
        )
        return
    view.add(
        "secret-missing",
        WARNING,
        listener.tls_at,
        f"{shown} doesn't exist: clients' TLS handshakes are cut off until it does.",
        f"Create it in namespace `{namespace}`, where the gateway's pods are.",
        shown,
    )


def granted(view: View, kind: str, source: str, wanted: str, namespace: str, name: str) -> bool:
    """Whether a ReferenceGrant lets objects of a kind and namespace name an object elsewhere, or may do so unread."""
    if not view.readable(snap.GRANT, namespace):
        return True
    for grant in view.snapshot.items(snap.GRANT):
        spec = grant.get("spec") or {}
        if grant["metadata"]["namespace"] != namespace:
            continue
        giver = any(one.get("kind") == kind and one.get("namespace") == source for one in spec.get("from") or ())
        given_to = any(
            one.get("kind") == wanted and one.get("name") in (None, "", name) for one in spec.get("to") or ()
        )
        if giver and given_to:
            return True
    return False


def _certificate(view: View, place: Place, facts: SecretFacts, names: list[str], shown: str = "") -> None:
    shown = shown or place.object
    if not facts.looked:
        view.add(
            "unread",
            UNKNOWN,
            Place("Python package cryptography"),
            "The Python package cryptography is missing, so certificates weren't looked at.",
            "Install it on the control machine.",
            cluster=True,
        )
    if facts.broken:
        view.add(
            "certificate-unreadable",
            ERROR,
            place,
            f"{shown}: {facts.broken}, so Envoy refuses it.",
            "Put the certificate in PEM into it, the server's own first.",
            shown,
        )
        return
    if facts.fits is False:
        view.add(
            "certificate-key",
            ERROR,
            place,
            f"{shown}: the private key isn't that of the first certificate, so Envoy refuses both.",
            "Put the server's own certificate first, and the key that was made with it.",
            shown,
        )
    if not facts.chain:
        return
    leaf, now = facts.chain[0], view.snapshot.now
    if leaf.not_after <= now:
        view.add(
            "certificate-expired",
            WARNING,
            place,
            f"The certificate in {shown} expired on {leaf.not_after:%Y-%m-%d}: clients refuse it.",
            "Renew it.",
            shown,
        )
    elif leaf.not_after - now < SOON:
        view.add(
            "certificate-expiring",
            WARNING,
            place,
            f"The certificate in {shown} expires on {leaf.not_after:%Y-%m-%d}.",
            "Renew it.",
            shown,
        )
    if leaf.not_before > now:
        view.add(
            "certificate-early",
            WARNING,
            place,
            f"The certificate in {shown} is valid from {leaf.not_before:%Y-%m-%d %H:%M} UTC on only.",
            "Wait, or check the clock of who made it.",
            shown,
        )
    missing = [name for name in names if not _covered(name, leaf.names)]
    if missing:
        view.add(
            "certificate-hostname",
            WARNING,
            place,
            f"The certificate in {shown} is for {', '.join(leaf.names) or 'no name'}, not for {', '.join(missing)}: "
            "clients refuse it.",
            "Use a certificate with all of these names.",
            shown,
        )


def _covered(name: str, names: tuple[str, ...]) -> bool:
    """Whether a certificate is for a name. A wildcard of it stands for one label (RFC 6125, 6.4.3)."""
    name = name.lower()
    rest = name.partition(".")[2]
    return any(one == name or (one.startswith("*.") and one[2:] == rest) for one in map(str.lower, names))


def _files(view: View, listener: Listener) -> None:
    """Certificates from files need a volume in the gateway's pods."""
    for path in listener.files:
        for bound in view.bound_to[id(listener)]:
            mounts = {
                str(mount.get("mountPath"))
                for pod in bound.workload.pods
                for container in (pod.get("spec") or {}).get("containers") or ()
                for mount in container.get("volumeMounts") or ()
            }
            if not any(path == mount or path.startswith(f"{mount.rstrip('/')}/") for mount in mounts):
                view.add(
                    "certificate-file",
                    ERROR,
                    listener.tls_at,
                    f"{bound.workload.shown} have nothing mounted where {path} would be; Envoy refuses the listener.",
                    "Name a Secret by credentialName, or mount one there.",
                )
                break


def shared(view: View) -> None:
    """Certificates that are good for names on another listener of the same port.

    A client that has an HTTP/2 connection sends requests for every name of its certificate over it (RFC 9113, 9.1.1).
    They reach the listener of the first name, which answers the others with 404.
    """
    groups: dict[tuple[object, ...], list[tuple[Listener, SecretFacts]]] = defaultdict(list)
    for bound in view.bound:
        listener = bound.listener
        if listener.takes != "http" or not listener.terminates:
            continue
        for _owner, name in listener.credentials:
            space = listener.credentials[0][0] if listener.api == "gateway_api" else bound.workload.namespace
            facts = view.snapshot.secrets.get((space, name))
            if facts is not None and facts.chain:
                groups[bound.workload.key, bound.ports].append((listener, facts))
    told: set[tuple[str, str]] = set()
    for members in groups.values():
        # Only certificates of several names or wildcards can be good for names elsewhere
        wide = [one for one in members if len(one[1].chain[0].names) > 1 or "*" in "".join(one[1].chain[0].names)]
        for listener, facts in wide:
            for other, _facts in members:
                if other is listener or (listener.ours and other.ours) or _same_server(listener, other):
                    continue
                names = [
                    name
                    for _owner, name in other.hosts
                    if _covered(name, facts.chain[0].names) and name not in {own for _o, own in listener.hosts}
                ]
                pair = (listener.place.object + listener.place.path, other.place.object + other.place.path)
                if names and pair not in told and pair[::-1] not in told:
                    told.add(pair)
                    place = listener.tls_at if listener.ours or not other.ours else other.tls_at
                    view.add(
                        "certificate-shared",
                        WARNING,
                        place,
                        f"The certificate of {listener.place} is also good for `{names[0]}`, which {other.place} "
                        "publishes on the same port: browsers send its requests over the open HTTP/2 connection of the "
                        "first, and get 404.",
                        "Publish all names of a certificate by one Gateway, or give each name a certificate of its "
                        "own.",
                        listener.place.object,
                        other.place.object,
                    )


def _same_server(one: Listener, two: Listener) -> bool:
    return one.place == two.place
