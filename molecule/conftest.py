"""What tests of every scenario start from."""

import pytest
from outside import lab as lab_module


@pytest.fixture(scope="session")
def lab() -> lab_module.Lab:
    return lab_module.load()
