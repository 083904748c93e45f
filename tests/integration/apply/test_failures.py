"""A write is denied by the real API server, after its dry run was allowed: all is as before, and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.publish._write import ApplyError
from outside import clients
from outside.lab import Lab, wait_for
from outside.state import differing, state

from integration.apply.conftest import Publish

Json = dict[str, Any]
Deny = Callable[[str, str, str], AbstractContextManager[None]]

SET = "it-failures"
POLICY = "edgeway-test-denies"
PROBE = "edgeway-test-probe"


def site(space: str, name: str, **more: Any) -> Json:
    backend = {"service": "echo", "namespace": space, "port": 80}
    return {"name": name, "namespace": space, "protocol": "HTTP", "hostnames": [f"{name}.example"], "backend": backend,
            **more}  # fmt: skip


def tcp(space: str, name: str, port: int) -> Json:
    backend = {"service": "echo", "port": 9090}
    return {"name": name, "namespace": space, "protocol": "TCP", "port": port, "backend": backend}


def before(space: str) -> list[Json]:
    return [site(space, "it-stays"), site(space, "it-changes"), tcp(space, "it-leaves", 9480)]


def after(space: str) -> list[Json]:
    elsewhere = {"service": "shop", "namespace": "shop", "port": 80}
    return [
        site(space, "it-stays"),
        site(space, "it-changes", hostnames=["it-changes.example", "www.it-changes.example"]),
        site(space, "it-comes", backend=elsewhere),
        tcp(space, "it-comes-too", 9481),
    ]


@pytest.fixture(scope="module")
def deny(lab: Lab, space: str) -> Deny:
    """Deny writes of one object, but not their dry run."""
    lab.kubectl("create", "configmap", PROBE, f"--namespace={space}")

    def probed() -> bool:
        patch = ("patch", "configmap", PROBE, f"--namespace={space}", "--type=merge", "--patch={}")
        lab.kubectl(*patch, "--dry-run=server")
        try:
            lab.kubectl(*patch)
        except RuntimeError as error:
            return "injected" in str(error)
        return False

    @contextmanager
    def denied(resource: str, namespace: str, name: str) -> Iterator[None]:
        wanted = [f"request.namespace == '{namespace}' && request.name == '{name}'"]
        wanted.append(f"request.namespace == '{space}' && request.name == '{PROBE}'")
        every = {"apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"]}
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {**every, "apiGroups": ["", "networking.istio.io"], "resources": [resource, "configmaps"]}
                    ]
                },
                "matchConditions": [{"name": "it", "expression": " || ".join(f"({one})" for one in wanted)}],
                "validations": [{"expression": "has(request.dryRun) && request.dryRun", "message": "injected"}],
            },
        }
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY},
            "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
        }
        try:
            lab.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}))
            wait_for("the policy", probed, seconds=20, every=0.2)
            yield
        finally:
            for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
                lab.kubectl("delete", kind, POLICY, "--ignore-not-found")
            wait_for("the policy's end", lambda: not probed(), seconds=20, every=0.2)

    return denied


CASES = {
    "a backend's rule is made": ("destinationrules", "shop", f"{SET}-shop", "DestinationRule"),
    "the gateway's Service gets ports": ("services", "istio-system", "istio-ingressgateway", "Service"),
    "a listener is made": ("gateways", "istio-system", "{space}-it-comes", "Gateway"),
    "a route is changed": ("virtualservices", "{space}", "it-changes", "VirtualService"),
    "a route is removed": ("virtualservices", "{space}", "it-leaves", "VirtualService"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_write_denied_by_the_server(lab: Lab, space: str, put: Publish, deny: Deny, case: str) -> None:
    resource, namespace, name, kind = (part.format(space=space) for part in CASES[case])
    put(before(space), SET)
    then = state(lab)
    with deny(resource, namespace, name), pytest.raises(ApplyError) as raised:
        put(after(space), SET)
    assert differing(then, state(lab)) == set()
    told = raised.value.problems
    assert f"{kind} {namespace}/{name}: " in told[0]
    assert "injected" in told[0]
    # Backends' objects come first: nothing had been written then
    put_back = "." if resource == "destinationrules" else ": what had been written was put back."
    assert told[-1] == f"Nothing has changed{put_back}"
    for host in ("it-stays.example", "it-changes.example"):
        assert clients.http_get(lab.vip, host).status == 200, host
    # Nothing hinders the next run
    assert put(after(space), SET).changed
    assert clients.http_get(lab.vip, "it-comes.example").status == 200
