"""What happens to the containers of a fake Docker engine, and what is told of it.

`Script` holds the documents and turns `start`, `die` and the like into the events that an engine 20.10 tells, in its
order. A `Tamper` then makes of each event what is really told. Delivery is the heir's: see `fake_docker`.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import copy
import datetime as dt
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.parts import docker_documents as documents
from tests.parts.docker_documents import Document

KEPT_EVENTS = 256  # as dockerd: daemon/events, eventsLimit

Deliveries = Iterable[tuple[float, Document]]  # (seconds to wait, event) for each time that it is told
Tamper = Callable[[Document], Deliveries]


def dropped(_event: Document) -> Deliveries:
    """A Tamper: the event is never told, nor kept."""
    return ()


def duplicated(event: Document) -> Deliveries:
    """A Tamper: the event is told twice."""
    return (0.0, event), (0.0, event)


def delayed(seconds: float) -> Tamper:
    """Make a Tamper: each event comes late."""
    return lambda event: ((seconds, event),)


class Shuffled:
    """A Tamper: events come in groups of `size`, each in a wrong order that the seed decides."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.random = random.Random(seed)
        self.held: list[Document] = []

    def __call__(self, event: Document) -> Deliveries:
        self.held.append(event)
        if len(self.held) < self.size:
            return ()
        right, self.held = self.held, []
        wrong = right[:]
        while wrong == right:
            self.random.shuffle(wrong)
        return [(0.0, each) for each in wrong]


class Script(abc.ABC):
    """The containers of one engine.

    Attributes:
        containers: documents as they are when the container runs, by id; `documents.shown` gives what is answered.
        history: the last 256 events.
        tamper: makes deliveries of each event; None: told once, at once.
        told: events so far, before `tamper`.
        bitten: what has really happened to somebody, by kind.
    """

    def __init__(self) -> None:
        self.containers: dict[str, Document] = {}
        self.history: collections.deque[Document] = collections.deque(maxlen=KEPT_EVENTS)
        self.tamper: Tamper | None = None
        self.told = 0
        self.bitten: collections.Counter[str] = collections.Counter()
        self._timers: set[asyncio.TimerHandle] = set()
        self._last_ns = self._ahead_ns = 0

    @abc.abstractmethod
    def deliver(self, event: Document) -> None:
        """Tell an event to those who listen."""

    # --- what happens to containers

    def add(self, document: Document, *, start: bool = True, quiet: bool = False) -> str:
        """Create a container and start it; returns its id. `quiet`: it was there before anybody listened."""
        own = copy.deepcopy(document)
        self.containers[own["Id"]] = own
        own["State"]["Running"] = False
        own["State"]["Status"] = "created"
        if not quiet:
            self._tell(own, "create")
        if start:
            self.start(own["Id"], quiet=quiet, keep=document["State"])
        return str(own["Id"])

    def start(self, container_id: str, *, quiet: bool = False, keep: Document | None = None) -> None:
        """Start it. `keep`: a State to take instead of a fresh one."""
        own = self.containers[container_id]
        documents.started(own, at=self._now())
        own["State"].update(copy.deepcopy(keep or {}))
        if not quiet:
            self._tell_networks(own, "connect")
            self._tell(own, "start")

    def kill(self, container_id: str, signal: int = 15) -> None:
        """Send it a signal; what it makes of it is told by `die`."""
        self._tell(self.containers[container_id], "kill", signal=str(signal))

    def die(self, container_id: str, code: int = 0) -> None:
        """Its process ends."""
        own = self.containers[container_id]
        documents.exited(own, code=code, at=self._now())
        self._tell(own, "die", exitCode=str(code))
        self._tell_networks(own, "disconnect")

    def stop(self, container_id: str, signal: int = 15, code: int = 0) -> None:
        """All of `docker stop` at once: kill, die, stop."""
        self.kill(container_id, signal)
        self.die(container_id, code)
        self._tell(self.containers[container_id], "stop")

    def restart_container(self, container_id: str) -> None:
        """All of `docker restart` at once."""
        self.stop(container_id)
        self.start(container_id)
        self._tell(self.containers[container_id], "restart")

    def remove(self, container_id: str) -> None:
        """All of `docker rm -f` at once."""
        own = self.containers[container_id]
        if own["State"]["Running"]:
            self.kill(container_id, 9)
            self.die(container_id, 137)
        del self.containers[container_id]
        self._tell(own, "destroy")

    def pause(self, container_id: str) -> None:
        """Freeze its processes."""
        self._change_state(container_id, "pause", Status="paused", Paused=True)

    def unpause(self, container_id: str) -> None:
        """Thaw its processes."""
        self._change_state(container_id, "unpause", Status="running", Paused=False)

    def health_status(self, container_id: str, status: str) -> None:
        """Its HEALTHCHECK changes its mind."""
        health = {"Status": status, "FailingStreak": 0, "Log": []}
        self._change_state(container_id, f"health_status: {status}", Health=health)

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name."""
        own = self.containers[container_id]
        old, own["Name"] = own["Name"], "/" + name
        self._tell(own, "rename", oldName=old)

    def update(self, container_id: str) -> None:
        """`docker update`: something about its resources changed."""
        self._tell(self.containers[container_id], "update")

    def network_connect(self, container_id: str, name: str, address: str | tuple[str, str]) -> None:
        """Join it to a network."""
        own = self.containers[container_id]
        own["NetworkSettings"]["Networks"][name] = documents.network(container_id, name, address)
        self.emit(documents.network_event(own, "connect", name, self._tick()))

    def network_disconnect(self, container_id: str, name: str) -> None:
        """Take it off a network."""
        own = self.containers[container_id]
        del own["NetworkSettings"]["Networks"][name]
        self.emit(documents.network_event(own, "disconnect", name, self._tick()))

    def _change_state(self, container_id: str, action: str, **state: Any) -> None:
        self.containers[container_id]["State"].update(state)
        self._tell(self.containers[container_id], action)

    def set_clock(self, ahead_s: float) -> None:
        """The host's time of day is another from now on: so far from that of the tests."""
        self._last_ns, self._ahead_ns = 0, int(ahead_s * 1e9)

    def _tell(self, own: Document, action: str, **attributes: str) -> None:
        self.emit(documents.container_event(own, action, self._tick(), **attributes))

    def _tell_networks(self, own: Document, action: str) -> None:
        for name in own["NetworkSettings"]["Networks"]:
            self.emit(documents.network_event(own, action, name, self._tick()))

    def _tick(self) -> int:
        """The time, never the same twice: events are told apart by it."""
        self._last_ns = max(self._last_ns + 1, time.time_ns() + self._ahead_ns)
        return self._last_ns

    def _now(self) -> str:
        now_ns = self._tick()
        second = dt.datetime.fromtimestamp(now_ns // 1_000_000_000, dt.UTC)
        return f"{second:%Y-%m-%dT%H:%M:%S}.{now_ns % 1_000_000_000:09d}Z"

    # --- telling events

    def emit(self, event: Document) -> None:
        """Tell an event, or what `tamper` makes of it."""
        self.told += 1
        deliveries = [(0.0, event)] if self.tamper is None else list(self.tamper(event))
        if self.tamper is not None and deliveries != [(0.0, event)]:
            self.bitten["tampered"] += 1
        for delay_s, each in deliveries:
            if delay_s <= 0:
                self._keep_and_deliver(each)
            else:
                self._later(delay_s, each)

    def _later(self, delay_s: float, event: Document) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            self._keep_and_deliver(event)

        timer = asyncio.get_running_loop().call_later(delay_s, fire)
        self._timers.add(timer)

    def _keep_and_deliver(self, event: Document) -> None:
        self.history.append(event)
        self.deliver(event)

    def forget_timers(self) -> None:
        """Never tell what is still delayed."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
