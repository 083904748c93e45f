"""Stand-ins for istioctl and Helm, run as programs: they render what a test says and apply it as the real ones do.

    programs.py istioctl|helm FOLDER ARGUMENTS...

FOLDER holds rendered.json (istioctl: a list of objects; helm: a list for each release), and afterwards calls.json, and
for helm releases.json. `fail.json` names a command that fails, with what it says.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

Object = dict[str, Any]
LABELS = {
    "operator.istio.io/managed": "Reconcile",
    "operator.istio.io/version": "1.31.0",
    "install.operator.istio.io/owning-resource-namespace": "istio-system",
}
KEPT = "install.operator.istio.io/owning-resource-not-pruned"


def main(program: str, folder: Path, arguments: list[str]) -> str:
    text = sys.stdin.read() if any(each in ("--filename=-", "--values=-") for each in arguments) else ""
    note(folder, arguments, text)
    failing = read(folder / "fail.json", {})
    if arguments[0] in failing:
        raise SystemExit(failing[arguments[0]])
    return istioctl(folder, arguments, text) if program == "istioctl" else helm(folder, arguments)


def note(folder: Path, arguments: list[str], text: str) -> None:
    calls = read(folder / "calls.json", [])
    (folder / "calls.json").write_text(json.dumps([*calls, {"arguments": arguments, "input": text}]))


def read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


def request(method: str, path: str, body: Object | None = None) -> None:
    """Speak plain HTTP: what speaks it better takes longer to import than all the rest."""
    config = json.loads(Path(os.environ["KUBECONFIG"]).read_text())
    host, _colon, port = config["clusters"][0]["cluster"]["server"].removeprefix("http://").partition(":")
    kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
    sent = json.dumps(body).encode() if body else b""
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {kind}\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = connection.makefile("rb").read()
    if not answer.startswith(b"HTTP/1.1 2"):
        raise SystemExit(answer.decode(errors="replace"))


def documents(objects: list[Object]) -> str:
    """YAML, of which JSON is a part."""
    return "".join(f"---\n{json.dumps(each)}\n" for each in objects)


def path_of(manifest: Object) -> str:
    group, _slash, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"].lower()
    plural = kind[:-1] + "ies" if kind.endswith("y") else kind + "s"
    space = manifest["metadata"].get("namespace")
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{root}{f'/namespaces/{space}' if space else ''}/{plural}/{manifest['metadata']['name']}"


def apply(manifest: Object, manager: str) -> None:
    request("PATCH", f"{path_of(manifest)}?fieldManager={manager}&force=true", manifest)


def there(manifest: Object) -> bool:
    try:
        request("GET", path_of(manifest))
    except SystemExit:
        return False
    return True


def istioctl(folder: Path, arguments: list[str], text: str) -> str:
    if arguments[0] == "version":
        return json.dumps({"clientVersion": {"version": "1.31.0"}})
    if arguments[:2] == ["experimental", "precheck"]:
        return json.dumps(read(folder / "precheck.json", []))
    if arguments[:2] == ["tag", "set"]:
        (revision,) = (each.partition("=")[2] for each in arguments if each.startswith("--revision="))
        apply(tag(revision, {}), "istioctl")
        return ""
    rendered = read(folder / "rendered.json", [])
    if arguments[:2] == ["manifest", "generate"]:
        return documents(rendered)
    import yaml  # noqa: PLC0415 - only here is it worth the wait

    operator = yaml.safe_load(text)
    own = LABELS | {"install.operator.istio.io/owning-resource": operator["metadata"]["name"]}
    own["istio.io/rev"] = operator["spec"].get("revision", "default")
    for each in rendered:
        labels = each["metadata"].get("labels", {}) | own | {"operator.istio.io/component": "Pilot"}
        apply(each | {"metadata": each["metadata"] | {"labels": labels}}, "istio-operator")
    if own["istio.io/rev"] != "default" and there(tag("", {})):
        return ""  # it takes the tag for the default revision, or where nobody has it
    apply(tag(own["istio.io/rev"], own | {"operator.istio.io/component": "Pilot", KEPT: "true"}), "istio-operator")
    return ""


def tag(revision: str, labels: Object) -> Object:
    named = labels | {"istio.io/tag": "default", "istio.io/rev": revision}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    return kind | {"metadata": {"name": "istio-revision-tag-default", "labels": named}}


def helm(folder: Path, arguments: list[str]) -> str:
    releases = read(folder / "releases.json", {})
    rendered = read(folder / "rendered.json", {})
    command, flags = (
        arguments[0],
        dict(each.split("=", 1) for each in arguments if each.startswith("--") and "=" in each),
    )
    names = [each for each in arguments[1:] if not each.startswith("-")]
    if command == "version":
        return "v4.3.1"
    if command == "show":
        return documents([{"name": "istiod", "appVersion": "1.31.0"}])
    if command == "list":
        wanted = dict(each.split("=") for each in flags["--selector"].split(",")) if "--selector" in flags else {}
        return json.dumps([each for each in releases.values() if wanted.items() <= each["labels"].items()])
    if command == "template":
        return documents(rendered.get(names[0], []))
    if command == "get":
        return documents(releases[names[1]]["objects"])
    if command == "uninstall":
        for each in releases.pop(names[0])["objects"]:
            request("DELETE", path_of(each))
    if command == "upgrade":
        name, space = names[0], flags["--namespace"]
        marks = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": space}
        for each in rendered.get(name, []):
            metadata = each["metadata"] | {"annotations": marks}
            metadata["labels"] = metadata.get("labels", {}) | {"app.kubernetes.io/managed-by": "Helm"}
            apply(each | {"metadata": metadata}, "helm")
        labels = dict(each.split("=") for each in flags["--labels"].split(","))
        chart = Path(names[1]).name + "-1.31.0"
        releases[name] = {"name": name, "namespace": space, "status": "deployed", "chart": chart, "labels": labels}
        releases[name]["objects"] = rendered.get(name, [])
    (folder / "releases.json").write_text(json.dumps(releases))
    return ""


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
