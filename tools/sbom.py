"""Write dist/NAME-VERSION.cdx.json: what the collection needs, and what its tests and the lab are made of (CycloneDX).

What users install is `required`; what only this checkout uses, pinned and hashed, is `excluded`.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).parents[1]
PINNED = tuple(f"requirements-{part}.txt" for part in ("uv", "dev", "go", "envoy", "lowest"))
GO = ("lab/go", "tests/bench/go")

Json = dict[str, Any]


def component(purl: str, name: str, scope: str, version: str = "", **more: Any) -> Json:
    known = {"version": version} if version else {}
    return {"type": "library", "bom-ref": purl, "name": name, **known, "purl": purl, "scope": scope, **more}


def python() -> list[Json]:
    """The pinned Python packages with their hashes, as cyclonedx-py reads them."""
    command = ["cyclonedx-py", "requirements", "--no-validate", "--output-format", "JSON", "--spec-version", "1.6", "-"]
    text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in PINNED)
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout)
    return [{**one, "bom-ref": one["purl"], "scope": "excluded"} for one in found["components"]]


def needed(galaxy: Json) -> list[Json]:
    """What users install beside the collection: ranges, not versions."""
    found = [
        component(f"pkg:generic/{name}", name, "required", description=f"Ansible collection, {wanted}")
        for name, wanted in galaxy["dependencies"].items()
    ]
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        package = re.match(r"[A-Za-z0-9._-]+", line)
        if package:
            name = package[0].lower()
            found.append(component(f"pkg:pypi/{name}", package[0], "required", description=line))
    return found


def go() -> list[Json]:
    """The modules of the Go programs that are built here, with what go.sum says that they hash to."""
    found = {}
    for file in sorted(file for folder in GO for file in ROOT.glob(f"{folder}/*/go.sum")):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, version, digest = line.split()
            # A line for go.mod alone: of that module nothing is built
            if not version.endswith("/go.mod"):
                purl = f"pkg:golang/{name}@{version}"
                properties = [{"name": "go.sum", "value": digest}]
                found[purl] = component(purl, name, "excluded", version, properties=properties)
    return list(found.values())


def bill() -> Json:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    name = f"{galaxy['namespace']}.{galaxy['name']}"
    parts = {one["bom-ref"]: one for one in (*python(), *go(), *needed(galaxy))}
    root = f"pkg:generic/{name}@{galaxy['version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "bom-ref": root, "name": name, "version": galaxy["version"], "purl": root}
        },
        "components": [parts[key] for key in sorted(parts)],
        "dependencies": [
            {"ref": root, "dependsOn": sorted(one["bom-ref"] for one in needed(galaxy))},
        ],
    }


def main(folder: pathlib.Path) -> int:
    found = bill()
    text = json.dumps(found, indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        print(f"This is no CycloneDX 1.6: {wrong}", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    made = found["metadata"]["component"]
    path = folder / f"{made['name'].replace('.', '-')}-{made['version']}.cdx.json"
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path}: {len(found['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]) if sys.argv[1:] else ROOT / "dist"))
