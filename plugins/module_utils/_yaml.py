# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML in and out. PyYAML comes with Ansible, so it is there wherever a play pins Ansible's own interpreter."""

from __future__ import annotations

from typing import Any

try:
    import yaml
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None


def documents(text: str) -> list[Any]:
    """Return the documents of a text, empty ones left out. Raises ValueError where it is no YAML."""
    _needed()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [each for each in yaml.load_all(text, Loader=loader) if each]
    except yaml.YAMLError as error:
        raise ValueError(f"This is no YAML: {error}") from error


def dump(value: Any, *, sort_keys: bool = True) -> str:
    """Return the value as block YAML."""
    _needed()
    return str(yaml.safe_dump(value, sort_keys=sort_keys))


def _needed() -> None:
    if _missing is not None:
        raise ImportError(
            "The Python package PyYAML is missing. Run the module with Ansible's own interpreter "
            "(ansible_python_interpreter: '{{ ansible_playbook_python }}')."
        ) from _missing
