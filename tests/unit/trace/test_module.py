"""The module exposure_trace, whole: a cluster in memory, and on the loopback a gateway, an edge, a VIP and DNS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import connect
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking
from memory_api import Server, kinds
from memory_api.sample import namespace, pod
from memory_api.server import Request, StatusError
from unit import modules
from unit.trace import names

Json = dict[str, Any]
Run = Callable[..., Json]

HERE = "127.0.0.1"
HOST = "shop.example"
CLUSTER = "outbound|80||shop.shop.svc.cluster.local"
KINDS = (
    *kinds.CORE,
    *kinds.ISTIO_KINDS,
    *kinds.GATEWAY_API_KINDS,
    kinds.Kind("security.istio.io", "AuthorizationPolicy", "authorizationpolicies"),
    kinds.Kind("security.istio.io", "PeerAuthentication", "peerauthentications"),
)


class Gateway:
    """What a gateway pod does: requests on a port, Envoy's admin interface behind the port forward."""

    def __init__(self) -> None:
        self.status = 200
        self.failures = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "istio-envoy", ""

            def log_message(self, *_args: object) -> None:
                pass

            def version_string(self) -> str:
                return "istio-envoy"

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    body = b'{"localEndpoints": 1}'
                else:
                    body = b"the shop" if outer.status == 200 else b"upstream connect error"
                    outer.failures += outer.status == 503
                self.send_response(outer.status if self.path != "/healthz" else 200)
                if outer.status == 200:
                    self.send_header("x-envoy-upstream-service-time", "1")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer((HERE, 0), Handler)
        self.port = int(self.http.server_address[1])
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def inside(self, _path: str) -> tuple[int, Any]:
        self.failures += self.status == 503
        return self.status, b"the shop" if self.status == 200 else b"upstream connect error"

    def admin(self, path: str) -> tuple[int, Any]:
        return 200, self.dump() if path.startswith("/config_dump") else self.endpoints()

    def dump(self) -> Json:
        origin = {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/shop"}
        route = {
            "match": {"prefix": "/"},
            "route": {"cluster": CLUSTER},
            "metadata": {"filter_metadata": {"istio": origin}},
        }
        routes = {"name": "http", "virtual_hosts": [{"name": HOST, "domains": [HOST], "routes": [route]}]}
        listener = {
            "name": "web",
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": self.port}},
            "filter_chains": [{"filters": [{"typed_config": {"rds": {"route_config_name": "http"}}}]}],
        }
        parts: dict[str, Json] = {
            "ListenersConfigDump": {"dynamic_listeners": [{"active_state": {"listener": listener}}]},
            "RoutesConfigDump": {"dynamic_route_configs": [{"route_config": routes}]},
            "ClustersConfigDump": {"dynamic_active_clusters": [{"cluster": {"name": CLUSTER, "type": "EDS"}}]},
        }
        return {"configs": [{"@type": f"x.{name}", **part} for name, part in parts.items()]}

    def endpoints(self) -> Json:
        stats = [{"name": "cx_total", "value": "9"}, {"name": "cx_connect_fail", "value": str(self.failures)}]
        host = {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}}, "stats": stats}
        return {"cluster_statuses": [{"name": CLUSTER, "host_statuses": [host]}]}


class Istiod:
    """istiod's own debug interface: what it has sent to which proxy."""

    def __init__(self) -> None:
        self.asked = 0
        self.behind = 0  # answers that say the gateway hasn't acknowledged its routes
        self.says: Any = None
        self.status = 200

    def answer(self, path: str) -> tuple[int, Any]:
        assert path == "/debug/syncz"
        self.asked += 1
        acked = "v0" if self.asked <= self.behind else "v1"
        entry = {"proxy": "gateway-1.istio-system", "route_sent": "v1", "route_acked": acked}
        return self.status, [entry] if self.says is None else self.says


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def istiod() -> Istiod:
    return Istiod()


@pytest.fixture
def server(gateway: Gateway, istiod: Istiod) -> Iterator[Server]:
    """Everything is sound: the VIP, the edge node1 and the gateway pod are one HTTP server."""
    ports = [{"name": "web", "port": gateway.port, "protocol": "TCP", "targetPort": gateway.port, "nodePort": 30080}]
    place = {"namespace": "istio-system", "name": "istio-ingressgateway"}
    front = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": place,
        "spec": {"type": "LoadBalancer", "selector": {"istio": "ingressgateway"}, "ports": ports,
                 "loadBalancerClass": "edgeway.istio/vip"},
        "status": {"loadBalancer": {"ingress": [{"ip": HERE}]}},
    }  # fmt: skip
    istio = "networking.istio.io/v1"
    with Server(KINDS).running() as running:
        for name in ("istio-system", "shop"):
            running.add(namespace(name))
        running.add(front)
        back = {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        running.add({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "shop"},
                     "spec": back})  # fmt: skip
        running.add(pod("istio-system", "gateway-1", istio="ingressgateway"))
        running.add(pod("istio-system", "istiod-1", app="istiod"))
        running.add(pod("shop", "shop-1", app="shop"))
        server_ = {"port": {"number": gateway.port, "name": "http", "protocol": "HTTP"}, "hosts": [f"shop/{HOST}"]}
        running.add({"apiVersion": istio, "kind": "Gateway", "metadata": {**place, "name": "shop"},
                     "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server_]}})  # fmt: skip
        running.add({"apiVersion": istio, "kind": "VirtualService", "metadata": {"namespace": "shop", "name": "shop"},
                     "spec": {"hosts": [HOST], "gateways": ["istio-system/shop"]}})  # fmt: skip
        running.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"},
                     "status": {"addresses": [{"type": "InternalIP", "address": HERE}]}})  # fmt: skip
        running.pods["istio-system", "gateway-1"] = {15000: gateway.admin, gateway.port: gateway.inside}
        running.pods["istio-system", "istiod-1"] = {15014: istiod.answer}
        # The nodePort that the edge answers on is the gateway's own port here
        running.objects["", "Service", "istio-system", "istio-ingressgateway"]["spec"]["ports"][0]["nodePort"] = (
            gateway.port
        )
        yield running


EDGES = {
    "node1": {
        "node": "node1",
        "facts": {"links": [{"addr_info": [{"local": HERE}]}], "keepalived": True, "running": True},
    }
}


@pytest.fixture
def run(server: Server, gateway: Gateway) -> Iterator[Run]:
    """Trace the exposure's URL, or what the options say."""
    with names.serving(f"{HOST}. A {HERE}") as dns:

        def trace(**options: Any) -> Json:
            given = {"url": f"http://{HOST}:{gateway.port}/", "nameservers": [dns], "edges": EDGES, "timeout": 1.0,
                     "kubeconfig": server.kubeconfig(), **options}  # fmt: skip
            given = {name: value for name, value in given.items() if value is not None}
            return modules.run("exposure_trace", given)

        yield trace


def states(result: Json) -> dict[str, str]:
    return {hop["hop"]: hop["state"] for hop in result["hops"]}


def evidence(result: Json, name: str) -> str:
    return " ".join(next(hop["evidence"] for hop in result["hops"] if hop["hop"] == name))


def refuse(server: Server, *ends: str) -> None:
    """Forbid requests whose paths end so."""

    def forbid(request: Request) -> None:
        if request.path.endswith(ends):
            raise StatusError(403, "Forbidden", f"{request.path.rpartition('/')[2]} is forbidden")

    server.before = forbid


def test_a_sound_way_is_followed_to_the_backend_and_really_asked(run: Run, server: Server) -> None:
    result = run()
    assert result["first_broken"] is None, result["tree"]
    well = states(result)
    assert {name for name, state in well.items() if state != "ok"} <= {"kube_proxy"}
    assert [(one["place"], one["status"]) for one in result["probes"]] == [("pod", 200), ("edge", 200), ("vip", 200)]
    assert [one["name"] for one in result["readings"][0]["clusters"]] == [CLUSTER]
    assert not [request for request in server.log if request.method != "GET" and not request.path.endswith("forward")]


def test_an_exposure_of_the_list_is_traced_by_its_name(run: Run, gateway: Gateway) -> None:
    exposure = exposed(gateway)
    result = run(url=None, exposure="shop", exposures=[exposure])
    assert result["first_broken"] is None, result["tree"]
    result = run(url=None, exposure="shop", exposures=[{**exposure, "backend": {"service": "other", "port": 80}}])
    assert result["first_broken"]["hop"] == "route_match"


def exposed(served: Gateway, **more: Any) -> Json:
    """The exposure that the gateway serves, as a list has it."""
    return {"name": "shop", "namespace": "shop", "protocol": "HTTP", "port": served.port, "hostnames": [HOST],
            "backend": {"service": "shop", "port": 80}, **more}  # fmt: skip


def test_each_gateway_has_its_own_addresses(run: Run, server: Server, gateway: Gateway) -> None:
    team = {"namespace": "shop", "service": "team"}
    gateways = [
        {"namespace": "istio-system", "service": "istio-ingressgateway", "vips": [HERE]},
        {**team, "vips": [{"address": "127.0.0.2"}]},
    ]
    result = run(gateways=gateways, exposures=[exposed(gateway)])
    assert result["first_broken"] is None, result["tree"]
    ports = [{"name": "web", "port": gateway.port, "protocol": "TCP"}]
    server.add({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "team"},
                "spec": {"type": "LoadBalancer", "selector": {"app": "team"}, "ports": ports},
                "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.2"}]}}})  # fmt: skip
    result = run(gateways=gateways, exposures=[exposed(gateway, gateway=team)])
    assert states(result)["service"] == "ok", result["tree"]
    assert "127.0.0.2 is on no edge" in evidence(result, "vip")
    assert [one["at"] for one in result["probes"] if one["place"] == "vip"] == ["127.0.0.2"]


def test_the_only_other_gateway_is_found(run: Run, server: Server, gateway: Gateway) -> None:
    front = server.objects.pop(("", "Service", "istio-system", "istio-ingressgateway"))
    server.objects["", "Service", "istio-system", "edge"] = {
        **front, "metadata": {**front["metadata"], "name": "edge"}
    }  # fmt: skip
    result = run(exposures=[exposed(gateway)])
    assert result["first_broken"] is None, result["tree"]
    assert "Service istio-system/edge" in evidence(result, "service")
    lists = [request.path for request in server.log if request.path == "/api/v1/services"]
    assert lists == ["/api/v1/services"]


def test_a_node_port_without_the_right_to_list_nodes(run: Run, server: Server) -> None:
    server.objects["", "Service", "istio-system", "istio-ingressgateway"]["spec"]["type"] = "NodePort"
    assert run()["first_broken"]["hop"] == "service"
    refuse(server, "/nodes")
    result = run()
    assert states(result)["service"] == "unknown", result["tree"]
    assert result["first_broken"] is None, result["tree"]


def test_https_that_is_passed_through(run: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gateway.dump

    def dump() -> Json:
        said = plain()
        [chain] = said["configs"][0]["dynamic_listeners"][0]["active_state"]["listener"]["filter_chains"]
        chain["filter_chain_match"] = {"server_names": [HOST]}
        chain["filters"] = [{"typed_config": {"@type": "x.TcpProxy", "cluster": CLUSTER}}]
        return said

    monkeypatch.setattr(gateway, "dump", dump)
    result = run(url=f"https://{HOST}:{gateway.port}/", probe=False)
    assert result["first_broken"] is None, result["tree"]
    assert states(result)["filter_chain"] == "ok"
    # One of the list has to end TLS at the gateway
    secure = exposed(gateway, protocol="HTTPS", tls={"secret": "shop-cert"})
    result = run(url=f"https://{HOST}:{gateway.port}/", exposures=[secure], probe=False)
    assert result["first_broken"]["hop"] == "filter_chain"


def test_wrong_input_is_named(run: Run) -> None:
    assert "There is no exposure 'x'" in run(url=None, exposure="x")["msg"]
    wrong = run(url=None, exposure="x", exposures=[{"name": "x"}])
    assert {one["path"] for one in wrong["problems"]} >= {"exposures[0].namespace", "exposures[0].protocol"}


def test_the_backend_fails_and_envoy_counted_it(run: Run, gateway: Gateway) -> None:
    gateway.status = 503
    result = run()
    assert result["first_broken"]["hop"] == "backend"
    assert "10.0.0.9:80" in evidence(result, "endpoints") + evidence(result, "backend")


def test_without_probes_nothing_is_sent(run: Run, gateway: Gateway) -> None:
    gateway.status = 503
    result = run(probe=False)
    assert result["probes"] == []
    assert result["first_broken"] is None
    assert gateway.failures == 0


def test_a_port_that_nothing_listens_on_inside_the_pod(run: Run, server: Server, gateway: Gateway) -> None:
    del server.pods["istio-system", "gateway-1"][gateway.port]
    [inside] = [one for one in run()["probes"] if one["place"] == "pod"]
    assert (inside["failure"], inside["reason"]) == ("refused", f"nothing listens on {gateway.port}")


def test_no_right_in_the_whole_cluster_but_in_the_namespaces(run: Run, server: Server, gateway: Gateway) -> None:
    def forbid(request: Request) -> None:
        if request.method == "GET" and request.path.count("/") <= 4 and "/namespaces/" not in request.path:
            raise StatusError(403, "Forbidden", f"{request.path} is forbidden at the cluster scope")

    server.before = forbid
    exposure = exposed(gateway)
    result = run(exposures=[exposure])
    assert result["first_broken"] is None, result["tree"]
    assert (states(result)["service"], states(result)["route_match"]) == ("ok", "ok")
    assert result["readings"][0]["routes"][0]["object"] == "VirtualService shop/shop"


@pytest.mark.parametrize("refused", [("/portforward",), ("/pods",), ("/pods", "/portforward", "/services")])
def test_what_may_not_be_read_is_unknown(run: Run, server: Server, refused: tuple[str, ...]) -> None:
    refuse(server, *refused)
    result = run()
    assert result["first_broken"] is None, result["tree"]
    assert states(result)["listener"] == "unknown"
    assert "is forbidden" in str(result["hops"])


def test_the_api_server_fails_for_one_kind(run: Run, server: Server) -> None:
    def fail(request: Request) -> None:
        if request.path.endswith("/destinationrules"):
            raise StatusError(500, "InternalError", "etcd is away")

    server.before = fail
    assert run()["first_broken"] is None


def test_a_gateway_pod_that_does_not_run(run: Run, server: Server) -> None:
    server.objects["", "Pod", "istio-system", "gateway-1"]["status"] = {"phase": "Pending"}
    result = run()
    assert result["first_broken"]["hop"] == "pod"
    assert [one for one in result["probes"] if one["place"] == "pod"] == []


@pytest.mark.parametrize("body", [b"<html>", b"", b"{"])
def test_an_admin_interface_that_says_something_else(run: Run, server: Server, body: bytes) -> None:
    server.pods["istio-system", "gateway-1"][15000] = lambda _path: (200, body)
    result = run()
    assert states(result)["listener"] == "unknown"


def test_counters_that_can_not_be_read_again_are_unknown(run: Run, server: Server, gateway: Gateway) -> None:
    asked: list[str] = []

    def once(path: str) -> tuple[int, Any]:
        asked.append(path)
        return gateway.admin(path) if len(asked) <= 2 else (200, b"<html>")

    server.pods["istio-system", "gateway-1"][15000] = once
    assert run()["first_broken"] is None
    assert len(asked) == 3


# istiod


def test_configuration_on_its_way_is_given_a_moment(run: Run, istiod: Istiod) -> None:
    istiod.behind = 1
    result = run()
    assert (states(result)["sync"], istiod.asked) == ("ok", 2)


def test_configuration_that_is_not_acknowledged_is_named(run: Run, istiod: Istiod) -> None:
    istiod.behind = 9
    result = run()
    assert result["first_broken"]["hop"] == "sync"
    assert "routes" in evidence(result, "sync")


def test_a_gateway_that_istiod_does_not_know(run: Run, istiod: Istiod) -> None:
    istiod.says = []
    assert run()["first_broken"]["hop"] == "sync"


@pytest.mark.parametrize(("status", "says"), [(404, b"404 page not found"), (401, []), (503, b"")])
def test_an_istiod_that_does_not_say(run: Run, istiod: Istiod, status: int, says: Any) -> None:
    istiod.status, istiod.says = status, says
    result = run()
    assert result["first_broken"] is None, result["tree"]
    assert states(result)["sync"] == "unknown"
    assert f"istiod-1 answers /debug/syncz with {status}" in evidence(result, "sync")


@pytest.mark.parametrize(
    ("mesh", "readable", "root"),
    [("rootNamespace: mesh", True, "mesh"), ("accessLogFile: x", True, "istio-system"), ("[", True, "shop"),
     ("- x", True, "shop"), ("rootNamespace: mesh", False, "shop")],
)  # fmt: skip
def test_the_root_namespace(server: Server, mesh: str, readable: bool, root: str) -> None:
    del server.objects["", "Pod", "istio-system", "istiod-1"]
    server.add(pod("shop", "istiod-1", app="istiod"))
    metadata = {"namespace": "shop", "name": "istio"}
    server.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": mesh}})
    if not readable:
        refuse(server, "/configmaps/istio")
    target = _facts.chosen(f"http://{HOST}/", None, [])
    options = _looking.Options(dns=False, probe=False)
    assert _looking.look(connect({"kubeconfig": server.kubeconfig()}), target, options).istiod.root == root


@pytest.mark.parametrize("says", [b"<html>", b""])
def test_an_istiod_that_hangs(run: Run, istiod: Istiod, says: bytes) -> None:
    istiod.says = says
    result = run()
    assert states(result)["sync"] != "ok"
    assert "istiod-1" in evidence(result, "sync")


def test_istiod_outside_the_namespaces_that_may_be_read(run: Run, server: Server) -> None:
    del server.objects["", "Pod", "istio-system", "istiod-1"]
    refuse(server, "/api/v1/pods")
    result = run()
    assert states(result)["sync"] == "unknown"
    assert "can't be read outside the gateway's namespace" in evidence(result, "sync")


def test_no_istiod_at_all(run: Run, server: Server) -> None:
    del server.objects["", "Pod", "istio-system", "istiod-1"]
    assert run()["first_broken"]["hop"] == "sync"


# Certificates

SECRET = ("", "Secret", "istio-system", "shop-cert")


@pytest.fixture
def encrypted(server: Server, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener shows the certificate of a Secret, which istiod hasn't sent."""
    plain = gateway.dump

    def dump() -> Json:
        said = plain()
        [chain] = said["configs"][0]["dynamic_listeners"][0]["active_state"]["listener"]["filter_chains"]
        wanted = {"tls_certificate_sds_secret_configs": [{"name": "kubernetes://shop-cert"}]}
        chain["filter_chain_match"] = {"server_names": [HOST]}
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls",
                                     "typed_config": {"common_tls_context": wanted}}  # fmt: skip
        return said

    monkeypatch.setattr(gateway, "dump", dump)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "Secret istio-system/shop-cert doesn't exist"),
        ({"tls.crt": "eA==", "tls.key": "eA=="}, "its certificate and key may not fit"),
        ({"ca.crt": "eA=="}, "has ca.crt, not tls.crt and tls.key"),
    ],
)
def test_the_secret_of_a_missing_certificate(
    run: Run, server: Server, gateway: Gateway, encrypted: None, data: Json | None, told: str
) -> None:
    if data is not None:
        server.add({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": SECRET[2], "name": SECRET[3]},
                    "data": data})  # fmt: skip
    result = run(url=f"https://{HOST}:{gateway.port}/", probe=False)
    assert result["first_broken"]["hop"] == "certificate", result["tree"]
    assert told in evidence(result, "certificate")
    assert "eA==" not in str(result)


def test_a_secret_that_may_not_be_read(run: Run, server: Server, gateway: Gateway, encrypted: None) -> None:
    refuse(server, "/secrets/shop-cert")
    result = run(url=f"https://{HOST}:{gateway.port}/", probe=False)
    assert "shop-cert is forbidden" in evidence(result, "certificate")
