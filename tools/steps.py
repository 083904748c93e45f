"""Run make targets one after the other: steps.py [--keep-going] [--show TARGET] [--record FILE] TITLE TARGET...

Each target's output goes to .cache/log/TARGET.log. The terminal shows what is being built or awaited and for how long,
at the end what passed; after a failure the last lines of the log and where it is, and at the very end the tests or
tasks that failed. A record is a page of Markdown with a row for each target: how it ended, when, and on which commit.
"""

import argparse
import collections
import dataclasses
import datetime
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import types

import rich.console
import rich.status
import rich.table
import rich.text

LOGS = pathlib.Path(".cache/log")
TAIL = 30  # lines of a failed step's log on the terminal
WRONG = 12  # lines of it that say what failed, at the very end
HEARTBEAT = 60.0  # seconds between lines where there is no terminal to redraw
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# What Ansible says before it says a task's name; of other output the last line stands for what is going on
ACTIVITY = re.compile(r"^(?:TASK|PLAY|RUNNING HANDLER) \[(.*)\]")
# What molecule says when it goes on to its next action, which may be tests and not tasks
ACTION = re.compile(r"^INFO +\[(.+)\] Executing$")
# pytest's last line, of which a scenario has one for each of its parts
COUNTS = re.compile(r"^=+ (.*\b(?:passed|failed|errors?)\b.*) in [0-9.]+s.* =+$")
# A test that failed, why, and a task that did. Molecule says much after them
FAILURE = re.compile(r"^(?:FAILED |ERROR [^ ]+::|E   +\S|fatal: )")
HEAD = ["| target | result | took | what it says | when | commit |", "| --- | --- | --- | --- | --- | --- |"]


@dataclasses.dataclass(slots=True)
class Step:
    """One make target: how it ended, how long it took in seconds and what it said last."""

    target: str
    state: str = "not run"
    seconds: float = 0.0
    last: str = ""

    @property
    def log(self) -> pathlib.Path:
        return LOGS / f"{self.target}.log"


class Activity:
    """What a running step is doing, fed line by line from its output."""

    def __init__(self) -> None:
        self.now = "starting"
        self.since = time.monotonic()
        self.last = ""
        self._tasks = False

    def feed(self, line: str) -> None:
        line = ANSI.sub("", line).strip(" \r\n=*")
        if not line:
            return
        self.last = line
        action, task = ACTION.match(line), ACTIVITY.match(line)
        self._tasks = bool(task) or (self._tasks and not action)
        if begun := action or task:
            self._start(begun[1])
        elif not self._tasks:
            self._start(line)

    def _start(self, what: str) -> None:
        if what != self.now:
            self.now, self.since = what, time.monotonic()


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def read_into(activity: Activity, process: subprocess.Popen[str], log: pathlib.Path) -> None:
    with log.open("w") as file:
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            activity.feed(line)


def run(step: Step, console: rich.console.Console) -> None:
    """Run one step to its end, showing what goes on; fills in the step."""
    LOGS.mkdir(parents=True, exist_ok=True)
    # Ansible and pytest measure and colour their output for the terminal, which the log isn't
    environment = os.environ | {
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": str(min(console.width, 120)),
        # Where skipped hosts are hidden, a task is named when it has ended, not when it begins
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true",
    }
    began = time.monotonic()
    process = subprocess.Popen(
        ["make", step.target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        process_group=0,  # so that stopping reaches what make has started too
    )
    activity = Activity()
    reader = threading.Thread(target=read_into, args=(activity, process, step.log), daemon=True)
    reader.start()
    try:
        if console.is_terminal:
            follow_on_terminal(step, process, activity, console, began)
        else:
            follow_in_lines(step, process, activity, console, began)
    except KeyboardInterrupt:
        stop(process)
        step.state = "stopped"
        raise
    finally:
        reader.join(timeout=5)
        step.seconds = time.monotonic() - began
        step.last = activity.last
    step.state = "failed" if process.returncode else "passed"


def stop(process: subprocess.Popen[str]) -> None:
    """End a step with all that it has started, politely first."""
    for number, patience in ((signal.SIGINT, 20), (signal.SIGTERM, 5), (signal.SIGKILL, None)):
        os.killpg(process.pid, number)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def follow_on_terminal(
    step: Step, process: subprocess.Popen[str], activity: Activity, console: rich.console.Console, began: float
) -> None:
    with rich.status.Status("", console=console) as status:
        while process.poll() is None:
            now = time.monotonic()
            text = rich.text.Text(f"{step.target}, {duration(now - began)}: {activity.now}", overflow="ellipsis")
            if now - activity.since >= 5:
                text.append(f" ({duration(now - activity.since)})", style="dim")
            text.no_wrap = True
            status.update(text)
            time.sleep(0.25)


def follow_in_lines(
    step: Step, process: subprocess.Popen[str], activity: Activity, console: rich.console.Console, began: float
) -> None:
    said, shown = time.monotonic(), ""
    console.print(f"{step.target} …", highlight=False)
    while process.poll() is None:
        time.sleep(0.25)
        now = time.monotonic()
        # A new line for each task that takes its time, and a sign of life for the longest
        new = activity.now != shown and now - activity.since >= 10
        if new or now - said >= HEARTBEAT:
            said, shown = now, activity.now
            console.print(
                f"  {step.target}, {duration(now - began)}: {activity.now} ({duration(now - activity.since)})",
                highlight=False,
                markup=False,
            )


def show_failure(step: Step, console: rich.console.Console) -> None:
    with step.log.open(errors="replace") as file:
        tail = collections.deque(file, maxlen=TAIL)
    console.rule(f"the end of {step.log}")
    console.print("".join(tail).rstrip(), markup=False, highlight=False)
    console.rule()


def summary(title: str, steps: list[Step], console: rich.console.Console) -> None:
    table = rich.table.Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    styles = {"passed": "green", "failed": "bold red", "stopped": "yellow", "not run": "dim"}
    for step in steps:
        detail = step.last if step.state == "passed" else str(step.log) if step.state != "not run" else ""
        table.add_row(
            step.target,
            rich.text.Text(step.state, style=styles[step.state]),
            duration(step.seconds),
            rich.text.Text(detail),
        )
    console.print()
    console.print(table)
    took = duration(sum(step.seconds for step in steps))
    bad = [step for step in steps if step.state in ("failed", "stopped")]
    for step in bad:
        for line in failures(step):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if bad:
        where = ", ".join(f"{step.target} (log: {step.log})" for step in bad)
        console.print(f"make {title}: {bad[0].state} after {took} in {where}", highlight=False, soft_wrap=True)
    else:
        console.print(f"make {title}: passed in {took}", highlight=False)


def failures(step: Step) -> list[str]:
    """The last lines of a step's log that name a failed test or task and its reason, each shortened."""
    with step.log.open(errors="replace") as file:
        found = (line for raw in file if FAILURE.match(line := ANSI.sub("", raw).rstrip()))
        return [line[:300] for line in collections.deque(found, maxlen=WRONG)]


def said(step: Step) -> str:
    """What a step says of itself: the tests it counted, or its last line."""
    lines = [ANSI.sub("", line).strip() for line in step.log.read_text(errors="replace").splitlines()]
    counts = [match[1] for line in lines if (match := COUNTS.match(line))]
    return "; ".join(counts) or step.last.replace("|", " ").replace(f"{pathlib.Path.cwd()}/", "")


def commit(page: pathlib.Path) -> str:
    """The commit that is checked out, with a mark where files other than the page differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", f":!{page}")
    return git("rev-parse", "--short", "HEAD") + (", with changes" if changed else "")


def record(file: pathlib.Path, title: str, step: Step, on: str) -> None:
    """Write how a step ended into the page, in the place of what it said of the same target."""
    rows: dict[str, str] = {}
    if file.exists():
        found = [line for line in file.read_text().splitlines() if line.startswith("| `")]
        rows = {line.split("`")[1]: line for line in found}
    today = datetime.datetime.now(datetime.UTC).date()
    cells = (f"`{step.target}`", step.state, duration(step.seconds), said(step), str(today), on)
    rows[step.target] = f"| {' | '.join(cells)} |"
    intro = f"Written by `make {title}`: the last run of each of its targets, and the commit that it ran on."
    file.write_text("\n".join(["# What passed last", "", intro, "", *HEAD, *rows.values(), ""]))


def interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep-going", action="store_true", help="run the targets after a failed one too")
    parser.add_argument("--show", default="", help="print what this target said")
    parser.add_argument("--record", type=pathlib.Path, help="keep each target's result in this page")
    parser.add_argument("title")
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    console = rich.console.Console()
    steps = [Step(target) for target in options.targets]
    signal.signal(signal.SIGTERM, interrupt)
    try:
        for step in steps:
            on = commit(options.record) if options.record else ""
            run(step, console)
            if options.record:
                record(options.record, options.title, step, on)
            console.print(f"{step.target} {step.state}, {duration(step.seconds)}", highlight=False)
            if step.target == options.show:
                console.print(step.log.read_text(), markup=False, highlight=False, soft_wrap=True)
            if step.state == "failed":
                show_failure(step, console)
                if not options.keep_going:
                    break
    except KeyboardInterrupt:
        console.print(f"Stopped; make {options.title} goes on from there")
    summary(options.title, steps, console)
    return 0 if all(step.state == "passed" for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
