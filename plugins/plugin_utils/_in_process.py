# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a module in Ansible's own process, where it would run on this machine with the same Python anyway.

Most of the time that a module takes to talk to the API server goes into packing it, starting a Python for it and
compiling it. Where the connection is local and the interpreter is Ansible's own, all of this is left out. Anywhere else
(another host, become, async, another interpreter) the module runs as modules do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible_collections.edgeway.istio.plugins.module_utils import _arguments, _calls


class InProcess(ActionBase):  # type: ignore[misc]  # Ansible says nothing of its types
    """An action that is a module. `spec` is the module's argument spec, `call` what it does."""

    TRANSFERS_FILES = False
    _supports_async = True
    _supports_check_mode = True
    _supports_diff = True

    spec: ClassVar[Mapping[str, Any]]
    call: ClassVar[staticmethod[[Mapping[str, Any], bool], _calls.Json]]

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._is_here(variables):
            wrap = self._task.async_val and not self._connection.has_native_async
            return {**result, **self._execute_module(task_vars=variables, wrap_async=wrap)}
        # As a module gets them: without what Ansible notes beside each value, which makes all else slow
        given = json.loads(json.dumps(self._task.args, default=str))
        checked = ArgumentSpecValidator(dict(self.spec)).validate(given)
        if checked.error_messages:
            raise AnsibleActionFail(f"{self._task.action}: {'; '.join(checked.error_messages)}.")
        params = checked.validated_parameters
        hidden = checked._no_log_values - _arguments.plain_values(params.get("kubeconfig"))
        with self._environment():
            answer = _calls.outcome(self.call, params, check=self._task.check_mode, diff=self._task.diff)
        # Ansible shows it from here on only, and a long list would be carried about for nothing
        if self._display.verbosity >= 3:
            answer["invocation"] = {"module_args": _without_hidden(given, self.spec)}
        return {**result, **(remove_values(answer, hidden) if hidden else answer)}

    def _is_here(self, variables: Mapping[str, Any]) -> bool:
        """Whether the module would run on this machine, as this user, with this Python."""
        if self._connection.transport != "local" or self._task.async_val or self._play_context.become:
            return False
        interpreter = variables.get("ansible_python_interpreter")
        if interpreter is None:
            return False
        return str(self._templar.template(interpreter)) == sys.executable

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Set what the keyword `environment` says, for as long as the module runs."""
        wanted: dict[str, Any] = {}
        self._compute_environment_string(wanted)
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update({name: str(value) for name, value in wanted.items()})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _without_hidden(given: Any, options: Mapping[str, Any]) -> Any:
    """Return arguments without those that are never logged."""
    if not isinstance(given, Mapping):
        return given
    shown: dict[str, Any] = {}
    for name, value in given.items():
        option = options.get(name) or {}
        if option.get("no_log"):
            shown[name] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
        elif option.get("options") and isinstance(value, list):
            shown[name] = [_without_hidden(one, option["options"]) for one in value]
        elif option.get("options"):
            shown[name] = _without_hidden(value, option["options"])
        else:
            shown[name] = value
    return shown
