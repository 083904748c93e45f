"""Runs modules of the collection whole in the tests' own process, with any ansible-core that is supported."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common import warnings

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # before ansible-core 2.17.8

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, Any] | None = None) -> Iterator[None]:
        """Give modules these arguments."""
        before, basic._ANSIBLE_ARGS = basic._ANSIBLE_ARGS, json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


def run(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run a module and return what it would print; its exit code must say whether it failed."""
    module = importlib.import_module(f"ansible_collections.edgeway.istio.plugins.modules.{name}")
    printed = io.StringIO()
    # A module is a process of its own: it doesn't tell of what another one warned
    warnings._global_warnings.clear()
    with patch_module_args(dict(arguments)), contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        module.main()
    result: dict[str, Any] = json.loads(printed.getvalue().strip().splitlines()[-1])
    assert bool(ended.value.code) == bool(result.get("failed"))
    return result
