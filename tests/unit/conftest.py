"""What holds for all unit tests."""

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def modules_return_their_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have modules return warnings, although other tests have imported the controller's part of Ansible."""
    # Before ansible-core 2.19 they always did
    if importlib.util.find_spec("ansible.module_utils._internal"):
        monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)
