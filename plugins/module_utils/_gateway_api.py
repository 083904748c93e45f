# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as objects of the Gateway API: Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._model import Model

Manifest = dict[str, Any]


def generate(model: Model, served: Mapping[str, Iterable[str]] | None = None) -> list[Manifest]:
    """Return every object that the list asks for, complete and labelled, sorted by kind, namespace and name.

    `served` maps a kind to the versions that the server serves ({"TCPRoute": ["v1", "v1alpha2"]}); None where
    nobody can be asked (rendered): the newest known versions are used.
    """
    raise NotImplementedError
