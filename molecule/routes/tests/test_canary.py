"""An application's routes from its own namespace: a prefix, a header, a canary, several hostnames and none."""

from collections.abc import Callable
from typing import Any

import pytest
from outside import clients, echo
from outside.lab import Lab, wait_for
from outside.runs import Ended

ANY = 8181
NAMES = ["app.example", "www.app.example"]


@pytest.fixture(scope="module", autouse=True)
def published(workloads: Callable[..., None], publish: Callable[..., Ended]) -> Ended:
    workloads("bookinfo")
    return publish("canary")


@pytest.mark.parametrize("name", NAMES)
def test_a_path_prefix(lab: Lab, name: str) -> None:
    for path, cluster in (("/api", "productpage"), ("/api/v1", "productpage"), ("/apis", "reviews"), ("/", "reviews")):
        assert echo.facts(clients.http_get(lab.vip, name, path))["Cluster"] == cluster, path


@pytest.mark.parametrize("name", NAMES)
def test_a_header(lab: Lab, name: str) -> None:
    def ask(kind: str, path: str = "/") -> str:
        seen = echo.facts(clients.http_get(lab.vip, name, path, headers={"x-user-type": kind}))
        return f"{seen['Cluster']}/{seen['ServiceVersion']}"

    assert {ask("premium") for _ in range(20)} == {"reviews/v3"}
    assert {ask("other") for _ in range(20)} <= {"reviews/v1", "reviews/v2"}
    assert ask("premium", "/api") == "productpage/v1", "the path comes first"


def test_a_canary(lab: Lab, capsys: pytest.CaptureFixture[str], api: str) -> None:
    seen = echo.tally(1000, lambda: clients.http_get(lab.vip, NAMES[0]))
    with capsys.disabled():
        print(f"\n{api}: canary by 90/10: {dict(sorted(seen.items()))}")
    assert seen.keys() == {"reviews/v1", "reviews/v2"}
    assert abs(seen["reviews/v1"] - 900) <= 38, "four standard deviations"


def test_no_hostname_and_a_backend_elsewhere(lab: Lab) -> None:
    for name in ("anything.example", lab.vip):
        answer = clients.http_get(lab.vip, name, port=ANY)
        assert answer.status == 200
        assert echo.facts(answer)["Hostname"].startswith("echo-"), "the backend in namespace web"


def test_other_names_are_not_found(lab: Lab) -> None:
    assert clients.http_get(lab.vip, "x.app.example").status == 404


def test_what_the_gateway_api_needs(lab: Lab, api: str, set_name: str) -> None:
    mine = f"--selector=edgeway.istio/set={set_name}"
    grants = lab.objects("referencegrants", "--namespace=web", mine)

    def gateways() -> list[dict[str, Any]]:
        return lab.objects("gateways.gateway.networking.k8s.io", "--namespace=istio-system", mine)

    if api == "istio":
        assert not grants
        assert not gateways()
        return
    (grant,) = grants
    assert [(one["kind"], one["namespace"]) for one in grant["spec"]["from"]] == [("HTTPRoute", "bookinfo")]
    assert [(one["kind"], one["name"]) for one in grant["spec"]["to"]] == [("Service", "echo")]

    def programmed() -> bool:
        (gateway,) = gateways()
        found = {one["type"]: one["status"] for one in gateway["status"]["conditions"]}
        return bool(found["Programmed"] == "True")

    # istiod writes what it found out after it has told the gateways
    wait_for("istiod to call the Gateway programmed", programmed, seconds=30)
    for route in lab.objects("httproutes", "--namespace=bookinfo", mine):
        for parent in route["status"]["parents"]:
            assert {one["type"]: one["status"] for one in parent["conditions"]}["Accepted"] == "True"
