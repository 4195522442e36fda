"""Readiness, health and draining of an endpoint: a pure state machine.

What is remembered is a `Condition`; events change it by one table, and the published state follows from it by another.
So an endpoint that was draining or paused comes back as what it is by then, not as what it was. Knows no clock and no
socket: deadlines are UNIX times that are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

import msgspec

from pilotfish.catalog.record import Container, Endpoint, State
from registrator.health import progress
from registrator.health.progress import STEADY, Flaps, Progress
from registrator.rules.container import Facts
from registrator.rules.probe import Choice, Probe

DRAIN_GRACE_S = 5.0  # over the stop timeout: the engine needs a moment to kill, and to tell
SET_BACK_S = 5.0  # more than two clocks that are taken for equal are apart, and a slow answer to what time it is
SIGKILL = 9
LOOPBACK = "127.0.0.1"


class Gate(Enum):
    """What opens an endpoint for the first time."""

    HEALTH = "health"  # the image's HEALTHCHECK
    DIAL = "dial"  # a connection to the container's port
    NONE = "none"  # nothing: UDP without a HEALTHCHECK, CHECK=none; or what a CHECK_* finds, see `Condition.progress`


class Happening(Enum):
    """What can happen to an endpoint's condition."""

    ANSWERED = "answered"  # its port took a connection
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    CHECKING = "checking"  # the HEALTHCHECK has not decided yet
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPING = "stopping"  # the signal that begins a stop, with a deadline
    EXPIRED = "expired"  # the deadline has passed, and it still runs
    STARTED = "started"  # its process is another than before


class Condition(msgspec.Struct, frozen=True):
    """What is remembered of an endpoint.

    Attributes:
        gate: what opens it.
        opened: it was ready once since its container started.
        unwell: its HEALTHCHECK says so.
        paused: its container is frozen.
        deadline: UNIX time in seconds at which draining ends; 0: it is not draining.
        progress: what its CHECK_* found; None: it has none. Passing needs the gate and this.
        passed: all that is asked of it was well once since its container started.
        flaps: how often it fell of late.
    """

    gate: Gate
    opened: bool = False
    unwell: bool = False
    paused: bool = False
    deadline: float = 0.0
    progress: Progress | None = None
    passed: bool = False
    flaps: Flaps = STEADY


_CHANGES: dict[Happening, Callable[[Condition, float], Condition]] = {
    Happening.ANSWERED: lambda was, _: was if was.gate is Gate.HEALTH else _with(was, opened=True),
    Happening.HEALTHY: lambda was, _: _with(was, opened=True, unwell=False) if was.gate is Gate.HEALTH else was,
    Happening.UNHEALTHY: lambda was, _: _with(was, opened=True, unwell=True) if was.gate is Gate.HEALTH else was,
    Happening.CHECKING: lambda was, _: _with(was, opened=False, unwell=False) if was.gate is Gate.HEALTH else was,
    Happening.PAUSED: lambda was, _: _with(was, paused=True),
    Happening.RESUMED: lambda was, _: _with(was, paused=False),
    Happening.STOPPING: lambda was, deadline: _with(was, deadline=deadline),
    # An application that finishes its requests for longer than we knew of has closed its port by now: ask it again.
    Happening.EXPIRED: lambda was, _: (
        _with(was, deadline=0.0, opened=was.opened and was.gate is not Gate.DIAL, progress=_anew(was.progress))
        if was.deadline
        else was
    ),
    Happening.STARTED: lambda was, _: begin(was.gate, was.progress.probe if was.progress else None),
}


def _with(condition: Condition, **changes: object) -> Condition:
    return msgspec.structs.replace(condition, **changes)


def _anew(was: Progress | None) -> Progress | None:
    return progress.start(was.probe) if was else None


def begin(gate: Gate, probe: Probe | None = None) -> Condition:
    """The condition of an endpoint whose container has just started.

    >>> state(begin(Gate.DIAL))
    'starting'
    """
    return _noted(Condition(gate, opened=gate is Gate.NONE, progress=progress.start(probe) if probe else None))


def happen(condition: Condition, happening: Happening, deadline: float = 0.0) -> Condition:
    """The condition after something happened; `deadline` belongs to STOPPING."""
    return _noted(_CHANGES[happening](condition, deadline))


def checked(condition: Condition, problem: str) -> Condition:
    """The condition after its CHECK_* found something; "" for nothing wrong."""
    if condition.progress is None:
        return condition
    return _noted(_with(condition, progress=progress.found(condition.progress, problem)))


def _noted(condition: Condition) -> Condition:
    return condition if condition.passed or not _is_well(condition) else _with(condition, passed=True)


def damp(before: Condition, after: Condition, now: float) -> Condition:
    """The condition `after` a change with what the change means for an endpoint that flaps.

    Only what checks say counts: a pause is an operator's doing, a draining ends by itself.
    """
    well, is_well = _is_well(before), _is_well(after)
    if after.passed and well and not is_well:
        return _with(after, flaps=progress.fell(after.flaps, now, _problem(after)))
    if after.passed and is_well and not well:
        return _with(after, flaps=progress.rose(after.flaps, now))
    return after


def settle(condition: Condition, now: float) -> Condition:
    """The condition at a time: whoever was held back for long enough is believed again."""
    if not progress.is_over(condition.flaps, now):
        return condition
    return _with(condition, flaps=msgspec.structs.replace(condition.flaps, until=0.0))


def _is_well(condition: Condition) -> bool:
    return condition.opened and not condition.unwell and (condition.progress is None or condition.progress.passing)


def _problem(condition: Condition) -> str:
    """What is wrong with an endpoint that is not well, in a few words."""
    if condition.unwell:
        return "its HEALTHCHECK says unhealthy"
    if not condition.opened:
        return _UNOPENED[condition.gate]
    if condition.progress and not condition.progress.passing:
        return f"{condition.progress.probe.title}: {condition.progress.why}"
    return ""


_UNOPENED = {
    Gate.HEALTH: "its HEALTHCHECK has not decided yet",
    Gate.DIAL: "its port has taken no connection yet",
    Gate.NONE: "",
}


class _Row(NamedTuple):
    holds: Callable[[Condition], bool]
    state: State


# The first row that holds decides.
_STATES: tuple[_Row, ...] = (
    _Row(lambda condition: condition.deadline > 0, "draining"),
    _Row(lambda condition: condition.paused, "failing"),
    _Row(lambda condition: condition.unwell, "failing"),
    _Row(lambda condition: not condition.opened, "starting"),
    _Row(lambda condition: condition.progress is not None and not condition.progress.opened, "starting"),
    _Row(lambda condition: condition.progress is not None and not condition.progress.passing, "failing"),
    _Row(lambda condition: condition.flaps.until > 0, "failing"),
    _Row(lambda _: True, "passing"),
)


def state(condition: Condition) -> State:
    """What a condition is published as."""
    return next(row.state for row in _STATES if row.holds(condition))


def shown(condition: Condition) -> tuple[State, str, bool]:
    """What of a condition others get to see."""
    return state(condition), why(condition), condition.passed


def why(condition: Condition) -> str:
    """Why it is in its state, if there is more to say; the same for as long as the state is, as a rule."""
    if condition.deadline > 0:
        return ""
    if condition.paused:
        return "its container is paused"
    if condition.flaps.flapping and (condition.flaps.until or not _is_well(condition)):
        return f"flaps, so it has to pass for longer: {condition.flaps.why}"
    return _problem(condition)


def gate_of(facts: Facts, endpoint: Endpoint, choice: Choice) -> Gate:
    """What opens an endpoint: the HEALTHCHECK where the image has one, else its CHECK_*, else a dial; UDP has none."""
    if facts.health != "none" and not choice.ignores_health:
        return Gate.HEALTH
    asked = choice.probe is None and not choice.unasked and endpoint.protocol == "tcp"
    return Gate.DIAL if asked else Gate.NONE


_HEALTH: dict[str, Happening] = {
    "starting": Happening.CHECKING,
    "healthy": Happening.HEALTHY,
    "unhealthy": Happening.UNHEALTHY,
}


def observe(condition: Condition, facts: Facts) -> Condition:
    """The condition after an inspection said what `facts` says."""
    seen = happen(condition, Happening.PAUSED if facts.paused else Happening.RESUMED)
    return happen(seen, _HEALTH[facts.health]) if facts.health in _HEALTH else seen


NO_CHOICE = Choice()


def is_asked_so(condition: Condition, facts: Facts, endpoint: Endpoint, choice: Choice) -> bool:
    """True when what a condition remembers was found by the checks that count now."""
    probe = condition.progress.probe if condition.progress else None
    return condition.gate is gate_of(facts, endpoint, choice) and probe == choice.probe


def resume(facts: Facts, endpoint: Endpoint, recorded: Endpoint | None, choice: Choice = NO_CHOICE) -> Condition:
    """The condition of an endpoint that is seen for the first time by this process.

    Args:
        facts: of its container.
        endpoint: as it is wanted now.
        recorded: what the store holds of it from the same run of the container; None: nothing.
        choice: what its tags ask for.

    A check that was out stays out until it has passed; how often it fell is forgotten.
    """
    condition = begin(gate_of(facts, endpoint, choice), choice.probe)
    if recorded is not None:
        condition = _with(condition, passed=condition.passed or recorded.passed or recorded.state == "passing")
        condition = _with(condition, progress=_resumed(choice.probe, recorded))
    if recorded is not None and _has_opened(recorded):
        condition = happen(condition, Happening.ANSWERED)
    if recorded is not None and recorded.state == "draining":
        condition = happen(condition, Happening.STOPPING, recorded.deadline)
    return observe(condition, facts)


def _has_opened(recorded: Endpoint) -> bool:
    """True for one whose port was found to take connections.

    What fails may only be paused, and may have been while nobody listened yet: that says nothing unless it had passed.
    """
    return recorded.state in {"passing", "draining"} or (recorded.state == "failing" and recorded.passed)


def _resumed(probe: Probe | None, recorded: Endpoint) -> Progress | None:
    if probe is None:
        return None
    passed = recorded.passed or recorded.state == "passing"
    if recorded.state != "failing":
        return progress.resumed(probe, passed=passed, failing=None)
    _, ours, reason = recorded.why.rpartition(f"{probe.title}: ")
    return progress.resumed(probe, passed=passed, failing=reason if ours else progress.NOT_CHECKED)


def recorded_endpoints(facts: Facts, record: Container | None) -> dict[tuple[int, str], Endpoint]:
    """What the store holds of a container's endpoints, by port and protocol; empty when it has started anew since."""
    if record is None or record.started != facts.started:
        return {}
    return {(endpoint.port, endpoint.protocol): endpoint for endpoint in record.endpoints}


def stop_deadline(facts: Facts, signal: int, at: float, now: float, behind_s: float = 0.0) -> float:
    """When the draining that a signal begins ends; 0 for a signal that stops nothing (SIGHUP of a reload).

    Args:
        facts: of the container: its stop signal and stop timeout.
        signal: number of the signal that was sent.
        at: UNIX time in seconds at which it was sent, by the engine's clock; before the container's start it belongs to
            an earlier run.
        now: by our clock, as is what is returned.
        behind_s: seconds that the engine's clock is behind ours; see `EngineClock`.

    A start that lies well ahead of now was before the engine's clock was set back, and says nothing.
    """
    of_earlier_run = at < facts.started <= now - behind_s + SET_BACK_S
    if signal not in {facts.stop_signal, SIGKILL} or of_earlier_run:
        return 0.0
    return min(at + behind_s, now) + facts.stop_timeout_s + DRAIN_GRACE_S


class Target(NamedTuple):
    """Where an endpoint's port can be tried.

    Attributes:
        ip: of the container, or of this host.
        port: at that address.
        decides: a refusal there means that nobody listens; else the next one is tried.
    """

    ip: str
    port: int
    decides: bool = True


def targets(facts: Facts, endpoint: Endpoint, host_addresses: Iterable[str]) -> tuple[Target, ...]:
    """Where to dial, best first: the container's own address, else where its port is published on this host.

    Nothing else is ever dialled, whatever address a tag names: a tag must not make us knock on other doors. On the
    host's network an application may be bound to any of the host's addresses, so all of them are tried.
    """
    if facts.network_mode == "host":
        return tuple(Target(ip, endpoint.port, decides=False) for ip in (*host_addresses, LOOPBACK))
    own = [Target(ip, endpoint.port) for network in facts.networks for ip in (network.ipv4, network.ipv6) if ip]
    addresses = set(host_addresses)
    bound = {(binding.ip, binding.port) for bindings in facts.bindings.values() for binding in bindings}
    published = [
        Target(address.ip, address.port)
        for address in endpoint.addresses
        if (address.ip, address.port) in bound
        or (address.ip in addresses and address.port in {port for _, port in bound})
    ]
    return tuple(dict.fromkeys([*own, *published]))
