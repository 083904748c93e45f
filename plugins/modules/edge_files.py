#!/usr/bin/python
# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module edge_files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_files
short_description: Write an edge's files, all of them or none
version_added: 0.1.0
author: Contributors to the edgeway.istio project (!UNKNOWN)
description:
  - Writes files that belong together, in the order given. When one of them is refused by its O(files[].validate), or
    can't be written, those before it are put back.
  - One task for all of them is also much faster than one for each. Missing folders are made, for root to write in.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
      mode:
        description: Its permissions, as an octal number in quotes.
        type: str
        default: "0644"
      validate:
        description: Command that must take the file before it is put in place, with C(%s) for its path.
        type: str
      backup:
        description: Whether to keep a copy of what was there.
        type: bool
        default: false
  pending:
    description:
      - Path of a file that lists what was written and not applied yet. What it lists is in RV(written) again, so that a
        run which ended before its handlers is made up for by the next one. Whoever has applied all of it removes the
        file.
      - A file below C(/run) is right for what a reboot applies.
    type: path
attributes:
  check_mode:
    description: Says what would be written. O(files[].validate) isn't run.
    support: full
  diff_mode:
    description: Shows each file before and after.
    support: full
"""

EXAMPLES = r"""
- name: Write keepalived's configuration and the script it runs
  edgeway.istio.edge_files:
    files:
      - path: /usr/libexec/keepalived-vip/notify
        content: "{{ lookup('ansible.builtin.template', 'notify.sh.j2') }}"
        mode: "0755"
      - path: /etc/keepalived/keepalived.conf
        content: "{{ lookup('ansible.builtin.template', 'keepalived.conf.j2') }}"
        validate: /usr/sbin/keepalived --config-test --use-file=%s
    pending: /run/keepalived.pending
  notify: Reload keepalived

- name: Reload it
  ansible.builtin.meta: flush_handlers

- name: Note that it is reloaded
  ansible.builtin.file:
    path: /run/keepalived.pending
    state: absent
  changed_when: false
"""

RETURN = r"""
written:
  description: Paths of the files that were written, or would be, and of those that O(pending) lists.
  returned: success
  type: list
  elements: str
  sample: [/etc/keepalived/keepalived.conf]
backups:
  description: Paths of the copies that were kept.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule


class Before(NamedTuple):
    """A file as it was found."""

    content: bytes
    mode: int


def _read(path: Path) -> Before | None:
    try:
        return Before(path.read_bytes(), path.stat().st_mode & 0o7777)
    except FileNotFoundError:
        return None


def _folder(path: Path) -> None:
    """Make a folder and those above it. Others may read in them, whatever root's umask is."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir()
        path.chmod(0o755)


def _put(module: AnsibleModule, path: Path, content: bytes, mode: int, validate: str | None = None) -> str:
    """Put a file in place in one step. Return what the validating command said against it, empty if nothing."""
    _folder(path.parent)
    number, name = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(number, "wb") as file:
        file.write(content)
    Path(name).chmod(mode)
    if validate:
        code, out, errors = module.run_command([part.replace("%s", name) for part in shlex.split(validate)])
        if code:
            return str(errors.strip() or out.strip() or f"it ended with {code}").replace(name, str(path))
    module.atomic_move(name, str(path))
    path.chmod(mode)
    return ""


def _put_back(module: AnsibleModule, done: list[tuple[Path, Before | None]]) -> None:
    for path, before in reversed(done):
        if before is None:
            path.unlink()
        else:
            _put(module, path, before.content, before.mode)


def _write(module: AnsibleModule, wanted: list[tuple[dict[str, Any], Before | None]]) -> list[str]:
    done: list[tuple[Path, Before | None]] = []
    backups = []
    for file, before in wanted:
        path = Path(file["path"])
        try:
            if file["backup"] and before is not None:
                backups.append(module.backup_local(str(path)))
            said = _put(module, path, file["content"].encode(), int(file["mode"], 8), file["validate"])
        except OSError as error:
            said = str(error)
        if said:
            _put_back(module, done)
            module.fail_json(msg=f"{path}: not written, and all other files are as they were: {said}")
        done.append((path, before))
    return backups


def main() -> None:
    """Run the module."""
    file = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
        "validate": {"type": "str"},
        "backup": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": file},
            "pending": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        found = [(file, _read(Path(file["path"]))) for file in module.params["files"]]
        pending = module.params["pending"]
        listed = _read(Path(pending)) if pending else None
    except OSError as error:
        module.fail_json(msg=f"{error}. Nothing was changed.")
    wanted = [
        (file, before)
        for file, before in found
        if before is None or (before.content, before.mode) != (file["content"].encode(), int(file["mode"], 8))
    ]
    earlier = listed.content.decode().splitlines() if listed else []
    written = list(dict.fromkeys([*earlier, *(file["path"] for file, _before in wanted)]))
    # Noted first: a run may end anywhere. It is put back with the files
    note = {"path": pending, "content": "".join(f"{path}\n" for path in written), "mode": "0644"}
    noted = [({**note, "validate": None, "backup": False}, listed)] if pending and wanted else []
    backups = [] if module.check_mode else _write(module, [*noted, *wanted])
    result: dict[str, Any] = {"written": written, "backups": backups}
    if module._diff:
        result["diff"] = [
            {
                "before_header": f"{file['path']}" + (f" (mode {before.mode:04o})" if before else " (missing)"),
                "after_header": f"{file['path']} (mode {int(file['mode'], 8):04o})",
                "before": before.content.decode(errors="replace") if before else "",
                "after": file["content"],
            }
            for file, before in wanted
        ]
    module.exit_json(changed=bool(written), **result)


if __name__ == "__main__":
    main()
