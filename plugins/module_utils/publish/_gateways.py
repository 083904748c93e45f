# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gateways a list is published through, as the cluster's Services say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._cluster import ClusterError
from ansible_collections.edgeway.istio.plugins.module_utils._model import Gateway, Model, parse
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Manifest = dict[str, Any]


def found(exposures: Any, model: Model, gateway: Mapping[str, Any] | None, services: Iterable[Manifest]) -> Model:
    """Return `model` with what the gateways' own Services say: which one it is, and the labels of its pods.

    `exposures` and `gateway` are as the user wrote them. Where no gateway is named and the usual one isn't there, it is
    the only other one; raises ClusterError where there are several.
    """
    by_name = {(one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in services}
    if not gateway and (model.gateway.namespace, model.gateway.service) not in by_name:
        likely = [
            name
            for name, one in by_name.items()
            if str((one.get("spec", {}).get("selector") or {}).get("istio", "")).startswith("ingress")
            and _kinds.holder(one) is None
        ]
        if len(likely) > 1:
            names = ", ".join(map("/".join, likely))
            raise ClusterError(
                f"There are several gateways: {names}.", "Say which one by gateway.namespace and gateway.service."
            )
        for namespace, service in likely:
            only = {"namespace": namespace, "service": service}
            model = parse(exposures, set_name=model.set_name, api=model.api, gateway=only)
    learnt: dict[Gateway, Gateway] = {}
    for one in {model.gateway, *(exposure.gateway for exposure in model.exposures)}:
        labels = by_name.get((one.namespace, one.service), {}).get("spec", {}).get("selector") or {}
        # What parse supposes where the user names no selector
        supposed = (("istio", one.service.removeprefix("istio-")),)
        if labels and one.selector == supposed and not set(supposed) <= set(labels.items()):
            learnt[one] = replace(one, selector=tuple(sorted(labels.items())))
    if not learnt:
        return model
    return replace(
        model,
        gateway=learnt.get(model.gateway, model.gateway),
        exposures=tuple(
            replace(exposure, gateway=learnt.get(exposure.gateway, exposure.gateway)) for exposure in model.exposures
        ),
    )
