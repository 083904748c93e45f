import pytest
from outside import lab as lab_module


@pytest.fixture(scope="session")
def lab() -> lab_module.Lab:
    """The lab whose edges are the boxes."""
    return lab_module.load(lab_module.BOXES)
