"""Runs ansible-playbook: tasks against an API server in memory, and the collection's own playbooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from memory_api import Server

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]


def collection(
    playbook: str, *options: str, folder: Path = ROOT, inventory: str = "localhost,"
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a playbook of the collection in `folder`, with the checkout's ansible.cfg, whatever comes of it."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", inventory, *options]
    more = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PWD": str(folder)}
    return subprocess.run(
        [*command, str(ROOT / f"playbooks/{playbook}.yml")],
        cwd=folder, env=os.environ | more, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def play(
    server: Server, folder: Path, interpreter: str, wanted: dict[str, Json], *options: str
) -> tuple[dict[str, Json], str]:  # fmt: skip
    """Run tasks in one playbook; return what they registered, and all that was printed."""
    kubeconfig, playbook, results = folder / "kubeconfig", folder / "play.yml", folder / "results"
    kubeconfig.write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
    names = {name: name.replace(" ", "_") for name in wanted}
    tasks: list[Json] = [
        {"name": name, **task, "register": names[name], "ignore_errors": True} for name, task in wanted.items()
    ]
    kept = ", ".join(f"'{name}': {variable}" for name, variable in names.items())
    tasks.append(
        {
            "name": "Keep the results",
            "ansible.builtin.copy": {"content": f"{{{{ {{{kept}}} | to_json }}}}", "dest": str(results)},
            "check_mode": False,
            "no_log": True,
        }
    )
    settings = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    variables = {"ansible_python_interpreter": interpreter}
    playbook.write_text(json.dumps([{**settings, "vars": variables, "tasks": tasks}]), encoding="utf-8")
    environment = {
        **{
            key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH", "KUBECONFIG", "ANSIBLE"))
        },
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "KUBECONFIG": str(kubeconfig),
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", *options, str(playbook)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(results.read_text(encoding="utf-8")), done.stdout + done.stderr
