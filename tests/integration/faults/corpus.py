"""Every fault: what is broken, which exposure is asked for, and the hop that must be named."""

import dataclasses
from collections.abc import Callable
from typing import Any

from integration.faults.world import HOLDER, VIP, World, certificate

Json = dict[str, Any]
Break = Callable[[World], None]


@dataclasses.dataclass(frozen=True)
class Fault:
    """`exposure` is asked for, at `url` where that differs from its own; `shared` faults disturb the whole lab."""

    name: str
    exposure: str
    hop: str
    break_: Break
    url: str = ""
    shared: bool = False


FAULTS: dict[str, Fault] = {}


def fault(
    exposure: str, hop: str, *, url: str = "", shared: bool = False
) -> Callable[[Break], Break]:  # fmt: skip
    def note(break_: Break) -> Break:
        name = break_.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, exposure, hop, break_, url, shared)
        return break_

    return note


def route(world: World, name: str, change: Callable[[Json], None], namespace: str = "tr-app") -> None:
    """Change the first HTTP route of an exposure's VirtualService."""
    world.edit("VirtualService", namespace, name, lambda item: change(item["spec"]["http"][0]))


def gateway_of(world: World, exposure: str) -> str:
    """The Gateway of an exposure, by its VirtualService."""
    namespace = "tr-mesh" if exposure == "mesh" else "tr-app"
    named: str = world.get("VirtualService", namespace, exposure)["spec"]["gateways"][0]
    return named.partition("/")[2]


def echo(world: World, change: Callable[[Json], None], kind: str = "Deployment", namespace: str = "tr-app") -> None:
    world.edit(kind, namespace, "echo", change)


def gateway_pods(world: World, change: Callable[[Json], None]) -> None:
    """Change the gateway Deployment's pods."""
    world.edit("Deployment", "tr-gw", "gateway", lambda item: change(item["spec"]["template"]["spec"]))


def service_ports(item: Json, number: int) -> Json:
    found: Json = next(port for port in item["spec"]["ports"] if port["port"] == number)
    return found


# DNS


@fault("web", "dns")
def name_missing(world: World) -> None:
    _records(world, "tr-web.example", None)


@fault("web", "dns")
def name_elsewhere(world: World) -> None:
    """It points to a node, as people do before they have a VIP."""
    _records(world, "tr-web.example", ["10.77.0.12"])


@fault("shop", "dns")
def second_address_elsewhere(world: World) -> None:
    """Half of all clients go astray."""
    _records(world, "tr-shop.example", [VIP, "10.77.0.13"])


@fault("shop", "dns")
def ipv6_elsewhere(world: World) -> None:
    """Clients with IPv6 prefer it."""
    _records(world, "tr-shop.example", [VIP, "fd00::1"])


def _records(world: World, name: str, addresses: list[str] | None) -> None:
    before = world.names.records[name]
    world.undoing(lambda: world.names.records.update({name: before}))
    if addresses is None:
        del world.names.records[name]
    else:
        world.names.records[name] = addresses


# VIP and the way to it

_ADD, _DELETE = f"ip address add {VIP}/32 dev eth0", f"ip address delete {VIP}/32 dev eth0"


@fault("web", "vip")
def vip_nowhere(world: World) -> None:
    world.undoing(world.forget_neighbour)
    world.at(HOLDER, _DELETE, _ADD)
    world.forget_neighbour()


@fault("tcp", "vip")
def vip_twice(world: World) -> None:
    world.at("node3", _ADD, _DELETE)


@fault("web", "vip")
def vip_on_a_stranger(world: World) -> None:
    """A machine that is no edge has it, and something listens there: its SSH, for want of a web server."""
    world.undoing(world.forget_neighbour)
    world.at(HOLDER, _DELETE, _ADD)
    world.at("box1", _ADD, _DELETE)
    world.forget_neighbour()


@fault("web", "route")
def way_blackholed(world: World) -> None:
    world.at("host", f"ip route add blackhole {VIP}/32", f"ip route delete blackhole {VIP}/32")


@fault("shop", "route")
def way_unreachable(world: World) -> None:
    world.at("host", f"ip route add unreachable {VIP}/32", f"ip route delete unreachable {VIP}/32")


@fault("tcp", "route")
def firewall_on_the_holder(world: World) -> None:
    rules = (
        "add table inet tr_fault; add chain inet tr_fault in { type filter hook prerouting priority -400; }; "
        f"add rule inet tr_fault in ip daddr {VIP} tcp dport 9000 drop"
    )
    world.at(HOLDER, f"nft '{rules}'", "nft delete table inet tr_fault")


# The gateway's Service


@fault("web", "service")
def service_deleted(world: World) -> None:
    world.delete("Service", "tr-gw", "gateway")


@fault("tcp", "service")
def port_missing(world: World) -> None:
    """As after an `istioctl install` that rewrites the list."""
    world.edit("Service", "tr-gw", "gateway", lambda item: item["spec"]["ports"].pop())


@fault("web", "service")
def target_port_by_a_wrong_name(world: World) -> None:
    world.edit("Service", "tr-gw", "gateway", lambda item: service_ports(item, 80).update(targetPort="http2"))


@fault("shop", "service")
def service_of_the_wrong_type(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["type"] = "ClusterIP"
        for key in (
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "loadBalancerClass",
            "allocateLoadBalancerNodePorts",
        ):
            item["spec"].pop(key, None)
        for port in item["spec"]["ports"]:
            port.pop("nodePort", None)

    world.edit("Service", "tr-gw", "gateway", change)


@fault("web", "service")
def address_lost(world: World) -> None:
    """The status was reset: kube-proxy no longer serves the VIP."""
    world.undoing(lambda: world.carry([VIP]))
    world.carry([])


@fault("web", "service")
def another_address(world: World) -> None:
    world.undoing(lambda: world.carry([VIP]))
    world.carry(["10.77.0.181"])


@fault("shop", "service")
def service_selects_nobody(world: World) -> None:
    world.patch("Service", "tr-gw", "gateway", {"spec": {"selector": {"istio": "ingress"}}})


@fault("web", "service")
def client_not_in_source_ranges(world: World) -> None:
    world.patch("Service", "tr-gw", "gateway", {"spec": {"loadBalancerSourceRanges": ["198.51.100.0/24"]}})


@fault("tcp", "service")
def node_port_lost(world: World) -> None:
    """Pinned in the list, another one in the Service."""
    world.edit("Service", "tr-gw", "gateway", lambda item: service_ports(item, 9000).update(nodePort=31981))


@fault("tcp", "service")
def node_port_stolen(world: World) -> None:
    """The Service was made anew, and another had taken the nodePort meanwhile."""
    thief = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "thief", "namespace": "tr-app"},
        "spec": {"type": "NodePort", "selector": {"app": "none"}, "ports": [{"port": 80, "nodePort": 31980}]},
    }  # fmt: skip
    world.edit("Service", "tr-gw", "gateway", lambda item: service_ports(item, 9000).update(nodePort=31982))
    world.create(thief)


# kube-proxy


@fault("web", "kube_proxy")
def vip_on_an_edge_without_gateway(world: World) -> None:
    world.undoing(world.forget_neighbour)
    world.at(HOLDER, _DELETE, _ADD)
    world.at("node1", _ADD, _DELETE)
    world.forget_neighbour()


@fault("shop", "kube_proxy")
def holder_without_gateway_pod(world: World) -> None:
    """The gateway's pods may run on another node alone."""

    def change(spec: Json) -> None:
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        terms[0]["matchExpressions"][0]["values"] = ["node3"]

    world.edit("Deployment", "tr-gw", "gateway", lambda item: item["spec"].update(replicas=1))
    gateway_pods(world, change)


# Gateway pods


@fault("web", "pod")
def gateway_scaled_to_nothing(world: World) -> None:
    world.edit("Deployment", "tr-gw", "gateway", lambda item: item["spec"].update(replicas=0))


@fault("shop", "pod")
def gateway_not_ready(world: World) -> None:
    probe = {"httpGet": {"path": "/nothing-here", "port": 15021}, "periodSeconds": 1}
    gateway_pods(world, lambda spec: spec["containers"][0].update(readinessProbe=probe))


@fault("tcp", "pod")
def gateway_image_missing(world: World) -> None:
    gateway_pods(
        world, lambda spec: spec["containers"][0].update(image="localhost/lab/none:1", imagePullPolicy="Never")
    )


@fault("web", "pod")
def gateway_unschedulable(world: World) -> None:
    gateway_pods(world, lambda spec: spec.update(nodeSelector={"disk": "none"}))


@fault("shop", "pod")
def one_gateway_pod_of_two_pending(world: World) -> None:
    """A third pod finds no node: the other two go on."""
    world.edit("Deployment", "tr-gw", "gateway", lambda item: item["spec"].update(replicas=3))


# In step with istiod


def _cut_from_istiod(world: World, how: str) -> None:
    istiod = world.cluster.items("/api/v1/namespaces/istio-system/pods", {"app": "istiod"})[0]["status"]["podIP"]
    for pod in world.cluster.items("/api/v1/namespaces/tr-gw/pods", {"istio": "tr"}):
        rules = (
            "add table inet tr_istiod; add chain inet tr_istiod on { type filter hook forward priority -400; }; "
            f"add rule inet tr_istiod on ip saddr {pod['status']['podIP']} ip daddr {istiod} tcp dport 15012 {how}"
        )
        world.at(pod["spec"]["nodeName"], f"nft '{rules}'", "nft delete table inet tr_istiod")


@fault("web", "sync")
def gateway_cut_off_from_istiod(world: World) -> None:
    """Connections to istiod are reset: what the gateway has goes on, nothing new comes."""
    _cut_from_istiod(world, "reject with tcp reset")


@fault("web", "sync")
def stale_gateway(world: World) -> None:
    """Packets to istiod vanish, and a change is on its way: istiod has sent what the gateway never got."""
    _cut_from_istiod(world, "drop")
    route(world, "web", lambda one: one.update(timeout="7s"))


@fault("web", "sync")
def configuration_refused(world: World) -> None:
    """An EnvoyFilter makes a listener that Envoy doesn't take."""
    world.create(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "bad", "namespace": "tr-gw"},
            "spec": {
                "workloadSelector": {"labels": {"istio": "tr"}},
                "configPatches": [
                    {
                        "applyTo": "LISTENER",
                        "match": {"context": "GATEWAY", "listener": {"portNumber": 8080}},
                        "patch": {"operation": "MERGE", "value": {"listener_filters": [{"name": "no.such.filter"}]}},
                    }
                ],
            },
        }
    )


@fault("web", "sync", shared=True)
def istiod_down(world: World) -> None:
    before = world.cluster.request("GET", "/apis/apps/v1/namespaces/istio-system/deployments/istiod/scale")[0]

    def scale(replicas: int) -> None:
        world.cluster.request(
            "PATCH", "/apis/apps/v1/namespaces/istio-system/deployments/istiod/scale",
            body={"spec": {"replicas": replicas}}, content_type="application/merge-patch+json",
        )  # fmt: skip

    world.undoing(lambda: scale(before["spec"]["replicas"]))
    scale(0)


# Listeners and filter chains


@fault("tcp", "listener")
def gateway_object_deleted(world: World) -> None:
    world.delete("Gateway", "tr-gw", gateway_of(world, "tcp"))


@fault("tcp", "listener")
def gateway_object_for_other_pods(world: World) -> None:
    """`istio: ingressgateway` where the pods say something else."""
    change = {"spec": {"selector": {"istio": "ingressgateway"}}}
    world.patch("Gateway", "tr-gw", gateway_of(world, "tcp"), change)


@fault("tcp", "listener")
def gateway_object_on_another_port(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["servers"][0]["port"]["number"] = 9001

    world.edit("Gateway", "tr-gw", gateway_of(world, "tcp"), change)


@fault("", "listener", url="http://tr-web.example:8088/")
def own_port_that_nobody_binds(world: World) -> None:
    """A Service port of one's own for a custom port, whose targetPort no listener has."""
    port = {"name": "custom", "port": 8088, "targetPort": 8088, "protocol": "TCP"}
    world.edit("Service", "tr-gw", "gateway", lambda item: item["spec"]["ports"].append(port))


@fault("", "filter_chain", url="https://tr-unknown.example/")
def name_that_no_chain_takes(world: World) -> None:
    before = dict(world.names.records)
    world.undoing(lambda: setattr(world.names, "records", before))
    world.names.records["tr-unknown.example"] = [VIP]


@fault("shop", "filter_chain")
def gateway_for_another_server_name(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["servers"][0]["hosts"] = ["tr-app/tr-shops.example"]

    world.edit("Gateway", "tr-gw", gateway_of(world, "shop"), change)


@fault("shop", "filter_chain")
def passed_through_instead_of_ended(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["servers"][0]["tls"] = {"mode": "PASSTHROUGH"}

    world.edit("Gateway", "tr-gw", gateway_of(world, "shop"), change)


# Certificates


@fault("shop", "certificate")
def secret_missing(world: World) -> None:
    """The Gateway names a Secret that isn't there."""

    def change(item: Json) -> None:
        item["spec"]["servers"][0]["tls"]["credentialName"] = "tr-none"

    world.edit("Gateway", "tr-gw", gateway_of(world, "shop"), change)


@fault("shop", "certificate")
def secret_in_another_namespace(world: World) -> None:
    world.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tr-app-cert", "namespace": "tr-app"},
         "type": "kubernetes.io/tls", "stringData": certificate("tr-shop.example")}
    )  # fmt: skip

    def change(item: Json) -> None:
        item["spec"]["servers"][0]["tls"]["credentialName"] = "tr-app-cert"

    world.edit("Gateway", "tr-gw", gateway_of(world, "shop"), change)


@fault("shop", "certificate")
def secret_of_the_wrong_kind(world: World) -> None:
    world.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tr-odd", "namespace": "tr-gw"},
         "stringData": {"certificate.pem": "x", "key.pem": "y"}}
    )  # fmt: skip

    def change(item: Json) -> None:
        item["spec"]["servers"][0]["tls"]["credentialName"] = "tr-odd"

    world.edit("Gateway", "tr-gw", gateway_of(world, "shop"), change)


def _certificate(world: World, name: str, *, days: tuple[int, int] = (-1, 300)) -> None:
    world.patch("Secret", "tr-gw", "tr-cert", {"stringData": certificate(name, days=days)})


@fault("shop", "certificate")
def secret_swapped(world: World) -> None:
    _certificate(world, "another.example")


@fault("shop", "certificate")
def certificate_expired(world: World) -> None:
    _certificate(world, "tr-shop.example", days=(-90, -2))


@fault("shop", "certificate")
def certificate_not_valid_yet(world: World) -> None:
    _certificate(world, "tr-shop.example", days=(2, 90))


# Virtual hosts and routes


@fault("web", "virtual_host")
def route_deleted(world: World) -> None:
    world.delete("VirtualService", "tr-app", "web")


@fault("web", "virtual_host")
def route_for_another_gateway(world: World) -> None:
    world.patch("VirtualService", "tr-app", "web", {"spec": {"gateways": ["istio-system/web"]}})


@fault("web", "virtual_host")
def route_with_another_hostname(world: World) -> None:
    world.patch("VirtualService", "tr-app", "web", {"spec": {"hosts": ["tr-wep.example"]}})


@fault("web", "virtual_host")
def route_not_exported(world: World) -> None:
    world.patch("VirtualService", "tr-app", "web", {"spec": {"exportTo": ["."]}})


@fault("web", "virtual_host")
def gateway_takes_routes_from_elsewhere(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["servers"][0]["hosts"] = ["tr-mesh/tr-web.example"]

    world.edit("Gateway", "tr-gw", gateway_of(world, "web"), change)


@fault("web", "route_match")
def no_route_for_the_path(world: World) -> None:
    route(world, "web", lambda one: one.update(match=[{"uri": {"exact": "/somewhere"}}]))


@fault("web", "route_match")
def no_route_for_the_header(world: World) -> None:
    route(world, "web", lambda one: one.update(match=[{"headers": {"end-user": {"exact": "jason"}}}]))


@fault("web", "route_match")
def fault_injected(world: World) -> None:
    """Left over from a test."""
    abort = {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}
    route(world, "web", lambda one: one.update(fault=abort))


@fault("mesh", "route_match")
def route_answers_itself(world: World) -> None:
    def change(one: Json) -> None:
        one.pop("route")
        one["directResponse"] = {"status": 503}

    route(world, "mesh", change, "tr-mesh")


@fault("web", "route_match")
def route_redirects(world: World) -> None:
    def change(one: Json) -> None:
        one.pop("route")
        one["redirect"] = {"authority": "elsewhere.example"}

    route(world, "web", change)


@fault("web", "route_match")
def route_to_another_service(world: World) -> None:
    host = "echo.tr-mesh.svc.cluster.local"
    route(world, "web", lambda one: one["route"][0]["destination"].update(host=host))


@fault("tcp", "route_match")
def tcp_to_another_port(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["tcp"][0]["route"][0]["destination"]["port"]["number"] = 80

    world.edit("VirtualService", "tr-app", "tcp", change)


# Policies


def _policy(namespace: str, labels: Json, spec: Json) -> Json:
    return {
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "tr-policy", "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, **spec},
    }  # fmt: skip


@fault("web", "policy")
def policy_denies_at_the_gateway(world: World) -> None:
    rules = [{"to": [{"operation": {"hosts": ["tr-web.example"]}}]}]
    world.create(_policy("tr-gw", {"istio": "tr"}, {"action": "DENY", "rules": rules}))


@fault("shop", "policy")
def policy_allows_others(world: World) -> None:
    rules = [{"from": [{"source": {"remoteIpBlocks": ["198.51.100.0/24"]}}]}]
    world.create(_policy("tr-gw", {"istio": "tr"}, {"action": "ALLOW", "rules": rules}))


# Clusters


@fault("web", "cluster")
def backend_service_deleted(world: World) -> None:
    world.delete("Service", "tr-app", "echo")


@fault("web", "cluster")
def backend_port_missing(world: World) -> None:
    echo(world, lambda item: item["spec"]["ports"].pop(0), "Service")


@fault("split", "cluster")
def subset_missing(world: World) -> None:
    rules = world.cluster.items("/apis/networking.istio.io/v1/namespaces/tr-app/destinationrules")
    for rule in rules:
        if rule["spec"].get("subsets"):
            world.edit(
                "DestinationRule", "tr-app", rule["metadata"]["name"], lambda item: item["spec"].pop("subsets")
            )  # fmt: skip


@fault("web", "cluster")
def backend_not_exported(world: World) -> None:
    change = {"metadata": {"annotations": {"networking.istio.io/exportTo": "~"}}}
    world.patch("Service", "tr-app", "echo", change)


def _backend_tls(world: World, mode: str, namespace: str) -> None:
    for rule in world.cluster.items(f"/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules"):
        if rule["spec"]["host"].startswith("echo."):
            change = {"spec": {"trafficPolicy": {"tls": {"mode": mode}}}}
            world.patch("DestinationRule", namespace, rule["metadata"]["name"], change)


@fault("web", "cluster")
def mutual_tls_to_a_plain_backend(world: World) -> None:
    _backend_tls(world, "ISTIO_MUTUAL", "tr-app")


@fault("web", "cluster")
def tls_to_a_plain_backend(world: World) -> None:
    _backend_tls(world, "SIMPLE", "tr-app")


@fault("mesh", "cluster")
def plain_to_a_strict_sidecar(world: World) -> None:
    strict = {
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "tr-mesh"}, "spec": {"mtls": {"mode": "STRICT"}},
    }  # fmt: skip
    world.create(strict)
    _backend_tls(world, "DISABLE", "tr-mesh")


# Endpoints and backends


@fault("web", "endpoints")
def backend_scaled_to_nothing(world: World) -> None:
    echo(world, lambda item: item["spec"].update(replicas=0))


@fault("tcp", "endpoints")
def backend_not_ready(world: World) -> None:
    def change(item: Json) -> None:
        probe = {"tcpSocket": {"port": 8079}, "periodSeconds": 1}
        item["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe

    echo(world, change)


@fault("web", "endpoints")
def backend_crashes(world: World) -> None:
    def change(item: Json) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["args"] = ["--no-such-flag"]

    echo(world, change)


@fault("shop", "endpoints")
def backend_selector_wrong(world: World) -> None:
    echo(world, lambda item: item["spec"]["selector"].update(app="eco"), "Service")


@fault("split", "endpoints")
def subset_without_pods(world: World) -> None:
    rules = world.cluster.items("/apis/networking.istio.io/v1/namespaces/tr-app/destinationrules")
    for rule in rules:
        if rule["spec"].get("subsets"):

            def change(item: Json) -> None:
                item["spec"]["subsets"][0]["labels"] = {"version": "v9"}

            world.edit("DestinationRule", "tr-app", rule["metadata"]["name"], change)


@fault("web", "endpoints")
def backend_port_by_a_wrong_name(world: World) -> None:
    echo(world, lambda item: service_ports(item, 80).update(targetPort="web"), "Service")


@fault("web", "backend")
def endpoint_in_another_port(world: World) -> None:
    """The Service's targetPort is one that nobody in the pod listens on."""
    echo(world, lambda item: service_ports(item, 80).update(targetPort=8079), "Service")


@fault("tcp", "backend")
def tcp_endpoint_in_another_port(world: World) -> None:
    echo(world, lambda item: service_ports(item, 9090).update(targetPort=9091), "Service")


@fault("web", "backend")
def backend_speaks_something_else(world: World) -> None:
    """HTTP is sent to a port that speaks another protocol, and speaks first."""
    echo(world, lambda item: service_ports(item, 80).update(targetPort=9090), "Service")


@fault("mesh", "backend")
def policy_denies_at_the_sidecar(world: World) -> None:
    world.create(_policy("tr-mesh", {"app": "echo"}, {"action": "DENY", "rules": [{}]}))


@fault("web", "backend")
def backend_too_slow(world: World) -> None:
    """It takes longer than the route's timeout."""

    def change(one: Json) -> None:
        one["timeout"] = "0.3s"
        one["rewrite"] = {"uriRegexRewrite": {"match": "^.*$", "rewrite": "/?delay=3s"}}

    route(world, "web", change)


@fault("web", "backend")
def backend_fails_itself(world: World) -> None:
    """The application answers 500."""
    route(
        world, "web", lambda one: one.update(rewrite={"uriRegexRewrite": {"match": "^.*$", "rewrite": "/?codes=500:1"}})
    )


@fault("out", "backend")
def outside_host_at_a_wrong_address(world: World) -> None:
    for entry in world.cluster.items("/apis/networking.istio.io/v1/namespaces/tr-app/serviceentries"):
        change = {"spec": {"endpoints": [{"address": "10.77.0.1"}]}}
        world.patch("ServiceEntry", "tr-app", entry["metadata"]["name"], change)


@fault("out", "cluster")
def outside_host_unknown(world: World) -> None:
    """Its ServiceEntry is gone, and the route leads to a cluster that isn't there."""
    for entry in world.cluster.items("/apis/networking.istio.io/v1/namespaces/tr-app/serviceentries"):
        world.delete("ServiceEntry", "tr-app", entry["metadata"]["name"])
