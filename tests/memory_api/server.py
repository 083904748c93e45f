"""The HTTP side: a subset of the Kubernetes API as large as the collection's modules need."""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from memory_api import kinds, ownership, pods
from memory_api.kinds import Kind, Object

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Request:
    """One request as it came in; `dry` when nothing may be stored."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str

    @property
    def dry(self) -> bool:
        """Of a DELETE with a body the query says nothing."""
        if self.method == "DELETE" and self.body:
            return bool(self.body.get("dryRun") == ["All"])
        return self.query.get("dryRun") == "All"

    @property
    def writes(self) -> bool:
        return self.method != "GET" and not self.dry and not self.path.endswith("/portforward")


class StatusError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.body = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "details": details or {}, "code": code,
        }  # fmt: skip
        super().__init__(message)


class DropError(Exception):
    """The connection is to be closed without an answer."""


class _UpgradeError(Exception):
    """The connection becomes one to a pod."""

    def __init__(self, ports: dict[int, pods.Answer]) -> None:
        self.ports = ports
        super().__init__()


Hook = Callable[[Request], None]
"""Called with each request before it is acted upon; raises StatusError or DropError to fail it."""


@dataclass
class Server:
    """An API server on a free port of 127.0.0.1, with what is stored in `objects`.

    `before` and `after` are hooks of tests: called before a request is acted upon and when it has been, but before it
    is answered. `pods` says what listens on the ports of a pod, by namespace and name; a pod that isn't there is gone.
    """

    kinds: tuple[Kind, ...] = kinds.CORE + kinds.ISTIO_KINDS + kinds.GATEWAY_API_KINDS
    objects: dict[Key, Object] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    before: Hook | None = None
    after: Hook | None = None
    pods: dict[tuple[str, str], dict[int, pods.Answer]] = field(default_factory=dict)
    connections: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._counter = 1000
        self._http: ThreadingHTTPServer | None = None

    # The life of the server

    def start(self) -> Server:
        outer = self

        class Handler(_Handler):
            server_side = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()

    @contextmanager
    def running(self) -> Iterator[Server]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    @property
    def url(self) -> str:
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def kubeconfig(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "memory",
            "clusters": [{"name": "memory", "cluster": {"server": self.url}}],
            "users": [{"name": "memory", "user": {"token": "none"}}],
            "contexts": [{"name": "memory", "context": {"cluster": "memory", "user": "memory"}}],
        }

    # What tests put in and look at

    def add(self, manifest: Object, manager: str = "someone") -> Object:
        """Store an object as if `manager` had created it by POST."""
        kind = self._kind_of(manifest)
        with self._lock:
            made = self._create(kind, copy.deepcopy(manifest), manager, dry=False)
            if "status" in manifest:
                self.objects[self._key(kind, manifest)]["status"] = copy.deepcopy(manifest["status"])
            return made

    @staticmethod
    def _key(kind: Kind, manifest: Object) -> Key:
        metadata = manifest["metadata"]
        return kind.group, kind.name, metadata.get("namespace", ""), metadata["name"]

    def apply(self, manifest: Object, manager: str, *, force: bool = False, subresource: str = "") -> Object:
        """Store an object as if `manager` had applied it."""
        kind = self._kind_of(manifest)
        key = self._key(kind, manifest)
        with self._lock:
            return self._apply(kind, key, copy.deepcopy(manifest), manager, force, subresource, dry=False)[0]

    def get(self, kind: str, namespace: str, name: str, group: str | None = None) -> Object | None:
        for (a_group, a_kind, a_namespace, a_name), found in self.objects.items():
            if (a_kind, a_namespace, a_name) == (kind, namespace, name) and group in (None, a_group):
                return copy.deepcopy(found)
        return None

    def writes(self) -> list[Request]:
        return [request for request in self.log if request.writes]

    def state(self) -> dict[Key, Object]:
        """Return all objects without what changes with every write: equal states are equal to a user."""
        noise = ("uid", "resourceVersion", "creationTimestamp", "generation")
        result = {}
        for key, found in self.objects.items():
            item = copy.deepcopy(found)
            for name in noise:
                item["metadata"].pop(name, None)
            entries = item["metadata"].get("managedFields") or []
            for entry in entries:
                entry.pop("time", None)
            entries.sort(key=lambda entry: (entry["operation"], entry["manager"], entry["apiVersion"],
                                            entry.get("subresource", "")))  # fmt: skip
            result[key] = item
        return result

    # Requests

    def handle(self, request: Request) -> tuple[int, Object]:
        with self._lock:
            self.log.append(request)
        if self.before is not None:
            self.before(request)
        with self._lock:
            answer = self._route(request)
        if self.after is not None:
            self.after(request)
        return answer

    def _route(self, request: Request) -> tuple[int, Object]:
        parts = [part for part in request.path.split("/") if part]
        if parts == ["version"]:
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if parts == ["apis"]:
            groups = sorted({kind.group for kind in self.kinds if kind.group})
            listed = [self._group(group, [kind for kind in self.kinds if kind.group == group]) for group in groups]
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        if parts[:1] == ["api"]:
            group, rest = "", parts[1:]
        elif parts[:1] == ["apis"] and len(parts) > 1:
            group, rest = parts[1], parts[2:]
        else:
            raise _not_found(request.path)
        served = [kind for kind in self.kinds if kind.group == group]
        if not served:
            raise _not_found(request.path)
        if not rest:
            return 200, self._group(group, served)
        version, rest = rest[0], rest[1:]
        served = [kind for kind in served if version in kind.versions]
        if not served:
            raise _not_found(request.path)
        if not rest:
            return 200, self._resources(group, version, served)
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = next((kind for kind in served if kind.plural == rest[0]), None)
        if kind is None:
            raise _not_found(request.path)
        api_version = f"{group}/{version}" if group else version
        if len(rest) == 1:
            return self._collection(kind, api_version, namespace, request)
        subresource = rest[2] if len(rest) > 2 else ""
        if subresource == "portforward" and (namespace, rest[1]) in self.pods:
            raise _UpgradeError(self.pods[namespace, rest[1]])
        if subresource and not (subresource == "status" and kind.has_status):
            raise _not_found(request.path)
        return self._object(kind, api_version, (group, kind.name, namespace, rest[1]), subresource, request)

    @staticmethod
    def _group(group: str, served: list[Kind]) -> Object:
        versions = sorted({version for kind in served for version in kind.versions}, key=_version_rank)
        entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
        return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": entries,
                "preferredVersion": entries[0]}  # fmt: skip

    @staticmethod
    def _resources(group: str, version: str, served: list[Kind]) -> Object:
        found = []
        for kind in served:
            entry = {"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced,
                     "kind": kind.name, "verbs": ["create", "delete", "get", "list", "patch", "update"]}  # fmt: skip
            found.append(entry)
            if kind.has_status:
                found.append({**entry, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]})
        group_version = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}

    def _collection(self, kind: Kind, api_version: str, namespace: str, request: Request) -> tuple[int, Object]:
        if request.method == "POST":
            body = dict(request.body)
            body["metadata"] = {**body["metadata"], **({"namespace": namespace} if namespace else {})}
            manager = request.query.get("fieldManager", "unknown")
            return 201, self._create(kind, body, manager, dry=request.dry)
        if request.method != "GET":
            raise StatusError(405, "MethodNotAllowed", "the server does not allow this method")
        wanted = request.query.get("labelSelector", "")
        items = [
            {**copy.deepcopy(found), "apiVersion": api_version}
            for key, found in sorted(self.objects.items())
            if key[:2] == (kind.group, kind.name)
            and (not namespace or key[2] == namespace)
            and _chosen(wanted, found["metadata"].get("labels") or {})
        ]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 0))
        metadata = {"resourceVersion": str(self._counter)}
        if limit and start + limit < len(items):
            metadata["continue"] = str(start + limit)
        items = items[start : start + limit] if limit else items[start:]
        if not kind.group:
            for item in items:
                del item["apiVersion"], item["kind"]
        return 200, {"kind": f"{kind.name}List", "apiVersion": api_version, "metadata": metadata, "items": items}

    def _object(
        self, kind: Kind, api_version: str, key: Key, subresource: str, request: Request
    ) -> tuple[int, Object]:  # fmt: skip
        live = self.objects.get(key)
        manager = request.query.get("fieldManager", "unknown")
        if request.method == "PATCH" and request.content_type.startswith("application/apply-patch"):
            force = request.query.get("force") == "true"
            if "fieldManager" not in request.query:
                raise StatusError(400, "BadRequest", 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required')
            if request.body["apiVersion"] != api_version:
                raise StatusError(400, "BadRequest", "Incorrect version specified in apply patch.")
            found, made = self._apply(kind, key, request.body, manager, force, subresource, dry=request.dry)
            return (201 if made else 200), {**found, "apiVersion": api_version}
        if live is None:
            raise _no_object(kind, key[3])
        if request.method == "GET":
            return 200, {**copy.deepcopy(live), "apiVersion": api_version}
        if request.method == "PUT":
            return 200, self._update(kind, key, request.body, manager, subresource, dry=request.dry)
        if request.method == "PATCH":
            if request.content_type == "application/merge-patch+json":
                new = _merge_patch(copy.deepcopy(live), request.body)
            elif request.content_type == "application/json-patch+json":
                new = _json_patch(copy.deepcopy(live), request.body)
            else:
                raise StatusError(415, "UnsupportedMediaType", f"{request.content_type} is not supported")
            return 200, self._update(kind, key, new, manager, subresource, dry=request.dry)
        if request.method == "DELETE":
            for name, wanted in ((request.body or {}).get("preconditions") or {}).items():
                if wanted != live["metadata"][name]:
                    raise StatusError(409, "Conflict", f"Precondition failed: {name} in precondition: {wanted}")
            if not request.dry:
                del self.objects[key]
                self._counter += 1
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        raise StatusError(405, "MethodNotAllowed", "the server does not allow this method")

    # Storing

    def _create(self, kind: Kind, body: Object, manager: str, *, dry: bool) -> Object:
        metadata = body["metadata"]
        key = self._key(kind, body)
        self._needs_namespace(kind, key)
        new = copy.deepcopy(body)
        if kind.has_status:
            new.pop("status", None)
        owners = _decoded(metadata.get("managedFields"))
        new["metadata"].pop("managedFields", None)
        who = (manager, "Update", body["apiVersion"], "")
        kinds.default(kind, new)
        # The server's own kinds are never quite empty
        empty: Object = {} if kind.group else {"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}
        ownership.update(empty, new, kind.schema, owners, who, ignored=_ignored(kind, ""), now=_now())
        return self._store(kind, key, None, new, owners, dry=dry)

    def _update(self, kind: Kind, key: Key, body: Object, manager: str, subresource: str, *, dry: bool) -> Object:
        live = self.objects[key]
        version = body["metadata"].get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise StatusError(409, "Conflict", f'Operation cannot be fulfilled on {kind.plural} "{key[3]}": the '
                              f"object has been modified; please apply your changes to the latest version and try "
                              f"again")  # fmt: skip
        uid = body["metadata"].get("uid")
        if uid and uid != live["metadata"]["uid"]:
            raise StatusError(409, "Conflict", f"Precondition failed: UID in precondition: {uid}")
        new = copy.deepcopy(body)
        given = new["metadata"].pop("managedFields", None)
        self._keep_other_half(kind, new, live, subresource)
        # The endpoint of a subresource takes owners from the live object alone, and so does a request without any
        reset = given in ([], [{}]) and not subresource
        owners = _decoded(given if given and not subresource else live["metadata"].get("managedFields"))
        if reset:
            owners = {}
        before = _without_owners(live)
        for name in ("uid", "creationTimestamp", "generation"):
            new["metadata"][name] = before["metadata"].get(name)
        kinds.default(kind, new)
        who = (manager, "Update", body["apiVersion"], subresource)
        # Nothing is tracked from then on, once an object has no owners at all
        if owners:
            ignored = _ignored(kind, subresource)
            ownership.update(before, new, kind.schema, owners, who, ignored=ignored, now=_now())
        return self._store(kind, key, live, new, owners, dry=dry)

    def _apply(
        self, kind: Kind, key: Key, body: Object, manager: str, force: bool, subresource: str, *, dry: bool
    ) -> tuple[Object, bool]:  # fmt: skip
        live = self.objects.get(key)
        if body["metadata"].get("managedFields") is not None:
            raise StatusError(400, "BadRequest", "metadata.managedFields must be nil")
        if live is None:
            if subresource:
                raise _no_object(kind, key[3])
            self._needs_namespace(kind, key)
        metadata = body["metadata"]
        if live is not None and metadata.get("uid") not in (None, live["metadata"]["uid"]):
            raise StatusError(409, "Conflict", f"Precondition failed: UID in precondition: {metadata['uid']}")
        if metadata.get("resourceVersion") and live is None:
            raise _no_object(kind, key[3])
        if metadata.get("resourceVersion") not in (None, (live or {}).get("metadata", {}).get("resourceVersion")):
            raise StatusError(409, "Conflict", "the object has been modified")
        config = copy.deepcopy(body)
        config["metadata"] = {**config["metadata"], "name": key[3], **({"namespace": key[2]} if key[2] else {})}
        base = _without_owners(live) if live is not None else {}
        base = {**base, "apiVersion": body["apiVersion"]} if base else base
        owners = _decoded((live or {}).get("metadata", {}).get("managedFields"))
        if live is not None and not owners:
            who = ("before-first-apply", "Update", body["apiVersion"], subresource)
            ownership.update({}, base, kind.schema, owners, who, ignored=_ignored(kind, subresource), now=_now())
        who = (manager, "Apply", "", subresource)
        try:
            new = ownership.apply(
                base, config, kind.schema, owners, who, force=force, ignored=_ignored(kind, subresource), now=_now()
            )
        except ownership.ConflictError as conflict:
            raise _conflict(conflict) from conflict
        if new is None:
            new = copy.deepcopy(base)
        elif live is not None:
            self._keep_other_half(kind, new, live, subresource)
        elif kind.has_status:
            new.pop("status", None)
        kinds.default(kind, new)
        return self._store(kind, key, live, new, owners, dry=dry), live is None

    @staticmethod
    def _keep_other_half(kind: Kind, new: Object, live: Object, subresource: str) -> None:
        if not kind.has_status:
            return
        if not subresource:
            new.pop("status", None)
            if "status" in live:
                new["status"] = copy.deepcopy(live["status"])
            return
        for name in [name for name in new if name not in ("apiVersion", "kind", "metadata", "status")]:
            del new[name]
        for name, value in live.items():
            if name not in ("apiVersion", "kind", "metadata", "status"):
                new[name] = copy.deepcopy(value)

    def _store(
        self, kind: Kind, key: Key, live: Object | None, new: Object, owners: ownership.Owners, *, dry: bool
    ) -> Object:  # fmt: skip
        others = self._others(key)
        kinds.allocate(kind, new, live, others)
        problems = kinds.validate(kind, new, live, others, dry=dry)
        if problems and not problems[0][0]:
            raise StatusError(500, "InternalError", f"Internal error occurred: {problems[0][1]}")
        if problems:
            text = ", ".join(f"{at}: {reason}" for at, reason in problems)
            causes = [{"reason": "FieldValueInvalid", "message": reason, "field": at} for at, reason in problems]
            details = {"name": key[3], "group": kind.group, "kind": kind.name, "causes": causes}
            raise StatusError(422, "Invalid", f'{kind.name} "{key[3]}" is invalid: {text}', details)
        if live is None and key in self.objects:
            raise StatusError(409, "AlreadyExists", f'{kind.plural} "{key[3]}" already exists')
        metadata = new["metadata"]
        if live is None:
            metadata["uid"] = str(uuid.uuid4())
            metadata["creationTimestamp"] = _now()
            if kind.group:
                metadata["generation"] = 1
        else:
            for name in ("uid", "creationTimestamp", "generation"):
                if name in live["metadata"]:
                    metadata[name] = live["metadata"][name]
                else:
                    metadata.pop(name, None)
            metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        entries = _encoded(owners)
        if entries:
            metadata["managedFields"] = entries
        new["kind"] = kind.name
        if live is not None and _same(live, new):
            return copy.deepcopy(live)
        if live is not None and kind.group and live.get("spec") != new.get("spec"):
            metadata["generation"] = live["metadata"].get("generation", 0) + 1
        if not dry:
            self._counter += 1
            metadata["resourceVersion"] = str(self._counter)
            self.objects[key] = copy.deepcopy(new)
        return copy.deepcopy(new)

    def _others(self, key: Key) -> list[Object]:
        return [found for other, found in self.objects.items() if other[:2] == key[:2] and other != key]

    def _needs_namespace(self, kind: Kind, key: Key) -> None:
        if kind.namespaced and ("", "Namespace", "", key[2]) not in self.objects:
            raise StatusError(404, "NotFound", f'namespaces "{key[2]}" not found',
                              {"name": key[2], "kind": "namespaces"})  # fmt: skip

    def _kind_of(self, manifest: Object) -> Kind:
        group, _slash, version = manifest["apiVersion"].rpartition("/")
        return next(
            kind
            for kind in self.kinds
            if (kind.group, kind.name) == (group, manifest["kind"]) and version in kind.versions
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet an answer
    server_side: Server

    def setup(self) -> None:
        super().setup()
        self.server_side.connections += 1

    def log_message(self, *_args: object) -> None:
        """Say nothing: tests read `log`."""

    def _do(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length) if length else b""
        request = Request(
            self.command,
            split.path,
            dict(parse_qsl(split.query)),
            json.loads(raw) if raw else None,
            self.headers.get("content-type", ""),
        )
        try:
            code, body = self.server_side.handle(request)
        except StatusError as error:
            code, body = error.code, error.body
        except DropError:
            self.close_connection = True
            return
        except _UpgradeError as upgrade:
            self.close_connection = True
            self.send_response(101)
            self.send_header("connection", "Upgrade")
            self.send_header("upgrade", "SPDY/3.1")
            self.end_headers()
            self.wfile.flush()
            pods.serve(self.connection, upgrade.ports)
            return
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - names that http.server looks for


def _chosen(selector: str, labels: dict[str, str]) -> bool:
    """Whether labels fit a selector of the forms key=value and key."""
    for part in selector.split(","):
        key, equals, value = part.partition("=")
        if key and (key not in labels or (equals and labels[key] != value)):
            return False
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version_rank(version: str) -> tuple[bool, bool, str]:
    return "alpha" in version, "beta" in version, version


def _ignored(kind: Kind, subresource: str) -> ownership.Path | None:
    if not kind.has_status:
        return None
    return (("f", "spec"),) if subresource else (("f", "status"),)


def _without_owners(live: Object) -> Object:
    found = copy.deepcopy(live)
    found["metadata"].pop("managedFields", None)
    return found


def _decoded(entries: list[Object] | None) -> ownership.Owners:
    owners: ownership.Owners = {}
    for entry in entries or ():
        version = entry["apiVersion"] if entry["operation"] == "Update" else ""
        who = (entry["manager"], entry["operation"], version, entry.get("subresource", ""))
        paths = ownership.decode(entry.get("fieldsV1") or {})
        owners[who] = ownership.Owner(paths, entry["apiVersion"], entry.get("time", ""))
    return owners


def _encoded(owners: ownership.Owners) -> list[Object]:
    entries = []
    for (manager, operation, _version, subresource), owner in owners.items():
        entry = {"manager": manager, "operation": operation, "apiVersion": owner.api_version, "time": owner.time,
                 "fieldsType": "FieldsV1", "fieldsV1": ownership.encode(owner.paths)}  # fmt: skip
        if subresource:
            entry["subresource"] = subresource
        entries.append(entry)
    return sorted(entries, key=lambda entry: (entry["operation"], entry["time"], entry["manager"],
                                              entry["apiVersion"], entry.get("subresource", "")))  # fmt: skip


def _same(live: Object, new: Object) -> bool:
    def core(item: Object) -> tuple[Object, Any]:
        metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
        return {**item, "metadata": metadata, "apiVersion": ""}, _decoded_sets(item)

    return core(live) == core(new)


def _decoded_sets(item: Object) -> dict[ownership.Who, set[ownership.Path]]:
    return {who: owner.paths for who, owner in _decoded(item["metadata"].get("managedFields")).items()}


def _not_found(path: str) -> StatusError:
    return StatusError(404, "NotFound", f"the server could not find the requested resource ({path})")


def _no_object(kind: Kind, name: str) -> StatusError:
    plural = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return StatusError(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": kind.plural})


def _manager_shown(who: ownership.Who) -> str:
    manager, operation, version, subresource = who
    text = f'"{manager}"' + (f' with subresource "{subresource}"' if subresource else "")
    return f"{text} using {version}" if operation == "Update" else text


def _conflict(conflict: ownership.ConflictError) -> StatusError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {_manager_shown(who)}",
            "field": ownership.shown(path),
        }
        for who, path in conflict.fields
    ]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = []
        for who in dict.fromkeys(who for who, _path in conflict.fields):
            lines.append(f"conflicts with {_manager_shown(who)}:")
            lines += [f"- {ownership.shown(path)}" for other, path in conflict.fields if other == who]
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return StatusError(409, "Conflict", message, {"causes": causes})


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_patch(result.get(name), value)
    return result


def _json_patch(target: Any, patch: list[Object]) -> Any:
    """RFC 6902: add, replace, remove and test."""
    for step in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        node = target
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        at: Any = last if isinstance(node, dict) else len(node) if last == "-" else int(last)
        if step["op"] == "test":
            if node[at] != step["value"]:
                raise StatusError(422, "Invalid", "the server rejected our request due to an error in our request")
        elif step["op"] == "remove":
            del node[at]
        elif step["op"] == "add" and isinstance(node, list):
            node.insert(at, step["value"])
        else:
            node[at] = step["value"]
    return target
