"""What the registrator asks of a container engine, and how the engine's events read to us.

Pure. `Engine` is implemented by `io_docker`; several engines, or one of another make, are several values of it. An
event is a hint that a container is worth another look: what counts is what an inspection says afterwards. The one
exception is the signal that begins a stop, which no inspection shows.
Source: Docker Engine API, SystemEvents (Type, Action, Actor); podman's names for the same things are mapped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

MIN_API = (1, 41)  # Docker 20.10: events by Type/Action/Actor, addresses under Networks

_ID = re.compile(r"^[0-9a-f]{12,64}\Z")
_VERSION = re.compile(r"^(\d{1,4})\.(\d{1,4})\Z")


class EngineError(Exception):
    """The engine could not do what was asked."""


class EngineUnavailable(EngineError):
    """The engine cannot be reached or did not answer in time; asking again later can help."""


class EngineRefused(EngineError):
    """The engine answers, but not in a way that we can use; the message says what to change."""


class Kind(Enum):
    """What happened to a container, as far as it matters to us."""

    LOOK = "look"  # anything that an inspection shows
    KILL = "kill"  # a signal was sent to it; only the event tells which


class Event(NamedTuple):
    """One thing that happened to one container.

    Attributes:
        kind: see Kind.
        container: the engine's id of it.
        at: UNIX time in seconds, by the engine's clock: see `Engine.behind_s`.
        action: the engine's word, for logs.
        signal: of KILL: as the engine wrote it, a number or a name.
    """

    kind: Kind
    container: str
    at: float
    action: str
    signal: str = ""


class ListAgain(NamedTuple):
    """Events may have been missed: list all containers and compare. Comes after every connection.

    Attributes:
        why: in words.
        dropped: it is on a connection that stands, where events can be missing because there were too many.
    """

    why: str
    dropped: bool = False


class Away(NamedTuple):
    """The engine is not to be heard; what is known of its containers stays."""

    why: str


News: TypeAlias = Event | ListAgain | Away


class EngineInfo(NamedTuple):
    """Who the engine is: its id, its host's name, its version and the API that is spoken with it."""

    id: str
    name: str
    version: str
    api: str


def read_info(raw: Mapping[str, object], api: str) -> EngineInfo:
    """GET /info; `api`: the version that is spoken.

    podman makes up an ID with every answer: there the host's name and the folder of its containers stand for it.
    """
    name, version = str(raw.get("Name", "")), str(raw.get("ServerVersion", ""))
    if "BuildahVersion" in raw:
        return EngineInfo(f"podman {name} {raw.get('DockerRootDir', '')}", name, version, api)
    return EngineInfo(str(raw.get("ID") or name), name, version, api)


def system_time(raw: Mapping[str, object]) -> float:
    """GET /info: the engine's time of day, UNIX time in seconds; 0 when it does not say."""
    try:
        return datetime.fromisoformat(str(raw.get("SystemTime"))).timestamp()
    except ValueError:
        return 0.0


class Membership(NamedTuple):
    """An engine's place in a swarm: its node's id, whether it is a manager, and the swarm's id, which managers know."""

    node: str
    manager: bool
    cluster: str


NO_SWARM = Membership("", manager=False, cluster="")


def read_membership(raw: Mapping[str, object]) -> Membership:
    """GET /info, as far as it tells of a swarm."""
    found = _mapping(raw.get("Swarm"))
    cluster = str(_mapping(found.get("Cluster")).get("ID") or "")
    if found.get("LocalNodeState") != "active":
        return NO_SWARM
    return Membership(str(found.get("NodeID") or ""), found.get("ControlAvailable") is True and bool(cluster), cluster)


def stirs_a_swarm(raw: Mapping[str, object]) -> bool:
    """True for an event after which a swarm is worth a look: of a service, a node, or what a task's container did."""
    attributes = _mapping(_mapping(raw.get("Actor")).get("Attributes"))
    if "com.docker.swarm.task.id" in attributes:
        return _action(raw) in _CONTAINER_ACTIONS
    return raw.get("Type") in SWARM_TYPES


TYPES = ("container", "network")
NODE = "node"  # events of it alone can tell of another leader
SWARM_TYPES = ("service", NODE)


class Engine(Protocol):
    """One container engine. Every method may raise EngineError and has a timeout of its own."""

    @property
    def behind_s(self) -> float:
        """Seconds to add to a time that the engine tells to have it by our clock; as far as is known by now."""
        ...

    def news(self) -> AsyncGenerator[News]:
        """What happens, for ever: reconnects by itself.

        Says ListAgain after every connection, and Away when it is lost.
        """
        ...

    async def info(self) -> EngineInfo:
        """Who the engine is."""
        ...

    async def running(self) -> tuple[str, ...]:
        """Ids of all containers whose process runs, paused ones too."""
        ...

    async def inspect(self, container: str) -> Mapping[str, object] | None:
        """The engine's whole document of a container; None when there is no such container."""
        ...

    def doubt(self, why: str) -> None:
        """Something happened that no event told: listen on a fresh connection."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


def container_id(text: str) -> bool:
    """True for what an engine may call a container's id."""
    return bool(_ID.match(text))


# Docker's and podman's words. What is not here (exec_*, attach, top, resize, ...) changes nothing that we publish;
# health checks alone make three exec events every few seconds.
_CONTAINER_ACTIONS: dict[str, Kind] = {
    "start": Kind.LOOK,
    "restart": Kind.LOOK,
    "kill": Kind.KILL,
    "die": Kind.LOOK,
    "died": Kind.LOOK,
    "stop": Kind.LOOK,
    "pause": Kind.LOOK,
    "unpause": Kind.LOOK,
    "rename": Kind.LOOK,
    "update": Kind.LOOK,
    "destroy": Kind.LOOK,
    "remove": Kind.LOOK,
    "health_status": Kind.LOOK,
}
_NETWORK_ACTIONS = frozenset({"connect", "disconnect"})


def read_event(raw: Mapping[str, object]) -> Event | None:
    """One line of GET /events; None for what does not matter to us, or makes no sense.

    >>> read_event({"Type": "container", "Action": "kill", "Actor": {"ID": "0123456789ab", "Attributes":
    ...     {"signal": "15"}}, "timeNano": 2000000000})
    Event(kind=<Kind.KILL: 'kill'>, container='0123456789ab', at=2.0, action='kill', signal='15')
    """
    actor = _mapping(raw.get("Actor"))
    attributes = _mapping(actor.get("Attributes"))
    action = _action(raw)
    match raw.get("Type"):
        case "container" if action in _CONTAINER_ACTIONS:
            kind, container = _CONTAINER_ACTIONS[action], actor.get("ID")
        case "network" if action in _NETWORK_ACTIONS:
            # podman names the container as the actor, and has no attribute for it; Docker's actor is the network.
            kind, container = Kind.LOOK, attributes.get("container", actor.get("ID") if "podId" in attributes else None)
        case _:
            return None
    if not isinstance(container, str) or not container_id(container):
        return None
    return Event(kind, container, _seconds(raw), action, str(attributes.get("signal", "")))


def _action(raw: Mapping[str, object]) -> str:
    return str(raw.get("Action", "")).partition(":")[0]  # "health_status: healthy", "exec_start: sh -c ..."


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _seconds(raw: Mapping[str, object]) -> float:
    nanoseconds, seconds = raw.get("timeNano"), raw.get("time")
    if isinstance(nanoseconds, int):
        return nanoseconds / 1e9
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def api_version(text: str) -> tuple[int, int]:
    """An API version as numbers; (0, 0) for what is none.

    >>> api_version("1.41") >= MIN_API
    True
    """
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


MAX_LINE = 1024 * 1024  # octets of one event; the engine's are a few hundred, with every label of a container in them


class BrokenStream(Exception):
    """What came is no stream of JSON lines; nothing after it can be told apart."""


class Lines:
    """Cuts chunks of octets into JSON objects, one a line, however the chunks were cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[dict[str, object]]:
        """The objects that are complete now.

        Raises:
            BrokenStream: a line is no JSON object, or has no end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise BrokenStream(f"a line of more than {MAX_LINE} octets")
        return [_object(line) for line in lines if line.strip()]


def _object(line: bytes) -> dict[str, object]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenStream(f"a line that is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BrokenStream("a line that is no object")
    return found
