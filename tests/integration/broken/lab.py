"""Set-ups on the lab: applied one after the other, looked at from outside, cured, and taken away again.

Everything lies in namespaces of its own, fx-…: a control plane of revision fx, a gateway, applications. The gateway has
an address of its own; a route on the host leads to it through one node.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _findings, _publish
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, connect
from ansible_collections.edgeway.istio.plugins.module_utils._model import parse
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _snapshot
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import Finding

from . import setups
from .ask import ask
from .setups import SetUp, State

ROOT = pathlib.Path(__file__).parents[3]
BIN = ROOT / ".lab/bin"
KUBECONFIG = ROOT / ".lab/kubeconfig"
NAMESPACES = ("fx-system", "fx-edge", "fx-app", "fx-b", "fx-mesh")
ROUTE = [f"{setups.VIP}/32", "via", "10.77.0.11"]

Json = dict[str, Any]


def run(
    *command: str, text: str | None = None, check: bool = True, timeout: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run a command of the lab."""
    full = [str(BIN / command[0]), "--kubeconfig", str(KUBECONFIG), *command[1:]]
    ended = subprocess.run(full, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    if check and ended.returncode:
        raise RuntimeError(f"{' '.join(command[:6])}: {ended.stderr.strip()[-600:]}")
    return ended


def kubectl(*arguments: str, **more: Any) -> str:
    """What kubectl prints."""
    return run("kubectl", *arguments, **more).stdout


def _apply(manifests: Iterable[Json]) -> None:
    text = "\n---\n".join(json.dumps(one) for one in manifests)
    if text:
        kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=fx", "-f", "-", text=text)


def up() -> None:
    """Install the control plane and the gateway, start the applications, and lead the address to them."""
    whole = setups.manifests(setups.base())
    _apply(one for one in whole if one["kind"] == "Namespace")
    # Both control planes write their root certificate into every namespace: they must mean the same
    secret = json.loads(kubectl("get", "secret", "-n", "istio-system", "istio-ca-secret", "-o", "json"))
    _apply([{part: secret[part] for part in ("apiVersion", "kind", "type", "data")}
            | {"metadata": {"name": "istio-ca-secret", "namespace": "fx-system"}}])  # fmt: skip
    run("istioctl", "install", "-y", "-f", str(pathlib.Path(__file__).with_name("istio.yml")), timeout=300)
    _apply(one for one in whole if one["kind"] != "Namespace")
    _address()
    if not subprocess.run(["ip", "route", "show", ROUTE[0]], capture_output=True, text=True, check=True).stdout:
        subprocess.run(["ip", "route", "add", *ROUTE], check=True)
    for namespace in NAMESPACES[1:]:
        kubectl("rollout", "status", "deployment", "-n", namespace, "--timeout=180s")


def _address() -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": setups.VIP}]}}}
    kubectl(
        "patch",
        "service",
        "-n",
        "fx-edge",
        "fx-gateway",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps(status),
    )


def down() -> None:
    """Take all of it away."""
    subprocess.run(["ip", "route", "del", *ROUTE], check=False, capture_output=True)
    run("istioctl", "uninstall", "-y", "--revision", "fx", "--istioNamespace", "fx-system", check=False, timeout=300)
    found = json.loads(kubectl("get", "namespaces", "-o", "json"))["items"]
    names = [one["metadata"]["name"] for one in found if one["metadata"]["name"].startswith("fx-")]
    if names:
        kubectl("delete", "namespace", "--wait=true", "--timeout=120s", *names, timeout=180)
    for kind in ("clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        for one in json.loads(kubectl("get", kind, "-o", "json"))["items"]:
            if one["metadata"]["name"].endswith("-fx-system"):
                kubectl("delete", kind, one["metadata"]["name"])


# Applying


def cluster() -> Cluster:
    """The lab's API server."""
    return connect({"kubeconfig": str(KUBECONFIG)})


@contextlib.contextmanager
def applied(setup: SetUp) -> Iterator[Applied]:
    """Have a set-up's states applied; what they changed is put back at the end."""
    there = Applied(setup)
    try:
        yield there
    finally:
        there.remove()


class Applied:
    """A set-up on the lab, in one of its states."""

    def __init__(self, setup: SetUp) -> None:
        self.setup = setup
        self.saved: dict[str, Json] = {}
        self.there: dict[str, Json] = {}
        self.published = False
        self.before: list[Finding] = []

    def become(self, state: State) -> None:
        """Make the lab hold a state of the set-up; `before` is what was found of its list before that was written."""
        for key in list(self.there):
            if key not in state.objects or _is_another(self.there[key], setups.manifest(key, state.objects[key])):
                self._delete(key)
        for key, saved in list(self.saved.items()):
            if key not in state.patch:
                _restore(key, saved)
                del self.saved[key]
        for key, patch in state.patch.items():
            self._patch(key, patch)
        # One after the other, a second apart where their age decides
        for key, body in state.objects.items():
            manifest = _for_revision(setups.manifest(key, body))
            _apply([manifest])
            if "status" in manifest:
                _status(manifest)
            if "a-first" in key or "a-old" in key:
                time.sleep(1.1)
            self.there[key] = manifest
        for manifest in self.there.values():
            if manifest["kind"] == "Deployment" and _starts(manifest):
                where = ["-n", manifest["metadata"]["namespace"], f"deployment/{manifest['metadata']['name']}"]
                kubectl("rollout", "status", *where, "--timeout=60s", check=False)
        for key in {*state.patch, *self.saved}:
            kind, _space, place = key.partition(" ")
            if kind == "Deployment" and "localhost/lab/nothing:1" not in json.dumps(state.patch.get(key, {})):
                namespace, name = place.split("/")
                kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", "--timeout=90s", check=False)
        self.before = ours(self.setup, state) if state.exposures else []
        self._publish(state)

    def _publish(self, state: State) -> None:
        if not (state.exposures or self.published):
            return
        options = _publish.Options(
            set_name="fx", api=self.setup.api, gateway=self.setup.gateway, validate=False, wait=False,
            force=True,  # whatever stands in the set-up's patch
            state="present" if state.exposures else "absent",
        )  # fmt: skip
        _publish.publish(state.exposures, options, cluster())
        self.published = bool(state.exposures)

    def _patch(self, key: str, patch: Json) -> None:
        kind, _space, place = key.partition(" ")
        namespace, _slash, name = place.partition("/")
        where = ["-n", namespace, kind.lower(), name]
        if key not in self.saved:
            self.saved[key] = json.loads(kubectl("get", *where, "-o", "json"))
        how = "strategic" if kind == "Deployment" else "merge"
        plain = {part: body for part, body in patch.items() if part != "status"}
        if plain:
            kubectl("patch", *where, f"--type={how}", "--field-manager=fx-patch", "-p", json.dumps(plain))
        if "status" in patch:
            kubectl(
                "patch", *where, "--subresource=status", "--type=merge", "-p", json.dumps({"status": patch["status"]})
            )

    def _delete(self, key: str) -> None:
        manifest = self.there.pop(key)
        if manifest["kind"] == "Namespace" and manifest["metadata"]["name"] in NAMESPACES:
            return
        group = manifest["apiVersion"].rpartition("/")[0]
        kind = f"{manifest['kind'].lower()}{'.' + group if group else ''}"
        where = ["-n", manifest["metadata"]["namespace"]] if "namespace" in manifest["metadata"] else []
        kubectl(
            "delete", kind, *where, manifest["metadata"]["name"], "--ignore-not-found", "--wait=true", "--timeout=60s"
        )

    def remove(self) -> None:
        """Put everything back."""
        self._publish(State([], {}, {}))
        order = sorted(self.there, key=lambda key: key.startswith("Namespace"))
        for key in order:
            self._delete(key)
        for key, saved in self.saved.items():
            _restore(key, saved)
        self.saved.clear()
        if any(key.startswith("Secret fx-edge/") for key in order):
            time.sleep(3)  # a listener that drains keeps its certificate, also for the next one of that name


def _is_another(before: Json, after: Json) -> bool:
    """Whether an object can only be made anew: a Deployment's selector, an ExternalName and back."""
    return bool(before["kind"] == "Service" and before["spec"].get("type") != after["spec"].get("type"))


def _for_revision(manifest: Json) -> Json:
    if manifest["kind"] == "Gateway" and manifest["apiVersion"].startswith("gateway."):
        labels = {"istio.io/rev": "fx", **(manifest["metadata"].get("labels") or {})}
        return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}
    return manifest


def _starts(manifest: Json) -> bool:
    containers = manifest["spec"]["template"]["spec"]["containers"]
    probes = [((one.get("readinessProbe") or {}).get("tcpSocket") or {}).get("port") for one in containers]
    return 1 not in probes and all(one["image"] != "auto" for one in containers)


def _status(manifest: Json) -> None:
    where = ["-n", manifest["metadata"]["namespace"], manifest["kind"].lower(), manifest["metadata"]["name"]]
    kubectl("patch", *where, "--subresource=status", "--type=merge", "-p", json.dumps({"status": manifest["status"]}))


def _restore(key: str, saved: Json) -> None:
    kind, _space, place = key.partition(" ")
    namespace, _slash, name = place.partition("/")
    where = ["-n", namespace, kind.lower(), name]
    parts = [part for part in ("spec", "data") if part in saved]
    operations = [{"op": "replace", "path": f"/{part}", "value": saved[part]} for part in parts]
    kubectl("patch", *where, "--type=json", "-p", json.dumps(operations))
    if kind == "Service":
        _address()
    if kind == "Deployment":
        kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", "--timeout=120s", check=False)


# Looking


def observed(text: str, *, seconds: float = 4.0) -> str:
    """What a client sees once nothing changes any more."""
    time.sleep(seconds)
    last, again = ask(text), ""
    for _attempt in range(6):
        time.sleep(1.0)
        again = ask(text)
        if _plain(again) == _plain(last):
            return again
        last = again
    return again


def _plain(text: str) -> str:
    """Two versions that share the requests are one answer."""
    return text.replace(" v2", " v1")


def until_good(text: str, seconds: float = 25.0) -> str:
    """What a client sees, waiting for success twice in a row."""
    began, good, last = time.monotonic(), 0, ""
    while time.monotonic() - began < seconds and good < 2:
        last = ask(text)
        good = good + 1 if succeeded(last) else 0
        time.sleep(0.5)
    return last


def succeeded(seen: str) -> bool:
    """Whether that is what a client wants."""
    parts = [part.strip() for part in seen.replace(" at the node", "").split(", ")]
    parts = [part.removeprefix("then ") for part in parts]
    return all(part.startswith(("200", "answered", "OK")) for part in parts)


def ours(setup: SetUp, state: State) -> list[Finding]:
    """What the collection finds, about the list or about the corpus's own objects."""
    model = parse(state.exposures, set_name="fx", api=setup.api, gateway=setup.gateway) if state.exposures else None
    # Names below `example` are never looked up
    snapshot = replace(_snapshot.read(cluster(), model), dns=setup.dns, asked=frozenset(setup.dns))
    if model is not None:
        return _findings.findings(model, snapshot, edges=setup.edges)
    found = _findings.survey(snapshot, edges=setup.edges)
    return [one for one in found if any("fx-" in name for name in one.objects) or "kube-proxy" in " ".join(one.objects)]


def analyzed() -> set[tuple[str, str, str]]:
    """What `istioctl analyze` says of all namespaces: (code, level, origin), warnings and errors."""
    ended = run(
        "istioctl", "analyze", "--all-namespaces", "--revision", "fx", "--istioNamespace", "fx-system",
        "--output", "json", "--failure-threshold", "Error", check=False,
    )  # fmt: skip
    start = ended.stdout.find("[")
    messages = json.loads(ended.stdout[start:]) if start >= 0 else []
    return {
        (str(one.get("code")), str(one.get("level")), str(one.get("origin")))
        for one in messages
        if one.get("level") in ("Warning", "Error")
    }


def refused(setup: SetUp, state: State) -> str:
    """What the API server says of the set-up's objects in a dry run; empty where it takes them all."""
    manifests = [_for_revision(one) for one in setups.manifests(state.objects)]
    if state.exposures:
        options = _publish.Options(
            set_name="fx", api=setup.api, gateway=setup.gateway, state="rendered", validate=False
        )
        manifests += _publish.render(state.exposures, options).manifests
    manifests = [one for one in manifests if one["kind"] not in ("Namespace", "Secret")]
    text = "\n---\n".join(json.dumps(one) for one in manifests)
    if not text:
        return ""
    ended = run("kubectl", "apply", "--server-side", "--force-conflicts", "--field-manager=fx-dry", "--dry-run=server",
                "-f", "-", text=text, check=False)  # fmt: skip
    told = [line for line in ended.stderr.splitlines() if line.strip()]
    return told[0][:200] if told else ""
