# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exposure list, as the modules that take it document it."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  exposures:
    description:
      - The list. Each entry publishes one service.
      - The vocabulary is the Gateway API's, whichever API is used.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The entry's name, unique in the list. It names the objects.
        type: str
      namespace:
        description: The namespace of the routes, and of the backends that don't say otherwise.
        type: str
      protocol:
        description:
          - V(HTTP), V(HTTPS) which is ended at the gateway, V(TLS) which is passed through by its name, or V(TCP).
          - V(HTTP) and V(HTTPS) carry HTTP/2, gRPC and WebSocket too.
        type: str
      port:
        description: The port on the VIP. 80, 443 and 443 when not given; TCP has no default.
        type: int
      node_port:
        description: The port on every node. The cluster chooses one when not given.
        type: int
      hostnames:
        description: The names that clients ask for, a wildcard as the first label allowed. Every name when not given.
        type: list
        elements: str
      gateway:
        description: The gateway of this entry, when it isn't that of the list.
        type: dict
        suboptions: &gateway
          namespace:
            description: The namespace of the gateway's pods and their Service.
            type: str
          service:
            description: The Service in front of the gateway's pods.
            type: str
          selector:
            description: The labels of the gateway's pods. Read from the Service when not given.
            type: dict
          class_name:
            description: The GatewayClass. Gateway API only.
            type: str
          existing:
            description: The name of a Gateway that somebody else made, to attach routes to.
            type: str
          scope:
            description: V(shared) for one Gateway for the list, V(exposure) for one each. Gateway API only.
            type: str
          deploy:
            description: Whether Istio makes the Deployment and the Service of the Gateway. Gateway API only.
            type: bool
          service_type:
            description: The type of the Service that Istio makes. Gateway API only.
            type: str
          allowed_routes:
            description: Which namespaces may attach routes. Those of the list when not given. Gateway API only.
            type: dict
            suboptions:
              from:
                description: V(All), V(Same) or V(Selector).
                type: str
              labels:
                description: The labels of the namespaces, for V(Selector).
                type: dict
      tls:
        description: How HTTPS is ended at the gateway.
        type: dict
        suboptions:
          secret:
            description: A Secret with the certificate, in the namespace of the gateway's pods.
            type: str
          namespace:
            description: The Secret's namespace, where it is another one. Gateway API only.
            type: str
          mode:
            description: V(SIMPLE), or V(MUTUAL) when clients must show a certificate.
            type: str
          min_version:
            description: The oldest TLS version that is accepted, V(1.2) or V(1.3). Istio's API only.
            type: str
          certificate:
            description: The certificate and its chain, in PEM, for a Secret that is made for you.
            type: str
          private_key:
            description: The certificate's key, in PEM.
            type: str
          ca_certificate:
            description: The CA of the clients' certificates, in PEM, for V(MUTUAL).
            type: str
      redirect_http:
        description: Whether HTTP on port 80 is redirected to HTTPS.
        type: bool
      backend:
        description: Short for one route with one backend.
        type: dict
        suboptions: &backend
          service:
            description: A Service of the cluster.
            type: str
          namespace:
            description: The Service's namespace, where it is another one.
            type: str
          host:
            description: The name of a host outside the cluster.
            type: str
          address:
            description: Where the outside host is, when DNS doesn't say so.
            type: str
          port:
            description: The port of the Service or host.
            type: int
          subset:
            description: One of O(exposures[].subsets). Istio's API only.
            type: str
          weight:
            description: Its share of the requests, in proportion to the others. 1 when not given.
            type: int
          tls: &origination
            description: TLS that the gateway speaks to the backend.
            type: dict
            suboptions:
              sni:
                description: The name asked for, which the certificate must have.
                type: str
              ca_secret:
                description: A Secret with the CA that signed the backend's certificate.
                type: str
              client_secret:
                description: A Secret with the certificate that the gateway shows.
                type: str
              insecure:
                description: Whether any certificate will do.
                type: bool
      routes:
        description: Where requests go. The most specific match wins, whatever the order.
        type: list
        elements: dict
        suboptions:
          matches:
            description: Ways to enter the route; one of them is enough. Every request when not given.
            type: list
            elements: dict
            suboptions:
              path:
                description: The request's path.
                type: dict
                suboptions:
                  exact:
                    description: The whole path.
                    type: str
                  prefix:
                    description: Its beginning, by segments. C(/api) takes C(/api) and C(/api/x), but not C(/apis).
                    type: str
                  regex:
                    description: A regular expression (RE2) for the whole path.
                    type: str
              headers:
                description: Headers by name, each with C(exact) or C(regex).
                type: dict
              query:
                description: Query parameters by name, each with C(exact) or C(regex).
                type: dict
              method:
                description: The HTTP method.
                type: str
              grpc:
                description: A gRPC call.
                type: dict
                suboptions:
                  service:
                    description: The gRPC service, with its package.
                    type: str
                  method:
                    description: The method. Every one when not given.
                    type: str
          backends:
            description: Where the requests go, by weight.
            type: list
            elements: dict
            suboptions: *backend
          rewrite:
            description: What the backend sees instead.
            type: dict
            suboptions:
              hostname:
                description: The Host header.
                type: str
              path: &target
                description: The path.
                type: dict
                suboptions:
                  full:
                    description: Replaces the whole path.
                    type: str
                  prefix:
                    description: Replaces the matched prefix.
                    type: str
          redirect:
            description: An answer that sends the client elsewhere. What isn't given stays as it was.
            type: dict
            suboptions:
              scheme:
                description: V(http) or V(https).
                type: str
              hostname:
                description: The host.
                type: str
              port:
                description: The port.
                type: int
              path: *target
              status:
                description: 301, 302 (default), 303, 307 or 308.
                type: int
          request_headers:
            description: Changes to the request's headers.
            type: dict
            suboptions: &changes
              set:
                description: Headers to replace, name and value.
                type: dict
              add:
                description: Headers to add, name and value.
                type: dict
              remove:
                description: Headers to remove.
                type: list
                elements: str
          response_headers:
            description: Changes to the response's headers.
            type: dict
            suboptions: *changes
          timeout:
            description: How long the backend may take, such as V(5s).
            type: str
          retries:
            description: More tries on connection errors and some statuses.
            type: dict
            suboptions:
              attempts:
                description: How many more tries.
                type: int
              codes:
                description: The statuses to try again on.
                type: list
                elements: int
              backoff:
                description: The pause between tries, such as V(25ms).
                type: str
              per_try_timeout:
                description: How long each try may take.
                type: str
          mirror:
            description: A backend that gets a copy of the requests; its answers are thrown away.
            type: dict
            suboptions:
              service:
                description: A Service of the cluster.
                type: str
              namespace:
                description: The Service's namespace, where it is another one.
                type: str
              host:
                description: The name of a host outside the cluster.
                type: str
              address:
                description: Where the outside host is, when DNS doesn't say so.
                type: str
              port:
                description: The port of the Service or host.
                type: int
              subset:
                description: One of O(exposures[].subsets). Istio's API only.
                type: str
              tls: *origination
              percent:
                description: The share of the requests. 100 when not given.
                type: int
          cors:
            description: Which other origins a browser may call from.
            type: dict
            suboptions:
              allow_origins:
                description: Origins such as V(https://app.example).
                type: list
                elements: str
              allow_methods:
                description: HTTP methods.
                type: list
                elements: str
              allow_headers:
                description: Request headers.
                type: list
                elements: str
              expose_headers:
                description: Response headers that scripts may read.
                type: list
                elements: str
              allow_credentials:
                description: Whether cookies are sent.
                type: bool
              max_age:
                description: For how many seconds a browser may remember this.
                type: int
      subsets:
        description:
          - "Pods of a Service by their labels, such as C({reviews: {v1: {version: v1}}}). Istio's API only."
          - The key is C(service.namespace) where the bare name is ambiguous.
        type: dict
      traffic:
        description: How the gateway deals with the backends.
        type: dict
        suboptions:
          connect_timeout:
            description: How long a connection may take to be made.
            type: str
          idle_timeout:
            description: After how long without a request a connection to an HTTP backend is closed.
            type: str
          outlier_detection:
            description: When an endpoint is left out for a while; V(false) switches it off.
            type: raw
          http2:
            description: Whether the backends speak HTTP/2 without TLS.
            type: bool
          locality:
            description: Whether near endpoints are preferred.
            type: bool
      expose:
        description: V(port) for a port on the gateway's Service, V(service) for a Service of its own.
        type: str
      service_type:
        description: The type of the Service of its own. V(LoadBalancer) when not given.
        type: str
      external_traffic_policy:
        description: V(Cluster) or V(Local), for the Service of its own.
        type: str
  api:
    description: Which API's objects are made.
    type: str
    choices: [istio, gateway_api]
    default: istio
  gateway:
    description:
      - The gateway to publish through, for entries that don't name their own.
      - When not given, C(istio-ingressgateway) in C(istio-system), or the only other one that there is.
    type: dict
    suboptions: *gateway
  set:
    description:
      - The name of this list. Objects of other sets are never touched, and a name that another set holds is an error.
    type: str
    default: default
"""
