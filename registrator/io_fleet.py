"""One registrator, or one for each of several engines, side by side and shown as one.

Every engine has a service of its own, with its own node, lease and mirror: one that is away or hangs touches no other.
They share the store. What each shows is told apart by its node: log, readiness, metrics, state.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.store import Store
from pilotfish.catalog.telemetry import Readiness, Telemetry
from registrator.engines import io_tls, swarm
from registrator.engines.io_docker import DockerEngine, DockerSettings
from registrator.engines.io_swarm import Leader, SwarmEngine
from registrator.fleet import SWARM, apart, engine_host
from registrator.io_where import node_name
from registrator.service import RegistratorService
from registrator.settings import RegistratorSettings

SWARM_PREFIX = "pilotfish_swarm_"  # of a swarm's metrics: beside them, in one registry, are those of its manager
_PREFIXES = ("pilotfish_registrator_", "pilotfish_")  # that it stands for; the longest first


class Registrator(Protocol):
    """What runs, and what it shows."""

    async def run(self) -> None:
        """Register until cancelled; see `RegistratorService.run`."""
        ...

    def state(self) -> Mapping[str, object]:
        """What is known, for /api/state."""
        ...

    def reload(self) -> None:
        """Look at everything anew (SIGHUP)."""
        ...


def registrator(settings: RegistratorSettings, store: Store, telemetry: Telemetry) -> Registrator:
    """The registrator of the settings: a service for its engine, or a fleet for several.

    Raises:
        BadSettings: engines, their names or their certificates cannot be used.
        CannotStart: the node has no usable name.
    """
    each = apart(settings)
    errors = [error for one in each for error in _tls_problems(one)]
    if errors:
        raise BadSettings(dict.fromkeys(errors))
    for one in each:
        _warn(one, telemetry)
    return Fleet(each, store, telemetry) if len(each) > 1 else WithSwarm(each[0], store, telemetry)


def _tls_problems(settings: RegistratorSettings) -> list[str]:
    return io_tls.problems(
        settings.docker[0], tls_verify=settings.docker_tls_verify, cert_path=settings.docker_cert_path
    )


def _warn(settings: RegistratorSettings, telemetry: Telemetry) -> None:
    """Say what is allowed, and not safe."""
    url = settings.docker[0]
    if not engine_host(url) or settings.docker_tls_verify:
        return
    if url.startswith(("tcp://", "http://")) and not settings.docker_cert_path:
        telemetry.log.warning("%s is spoken to without TLS: whoever reaches it is root on that host", url)
    elif not url.startswith("https://") or settings.docker_cert_path:
        telemetry.log.warning("the certificate of %s is not checked: set --docker-tls-verify", url)


class WithSwarm:
    """The registrator of one engine, and beside it that of its swarm for as long as the engine's node leads one.

    Args:
        settings: of the engine.
        store: where records go.
        telemetry: of the engine's registrator; the swarm's metrics are there as `pilotfish_swarm_...`.
    """

    def __init__(self, settings: RegistratorSettings, store: Store, telemetry: Telemetry) -> None:
        self._settings, self._store, self._telemetry = settings, store, telemetry
        self._manager = DockerEngine(DockerSettings.of(settings))
        self.service = RegistratorService(settings, store, telemetry, self._manager)
        self._swarm: RegistratorService | None = None
        self._shown: dict[str, CollectorRegistry] = {}
        telemetry.registry.register(_ByNode(self._shown, SWARM_PREFIX))

    async def run(self) -> None:
        """Register until cancelled; with `once` or `dry_run` the engine's own containers alone, and return."""
        if self.service.ends or self._settings.swarm == "off":
            await self.service.run()
            return
        leader = Leader(self._manager, self._telemetry, self._register)
        self._manager.on_swarm = leader.wake
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.service.run())
            tasks.create_task(leader.run())

    async def _register(self, cluster: str, engine: SwarmEngine) -> None:
        node = swarm.node_of(cluster)
        settings = dataclasses.replace(
            self._settings, docker=(SWARM + cluster,), node_name=node, ip=(), docker_ip=(), on_exit="keep"
        )
        share = _Share(self._telemetry, node)
        self._shown[node] = share.registry
        self._swarm = RegistratorService(settings, self._store, share, engine)
        try:
            await self._swarm.run()
        finally:
            self._swarm = None
            self._shown.pop(node, None)
            share.close()

    def state(self) -> dict[str, object]:
        """What is known, for /api/state."""
        found = self.service.state()
        return {**found, "swarm": self._swarm.state()} if self._swarm else found

    def reload(self) -> None:
        """Look at everything anew."""
        for one in (self.service, self._swarm):
            if one:
                one.reload()


class Fleet:
    """Several registrators in one process.

    Args:
        each: settings of each, from `engines.apart`.
        store: that they share.
        telemetry: of all together.
    """

    def __init__(self, each: Iterable[RegistratorSettings], store: Store, telemetry: Telemetry) -> None:
        self.services: dict[str, WithSwarm] = {}
        shares: dict[str, CollectorRegistry] = {}
        for settings in each:
            node = node_name(settings)
            if node in self.services:
                raise BadSettings([f"--docker: two engines would be node {node}: give each a name, --docker NAME=URL"])
            share = _Share(telemetry, node)
            shares[node] = share.registry
            self.services[node] = WithSwarm(settings, store, share)
        telemetry.registry.register(_ByNode(shares))

    async def run(self) -> None:
        """Register until cancelled; with `once` or `dry_run`, until all have ended; then raise an error."""
        tasks = [asyncio.create_task(service.run()) for service in self.services.values()]
        try:
            if all(one.service.ends for one in self.services.values()):
                await asyncio.wait(tasks)
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> dict[str, object]:
        """What is known of each node, for /api/state."""
        return {"nodes": [service.state() for service in self.services.values()]}

    def reload(self) -> None:
        """Look at everything of every engine anew."""
        for service in self.services.values():
            service.reload()


class _Share(Telemetry):
    """One engine's share of the whole's telemetry: its metrics are shown under its node's label."""

    def __init__(self, whole: Telemetry, node: str) -> None:
        super().__init__(whole.part, whole.now)
        self._whole = whole
        self.log = whole.log.getChild(node)
        self.ready: _ReadyShare = _ReadyShare(whole.ready, node)
        self.registry = CollectorRegistry()  # without what stands in the whole's already
        self.mirrors = whole.mirrors.of(f"{whole.part}/{node}")

    def converged(self, stage: str, observed: float) -> None:
        """Counted for all together."""
        self._whole.converged(stage, observed)

    def close(self) -> None:
        """Show nothing any more: who it was of has ended."""
        self.ready.forget()
        self.mirrors.forget()


class _ReadyShare(Readiness):
    """Readiness of one engine, told to the whole under the node's name."""

    def __init__(self, whole: Readiness, node: str) -> None:
        super().__init__()
        self._whole, self._node = whole, node

    def bad(self, name: str, why: str) -> None:
        super().bad(name, why)
        self._whole.bad(f"{self._node} {name}", why)

    def good(self, name: str) -> None:
        super().good(name)
        self._whole.good(f"{self._node} {name}")

    def forget(self) -> None:
        """Nothing is missing of what is no more."""
        for name in self.missing:
            self.good(name)


class _ByNode(Collector):
    """Metrics of several registries as one, each sample with its node; with `prefix`, under names that begin so."""

    def __init__(self, registries: Mapping[str, CollectorRegistry], prefix: str = "") -> None:
        self._registries, self._prefix = registries, prefix

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for node, registry in self._registries.items():
            for metric in registry.collect():
                name = self._named(metric.name)
                into = found.setdefault(name, Metric(name, metric.documentation, metric.type))
                into.samples += [
                    one._replace(name=self._named(one.name), labels={"node": node, **one.labels})
                    for one in metric.samples
                ]
        return found.values()

    def _named(self, name: str) -> str:
        if not self._prefix:
            return name
        return self._prefix + next((name.removeprefix(one) for one in _PREFIXES if name.startswith(one)), name)
