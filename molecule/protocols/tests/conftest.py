"""Pods with sidecars, for the tests of this scenario that need them."""

from collections.abc import Callable

import pytest
from outside.lab import Lab
from outside.runs import playbook

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: sidecars}
spec: {mtls: {mode: STRICT}}
"""


@pytest.fixture(scope="session")
def meshed(lab: Lab, workloads: Callable[..., None]) -> None:
    """Namespace `sidecars`, labelled for injection by the collection, where only mutual TLS is taken."""
    workloads("sidecars")
    playbook("molecule/protocols/inject.yml", inject_namespaces=["sidecars"])
    lab.rolled_out("sidecars")
    lab.apply(STRICT)
