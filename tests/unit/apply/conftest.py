"""A cluster in memory as a user's looks once Istio is installed, and a way to run whole modules against it."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from memory_api import Server
from memory_api.sample import installed

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
        module = importlib.import_module(f"ansible_collections.edgeway.istio.plugins.modules.{name}")
        printed = io.StringIO()
        with patch_module_args(arguments), redirect_stdout(printed), pytest.raises(SystemExit) as ended:
            module.main()
        result: Json = json.loads(printed.getvalue().strip().splitlines()[-1])
        assert bool(ended.value.code) == bool(result.get("failed"))
        return result

    return run_module
