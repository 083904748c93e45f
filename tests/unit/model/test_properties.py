"""What holds for every list: parsing never breaks, order means nothing, both APIs answer alike."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api, _ports
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from unit.model.lists import BASES
from unit.model.routing import Request, by_routes, by_virtual_services

GENERATE = {"istio": _istio_api.generate, "gateway_api": _gateway_api.generate}
EXAMPLES = int(os.environ.get("EDGEWAY_EXAMPLES", "60"))  # more for an afternoon's hunt
SLOW = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None
)
APIS = pytest.mark.parametrize("api", ["istio", "gateway_api"])

WORDS = st.sampled_from(
    [
        *(
            "name",
            "namespace",
            "protocol",
            "port",
            "hostnames",
            "tls",
            "secret",
            "backend",
            "routes",
            "matches",
            "path",
        ),
        *("exact", "prefix", "regex", "headers", "query", "grpc", "backends", "service", "host", "weight", "subset"),
        *("rewrite", "redirect", "retries", "cors", "mirror", "traffic", "gateway", "selector", "expose", "subsets"),
        *(
            "request_headers",
            "set",
            "timeout",
            "attempts",
            "codes",
            "allow_origins",
            "outlier_detection",
            "service_type",
        ),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.floats(allow_nan=True),
    st.text(max_size=6),
    st.sampled_from(
        ["HTTP", "HTTPS", "TLS", "TCP", "a", "a.example", "*.example", "/", "/a", "5s", "(", "MUTUAL", "service"]
    ),
    st.dates(),
    st.binary(max_size=3),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | SCALARS, inner, max_size=5),
    max_leaves=25,
)


def changed(entry: Any, place: list[int], value: Any) -> Any:
    """Return the entry with one part of it, found by following `place`, exchanged for `value`."""
    if not place or not isinstance(entry, (dict, list)) or not entry:
        return value
    keys = list(entry) if isinstance(entry, dict) else range(len(entry))
    key = keys[place[0] % len(keys)]
    copy = dict(entry) if isinstance(entry, dict) else list(entry)
    copy[key] = changed(entry[key], place[1:], value)
    return copy


RICH: list[dict[str, Any]] = [
    *BASES.values(),
    {
        "name": "rich",
        "namespace": "rich",
        "protocol": "HTTP",
        "hostnames": ["rich.example"],
        "routes": [
            {
                "matches": [
                    {"path": {"prefix": "/a"}, "headers": {"x-a": {"exact": "b"}}, "method": "GET"},
                    {"query": {"q": {"regex": "[0-9]+"}}},
                ],
                "backends": [{"service": "a", "port": 80, "weight": 1, "subset": "v1"}, {"service": "b", "port": 80}],
                "rewrite": {"path": {"prefix": "/b"}},
                "request_headers": {"set": {"x-b": "c"}, "remove": ["x-c"]},
                "timeout": "5s",
                "retries": {"attempts": 2, "codes": [503]},
                "mirror": {"service": "m", "port": 80},
                "cors": {"allow_origins": ["https://a.example"]},
            },
            {"matches": [{"grpc": {"service": "a.B", "method": "C"}}], "redirect": {"scheme": "https"}},
        ],
        "subsets": {"a": {"v1": {"version": "v1"}}},
        "traffic": {"connect_timeout": "1s", "idle_timeout": "9s", "outlier_detection": {"interval": "2s"}},
        "gateway": {"service": "other", "selector": {"app": "gw"}},
    },
]


def published(exposures: Any, api: str, **options: Any) -> None:
    """Go all the way; a refusal is as good as manifests."""
    try:
        model = parse(exposures, api=api, **options)
        GENERATE[api](model)
        for gateway in _ports.gateways(model):
            _ports.wanted(model, None, gateway)
    except ModelError as error:
        refused = error
    else:
        return
    assert refused.problems


@APIS
@SLOW
@given(exposures=ANYTHING)
def test_anything_is_published_or_refused(api: str, exposures: Any) -> None:
    published(exposures, api)
    published([exposures], api)


@APIS
@SLOW
@given(place=st.lists(st.integers(0, 9), max_size=8), value=ANYTHING)
def test_a_sound_list_with_one_part_exchanged(api: str, place: list[int], value: Any) -> None:
    published(changed(RICH, place, value), api)


@APIS
@SLOW
@given(gateway=ANYTHING, name=SCALARS)
def test_any_gateway_and_set(api: str, gateway: Any, name: Any) -> None:
    published(RICH[:1], api, gateway=gateway, set_name=name)


# Sound lists

LABEL = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\Z")
PATHS = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/b", "/b/"]
HOSTS = ["a.example", "b.example", "x.b.example", "other.test"]
HOSTNAMES = ["a.example", "b.example", "*.example", "*.b.example"]


@st.composite
def a_match(draw: st.DrawFn) -> dict[str, Any]:
    match: dict[str, Any] = {}
    kind = draw(st.sampled_from(["exact", "prefix", "prefix", "regex", None]))
    if kind == "regex":
        match["path"] = {"regex": draw(st.sampled_from(["/a.*", "/[ab]", "/a/b/?", ".*"]))}
    elif kind:
        match["path"] = {kind: draw(st.sampled_from(PATHS))}
    if draw(st.booleans()):
        match["headers"] = draw(
            st.dictionaries(
                st.sampled_from(["X-One", "x-two"]),
                st.sampled_from([{"exact": "1"}, {"regex": "[12]"}]),
                min_size=1,
                max_size=2,
            )
        )
    if draw(st.integers(0, 3)) == 0:
        match["query"] = {"q": draw(st.sampled_from([{"exact": "1"}, {"regex": "[12]"}]))}
    if draw(st.integers(0, 3)) == 0:
        match["method"] = draw(st.sampled_from(["GET", "POST"]))
    if not match:
        match["grpc"] = {"service": "a"} if draw(st.booleans()) else {"service": "a", "method": "b"}
    return match


@st.composite
def a_route(draw: st.DrawFn, number: int) -> dict[str, Any]:
    route: dict[str, Any] = {}
    if draw(st.integers(0, 4)):
        route["matches"] = draw(st.lists(a_match(), min_size=1, max_size=3))
    change = draw(st.sampled_from([None, None, "rewrite", "redirect"]))
    if change:
        new = draw(st.sampled_from([{"full": "/f"}, {"prefix": "/"}, {"prefix": "/n"}, {"prefix": "/n/m"}]))
        route[change] = {"path": new}
        if "prefix" in new:
            for match in route.get("matches", ()):
                match.pop("grpc", None)
                match["path"] = {"prefix": draw(st.sampled_from(PATHS))}
    if change != "redirect":
        names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True))
        route["backends"] = [{"service": f"{name}{number}", "port": 80} for name in names]
        if len(names) > 1:
            route["backends"][0]["weight"] = draw(st.integers(1, 9))
    return route


@st.composite
def a_list(draw: st.DrawFn) -> list[dict[str, Any]]:
    """HTTP and HTTPS exposures of one namespace that quarrel over few hostnames and paths."""
    result = []
    for number in range(draw(st.integers(1, 3))):
        entry: dict[str, Any] = {
            "name": draw(LABEL) + str(number),
            "namespace": "n",
            "protocol": "HTTP",
            "routes": [draw(a_route(10 * number + index)) for index in range(draw(st.integers(1, 3)))],
        }
        hostnames = draw(st.lists(st.sampled_from(HOSTNAMES), max_size=2, unique=True))
        if hostnames:
            entry["hostnames"] = hostnames
        if draw(st.integers(0, 3)) == 0:
            entry |= {"protocol": "HTTPS", "tls": {"secret": "s"}, "redirect_http": draw(st.booleans())}
        result.append(entry)
    return result


def repaired(exposures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take out what both APIs don't take, route by route."""
    for _number in range(20):
        try:
            parse(exposures, api="gateway_api")
            parse(exposures)
        except ModelError as error:
            place = [int(number) for number in re.findall(r"\[(\d+)\]", error.problems[0].path)]
            exposures = [dict(entry) for entry in exposures]
            routes = exposures[place[0]]["routes"]
            if len(place) > 1 and len(routes) > 1:
                exposures[place[0]]["routes"] = [route for index, route in enumerate(routes) if index != place[1]]
            else:
                del exposures[place[0]]
        else:
            break
    assume(exposures)
    return exposures


REQUESTS = st.builds(
    Request,
    host=st.sampled_from(HOSTS),
    path=st.sampled_from([*PATHS, "/a/", "/abc", "/a/b/", "/a/b/c/d"]),
    method=st.sampled_from(["GET", "POST"]),
    headers=st.dictionaries(st.sampled_from(["x-one", "x-two"]), st.sampled_from("123"), max_size=2),
    query=st.dictionaries(st.just("q"), st.sampled_from("123"), max_size=1),
)


@SLOW
@given(exposures=a_list(), requests=st.lists(REQUESTS, min_size=5, max_size=20))
def test_both_apis_answer_alike(exposures: list[dict[str, Any]], requests: list[Request]) -> None:
    exposures = repaired(exposures)
    istio = GENERATE["istio"](parse(exposures))
    gateway = GENERATE["gateway_api"](parse(exposures, api="gateway_api"))
    for request in requests:
        assert by_virtual_services(istio, 80, request) == by_routes(gateway, "http-80", request)
        assert by_virtual_services(istio, 443, request) == by_routes(gateway, "https-default-s-443", request)


INNER = {"istio": "internal"}
GATEWAYS: list[tuple[dict[str, Any] | None, dict[str, str] | str]] = [
    (None, {"istio": "ingressgateway"}),
    ({"service": "istio-internal"}, INNER),
    ({"service": "office", "selector": INNER}, INNER),
    ({"service": "a", "selector": {"app": "a"}}, {"app": "a"}),
    ({"namespace": "edge"}, {"istio": "ingressgateway"}),
    ({"namespace": "edge", "service": "b-istio", "deploy": True}, "b"),
    ({"namespace": "edge", "deploy": True, "scope": "exposure"}, ""),
]


@APIS
@SLOW
@given(
    choices=st.lists(
        st.tuples(st.sampled_from(GATEWAYS), st.sampled_from(["s", "s.x", "s-x"]), st.sampled_from([443, 8443])),
        min_size=2,
        max_size=4,
    )
)
def test_every_hostname_is_on_the_pods_that_its_exposure_names(api: str, choices: list[Any]) -> None:
    entries = [
        {
            **BASES["https"],
            "name": f"e{number}",
            "hostnames": [f"e{number}.{secret}.example"],
            "port": port,
            "tls": {"secret": secret},
            "gateway": gateway,
        }
        for number, ((gateway, _pods), secret, port) in enumerate(choices)
    ]
    try:
        manifests = GENERATE[api](parse(entries, api=api))
    except ModelError:
        assume(False)
    gateways = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["spec"]
        for one in manifests
        if one["kind"] == "Gateway"
    }
    selectors = {gateway["service"]: pods for gateway, pods in GATEWAYS if gateway and "service" in gateway}
    for entry, ((gateway, pods), secret, port) in zip(entries, choices, strict=True):
        (hostname,) = entry["hostnames"]
        space = (gateway or {}).get("namespace", "istio-system")
        key = {"istio": "hosts", "gateway_api": "hostnames"}[api]
        (route,) = [one["spec"] for one in manifests if hostname in one["spec"].get(key, ())]
        if api == "istio":
            (there,) = route["gateways"]
            found = gateways[tuple(there.split("/"))]
            (server,) = found["servers"]
            assert (there.split("/")[0], found["selector"], server["port"]["number"]) == (space, pods, port)
            assert f"shop/{hostname}" in server["hosts"]
            assert server["tls"]["credentialName"] == secret
        else:
            (parent,) = route["parentRefs"]
            found = gateways[parent["namespace"], parent["name"]]
            (listener,) = [one for one in found["listeners"] if one["name"] == parent["sectionName"]]
            if "addresses" in found:
                service = found["addresses"][0]["value"].split(".")[0]
                assert selectors.get(service, {"istio": "ingressgateway"}) == pods
            else:
                assert parent["name"] == (pods or f"shop-{entry['name']}")
            assert (parent["namespace"], listener["port"]) == (space, port)
            assert hostname.endswith(listener["hostname"].removeprefix("*"))
            assert [one["name"] for one in listener["tls"]["certificateRefs"]] == [secret]


@APIS
@SLOW
@given(
    choices=st.lists(
        st.tuples(
            st.sampled_from(["HTTP", "TCP"]),
            st.sampled_from([22, 80, 443, 8022, 8080, 8443, 18022, 18080, 18443]),
            st.sampled_from(["port", "service"]),
        ),
        min_size=2,
        max_size=5,
        unique_by=lambda choice: choice[1],
    )
)
def test_every_port_of_the_vip_ends_at_a_listener_of_its_own(api: str, choices: list[Any]) -> None:
    """As istiod looks numbers up: resolvePorts in pilot/pkg/model/gateway.go."""
    entries = [
        {**BASES["http"], "name": f"e{port}", "protocol": protocol, "port": port, "expose": expose}
        for protocol, port, expose in choices
    ]
    try:
        model = parse(entries, api=api)
    except ModelError:
        assume(False)
    installed = {"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 443, "targetPort": 8443}]}}
    shared = {80: 8080, 443: 8443} | {one["port"]: one["targetPort"] for one in _ports.wanted(model, installed)}
    services = {"istio-ingressgateway": shared} | {
        one["metadata"]["name"]: {port["port"]: port["targetPort"] for port in one["spec"]["ports"]}
        for one in _ports.services(model)
    }
    gateways = {one["metadata"]["name"]: one["spec"] for one in GENERATE[api](model) if one["kind"] == "Gateway"}
    bound: dict[int, int] = {}
    for _protocol, port, expose in choices:
        own = services[f"web-e{port}" if expose == "service" else "istio-ingressgateway"]
        if api == "istio":
            number = gateways[f"web-e{port}"]["servers"][0]["port"]["number"]
            ends = {ports[number] for ports in services.values() if number in ports} or {number}
        else:
            (found,) = [one for one in gateways.values() if port in [each["port"] for each in one["listeners"]]]
            ends = {services[found["addresses"][0]["value"].split(".")[0]][port]}
        assert ends == {own[port]}
        bound[port] = own[port]
    assert len(set(bound.values())) == len(bound)


@APIS
@SLOW
@given(exposures=a_list(), shuffle=st.randoms(use_true_random=False))
def test_order_means_nothing(api: str, exposures: list[dict[str, Any]], shuffle: Any) -> None:
    exposures = repaired(exposures)
    model = parse(exposures, api=api)
    other = list(exposures)
    shuffle.shuffle(other)
    assert GENERATE[api](parse(other, api=api)) == GENERATE[api](model) == GENERATE[api](model)


@APIS
@SLOW
@given(
    names=st.lists(st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"), min_size=2, max_size=2, unique=True),
    space=st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"),
    set_name=st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?\Z"),
)
def test_names_are_names(api: str, names: list[str], space: str, set_name: str) -> None:
    """However long a user's names are, those of the objects fit, and two stay two."""
    exposures = [
        {**BASES["https"], "name": names[0], "namespace": space, "redirect_http": True},
        {**BASES["tcp"], "name": names[1], "namespace": space, "expose": "service"},
    ]
    model = parse(exposures, api=api, set_name=set_name)
    manifests = GENERATE[api](model)
    identities = {
        (one["apiVersion"].split("/")[0], one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])
        for one in manifests
    }
    assert len(identities) == len(manifests)
    for one in manifests:
        name = one["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
        assert len(name) <= 253
        if one["kind"] in ("Gateway", "Service"):
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
        if one["kind"] == "Gateway":
            assert len(f"{name}-istio") <= 63
        assert one["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "edgeway",
            "edgeway.istio/set": set_name,
        }
