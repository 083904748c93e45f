# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until every gateway pod has what was written, told by the pod's own configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _envoy
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils.cluster._pods import is_ready
from ansible_collections.edgeway.istio.plugins.module_utils.publish import _proof
from ansible_collections.edgeway.istio.plugins.module_utils.publish._proof import Fact, Place

Pod = tuple[str, str]
"""(namespace, name)"""


@dataclass(slots=True)
class Seen:
    """What was seen of the pods. `stale` maps a pod to what it lacks, `unknown` to why it could not be asked."""

    proved: set[Pod] = field(default_factory=set)
    stale: dict[Pod, list[str]] = field(default_factory=dict)
    unknown: dict[Pod, str] = field(default_factory=dict)


class StaleError(ClusterError):
    """Not every gateway pod has the configuration. `pods` maps namespace/name to what it lacks.

    `written` if this run has changed something, which it leaves as it is.
    """

    def __init__(self, seen: Seen, timeout: float) -> None:
        self.written = False
        self.pods = {f"{space}/{name}": lacks for (space, name), lacks in sorted(seen.stale.items())}
        lines = [f"{name} lacks {_some(lacks)}" for name, lacks in self.pods.items()]
        super().__init__(
            f"After {timeout:g} s {len(lines)} gateway pods don't have the new configuration: {'; '.join(lines)}.",
            "Look at istiod (is it running, what does its log say of these objects) and at `istioctl proxy-status`; "
            "then run again.",
        )

    @property
    def told(self) -> Mapping[str, Any]:
        return {"changed": self.written, "stale": self.pods}


def _some(lacks: Sequence[str]) -> str:
    shown = ", ".join(lacks[:3])
    return f"{shown} and {len(lacks) - 3} more" if len(lacks) > 3 else shown


Facts = Mapping[Place, Sequence[Fact]]

REFRESH = 3.0
"""Seconds after which facts that don't hold are made anew: another set may have changed what can be asked for."""


def until_proved(cluster: Cluster, facts: Facts, timeout: float, again: Callable[[], Facts]) -> Seen:
    """Ask each place's pods until all of them hold its facts, and return what was seen; StaleError after `timeout`.

    A pod that isn't ready serves nobody and is passed over: it gets its configuration before it becomes ready. One
    that may not be asked, for lack of rights, is unknown. `again` makes the facts anew. An API server that is away has
    not answered yet, until `timeout`.
    """
    end = time.monotonic() + timeout
    made = time.monotonic()
    pause = 0.1
    proved: set[tuple[Pod, Place]] = set()
    while True:
        if time.monotonic() - made > REFRESH:
            try:
                facts, made = again(), time.monotonic()
            except ClusterError as error:
                if not error.passing:
                    raise
        seen = Seen()
        asked = [
            (pod, place, list(wanted))
            for place, wanted in facts.items()
            if wanted
            for pod in _pods(cluster, place, seen)
        ]
        open_ = [entry for entry in asked if (entry[0], entry[1]) not in proved]
        for (pod, place, _wanted), outcome in zip(
            open_, cluster.every(lambda e: _lacks(cluster, e), open_), strict=True
        ):
            if outcome is None:
                continue
            if isinstance(outcome, str):
                seen.unknown[pod] = outcome
            elif outcome:
                seen.stale.setdefault(pod, []).extend(outcome)
            else:
                proved.add((pod, place))
        seen.proved = {pod for pod, _place in proved} - seen.stale.keys() - seen.unknown.keys()
        if not seen.stale:
            return seen
        if time.monotonic() + pause > end:
            raise StaleError(seen, timeout)
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)


def _pods(cluster: Cluster, place: Place, seen: Seen) -> list[Pod]:
    try:
        found = cluster.items(f"/api/v1/namespaces/{place.namespace}/pods", dict(place.labels))
    except ClusterError as error:
        every = place.namespace, "*"
        if error.passing:
            seen.stale[every] = [f"an answer ({error.message})"]
        elif isinstance(error, RefusedError) and error.status == 403:
            seen.unknown[every] = error.message
        else:
            raise
        return []
    return [(place.namespace, str(pod["metadata"]["name"])) for pod in found if is_ready(pod)]


def _lacks(cluster: Cluster, entry: tuple[Pod, Place, list[Fact]]) -> list[str] | str | None:
    """Return what a pod lacks, or why nobody may know, or None for one that is gone by now."""
    (namespace, name), _place, wanted = entry
    try:
        config = _envoy.read(dump(cluster, namespace, name))
    except RefusedError as refused:
        if refused.status == 404:
            return None
        if refused.status in (401, 403):
            return refused.message
        return [f"an answer ({refused.message})"]
    except (ClusterError, ValueError) as error:
        return [f"an answer ({error})"]
    return _proof.missing(wanted, config)


def dump(cluster: Cluster, namespace: str, pod: str) -> dict[str, Any]:
    """Return the config dump of a pod's Envoy, asked through the API server."""
    status, body = cluster.ask_pod(namespace, pod, _envoy.ADMIN_PORT, ["/config_dump"], 30)[0]
    if status != 200:
        raise ClusterError(f"Envoy of Pod {namespace}/{pod} answers {status} to /config_dump.")
    found: dict[str, Any] = json.loads(body)
    return found


def warnings(seen: Seen, facts: Facts) -> list[str]:
    """Return what could not be proved, for people."""
    told = []
    if seen.unknown:
        reasons = sorted(set(seen.unknown.values()))
        told.append(f"Whether {len(seen.unknown)} gateway pods have the configuration is unknown: {reasons[0]}")
    elif not seen.proved and any(facts.values()):
        places = "; ".join(
            f"{place.namespace} ({', '.join(f'{key}={value}' for key, value in place.labels)})" for place in facts
        )
        told.append(f"No gateway pod is ready that could take the configuration: {places}.")
    return told
