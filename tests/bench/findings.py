"""What is found of the broken set-ups, and of the sound ones: ours, `istioctl analyze`, and a server-side dry run.

Each set-up is applied on the lab that is up, in namespaces of its own; a client outside looks at it, broken and cured.
What was seen and said is kept in tests/integration/broken/observed.yml, from which the table is made.

    python -m bench.findings [--only NAME…] [--missing] [--keep] [--table FILE]

--missing goes on where a run before was stopped, --keep leaves control plane and gateway there for the next run, and
--table only writes the table anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError
from ansible_collections.edgeway.istio.plugins.module_utils.publish._write import ApplyError
from integration.broken import lab, setups
from integration.broken.setups import SetUp

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/findings-compared.md"
HEAD = """\
# Findings compared

The set-ups of tests/integration/broken, each applied on the lab: Kubernetes 1.34, Istio 1.31, kube-proxy in nftables
mode. Written by `make bench-findings`. A tool has found a broken set-up when it says anything about it that it doesn't
say of the base: of ours the finding that is meant, of `istioctl analyze` any warning or error, of the server's dry run
a refusal or a warning.

| set-ups | ours | istioctl analyze | server dry run |
| --- | ---: | ---: | ---: |"""
SEEN = "Of the broken ones a client outside looked at {asked}; after the cure {answered} of them were answered."
COLUMNS = """\
| set-up | finding | client sees | analyze | dry run | cured |
| --- | --- | --- | --- | --- | --- |"""


def look_at(setup: SetUp, before: set[tuple[str, str, str]]) -> Json:
    """Apply one set-up, look at it from everywhere, cure it, and take it away."""
    seen: Json = {"dry_run": lab.refused(setup, setup.broken)}
    if setup.unseen and not setup.ask:
        return seen | {"ours": _codes(_in_memory(setup))}
    with lab.applied(setup) as there:
        try:
            there.become(setup.broken)
        except (RuntimeError, ApplyError) as error:
            # Istio's webhook may know better: nobody gets that far then
            if "denied the request" not in str(error):
                raise
            seen["sees"] = "refused by the API server"
            seen["ours"] = _codes(_in_memory(setup))
        else:
            if setup.ask:
                seen["sees"] = lab.observed(setup.ask)
            # What a list would change is found before it is written, all else after it too
            seen["ours"] = _codes([*there.before, *lab.ours(setup, setup.broken)])
            # What came with the base doesn't count, and neither does what somebody else changes meanwhile
            said = {one for one in lab.analyzed() - before if "fx-" in one[2]}
            seen["analyze"] = sorted({f"{code} {level.lower()}" for code, level, _origin in said})
        if setup.cured is not None:
            there.become(setup.cured)
            if setup.ask:
                seen["then"] = lab.until_good(setup.ask)
            seen["left"] = _codes(lab.ours(setup, setup.cured))
    return seen


def _codes(found: Iterable[Any]) -> list[str]:
    return sorted({one.code for one in found if one.severity != "unknown"})


def _in_memory(setup: SetUp) -> list[Any]:
    from integration.broken import in_memory  # noqa: PLC0415 - only for what the lab can't show

    return in_memory.findings(setup, setup.broken)


def table(found: Json) -> str:
    """Return the page with the scores and every set-up."""
    broken = [one for one in setups.load("broken") if one.name in found]
    sound = [one for one in setups.load("sound") if one.name in found]

    def score(group: list[SetUp], key: str) -> int:
        return sum(bool(_told(one, found[one.name], key)) for one in group)

    kinds = (("broken, found", broken), ("sound, false alarms", sound))
    scores = [
        f"| {len(group)} {what} | "
        + " | ".join(str(score(group, key)) for key in ("ours", "analyze", "dry_run"))
        + " |"
        for what, group in kinds
    ]
    asked = sum(bool(found[one.name].get("sees")) for one in broken)
    answered = sum(lab.succeeded(found[one.name].get("then") or "-") for one in broken)
    lines = [*HEAD.splitlines(), *scores, "", SEEN.format(asked=asked, answered=answered)]
    family = ""
    for one in broken:
        if one.family != family:
            family = one.family
            lines += ["", f"## {family.replace('_', ' ').capitalize()}", ""]
            lines += COLUMNS.splitlines()
        told = found[one.name]
        mark = one.expect if _told(one, told, "ours") else f"{one.expect} (missed)"
        reports = ", ".join(one.reports)
        about = one.about.rstrip(".") + (f" ({reports})" if reports else "")
        sees = told.get("sees") or one.unseen.rstrip(".")
        if one.unseen and told.get("sees"):
            sees = f"{sees}. {one.unseen.rstrip('.')}"
        analyze = ", ".join(told.get("analyze") or ()) or ("" if "analyze" in told else "not run")
        cells = (about, mark, sees, analyze, told.get("dry_run") or "", told.get("then") or "")
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines += ["", "## Sound ones", "", "| set-up | client sees | analyze |", "| --- | --- | --- |"]
    for one in sound:
        told = found[one.name]
        row = (one.about.rstrip("."), told.get("sees") or "", ", ".join(told.get("analyze") or ()))
        lines.append("| " + " | ".join(_cell(cell) for cell in row) + " |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _cell(text: str) -> str:
    short = text if len(text) <= 170 else text[:167] + "..."
    return short.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _told(setup: SetUp, found: Json, key: str) -> bool:
    if key == "ours" and setup.expect:
        return setup.expect in found.get("ours", ())
    return bool(found.get(key))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--table", type=Path, default=None)
    options = parser.parse_args()
    found = setups.observed()
    if options.table is not None:
        options.table.write_text(table(found))
        return 0
    wanted = [one for one in (*setups.load("broken"), *setups.load("sound"))
              if (not options.only or one.name in options.only)
              and not (options.missing and one.name in found)]  # fmt: skip
    lab.up()
    failed = 0
    try:
        before = lab.analyzed()
        for number, setup in enumerate(wanted, 1):
            began = time.monotonic()
            try:
                found[setup.name] = look_at(setup, before)
            except (RuntimeError, ModelError, ClusterError, OSError, json.JSONDecodeError) as error:
                failed += 1
                print(f"{setup.name}: {error}", file=sys.stderr)
                traceback.print_exc(limit=3)
                continue
            setups.observe(found)
            told = found[setup.name]
            good = (not setup.expect or setup.expect in told["ours"]) and not told.get("left")
            good &= "then" not in told or lab.succeeded(told["then"])
            if not setup.expect:
                good &= not told["ours"] and lab.succeeded(told["sees"])
            shown = (
                f"{told.get('sees', 'not seen')} -> {told.get('then', '')}; {told['ours']} left {told.get('left', [])}"
            )
            mark = "ok  " if good else "BAD "
            took = time.monotonic() - began
            print(
                f"{number}/{len(wanted)} {mark} {setup.name}: {shown}; {told.get('analyze')}; {took:.0f} s", flush=True
            )
            failed += not good
    finally:
        if not options.keep:
            lab.down()
    TABLE.write_text(table(found))
    print("\n".join(TABLE.read_text().splitlines()[8:13]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
