"""What tests of every scenario start from.

A scenario's exposure lists lie in its folder `lists`, what they publish in `molecule/workloads`. Each test file has a
set of its own, named after it, published through each API in turn and removed at its end.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from outside import lab as lab_module
from outside.runs import ROUTES, Ended, ExposureSet

WORKLOADS = pathlib.Path(__file__).parent / "workloads"


@pytest.fixture(scope="session")
def lab() -> lab_module.Lab:
    return lab_module.load()


@pytest.fixture(scope="session")
def workloads(lab: lab_module.Lab) -> Iterator[Callable[..., None]]:
    """Apply manifests of molecule/workloads by name and wait for their pods; all are gone again at the end."""
    applied: dict[str, list[str]] = {}

    def apply(*names: str) -> None:
        for name in names:
            if name not in applied:
                path = WORKLOADS / f"{name}.yaml"
                documents = list(yaml.safe_load_all(path.read_text()))
                applied[name] = [one["metadata"]["name"] for one in documents if one["kind"] == "Namespace"]
                lab.kubectl("apply", "--filename", str(path))
        for name in names:
            for namespace in applied[name]:
                lab.rolled_out(namespace)

    yield apply
    for namespaces in applied.values():
        lab.kubectl("delete", "namespace", *namespaces, "--ignore-not-found", "--timeout=50s")


@pytest.fixture(scope="module", params=list(ROUTES))
def api(request: pytest.FixtureRequest) -> str:
    """Both APIs, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def lists(request: pytest.FixtureRequest) -> pathlib.Path:
    """The folder of the scenario's exposure lists."""
    return request.path.parents[1] / "lists"


@pytest.fixture(scope="module")
def set_name(request: pytest.FixtureRequest) -> str:
    """The name of the test file's set."""
    return "sc-" + request.path.stem.removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="module")
def publish(lab: lab_module.Lab, api: str, lists: pathlib.Path, set_name: str) -> Iterator[Callable[..., Ended]]:
    """Publish a list of the scenario by its name; a second call replaces the first. Nothing is left at the end."""
    own = ExposureSet(lab, set_name, api)
    (other,) = ROUTES.keys() - {api}

    def run(name: str, *arguments: str, **variables: Any) -> Ended:
        ended = own.publish(lists / f"{name}.yml", *arguments, **variables)
        assert not own.objects(*ROUTES[other])
        return ended

    yield run
    own.remove()
    assert not own.objects(*ROUTES[api], "configmap", "secret", "service")
