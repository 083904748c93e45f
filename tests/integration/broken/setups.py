"""The corpora: set-ups that are broken, and sound ones, each a few lines of YAML, read into plain Kubernetes objects.

broken/*.yml and sound/*.yml hold lists of set-ups:

- `name`, `about`, and `reports`: public issues where somebody had the same (owner/repository#number)
- `exposures` (with `api`, `gateway`, `edges`): a list for the collection; or `objects`: what somebody applied by hand
- `patch`: merge patches of what base.yml and istio.yml hold, by object
- `expect`: the code of the finding that is meant, and `also`: others that come with it
- `ask`: what a client does (`ask.py`); `unseen`: why nothing of it can be seen on the lab
- `cure`: `exposures`, `objects` and `patch` that replace those above (an object that is null is dropped)

What was seen on the lab, before and after the cure, is in observed.yml, written by tests/bench/findings.py.

Objects are written as `Kind namespace/name: spec`. Where a body has the key spec, metadata or data, it is the whole
object. `KubeGateway` is the Gateway API's Gateway. Deployment {echo: LABELS} is the lab's echo server, Secret
{certificate: {...}} a certificate made for the test, ConfigMap {authority: true} the one that signed it.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from ansible_collections.edgeway.istio.plugins.module_utils import _yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = pathlib.Path(__file__).parent
VIP = "10.77.0.199"
GATEWAY = {"namespace": "fx-edge", "service": "fx-gateway", "selector": {"istio": "fx-gateway"}}

Json = dict[str, Any]
Objects = dict[str, Json]

_VERSIONS = {
    **dict.fromkeys(("Gateway", "VirtualService", "DestinationRule", "ServiceEntry"), "networking.istio.io/v1"),
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    **dict.fromkeys(("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"), "security.istio.io/v1"),
    **dict.fromkeys(
        ("KubeGateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "GatewayClass"),
        "gateway.networking.k8s.io/v1",
    ),
    **dict.fromkeys(("ReferenceGrant", "BackendTLSPolicy"), "gateway.networking.k8s.io/v1"),
    "NetworkPolicy": "networking.k8s.io/v1",
    "Deployment": "apps/v1",
}
_WHOLE = ("spec", "metadata", "data", "status")


@dataclasses.dataclass(frozen=True)
class State:
    """What is there at one time: a list, objects by hand, and patches of the base."""

    exposures: list[Json]
    objects: Objects
    patch: Objects


@dataclasses.dataclass(frozen=True)
class SetUp:
    """One set-up. `family` is the file that it stands in."""

    family: str
    name: str
    about: str
    broken: State
    cured: State | None
    reports: tuple[str, ...] = ()
    api: str = "istio"
    gateway: Json = dataclasses.field(default_factory=lambda: dict(GATEWAY))
    edges: tuple[str, ...] = ()
    dns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    expect: str = ""
    severity: str = ""
    also: tuple[str, ...] = ()
    ask: str = ""
    unseen: str = ""

    @property
    def listed(self) -> bool:
        """Whether it is a list for the collection."""
        return bool(self.broken.exposures)


_KEYS = {
    *(
        "name",
        "about",
        "reports",
        "api",
        "gateway",
        "edges",
        "dns",
        "expect",
        "severity",
        "also",
        "ask",
    ),
    *("unseen", "cure", "exposures", "objects", "patch"),
}


@functools.cache
def load(folder: str) -> tuple[SetUp, ...]:
    """Read the set-ups of a folder: `broken` or `sound`."""
    found = []
    for path in sorted((HERE / folder).glob("*.yml")):
        for entry in _yaml.documents(path.read_text())[0]:
            unknown = set(entry) - _KEYS
            if unknown:
                raise ValueError(f"{path.name} {entry.get('name')}: {', '.join(unknown)} is not known")
            found.append(_read(path.stem, entry))
    names = [one.name for one in found]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ValueError(f"two set-ups have one name: {', '.join(sorted(double))}")
    return tuple(found)


def _read(family: str, entry: Json) -> SetUp:
    first = State(entry.get("exposures") or [], entry.get("objects") or {}, entry.get("patch") or {})
    cured = None
    if "cure" in entry:
        cure = entry["cure"]
        objects = {
            key: body for key, body in {**first.objects, **(cure.get("objects") or {})}.items() if body is not None
        }
        cured = State(cure.get("exposures", first.exposures), objects, cure.get("patch", first.patch))
    dns = {name: tuple(addresses) for name, addresses in (entry.get("dns") or {}).items()}
    texts = {key: str(entry[key]).strip() for key in ("about", "expect", "severity", "ask", "unseen")
             if key in entry}  # fmt: skip
    return SetUp(
        family=family,
        name=entry["name"],
        broken=first,
        cured=cured,
        reports=tuple(entry.get("reports") or ()),
        api=entry.get("api", "istio"),
        gateway={**GATEWAY, **(entry.get("gateway") or {})},
        edges=tuple(entry.get("edges") or ()),
        dns=dns,
        also=tuple(entry.get("also") or ()),
        **{"about": "", **texts},
    )


def observed() -> Json:
    """Return what was recorded on the lab, by the names of the set-ups."""
    path = HERE / "observed.yml"
    return dict((_yaml.documents(path.read_text()) or [{}])[0]) if path.exists() else {}


def observe(found: Json) -> None:
    """Record it, in the order of the set-ups."""
    names = [one.name for folder in ("broken", "sound") for one in load(folder)]
    ordered = {name: found[name] for name in names if name in found}
    head = "# What clients and tools said of each set-up on the lab. Written by tests/bench/findings.py.\n"
    (HERE / "observed.yml").write_text(head + yaml.safe_dump(ordered, sort_keys=False, width=150))


def base() -> Objects:
    """Return what every set-up begins with."""
    return dict(_yaml.documents((HERE / "base.yml").read_text())[0])


def installed() -> Objects:
    """Return what istio.yml becomes."""
    return dict(_yaml.documents((HERE / "installed.yml").read_text())[0])


def manifests(objects: Mapping[str, Json]) -> list[Json]:
    """Return complete Kubernetes objects."""
    return [manifest(key, body) for key, body in objects.items()]


def manifest(key: str, body: Json) -> Json:
    """Return one complete object of its short form."""
    kind, _space, place = key.partition(" ")
    namespace, _slash, name = place.rpartition("/")
    version = _VERSIONS.get(kind, "v1")
    metadata: Json = {"name": name, **({"namespace": namespace} if namespace else {})}
    result: Json = {"apiVersion": version, "kind": "Gateway" if kind == "KubeGateway" else kind, "metadata": metadata}
    body = copy.deepcopy(body or {})
    if kind == "Namespace":
        labels = {"kubernetes.io/metadata.name": name, **(body.get("labels") or {})}
        metadata["labels"] = {label: value for label, value in labels.items() if value is not None}
        return result
    if kind == "Secret" and "certificate" in body:
        return {**result, **_secret(body)}
    if kind == "ConfigMap" and "authority" in body:
        return {**result, "data": {"ca.crt": authority()}}
    if kind == "Deployment" and "echo" in body:
        return {**result, "spec": _echo(name, body)}
    if any(part in body for part in _WHOLE):
        metadata.update(body.pop("metadata", {}))
        return {**result, **body}
    return {**result, "spec": body}


def _echo(name: str, body: Json) -> Json:
    """Istio's echo server: HTTP on 8080, gRPC on 7070, TCP on 9090, with a certificate also HTTPS on 8443."""
    labels = dict(body["echo"])
    arguments = ["--port=8080", "--grpc=7070", "--tcp=9090", f"--version={labels.get('version', name)}"]
    container: Json = {
        "name": "echo",
        "image": "localhost/lab/echo:1",
        "imagePullPolicy": "IfNotPresent",
        "args": [*arguments, *(body.get("args") or ())],
        "ports": body.get("ports") or [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080 if body.get("ready", True) else 1}, "periodSeconds": 1},
    }
    spec: Json = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    if body.get("certificate"):
        container["args"] += ["--port=8443", "--tls=8443", "--crt=/tls/tls.crt", "--key=/tls/tls.key"]
        container["volumeMounts"] = [{"name": "tls", "mountPath": "/tls", "readOnly": True}]
        spec["volumes"] = [{"name": "tls", "secret": {"secretName": body["certificate"]}}]
    template = {"metadata": {"labels": labels, "annotations": body.get("annotations") or {}}, "spec": spec}
    return {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}


# Certificates


@functools.cache
def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fx authority")])
    return key, _signed(name, name, key, key, (), -30, 400, authority=True)


def authority() -> str:
    """The certificate (PEM) that clients of the corpora trust."""
    return _pem(_authority()[1])


def client() -> str:
    """A client's certificate that this authority signed, and its key (PEM)."""
    return "".join(base64.b64decode(value).decode() for _name, value in _content("names: [client]"))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signed(
    subject: x509.Name, issuer: x509.Name, key: Any, by: Any, names: tuple[str, ...], start: float, end: float, *,
    authority: bool = False,
) -> x509.Certificate:  # fmt: skip
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=start))
        .not_valid_after(now + timedelta(days=end))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not authority:
        own = _authority()[0].public_key()
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    return builder.sign(by, hashes.SHA256())


def _secret(body: Json) -> Json:
    """Make a Secret of {names, from, until (days from now), key: other, order, text, authority, without, emptied}."""
    wanted = body["certificate"]
    return {
        "type": body.get("type", "kubernetes.io/tls"),
        "data": dict(_content(yaml.safe_dump(wanted, sort_keys=True))),
    }


@functools.cache
def _content(text: str) -> tuple[tuple[str, str], ...]:
    wanted = yaml.safe_load(text)
    names = tuple(wanted.get("names") or ())
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signer, root = _authority()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
    leaf = _signed(subject, root.subject, key, signer, names, wanted.get("from", -1), wanted.get("until", 300))
    chain = _pem(root) + _pem(leaf) if wanted.get("order") == "authority-first" else _pem(leaf)
    private = (other if wanted.get("key") == "other" else key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    data = {"tls.crt": wanted.get("text", chain), "tls.key": private.decode()}
    if wanted.get("authority"):
        data["ca.crt"] = _pem(root)
    for name in wanted.get("without") or ():
        data.pop(name)
    for name in wanted.get("emptied") or ():
        data[name] = ""
    return tuple((name, base64.b64encode(value.encode()).decode()) for name, value in data.items())


def merged(whole: Any, patch: Any, *, named: bool = False) -> Any:
    """Apply a JSON merge patch (RFC 7386); `named` merges lists of things with names, as Kubernetes does for pods."""
    if named and isinstance(patch, list) and isinstance(whole, list) and all("name" in one for one in [*whole, *patch]):
        found = {one["name"]: one for one in whole}
        for one in patch:
            found[one["name"]] = merged(found.get(one["name"]), one, named=True)
        return list(found.values())
    if not isinstance(patch, dict):
        return patch
    result = dict(whole) if isinstance(whole, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value, named=named)
    return result
