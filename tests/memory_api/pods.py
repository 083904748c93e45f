"""What listens inside pods, reached through the API server's port forward as the kubelet answers it (SPDY/3.1)."""

from __future__ import annotations

import json
import socket
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _portforward as spdy

if TYPE_CHECKING:
    from memory_api.server import Server

Json = dict[str, Any]
Answer = Callable[[str], tuple[int, Any]]
"""Takes the path of a GET; returns the status and what to send, as it is or as JSON. OSError closes the connection."""


def serve(connection: socket.socket, ports: dict[int, Answer]) -> None:
    """Answer HTTP on the port that the forward asks for, until the other side ends it."""
    decoder, headers, asked = spdy.Decoder(), zlib.decompressobj(), b""
    answer: Answer | None = None
    while arrived := connection.recv(65536):
        for frame in decoder.feed(arrived):
            if frame.kind == spdy.SYN_STREAM:
                block = headers.decompress(frame.payload[10:])
                if frame.stream != spdy.DATA:
                    continue
                port = _header(block, "port")
                answer = ports.get(port)
                if answer is None:
                    refused = f"failed to connect to localhost:{port}: connect: connection refused"
                    connection.sendall(spdy.data(spdy.DATA, b"", last=True))
                    connection.sendall(spdy.data(spdy.ERRORS, refused.encode(), last=True))
            elif frame.kind == 0 and frame.stream == spdy.DATA:
                asked += frame.payload
        while answer is not None and b"\r\n\r\n" in asked:
            head, _end, asked = asked.partition(b"\r\n\r\n")
            try:
                status, body = answer(head.split()[1].decode())
            except OSError:
                connection.sendall(spdy.data(spdy.DATA, b"", last=True))
                connection.sendall(spdy.data(spdy.ERRORS, b"connection reset by peer", last=True))
                return
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            start = f"HTTP/1.1 {status} Said\r\nserver: istio-envoy\r\ncontent-length: {len(sent)}\r\n\r\n".encode()
            connection.sendall(spdy.data(spdy.DATA, start + sent))


def _header(block: bytes, name: str) -> int:
    """Return a header that is a number: each is a name and a value, with its length before it."""
    sought = struct.pack(">I", len(name)) + name.encode()
    at = block.index(sought) + len(sought)
    (length,) = struct.unpack_from(">I", block, at)
    return int(block[at + 4 : at + 4 + length])


def envoy(server: Server) -> Answer:
    """Envoy's admin interface in a gateway pod that has every Istio object which the API server holds."""
    return lambda path: (200, config(server)) if path.startswith("/config_dump") else (200, {})


def config(server: Server) -> Json:
    """Return a config dump: of what istiod makes of the objects, what a proof looks at."""
    live = list(server.objects.values())
    gateways = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": item
        for item in live
        if item["kind"] == "Gateway" and "selector" in item["spec"]
    }
    targets = {
        port["port"]: port["targetPort"]
        for item in live
        if item["kind"] == "Service" and item["metadata"]["namespace"] == "istio-system"
        for port in item["spec"]["ports"]
    }
    hosts: dict[int, list[Json]] = defaultdict(list)
    chains: dict[int, list[Json]] = defaultdict(list)
    clusters: dict[str, Json] = {}
    for item in live:
        if item["kind"] != "VirtualService":
            continue
        spec = item["spec"]
        numbers = [
            targets[listener["port"]["number"]]
            for name in spec.get("gateways") or ()
            for listener in gateways[name]["spec"]["servers"]
        ]
        for route in [*spec.get("http", ()), *spec.get("tcp", ()), *spec.get("tls", ())]:
            for entry in [*(route.get("route") or ()), *(route.get("mirrors") or ())]:
                name = _name(entry["destination"])
                clusters[name] = {"cluster": _cluster(name, live)}
        for number in numbers:
            names = [{"name": route["name"], "match": {}} for route in spec.get("http", ())]
            if names:
                hosts[number].append({"name": item["metadata"]["name"], "domains": spec["hosts"], "routes": names})
            for route in [*spec.get("tcp", ()), *spec.get("tls", ())]:
                proxy = {"@type": "x.TcpProxy", "cluster": _name(route["route"][0]["destination"])}
                asked = [name for match in route["match"] for name in match.get("sniHosts", ())]
                match = {"filter_chain_match": {"server_names": asked}} if asked else {}
                chains[number].append({**match, "filters": [{"typed_config": proxy}]})
    for number in hosts:
        chains[number].append({"filters": [{"typed_config": {"rds": {"route_config_name": f"http.{number}"}}}]})
    listeners = [
        {"active_state": {"listener": {"name": f"0.0.0.0_{number}", "filter_chains": found,
         "address": {"socket_address": {"address": "0.0.0.0", "port_value": number}}}}}
        for number, found in chains.items()
    ]  # fmt: skip
    routes = [{"route_config": {"name": f"http.{number}", "virtual_hosts": found}} for number, found in hosts.items()]
    parts: dict[str, Json] = {
        "ListenersConfigDump": {"dynamic_listeners": listeners},
        "RoutesConfigDump": {"dynamic_route_configs": routes},
        "ClustersConfigDump": {"dynamic_active_clusters": list(clusters.values())},
        "SecretsConfigDump": {"dynamic_active_secrets": _secrets(gateways.values(), live)},
    }
    return {
        "configs": [{"@type": f"type.googleapis.com/envoy.admin.v3.{name}", **part} for name, part in parts.items()]
    }


def _name(to: Json) -> str:
    return f"outbound|{to['port']['number']}|{to.get('subset', '')}|{to['host']}"


def _cluster(name: str, live: list[Json]) -> Json:
    """Return a cluster as istiod's cluster_traffic_policy.go makes it. What chooses endpoints alone isn't in it."""
    _direction, port, _subset, host = name.split("|")
    for item in live:
        if item["kind"] == "DestinationRule" and item["spec"]["host"] == host:
            metadata, policy = item["metadata"], item["spec"]["trafficPolicy"]
            for level in policy.get("portLevelSettings", ()):
                if level["port"]["number"] == int(port):
                    policy = level
            origin = f"/apis/networking.istio.io/v1/namespaces/{metadata['namespace']}/destination-rule/"
            pool, outliers = policy["connectionPool"], policy.get("outlierDetection")
            retries = pool.get("http", {}).get("maxRetries", 2**32 - 1)
            found = {
                "name": name,
                "connect_timeout": pool["tcp"]["connectTimeout"],
                "circuit_breakers": {"thresholds": [{"max_retries": retries}]},
                "metadata": {"filter_metadata": {"istio": {"config": origin + metadata["name"]}}},
            }
            if outliers is not None:
                found["outlier_detection"] = {
                    "interval": outliers["interval"],
                    "base_ejection_time": outliers["baseEjectionTime"],
                    "max_ejection_percent": outliers["maxEjectionPercent"],
                }
            return found
    return {"name": name}


def _secrets(gateways: Iterable[Json], live: list[Json]) -> list[Json]:
    found: dict[str, Json] = {}
    for gateway in gateways:
        for server in gateway["spec"]["servers"]:
            for item in live:
                tls, metadata = server.get("tls", {}), item["metadata"]
                if (item["kind"], metadata["name"]) != ("Secret", tls.get("credentialName")):
                    continue
                name, data = f"kubernetes://{metadata['name']}", item["data"]
                found[name] = {"tls_certificate": {"certificate_chain": {"inline_bytes": data["tls.crt"]}}}
                if tls["mode"] == "MUTUAL":
                    found[f"{name}-cacert"] = {"validation_context": {"trusted_ca": {"inline_bytes": data["ca.crt"]}}}
    return [{"name": name, "secret": {"name": name, **secret}} for name, secret in found.items()]
