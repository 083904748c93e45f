"""tools/steps.py must never call a failed step passed, and must say where its log is."""

import pathlib
import runpy
import signal
import subprocess
import sys

import pytest

STEPS = pathlib.Path(__file__).parents[3] / "tools/steps.py"
# With semicolons, because a recipe's line would begin with a tab
MAKEFILE = """
good: ; @echo "TASK [build] ***"; echo "12 passed"
bad: ; @echo "first"; echo "what is wrong" >&2; exit 3
counts: ; @echo "=== 3 passed, 1 skipped in 0.10s ==="; echo "== 2 passed in 73.78s (0:01:13) =="; echo end
tests: ; @echo "E   assert 1 == 2"; echo "FAILED test_a.py::test_b"; for i in $$(seq 50); do echo recap; done; exit 1
slow: ; @echo "TASK [wait] ***"; sleep 30
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(STEPS), *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def test_all_pass(folder: pathlib.Path) -> None:
    ended = run(folder, "--show", "good", "demo", "good")
    assert ended.returncode == 0
    assert "12 passed" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("make demo: passed in ")
    assert (folder / ".cache/log/good.log").read_text() == "TASK [build] ***\n12 passed\n"


def test_a_failure_ends_the_run_and_shows_why_and_where(folder: pathlib.Path) -> None:
    ended = run(folder, "demo", "bad", "good")
    assert ended.returncode == 1
    assert "what is wrong" in ended.stdout
    assert ended.stdout.splitlines()[-1].endswith("in bad (log: .cache/log/bad.log)")
    assert "not run" in ended.stdout
    assert not (folder / ".cache/log/good.log").exists()


def test_a_failure_ends_with_the_tests_that_failed(folder: pathlib.Path) -> None:
    *_said, reason, failed, _last = run(folder, "demo", "tests").stdout.splitlines()
    assert reason.strip() == "E   assert 1 == 2"
    assert failed.strip() == "FAILED test_a.py::test_b"


def test_keep_going_runs_the_rest_and_fails_all_the_same(folder: pathlib.Path) -> None:
    ended = run(folder, "--keep-going", "test", "bad", "good")
    assert ended.returncode == 1
    assert "12 passed" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("make test: failed after ")


def test_a_stopped_run_is_not_a_passed_one(folder: pathlib.Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(STEPS), "demo", "slow"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "slow …\n"
        process.send_signal(signal.SIGTERM)
        said, _nothing = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "make demo: stopped after " in said


def test_a_record_keeps_the_last_result_of_each_target(folder: pathlib.Path) -> None:
    (folder / ".gitignore").write_text(".cache")
    someone = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["add", "."], [*someone, "commit", "-mx"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    run(folder, "--keep-going", "--record", "last.md", "test", "bad", "counts", "good")
    page = (folder / "last.md").read_text()
    rows = {line.split("`")[1]: line.split(" | ") for line in page.splitlines() if line.startswith("| `")}
    assert {name: row[1] for name, row in rows.items()} == {"bad": "failed", "counts": "passed", "good": "passed"}
    assert rows["counts"][3] == "3 passed, 1 skipped; 2 passed"
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert {row[5].removesuffix(" |") for row in rows.values()} == {head.stdout.strip()}
    (folder / "Makefile").write_text(MAKEFILE.replace("bad: ; ", "bad: ; @echo mended; exit 0; "))
    run(folder, "--record", "last.md", "test", "bad")
    again = (folder / "last.md").read_text()
    assert [line for line in again.splitlines() if "`bad`" not in line] == [
        line for line in page.splitlines() if "`bad`" not in line
    ]
    assert "| `bad` | passed |" in again
    assert again.count(", with changes |") == 1


def test_says_what_is_going_on_now() -> None:
    """A task from when it begins; of what isn't Ansible the last line, also when tasks ran before it."""
    activity = runpy.run_path(str(STEPS))["Activity"]()
    now = []
    for line in (
        "compiling",
        "TASK [Build Kubernetes' commands] *****",
        "ok: [localhost]",
        "INFO     [default > verify] Executing",
        "tests/test_answers.py ....   [ 83%]",
        "TASK [Start the edge] ****",
        "changed: [node2]",
    ):
        activity.feed(line)
        now.append(activity.now)
    assert now == [
        "compiling",
        *["Build Kubernetes' commands"] * 2,
        "default > verify",
        "tests/test_answers.py ....   [ 83%]",
        *["Start the edge"] * 2,
    ]
