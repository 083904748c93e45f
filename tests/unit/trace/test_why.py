"""Why a hop is broken: what the objects say, sound but for one thing, and the sentence that a user reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _why
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import GatewayPod, Snapshot, Target
from unit.trace import sound

Json = dict[str, Any]
Objects = dict[str, tuple[Json, ...]]
Change = Callable[[Json], None]

HTTPS = Target("t", "HTTPS", sound.HOST, 443, exposure_namespace="shop")
BACKEND = sound.CLUSTER
SUBSET = "outbound|80|v2|shop.shop.svc.cluster.local"


def world(change: Change | None = None, **kinds: Any) -> Snapshot:
    """The sound cluster with further kinds; `change` gets its objects as `Service/shop`. None takes a kind away."""
    found = {**sound.objects(), **kinds}
    known = {kind: tuple(items) for kind, items in found.items() if items is not None}
    if change is not None:
        change({f"{kind}/{one['metadata']['name']}": one for kind, items in known.items() for one in items})
    return Snapshot(known)


def gateway_pod(snapshot: Snapshot) -> GatewayPod:
    return GatewayPod(next(one for one in snapshot.all("Pod") if one["metadata"]["name"] == "gw-1"))


def item(kind: str, namespace: str, name: str, spec: Json | None = None, **more: Any) -> Json:
    return {"kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec or {}, **more}


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*", "a.example", True),
        ("shop/*", "a.example", True),
        ("A.example", "a.EXAMPLE", True),
        ("shop/a.example", "a.example", True),
        ("*.example", "a.example", True),
        ("*.example", ".example", False),
        ("*.example", "example", False),
        ("b.example", "a.example", False),
        ("b.example", "", True),
    ],
)
def test_hostnames(pattern: str, host: str, expected: bool) -> None:
    assert _why.fits(pattern, host) is expected


@pytest.mark.parametrize(
    ("entry", "port"),
    [
        ({"port": 443, "targetPort": 8443}, 8443),
        ({"port": 443}, 443),
        ({"port": 443, "targetPort": "web"}, 8080),
        ({"port": 443, "targetPort": "missing"}, None),
        ({"port": 443, "protocol": "UDP"}, None),
        ({"port": 80}, None),
    ],
)
def test_where_a_port_of_a_service_leads(entry: Json, port: int | None) -> None:
    service = item("Service", "istio-system", "gw", {"ports": [entry]})
    assert _why.target_ports(service, 443, sound.pod("istio-system", "gw-1", {})) == port


def gateway(at: Json) -> Json:
    found: Json = at["Gateway/shop"]["spec"]
    return found


def k8s_gateway(status: Json, hostname: str | None = sound.HOST) -> Json:
    listener = {"name": "https", "port": 443, **({"hostname": hostname} if hostname else {})}
    return item("Gateway", "shop", "api", {"listeners": [listener]}, status=status)


def said(kind: str, status: str, **why: str) -> Json:
    return {"conditions": [{"type": kind, "status": status, **why}]}


NO_LISTENER: list[tuple[str, Snapshot, int, list[str]]] = [
    ("all is there", world(), 8443, ["No Gateway has port 443 for shop.example."]),
    ("Gateways may not be read", world(Gateway=None), 8443, []),
    ("no Gateway", world(Gateway=()), 8443, ["No Gateway has port 443 for shop.example."]),
    ("other labels", world(lambda at: gateway(at).update(selector={"istio": "other"})), 8443,
     ["Gateway istio-system/shop asks for pods with istio=other, and this pod has other labels."]),
    ("bound elsewhere", world(), 9443,
     ["Gateway istio-system/shop is bound to 8443, and the Service leads to 9443."]),
    ("bound as it is without a Service", world(Service=()), 8443,
     ["Gateway istio-system/shop is bound to 443, and the Service leads to 8443."]),
    ("another port", world(lambda at: gateway(at)["servers"][0]["port"].update(number=444)), 8443,
     ["No Gateway has port 443 for shop.example."]),
    ("another name", world(lambda at: gateway(at)["servers"][0].update(hosts=["other.example"])), 8443,
     ["No Gateway has port 443 for shop.example."]),
    ("a privileged port", world(Gateway=()), 443,
     ["443 is below 1024: Istio leaves such listeners out where the pod may not bind them."]),
    ("the Gateway API says why", world(Gateway=(), K8sGateway=(k8s_gateway(
        {**said("Programmed", "False", message="no address"),
         "listeners": [said("ResolvedRefs", "False", reason="InvalidCertificateRef"), said("Accepted", "True")]}),)),
     8443, ["Gateway shop/api: Programmed is False (no address).",
            "Gateway shop/api: ResolvedRefs is False (InvalidCertificateRef)."]),
]  # fmt: skip


@pytest.mark.parametrize(("snapshot", "port", "told"), [row[1:] for row in NO_LISTENER],
                         ids=[row[0] for row in NO_LISTENER])  # fmt: skip
def test_no_listener(snapshot: Snapshot, port: int, told: list[str]) -> None:
    pods = world()
    assert _why.no_listener(HTTPS, port, gateway_pod(pods), snapshot) == told


def route(at: Json) -> Json:
    found: Json = at["VirtualService/shop"]["spec"]
    return found


NO_ROUTE: list[tuple[str, Snapshot, list[str]]] = [
    ("all is there", world(), []),
    ("routes may not be read", world(VirtualService=None), []),
    ("no Gateway with the name", world(lambda at: gateway(at)["servers"][0].update(hosts=["other.example"])),
     ["No Gateway on these pods has the hostname shop.example."]),
    ("no route at all", world(VirtualService=()), ["No VirtualService has shop.example for istio-system/shop."]),
    ("the route has another name", world(lambda at: route(at).update(hosts=["other.example"])),
     ["No VirtualService has shop.example for istio-system/shop."]),
    ("the route names another Gateway", world(lambda at: route(at).update(gateways=["mine"])),
     ["VirtualService shop/shop has the hostname, and names mine: the Gateway here is istio-system/shop."]),
    ("for the mesh alone", world(lambda at: route(at).pop("gateways")),
     ["No VirtualService has shop.example for istio-system/shop."]),
    ("namespaces don't fit", world(lambda at: gateway(at)["servers"][0].update(hosts=["db/shop.example"])),
     ["Gateway istio-system/shop takes routes from db, not from shop."]),
    ("its own namespace alone", world(lambda at: gateway(at)["servers"][0].update(hosts=["./shop.example"])),
     ["Gateway istio-system/shop takes routes from istio-system, not from shop."]),
    ("any namespace", world(lambda at: gateway(at)["servers"][0].update(hosts=["*/shop.example", "shop.example"])),
     []),
    ("exported elsewhere", world(lambda at: route(at).update(exportTo=["."])),
     ["VirtualService shop/shop is exported to ., not to istio-system."]),
    ("exported to the gateway", world(lambda at: route(at).update(exportTo=["istio-system"])), []),
    ("what the Gateway API says comes first", world(Gateway=(), VirtualService=(), HTTPRoute=(
        item("HTTPRoute", "shop", "shop", {"hostnames": [sound.HOST]},
             status={"parents": [said("Accepted", "False", reason="NotAllowedByListeners")]}),
        item("HTTPRoute", "shop", "other", {"hostnames": ["other.example"]},
             status={"parents": [said("Accepted", "False", reason="Theirs")]}),
        item("HTTPRoute", "db", "shop", {}, status={"parents": [said("Accepted", "False", reason="Theirs")]}))),
     ["HTTPRoute shop/shop: Accepted is False (NotAllowedByListeners)."]),
]  # fmt: skip


@pytest.mark.parametrize(("snapshot", "told"), [row[1:] for row in NO_ROUTE], ids=[row[0] for row in NO_ROUTE])
def test_no_route(snapshot: Snapshot, told: list[str]) -> None:
    assert _why.no_route(HTTPS, gateway_pod(snapshot), snapshot) == told


def backend(at: Json) -> Json:
    found: Json = at["Service/shop"]
    return found


NO_CLUSTER: list[tuple[str, str, Snapshot, list[str]]] = [
    ("istiod leaves it out", BACKEND, world(),
     ["istiod leaves it out: see its discoverySelectors, and PILOT_SCOPE_GATEWAY_TO_NAMESPACE."]),
    ("no Service", BACKEND, world(Service=()), ["Service shop/shop doesn't exist."]),
    ("Services may not be read", BACKEND, world(Service=None), []),
    ("no such port", BACKEND, world(lambda at: backend(at)["spec"].update(ports=[{"port": 81}, {"port": 82}])),
     ["Service shop/shop has no port 80; it has 81, 82."]),
    ("no ports", BACKEND, world(lambda at: backend(at)["spec"].pop("ports")),
     ["Service shop/shop has no port 80; it has none."]),
    ("not exported", BACKEND,
     world(lambda at: backend(at)["metadata"].update(annotations={"networking.istio.io/exportTo": "."})),
     ["Service shop/shop is exported to . alone (annotation networking.istio.io/exportTo)."]),
    ("no such subset", SUBSET, world(), ["No DestinationRule for shop.shop.svc.cluster.local has the subset v2."]),
    ("outside, unknown", "outbound|443||out.example", world(), ["No ServiceEntry has the host out.example."]),
    ("outside, known", "outbound|443||out.example",
     world(ServiceEntry=(item("ServiceEntry", "shop", "out", {"hosts": ["out.example"]}),)), []),
    ("outside, entries may not be read", "outbound|443||out.example", world(ServiceEntry=None), []),
    ("no name that istiod gives", "BlackHoleCluster", world(), []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "snapshot", "told"), [row[1:] for row in NO_CLUSTER],
                         ids=[row[0] for row in NO_CLUSTER])  # fmt: skip
def test_no_cluster(name: str, snapshot: Snapshot, told: list[str]) -> None:
    assert _why.no_cluster(name, snapshot) == told


def unready(at: Json) -> None:
    at["Pod/shop-1"]["status"]["conditions"][0]["status"] = "False"


V2 = {"name": "v2", "labels": {"version": "v2"}}
RULE = item("DestinationRule", "shop", "shop", {"host": "shop.shop.svc.cluster.local", "subsets": [V2]})

NO_ENDPOINTS: list[tuple[str, str, Snapshot, list[str]]] = [
    ("all is there", BACKEND, world(), []),
    ("an outside host", "outbound|443||out.example", world(), []),
    ("pods may not be read", BACKEND, world(Pod=None), []),
    ("no pods", BACKEND, world(lambda at: backend(at)["spec"].update(selector={"app": "x", "v": "1"})),
     ["Service shop/shop asks for pods with app=x,v=1, and there are none in namespace shop."]),
    ("no selector", BACKEND, world(lambda at: backend(at)["spec"].pop("selector")),
     ["Service shop/shop asks for pods with no labels, and there are none in namespace shop."]),
    ("all are leaving", BACKEND, world(lambda at: at["Pod/shop-1"]["metadata"].update(deletionTimestamp="now")),
     ["Service shop/shop asks for pods with app=shop, and there are none in namespace shop."]),
    ("none is ready", BACKEND, world(unready),
     ["None of the 1 pods of Service shop/shop is ready: shop-1 runs and isn't ready: its readiness probe fails."]),
    ("a subset's labels", SUBSET, world(DestinationRule=(RULE,)),
     ["Subset v2 asks for version=v2, and no pod of Service shop/shop has these labels."]),
    ("a subset that is there", SUBSET,
     world(lambda at: at["Pod/shop-1"]["metadata"]["labels"].update(version="v2"), DestinationRule=(RULE,)), []),
    ("a port by a name that no pod has", BACKEND,
     world(lambda at: backend(at)["spec"]["ports"][0].update(targetPort="x")),
     ["Port 80 of Service shop/shop leads to a port name that its pods don't have."]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "snapshot", "told"), [row[1:] for row in NO_ENDPOINTS],
                         ids=[row[0] for row in NO_ENDPOINTS])  # fmt: skip
def test_no_endpoints(name: str, snapshot: Snapshot, told: list[str]) -> None:
    assert _why.no_endpoints(name, snapshot) == told


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
         "shop-1 app: ImagePullBackOff"),
        ({"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 2}}}],
          "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}]},
         "shop-1 init ended with 2"),
        ({"containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 0}}}], "phase": "Succeeded"},
         "shop-1 is Succeeded"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
         "shop-1 isn't scheduled: 0/3 nodes are available"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
         "shop-1 isn't scheduled: Unschedulable"),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}], "phase": "Running"},
         "shop-1 runs and isn't ready: its readiness probe fails"),
        ({}, "shop-1 is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pod(status: Json, told: str) -> None:
    assert _why.trouble({"metadata": {"name": "shop-1"}, "status": status}) == told


MISSING = "Secret istio-system/shop-cert doesn't exist; it must lie in the namespace of the gateway's pods."


@pytest.mark.parametrize(
    ("credential", "secrets", "told"),
    [
        ("kubernetes://shop-cert", (), MISSING),
        ("kubernetes-gateway://shop/shop-cert", (("shop", ["tls.crt", "tls.key"]),),
         "Secret shop/shop-cert is there, and istiod hasn't sent it: its certificate and key may not fit."),
        ("kubernetes://shop-cert", (("istio-system", ["cert", "key"]),),
         "Secret istio-system/shop-cert is there, and istiod hasn't sent it: its certificate and key may not fit."),
        ("kubernetes://shop-cert", (("istio-system", ["ca.crt", "tls.crt"]),),
         "Secret istio-system/shop-cert has ca.crt, tls.crt, not tls.crt and tls.key."),
        ("kubernetes://shop-cert", (("istio-system", []),),
         "Secret istio-system/shop-cert has no data, not tls.crt and tls.key."),
    ],
)  # fmt: skip
def test_no_certificate(credential: str, secrets: tuple[tuple[str, list[str]], ...], told: str) -> None:
    found = tuple({**item("Secret", space, "shop-cert"), "keys": keys} for space, keys in secrets)
    assert _why.no_certificate(credential, gateway_pod(world()), world(Secret=found)) == [told]


def test_a_secret_that_may_not_be_read() -> None:
    pod = gateway_pod(world())
    assert _why.no_certificate("kubernetes://shop-cert", pod, world()) == []
    told = _why.no_certificate("kubernetes://shop-cert", pod, Snapshot({}, {"Secret": "secrets is forbidden"}))
    assert told == ["Secret istio-system/shop-cert couldn't be read: secrets is forbidden."]


def peers(namespace: str, mode: str, labels: Json | None = None, **ports: str) -> Json:
    """A PeerAuthentication; `ports` are modes of ports, as p8080."""
    spec: Json = {"mtls": {"mode": mode}, **({"selector": {"matchLabels": labels}} if labels else {})}
    if ports:
        spec["portLevelMtls"] = {name.removeprefix("p"): {"mode": level} for name, level in ports.items()}
    return item("PeerAuthentication", namespace, f"{namespace}-{mode.lower()}-{'some' if labels else 'all'}", spec)


SHOP = {"app": "shop"}
ALL, SOME = "PeerAuthentication shop/shop-strict-all", "PeerAuthentication shop/shop-strict-some"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([], ""),
        ([peers("shop", "STRICT")], ALL),
        ([peers("mesh", "STRICT")], "PeerAuthentication mesh/mesh-strict-all"),
        # Not the root namespace here
        ([peers("istio-system", "STRICT")], ""),
        ([peers("db", "STRICT")], ""),
        # The narrowest that says something wins
        ([peers("mesh", "STRICT"), peers("shop", "PERMISSIVE")], ""),
        ([peers("mesh", "STRICT"), peers("shop", "UNSET")], "PeerAuthentication mesh/mesh-strict-all"),
        ([peers("shop", "PERMISSIVE"), peers("shop", "STRICT", SHOP)], SOME),
        ([peers("shop", "STRICT", {"app": "other"})], ""),
        # Of the port that the Service leads to
        ([peers("shop", "STRICT", SHOP, p8080="PERMISSIVE")], ""),
        ([peers("shop", "STRICT", SHOP, p80="PERMISSIVE")], SOME),
        ([peers("shop", "STRICT"), peers("shop", "UNSET", SHOP, p9090="PERMISSIVE")], ALL),
    ],
)
def test_pods_that_take_mutual_tls_alone(rules: list[Json], told: str) -> None:
    snapshot = world(PeerAuthentication=rules)
    pods = [pod for pod in snapshot.all("Pod") if pod["metadata"]["namespace"] == "shop"]
    service = snapshot.get("Service", "shop", "shop")
    assert _why.strict(snapshot, pods, service, 80, "mesh") == told
    assert _why.strict(snapshot, [], service, 80, "mesh") == ""


@pytest.mark.parametrize("place", ["containers", "initContainers"])
def test_a_sidecar_is_a_container_of_either_kind(place: str) -> None:
    assert _why.has_sidecar({"spec": {place: [{"name": "istio-proxy"}]}})
    assert not _why.has_sidecar({"spec": {place: [{"name": "app"}]}})
