"""The design's own example list, through the Istio generator and the ports."""

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils import _istio_api, _ports
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse

LIST = [
    {
        "name": "bookinfo",
        "namespace": "bookinfo",
        "protocol": "HTTP",
        "port": 80,
        "hostnames": ["bookinfo.example"],
        "routes": [
            {
                "matches": [{"path": {"exact": "/productpage"}}, {"path": {"prefix": "/static"}}],
                "backends": [{"service": "productpage", "port": 9080}],
            },
            {
                "matches": [{"headers": {"end-user": {"exact": "jason"}}}],
                "backends": [{"service": "reviews", "port": 9080, "subset": "v2"}],
            },
            {
                "backends": [
                    {"service": "reviews", "port": 9080, "subset": "v1", "weight": 90},
                    {"service": "reviews", "port": 9080, "subset": "v2", "weight": 10},
                ]
            },
        ],
        "subsets": {"reviews": {"v1": {"version": "v1"}, "v2": {"version": "v2"}}},
    },
    {
        "name": "mysql",
        "namespace": "db",
        "protocol": "TCP",
        "port": 65532,
        "node_port": 31532,
        "backend": {"service": "mysql", "port": 3306},
    },
    {
        "name": "shop",
        "namespace": "shop",
        "protocol": "HTTPS",
        "hostnames": ["shop.example"],
        "tls": {"secret": "shop-cert"},
        "redirect_http": True,
        "backend": {"service": "shop", "port": 80},
    },
    {
        "name": "nginx",
        "namespace": "edge",
        "protocol": "TLS",
        "hostnames": ["nginx.example"],
        "backend": {"host": "nginx.com", "port": 443},
    },
]


def test_objects_of_the_designs_example() -> None:
    manifests = _istio_api.generate(parse(LIST))
    names = [(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in manifests]
    assert names == [
        ("DestinationRule", "bookinfo", "default-productpage"),
        ("DestinationRule", "bookinfo", "default-reviews"),
        ("DestinationRule", "db", "default-mysql"),
        ("DestinationRule", "edge", "default-nginx.com"),
        ("DestinationRule", "shop", "default-shop"),
        ("Gateway", "istio-system", "bookinfo-bookinfo"),
        ("Gateway", "istio-system", "db-mysql"),
        ("Gateway", "istio-system", "default-shop-cert-443"),
        ("Gateway", "istio-system", "edge-nginx"),
        ("Gateway", "istio-system", "shop-shop-redirect"),
        ("ServiceEntry", "edge", "default-nginx.com"),
        ("VirtualService", "bookinfo", "bookinfo"),
        ("VirtualService", "db", "mysql"),
        ("VirtualService", "edge", "nginx"),
        ("VirtualService", "shop", "shop"),
        ("VirtualService", "shop", "shop.redirect"),
    ]


def test_ports_of_the_designs_example() -> None:
    live = {"spec": {"ports": [{"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080}]}}
    assert _ports.wanted(parse(LIST), live) == [
        {"name": "edgeway-443", "port": 443, "protocol": "TCP", "targetPort": 8443, "appProtocol": "https"},
        {
            "name": "edgeway-65532",
            "port": 65532,
            "protocol": "TCP",
            "targetPort": 65532,
            "appProtocol": "tcp",
            "nodePort": 31532,
        },
    ]


def test_all_problems_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        parse([{"name": "a", "namespace": "b", "protocol": "UDP", "backends": []}, {"name": "A"}])
    assert [problem.path for problem in caught.value.problems] == [
        "exposures[0].backends",
        "exposures[0].protocol",
        "exposures[0].backend",
        "exposures[1].name",
        "exposures[1].namespace",
        "exposures[1].protocol",
        "exposures[1].backend",
    ]
