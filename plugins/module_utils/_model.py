# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exposure list as a user writes it, checked and turned into dataclasses.

`parse` is the only way in. It reads the whole list before it complains, so that one `ModelError` carries every
problem there is, each with the path to the field and what to write instead. What it returns can be generated for the
chosen API without a further check: `_istio_api.generate`, `_gateway_api.generate`, `_ports.wanted`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Log, Problem, kind_of, quoted, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._across import Across
from ansible_collections.edgeway.istio.plugins.module_utils.model._entry import PROTOCOLS, read_exposure
from ansible_collections.edgeway.istio.plugins.module_utils.model._gateways import read_gateway
from ansible_collections.edgeway.istio.plugins.module_utils.model._matches import METHODS
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import (
    MANAGED_BY,
    PROXY_PORTS,
    SET_LABEL,
    AllowedRoutes,
    Backend,
    Cors,
    DedicatedService,
    Exposure,
    Gateway,
    HeaderChange,
    Match,
    Mirror,
    Model,
    Origination,
    OutlierDetection,
    Redirect,
    Retries,
    Rewrite,
    Route,
    Subset,
    Tls,
    Traffic,
    ValueMatch,
    backends_of,
    pods_of,
)

__all__ = [
    "APIS",
    "MANAGED_BY",
    "METHODS",
    "PROTOCOLS",
    "PROXY_PORTS",
    "SET_LABEL",
    "AllowedRoutes",
    "Backend",
    "Cors",
    "DedicatedService",
    "Exposure",
    "Gateway",
    "HeaderChange",
    "Match",
    "Mirror",
    "Model",
    "ModelError",
    "Origination",
    "OutlierDetection",
    "Problem",
    "Redirect",
    "Retries",
    "Rewrite",
    "Route",
    "Subset",
    "Tls",
    "Traffic",
    "ValueMatch",
    "backends_of",
    "parse",
    "pods_of",
]

APIS = ("istio", "gateway_api")

# A label's value holds 63 characters and starts and ends with a letter or digit; `edgeway-set-NAME` names an object.
_SET = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")


class ModelError(ValueError):
    """The list can't be published as it is. `problems` holds every reason."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def parse(
    exposures: Any,
    *,
    set_name: str = "default",
    api: str = "istio",
    gateway: Mapping[str, Any] | Gateway | None = None,
    cluster_domain: str = "cluster.local",
) -> Model:
    """Check the list and return it as a Model.

    `api` is `istio` or `gateway_api`. `gateway` is the default gateway, as a user writes it (namespace, service,
    selector, ...). A key whose value is None counts as not written, as Ansible fills options in that way.
    Raises ModelError with every problem found.
    """
    log = Log()
    if not isinstance(set_name, str) or not _SET.fullmatch(set_name):
        log.add("set", f"`{shown(str(set_name))}` is not a set's name", "Use 1 to 50 of a-z, 0-9 and -, none at an end")
    if api not in APIS:
        log.add("api", f"`{shown(str(api))}` is not known", f"Write {quoted(APIS)}")
    gateway_api = api == "gateway_api"
    default = gateway
    if not isinstance(default, Gateway):
        default = read_gateway(gateway or {}, "gateway", log, Gateway(), gateway_api=gateway_api)
    found: list[Exposure] = []
    if not isinstance(exposures, (list, tuple)):
        log.add("exposures", f"is {kind_of(exposures)}, a list is expected", "Write a list of exposures")
    else:
        for index, item in enumerate(exposures):
            place = f"exposures[{index}]"
            entry = read_exposure(item, place, log, default, domain=cluster_domain, gateway_api=gateway_api)
            if entry is not None:
                found.append(entry)
    Across(log, found, str(set_name), default, gateway_api=gateway_api).check()
    if log.problems:
        raise ModelError(tuple(log.problems))
    return Model(set_name, api, default, tuple(sorted(found, key=lambda entry: entry.name)), cluster_domain)
