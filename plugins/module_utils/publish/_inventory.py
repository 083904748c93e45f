# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ConfigMap of each set: where it has written, and which run is writing now.

Two runs of one set must not write at once: the second would plan on what the first is about to change. So a run that
has something to write puts its name into the ConfigMap first. Nobody takes it from a run that lives: it says so every
few seconds, and is taken for dead only when it has been silent for much longer, or when its process is gone from the
machine that we are on too.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import (
    Cluster,
    ClusterError,
    RefusedError,
    UnreachableError,
)
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _kinds

Manifest = dict[str, Any]
Pairs = frozenset[tuple[str, str]]

RUN = "edgeway.istio/run"
"""The annotation that names the run which is writing."""

BEAT = 5.0
"""Seconds between signs of life."""

SILENCE = 20.0
"""Seconds without a sign after which a run is taken for dead."""


class BusyError(Exception):
    """Another run got in first. What was planned no longer holds."""


class LostError(ClusterError):
    """Another run has taken our turn. Whatever we write or put back from now on would undo what it does.

    `written` if this run has changed something, which it leaves as it is.
    """

    def __init__(self, set_name: str, run: dict[str, Any] | None) -> None:
        self.written = False
        super().__init__(
            f"Another run{_of(run)} has taken over the set {set_name}: this one has stopped, and put nothing back.",
            "See what the other did, and run again.",
        )

    @property
    def told(self) -> Mapping[str, Any]:
        return {"changed": self.written}


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the ConfigMap says. `live` is the object it was read from.

    `kinds` are (group, kind). `proved` is the digest of what every gateway pod was last seen to have, empty when that
    isn't known.
    """

    set_name: str
    namespace: str
    kinds: Pairs = frozenset()
    namespaces: frozenset[str] = frozenset()
    proved: str = ""
    live: Manifest | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"edgeway-set-{self.set_name}"

    @property
    def manager(self) -> str:
        return _changes.manager_of(self.set_name)

    @classmethod
    def read(cls, cluster: Cluster, set_name: str, namespace: str) -> Inventory:
        """Find it by its labels in any namespace, or by its name in the gateway's where LIST isn't allowed."""
        empty = cls(set_name, namespace)
        labels = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: set_name}
        try:
            found = cluster.find("v1", "ConfigMap", None, labels)
            found = [item for item in found if item["metadata"]["name"] == empty.name]
        except RefusedError as refused:
            if refused.status != 403:
                raise
            found = []
        if not found:
            # Where LIST isn't allowed; also one that a run made and left without a word
            single = cluster.get("v1", "ConfigMap", namespace, empty.name)
            if single is not None and single.get("data") and _kinds.holder(single) != set_name:
                raise ClusterError(
                    f"{_kinds.shown(single)} exists already and wasn't made by this collection.",
                    "Delete it, or give the set another name.",
                )
            found = [single] if single else []
        if not found:
            return empty
        live = next((item for item in found if item["metadata"]["namespace"] == namespace), found[0])
        data = live.get("data") or {}

        def pairs(key: str) -> Pairs:
            words = (word.partition("/") for word in str(data.get(key, "")).split())
            return frozenset((left, right) for left, _slash, right in words)

        return cls(
            set_name,
            str(live["metadata"]["namespace"]),
            pairs("kinds"),
            frozenset(str(data.get("namespaces", "")).split()),
            str(data.get("proved", "")),
            live,
        )

    def with_objects(self, objects: Iterable[Manifest]) -> Inventory:
        """Return it with the places of these objects, as far as they are of this set."""
        mine = [item for item in objects if _kinds.holder(item) == self.set_name]
        return replace(
            self,
            kinds=self.kinds | {(_kinds.kind_of(item).group, str(item["kind"])) for item in mine},
            namespaces=self.namespaces | {str(item["metadata"]["namespace"]) for item in mine},
        )

    def manifest(self, run: str = "") -> Manifest:
        """Return the ConfigMap, with `run` as the run that is writing."""
        metadata: Manifest = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: self.set_name},
        }
        if run:
            metadata["annotations"] = {RUN: run}
        data = {
            "kinds": " ".join(sorted("/".join(pair) for pair in self.kinds)),
            "namespaces": " ".join(sorted(self.namespaces)),
        }
        if self.proved:
            data["proved"] = self.proved
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def run(self) -> dict[str, Any] | None:
        """Return the run that is writing: {id, machine, process, host, beat}, None where there is none."""
        text = ((self.live or {}).get("metadata", {}).get("annotations") or {}).get(RUN)
        if not text:
            return None
        try:
            found = json.loads(text)
        except ValueError:
            return {"id": text}
        return found if isinstance(found, dict) else {"id": text}

    def note(self, cluster: Cluster) -> None:
        """Store it unless somebody has written it since it was read, or we aren't allowed to.

        One that isn't there is made in a turn of its own; BusyError where it can't be had.
        """
        try:
            if self.live is None:
                with turn(cluster, self) as ours:
                    ours.finish(self)
            else:
                _store(cluster, self, self.manifest(), self.live)
        except RefusedError as refused:
            if refused.status not in (403, 409):
                raise


def _store(cluster: Cluster, inventory: Inventory, manifest: Manifest, live: Manifest) -> None:
    """Apply the ConfigMap; RefusedError with 409 where it isn't as `live` any more.

    It is ours alone: what others have set in it is taken back.
    """
    metadata = {**manifest["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
    cluster.apply({**manifest, "metadata": metadata}, inventory.manager, force=True)


class Turn:
    """Our turn to write, until `finish` or `remove`. Both and `check` raise LostError when it was taken from us."""

    def __init__(self, cluster: Cluster, inventory: Inventory) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._beat = 0
        self._id = uuid.uuid4().hex
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self.keep, name="edgeway turn", daemon=True)

    def _run(self) -> str:
        run = {"id": self._id, "machine": machine(), "process": os.getpid(), "host": os.uname().nodename}
        return json.dumps({**run, "beat": self._beat}, sort_keys=True)

    def take(self) -> None:
        """Put our name into the ConfigMap as it was when we read it; BusyError where it isn't so any more."""
        manifest = self._inventory.manifest(self._run())
        live = self._inventory.live
        try:
            if live is None:
                # An apply would be as glad to find another run's. What a POST holds belongs to an updater of our name
                # for good, so it holds nothing
                metadata = {key: manifest["metadata"][key] for key in ("name", "namespace")}
                live = self._cluster.create({**manifest, "metadata": metadata, "data": {}}, self._inventory.manager)
            _store(self._cluster, self._inventory, manifest, live)
        except ClusterError as error:
            with contextlib.suppress(ClusterError):
                live = self._live()
                run = replace(self._inventory, live=live).run() or {}
                if run.get("id") == self._id:
                    # Done, but not answered: asked a second time, the server found our own first
                    return
                conflict = isinstance(error, RefusedError) and error.status == 409
                if not conflict and self._inventory.live is None and live and not run and not live.get("data"):
                    self._cluster.delete(live)
            if isinstance(error, RefusedError) and error.status == 409:
                raise BusyError from error
            raise

    def _live(self) -> Manifest | None:
        return self._cluster.get("v1", "ConfigMap", self._inventory.namespace, self._inventory.name)

    def _ours(self) -> Manifest:
        """Return the ConfigMap as it is now; LostError if it doesn't name us any more."""
        live = self._live()
        run = replace(self._inventory, live=live).run()
        if live is None or run is None or run.get("id") != self._id:
            raise LostError(self._inventory.set_name, run)
        return live

    def keep(self) -> None:
        """Show a sign of life now and then, until the turn ends; for a thread of its own."""
        while not self._ended.wait(BEAT):
            self._beat += 1
            try:
                _store(self._cluster, self._inventory, self._inventory.manifest(self._run()), self._ours())
            except LostError:
                return
            except ClusterError:
                # The next one may get through; others wait much longer than one beat
                continue

    def check(self) -> None:
        """Raise LostError if the turn was lost, as far as the server can be asked."""
        with contextlib.suppress(RefusedError, UnreachableError):
            self._ours()

    def begin(self) -> None:
        """Take the turn, and show signs of life from now on."""
        self.take()
        self._thread.start()

    def end(self) -> None:
        """Stop the signs of life."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def finish(self, inventory: Inventory) -> None:
        """End the turn with this as what the ConfigMap says."""
        self.end()
        wanted = inventory.manifest()
        try:
            _store(self._cluster, self._inventory, wanted, self._ours())
        except (RefusedError, UnreachableError):
            # It may be done, but not answered: asked a second time, the server finds our own first
            live = self._live() or {}
            if live.get("data") != wanted["data"] or replace(self._inventory, live=live).run() is not None:
                raise

    def remove(self) -> None:
        """End the turn without a ConfigMap, as nothing of the set is left."""
        self.end()
        try:
            self._cluster.delete(self._ours(), unchanged=True)
        except (RefusedError, UnreachableError):
            if self._live() is not None:
                raise


@contextmanager
def turn(cluster: Cluster, inventory: Inventory) -> Iterator[Turn]:
    """Hold the turn to write; BusyError when it can't be had as things were when `inventory` was read.

    The caller finishes it, or removes the ConfigMap. A turn that was left by an error is a dead run's to the next one.
    """
    ours = Turn(cluster, inventory)
    ours.begin()
    try:
        yield ours
    finally:
        ours.end()


def wait_for_turn(cluster: Cluster, inventory: Inventory, patience: float) -> dict[str, Any] | None:
    """Return when nobody is writing to the set any more, or whoever did is dead: None, or that run as it was last seen.

    Whether a run is alive is told by its signs alone, never by comparing clocks. ClusterError after `patience` seconds.
    """
    began = seen = time.monotonic()
    last = inventory.run()
    while last is not None and not _gone(last):
        now = time.monotonic()
        if now - seen > SILENCE:
            break
        if now - began > patience:
            raise ClusterError(
                f"Another run{_of(last)} is writing to the set {inventory.set_name}.", "Wait for its end and run again."
            )
        time.sleep(0.25)
        live = cluster.get("v1", "ConfigMap", inventory.namespace, inventory.name)
        run = replace(inventory, live=live).run()
        if run != last:
            last, seen = run, time.monotonic()
    return last


def _of(run: dict[str, Any] | None) -> str:
    return f" ({run['host']}, process {run['process']})" if run and "host" in run and "process" in run else ""


def machine() -> str:
    """Name this machine as far as its process numbers go: one boot, one namespace of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        # Not Linux: then nobody is known to be gone before it has been silent
        return ""


def _gone(run: dict[str, Any]) -> bool:
    if not run.get("machine") or run["machine"] != machine() or not isinstance(run.get("process"), int):
        return False
    try:
        os.kill(run["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
