"""Single values at the edge of what is taken."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._model import Model, ModelError, parse
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import target_port
from unit.model.lists import BASES, CERTIFICATE, KEY, spelt_out


def errors_of(case: dict[str, Any], api: str = "istio") -> list[str]:
    try:
        parse(spelt_out(case), api=api)
    except ModelError as error:
        return [f"{problem.path}: {problem.message}" for problem in error.problems]
    return []


def sound(case: dict[str, Any]) -> Model:
    return parse(spelt_out(case))


@pytest.mark.parametrize(
    "regex",
    [
        "/.*",
        ".*",
        "(/a|/b)/.*",
        r"/[a*+]+",
        r"/a\++",
        r"/[^\]\\1]*",
        r"/[]+]+",
        r"/\d+/\w*",
        r"/\pL+/\p{Greek}",
        r"(?i)/a",
        "/(?P<name>a)",
        "/(?:a|b){2,3}",
        "/a*?",
        "/" + "a" * 1023,
    ],
)
def test_regexes_that_are_taken(regex: str) -> None:
    assert errors_of({"match": {"path": {"regex": regex}}}) == []


@pytest.mark.parametrize(
    ("regex", "why"),
    [
        ("/(?=a)", "no regex that Envoy takes"),
        ("/(?!a)", "no regex that Envoy takes"),
        ("/(?<=a)b", "no regex that Envoy takes"),
        ("/(?<!a)b", "no regex that Envoy takes"),
        ("/(?>a)", "no regex that Envoy takes"),
        ("/(a)?(?(1)b|c)", "no regex that Envoy takes"),
        (r"/(a)\1", "no regex that Envoy takes"),
        (r"/[a](b)\2", "no regex that Envoy takes"),
        ("/(?P<x>a)(?P=x)", "no regex that Envoy takes"),
        ("/a*+", "no regex that Envoy takes"),
        ("/a{2}+", "no regex that Envoy takes"),
        ("/[a", "is no regex"),
        ("/a)", "is no regex"),
        ("/a{3,2}", "is no regex"),
        ("a/.*", "matches no path"),
        ("/" + "a" * 1024, "1025 characters"),
    ],
)
def test_regexes_that_are_refused(regex: str, why: str) -> None:
    (error,) = errors_of({"match": {"path": {"regex": regex}}})
    assert why in error


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/a.b", "/a..b", "/.a", "/a%20b", "/~a!$&'()*+,;=:@", "/" + "a" * 1023]
)
def test_paths_that_are_taken(path: str) -> None:
    assert errors_of({"match": {"path": {"exact": path}}}) == []


@pytest.mark.parametrize(
    "path",
    ["a", "", "/a?b", "/a#b", "//", "/a//b", "/./a", "/..", "/a/.", "/a%2fb", "/a%zz", '/"', "/ü", "/" + "a" * 1024],
)
def test_paths_that_are_refused(path: str) -> None:
    assert len(errors_of({"match": {"path": {"exact": path}}})) == 1


@pytest.mark.parametrize(
    ("text", "istio", "gateway"),
    [
        ("1ms", "0.001s", "1ms"),
        ("250ms", "0.25s", "250ms"),
        ("5s", "5s", "5s"),
        ("1500ms", "1.5s", "1s500ms"),
        ("1m30s", "90s", "90s"),
        ("1h", "3600s", "3600s"),
        ("24h", "86400s", "86400s"),
        ("1h1m1s1ms", "3661.001s", "3661s1ms"),
    ],
)
def test_durations(text: str, istio: str, gateway: str) -> None:
    exposures = spelt_out({"route": {"timeout": text}})
    one = _istio_api.generate(parse(exposures))[-1]
    two = _gateway_api.generate(parse(exposures, api="gateway_api"))[-1]
    assert one["spec"]["http"][0]["timeout"] == istio
    assert two["spec"]["rules"][0]["timeouts"] == {"request": gateway}


@pytest.mark.parametrize(
    "text", ["0ms", "24h1ms", "5", "5 s", "-5s", "s", "1d", "1.5s", "100000s", "", "1s1s1s1s1s", [5], None]
)
def test_durations_that_are_refused(text: Any) -> None:
    assert len(errors_of({"route": {"timeout": text, "retries": {"attempts": 1, "backoff": text}}})) == (
        0 if text is None else 2
    )


@pytest.mark.parametrize(
    "name", ["a", "a.example", "*.example", "xn--bcher-kva.example", "1.example", "a-b.example", "a." * 126 + "a"]
)
def test_hostnames_that_are_taken(name: str) -> None:
    assert errors_of({"http": {"hostnames": [name]}}) == []


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("a." * 126 + "ab", "labels of 1 to 63"),
        ("-a.example", "labels of 1 to 63"),
        ("a b", "labels of 1 to 63"),
        ("ü" * 64 + ".example", "in its ASCII form"),
        ("[::1]", "An address is no name"),
    ],
)
def test_hostnames_that_are_refused(name: str, cure: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(spelt_out({"http": {"hostnames": [name]}}))
    (problem,) = caught.value.problems
    assert cure in problem.cure


def test_sixteen_of_everything() -> None:
    """The Gateway API's limits hold under both APIs: a list can go from one to the other."""
    for count, wrong in ((16, 0), (17, 1)):
        values = {f"x-{number}": "a" for number in range(count)}
        assert len(errors_of({"match": {"headers": {name: {"exact": "a"} for name in values}}})) == wrong
        assert len(errors_of({"match": {"query": {name: {"exact": "a"} for name in values}}})) == wrong
        assert len(errors_of({"route": {"request_headers": {"set": values}}})) == wrong
        assert len(errors_of({"route": {"response_headers": {"add": values}}})) == wrong
        assert len(errors_of({"route": {"request_headers": {"remove": list(values)}}})) == wrong


def test_long_values() -> None:
    for count, wrong in ((1024, 0), (1025, 1)):
        assert len(errors_of({"match": {"query": {"q": {"exact": "a" * count}}}})) == wrong
    for count, wrong in ((4096, 0), (4097, 1)):
        assert len(errors_of({"match": {"headers": {"x": {"exact": "a" * count}}}})) == wrong
        assert len(errors_of({"route": {"request_headers": {"set": {"x": "a" * count}}}})) == wrong
    for count, wrong in ((64, 0), (65, 1)):
        origins = [f"https://a{number}.example" for number in range(count)]
        assert len(errors_of({"route": {"cors": {"allow_origins": origins}}})) == wrong


@pytest.mark.parametrize(
    "cors",
    [
        {"allow_origins": ["*"]},
        {"allow_origins": ["http://a", "https://a.example:8443", "https://*.example", "https://*"]},
        {"allow_origins": ["https://a.example"], "allow_methods": ["*"], "allow_headers": ["*"], "max_age": 86400},
        {"allow_origins": ["https://a.example"], "allow_methods": ["get"]},
    ],
)
def test_cors_that_is_taken(cors: dict[str, Any]) -> None:
    assert errors_of({"route": {"cors": cors}}) == []


def test_a_certificate_with_words_around_it() -> None:
    """As `openssl s_client` prints a chain, and as editors leave blank lines."""
    chain = f"\nsubject=CN = a\n{CERTIFICATE}\nsubject=CN = b\n{CERTIFICATE}\n\n"
    model = sound({"https": {"tls": {"certificate": chain, "private_key": f"\n{KEY}\n"}}})
    tls = model.exposures[0].tls
    assert tls is not None
    assert tls.certificate == chain.strip() + "\n"
    assert tls.private_key == KEY


def test_keys_of_other_kinds() -> None:
    for kind in ("RSA PRIVATE KEY", "EC PRIVATE KEY"):
        key = f"-----BEGIN {kind}-----\nMIIE\n-----END {kind}-----\n"
        assert sound({"https": {"tls": {"certificate": CERTIFICATE, "private_key": key}}})
    mixed = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END EC PRIVATE KEY-----\n"
    assert errors_of({"https": {"tls": {"certificate": CERTIFICATE, "private_key": mixed}}}) == [
        "exposures[0].tls.private_key: is not a private key in PEM, without a passphrase"
    ]


@pytest.mark.parametrize("paths", [["/", "/a"], ["/a", "/"]])
def test_a_redirected_prefix_is_written_for_each_match(paths: list[str]) -> None:
    """Istio needs /n/ in place of / and /n in place of /a, whichever is written first."""
    case = {
        "routes": [{"matches": [{"path": {"prefix": path}} for path in paths], "redirect": {"path": {"prefix": "/n"}}}]
    }
    rules = _gateway_api.generate(parse(spelt_out(case), api="gateway_api"))[-1]["spec"]["rules"]
    assert {
        rule["matches"][0]["path"]["value"]: rule["filters"][0]["requestRedirect"]["path"]["replacePrefixMatch"]
        for rule in rules
    } == {"/": "/n/", "/a": "/n"}


def test_a_prefix_is_taken_away_beside_a_match_of_everything() -> None:
    """The two rewrites read alike, but / of /a isn't / of /."""
    case = {
        "routes": [
            {
                "matches": [{"path": {"prefix": "/"}}, {"path": {"prefix": "/a"}}],
                "rewrite": {"path": {"prefix": "/"}},
                "backends": [{"service": "a", "port": 80}],
            }
        ]
    }
    rules = _istio_api.generate(sound(case))[-1]["spec"]["http"]
    assert [rule.get("match") for rule in rules] == [[{"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a/"}}], None]
    assert [rule["rewrite"] for rule in rules] == [{"uri": "/"}, {"uri": "/"}]


def test_a_try_may_last_as_long_as_the_whole() -> None:
    assert errors_of({"route": {"timeout": "2s", "retries": {"attempts": 1, "per_try_timeout": "2s"}}}) == []


@pytest.mark.parametrize(("port", "target"), [(1, 8001), (1023, 9023), (1024, 1024), (65535, 65535)])
def test_where_the_pods_listen(port: int, target: int) -> None:
    assert target_port(port, ()) == target


def test_what_counts_as_not_written() -> None:
    """Ansible fills options that were not given with None."""
    full = dict.fromkeys(("port", "hostnames", "tls", "routes", "gateway", "subsets", "traffic", "expose"))
    assert parse([{**BASES["http"], **full}]) == parse([BASES["http"]])


@pytest.mark.parametrize(
    ("written", "read"), [("yes", True), ("True", True), ("on", True), ("no", False), ("false", False), (False, False)]
)
def test_flags(written: Any, read: bool) -> None:
    assert sound({"https": {"redirect_http": written}}).exposures[0].redirect_http is read


def test_problems_read_well() -> None:
    with pytest.raises(ModelError) as caught:
        parse([{**BASES["http"], "port": 0}, {"name": "Bad"}], set_name="A")
    rule = "is not a DNS label (a-z, 0-9 and -, at most 63)"
    cure = "Use lower-case letters, digits and dashes, with a letter or digit at both ends"
    assert str(caught.value).splitlines()[:3] == [
        "set: `A` is not a set's name. Use 1 to 50 of a-z, 0-9 and -, none at an end.",
        "exposures[0].port (web): 0 is outside 1 to 65535. Write a number from 1 to 65535.",
        f"exposures[1].name: `Bad` {rule}. {cure}.",
    ]


@pytest.mark.parametrize("value", ["x", {}, None, 5])
def test_what_is_no_list(value: Any) -> None:
    with pytest.raises(ModelError) as caught:
        parse(value)
    [problem] = caught.value.problems
    assert (problem.path, problem.cure, problem.exposure) == ("exposures", "Write a list of exposures", "")
    assert problem.message.startswith("is ")
    assert problem.message.endswith(", a list is expected")


def test_a_problem_says_whose_it_is_and_nobodys_without_a_name() -> None:
    with pytest.raises(ModelError) as caught:
        parse([{"name": "a"}, {}, {"name": "b"}, "no mapping"])
    whose = {problem.path.partition(".")[0]: problem.exposure for problem in caught.value.problems}
    assert whose == {"exposures[0]": "a", "exposures[1]": "", "exposures[2]": "b", "exposures[3]": ""}


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_types_of_a_deployed_gateways_service(kind: str) -> None:
    model = parse(
        [BASES["http"]], api="gateway_api", gateway={"service": "own-istio", "deploy": True, "service_type": kind}
    )
    assert model.gateway.service_type == kind


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_policies_of_a_service_of_its_own(policy: str) -> None:
    [entry] = parse([{**BASES["http"], "expose": "service", "external_traffic_policy": policy}]).exposures
    assert entry.service is not None
    assert entry.service.external_traffic_policy == policy


@pytest.mark.parametrize(
    ("key", "value"), [("allowed_routes", {"from": "All"}), ("class_name", "x"), ("scope", "shared"), ("deploy", True)]
)
def test_what_only_a_gateway_of_ours_in_the_gateway_api_can_be_told(key: str, value: Any) -> None:
    for gateway, api, message in (
        ({key: value}, "istio", "is for the Gateway API only"),
        ({"existing": "theirs", key: value}, "gateway_api", "can't be said of a Gateway that isn't ours"),
    ):
        with pytest.raises(ModelError) as caught:
            parse([{**BASES["http"], "gateway": gateway}], api=api)
        told = {problem.path: problem.message for problem in caught.value.problems}
        assert told[f"exposures[0].gateway.{key}"] == message


BACKENDS = [{"service": "web", "port": 80}]


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"routes": [{"timeout": ["5s"], "backends": BACKENDS}]}, "routes[0].timeout", "a list is not a duration"),
        (
            {"routes": [{"matches": [{"grpc": {"service": "a.B", "method": "x y"}}], "backends": BACKENDS}]},
            "routes[0].matches[0].grpc.method",
            "`x y` is not a gRPC method",
        ),
        ({"subsets": {"web": {"v1": "x"}}}, "subsets.web.v1", "is a text, a map is expected"),
        ({"namespace": None}, "namespace", "is missing"),
        (
            {"expose": "service", "service_type": "ClusterIP", "external_traffic_policy": "Local"},
            "external_traffic_policy",
            "means nothing with `service_type: ClusterIP`",
        ),
    ],
)
def test_more_that_is_refused(fields: dict[str, Any], path: str, message: str) -> None:
    given = {**BASES["http"], **fields}
    if "routes" in fields:
        del given["backend"]
    with pytest.raises(ModelError) as caught:
        parse([given])
    [problem] = caught.value.problems
    assert (problem.path, problem.message) == (f"exposures[0].{path}", message)
