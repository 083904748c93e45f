# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter forwarding_plan: see forwarding_plan.yml beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.edgeway.istio.plugins.module_utils import _forward


def _kube_proxy(maps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Read the configuration that kubeadm keeps as YAML within a ConfigMap."""
    for item in maps:
        try:
            found = yaml.safe_load((item.get("data") or {}).get("config.conf") or "")
        except yaml.YAMLError as error:
            raise AnsibleFilterError(f"ConfigMap kube-system/kube-proxy: config.conf is no YAML: {error}") from error
        if isinstance(found, dict):
            return found
    return None


def forwarding_plan(
    mode: str,
    edges: Mapping[str, str],
    services: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
    slices: Sequence[Mapping[str, Any]],
    kube_proxy_maps: Sequence[Mapping[str, Any]],
    proxy_protocol: bool = False,
) -> dict[str, Any]:
    """Give the forwarding as plain data; problems as sentences."""
    found = _forward.plan(
        mode,
        edges=edges,
        service=next(iter(services), None),
        nodes=nodes,
        slices=slices,
        kube_proxy=_kube_proxy(kube_proxy_maps),
        proxy_protocol=proxy_protocol,
    )
    return {**dataclasses.asdict(found), "problems": [str(problem) for problem in found.problems]}


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Any]:
        return {"forwarding_plan": forwarding_plan}
