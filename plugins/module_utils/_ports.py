# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of a gateway's Service that the list needs and that are ours to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import Gateway, Model


def wanted(model: Model, service: Mapping[str, Any] | None, gateway: Gateway | None = None) -> list[dict[str, Any]]:
    """Return our entries of `spec.ports`, sorted by port: {name, port, protocol, targetPort, appProtocol, nodePort?}.

    `service` is the live Service, None where there is none to look at. `gateway` says which one it belongs to (the
    model's default). A port that the Service has from its installer is not repeated; when a nodePort is pinned on
    it, the entry is {port, protocol, nodePort} alone. Raises ModelError where the Service can't carry the list.
    """
    raise NotImplementedError


def gateways(model: Model) -> tuple[Gateway, ...]:
    """Return each gateway whose shared Service needs `wanted`, the default one first."""
    raise NotImplementedError
