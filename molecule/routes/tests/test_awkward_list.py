"""One list made to be awkward, and what every request to it is answered: the same through both APIs."""

import dataclasses
import pathlib
from typing import Any

import pytest
import rich.console
import rich.table
import yaml
from outside import clients, echo
from outside.lab import Lab
from outside.runs import ROUTES, ExposureSet

PORT = 8182
# What differs from request to request, or tells which API it was
OWN_HEADERS = ("x-request-id", "x-envoy-decorator-operation")


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    host: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    expected: str

    def __str__(self) -> str:
        return " ".join([self.method, self.host + self.path, *(f"{name}={value}" for name, value in self.headers)])


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """`short` is written as in the list of requests; `passed_on` is all that the backend saw."""

    short: str
    passed_on: tuple[Any, ...]


def questions(path: pathlib.Path) -> list[Question]:
    found = []
    for group in yaml.safe_load(path.read_text()):
        for host in group["hosts"]:
            for request, *headers, expected in group["asks"]:
                method, _, target = request.rpartition(" ")
                pairs = tuple((headers[0] if headers else {}).items())
                found.append(Question(host, method or "GET", target, pairs, expected))
    return found


def ask(lab: Lab, question: Question) -> Seen:
    answer = clients.http_get(
        lab.vip,
        question.host,
        question.path,
        port=PORT,
        method=question.method,
        headers=dict(question.headers),
    )
    if answer.status != 200:
        return Seen(f"{answer.status} {answer.headers.get('location', '')}".rstrip(), ())
    seen = echo.facts(answer)
    short = answer.headers.get("x-route", "no route")
    short += f" {seen['URL']}" if seen["URL"] != question.path else ""
    short += f" at {seen['Host']}" if seen["Host"].lower() != question.host.lower() else ""
    passed_on = [one for one in echo.headers(answer) if one[0] not in OWN_HEADERS]
    return Seen(short, (seen["Method"], seen["URL"], seen["Host"], answer.headers.get("x-added"), *passed_on))


@pytest.fixture(scope="module")
def asked(lists: pathlib.Path) -> list[Question]:
    return questions(lists / "awkward_requests.yml")


@pytest.fixture(scope="module")
def answers(lab: Lab, lists: pathlib.Path, set_name: str, asked: list[Question]) -> dict[str, list[Seen]]:
    """What each request was answered, by API."""
    found = {}
    for api in ROUTES:
        own = ExposureSet(lab, set_name, api)
        try:
            own.publish(lists / "awkward.yml")
            found[api] = [ask(lab, question) for question in asked]
        finally:
            own.remove()
    return found


def test_the_table(asked: list[Question], answers: dict[str, list[Seen]], capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (question, istio, gateway_api)
        for question, istio, gateway_api in zip(asked, *answers.values(), strict=True)
        if not question.expected == istio.short == gateway_api.short or istio != gateway_api
    ]
    alike = sum(one == two for one, two in zip(*answers.values(), strict=True))
    table = rich.table.Table("request", "expected", *answers, title=f"{len(rows)} requests answered otherwise")
    for question, istio, gateway_api in rows:
        table.add_row(str(question), question.expected, istio.short, gateway_api.short)
    with capsys.disabled():
        print(f"\n{len(asked)} requests: {alike} answered alike by both APIs", end="")
        for api, seen in answers.items():
            right = sum(question.expected == one.short for question, one in zip(asked, seen, strict=True))
            print(f", {right} as expected by {api}", end="")
        print()
        if rows:
            rich.console.Console(width=160).print(table)
    assert len(asked) >= 200
    assert not rows


def test_headers_are_changed_on_the_way(asked: list[Question], answers: dict[str, list[Seen]]) -> None:
    for seen in answers.values():
        ((_, _, _, added, *headers),) = (
            one.passed_on
            for question, one in zip(asked, seen, strict=True)
            if question.path == "/tag" and question.headers
        )
        assert added == "1"
        assert ("x-set", "new") in headers
        assert [value for name, value in headers if name == "x-add"] in (["more", "one"], ["one,more"])
        assert not any(name == "x-remove" for name, _ in headers)
