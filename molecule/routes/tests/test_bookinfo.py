"""Bookinfo on bare metal: five matches, a pinned nodePort on every node, reviews by weight and by header."""

import collections
from collections.abc import Callable

import pytest
from outside import clients, echo
from outside.lab import Lab
from outside.runs import Ended

PINNED = 31380
REVIEWS = {"reviews/v1": 500, "reviews/v2": 300, "reviews/v3": 200}
TAKEN = [
    "/productpage",
    "/productpage?u=test",
    "/static/logo.png",
    "/static",
    "/login",
    "/logout",
    "/api/v1/products/0",
]
REFUSED = ["/", "/productpage/1", "/product", "/statics", "/log", "/api/v1", "/api/v1/productsx"]


@pytest.fixture(scope="module", autouse=True)
def published(workloads: Callable[..., None], publish: Callable[..., Ended]) -> Ended:
    workloads("bookinfo")
    return publish("bookinfo")


@pytest.mark.parametrize("path", TAKEN)
def test_the_five_matches(lab: Lab, path: str) -> None:
    answer = clients.http_get(lab.vip, "bookinfo.example", path)
    assert (answer.status, echo.facts(answer).get("Cluster")) == (200, "productpage")
    assert echo.facts(answer)["URL"] == path


@pytest.mark.parametrize("path", REFUSED)
def test_other_paths_are_not_found(lab: Lab, path: str) -> None:
    assert clients.http_get(lab.vip, "bookinfo.example", path).status == 404


def test_every_node_answers_at_the_pinned_port(lab: Lab) -> None:
    for name in lab.edges:
        answer = clients.http_get(lab.machines[name], f"{lab.machines[name]}:{PINNED}", "/productpage", port=PINNED)
        assert (answer.status, echo.facts(answer).get("Cluster")) == (200, "productpage"), name
        assert clients.http_get(lab.machines[name], "x", "/other", port=PINNED).status == 404, name


def test_external_ip_is_the_vip(lab: Lab) -> None:
    header, row = lab.kubectl("get", "service", "istio-ingressgateway", "--namespace=istio-system").splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["EXTERNAL-IP"] == lab.vip


def test_reviews_by_header(lab: Lab) -> None:
    seen = echo.tally(100, lambda: clients.http_get(lab.vip, "reviews.example", headers={"end-user": "jason"}))
    assert seen == {"reviews/v2": 100}


def test_reviews_by_weight(lab: Lab, capsys: pytest.CaptureFixture[str], api: str) -> None:
    seen = echo.tally(1000, lambda: clients.http_get(lab.vip, "reviews.example"))
    with capsys.disabled():
        print(f"\n{api}: reviews by 50/30/20: {dict(sorted(seen.items()))}")
    close(seen, REVIEWS)


def test_reviews_by_weight_of_subsets(
    lab: Lab, publish: Callable[..., Ended], capsys: pytest.CaptureFixture[str], api: str
) -> None:
    """The last test of the file: it publishes another list."""
    if api == "gateway_api":
        with pytest.raises(AssertionError, match=r"subset.*can't be said in the Gateway API"):
            publish("bookinfo_subsets")
        return
    publish("bookinfo_subsets")
    jason = echo.tally(100, lambda: clients.http_get(lab.vip, "reviews.example", headers={"end-user": "jason"}))
    assert jason == {"reviews/v2": 100}
    seen = echo.tally(1000, lambda: clients.http_get(lab.vip, "reviews.example"))
    with capsys.disabled():
        print(f"\n{api}: subsets of reviews by 50/30/20: {dict(sorted(seen.items()))}")
    close(seen, REVIEWS)
    assert clients.http_get(lab.vip, "bookinfo.example", "/productpage").status == 404, "it left the list"


def close(seen: collections.Counter[str], expected: dict[str, int]) -> None:
    """Four standard deviations of 1000 throws: one run in 15 000 fails by chance."""
    assert seen.keys() == expected.keys()
    for name, count in expected.items():
        spread = (count * (1 - count / 1000)) ** 0.5
        assert abs(seen[name] - count) <= 4 * spread, f"{name}: {seen[name]}, not about {count}"
