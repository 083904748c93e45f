"""A cluster in memory as a user's looks once Istio is installed, and a way to run whole modules against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memory_api import Server
from memory_api.sample import installed
from unit import modules

Json = dict[str, Any]
Run = Callable[..., Json]


@pytest.fixture
def server() -> Iterator[Server]:
    with installed() as running:
        yield running


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a module of the collection whole, and return what it would print."""
    for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run_module(name: str, /, *, check: bool = False, diff: bool = True, **options: Any) -> Json:
        options.setdefault("kubeconfig", server.kubeconfig())
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
        return modules.run(name, arguments)

    return run_module
