# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exposure list as manifests, in a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.edgeway.istio.plugins.module_utils import _publish
from ansible_collections.edgeway.istio.plugins.module_utils._model import ModelError, parse


def to_manifests(
    exposures: Any,
    api: str = "istio",
    gateway: Mapping[str, Any] | None = None,
    set: str = "default",  # noqa: A002  the module's name for it
    secrets: bool = False,
    cluster_domain: str = "cluster.local",
) -> list[dict[str, Any]]:
    """Return the objects that the list asks for; Secrets made of `tls.certificate` only when `secrets` says so."""
    try:
        model = parse(exposures, set_name=set, api=api, gateway=gateway, cluster_domain=cluster_domain)
        manifests = _publish.objects(model)
    except ModelError as error:
        raise AnsibleFilterError(f"edgeway.istio.to_manifests: the list can't be published:\n{error}") from error
    return [manifest for manifest in manifests if secrets or manifest["kind"] != "Secret"]


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"to_manifests": to_manifests}
