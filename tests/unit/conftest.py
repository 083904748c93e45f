"""What holds for all unit tests."""

import pytest


@pytest.fixture(autouse=True)
def modules_return_their_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have modules return warnings, although other tests have imported the controller's part of Ansible."""
    monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)
