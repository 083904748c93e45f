"""The module edge_files, whole: all files of an edge are written, or none."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.edgeway.istio.plugins.modules import edge_files

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_module(*files: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "files": list(files),
            **options,
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(tmp_path),
        }
        printed = io.StringIO()
        with patch_module_args(arguments), redirect_stdout(printed), pytest.raises(SystemExit):
            edge_files.main()
        result: dict[str, Any] = json.loads(printed.getvalue().strip().splitlines()[-1])
        return result

    return run_module


def test_writes_and_then_changes_nothing(run: Run, tmp_path: Path) -> None:
    script, settings = tmp_path / "new/folder/script", tmp_path / "settings"
    settings.write_text("old\n")
    files = [
        {"path": str(script), "content": "#!/bin/sh\n", "mode": "0755"},
        {"path": str(settings), "content": "new\n", "mode": "0640", "validate": "grep -q new %s"},
    ]
    would = run(*files, check=True)
    assert not script.exists()
    did = run(*files)
    assert (would["changed"], would["written"], would["diff"]) == (True, did["written"], did["diff"])
    assert did["written"] == [str(script), str(settings)]
    assert (script.read_text(), script.stat().st_mode & 0o777) == ("#!/bin/sh\n", 0o755)
    assert (settings.read_text(), settings.stat().st_mode & 0o777) == ("new\n", 0o640)
    assert did["diff"][1]["before"] == "old\n"
    again = run(*files)
    assert (again["changed"], again["written"]) == (False, [])
    settings.chmod(0o644)
    assert run(*files)["written"] == [str(settings)]
    assert settings.stat().st_mode & 0o777 == 0o640


def test_all_is_put_back_when_one_is_refused(run: Run, tmp_path: Path) -> None:
    made, kept, refused = tmp_path / "made", tmp_path / "kept", tmp_path / "refused"
    kept.write_text("before\n")
    kept.chmod(0o600)
    refused.write_text("good\n")
    result = run(
        {"path": str(made), "content": "x\n"},
        {"path": str(kept), "content": "after\n"},
        {"path": str(refused), "content": "bad\n", "validate": "sh -c 'cat $0 >&2; exit 1' %s"},
    )
    assert result["failed"]
    assert result["msg"] == f"{refused}: not written, and all other files are as they were: bad"
    assert not made.exists()
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("before\n", 0o600)
    assert refused.read_text() == "good\n"


def test_what_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run({"path": str(tmp_path / "file/below"), "content": ""})
    assert result["failed"]
    assert "file/below" in result["msg"]


def test_what_was_there_is_kept_on_demand(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keepalived.conf"
    path.write_text("by hand\n")
    (backup,) = run({"path": str(path), "content": "ours\n", "backup": True})["backups"]
    assert Path(backup).read_text() == "by hand\n"


def test_what_was_written_and_never_applied_is_written_still(run: Run, tmp_path: Path) -> None:
    """As after a run that another edge broke off: nothing is left to write here, and nothing was loaded."""
    one, two, pending = tmp_path / "one", tmp_path / "two", tmp_path / "run/pending"
    files = [{"path": str(one), "content": "1\n"}, {"path": str(two), "content": "2\n"}]
    assert run(*files, check=True, pending=str(pending))["written"] == [str(one), str(two)]
    assert not pending.exists()
    run(*files[:1], pending=str(pending))
    for check in (True, False, True):
        again = run(*files[:1], check=check, pending=str(pending))
        assert (again["changed"], again["written"], again["diff"]) == (True, [str(one)], [])
    assert run(*files, pending=str(pending))["written"] == [str(one), str(two)]
    pending.unlink()
    again = run(*files, pending=str(pending))
    assert (again["changed"], again["written"]) == (False, [])
    assert not pending.exists()


def test_what_is_put_back_needs_no_applying(run: Run, tmp_path: Path) -> None:
    one, refused, pending = tmp_path / "one", tmp_path / "refused", tmp_path / "pending"
    bad = {"path": str(refused), "content": "bad\n", "validate": "false %s"}
    assert run({"path": str(one), "content": "1\n"}, bad, pending=str(pending))["failed"]
    assert not pending.exists()
    run({"path": str(one), "content": "1\n"}, pending=str(pending))
    assert run({"path": str(one), "content": "2\n"}, bad, pending=str(pending))["failed"]
    assert pending.read_text() == f"{one}\n"


def test_folders_are_open_whatever_the_umask(run: Run, tmp_path: Path) -> None:
    """The user that checks run as must get to them."""
    before = os.umask(0o077)
    try:
        run({"path": str(tmp_path / "a/b/check"), "content": "", "mode": "0755"})
    finally:
        os.umask(before)
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("a", "a/b", "a/b/check")]
    assert modes == [0o755] * 3
