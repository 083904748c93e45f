"""A gateway of the tests' own on the lab, with its VIP, names and backends; what is broken in it can be put back.

Namespaces tr-gw (gateway), tr-app and tr-mesh (backends, the latter with sidecars). The VIP is put on an edge by hand,
so that it can be lost without a word to the lab's keepalived.
"""

import contextlib
import copy
import datetime
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _istio_api, _trace
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.trace import _facts, _looking
from ansible_collections.edgeway.istio.plugins.module_utils.trace._hops import Hop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from integration.faults.names import Names
from integration.vip.machines import Machine, run

Json = dict[str, Any]

VIP = "10.77.0.180"
HOLDER = "node2"
GATEWAY = {"namespace": "tr-gw", "service": "gateway", "selector": {"istio": "tr"}}
NODE_PORT = 31980

EXPOSURES: list[Json] = [
    {"name": "web", "namespace": "tr-app", "protocol": "HTTP", "hostnames": ["tr-web.example"],
     "backend": {"service": "echo", "port": 80}},
    {"name": "shop", "namespace": "tr-app", "protocol": "HTTPS", "hostnames": ["tr-shop.example"],
     "tls": {"secret": "tr-cert"}, "backend": {"service": "echo", "port": 80}},
    {"name": "tcp", "namespace": "tr-app", "protocol": "TCP", "port": 9000, "node_port": NODE_PORT,
     "backend": {"service": "echo", "port": 9090}},
    {"name": "mesh", "namespace": "tr-mesh", "protocol": "HTTP", "hostnames": ["tr-mesh.example"],
     "backend": {"service": "echo", "port": 80}},
    {"name": "split", "namespace": "tr-app", "protocol": "HTTP", "hostnames": ["tr-split.example"],
     "subsets": {"echo": {"v1": {"version": "v1"}}}, "backend": {"service": "echo", "port": 80, "subset": "v1"}},
    {"name": "out", "namespace": "tr-app", "protocol": "TLS", "hostnames": ["nginx.example"],
     "backend": {"host": "nginx.example", "port": 443, "address": "10.77.0.51"}},
]  # fmt: skip

# plural and root of every kind that a fault touches
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Service": "/api/v1/namespaces/{}/services",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Gateway": "/apis/networking.istio.io/v1/namespaces/{}/gateways",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/{}/virtualservices",
    "DestinationRule": "/apis/networking.istio.io/v1/namespaces/{}/destinationrules",
    "ServiceEntry": "/apis/networking.istio.io/v1/namespaces/{}/serviceentries",
    "EnvoyFilter": "/apis/networking.istio.io/v1alpha3/namespaces/{}/envoyfilters",
    "AuthorizationPolicy": "/apis/security.istio.io/v1/namespaces/{}/authorizationpolicies",
    "PeerAuthentication": "/apis/security.istio.io/v1/namespaces/{}/peerauthentications",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


def certificate(name: str, *, days: tuple[int, int] = (-1, 300)) -> dict[str, str]:
    """A self-signed certificate and key as a Secret holds them; `days` from now that it is valid from and to."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"tls.crt": made.public_bytes(pem).decode(), "tls.key": private.decode()}


def _namespace(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _echo(namespace: str) -> list[Json]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "tcp", "port": 9090},
    ]
    labels = {"app": "echo", "version": "v1"}
    container = {
        "name": "echo",
        "image": "localhost/lab/echo:1",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--port=8080", "--tcp=9090", "--server-first=9090", "--version=v1"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": namespace},
         "spec": {"selector": {"app": "echo"}, "ports": ports}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "echo", "namespace": namespace},
         "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": "echo"}},
                  "template": {"metadata": {"labels": labels},
                               "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}},
    ]  # fmt: skip


def _gateway() -> list[Json]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "https", "port": 443, "targetPort": 8443},
        {"name": "tcp-9000", "port": 9000, "targetPort": 9000, "nodePort": NODE_PORT},
    ]
    affinity = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"istio": "tr"}}, "topologyKey": "kubernetes.io/hostname"}
            ]
        },
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2", "node3"]}
                    ]}
                ]
            }
        },
    }  # fmt: skip
    resources = {"requests": {"cpu": "10m", "memory": "40Mi"}}
    template = {
        "metadata": {
            "annotations": {"inject.istio.io/templates": "gateway"},
            "labels": {"istio": "tr", "sidecar.istio.io/inject": "true"},
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "serviceAccountName": "gateway",
            "affinity": affinity,
            "containers": [
                {"name": "istio-proxy", "image": "auto", "imagePullPolicy": "IfNotPresent", "resources": resources}
            ],
        },
    }
    role = {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]}
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": "tr-gw"}
    rbac = "rbac.authorization.k8s.io"
    named = {"name": "gateway", "namespace": "tr-gw"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": named, **role},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": named, "subjects": [subject],
         "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "gateway"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tr-cert", "namespace": "tr-gw"},
         "type": "kubernetes.io/tls", "stringData": certificate("tr-shop.example")},
        {"apiVersion": "v1", "kind": "Service", "metadata": named,
         "spec": {"type": "LoadBalancer", "loadBalancerClass": "edgeway.istio/vip", "externalTrafficPolicy": "Local",
                  "selector": {"istio": "tr"}, "ports": ports}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named,
         "spec": {"replicas": 2, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"istio": "tr"}},
                  "template": template}},
    ]  # fmt: skip


class World:
    """The lab with the tests' gateway. Whatever `patch`, `delete`, `create` and `at` do, `mend` takes back."""

    def __init__(self, cluster: Cluster, names: Names, machines: Mapping[str, Machine]) -> None:
        self.cluster, self.names, self.machines = cluster, names, machines
        self.model = parse(EXPOSURES, set_name="tr-faults", gateway=GATEWAY)
        self._undo: list[Callable[[], None]] = []

    # What is there

    def _path(self, kind: str, namespace: str, name: str = "") -> str:
        return PATHS[kind].format(namespace) + (f"/{name}" if name else "")

    def get(self, kind: str, namespace: str, name: str) -> Json:
        found, _status = self.cluster.request("GET", self._path(kind, namespace, name))
        return dict(found)

    def _apply(self, manifest: Json) -> None:
        metadata = manifest["metadata"]
        path = self._path(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": "tr-faults", "force": "true"}
        self.cluster.request("PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml")

    def build(self) -> None:
        """Make everything, and wait until every exposure answers."""
        for name in ("tr-gw", "tr-app"):
            self._apply(_namespace(name))
        self._apply(_namespace("tr-mesh", **{"istio-injection": "enabled"}))
        for manifest in [*_gateway(), *_echo("tr-app"), *_echo("tr-mesh"), *_istio_api.generate(self.model)]:
            self._apply(manifest)
        self.carry([VIP])
        self.names.records = {name: [VIP] for one in self.model.exposures for name in one.hostnames}
        for machine in self.machines.values():
            machine.run("ip", "address", "delete", f"{VIP}/32", "dev", "eth0", check=False)
        self.machines[HOLDER].run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
        self.forget_neighbour()

    def remove(self) -> None:
        self.mend()
        for name in ("tr-gw", "tr-app", "tr-mesh"):
            with contextlib.suppress(RefusedError):
                self.cluster.request("DELETE", f"/api/v1/namespaces/{name}")
        for machine in self.machines.values():
            machine.run("ip", "address", "delete", f"{VIP}/32", "dev", "eth0", check=False)

    def carry(self, addresses: list[str]) -> None:
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses] or None}}}
        path = self._path("Service", "tr-gw", "gateway") + "/status"
        self.cluster.request("PATCH", path, body=status, content_type="application/merge-patch+json")

    @staticmethod
    def forget_neighbour() -> None:
        """Clients on the wire would hear keepalived's gratuitous ARP; ours forget the VIP's machine themselves."""
        run("sh", "-c", f"ip neigh flush to {VIP}")

    # Breaking

    def patch(self, kind: str, namespace: str, name: str, change: Json) -> None:
        """Merge a change into an object; `mend` puts the whole object back."""
        before = self.get(kind, namespace, name)
        self._undo.append(lambda: self._put_back(before))
        self.cluster.request(
            "PATCH", self._path(kind, namespace, name), body=change, content_type="application/merge-patch+json"
        )

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Json], None]) -> None:
        """Change an object in place, lists too."""
        before = self.get(kind, namespace, name)
        self._undo.append(lambda: self._put_back(before))
        self._write(before, change)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        before = self.get(kind, namespace, name)
        self._undo.append(lambda: self._put_back(before))
        self.cluster.request("DELETE", self._path(kind, namespace, name))

    def create(self, manifest: Json) -> None:
        metadata = manifest["metadata"]
        path = self._path(manifest["kind"], metadata["namespace"])

        def gone() -> None:
            with contextlib.suppress(RefusedError):
                self.cluster.request("DELETE", f"{path}/{metadata['name']}")

        self._undo.append(gone)
        self.cluster.request("POST", path, body=manifest)

    def undoing(self, undo: Callable[[], None]) -> None:
        self._undo.append(undo)

    def at(self, machine: str, command: str, undo: str) -> None:
        """Run a shell command on a machine of the lab, or on `host`."""

        def shell(text: str) -> None:
            if machine == "host":
                run("sh", "-c", text)
            else:
                self.machines[machine].run("sh", "-c", text)

        self._undo.append(lambda: shell(undo))
        shell(command)

    def _write(self, live: Json, change: Callable[[Json], None]) -> None:
        """Change the object in place; a controller may write its status in between."""
        kind, metadata = live["kind"], live["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        for attempt in range(5):
            after = copy.deepcopy(live)
            change(after)
            try:
                self.cluster.request("PUT", self._path(kind, namespace, name), body=after)
                return
            except RefusedError as refused:
                if refused.status != 409 or attempt == 4:
                    raise
            live = self.get(kind, namespace, name)

    def _put_back(self, before: Json) -> None:
        kind, metadata = before["kind"], before["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata}
        wanted = {**{key: value for key, value in before.items() if key != "status"}, "metadata": kept}

        def as_before(live: Json) -> None:
            version = live["metadata"]["resourceVersion"]
            live.clear()
            live.update({**wanted, "metadata": {**kept, "resourceVersion": version}})

        try:
            live = self.get(kind, namespace, name)
        except RefusedError:
            self.cluster.request("POST", self._path(kind, namespace), body=wanted)
        else:
            self._write(live, as_before)
        if kind == "Service" and namespace == "tr-gw" and name == "gateway":
            self.carry([VIP])

    def mend(self) -> None:
        while self._undo:
            self._undo.pop()()

    # Looking

    def edges(self) -> tuple[_facts.Edge, ...]:
        """What each edge's kernel holds; keepalived isn't asked, as the VIP isn't its."""

        def facts(name: str) -> Json:
            links = json.loads(self.machines[name].run("ip", "-json", "address", "show"))
            return {"node": name, "address": self.machines[name].address, "facts": {"links": links}}

        return tuple(_facts.edge(name, facts(name)) for name in ("node2", "node3", "node1"))

    def look(self, exposure: str, url: str = "", cluster: Cluster | None = None, **options: Any) -> _facts.Facts:
        asked = _looking.Options(
            vips=(VIP,), edges=self.edges(), nameservers=(f"127.0.0.1:{self.names.port}",), timeout=1.5, **options
        )
        target = _facts.chosen(
            url or None, exposure or None, EXPOSURES, gateway=GATEWAY, set_name="tr-faults"
        )  # fmt: skip
        return _looking.look(cluster or self.cluster, target, asked)

    def settled(self, exposure: str, wanted: str | None, *, url: str = "", seconds: float = 40) -> "Seen":
        """Trace until two traces in a row name `wanted`, or one finds nothing if that is None; else the last one."""
        began = time.monotonic()
        times = 0
        while True:
            facts = self.look(exposure, url)
            seen = Seen(facts, _trace.trace(facts), time.monotonic() - began)
            times = times + 1 if seen.named == wanted else 0
            if times == (1 if wanted is None else 2) or seen.seconds > seconds:
                return seen
            time.sleep(0.3)


class Seen:
    """A trace and what came of it."""

    def __init__(self, facts: _facts.Facts, hops: list[Hop], seconds: float) -> None:
        self.facts, self.hops, self.seconds = facts, hops, seconds
        self.broken = _trace.first_broken(hops)

    @property
    def named(self) -> str | None:
        return self.broken.name if self.broken else None

    @property
    def client(self) -> str:
        """What a client sees through the VIP."""
        probe = self.facts.probe("vip")
        if probe is None:
            return "not tried"
        return probe.reason or (f"HTTP {probe.status}" if probe.status else probe.first or "connected")


@contextlib.contextmanager
def running(cluster: Cluster, names: Names) -> Iterator[World]:
    machines = {
        name: Machine(name, address)
        for name, address in {
            "node1": "10.77.0.11", "node2": "10.77.0.12", "node3": "10.77.0.13", "box1": "10.77.0.31"
        }.items()
    }  # fmt: skip
    world = World(cluster, names, machines)
    world.build()
    try:
        yield world
    finally:
        world.remove()
