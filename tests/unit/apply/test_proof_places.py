"""Which gateway's pods must hold what, where a list uses two gateways."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _proof
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate() -> dict[str, str]:
    """A certificate and its key, as a user gives them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"certificate": made.public_bytes(serialization.Encoding.PEM).decode(), "private_key": written.decode()}


def service(namespace: str, name: str, selector: dict[str, str]) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 80}, {"port": 443, "targetPort": 443}]
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector, "ports": ports}}


@pytest.mark.parametrize(("api", "generate"), [("istio", _istio_api.generate), ("gateway_api", _gateway_api.generate)])
def test_a_certificate_is_asked_of_its_own_gateway_alone(api: str, generate: Any) -> None:
    exposures = [
        {"name": "a", "namespace": "web", "protocol": "HTTP", "backend": {"service": "web", "port": 80}},
        {
            "name": "b",
            "namespace": "web",
            "protocol": "HTTPS",
            "hostnames": ["b.example"],
            "gateway": {"namespace": "team-b", "service": "team-b"},
            "tls": certificate(),
            "backend": {"service": "web", "port": 80},
        },
    ]
    desired = generate(parse(exposures, api=api))
    services = [
        service("istio-system", "istio-ingressgateway", {"istio": "ingressgateway"}),
        service("team-b", "team-b", {"istio": "team-b"}),
    ]
    facts = _proof.facts(desired, [], _proof.World(services))
    places = {place.namespace for place, held in facts.items() if any("certificate" in str(fact) for fact in held)}
    assert {place.namespace for place in facts} == {"istio-system", "team-b"}
    assert places == {"team-b"}
