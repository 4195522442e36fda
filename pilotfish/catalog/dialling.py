"""When orphans are dialled, and what follows from their answers.

Pure: times and answers go in, dials and judgements come out; `io_orphans` dials. Invariants:

- an endpoint is given up after two dials in a row that failed, never after one: a packet can be lost;
- of every host some endpoints are dialled before all others, which wait for a sign of life; the silence of these, with
  no sign of life since they were first dialled, is the host's: a host that is dead is known as fast, and with as few
  dials, with a thousand endpoints as with three;
- all others are spread over time, so that many orphans cost no more a second than a few hundred.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple, TypeAlias

import msgspec

DIAL_S = 1.0  # a dial takes no longer: TCP asks again after a second (RFC 6298 §2), and so do we
AGAIN_S = 0.2  # after a dial that failed; with two dials of DIAL_S an endpoint is given up after 2.2 s
PERIOD_S = 2.0  # between two dials of an endpoint that answers
RATE = 500  # dials a second, beyond which periods grow; a twentieth of a core
PROBES = 3  # endpoints of a host whose silence is the host's
WITNESSES = 2  # others that are asked as well when one is silent for the first time
PARKED_S = 2 * DIAL_S + AGAIN_S + 0.5  # how long the others of a host wait for a sign of life
LOOK_S = 0.5  # how often they look for it
AT_FIRST_S = 0.1  # over which the first dials of all hosts are spread

Where: TypeAlias = tuple[tuple[str, int], ...]  # addresses and ports of one endpoint, each as good as the others


class Answer(Enum):
    """What came of a dial."""

    TAKEN = "taken"  # a connection
    REFUSED = "refused"  # the host lives, and nobody listens there
    SILENT = "silent"  # nothing came, or there is no way there
    UNKNOWN = "unknown"  # the dial could not be made, for a reason that is ours


class Dial(NamedTuple):
    """One endpoint to be dialled: key of its container's record, its id, where."""

    key: str
    endpoint: str
    where: Where


class Judged(NamedTuple):
    """What follows from an answer: the endpoint is given up; all of a host are ("": none)."""

    gone: bool = False
    host: str = ""


class _Door(msgspec.Struct):
    host: str
    where: Where
    probe: bool  # waits for nothing
    at: float = 0.0
    began: float = 0.0  # when the first of its failed dials began
    failed: int = 0


class _Host(msgspec.Struct):
    parked_until: float  # until then its endpoints that are no probes wait
    doors: dict[tuple[str, str], None] = {}
    lived: float = float("-inf")  # its last sign of life
    silent: int = 0  # endpoints that were given up for their silence since


class Dialling:
    """The dials of all orphans.

    Args:
        jitter: gives a number from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._doors: dict[tuple[str, str], _Door] = {}
        self._hosts: dict[str, _Host] = {}
        self._heap: list[tuple[float, tuple[str, str]]] = []

    def __len__(self) -> int:
        return len(self._doors)

    @property
    def next_at(self) -> float:
        """When the next dial is due, or was; infinite when there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def add(self, dials: Iterable[tuple[str, Dial]], now: float) -> None:
        """Begin to dial endpoints, each with the name of its host.

        Args:
            dials: those that became orphans together.
            now: in seconds, of a clock that only goes forward.
        """
        by_host: dict[str, list[Dial]] = defaultdict(list)
        for host, dial in dials:
            by_host[host].append(dial)
        turns = itertools.zip_longest(*([(host, one) for one in found] for host, found in sorted(by_host.items())))
        at = now + AT_FIRST_S
        for turn, row in enumerate(turns):
            for host, dial in filter(None, row):
                probe = turn < PROBES
                at += 0.0 if probe else 1 / RATE
                name = (dial.key, dial.endpoint)
                self._doors[name] = _Door(host, dial.where, probe)
                self._hosts.setdefault(host, _Host(now + PARKED_S)).doors[name] = None
                self._plan(name, now + AT_FIRST_S * self._jitter() if probe else at)

    def drop(self, key: str, endpoint: str) -> None:
        """Dial an endpoint no more."""
        door = self._doors.pop((key, endpoint), None)
        if door is None:
            return
        host = self._hosts[door.host]
        del host.doors[key, endpoint]
        if not host.doors:
            del self._hosts[door.host]

    def due(self, now: float, most: int) -> list[Dial]:
        """The dials that are to be made now, at most so many; each is to be followed by its `judge`."""
        found: list[Dial] = []
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            at, name = heapq.heappop(self._heap)
            door = self._doors.get(name)
            if door is None or door.at != at:
                continue
            parked_until = self._hosts[door.host].parked_until
            if now < parked_until and not door.probe:
                self._plan(name, min(now + LOOK_S, parked_until))
                continue
            door.at = float("inf")  # under way
            door.began = door.began if door.failed else now
            found.append(Dial(*name, door.where))
        return found

    def judge(self, dial: Dial, answer: Answer, now: float) -> Judged:
        """Take in what came of a dial; whoever is given up is dropped by the caller."""
        name = (dial.key, dial.endpoint)
        door = self._doors.get(name)
        if door is None or door.where != dial.where:
            return Judged()
        host = self._hosts[door.host]
        if answer is not Answer.SILENT:
            host.parked_until = 0.0
        if answer in {Answer.TAKEN, Answer.REFUSED}:
            host.lived, host.silent = now, 0
        if answer in {Answer.TAKEN, Answer.UNKNOWN}:
            door.failed = 0 if answer is Answer.TAKEN else door.failed
            period_s = max(PERIOD_S, len(self._doors) / RATE)
            self._plan(name, now + period_s * (0.75 + self._jitter() / 2))
            return Judged()
        door.failed += 1
        if door.failed == 1:
            self._plan(name, now + AGAIN_S)
            if answer is Answer.SILENT and host.lived < door.began:
                self._suspect(host, now)
            return Judged()
        if answer is Answer.SILENT and host.lived < door.began:
            host.silent += 1
        return Judged(gone=True, host=door.host if host.silent >= PROBES else "")

    def _suspect(self, host: _Host, now: float) -> None:
        """An endpoint is silent: ask some others of its host now, whether it is the host; the rest waits for it."""
        host.parked_until = max(host.parked_until, now + DIAL_S + AGAIN_S + LOOK_S)
        if sum(self._doors[name].probe for name in host.doors) >= PROBES + WITNESSES:
            return
        for name in itertools.islice(filter(lambda name: self._may_witness(name, now), host.doors), WITNESSES):
            self._doors[name].probe = True
            self._plan(name, now)

    def _may_witness(self, name: tuple[str, str], now: float) -> bool:
        """Whether nobody asks it soon: one that waits for a sign of life only looks for that, however soon."""
        door = self._doors[name]
        return door.at < float("inf") and (now + AGAIN_S < door.at or not (door.probe or door.failed))

    def _plan(self, name: tuple[str, str], at: float) -> None:
        self._doors[name].at = at
        heapq.heappush(self._heap, (at, name))
