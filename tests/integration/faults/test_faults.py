"""Every fault of the corpus put into the running lab: the trace names its hop, and after the cure nothing is broken.

Needs KUBECONFIG of the lab, and root on its host. `pytest tests/integration/faults`; EDGEWAY_FAULTS=a,b runs those
alone, EDGEWAY_FAULTS_SHARED=1 also those that disturb the whole lab.
"""

import os
from collections.abc import Iterator

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _trace
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _shown
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import HOPS

from integration.faults import names, world
from integration.faults.corpus import FAULTS, Fault
from integration.faults.pairs import PAIRS

pytestmark = pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs KUBECONFIG")

ONLY = [name for name in os.environ.get("EDGEWAY_FAULTS", "").split(",") if name]
SINGLE = [one for one in FAULTS.values() if not ONLY or one.name in ONLY]
DOUBLE = [pair for pair in PAIRS if not ONLY or "+".join(pair) in ONLY]


@pytest.fixture(scope="module")
def lab() -> Iterator[world.World]:
    with names.serving() as served, world.running(connect({"kubeconfig": os.environ["KUBECONFIG"]}), served) as made:
        for exposure in world.EXPOSURES:
            seen = made.settled(exposure["name"], None, seconds=90)
            assert seen.named is None, "\n".join(_shown.tree(seen.facts, seen.hops))
        yield made


def _check(lab: world.World, faults: list[Fault], hop: str, record: pytest.FixtureRequest) -> None:
    asked = faults[0]
    try:
        for one in faults:
            one.break_(lab)
        seen = lab.settled(asked.exposure, hop, url=asked.url)
        print(f"{' + '.join(one.name for one in faults)}: {seen.named}, {seen.seconds:.1f} s; client: {seen.client}")
        assert seen.named == hop, "\n".join(_shown.tree(seen.facts, seen.hops))
        assert seen.broken is not None
        assert seen.broken.evidence
        assert seen.broken.cure
    finally:
        lab.mend()
    if asked.exposure:
        healed = lab.settled(asked.exposure, None, seconds=60)
        assert healed.named is None, "\n".join(_shown.tree(healed.facts, healed.hops))
        assert _trace.answers(healed.facts)


@pytest.mark.parametrize("fault", SINGLE, ids=lambda fault: fault.name)
def test_fault(lab: world.World, fault: Fault, request: pytest.FixtureRequest) -> None:
    if fault.shared and not os.environ.get("EDGEWAY_FAULTS_SHARED"):
        pytest.skip("disturbs the whole lab: EDGEWAY_FAULTS_SHARED=1")
    _check(lab, [fault], fault.hop, request)


@pytest.mark.parametrize("pair", DOUBLE, ids="+".join)
def test_two_faults(lab: world.World, pair: tuple[str, str], request: pytest.FixtureRequest) -> None:
    """The first hop on the way is the one that is named."""
    order = list(HOPS)
    faults = sorted((FAULTS[name] for name in pair), key=lambda one: order.index(one.hop))
    hop = faults[0].hop
    _check(lab, faults, hop, request)
