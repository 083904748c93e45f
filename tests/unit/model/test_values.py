"""Single values at the edge of what is taken."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._model import (
    METHODS,
    PROXY_PORTS,
    Model,
    ModelError,
    OutlierDetection,
    Problem,
    Rewrite,
    Traffic,
    parse,
)
from ansible_collections.edgeway.istio.plugins.module_utils._reader import kind_of, quoted
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


HEADERS = {f"x-{number}": "a" for number in range(17)}
MATCHED = {name: {"exact": "a"} for name in HEADERS}
ORIGIN = {"allow_origins": ["*"]}
WORDS = [f"x-{number}" for number in range(65)]


@pytest.mark.parametrize(
    ("case", "field", "message", "cure"),
    [
        ({"match": {"path": {"exact": "/" + "a" * 1024}}}, "matches[0].path.exact",
         "is 1025 characters long, 1024 are allowed", "Write a shorter path"),
        ({"match": {"path": {"regex": "/" + "a" * 1024}}}, "matches[0].path.regex",
         "is 1025 characters long, 1024 are allowed", "Write a shorter regex"),
        ({"match": {"query": {"q": {"regex": "a" * 1025}}}}, "matches[0].query.q.regex",
         "is 1025 characters long, 1024 are allowed", "Write a shorter regex"),
        ({"match": {"query": {"q": {"exact": "a" * 4097}}}}, "matches[0].query.q.exact",
         "is 4097 characters long, 1024 are allowed", "Write a shorter value"),
        ({"match": {"headers": {"x": {"exact": "a" * 4097}}}}, "matches[0].headers.x.exact",
         "holds control characters, or is too long", "Write what clients send"),
        ({"match": {"headers": MATCHED}}, "matches[0].headers", "holds 17 matches, 16 are allowed", "Split the route"),
        ({"match": {"query": MATCHED}}, "matches[0].query", "holds 17 matches, 16 are allowed", "Split the route"),
        ({"match": {"headers": {"a" * 257: {"exact": "a"}}}}, f"matches[0].headers.{'a' * 257}",
         f"`{'a' * 77}...` is not the name of a header", "Use letters, digits and dashes"),
        ({"route": {"request_headers": {"set": HEADERS}}}, "request_headers.set",
         "holds 17 headers, 16 are allowed", "Change fewer"),
        ({"route": {"request_headers": {"add": HEADERS}}}, "request_headers.add",
         "holds 17 headers, 16 are allowed", "Change fewer"),
        ({"route": {"response_headers": {"remove": list(HEADERS)}}}, "response_headers.remove",
         "holds 17 headers, 16 are allowed", "Change fewer"),
        ({"route": {"cors": {"allow_origins": [f"https://{word}" for word in WORDS]}}}, "cors.allow_origins",
         "holds 65, 64 are allowed", "Name fewer"),
        ({"route": {"cors": {**ORIGIN, "allow_headers": WORDS}}}, "cors.allow_headers",
         "holds 65, 64 are allowed", "Name fewer"),
        ({"route": {"cors": {**ORIGIN, "expose_headers": WORDS}}}, "cors.expose_headers",
         "holds 65, 64 are allowed", "Name fewer"),
        ({"route": {"cors": {**ORIGIN, "allow_methods": ["GET"] * 10}}}, "cors.allow_methods",
         "holds 10, 9 are allowed", "Name fewer"),
        ({"route": {"timeout": "a" * 80}}, "timeout", f"`{'a' * 80}` is not a duration",
         "Write a number with its unit, such as `5s`, `250ms` or `1m30s`"),
        ({"route": {"timeout": "a" * 81}}, "timeout", f"`{'a' * 77}...` is not a duration",
         "Write a number with its unit, such as `5s`, `250ms` or `1m30s`"),
    ],
)  # fmt: skip
def test_what_is_too_long_or_too_much(case: dict[str, Any], field: str, message: str, cure: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(spelt_out(case))
    [problem] = caught.value.problems
    assert (problem.path, problem.message, problem.cure) == (f"exposures[0].routes[0].{field}", message, cure)


@pytest.mark.parametrize(
    "case",
    [
        {"match": {"query": {"q": {"exact": "a"}, "Q": {"exact": "b"}}}},
        {"match": {"query": {"host": {"exact": "a"}}}},
        {"match": {"headers": {"a" * 256: {"regex": "a.*"}}}},
        {"match": {"query": {"q": {"regex": "a" * 1024}}}},
        {"match": {"headers": {"x": {"regex": "a" * 1024}}}},
        {"routes": [{"redirect": {"scheme": "HTTPS"}}]},
        {"routes": [{"redirect": {"hostname": "a.example"}}]},
        {"routes": [{"redirect": {"port": 8443}}]},
        {"routes": [{"redirect": {"path": {"full": "/a"}}}]},
        *({"routes": [{"redirect": {"port": 1, "status": status}}]} for status in (301, 302, 303, 307, 308)),
        {"route": {"rewrite": {"hostname": "a.example"}}},
        {"route": {"rewrite": {"path": {"prefix": "/"}}}},
        {"route": {"retries": {"attempts": 100}}},
        {"route": {"retries": {"attempts": 1, "codes": [400, "503", 511]}}},
        {"route": {"request_headers": {"remove": ["x-a"]}}},
        {"route": {"cors": {**ORIGIN, "allow_headers": WORDS[:64], "expose_headers": ["*", "x-a"]}}},
        {"route": {"cors": {**ORIGIN, "expose_headers": WORDS[:64], "allow_methods": list(METHODS)}}},
        {"route": {"mirror": {"service": "a", "port": 80, "percent": 1}}},
        {"routes": [{"backends": [{"service": f"s{number}", "port": 80} for number in range(16)]}]},
        {"routes": [{"backends": [{"service": "a", "port": 80, "weight": weight}]} for weight in (1_000_000,)]},
        {"routes": [{"backends": [{"service": "a", "port": 80, "weight": 0}, {"service": "b", "port": 80}]}]},
        {"http": {"node_port": 1, "port": 65535}},
        {"http": {"hostnames": ["*." + "a." * 125 + "a"]}},
        {"http": {"traffic": {"outlier_detection": {
            "consecutive_local_origin_failures": 0, "consecutive_gateway_errors": 1}}}},
        {"http": {"traffic": {"outlier_detection": {
            "consecutive_local_origin_failures": 0, "consecutive_5xx_errors": 1000}}}},
        {"http": {"gateway": {"selector": {"a" * 63: "b" * 63}}}},
        {"list": [
            {**BASES["tcp"], "name": f"x{number}", "port": 7000 + number,
             "backend": {"host": f"x{number}.example", "port": 1, "address": f"192.0.2.{number}"}}
            for number in range(2)
        ]},
    ],
)  # fmt: skip
def test_what_is_taken_just_so(case: dict[str, Any]) -> None:
    assert errors_of(case) == []


@pytest.mark.parametrize(
    "case", [{"http": {"hostnames": ["*." + "a." * 125 + "ab"]}}, {"http": {"gateway": {"selector": {"a": "b" * 64}}}}]
)
def test_one_letter_too_many(case: dict[str, Any]) -> None:
    assert len(errors_of(case)) == 1


@pytest.mark.parametrize("port", sorted(PROXY_PORTS))
def test_no_port_of_the_proxy_can_be_published(port: int) -> None:
    assert errors_of({"tcp": {"port": port}}) == [f"exposures[0].port: {port} is used by Istio's proxy itself"]


def test_the_ports_of_the_proxy() -> None:
    assert {15000, 15001, 15006, 15020, 15021, 15090} <= PROXY_PORTS


def test_what_is_not_said() -> None:
    route = {"backends": [{"service": "a", "port": 80}], "mirror": {"service": "b", "port": 80}}
    [entry] = sound({"routes": [{**route, "cors": ORIGIN, "retries": {"attempts": 1}}]}).exposures
    [one] = entry.routes
    assert one.mirror is not None
    assert one.mirror.percent == 100
    assert one.cors is not None
    assert one.cors.max_age == 5
    assert [backend.weight for backend in one.backends] == [1]
    for written, ejects in (({}, True), ({"outlier_detection": True}, True), ({"outlier_detection": False}, False)):
        [entry] = sound({"http": {"traffic": written}}).exposures
        assert entry.traffic == Traffic(outlier_detection=OutlierDetection() if ejects else None)


@pytest.mark.parametrize(("written", "read"), [("/b/", "/b"), ("/", "/"), ("/b", "/b")])
def test_a_prefix_has_no_slash_at_its_end(written: str, read: str) -> None:
    [entry] = sound({"match": {"path": {"prefix": written}}}).exposures
    assert entry.routes[0].matches[0].path == read
    [entry] = sound({"route": {"rewrite": {"path": {"prefix": written}}}}).exposures
    assert entry.routes[0].rewrite == Rewrite(prefix=read)


@pytest.mark.parametrize(
    ("gateway", "selector"),
    [
        ({}, (("app", "gw"),)),
        ({"service": "istio-ingressgateway"}, (("app", "gw"),)),
        ({"namespace": "team"}, (("istio", "ingressgateway"),)),
        ({"service": "istio-public"}, (("istio", "public"),)),
        ({"service": "public"}, (("istio", "public"),)),
        ({"service": "public", "selector": {"b": 1, "a": "x"}}, (("a", "x"), ("b", "1"))),
    ],
)
def test_the_pods_of_another_gateway(gateway: dict[str, Any], selector: tuple[tuple[str, str], ...]) -> None:
    """Those of the default one are known where it is the same Service; else Istio's charts say their labels."""
    model = parse([{**BASES["http"], "gateway": gateway}], gateway={"selector": {"app": "gw"}})
    assert model.exposures[0].gateway.selector == selector


def test_a_prefix_that_stays_is_no_problem_in_the_gateway_api() -> None:
    assert errors_of({"route": {"rewrite": {"path": {"prefix": "/"}}}}, "gateway_api") == []
    matches = [{"path": {"prefix": "/"}}]
    assert errors_of({"routes": [{"matches": matches, "redirect": {"path": {"prefix": "/"}}}]}, "gateway_api") == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "nothing"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("a", "a text"),
        ({}, "a map"),
        ([], "a list"),
        (set(), "a list"),
        (date(2026, 1, 1), "of type date"),
    ],
)
def test_kinds_of_values(value: Any, said: str) -> None:
    assert kind_of(value) == said


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.b", "is wrong"), "a.b: is wrong."),
        (Problem("a.b", "is wrong.", "Mend it."), "a.b: is wrong. Mend it."),
        (Problem(".a", "is wrong"), ".a: is wrong."),
        (Problem("a", "is not known", "Did you mean `b`?", "web"), "a (web): is not known. Did you mean `b`?"),
    ],
)
def test_how_a_problem_reads(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_words_in_a_row() -> None:
    assert [quoted(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["`a`", "`a` or `b`", "`a`, `b` or `c`"]


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


def test_where_the_pods_listen_when_ten_thousand_more_is_no_port() -> None:
    assert target_port(55_536, (55_536,)) == 20_000


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


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer", None])
def test_types_of_a_service_of_its_own(kind: str | None) -> None:
    [entry] = parse([{**BASES["http"], "expose": "service", "service_type": kind and kind.lower()}]).exposures
    assert entry.service is not None
    assert entry.service.type == (kind or "LoadBalancer")


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_policies_of_a_service_of_its_own(policy: str) -> None:
    [entry] = parse([{**BASES["http"], "expose": "service", "external_traffic_policy": policy}]).exposures
    assert entry.service is not None
    assert entry.service.external_traffic_policy == policy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allowed_routes", {"from": "All"}),
        ("class_name", "x"),
        ("scope", "shared"),
        ("deploy", True),
        ("service_type", "NodePort"),
    ],
)
def test_what_only_a_gateway_of_ours_in_the_gateway_api_can_be_told(key: str, value: Any) -> None:
    for gateway, api, message in (
        ({key: value}, "istio", "is for the Gateway API only"),
        ({"existing": "theirs", key: value}, "gateway_api", "can't be said of a Gateway that isn't ours"),
    ):
        with pytest.raises(ModelError) as caught:
            parse([{**BASES["http"], "gateway": gateway}], api=api)
        told = [(problem.path, problem.message) for problem in caught.value.problems]
        assert told == [(f"exposures[0].gateway.{key}", message)]


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
