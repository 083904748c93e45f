# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run istioctl or Helm from a module, against the cluster that the module's authentication options name."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils.installation import _settings
from ansible_collections.edgeway.istio.plugins.module_utils.installation._installers import InstallerError, Run


def runner(module: Any, executable: str, context_flag: str) -> Run:
    """Return a function that runs the program for an AnsibleModule; raise InstallerError where it isn't there."""
    program = module.get_bin_path(executable)
    if program is None:
        raise InstallerError(
            f"executable: {executable} isn't there, or isn't executable. Put it on PATH, or give the path to it."
        )
    kubeconfig, context = _settings.kubeconfig(module.params, os.environ)
    if isinstance(kubeconfig, dict):
        path = os.path.join(module.tmpdir, "kubeconfig")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kubeconfig, file)
        kubeconfig = path
    environment = {"KUBECONFIG": kubeconfig} if kubeconfig else {}
    where = [f"{context_flag}={context}"] if context else []

    def call(arguments: Sequence[str], text: str) -> tuple[int, str, str]:
        code, out, err = module.run_command([program, *arguments, *where], data=text, environ_update=environment)
        return int(code), str(out), str(err)

    return call
