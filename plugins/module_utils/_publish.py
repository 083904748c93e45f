# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the exposure list: model, snapshot, changes, dry run, writes, and what to tell people about it."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.edgeway.istio.plugins.module_utils import _changes, _findings, _gateway_api, _istio_api
from ansible_collections.edgeway.istio.plugins.module_utils._changes import Change, Step
from ansible_collections.edgeway.istio.plugins.module_utils._cluster import Cluster, ClusterError, RefusedError
from ansible_collections.edgeway.istio.plugins.module_utils._model import Exposure, Gateway, Model, ModelError, parse
from ansible_collections.edgeway.istio.plugins.module_utils._reader import Problem
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _fields, _kinds
from ansible_collections.edgeway.istio.plugins.module_utils.findings import _looking
from ansible_collections.edgeway.istio.plugins.module_utils.findings._world import ERROR, Finding
from ansible_collections.edgeway.istio.plugins.module_utils.publish import (
    _files,
    _gateways,
    _inventory,
    _proof,
    _service_ports,
    _wait,
    _write,
)
from ansible_collections.edgeway.istio.plugins.module_utils.publish._endpoints import endpoint
from ansible_collections.edgeway.istio.plugins.module_utils.publish._inventory import BusyError, Inventory

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How to publish; the module's options of the same names. `check` writes nothing."""

    set_name: str = "default"
    api: str = "istio"
    gateway: Mapping[str, Any] | None = None
    state: str = "present"
    prune: bool = True
    validate: bool = True
    strict: bool = False
    silence: Sequence[Mapping[str, Any]] = ()
    edges: Sequence[str] = ()
    force: bool = False
    check: bool = False
    wait: bool = True
    wait_timeout: int = 120
    before_istio: bool = False
    path: str | None = None

    @property
    def patience(self) -> float:
        """Seconds to wait for another run of the same set."""
        return max(self.wait_timeout, 60) + 2 * _inventory.SILENCE


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did, or would do."""

    manifests: list[Manifest]
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    diff: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any(change.verb != "unchanged" for change in self.changes)


def render(exposures: Any, options: Options) -> Result:
    """Return the desired objects, and keep them as files where there is a path for them; no cluster is asked."""
    changes: list[Change] = []
    with uncollected():
        model = _parsed(exposures, options)
        manifests = _generated(model, None, options)
        findings = _settled(_findings.findings(model) if options.validate else [], options)
        if options.path:
            _without_keys(model)
            changes = _files.keep(options.path, manifests, options.set_name, prune=options.prune, check=options.check)
    return Result(
        [_fields.without_secrets(manifest) for manifest in manifests],
        changes,
        findings,
        endpoints(model, {}),
        differences(changes, {}),
    )


def _without_keys(model: Model) -> None:
    """Refuse to write private keys into files that are made to be shared."""
    cure = "Put it into a Secret of the cluster by other means, and name that by `tls.secret`"
    problems = [
        Problem(f"{entry.at}.tls.private_key", "would stand in a file for everybody to read", cure, entry.name)
        for entry in model.exposures
        if entry.tls is not None and entry.tls.ours
    ]
    if problems:
        raise ModelError(tuple(problems))


def examine(exposures: Any, options: Options, cluster: Cluster) -> Result:
    """Return what is found about the list and the cluster. Reads only, and no finding is an error here."""
    with uncollected():
        services = {_kinds.key_of(item): item for item in cluster.find("v1", "Service")}
        model = _gateways.found(exposures, _parsed(exposures, options), options.gateway, services.values())
        desired = _generated(model, cluster, options)
        nothing = Inventory(options.set_name, model.gateway.namespace)
        live, known = _snapshot(cluster, desired, nothing, options.set_name, services, forgiving=True)
        _changes_of, taken = _changes.plan(desired, live, set_name=options.set_name, prune=False)
        ports, warnings = _service_ports.port_changes(model, services, (), prune=False, check=True, coming=False)
        found = [_taken_finding(entry, model) for entry in taken]
        found += _service_ports.port_findings(ports, services.values(), force=options.force)
        found += _looking.look(cluster, model, known=known, edges=options.edges)
        return Result(
            [_fields.without_secrets(manifest) for manifest in desired],
            findings=_findings.settle(found, strict=options.strict, silence=options.silence),
            endpoints=endpoints(model, services),
            warnings=warnings,
        )


def _settled(found: Iterable[Finding], options: Options) -> list[Finding]:
    """Return the findings as the user wants them; ApplyError with all that can't be published with."""
    findings = _findings.settle(found, strict=options.strict, silence=options.silence)
    errors = [f"{one.reason} {one.cure}".strip() for one in _findings.stopping(findings)]
    if errors:
        raise _write.ApplyError(errors)
    return findings


def publish(exposures: Any, options: Options, cluster: Cluster) -> Result:
    """Make the cluster hold what the list says.

    Raises ModelError for a list that can't be published and ClusterError for a cluster that won't have it; in both
    cases nothing has changed. Raises StaleError when all is written but a gateway pod doesn't take it.
    """
    if options.state != "present":
        exposures, options = [], replace(options, prune=True)
    with uncollected():
        return _publish(exposures, options, cluster)


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave cyclic garbage alone: looking for it takes longer than planning, which makes many objects and no cycles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _publish(wanted: Any, options: Options, cluster: Cluster) -> Result:
    model = _parsed(wanted, options)
    while True:
        inventory = Inventory.read(cluster, options.set_name, model.gateway.namespace)
        dead: Mapping[str, Any] | None = None
        while not options.check and inventory.run() not in (None, dead):
            dead = _inventory.wait_for_turn(cluster, inventory, options.patience)
            inventory = Inventory.read(cluster, options.set_name, model.gateway.namespace)
        plan = _plan(wanted, options, model, inventory, cluster)
        if options.check:
            return plan.result()
        try:
            return _carry_out(plan, cluster) if plan.changed else _confirm(plan, cluster)
        except BusyError:
            # Somebody wrote to this set since we looked: what was planned may not hold any more
            continue


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is about to do."""

    options: Options
    model: Model
    inventory: Inventory
    desired: list[Manifest]
    changes: list[Change]
    services: Mapping[_kinds.Key, Manifest]
    results: Mapping[_kinds.Key, Manifest]
    findings: list[Finding]
    warnings: list[str]
    shared_hosts: frozenset[str]

    @property
    def changed(self) -> bool:
        return any(change.verb != "unchanged" for change in self.changes)

    @property
    def digest(self) -> str:
        """What tells this state of the set from any other."""
        return hashlib.sha256(json.dumps(self.desired, sort_keys=True).encode()).hexdigest()[:16]

    def result(self, *, pods: Iterable[tuple[str, str]] = (), warnings: Iterable[str] = ()) -> Result:
        """Return what to tell."""
        after = {**self.services, **self.results}
        return Result(
            manifests=[_fields.without_secrets(manifest) for manifest in self.desired],
            changes=self.changes,
            findings=self.findings,
            endpoints=endpoints(self.model, after),
            diff=differences(self.changes, self.results),
            warnings=[*self.warnings, *warnings],
            pods=[f"{namespace}/{name}" for namespace, name in sorted(pods)],
        )


def _plan(exposures: Any, options: Options, model: Model, inventory: Inventory, cluster: Cluster) -> Plan:
    """Look at the cluster, compare, and have the server try every write."""
    services = {_kinds.key_of(item): item for item in cluster.find("v1", "Service")}
    if options.state == "present":
        model = _gateways.found(exposures, model, options.gateway, services.values())
    desired = _generated(model, cluster, options)
    live, known = _snapshot(cluster, desired, inventory, options.set_name, services)
    if inventory.live is None:
        inventory = inventory.with_objects(live)
    changes, taken = _changes.plan(desired, live, set_name=options.set_name, prune=options.prune)
    ports, warnings = _service_ports.port_changes(
        model,
        services,
        _with_ports_of(options.set_name, services.values()),
        prune=options.prune,
        check=options.check,
        coming=options.before_istio,
    )
    found = [_taken_finding(entry, model) for entry in taken]
    if options.validate:
        found += _service_ports.port_findings(ports, services.values(), force=options.force)
        if options.state == "present":
            seen = _looking.look(cluster, model, known=known, edges=options.edges)
            found += _once_installed(seen, model, services) if options.before_istio else seen
    findings = _settled(found, options)
    changes = _changes.ordered(changes + ports)
    absent = [change for change in changes if change.before is None and change.verb == "update"]
    there = [change for change in changes if change not in absent]
    if options.validate or options.check:
        tried = _write.dry_run(
            cluster, there, force=options.force, forgiving=options.check, coming=options.before_istio
        )
    else:
        tried = _write.Tried(there, {})
    return Plan(
        options,
        model,
        inventory,
        desired,
        _changes.ordered(tried.changes + absent),
        services,
        tried.results,
        findings,
        warnings + tried.warnings,
        _shared_hosts(live, options.set_name),
    )


def _with_ports_of(set_name: str, services: Iterable[Manifest]) -> list[tuple[str, str]]:
    """Return the Services, as (namespace, name), that aren't the set's but have ports of it."""
    manager = _changes.manager_of(set_name)
    return [
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in services
        if _kinds.holder(item) != set_name and _fields.owned(item, manager)
    ]


def _once_installed(found: Iterable[Finding], model: Model, services: Mapping[_kinds.Key, Manifest]) -> list[Finding]:
    """Leave out that a gateway has no pods where its Service isn't there either: both come with its installation."""
    coming = {one.name for one in model.exposures if _service(services, one.gateway) is None}
    return [one for one in found if one.code != "gateway-no-pods" or one.exposure not in coming]


def _shared_hosts(live: Iterable[Manifest], set_name: str) -> frozenset[str]:
    """Return the hosts that somebody else has a DestinationRule for."""
    return frozenset(
        str((item.get("spec") or {}).get("host"))
        for item in live
        if item["kind"] == "DestinationRule" and _kinds.holder(item) != set_name
    )


def _carry_out(plan: Plan, cluster: Cluster) -> Result:
    """Write, wait, and note in the inventory what came of it; BusyError if another run got in first."""
    options, before = plan.options, plan.inventory
    grown = replace(before.with_objects(change.manifest for change in plan.changes), proved="")
    adding, removing = _changes.steps(plan.changes)
    done: list[_write.Written] = []
    stale: _wait.StaleError | None = None
    seen = _wait.Seen()
    with _inventory.turn(cluster, grown) as turn:
        try:
            _write.write(cluster, adding, done, force=options.force, guard=turn.check)
            plan = _as_written(plan, done)
            if options.wait and _leans_on(adding, removing):
                # istiod may send the end of a cluster before the route that no longer needs it
                _proved(plan, cluster, _facts(plan, cluster, final=False), final=False)
            _write.write(cluster, removing, done, force=options.force, guard=turn.check)
            plan = _as_written(plan, done)
            facts = _facts(plan, cluster) if options.wait else {}
            try:
                seen = _proved(plan, cluster, facts)
            except _wait.StaleError as error:
                error.written = True
                stale = error
            proved = plan.digest if stale is None and seen.proved and not seen.unknown else ""
            if options.state == "absent":
                turn.remove()
            else:
                turn.finish(replace(_exact(plan, grown), proved=proved))
        except _wait.StaleError as error:
            error.written = True
            # Nothing is lost by what was added; what would have been removed still serves the pods that lag behind
            turn.finish(grown)
            raise
        except BaseException as error:
            raise _given_up(cluster, turn, before, grown, done, error) from error
    if stale is not None:
        raise stale
    return plan.result(pods=seen.proved, warnings=_wait.warnings(seen, facts))


def _given_up(
    cluster: Cluster,
    turn: _inventory.Turn,
    before: Inventory,
    grown: Inventory,
    done: Sequence[_write.Written],
    error: BaseException,
) -> ClusterError:
    """Put back what was written before `error` unless it is another run's by now; return the error that says both."""
    try:
        turn.check()
    except _inventory.LostError as lost:
        lost.written = bool(done)
        return lost
    failed = _write.undo(cluster, done, error)
    # Where this fails too, the first error is the one to tell; the next run sees that nobody is alive
    with suppress(ClusterError):
        if failed.incomplete:
            # What could not be put back must be found again
            turn.finish(grown)
        elif before.live is None:
            turn.remove()
        else:
            turn.finish(before)
    return failed


def _as_written(plan: Plan, done: Iterable[_write.Written]) -> Plan:
    """Return the plan with what came of it: a dry run may have promised another nodePort, or there was none."""
    became = {_kinds.key_of(one.step.change.manifest): one.became for one in done if one.became is not None}

    def settled(change: Change) -> bool:
        after = became.get(_kinds.key_of(change.manifest))
        return change.before is not None and after is not None and _fields.same_stored(change.before, after)

    changes = [
        replace(change, verb="unchanged") if change.verb == "update" and settled(change) else change
        for change in plan.changes
    ]
    return replace(plan, changes=changes, results={**plan.results, **became})


def _confirm(plan: Plan, cluster: Cluster) -> Result:
    """Nothing is to be written. See that the pods have it, unless an earlier run has seen so; set the inventory right.

    BusyError if another run got in first.
    """
    options, inventory = plan.options, plan.inventory
    if options.state == "absent":
        if inventory.live is not None:
            with _inventory.turn(cluster, inventory) as turn:
                turn.remove()
        return plan.result()
    facts: _wait.Facts = {}
    seen, proved = _wait.Seen(), inventory.proved
    if not plan.desired:
        proved = ""
    elif options.wait and proved != plan.digest:
        facts = _facts(plan, cluster)
        seen = _proved(plan, cluster, facts)
        if seen.proved and not seen.unknown:
            proved = plan.digest
    # A run that was killed leaves its name, and places that it has not come to; and somebody may have deleted it
    exact = replace(_exact(plan, inventory), proved=proved)
    if exact != inventory or inventory.run() is not None or (inventory.live is None and exact.kinds):
        exact.note(cluster)
    return plan.result(pods=seen.proved, warnings=_wait.warnings(seen, facts))


def _leans_on(adding: Sequence[Sequence[Step]], removing: Sequence[Sequence[Step]]) -> bool:
    """Whether backends go away that a route may have led to which is only changed."""
    routes = (_kinds.ROUTE, _kinds.LISTENER)
    changed = any(
        step.change.verb == "update" and _kinds.kind_of(step.change.manifest).phase in routes
        for group in adding
        for step in group
    )
    return changed and any(
        _kinds.kind_of(step.change.manifest).phase == _kinds.BACKEND for group in removing for step in group
    )


def _exact(plan: Plan, grown: Inventory) -> Inventory:
    """Return the inventory of what there is after a run that pruned; what wasn't pruned may be anywhere it was."""
    if not plan.options.prune:
        return grown
    return replace(grown, kinds=frozenset(), namespaces=frozenset()).with_objects(
        change.manifest for change in plan.changes if change.verb != "delete"
    )


def _proved(plan: Plan, cluster: Cluster, facts: _wait.Facts, *, final: bool = True) -> _wait.Seen:
    """Wait until the pods hold the facts. What another set writes meanwhile changes what may be asked of them."""

    def again() -> _wait.Facts:
        rules = [item for item in plan.desired if item["kind"] == "DestinationRule"]
        spaces = sorted({(item["apiVersion"], item["metadata"]["namespace"]) for item in rules})
        live = [item for version, space in spaces for item in cluster.find(version, "DestinationRule", space)]
        shared = plan.shared_hosts | _shared_hosts(live, plan.options.set_name)
        return _facts(replace(plan, shared_hosts=shared), cluster, final=final)

    return _wait.until_proved(cluster, facts, plan.options.wait_timeout, again)


def _facts(plan: Plan, cluster: Cluster, *, final: bool = True) -> dict[_proof.Place, list[_proof.Fact]]:
    """Return what the gateways' pods must hold; before the last removals (`final` false) only what was added."""
    after = {**plan.services, **{key: item for key, item in plan.results.items() if key[1] == "Service"}}
    secrets = {
        (item["metadata"]["namespace"], str(server["tls"]["credentialName"]))
        for item in plan.desired
        if item["kind"] == "Gateway"
        for server in item["spec"].get("servers") or ()
        if (server.get("tls") or {}).get("credentialName")
    } | {
        (str(reference.get("namespace", item["metadata"]["namespace"])), str(reference["name"]))
        for item in plan.desired
        if item["kind"] == "Gateway"
        for listener in item["spec"].get("listeners") or ()
        for reference in (listener.get("tls") or {}).get("certificateRefs") or ()
    }
    ours = {
        (item["metadata"]["namespace"], item["metadata"]["name"]) for item in plan.desired if item["kind"] == "Secret"
    }
    others = sorted(secrets - ours)
    there = cluster.every(lambda key: cluster.exists("v1", "Secret", *key), others)
    world = _proof.World(
        list(after.values()),
        plan.model.cluster_domain,
        frozenset(key for key, is_there in zip(others, there, strict=True) if not is_there),
        plan.shared_hosts,
    )
    gone = [
        change.before
        for change in plan.changes
        if final and change.before is not None and change.verb in ("update", "delete")
    ]
    return _proof.facts(plan.desired, gone, world)


def _parsed(exposures: Any, options: Options) -> Model:
    return parse(exposures, set_name=options.set_name, api=options.api, gateway=options.gateway)


def objects(model: Model, served: Mapping[str, Iterable[str]] | None = None) -> list[Manifest]:
    """Return all that a list asks for, as it is applied; `served` is what the server has of the Gateway API."""
    found = _istio_api.generate(model) if model.api == "istio" else _gateway_api.generate(model, served)
    return _proof.named(found, model.cluster_domain)


def _generated(model: Model, cluster: Cluster | None, options: Options) -> list[Manifest]:
    served = cluster.served(_kinds.GATEWAY_API) if cluster and model.api == "gateway_api" else None
    coming = options.check and options.before_istio and not served
    return objects(model, None if coming else served)


def _service(services: Mapping[_kinds.Key, Manifest], gateway: Gateway) -> Manifest | None:
    return services.get(("", "Service", gateway.namespace, gateway.service))


def _snapshot(
    cluster: Cluster,
    desired: Sequence[Manifest],
    inventory: Inventory,
    set_name: str,
    services: Mapping[_kinds.Key, Manifest],
    *,
    forgiving: bool = False,
) -> tuple[list[Manifest], dict[tuple[str, str], list[Manifest]]]:
    """Return what is there of the kinds that matter: one LIST a kind, by namespace where that is all we may do.

    Also, by kind, what was listed whole: others need not ask again. `forgiving` leaves out what may not be read.
    """
    versions: dict[tuple[str, str], str] = {}
    for manifest in desired:
        kind = _kinds.kind_of(manifest)
        versions[kind.group, kind.name] = manifest["apiVersion"]
    # Without an inventory the set's objects may be of any kind
    sought = inventory.kinds if inventory.live else [(kind.group, kind.name) for kind in _kinds.KINDS]
    for group, name in sought:
        served = cluster.served(group).get(name, ()) if group else ("v1",)
        if served:
            versions.setdefault((group, name), f"{group}/{served[0]}" if group else "v1")
    for name in ("Service", "ConfigMap"):
        versions.pop(("", name), None)
    namespaces = sorted({manifest["metadata"]["namespace"] for manifest in desired} | inventory.namespaces)
    labels = {_kinds.MANAGED_BY: "edgeway", _kinds.SET_LABEL: set_name}
    known: dict[tuple[str, str], list[Manifest]] = {("", "Service"): list(services.values())}
    wanted = {_kinds.key_of(manifest)[:3] for manifest in desired}
    needed = {place[:2] for place in wanted} | inventory.kinds

    def inside(group: str, name: str, space: str, selector: Mapping[str, str] | None) -> list[Manifest]:
        try:
            return cluster.find(versions[group, name], name, space, selector)
        except RefusedError as refused:
            # Secrets are beside gateways alone, and nobody need be given those of other namespaces
            needless = name == "Secret" or (group, name) not in needed
            if refused.status == 403 and needless and (group, name, space) not in wanted:
                return []
            raise

    def read(entry: tuple[tuple[str, str], str]) -> list[Manifest]:
        (group, name), version = entry
        # Other people's Secrets are none of our business
        selector = labels if name == "Secret" else None
        try:
            found = cluster.find(version, name, None, selector)
            if selector is None:
                known[group, name] = found
        except RefusedError as refused:
            if refused.status != 403:
                raise
            found = [item for space in namespaces for item in inside(group, name, space, selector)]
        if selector:
            ours = {_kinds.key_of(item) for item in found}
            for manifest in desired:
                if manifest["kind"] == name and _kinds.key_of(manifest) not in ours:
                    single = cluster.get(version, name, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                    if single is not None:
                        found.append(single)
        return found

    def allowed(entry: tuple[tuple[str, str], str]) -> list[Manifest]:
        try:
            return read(entry)
        except RefusedError as refused:
            if refused.status != 403 or not forgiving:
                raise
            return []

    kinds = [(key, version) for key, version in sorted(versions.items()) if cluster.serves(version, key[1])]
    found = [item for items in cluster.every(allowed, kinds) for item in items]
    return found + list(services.values()), known


def _taken_finding(taken: _changes.Taken, model: Model) -> Finding:
    reason, _dot, cure = str(taken).partition(". ")
    name = taken.manifest["metadata"]["name"]
    exposure = next((entry.name for entry in model.exposures if entry.name == name), "")
    return Finding("name-taken", ERROR, exposure, "name", (_kinds.shown(taken.manifest),), f"{reason}.", cure)


def differences(changes: Iterable[Change], results: Mapping[_kinds.Key, Manifest]) -> list[dict[str, Any]]:
    """Return Ansible's diff of each change: the object before and after, without what the server alone writes."""
    shown = []
    for change in changes:
        if change.verb == "unchanged":
            continue
        name = f"{change.kind} {change.namespace}/{change.name}"
        became = results.get(_kinds.key_of(change.manifest), change.after) if change.after is not None else None
        before, after = _fields.quiet_pair(change.before, became)
        shown.append({"before_header": name, "after_header": name, "before": before, "after": after})
    return shown


def endpoints(model: Model, services: Mapping[_kinds.Key, Manifest]) -> list[dict[str, Any]]:
    """Return where each exposure answers, for people: URLs or addresses, and the nodePort."""
    return [_endpoint(exposure, services) for exposure in model.exposures]


def _endpoint(exposure: Exposure, services: Mapping[_kinds.Key, Manifest]) -> dict[str, Any]:
    service = _service(services, exposure.gateway)
    if exposure.service is not None:
        service = services.get(("", "Service", exposure.gateway.namespace, exposure.service.name))
    return endpoint(
        exposure.name,
        exposure.namespace,
        exposure.protocol,
        exposure.port,
        exposure.hostnames,
        service,
        exposure.node_port,
    )


__all__ = ["Inventory", "ModelError", "Options", "Result", "examine", "publish", "render"]
