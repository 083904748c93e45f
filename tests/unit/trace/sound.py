"""Facts in which nothing is broken: an HTTPS exposure, its gateway, and a request that was answered everywhere."""

import base64
import datetime
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _envoy
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _certificates
from ansible_collections.edgeway.istio.plugins.module_utils.trace._facts import (
    Dns,
    Edge,
    Facts,
    GatewayPod,
    Istiod,
    Probe,
    ProxyHealth,
    Snapshot,
    Sync,
    Target,
    Wanted,
    Way,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Json = dict[str, Any]

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
VIP = "192.0.2.100"
HOST = "shop.example"
CLUSTER = "outbound|80||shop.shop.svc.cluster.local"
SECRET = "kubernetes://shop-cert"


def pem(*names: str, first: int = -10, last: int = 90) -> bytes:
    """A certificate for these names, valid from and to so many days from NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW + datetime.timedelta(days=first))
        .not_valid_after(NOW + datetime.timedelta(days=last))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


CHAIN = _certificates.read(pem(HOST))


def pod(namespace: str, name: str, labels: Json, *, node: str = "node2", ready: bool = True, **more: Any) -> Json:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.9", "conditions": conditions, **more},
    }


def objects() -> dict[str, tuple[Json, ...]]:
    """The cluster, fresh each time so that a test may change it."""
    gateway = {
        "kind": "Gateway",
        "metadata": {"namespace": "istio-system", "name": "shop"},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": 443}, "hosts": [f"shop/{HOST}"], "tls": {"credentialName": "shop-cert"}}],
        },
    }
    route = {
        "kind": "VirtualService",
        "metadata": {"namespace": "shop", "name": "shop"},
        "spec": {"hosts": [HOST], "gateways": ["istio-system/shop"]},
    }
    service = {
        "kind": "Service",
        "metadata": {"namespace": "istio-system", "name": "istio-ingressgateway"},
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "selector": {"istio": "ingressgateway"},
            "ports": [{"port": 443, "protocol": "TCP", "targetPort": 8443, "nodePort": 30443}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": VIP}]}},
    }
    backend = {
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    return {
        "Gateway": (gateway,),
        "VirtualService": (route,),
        "Service": (service, backend),
        "Pod": (pod("istio-system", "gw-1", {"istio": "ingressgateway"}), pod("shop", "shop-1", {"app": "shop"})),
        "Node": ({"kind": "Node", "metadata": {"name": "node2"}}, {"kind": "Node", "metadata": {"name": "node3"}}),
        "DestinationRule": (),
        "ServiceEntry": (),
        "PeerAuthentication": (),
    }


def dump() -> Json:
    """What the gateway pod's Envoy says; fresh each time."""
    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": SECRET}]}},
    }
    chain = {
        "filter_chain_match": {"server_names": [HOST]},
        "filters": [{"typed_config": {"rds": {"route_config_name": "https.443"}}}],
        "transport_socket": tls,
    }
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 8443}}
    listener = {"name": "0.0.0.0_8443", "address": address, "filter_chains": [chain]}
    origin = {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/shop"}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": CLUSTER},
        "metadata": {"filter_metadata": {"istio": origin}},
    }
    routes = {"name": "https.443", "virtual_hosts": [{"name": f"{HOST}:443", "domains": [HOST], "routes": [route]}]}
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "10.0.0.9", "port_value": 8080}}}}
    secret = {"tls_certificate": {"certificate_chain": {"inline_bytes": base64.b64encode(pem(HOST)).decode()}}}
    admin = "type.googleapis.com/envoy.admin.v3."
    return {
        "configs": [
            {"@type": f"{admin}ListenersConfigDump", "dynamic_listeners": [{"active_state": {"listener": listener}}]},
            {"@type": f"{admin}RoutesConfigDump", "dynamic_route_configs": [{"route_config": routes}]},
            {"@type": f"{admin}ClustersConfigDump", "dynamic_active_clusters": [
                {"cluster": {"name": CLUSTER, "type": "EDS", "transport_socket_matches": [{}]}}]},
            {"@type": f"{admin}EndpointsConfigDump", "dynamic_endpoint_configs": [
                {"endpoint_config": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]}}]},
            {"@type": f"{admin}SecretsConfigDump", "dynamic_active_secrets": [{"name": SECRET, "secret": secret}]},
        ]
    }  # fmt: skip


def probe(place: str, at: str, **more: Any) -> Probe:
    known: Json = {
        "connected": True,
        "status": 200,
        "headers": {"server": "istio-envoy", "x-envoy-upstream-service-time": "1"},
        "certificates": CHAIN,
        **more,
    }
    return Probe(place, at, f"{at}:443", **known)


def probes(**more: Any) -> tuple[Probe, ...]:
    """The same answer at the pod, at both edges and through the VIP."""
    places = (("pod", "gw-1"), ("edge", "node2"), ("edge", "node3"), ("vip", VIP))
    return tuple(probe(place, at, **more) for place, at in places)


def facts(**more: Any) -> Facts:
    """Sound facts; `objects`, `dump` and any field of Facts replace the sound ones."""
    kinds = more.pop("objects", None) or objects()
    said = more.pop("dump", None) or dump()
    refused = more.pop("refused", {})
    own = next((one for one in kinds.get("Pod", ()) if one["metadata"]["name"] == "gw-1"), None)
    known: Json = {
        "target": Target(
            f"shop/{HOST}", "HTTPS", HOST, 443, backends=(Wanted("shop/shop", 80),), exposure_namespace="shop"
        ),
        "now": NOW,
        "vips": (VIP,),
        "dns": Dns((VIP,), server="192.0.2.53", chosen=True),
        "edges": (
            Edge("node2", "node2", "192.0.2.12", answered=True, held=frozenset({VIP}), running=True),
            Edge("node3", "node3", "192.0.2.13", answered=True, running=True),
        ),
        "way": Way("192.0.2.1"),
        "snapshot": Snapshot(kinds, refused),
        "pods": (GatewayPod(own, _envoy.read(said), sync=Sync("istiod-1")),) if own else (),
        "istiod": Istiod(1, ("istiod-1",)),
        "proxies": (ProxyHealth("node2", 1, healthy=True), ProxyHealth("node3", 0, healthy=True)),
        "probes": probes(),
    }
    return Facts(**{**known, **more})
