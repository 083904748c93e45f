# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as objects of Istio's own API: Gateway, VirtualService, DestinationRule, ServiceEntry."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import Model

Manifest = dict[str, Any]


def generate(model: Model) -> list[Manifest]:
    """Return every object that the list asks for, complete and labelled, sorted by kind, namespace and name."""
    raise NotImplementedError
