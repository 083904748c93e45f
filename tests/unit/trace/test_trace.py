"""Sound facts broken in one place: the hop that is named, and what is only unknown."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _envoy, _trace
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates, _shown
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    Dns,
    Facts,
    Istiod,
    ProxyHealth,
    Snapshot,
    Sync,
    Way,
)
from unit.trace import sound

Json = dict[str, Any]


def named(facts: Facts) -> str | None:
    broken = _trace.first_broken(_trace.trace(facts))
    return broken.name if broken else None


def state(facts: Facts, name: str) -> str:
    return next(hop.state for hop in _trace.trace(facts) if hop.name == name)


def changed(change: Callable[[Json], None]) -> Facts:
    """Facts of a cluster in which one object differs: `change` gets kind and name as `Service/shop`."""
    kinds = sound.objects()
    change({f"{kind}/{one['metadata']['name']}": one for kind, found in kinds.items() for one in found})
    return sound.facts(objects=kinds)


def without(kind: str) -> dict[str, tuple[Json, ...]]:
    return {**sound.objects(), kind: ()}


def dumped(change: Callable[[list[Json]], None]) -> Facts:
    """Facts of an Envoy in which one part differs: listeners, routes, clusters, endpoints, secrets."""
    said = sound.dump()
    change(said["configs"])
    return sound.facts(dump=said)


def listener(parts: list[Json]) -> Json:
    found: Json = parts[0]["dynamic_listeners"][0]["active_state"]["listener"]
    return found


def route(parts: list[Json]) -> Json:
    found: Json = parts[1]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0]["routes"][0]
    return found


def edges(*held: str, running: bool | None = True) -> dict[str, Any]:
    found = sound.facts().edges or ()
    return {
        "edges": tuple(
            replace(one, held=frozenset({sound.VIP} if one.name in held else ()), running=running) for one in found
        )
    }


def test_sound_facts_have_no_broken_and_no_unknown_hop() -> None:
    facts = sound.facts()
    hops = _trace.trace(facts)
    assert [(hop.name, hop.state, hop.evidence) for hop in hops if hop.state != "ok"] == []
    assert {hop.name for hop in hops} == set(_trace.HOPS)
    assert _trace.answers(facts) is True


GONE = {"connected": False, "failure": "timeout", "status": 0, "certificates": ()}
REFUSED = {"status": 503, "headers": {}}

BROKEN: list[tuple[str, str, Callable[[], Facts]]] = [
    ("no name", "dns", lambda: sound.facts(dns=Dns(error="nxdomain", chosen=True))),
    ("another address", "dns", lambda: sound.facts(dns=Dns(("192.0.2.5",)))),
    ("one of two", "dns", lambda: sound.facts(dns=Dns((sound.VIP, "2001:db8::1")))),
    ("no holder", "vip", lambda: sound.facts(**edges(), probes=sound.probes(**GONE))),
    ("no holder that we know", "vip", lambda: sound.facts(**edges())),
    ("two holders", "vip", lambda: sound.facts(**edges("node2", "node3"))),
    ("keepalived gone", "vip", lambda: sound.facts(**edges("node2", running=False))),
    ("no way", "route", lambda: sound.facts(way=Way(error="Network is unreachable"))),
    ("dropped on the way", "route",
     lambda: sound.facts(probes=(*sound.probes()[:3], sound.probe("vip", sound.VIP, **GONE)))),
    ("no Service", "service", lambda: sound.facts(objects=without("Service"))),
    ("no port", "service", lambda: changed(lambda at: at["Service/istio-ingressgateway"]["spec"].update(ports=[]))),
    ("no address", "service", lambda: changed(lambda at: at["Service/istio-ingressgateway"].update(status={}))),
    ("ClusterIP", "service",
     lambda: changed(lambda at: at["Service/istio-ingressgateway"]["spec"].update(type="ClusterIP"))),
    ("source ranges", "service",
     lambda: changed(lambda at: at["Service/istio-ingressgateway"]["spec"].update(
         loadBalancerSourceRanges=["198.51.100.0/24"]))),
    ("wrong port name", "service",
     lambda: changed(lambda at: at["Service/istio-ingressgateway"]["spec"]["ports"][0].update(targetPort="x"))),
    ("another nodePort", "service",
     lambda: sound.facts(target=replace(sound.facts().target, node_port=30999))),
    ("holder has no pod", "kube_proxy", lambda: sound.facts(**edges("node3"))),
    ("kube-proxy unwell", "kube_proxy",
     lambda: sound.facts(proxies=(ProxyHealth("node2", 1, healthy=False),))),
    ("kube-proxy counts none", "kube_proxy",
     lambda: sound.facts(proxies=(ProxyHealth("node2", 0, healthy=True),))),
    ("no pods", "pod", lambda: sound.facts(objects=without("Pod"))),
    ("istiod gone", "sync", lambda: sound.facts(istiod=Istiod(0))),
    ("istiod hangs", "sync",
     lambda: sound.facts(istiod=Istiod(1, silent=("istiod-1",)), pods=(replace(sound.facts().pods[0], sync=None),))),
    ("not connected", "sync", lambda: sound.facts(pods=(replace(sound.facts().pods[0], sync=None),))),
    ("stale", "sync",
     lambda: sound.facts(pods=(replace(sound.facts().pods[0], sync=Sync("istiod-1", ("routes",))),))),
    ("refused", "sync",
     lambda: dumped(lambda parts: parts[0]["dynamic_listeners"][0].update(error_state={"details": "no"}))),
    ("nothing bound", "listener", lambda: dumped(lambda parts: parts[0].update(dynamic_listeners=[]))),
    ("no such server name", "filter_chain",
     lambda: dumped(lambda parts: listener(parts)["filter_chains"][0].update(
         filter_chain_match={"server_names": ["other.example"]}))),
    ("passed through", "filter_chain",
     lambda: dumped(lambda parts: listener(parts)["filter_chains"][0].pop("transport_socket"))),
    ("no certificate", "certificate", lambda: dumped(lambda parts: parts[4].update(dynamic_active_secrets=[]))),
    ("no virtual host", "virtual_host",
     lambda: dumped(lambda parts: parts[1]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0].update(
         domains=["other.example"]))),
    ("no routes", "virtual_host", lambda: dumped(lambda parts: parts[1].update(dynamic_route_configs=[]))),
    ("no match", "route_match", lambda: dumped(lambda parts: route(parts).update(match={"path": "/x"}))),
    ("redirect", "route_match", lambda: dumped(lambda parts: route(parts).update(redirect={}))),
    ("direct answer", "route_match",
     lambda: dumped(lambda parts: route(parts).update(direct_response={"status": 404}))),
    ("elsewhere", "route_match",
     lambda: dumped(lambda parts: route(parts)["route"].update(cluster="outbound|80||a.b.svc.cluster.local"))),
    ("denied", "policy",
     lambda: sound.facts(probes=sound.probes(status=403, headers={}, body="RBAC: access denied"))),
    ("no cluster", "cluster", lambda: dumped(lambda parts: parts[2].update(dynamic_active_clusters=[]))),
    ("TLS to plain", "cluster",
     lambda: sound.facts(probes=sound.probes(**REFUSED, body="upstream connect error: TLS_error:WRONG_VERSION"))),
    ("no endpoints", "endpoints", lambda: dumped(lambda parts: parts[3].update(dynamic_endpoint_configs=[]))),
    ("refuses connections", "backend",
     lambda: sound.facts(probes=sound.probes(**REFUSED, body="upstream connect error or disconnect/reset"))),
    ("too slow", "backend",
     lambda: sound.facts(probes=sound.probes(status=504, headers={}, body="upstream request timeout"))),
    ("fails itself", "backend", lambda: sound.facts(probes=sound.probes(status=500))),
    ("sidecar denies", "backend", lambda: sound.facts(probes=sound.probes(status=403, body="RBAC: access denied"))),
    ("only the VIP fails", "probe_vip",
     lambda: sound.facts(probes=(*sound.probes()[:3], sound.probe("vip", sound.VIP, status=404, headers={})))),
]  # fmt: skip


@pytest.mark.parametrize(("hop", "facts"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_the_broken_hop_is_named(hop: str, facts: Callable[[], Facts]) -> None:
    found = facts()
    assert named(found) == hop, "\n".join(_shown.tree(found, _trace.trace(found)))
    broken = _trace.first_broken(_trace.trace(found))
    assert broken is not None
    assert broken.evidence
    assert broken.cure


@pytest.mark.parametrize(
    ("names", "first", "last"),
    [(("other.example",), -10, 90), ((sound.HOST,), -90, -1), ((sound.HOST,), 1, 90)],
    ids=["another name", "expired", "not yet"],
)
def test_a_wrong_certificate(names: tuple[str, ...], first: int, last: int) -> None:
    pod = sound.facts().pods[0]
    assert pod.config is not None
    held = {sound.SECRET: sound.pem(*names, first=first, last=last)}
    found = sound.facts(pods=(replace(pod, config=replace(pod.config, secrets=held)),))
    assert named(found) == "certificate"


def test_a_listener_that_waits_for_its_certificate_is_not_what_is_broken() -> None:
    def change(parts: list[Json]) -> None:
        parts[0]["dynamic_listeners"][0] = {"warming_state": {"listener": listener(parts)}}
        parts[4]["dynamic_active_secrets"] = []

    facts = dumped(change)
    assert state(facts, "listener") == "ok"
    assert named(facts) == "certificate"


def test_a_pod_that_is_not_ready() -> None:
    def change(at: Json) -> None:
        at["Pod/gw-1"]["status"]["conditions"][0]["status"] = "False"

    # With no ready pod anywhere kube-proxy is right to count none
    assert named(changed(change)) == "pod"


UNREAD = "POST …/portforward is not allowed: pods is forbidden"


def test_what_may_not_be_read_is_unknown_and_not_broken() -> None:
    pod = replace(sound.facts().pods[0], config=None, unread=UNREAD, sync=None)
    facts = sound.facts(pods=(pod,), istiod=Istiod(1, forbidden=UNREAD), probes=sound.probes()[1:])
    assert named(facts) is None
    for name in ("sync", "listener", "certificate", "cluster", "endpoints", "backend", "probe_pod"):
        assert state(facts, name) == "unknown", name
    assert any(UNREAD in text for hop in _trace.trace(facts) for text in hop.evidence)


def test_nothing_may_be_read_at_all() -> None:
    refused = {"Service": "forbidden", "Pod": "forbidden"}
    facts = sound.facts(
        snapshot=Snapshot({}, refused), pods=(), edges=None, dns=None, way=None, probes=(), proxies=(), istiod=Istiod()
    )
    assert {hop.state for hop in _trace.trace(facts)} == {"unknown"}
    assert _trace.answers(facts) is None


@pytest.mark.parametrize(("chosen", "wanted"), [(False, "unknown"), (True, "broken")])
def test_reserved_names_are_missing_from_public_dns(chosen: bool, wanted: str) -> None:
    assert state(sound.facts(dns=Dns(error="nxdomain", chosen=chosen)), "dns") == wanted


def test_what_envoy_alone_leaves_out_is_the_backend_s_fault() -> None:
    pod = sound.facts().pods[0]
    assert pod.config is not None
    ejected = _envoy.Endpoint("10.0.0.9", 8080, "HEALTHY", ("failed_outlier_check",))
    config = replace(pod.config, endpoints={sound.CLUSTER: (ejected,)})
    facts = sound.facts(pods=(replace(pod, config=config),), probes=sound.probes(**REFUSED, body="no healthy upstream"))
    assert state(facts, "endpoints") == "ok"
    assert named(facts) == "backend"


def test_a_silent_connection_does_not_speak_for_a_backend_that_envoy_leaves_out() -> None:
    def change(parts: list[Json]) -> None:
        tcp = {"@type": "x.TcpProxy", "cluster": sound.CLUSTER}
        listener(parts)["filter_chains"] = [{"filters": [{"typed_config": tcp}]}]

    facts = replace(dumped(change), target=replace(sound.facts().target, protocol="TCP", host=""))
    silent = sound.probes(status=0, headers={}, certificates=(), tls_version="", first="")
    assert named(replace(facts, probes=silent)) is None
    pod = facts.pods[0]
    assert pod.config is not None
    ejected = _envoy.Endpoint("10.0.0.9", 8080, "HEALTHY", ("failed_outlier_check",))
    config = replace(pod.config, endpoints={sound.CLUSTER: (ejected,)})
    facts = replace(facts, pods=(replace(pod, config=config),))
    assert named(replace(facts, probes=silent)) == "backend"
    speaks = sound.probes(status=0, headers={}, certificates=(), tls_version="", first="hello")
    assert named(replace(facts, probes=speaks)) is None


def test_tls_to_a_backend_that_does_not_connect() -> None:
    tls = {"name": "envoy.transport_sockets.tls", "typed_config": {}}

    def change(parts: list[Json]) -> None:
        cluster = parts[2]["dynamic_active_clusters"][0]["cluster"]
        del cluster["transport_socket_matches"]
        cluster["transport_socket"] = tls

    facts = replace(dumped(change), probes=sound.probes(**REFUSED, body="upstream connect error"))
    assert named(facts) == "cluster"


def test_source_ranges_are_not_the_way_s_fault() -> None:
    facts = changed(
        lambda at: at["Service/istio-ingressgateway"]["spec"].update(loadBalancerSourceRanges=["198.51.100.0/24"])
    )
    facts = replace(facts, probes=(*sound.probes()[:3], sound.probe("vip", sound.VIP, **GONE)))
    assert state(facts, "route") == "unknown"
    assert named(facts) == "service"


def test_policies_on_tcp_are_only_asked_when_the_client_speaks() -> None:
    def change(parts: list[Json]) -> None:
        rules = {"action": "DENY", "policies": {"ns[gw]-policy[no]-rule[0]": {}}}
        tcp = {"@type": "x.TcpProxy", "cluster": sound.CLUSTER}
        chain = {"filters": [{"typed_config": {"rules": rules}}, {"typed_config": tcp}]}
        listener(parts)["filter_chains"] = [chain]

    facts = replace(dumped(change), target=replace(sound.facts().target, protocol="TCP", host=""))
    facts = replace(facts, probes=sound.probes(status=0, headers={}, certificates=(), first="hello"))
    assert state(facts, "policy") == "unknown"
    assert named(facts) is None


def test_an_edge_without_a_pod_need_not_answer_under_local() -> None:
    silent = sound.probe("edge", "node3", **GONE)
    facts = sound.facts(probes=(*(one for one in sound.probes() if one.at != "node3"), silent))
    assert named(facts) is None


def test_a_backend_s_own_404_is_an_answer() -> None:
    assert named(sound.facts(probes=sound.probes(status=404))) is None


def test_a_client_certificate_is_asked_for() -> None:
    facts = sound.facts(probes=sound.probes(failure="client-certificate", status=0, headers={}))
    assert named(facts) is None
    assert state(facts, "probe_vip") == "unknown"


def test_the_first_of_two_is_named() -> None:
    facts = sound.facts(dns=Dns(error="nxdomain", chosen=True), **edges())
    assert named(facts) == "dns"


def test_tree_ends_with_the_cure() -> None:
    facts = sound.facts(dns=Dns(("192.0.2.5",)))
    lines = _shown.tree(facts, _trace.trace(facts))
    assert lines[-2].startswith("First broken: DNS.")
    assert lines[-1] == f"Cure: Have DNS answer {sound.VIP} for {sound.HOST}."


def test_readings_name_the_objects_and_never_a_key() -> None:
    found = _shown.result(sound.facts())
    [reading] = found["readings"]
    assert [one["objects"] for one in reading["listeners"]] == [["Gateway istio-system/shop"]]
    assert [one["object"] for one in reading["routes"]] == ["VirtualService shop/shop"]
    assert [one["name"] for one in reading["clusters"]] == [sound.CLUSTER]
    assert [one["address"] for one in reading["endpoints"]] == ["10.0.0.9:8080"]
    assert [one["object"] for one in reading["secrets"]] == ["Secret istio-system/shop-cert"]
    assert "PRIVATE KEY" not in str(found)


def held(**more: Any) -> dict[str, Any]:
    """The edges with more known of the holder."""
    first, *rest = sound.facts().edges or ()
    return {"edges": (replace(first, **more), *rest)}


def silent(*, holder: bool) -> dict[str, Any]:
    """The edges with one that doesn't answer over SSH."""
    first, second = sound.facts().edges or ()
    return {"edges": (first if holder else replace(first, held=frozenset()), replace(second, answered=False))}


def tcp(change: Callable[[list[Json]], None] = lambda parts: None, **more: Any) -> Facts:
    """Facts of a TCP exposure whose backend speaks first."""

    def plain(parts: list[Json]) -> None:
        proxy = {"@type": "x.TcpProxy", "cluster": sound.CLUSTER}
        listener(parts)["filter_chains"] = [{"filters": [{"typed_config": proxy}]}]
        change(parts)

    facts = dumped(plain)
    probes = sound.probes(**{"status": 0, "headers": {}, "certificates": (), "first": "hello", **more})
    return replace(facts, target=replace(facts.target, protocol="TCP", host=""), probes=probes)


def counted(facts: Facts, failures: int) -> Facts:
    return replace(facts, pods=(replace(facts.pods[0], failures=failures),))


def passed_through(**more: Any) -> Facts:
    """Facts of a TLS exposure: its certificate is the backend's own."""

    def change(parts: list[Json]) -> None:
        proxy = {"@type": "x.TcpProxy", "cluster": sound.CLUSTER}
        match = {"server_names": [sound.HOST]}
        listener(parts)["filter_chains"] = [{"filter_chain_match": match, "filters": [{"typed_config": proxy}]}]

    facts = dumped(change)
    probes = sound.probes(**{"status": 0, "headers": {}, "first": "hello", **more})
    return replace(facts, target=replace(facts.target, protocol="TLS"), probes=probes)


def address(host: str) -> Facts:
    return sound.facts(target=replace(sound.facts().target, host=host), dns=None)


def transport(name: str | None, **more: Any) -> Callable[[list[Json]], None]:
    """Have the cluster speak TLS with certificates of this name, or plainly (None)."""

    def change(parts: list[Json]) -> None:
        cluster = parts[2]["dynamic_active_clusters"][0]["cluster"]
        del cluster["transport_socket_matches"]
        if name is not None:
            shown = {"tls_certificate_sds_secret_configs": [{"name": name}]}
            cluster["transport_socket"] = {"name": "tls", "typed_config": {"common_tls_context": shown}}
        cluster.update(more)

    return change


def strict_backend(namespace: str = "shop", **spec: Any) -> Facts:
    """Facts of plain connections to a backend with a sidecar, and a PeerAuthentication."""
    facts = dumped(transport(None))
    kinds = sound.objects()
    [pod] = [one for one in kinds["Pod"] if one["metadata"]["name"] == "shop-1"]
    pod["spec"]["containers"].append({"name": "istio-proxy"})
    rule = {"kind": "PeerAuthentication", "metadata": {"namespace": namespace, "name": "all"},
            "spec": {"mtls": {"mode": "STRICT"}, **spec}}  # fmt: skip
    return replace(facts, snapshot=Snapshot({**kinds, "PeerAuthentication": (rule,)}), istiod=Istiod(1, root="mesh"))


def shares(*weights: int) -> Callable[[list[Json]], None]:
    def change(parts: list[Json]) -> None:
        names = (sound.CLUSTER, "outbound|80||gone.shop.svc.cluster.local")
        found = [{"name": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]
        route(parts)["route"] = {"weighted_clusters": {"clusters": found}}

    return change


def left_over() -> Facts:
    """istiod hasn't taken the cluster of a Service's port away, and there is nothing behind it."""
    kinds = sound.objects()
    for one in kinds["Service"]:
        if one["metadata"]["name"] == "shop":
            one["spec"]["ports"] = [{"port": 81}]
    said = sound.dump()
    said["configs"][3]["dynamic_endpoint_configs"] = []
    return sound.facts(objects=kinds, dump=said)


EXPIRING = sound.pem(sound.HOST, last=3)
WARMING = {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 8443}}, "name": "slow",
           "filter_chains": [{"filters": []}]}  # fmt: skip

SAID: list[tuple[str, str, str, str, Callable[[], Facts]]] = [
    ("an address", "dns", "ok", "192.0.2.5 is an address already", lambda: address("192.0.2.5")),
    ("no name", "dns", "ok", "clients use the address", lambda: address("")),
    ("DNS fails", "dns", "unknown", "servfail", lambda: sound.facts(dns=Dns(error="servfail", chosen=True))),
    ("no VIP", "vip", "unknown", "No VIP is known", lambda: sound.facts(vips=())),
    ("nobody looked", "vip", "unknown", "wasn't asked", lambda: sound.facts(edges=None)),
    ("one edge is silent", "vip", "unknown", "Look on node3 for it", lambda: sound.facts(**silent(holder=False))),
    ("another edge is silent", "vip", "ok", "node3 doesn't answer over SSH",
     lambda: sound.facts(**silent(holder=True))),
    ("a holder that isn't master", "vip", "broken", "node2's keepalived says BACKUP",
     lambda: sound.facts(**held(states=((sound.VIP, "BACKUP"),)))),
    ("a check fails everywhere", "vip", "broken", "Mend what the check gateway looks at",
     lambda: sound.facts(**held(states=((sound.VIP, "MASTER"),), checks=(("gateway", "failed"),)))),
    ("a drained holder", "vip", "ok", "MASTER, drained",
     lambda: sound.facts(**held(states=((sound.VIP, "MASTER"),), drained=True))),
    ("labels that no pod has", "service", "broken", "Gateways here are for gw-1",
     lambda: changed(lambda at: at["Service/istio-ingressgateway"]["spec"].update(selector={"istio": "x"}))),
    ("no node to ask", "kube_proxy", "unknown", "No node was asked", lambda: sound.facts(edges=None, proxies=())),
    ("nodes that don't answer", "kube_proxy", "unknown", "where no firewall is",
     lambda: sound.facts(proxies=(ProxyHealth("node2", error="node2:10256: refused"),))),
    ("pods without a Service", "pod", "unknown", "Without the Service nobody knows",
     lambda: sound.facts(objects={kind: found for kind, found in without("Pod").items() if kind != "Service"})),
    ("a listener that doesn't get ready", "listener", "broken", "slow isn't active yet",
     lambda: dumped(lambda parts: parts[0].update(dynamic_listeners=[{"warming_state": {"listener": WARMING}}]))),
    ("TLS alone", "filter_chain", "broken", "takes TLS alone, and HTTP was asked",
     lambda: replace(dumped(lambda parts: listener(parts)["filter_chains"][0]["filter_chain_match"].update(
         transport_protocol="tls")), target=replace(sound.facts().target, protocol="HTTP"))),
    ("the backend's own certificate", "certificate", "ok", "CN=shop.example", passed_through),
    ("a backend that shows none", "certificate", "unknown", "which showed none",
     lambda: passed_through(certificates=())),
    ("a certificate that expires soon", "certificate", "ok", "It expires in 3 days",
     lambda: sound.facts(pods=(replace(sound.facts().pods[0], config=replace(
         sound.facts().pods[0].config, secrets={sound.SECRET: EXPIRING})),))),  # type: ignore[type-var]
    ("no PEM", "certificate", "unknown", "can't be read",
     lambda: sound.facts(pods=(replace(sound.facts().pods[0], config=replace(
         sound.facts().pods[0].config, secrets={sound.SECRET: b"-----BEGIN CERTIFICATE-----\nx"})),))),  # type: ignore[type-var]
    ("a chain without a Secret", "certificate", "unknown", "names no Secret",
     lambda: dumped(lambda parts: listener(parts)["filter_chains"][0]["transport_socket"]["typed_config"][
         "common_tls_context"].update(tls_certificate_sds_secret_configs=[]) or
         listener(parts)["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"].update(x=1))),
    ("TCP that leads nowhere", "route_match", "broken", "leads nowhere",
     lambda: tcp(lambda parts: listener(parts)["filter_chains"][0]["filters"][0]["typed_config"].pop("cluster"))),
    ("TCP that leads elsewhere", "route_match", "broken", "a.b.svc",
     lambda: tcp(lambda parts: listener(parts)["filter_chains"][0]["filters"][0]["typed_config"].update(
         cluster="outbound|80||a.b.svc.cluster.local"))),
    ("HTTP with policies that let it through", "policy", "ok", "AuthorizationPolicy gw/no",
     lambda: dumped(lambda parts: listener(parts)["filter_chains"][0]["filters"].insert(0, {"typed_config": {
         "rules": {"action": "DENY", "policies": {"ns[gw]-policy[no]-rule[0]": {}}}}}))),
    ("a share without weight", "cluster", "ok", sound.CLUSTER, lambda: dumped(shares(1, 0))),
    ("a share that is gone", "cluster", "broken", "Service shop/gone doesn't exist", lambda: dumped(shares(1, 1))),
    ("a cluster whose port is gone", "cluster", "broken", "Service shop/shop has no port 80; it has 81", left_over),
    ("mutual TLS without a sidecar", "cluster", "broken", "No endpoint has a sidecar",
     lambda: dumped(transport("default"))),
    ("plain to a sidecar that wants mutual TLS", "cluster", "broken", "PeerAuthentication shop/all", strict_backend),
    ("plain to a port that takes it", "cluster", "ok", "plain",
     lambda: strict_backend(selector={"matchLabels": {"app": "shop"}}, portLevelMtls={"8080": {"mode": "PERMISSIVE"}})),
    ("mutual TLS everywhere", "cluster", "broken", "PeerAuthentication mesh/all", lambda: strict_backend("mesh")),
    ("mutual TLS in another namespace", "cluster", "ok", "plain", lambda: strict_backend("istio-system")),
    ("each connection says where", "endpoints", "ok", "Each connection says itself",
     lambda: dumped(lambda parts: (parts[2]["dynamic_active_clusters"][0]["cluster"].update(type="ORIGINAL_DST"),
                                   parts[3].update(dynamic_endpoint_configs=[]), None)[2])),
    ("connections fail", "backend", "broken", "3 failed while the trace asked",
     lambda: counted(tcp(failure="closed", reason="the connection is closed at once", first=""), 3)),
    ("TCP that ends at once", "backend", "broken", "The connection ends without an answer",
     lambda: tcp(failure="closed", reason="the connection is closed at once", first="")),
    ("TCP that waits for the client", "backend", "ok", "connected in", lambda: tcp(first="")),
    ("no request was sent", "backend", "unknown", "No request was sent", lambda: sound.facts(probes=())),
    ("an edge that should answer", "probe_edge", "broken", "no answer in time",
     lambda: replace(changed(lambda at: at["Service/istio-ingressgateway"]["spec"].update(
         externalTrafficPolicy="Cluster")), probes=(*sound.probes()[:2], sound.probe(
             "edge", "node3", **{**GONE, "reason": "no answer in time"}), sound.probes()[3]))),
    ("another certificate at the VIP", "probe_vip", "broken", f"isn't for {sound.HOST}",
     lambda: sound.facts(probes=(*sound.probes()[:3], sound.probe(
         "vip", sound.VIP, certificates=_certificates.read(sound.pem("other.example")))))),
    ("an old certificate at the VIP", "probe_vip", "broken", "isn't valid now",
     lambda: sound.facts(probes=(*sound.probes()[:3], sound.probe(
         "vip", sound.VIP, certificates=_certificates.read(sound.pem(sound.HOST, last=-1)))))),
]  # fmt: skip


@pytest.mark.parametrize(("hop", "expected", "words", "facts"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_what_a_hop_says(hop: str, expected: str, words: str, facts: Callable[[], Facts]) -> None:
    found = [one for one in _trace.trace(facts()) if one.name == hop and one.state == expected]
    said = "\n".join(f"{one.name} {one.state}: {' '.join(one.evidence)}" for one in _trace.trace(facts()))
    assert any(words in " ".join((*one.evidence, one.cure)) for one in found), said


# Edges that are machines outside the cluster, or may be


def behind(kind: str, *, nodes: bool = True, status: Json | None = None, **more: Any) -> Facts:
    """Facts of a gateway's Service of this type, without an address in its status."""
    kinds = sound.objects()
    [service] = [one for one in kinds["Service"] if one["metadata"]["name"] == "istio-ingressgateway"]
    service["spec"]["type"] = kind
    service["status"] = status or {}
    if not nodes:
        del kinds["Node"]
    return sound.facts(objects=kinds, **more)


BOX = {"edges": tuple(replace(one, name=name, node=name) for one, name in
                      zip(sound.facts().edges or (), ("box1", "box2"), strict=True))}  # fmt: skip


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, "broken"), (BOX, "ok"), ({"edges": None}, "unknown"), ({"nodes": False}, "unknown"),
     ({**BOX, "nodes": False}, "unknown")],
    ids=["edges are nodes", "edges are boxes", "no edges", "no right to list nodes", "boxes, and no right"],
)  # fmt: skip
def test_a_service_without_the_vip(kind: str, more: Json, expected: str) -> None:
    facts = behind(kind, **more)
    assert state(facts, "service") == expected
    assert named(facts) == ("service" if expected == "broken" else None)


def test_what_else_is_wrong_with_a_service_is_told_before_what_is_unknown() -> None:
    facts = behind("NodePort", edges=None)
    facts = replace(facts, target=replace(facts.target, port=8443))
    assert state(facts, "service") == "broken"


def test_a_pending_service_is_broken_where_no_address_is_known() -> None:
    assert state(behind("LoadBalancer", vips=()), "service") == "broken"


# Requests that can't be sent as the exposure takes them

GATEWAY_404 = {"status": 404, "headers": {"server": "istio-envoy"}}


def asking(facts: Facts, **more: Any) -> Facts:
    return replace(facts, target=replace(facts.target, **more))


def test_the_answer_to_another_method_says_nothing() -> None:
    only = {"name": ":method", "string_match": {"exact": "POST"}}
    facts = dumped(lambda parts: route(parts).update(match={"prefix": "/", "headers": [only]}))
    facts = asking(replace(facts, probes=sound.probes(**GATEWAY_404)), method="POST")
    assert named(facts) is None
    assert state(facts, "route_match") == "ok"
    assert {state(facts, name) for name in ("backend", "probe_pod", "probe_edge", "probe_vip")} == {"unknown"}
    assert _trace.answers(facts) is None
    assert "POST isn't sent" in str(_shown.result(facts)["hops"])


def test_a_request_that_can_not_be_sent_is_broken_where_nothing_answers() -> None:
    facts = asking(sound.facts(probes=sound.probes(**GONE)), method="POST")
    assert state(facts, "probe_vip") == "broken"
    assert _trace.answers(facts) is False


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: route(parts).update(match={"safe_regex": {"regex": "/v[0-9]+"}}),
        lambda parts: route(parts)["route"].update(cluster="outbound|80||a.b.svc.cluster.local"),
        lambda parts: route(parts).update(redirect={}),
        lambda parts: route(parts).update(direct_response={"status": 404}),
    ],
    ids=["no match", "elsewhere", "redirect", "direct answer"],
)
def test_where_a_guessed_request_goes_is_unknown(change: Callable[[list[Json]], None]) -> None:
    facts = asking(replace(dumped(change), probes=sound.probes(**GATEWAY_404)), guessed=True)
    assert named(facts) is None
    assert (state(facts, "route_match"), state(facts, "probe_vip")) == ("unknown", "unknown")


def test_a_redirect_that_the_exposure_has() -> None:
    facts = asking(dumped(lambda parts: route(parts).update(redirect={})), redirects=True)
    assert state(facts, "route_match") == "ok"


def test_the_backend_answers_what_is_passed_through() -> None:
    for status in (401, 403, 404):
        facts = passed_through(status=status, passed_on=True)
        assert named(facts) is None
        assert state(facts, "policy") == "ok"
