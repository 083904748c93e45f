# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' argument specs, and the parts that modules share."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC

_TEXT: dict[str, Any] = {"type": "str"}
_NUMBER: dict[str, Any] = {"type": "int"}
_FLAG: dict[str, Any] = {"type": "bool"}
_MAP: dict[str, Any] = {"type": "dict"}
_TEXTS: dict[str, Any] = {"type": "list", "elements": "str"}


def _map(**options: Any) -> dict[str, Any]:
    return {"type": "dict", "options": options}


def _list(**options: Any) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "options": options}


# Types alone: choices, ranges and what is required are for the model, which finds all mistakes at once
_SECRET_NAME: dict[str, Any] = {"type": "str", "no_log": False}
_ORIGINATION = _map(sni=_TEXT, ca_secret=_SECRET_NAME, client_secret=_SECRET_NAME, insecure=_FLAG)
_BACKEND: dict[str, Any] = {
    "service": _TEXT,
    "namespace": _TEXT,
    "host": _TEXT,
    "address": _TEXT,
    "port": _NUMBER,
    "subset": _TEXT,
    "weight": _NUMBER,
    "tls": _ORIGINATION,
}
_TARGET = _map(full=_TEXT, prefix=_TEXT)
_HEADERS = _map(set=_MAP, add=_MAP, remove=_TEXTS)
_GATEWAY = _map(
    namespace=_TEXT,
    service=_TEXT,
    selector=_MAP,
    class_name=_TEXT,
    existing=_TEXT,
    scope=_TEXT,
    deploy=_FLAG,
    service_type=_TEXT,
    allowed_routes=_map(**{"from": _TEXT, "labels": _MAP}),
)
_LIST = _list(
    name=_TEXT,
    namespace=_TEXT,
    protocol=_TEXT,
    port=_NUMBER,
    node_port=_NUMBER,
    hostnames=_TEXTS,
    gateway=_GATEWAY,
    tls=_map(
        secret=_SECRET_NAME,
        namespace=_TEXT,
        mode=_TEXT,
        min_version=_TEXT,
        certificate=_TEXT,
        private_key={"type": "str", "no_log": True},
        ca_certificate=_TEXT,
    ),
    redirect_http=_FLAG,
    backend=_map(**_BACKEND),
    routes=_list(
        matches=_list(
            path=_map(exact=_TEXT, prefix=_TEXT, regex=_TEXT),
            headers=_MAP,
            query=_MAP,
            method=_TEXT,
            grpc=_map(service=_TEXT, method=_TEXT),
        ),
        backends=_list(**_BACKEND),
        rewrite=_map(hostname=_TEXT, path=_TARGET),
        redirect=_map(scheme=_TEXT, hostname=_TEXT, port=_NUMBER, path=_TARGET, status=_NUMBER),
        request_headers=_HEADERS,
        response_headers=_HEADERS,
        timeout=_TEXT,
        retries=_map(attempts=_NUMBER, codes={"type": "list", "elements": "int"}, backoff=_TEXT, per_try_timeout=_TEXT),
        mirror=_map(percent=_NUMBER, **{key: value for key, value in _BACKEND.items() if key != "weight"}),
        cors=_map(
            allow_origins=_TEXTS,
            allow_methods=_TEXTS,
            allow_headers=_TEXTS,
            expose_headers=_TEXTS,
            allow_credentials=_FLAG,
            max_age=_NUMBER,
        ),
    ),
    subsets=_MAP,
    traffic=_map(
        connect_timeout=_TEXT, idle_timeout=_TEXT, outlier_detection={"type": "raw"}, http2=_FLAG, locality=_FLAG
    ),
    expose=_TEXT,
    service_type=_TEXT,
    external_traffic_policy=_TEXT,
)

PUBLISH = (
    *("api", "gateway", "state", "prune", "validate", "strict", "silence", "edges", "force", "wait", "wait_timeout"),
    *("before_istio", "path"),
)
"""Options of the module exposures that are fields of _publish.Options by the same name."""

EXPOSURES: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "exposures": {**_LIST, "default": []},
    "api": {"choices": ["istio", "gateway_api"], "default": "istio"},
    "gateway": _GATEWAY,
    "set": {"default": "default"},
    "state": {"choices": ["present", "absent", "rendered", "examined"], "default": "present"},
    "prune": {"type": "bool", "default": True},
    "validate": {"type": "bool", "default": True},
    "strict": {"type": "bool", "default": False},
    "silence": {**_list(code={"required": True}, reason={"required": True}), "default": []},
    "edges": {**_TEXTS, "default": []},
    "force": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 120},
    "before_istio": {"type": "bool", "default": False},
    "path": {"type": "path"},
}

EXPOSURES_INFO: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "sets": {**_TEXTS, "default": []},
    "findings": {"type": "bool", "default": True},
    "edges": {**_TEXTS, "default": []},
}

SERVICE = (
    *("namespace", "name", "ports", "vips", "type", "external_traffic_policy", "selector", "state", "force"),
    "before_istio",
)
"""Options of the module gateway_service that are fields of _service.Options by the same name."""

GATEWAY_SERVICE: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "namespace": {"default": "istio-system"},
    "name": {"default": "istio-ingressgateway"},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "name": {},
            "target_port": {"type": "int"},
            "node_port": {"type": "int"},
            "protocol": {"choices": ["TCP", "UDP"], "default": "TCP"},
        },
    },
    "vips": {"type": "list", "elements": "str", "default": []},
    "type": {"choices": ["LoadBalancer", "NodePort", "ClusterIP"]},
    "external_traffic_policy": {"choices": ["Local", "Cluster"]},
    "selector": {"type": "dict"},
    "set": {"default": "default"},
    "state": {"choices": ["present", "absent"], "default": "present"},
    "force": {"type": "bool", "default": False},
    "before_istio": {"type": "bool", "default": False},
}

FORWARDING_INFO: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "mode": {"type": "str", "default": "service"},
    "edges": {"type": "dict", "default": {}},
    "gateways": {**_TEXTS, "default": []},
    "proxy_protocol": {"type": "bool", "default": False},
}

_DICTS: dict[str, Any] = {"type": "list", "elements": "dict"}
_NAMES = _TEXTS

INSTALLATION: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "method": {"choices": ["istioctl", "helm", "existing"], "default": "istioctl"},
    "executable": {},
    "charts": {"default": "https://istio-release.storage.googleapis.com/charts"},
    "chart_version": {"default": ""},
    "namespace": {"default": "istio-system"},
    "profile": {"default": "default"},
    "hub": {"default": ""},
    "tag": {"default": ""},
    "revision": {"default": ""},
    "values": {"type": "dict", "default": {}},
    "operator": {"type": "dict", "default": {}},
    "edges": {**_NAMES, "default": []},
    "gateway_tolerations": {**_DICTS, "default": []},
    "gateways": {
        **_DICTS,
        "default": [],
        "options": {
            "name": {"required": True},
            "namespace": {},
            "selector": {"type": "dict"},
            "edges": _NAMES,
            "replicas": {"type": "int"},
            "service_type": {"choices": ["LoadBalancer", "NodePort", "ClusterIP"]},
            "load_balancer_class": {},
            "external_traffic_policy": {"choices": ["Local", "Cluster"]},
            "service_annotations": {"type": "dict"},
            "ports": _DICTS,
            "resources": {"type": "dict"},
            "tolerations": _DICTS,
            "settings": {"type": "dict"},
        },
    },
    "adopt": {"type": "bool", "default": False},
    "any_version": {"type": "bool", "default": False},
    "state": {"choices": ["present", "absent", "rendered"], "default": "present"},
    "remove_definitions": {"type": "bool", "default": False},
    "in_use": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
}

GATEWAY_API_CRDS: dict[str, Any] = {**AUTH_ARG_SPEC, "path": {"type": "path", "required": True}}

INJECTION: dict[str, Any] = {
    **AUTH_ARG_SPEC,
    "namespaces": {**_NAMES, "default": []},
    "revision": {"default": ""},
    "restart": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
}


def problem(found: Any) -> dict[str, str]:
    """Return a Problem as a module returns it."""
    return {"path": found.path, "message": found.message, "cure": found.cure}


_PLAIN = ("apiVersion", "kind", "name", "cluster", "user", "context", "current-context", "server", "namespace")


def plain_values(kubeconfig: Any) -> set[str]:
    """Return what of the option kubeconfig is no secret: its path, and the names in it.

    kubernetes.core hides the whole option. Ansible then blanks its values out of every message, and an error could
    name neither the path that doesn't exist nor any object called as something in the kubeconfig is.
    """
    if isinstance(kubeconfig, str):
        return set() if "\n" in kubeconfig else {kubeconfig}
    if isinstance(kubeconfig, list):
        return set().union(*(plain_values(inner) for inner in kubeconfig if not isinstance(inner, str)))
    found: set[str] = set()
    if isinstance(kubeconfig, dict):
        for key, value in kubeconfig.items():
            if isinstance(value, (dict, list)):
                found |= plain_values(value)
            elif key in _PLAIN:
                found.add(str(value))
    return found
