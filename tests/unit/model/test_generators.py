"""What tables of lists don't show: versions, limits, names, and that nothing is shared or secret."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.edgeway.istio.plugins.filter.to_manifests import FilterModule
from ansible_collections.edgeway.istio.plugins.module_utils import _gateway_api, _istio_api, _ports, _publish
from ansible_collections.edgeway.istio.plugins.module_utils._model import Gateway, ModelError, parse
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import short, wildcard_over
from unit.model.lists import BASES, CERTIFICATE, KEY

HTTP, HTTPS, TLS, TCP = BASES["http"], BASES["https"], BASES["tls"], BASES["tcp"]
ELSEWHERE = {**HTTP, "backend": {"service": "a", "namespace": "b", "port": 80}}
to_manifests = FilterModule().filters()["to_manifests"]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in manifests if one["kind"] == kind]


# Versions


def versions(served: dict[str, list[str]] | None) -> dict[str, str]:
    model = parse([ELSEWHERE, HTTPS, TLS, TCP], api="gateway_api")
    return {
        one["kind"]: one["apiVersion"].split("/")[1]
        for one in _gateway_api.generate(model, served)
        if one["apiVersion"].startswith("gateway.")
    }


def test_versions_where_nobody_can_be_asked() -> None:
    assert versions(None) == {
        "Gateway": "v1",
        "HTTPRoute": "v1",
        "ReferenceGrant": "v1beta1",
        "TCPRoute": "v1",
        "TLSRoute": "v1",
    }


def test_versions_that_the_server_serves() -> None:
    served = {
        "Gateway": ["v1beta1", "v1"],
        "HTTPRoute": ["v1beta1"],
        "ReferenceGrant": ["v1", "v1beta1"],
        "TCPRoute": ["v1alpha2"],
        "TLSRoute": ["v1alpha2", "v1alpha3"],
    }
    assert versions(served) == {
        "Gateway": "v1",
        "HTTPRoute": "v1beta1",
        "ReferenceGrant": "v1",
        "TCPRoute": "v1alpha2",
        "TLSRoute": "v1alpha3",
    }


def test_kinds_that_the_server_does_not_serve() -> None:
    with pytest.raises(ModelError) as caught:
        versions({"Gateway": ["v1"], "HTTPRoute": ["v1"], "ReferenceGrant": [], "TLSRoute": ["v2"]})
    (problem,) = caught.value.problems
    assert problem.path == "api"
    assert problem.message == (
        "the cluster doesn't serve ReferenceGrant, TCPRoute, TLSRoute of gateway.networking.k8s.io"
    )


# Limits of the Gateway API's objects


def test_a_route_that_is_too_large_becomes_several() -> None:
    routes: list[dict[str, Any]] = [
        {
            "matches": [{"path": {"exact": f"/{number}/{match}"}} for match in range(70 if number == 0 else 20)],
            "backends": [{"service": f"s{number}", "port": 80}],
        }
        for number in range(19)
    ]
    hostnames = [f"h{number:02d}.example" for number in range(18)]
    entry = {**HTTP, "backend": None, "routes": routes, "hostnames": hostnames}
    found = of_kind(_gateway_api.generate(parse([entry], api="gateway_api")), "HTTPRoute")
    specs = [one["spec"] for one in found]
    names = ["web", *(f"web.{number:03d}" for number in range(1, len(found)))]
    assert [one["metadata"]["name"] for one in found] == names
    for spec in specs:
        assert len(spec["hostnames"]) <= 16
        assert len(spec["rules"]) <= 16
        assert max(len(rule["matches"]) for rule in spec["rules"]) <= 64
        assert sum(len(rule["matches"]) for rule in spec["rules"]) <= 128
    written = [
        (hostname, match["path"]["value"])
        for spec in specs
        for hostname in spec["hostnames"]
        for rule in spec["rules"]
        for match in rule["matches"]
    ]
    wanted = [(name, match["path"]["exact"]) for name in hostnames for route in routes for match in route["matches"]]
    assert sorted(written) == sorted(wanted)


def test_sixteen_small_rules_fit_one_route() -> None:
    routes = [
        {"matches": [{"path": {"exact": f"/{number}"}}], "backends": [{"service": "a", "port": 80}]}
        for number in range(17)
    ]
    for count, parts in ((16, [16]), (17, [16, 1])):
        entry = {**HTTP, "backend": None, "routes": routes[:count]}
        found = of_kind(_gateway_api.generate(parse([entry], api="gateway_api")), "HTTPRoute")
        assert [len(one["spec"]["rules"]) for one in found] == parts


def test_more_than_thirty_two_names_that_are_passed_through() -> None:
    """A route hangs on 32 listeners at most, a Gateway holds 64 of them."""
    hostnames = [f"h{number:02d}.example" for number in range(40)]
    manifests = _gateway_api.generate(parse([{**TLS, "hostnames": hostnames}], api="gateway_api"))
    (gateway,) = of_kind(manifests, "Gateway")
    listeners = {one["name"]: one["hostname"] for one in gateway["spec"]["listeners"]}
    assert sorted(listeners.values()) == hostnames
    routes = of_kind(manifests, "TLSRoute")
    assert [len(one["spec"]["parentRefs"]) for one in routes] == [32, 8]
    for route in routes:
        assert [listeners[one["sectionName"]] for one in route["spec"]["parentRefs"]] == route["spec"]["hostnames"]


def test_more_than_sixteen_services_in_one_other_namespace() -> None:
    names = [f"s{number:02d}" for number in range(20)]
    routes = [
        {"matches": [{"path": {"exact": f"/{name}"}}], "backends": [{"service": name, "namespace": "b", "port": 80}]}
        for name in names
    ]
    manifests = _gateway_api.generate(parse([{**HTTP, "backend": None, "routes": routes}], api="gateway_api"))
    grants = of_kind(manifests, "ReferenceGrant")
    assert [one["metadata"]["name"] for one in grants] == ["default.httproute.web", "default.httproute.web.001"]
    assert [one["name"] for grant in grants for one in grant["spec"]["to"]] == names


def many(base: dict[str, Any], count: int, **fields: str) -> list[dict[str, Any]]:
    """Make exposures that differ in a field each: `{}` in it stands for a number."""
    return [
        {**base, "name": f"x{at}", **{key: yaml.safe_load(text.format(at)) for key, text in fields.items()}}
        for at in range(count)
    ]


INNER = {"istio": "internal"}
ON_ITS_OWN = {"class_name": "other", "deploy": True, "service": "own-other"}


@pytest.mark.parametrize(
    ("exposures", "count"),
    [
        (many(TCP, 65, port="70{:02d}"), 65),
        (many(TCP, 64, port="70{:02d}"), 0),
        (many(TLS, 65, hostnames="[h{}.example]"), 65),
        (many(TLS, 64, hostnames="[h{}.example]"), 0),
        (many(HTTP, 65, port="70{:02d}"), 65),
        # Of one port, or with one certificate, all share a listener
        (many(HTTP, 70, hostnames="[h{}.example]"), 0),
        (many(HTTPS, 70, hostnames="[h{}.example]"), 0),
        # A redirect's port counts too, and once
        ([*many(TCP, 62, port="70{:02d}"), *many({**HTTPS, "redirect_http": True}, 2, hostnames="[h{}.example]")], 0),
        ([*many(TCP, 63, port="70{:02d}"), {**HTTPS, "redirect_http": True}], 65),
        ([*many(TCP, 64, port="70{:02d}"), {**HTTPS, "redirect_http": True, "expose": "service"}], 65),
        # What hangs on another Gateway doesn't
        ([{**HTTP, "gateway": {"existing": "theirs"}}, *many(TCP, 65, port="70{:02d}")], 65),
        ([{**HTTP, "gateway": ON_ITS_OWN}, *many(TCP, 64, port="70{:02d}")], 0),
        ([{**HTTP, "expose": "service"}, *many(TCP, 64, port="70{:02d}")], 0),
    ],
)
def test_how_many_listeners_a_gateway_has(exposures: list[dict[str, Any]], count: int) -> None:
    named = [{**entry, "name": f"x{at}"} for at, entry in enumerate(exposures)]
    try:
        parse(named, api="gateway_api")
        told = []
    except ModelError as error:
        told = [f"{problem.path}: {problem.message}" for problem in error.problems]
    at = f"exposures[{len(exposures) - 1}].hostnames"
    limit = f"{at}: brings its Gateway to {count} listeners, and the Gateway API allows 64"
    assert told == ([limit] if count else [])


def test_sixty_four_listeners_fit_and_more_take_a_gateway_each() -> None:
    exposures = [
        {**HTTPS, "name": f"s{number}", "hostnames": [f"s{number}.example"], "tls": {"secret": f"s{number}"}}
        for number in range(65)
    ]
    (gateway,) = of_kind(_gateway_api.generate(parse(exposures[:64], api="gateway_api")), "Gateway")
    assert len(gateway["spec"]["listeners"]) == 64
    model = parse(exposures, api="gateway_api", gateway={"scope": "exposure"})
    assert len(of_kind(_gateway_api.generate(model), "Gateway")) == 65


# Names


def test_names_that_clash_after_all() -> None:
    """The names in a list can't do it, but a model that was changed by hand can."""
    model = parse([TCP])
    twin = replace(model.exposures[0], port=7002)
    with pytest.raises(ModelError) as caught:
        _istio_api.generate(replace(model, exposures=(model.exposures[0], twin)))
    said = "exposures: two exposures would both have VirtualService db/db. Give one of them another name."
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("first", "second", "service", "name"),
    [
        ("s.x", "s-x", "istio-ingressgateway", "default-s-x-443"),
        ("s-443", "s", "443", "default-s-443-443"),
    ],
)
def test_names_of_certificates_that_clash_after_all(first: str, second: str, service: str, name: str) -> None:
    twin = {**HTTPS, "name": "twin", "hostnames": ["twin.example"], "gateway": {"service": service}}
    model = parse([{**HTTPS, "tls": {"secret": first}}, {**twin, "tls": {"secret": "other"}}])
    one, two = model.exposures
    assert two.tls is not None
    changed = replace(two, tls=replace(two.tls, secret=second))
    with pytest.raises(ModelError) as caught:
        _istio_api.generate(replace(model, exposures=(one, changed)))
    assert str(caught.value) == (
        f"exposures: two certificates would both have Gateway istio-system/{name}. "
        "Give one of their Secrets another name."
    )


@pytest.mark.parametrize(
    ("name", "limit", "result"),
    [
        ("web", 63, "web"),
        ("3scale", 63, "x-3scale"),
        ("a" * 57, 57, "a" * 57),
        ("a" * 58, 57, "a" * 48 + "-d5c039b7"),
        ("a" * 47 + "-" + "b" * 20, 57, "a" * 47 + "-cf1cd29a"),
    ],
)
def test_short(name: str, limit: int, result: str) -> None:
    assert short(name, limit) == result
    assert len(result) <= limit


@pytest.mark.parametrize(
    ("names", "wildcard"),
    [
        (["a.example"], "a.example"),
        (["*.example"], "*.example"),
        (["a.example", "b.example"], "*.example"),
        (["a.b.example", "c.b.example"], "*.b.example"),
        (["a.b.example", "c.example"], "*.example"),
        (["example.com", "www.example.com"], "*.com"),
        (["*.a.example", "b.a.example"], "*.a.example"),
        (["*.a.example", "b.example"], "*.example"),
        (["*.a.b.example", "*.c.b.example"], "*.b.example"),
        (["a.one", "a.two"], None),
        (["one", "two"], None),
        (["one", "a.one"], None),
        (["*"], None),
        (["*", "a.example"], None),
        ([], None),
    ],
)
def test_wildcard_over(names: list[str], wildcard: str | None) -> None:
    assert wildcard_over(names) == wildcard


LONG = "a" * 63


def test_names_are_cut_to_what_a_service_and_a_gateway_may_have() -> None:
    """A Gateway's name leaves room for the `-istio` that Istio adds to it."""
    entry = {**HTTPS, "name": LONG, "namespace": LONG, "redirect_http": True, "tls": {"secret": f"{LONG}.b"}}
    plain = {**TCP, "name": "b" * 63, "namespace": LONG}
    manifests = _istio_api.generate(parse([{**entry, "expose": "service"}, plain]))
    assert [len(one["metadata"]["name"]) for one in of_kind(manifests, "Gateway")] == [57, 57, 57]
    assert [len(one["metadata"]["name"]) for one in _ports.services(parse([{**entry, "expose": "service"}]))] == [63]
    own = {"deploy": True, "scope": "exposure"}
    [deployed] = parse([{**HTTP, "name": LONG, "namespace": LONG}], api="gateway_api", gateway=own).exposures
    assert len(deployed.gateway.service) == 63
    assert deployed.gateway.service.endswith("-istio")


def test_the_objects_of_a_host_have_its_whole_name() -> None:
    host = f"{LONG}.{LONG}.example"
    manifests = _istio_api.generate(parse([{**HTTP, "backend": {"host": host, "port": 80}}]))
    for kind in ("DestinationRule", "ServiceEntry"):
        assert [one["metadata"]["name"] for one in of_kind(manifests, kind)] == [f"default-{host}"]
    longest = ".".join([LONG, LONG, LONG, "a" * 61])
    manifests = _istio_api.generate(parse([{**HTTP, "backend": {"host": longest, "port": 80}}]))
    for kind in ("DestinationRule", "ServiceEntry"):
        assert [len(one["metadata"]["name"]) for one in of_kind(manifests, kind)] == [253]


# Outside hosts


@pytest.mark.parametrize(
    ("base", "backend", "protocol", "resolution", "endpoints"),
    [
        (HTTP, {}, "HTTP", "DNS", None),
        (HTTPS, {}, "HTTP", "DNS", None),
        (HTTPS, {"tls": {}}, "HTTPS", "DNS", None),
        (TLS, {}, "TLS", "DNS", None),
        (TCP, {"tls": {}}, "TCP", "DNS", None),
        (TCP, {"address": "192.0.2.1"}, "TCP", "STATIC", [{"address": "192.0.2.1"}]),
        (TCP, {"address": "DB.internal.example"}, "TCP", "DNS", [{"address": "db.internal.example"}]),
    ],
)
def test_how_an_outside_host_is_made_known(
    base: dict[str, Any], backend: dict[str, Any], protocol: str, resolution: str, endpoints: Any
) -> None:
    entry = {**base, "backend": {"host": "x.example", "port": 7001, **backend}}
    [one] = of_kind(_istio_api.generate(parse([entry])), "ServiceEntry")
    assert one["spec"]["ports"] == [{"number": 7001, "name": f"{protocol.lower()}-7001", "protocol": protocol}]
    assert one["spec"]["resolution"] == resolution
    assert one["spec"].get("endpoints") == endpoints


# Order


def test_of_two_that_ask_for_parameters_the_one_that_asks_for_more_comes_first() -> None:
    queries = [{"a": {"exact": "1"}}, {"a": {"exact": "1"}, "b": {"exact": "1"}}]
    routes = [{"matches": [{"query": one}], "backends": [{"service": f"s{len(one)}", "port": 80}]} for one in queries]
    [service] = of_kind(_istio_api.generate(parse([{**HTTP, "backend": None, "routes": routes}])), "VirtualService")
    assert [len(rule["match"][0]["queryParams"]) for rule in service["spec"]["http"]] == [2, 1]


# Secrets and what is shared


def test_a_secret_beside_listeners_without_one() -> None:
    given = {**HTTPS, "name": "zz", "tls": {"certificate": CERTIFICATE, "private_key": KEY}}
    for exposures in ([TCP, HTTPS, given], [given, HTTPS, TCP]):
        manifests = _istio_api.generate(parse([{**one, "port": 7001 + at} for at, one in enumerate(exposures)]))
        assert [one["metadata"]["name"] for one in of_kind(manifests, "Secret")] == ["shop-zz-tls"]


def test_secrets_are_named_after_the_first_with_that_content() -> None:
    given = {"tls": {"certificate": CERTIFICATE, "private_key": KEY}}
    other = {"tls": {"certificate": CERTIFICATE * 2, "private_key": KEY}}
    exposures = [
        {**HTTPS, **given, "name": "b", "hostnames": ["b.example"]},
        {**HTTPS, **given, "name": "a", "hostnames": ["a.example"]},
        {**HTTPS, **other, "name": "c", "hostnames": ["c.example"]},
    ]
    manifests = _istio_api.generate(parse(exposures))
    secrets = of_kind(manifests, "Secret")
    assert [one["metadata"]["name"] for one in secrets] == ["shop-a-tls", "shop-c-tls"]
    assert base64.b64decode(secrets[0]["data"]["tls.key"]).decode() == KEY
    servers = [one["spec"]["servers"][0] for one in of_kind(manifests, "Gateway")]
    assert [server["hosts"] for server in servers] == [["shop/a.example", "shop/b.example"], ["shop/c.example"]]


def test_a_certificates_gateway_has_the_same_name_in_whatever_order() -> None:
    """Two Services lead to the same pods: the first by name is in the Gateway's name."""
    office, depot = (
        {**HTTPS, "name": name, "hostnames": [f"{name}.example"], "gateway": {"service": name, "selector": INNER}}
        for name in ("office", "depot")
    )
    names = [
        [one["metadata"]["name"] for one in of_kind(_istio_api.generate(parse(listed)), "Gateway")]
        for listed in ([office, depot], [depot, office])
    ]
    assert names[0] == names[1]
    assert [name for name in names[0] if "depot" in name] == names[0]


def test_an_exposures_own_gateway_is_deployed_as_the_default_is() -> None:
    default = {"deploy": True, "service": "public-istio"}
    [entry] = parse([{**HTTP, "gateway": {"scope": "exposure"}}], api="gateway_api", gateway=default).exposures
    assert entry.gateway.deploy


def test_nothing_that_is_printed_holds_a_key() -> None:
    model = parse([{**HTTPS, "tls": {"certificate": CERTIFICATE, "private_key": KEY}}])
    assert "MIIE" not in repr(model)


def test_manifests_share_no_part() -> None:
    """A caller may change one without changing another, and YAML has no anchors."""
    backend = {"service": "x", "port": 443, "tls": {"sni": "x.example"}}
    names = [f"h{number}.example" for number in range(40)]
    exposures = [
        {**HTTP, "backend": backend, "hostnames": names},
        {**TLS, "hostnames": names},
        {**HTTPS, "hostnames": ["shop.test"], "redirect_http": True},
        TCP,
    ]
    for api, generate in (("istio", _istio_api.generate), ("gateway_api", _gateway_api.generate)):
        seen: set[int] = set()
        manifests = generate(parse(exposures, api=api))
        stack: list[Any] = list(manifests)
        while stack:
            part = stack.pop()
            if isinstance(part, (dict, list)) and part:
                assert id(part) not in seen
                seen.add(id(part))
                stack += part.values() if isinstance(part, dict) else part


def test_a_gateway_may_be_given_as_it_is_in_the_model() -> None:
    gateway = Gateway("team", "public", (("app", "gw"),))
    assert parse([HTTP], gateway=gateway).exposures[0].gateway == gateway


def test_another_cluster_domain() -> None:
    manifests = _gateway_api.generate(parse([HTTP], api="gateway_api", cluster_domain="k8s.internal"))
    (gateway,) = of_kind(manifests, "Gateway")
    (rule,) = of_kind(manifests, "DestinationRule")
    assert gateway["spec"]["addresses"][0]["value"] == "istio-ingressgateway.istio-system.svc.k8s.internal"
    assert rule["spec"]["host"] == "web.web.svc.k8s.internal"


# The filter


def test_the_filter() -> None:
    assert [one["kind"] for one in to_manifests([HTTP])] == ["DestinationRule", "Gateway", "VirtualService"]
    assert [one["kind"] for one in to_manifests([HTTP], api="gateway_api", set="a")] == [
        "DestinationRule",
        "Gateway",
        "HTTPRoute",
    ]
    assert to_manifests([HTTP], gateway={"namespace": "team"})[1]["metadata"]["namespace"] == "team"


@pytest.mark.parametrize("api", ["istio", "gateway_api"])
def test_the_filter_gives_what_is_rendered(api: str) -> None:
    exposures = [HTTP, HTTPS, TLS, TCP]
    rendered = _publish.render(exposures, _publish.Options(api=api, validate=False)).manifests
    assert to_manifests(exposures, api=api) == rendered
    elsewhere = to_manifests(exposures, api=api, cluster_domain="k8s.internal")
    assert str(elsewhere).count("maxRetries") == str(rendered).count("maxRetries") == 2


def test_the_filter_gives_secrets_only_when_asked() -> None:
    exposures = [{**HTTPS, "tls": {"certificate": CERTIFICATE, "private_key": KEY}}]
    assert not of_kind(to_manifests(exposures), "Secret")
    assert of_kind(to_manifests(exposures, secrets=True), "Secret")


def test_the_filter_says_all_that_is_wrong() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        to_manifests([{**HTTP, "port": 0}, {**TCP, "port": None}])
    assert "exposures[0].port (web): 0 is outside 1 to 65535." in str(caught.value)
    assert "exposures[1].port (db): is missing." in str(caught.value)
