# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only file that talks to the API server: plain JSON over the kept-alive connections of the kubernetes package."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds, _portforward

Manifest = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")

_LACKS_RIGHT = re.compile(r"\bcannot \S+ (resource|path) |attempting to grant")
"""What the server says of every right that is missing. Admission refuses with the same status, in other words."""

CONNECTIONS = 8
_PAGE = 5000


class ClusterError(Exception):
    """Something about the cluster that stops a run. `cure` says what its reader can do."""

    def __init__(self, message: str, cure: str = "") -> None:
        self.message = message
        self.cure = cure
        super().__init__(f"{message} {cure}".rstrip())

    @property
    def told(self) -> Mapping[str, Any]:
        """What a module returns beside the message."""
        return {}

    @property
    def passing(self) -> bool:
        """Whether the same may succeed a little later, with nothing done about it."""
        return False


class UnreachableError(ClusterError):
    """No answer from the API server, or no way to find it."""

    @property
    def passing(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that another manager owns with another value."""

    field: str
    manager: str


class RefusedError(ClusterError):
    """The API server answered with an error. `status` is the HTTP status."""

    def __init__(self, status: int, message: str, cure: str = "", body: Mapping[str, Any] | None = None) -> None:
        self.status = status
        self.body = body or {}
        super().__init__(message, cure)

    @property
    def passing(self) -> bool:
        return self.status == 429 or self.status >= 500

    @property
    def causes(self) -> list[Cause]:
        """The fields of a conflict, each with the manager that owns it."""
        found = []
        for cause in (self.body.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "FieldManagerConflict":
                text = str(cause.get("message", ""))
                found.append(Cause(str(cause.get("field", "")), text.partition('conflict with "')[2].partition('"')[0]))
        return found


class Cluster:
    """The API server. Errors are ClusterError; objects are plain dicts as the server sends them."""

    def __init__(self, pool: Any, host: str, headers: Callable[[], Mapping[str, str]] = dict) -> None:
        self.host = host.rstrip("/")
        self._pool = pool
        self._headers = headers
        self._served: dict[str, dict[str, tuple[str, ...]]] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Send one request and return the parsed answer and its status, or raise UnreachableError or RefusedError."""
        import urllib3  # noqa: PLC0415 - state: rendered needs neither it nor the kubernetes package

        url = self.host + path + ("?" + urlencode(query) if query else "")
        headers = {"accept": accept, **self._headers()}
        data = None
        if body is not None:
            headers["content-type"] = content_type
            data = json.dumps(body, separators=(",", ":")).encode()
        # An answer lost on the way may have been acted upon: only what may be said twice is tried again. What was one
        # request too many was not acted upon
        read = 1 if method in ("GET", "PATCH", "PUT") else 0
        again = urllib3.Retry(
            total=4, connect=0, read=read, other=0, status=4, backoff_factor=0.2, status_forcelist=(429,), redirect=0,
            allowed_methods=(method,), raise_on_status=False,
        )  # fmt: skip
        timeout = urllib3.Timeout(connect=10, read=90)
        try:
            response = self._pool.request(method, url, body=data, headers=headers, retries=again, timeout=timeout)
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        try:
            parsed = json.loads(response.data) if response.data else {}
        except ValueError:
            parsed = {"message": response.data[:200].decode(errors="replace")}
        if response.status >= 400:
            raise self._refused(method, path, response.status, parsed)
        return parsed, response.status

    def forward(self, namespace: str, pod: str, port: int, timeout: float = 5) -> _portforward.Forward:
        """Connect to a port inside a pod; needs `create` on pods/portforward there. Close what is returned.

        A port that nothing listens on shows only in use: the socket ends at once, and `error` says why.
        """
        import urllib3  # noqa: PLC0415

        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        headers = {**self._headers(), **_portforward.UPGRADE}
        try:
            response = self._pool.request(
                "POST", self.host + path, headers=headers, retries=False, redirect=False, preload_content=False,
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status != 101:
            text = response.read(10_000)
            response.release_conn()
            try:
                body = json.loads(text)
            except ValueError:
                body = {"message": text[:200].decode(errors="replace")}
            raise self._refused("POST", path, response.status, body)
        # The connection isn't HTTP's any more, and never goes back to the pool
        connection = response.connection
        taken, connection.sock = connection.sock, None
        return _portforward.Forward(taken, port)

    def ask_pod(
        self, namespace: str, pod: str, port: int, paths: Sequence[str], timeout: float = 5
    ) -> list[tuple[int, bytes]]:  # fmt: skip
        """Send GET for each path to HTTP on a port inside a pod, one after the other; return statuses and bodies.

        Envoy's admin interface is at 15000 on the pod's loopback, istiod's own at 15014.
        """
        answers = []
        with self.forward(namespace, pod, port, timeout) as forward:
            forward.socket.settimeout(timeout)
            client = http.client.HTTPConnection("localhost")
            client.sock = forward.socket
            try:
                for path in paths:
                    client.request("GET", path)
                    response = client.getresponse()
                    answers.append((response.status, response.read()))
            except (OSError, http.client.HTTPException) as error:
                reason = forward.error.rpartition(": ")[2] or str(error) or type(error).__name__
                raise UnreachableError(f"Port {port} of Pod {namespace}/{pod} doesn't answer: {reason}.") from error
        return answers

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = getattr(error, "reason", None) or error
        text = str(reason)
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            cure = "Give the cluster's CA by ca_cert or in the kubeconfig."
        elif "TLS" in text or "SSL" in text:
            cure = "Check that the address is the API server's and that https or http is right."
        else:
            cure = "Check the server's address in the kubeconfig, and that this machine has a route to it."
        return UnreachableError(f"The API server {self.host} doesn't answer: {text.rpartition(': ')[2] or text}.", cure)

    def _refused(self, method: str, path: str, status: int, body: Mapping[str, Any]) -> RefusedError:
        message = str(body.get("message") or f"{method} {path} answered {status}")
        cure = ""
        if status == 401:
            message = f"The API server {self.host} doesn't accept the credentials: {message}."
            cure = "Renew the kubeconfig, or check api_key, client_cert and client_key."
        elif status == 403 and (method == "GET" or _LACKS_RIGHT.search(message)):
            message = f"{method} {path} is not allowed: {message}."
            cure = "Give the user this right, or run as one who has it."
        elif status == 403:
            message = f"{method} {path} is refused: {message}."
            cure = "See what refuses it (a quota, a policy, a webhook), and keep to that or ask who set it."
            if "NamespaceTerminating" in str(body.get("details")):
                cure = "Wait until the namespace is gone, and create it anew."
        elif "failed calling webhook" in message:
            cure = "See that the webhook's pods run (of validation.istio.io: istiod), and run again."
        refused = RefusedError(status, message, cure, body)
        if status == 409 and refused.causes:
            quoted = "; ".join(f"{cause.field} belongs to {cause.manager!r}" for cause in refused.causes)
            refused = RefusedError(
                status,
                f"{path.rpartition('/')[2]} can't be written: {quoted}.",
                "Leave the field to that manager, or change it there.",
                body,
            )
        return refused

    def every(self, task: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Run `task` on each item over all connections; the results in order. The first error is raised."""
        wanted = list(items)
        if len(wanted) < 2:
            return [task(item) for item in wanted]
        with ThreadPoolExecutor(min(CONNECTIONS, len(wanted))) as pool:
            return list(pool.map(task, wanted))

    def served(self, group: str) -> dict[str, tuple[str, ...]]:
        """Return the kinds of an API group with the versions that the server serves, the preferred one first."""
        if group not in self._served:
            self._served[group] = self._ask_served(group)
        return self._served[group]

    def _ask_served(self, group: str) -> dict[str, tuple[str, ...]]:
        try:
            answer, _status = self.request("GET", f"/apis/{group}")
        except RefusedError as refused:
            if refused.status == 404:
                return {}
            raise
        versions = [str(entry["version"]) for entry in answer.get("versions") or ()]
        kinds: dict[str, list[str]] = {}

        def resources(version: str) -> Iterator[str]:
            body, _status = self.request("GET", f"/apis/{group}/{version}")
            return (str(entry["kind"]) for entry in body.get("resources") or () if "/" not in entry["name"])

        for version, names in zip(versions, self.every(resources, versions), strict=True):
            for name in names:
                kinds.setdefault(name, []).append(version)
        return {name: tuple(found) for name, found in kinds.items()}

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether objects of this apiVersion and kind can be written. The core group always can."""
        group, version = _kinds.split(api_version)
        return not group or version in self.served(group).get(kind, ())

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return one object, None where there is none."""
        group, version = _kinds.split(api_version)
        path = _kinds.find(group, kind).path(version, namespace, name)
        try:
            found, _status = self.request("GET", path)
        except RefusedError as refused:
            if refused.status == 404:
                return None
            raise
        return _complete(found, api_version, kind)

    def exists(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        """Whether an object is there; its content isn't read. Where that can't be known, it is taken to be there."""
        group, version = _kinds.split(api_version)
        path = _kinds.find(group, kind).path(version, namespace, name)
        try:
            self.request("GET", path, accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        except ClusterError as error:
            status = error.status if isinstance(error, RefusedError) else 0
            if not (error.passing or status in (403, 404)):
                raise
            return status != 404
        return True

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, selector: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        """Return all objects of a kind, in the whole cluster or in one namespace. A kind not served has none."""
        group, version = _kinds.split(api_version)
        found = self.items(_kinds.find(group, kind).path(version, namespace), selector)
        return [_complete(entry, api_version, kind) for entry in found]

    def items(self, path: str, selector: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return the items of a collection by its path, [] where it isn't served."""
        query = {"limit": str(_PAGE)}
        if selector:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        found: list[Manifest] = []
        while True:
            try:
                page, _status = self.request("GET", path, query=query)
            except RefusedError as refused:
                if refused.status == 404:
                    return found
                raise
            found.extend(page.get("items") or ())
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return found
            query["continue"] = following

    def apply(
        self, manifest: Mapping[str, Any], manager: str, *, dry_run: bool = False, force: bool = False,
        subresource: str = "",
    ) -> tuple[Manifest, bool]:  # fmt: skip
        """Apply on the server's side and return the object as it became, and whether it was created."""
        query = {"fieldManager": manager, "force": "true" if force else "false", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._path(manifest) + (f"/{subresource}" if subresource else "")
        found, status = self.request(
            "PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml"
        )
        return found, status == 201

    def create(self, manifest: Mapping[str, Any], manager: str) -> Manifest:
        """Create an object, whole; RefusedError with 409 where there is one already."""
        path = self._path(manifest).rpartition("/")[0]
        found, _status = self.request("POST", path, query={"fieldManager": manager}, body=manifest)
        return dict(found)

    def replace(self, manifest: Mapping[str, Any], manager: str) -> Manifest:
        """Replace an object, whole; RefusedError with 409 where its resourceVersion isn't the live one any more."""
        found, _status = self.request("PUT", self._path(manifest), query={"fieldManager": manager}, body=manifest)
        return dict(found)

    def delete(self, live: Mapping[str, Any], *, dry_run: bool = False, unchanged: bool = False) -> None:
        """Delete this very object: one made anew under its name since we looked is left alone. Gone already is fine.

        With `unchanged` only as it is in `live`, else RefusedError with 409.
        """
        body: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": live["metadata"]["uid"]},
        }
        if unchanged:
            body["preconditions"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        if dry_run:
            # Where there is a body the server reads its options from that alone, not from the query
            body["dryRun"] = ["All"]
        try:
            self.request("DELETE", self._path(live), body=body)
        except RefusedError as refused:
            if refused.status != 404:
                raise

    @staticmethod
    def _path(manifest: Mapping[str, Any]) -> str:
        _group, version = _kinds.split(manifest["apiVersion"])
        metadata = manifest["metadata"]
        return _kinds.kind_of(manifest).path(version, metadata.get("namespace"), metadata["name"])


def _complete(found: Manifest, api_version: str, kind: str) -> Manifest:
    # Items of a list of built-in kinds come without their apiVersion and kind
    return {**found, "apiVersion": api_version, "kind": kind}


def connect(options: Mapping[str, Any]) -> Cluster:
    """Return the cluster that kubernetes.core's authentication options and environment variables name.

    Raises UnreachableError where they name none; nothing is asked of the server yet.
    """
    try:
        import kubernetes  # noqa: PLC0415 - state: rendered needs neither package
        from ansible_collections.kubernetes.core.plugins.module_utils.args_common import (  # noqa: PLC0415
            AUTH_ARG_SPEC,
        )
        from ansible_collections.kubernetes.core.plugins.module_utils.k8s import (  # noqa: PLC0415
            client as core,
        )
    except ImportError as error:
        raise UnreachableError(
            f"The Python package {error.name or 'kubernetes'} is missing.",
            "Install it for the interpreter that runs this module: pip install kubernetes.",
        ) from error
    given = {name: value for name, value in options.items() if name in AUTH_ARG_SPEC and value is not None}
    # What an earlier call has read is the default: it mustn't lend this one its certificate
    kubernetes.client.Configuration.set_default(None)
    try:
        # kubernetes.core's own reading of its options, without the discovery requests that its client begins with
        auth = core._create_auth_spec(None, **given)
        configuration = core._create_configuration(auth)
        extra = core._create_headers(None, **given)
    except Exception as error:
        raise _no_kubeconfig(given, error) from error
    configuration.connection_pool_maxsize = CONNECTIONS
    client = kubernetes.client.ApiClient(configuration)

    def headers() -> Mapping[str, str]:
        # Asking for them reads the kubeconfig's user again, so that a token may be renewed: not for each request
        if time.monotonic() > known[1]:
            known[:] = [fresh(), time.monotonic() + 10]
        current: Mapping[str, str] = known[0]
        return current

    def fresh() -> dict[str, str]:
        found = {"user-agent": "edgeway.istio"}
        for setting in configuration.auth_settings().values():
            if setting["value"]:
                found[setting["key"]] = setting["value"]
        for name, value in extra.items():
            found[name] = ",".join(value) if isinstance(value, list) else value
        return found

    known: list[Any] = [{}, 0.0]
    return Cluster(client.rest_client.pool_manager, configuration.host, headers)


def _no_kubeconfig(given: Mapping[str, Any], error: Exception) -> UnreachableError:
    path = given.get("kubeconfig") or os.environ.get("K8S_AUTH_KUBECONFIG") or os.environ.get("KUBECONFIG")
    if isinstance(path, dict):
        return UnreachableError(f"The kubeconfig given as a dictionary can't be used: {error}.", "Correct it.")
    path = str(path or "~/.kube/config")
    missing = [part for part in path.split(os.pathsep) if not os.path.exists(os.path.expanduser(part))]
    if missing:
        message = f"No kubeconfig: {', '.join(missing)} doesn't exist."
    else:
        message = f"The kubeconfig {path} can't be used: {error}."
    return UnreachableError(message, "Set the option kubeconfig, or the environment variable K8S_AUTH_KUBECONFIG.")
