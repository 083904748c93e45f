"""Change the code in small ways and see whether the unit tests notice: mutants.py [--sample N] [--all]

The modules of WHOLE are changed everywhere; of those of SAMPLED a sample is tried, always the same of the same code.
Everything happens on a copy in .cache/mutants, by mutmut. What no test noticed ends up in survivors.diff there.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / ".cache/mutants"
MODULES = "ansible_collections/edgeway/istio/plugins/module_utils"
WHOLE = ("_model", "_ports", "_changes")
SAMPLED = (
    "_reader",
    *(
        f"model/{name}"
        for name in ("_entry", "_gateways", "_tls", "_backends", "_routes", "_matches", "_filters", "_names")
    ),
    *(f"model/{name}" for name in ("_across", "_shapes", "_rules")),
)
SEED = 8
# Properties and whole clusters would find more, and take minutes a mutant
TESTS = (
    *(f"tests/unit/model/test_{name}.py" for name in ("design_example", "generators", "ports", "right_lists")),
    *(f"tests/unit/model/test_{name}.py" for name in ("values", "wrong_lists", "plan")),
    "tests/unit/apply/test_exposures.py",
)
KILLED, SURVIVED, UNTESTED, TIMEOUT = "killed", "survived", "untested", "timeout"
# mutmut's own numbers; a mutant that never ends is noticed too
OUTCOMES = {0: SURVIVED, 1: KILLED, 3: KILLED, 5: UNTESTED, 33: UNTESTED, 24: TIMEOUT, -24: TIMEOUT, 36: TIMEOUT}


def prepare() -> None:
    """Lay a copy out as mutmut wants it: the modules' names are their paths."""
    shutil.rmtree(FOLDER / "mutants", ignore_errors=True)
    copy = subprocess.run(
        ["tools/copy-collection", str(FOLDER.relative_to(ROOT))], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in ("tests", "docs"):
        (FOLDER / name).unlink(missing_ok=True)
        (FOLDER / name).symlink_to(pathlib.Path(copy) / name)
    lines = {
        "source_paths": ["ansible_collections/edgeway/istio/plugins"],
        "only_mutate": [f"{MODULES}/{name}.py" for name in (*WHOLE, *SAMPLED)],
        "also_copy": ["docs"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": list(TESTS),
    }
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    options = '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\npythonpath = [".", "tests"]\n'
    (FOLDER / "pyproject.toml").write_text(f"[tool.mutmut]\n{settings}\n{options}", encoding="utf-8")


def run(names: list[str]) -> None:
    """Try mutants, by names or patterns. mutmut redraws one line without end: that goes to a file."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    log = FOLDER / "mutmut.log"
    command = ["mutmut", "run", "--max-children", "2", *names]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=FOLDER, env=environment, check=False, stdout=file, stderr=file)
    if done.returncode:
        sys.exit(f"mutmut ended with {done.returncode}: see {log.relative_to(ROOT)}")


def outcomes(module: str) -> dict[str, int | None]:
    path = FOLDER / "mutants" / MODULES / f"{module}.py.meta"
    found: dict[str, int | None] = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=600, help="how many of the modules that are sampled (600)")
    parser.add_argument("--all", action="store_true", help="all of every module")
    options = parser.parse_args()
    prepare()
    dotted = MODULES.replace("/", ".")
    run([] if options.all else [f"{dotted}.{module}.*" for module in WHOLE])
    if not options.all and options.sample:
        names = sorted(name for module in SAMPLED for name in outcomes(module))
        run(sorted(random.Random(SEED).sample(names, min(options.sample, len(names)))))  # noqa: S311 - a sample
    survivors: list[str] = []
    print(f"\n{'module':15} {'mutants':>8} {'tried':>6} {'noticed':>8} {'survived':>9} {'untested':>9} {'score':>7}")
    for title, modules in (*((module, (module,)) for module in (*WHOLE, *SAMPLED)), ("all", (*WHOLE, *SAMPLED))):
        found = {name: code for module in modules for name, code in outcomes(module).items()}
        kinds = collections.Counter(OUTCOMES.get(code, KILLED) for code in found.values() if code is not None)
        tried, noticed = kinds.total(), kinds[KILLED] + kinds[TIMEOUT]
        score = f"{100 * noticed / tried:.1f} %" if tried else "-"
        print(
            f"{title:15} {len(found):8} {tried:6} {noticed:8} {kinds[SURVIVED]:9} {kinds[UNTESTED]:9} {score:>7}",
        )
        if title != "all":
            survivors += [
                name
                for name, code in found.items()
                if OUTCOMES.get(-1 if code is None else code) in (SURVIVED, UNTESTED)
            ]
    shown = [
        subprocess.run(["mutmut", "show", name], cwd=FOLDER, capture_output=True, text=True, check=False).stdout
        for name in dict.fromkeys(survivors)
    ]
    (FOLDER / "survivors.diff").write_text("\n".join(shown), encoding="utf-8")
    print(f"What was not noticed: {FOLDER.relative_to(ROOT)}/survivors.diff")
    return 0


if __name__ == "__main__":
    sys.exit(main())
