"""The blast-radius guard: most of what is served is not taken away at one stroke because the store says so.

Pure. A wrong `etcdctl del --prefix`, a registrator gone mad or a bad upgrade of it takes records away while their nodes
stay. `Guard` says which removals are to be held; `orphans` keeps those, as it keeps orphans: while they answer, and for
a grace time at most. Invariants:

- what was not served is never held: a container that drained, failed or was drained by an operator is wanted gone;
- nothing is held before more is gone than was set, and then all that went within `WINDOW_S` is;
- whoever has an address now is believed: a container whose address another took is not held;
- a claim that goes alone is believed: operators and registrators free one route at a time.

It counts containers that have endpoints: one container is one record, and goes as a whole. It counts claims apart, and
only those of services that are served: without its claim a route is served by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from pilotfish.catalog.record import BadRecord, Container, decode
from pilotfish.catalog.store import Entry

Seat: TypeAlias = tuple[str, str, int, str]  # what no two endpoints have: host ("" for lan), ip, port, protocol

LEAST = 10  # containers: fewer are one compose project, whose end is everyday work however it came about
WINDOW_S = 60.0  # that a fault needs to work its way through several registrators, each with many transactions
ALLOW_S = 60.0  # after an operator's release
MOST_REMEMBERED = 20_000  # removals of the last minute


class Catalog(Protocol):
    """What the guard asks of the registry, which has not taken in the difference yet."""

    def standing_count(self) -> int:
        """How many containers have endpoints."""
        ...

    def serves(self, key: str) -> bool:
        """Whether an endpoint of the container at a key is published."""
        ...

    def claims_served(self) -> int:
        """How many claims are of services that are served, and not idle."""
        ...

    def leads(self, key: str) -> bool:
        """Whether the claim at a key is of a service that is served, and not idle: registrators free those."""
        ...


class Limit(NamedTuple):
    """What is held, and for how long.

    Attributes:
        grace_s: how long a removal is held at most; 0: nothing is.
        percent: of all containers; more than that makes the guard hold them.
    """

    grace_s: float = 0.0
    percent: int = 50


class _LetGo(NamedTuple):
    entry: Entry
    at: float
    seats: frozenset[Seat]


def seats(container: Container) -> set[tuple[Seat, str]]:
    """Where a container's endpoints are, each with the endpoint's id."""
    return {
        ((container.node if address.scope == "node" else "", address.ip, address.port, endpoint.protocol), endpoint.id)
        for endpoint in container.endpoints
        for address in endpoint.addresses
    }


def _seats_at(entry: Entry) -> frozenset[Seat]:
    try:
        return frozenset(seat for seat, _ in seats(decode(Container, entry.value)))
    except BadRecord:
        return frozenset()


class Guard:
    """Judges removals, for one reader.

    Args:
        limit: what is too much.
        catalog: what is served now; asked for at each look.
    """

    def __init__(self, limit: Limit, catalog: Callable[[], Catalog]) -> None:
        self.limit = limit
        self._catalog = catalog
        self._let_go: dict[str, _LetGo] = {}  # served, and removed a moment ago; the first of them first
        self._seats: dict[Seat, str] = {}  # -> its key
        self._allowed_until = float("-inf")
        self._unclaimed: dict[str, tuple[Entry, float]] = {}  # likewise, and when; they alone are claims

    @property
    def remembers(self) -> bool:
        """Whether it has to hear of everything that is put."""
        return bool(self._let_go or self._unclaimed)

    def judge(self, taken: Mapping[str, Entry], held: int, arriving: int, now: float) -> dict[str, Entry]:
        """Which removals are to be held: these, and those let go in the last minute; empty: none.

        Args:
            taken: container records that are being taken away.
            held: how many are held already.
            arriving: how many new ones come with the same difference.
            now: seconds of the clock that `orphans` has.
        """
        if not self.limit.grace_s or now < self._allowed_until:
            return {}
        self._forget(now)
        catalog = self._catalog()
        before = len(self._let_go)
        going = {key: entry for key, entry in taken.items() if catalog.serves(key)}
        gone = before + held + len(going)
        whole = catalog.standing_count() + before + arriving
        if going and gone >= LEAST and gone * 100 > whole * self.limit.percent:
            found = {key: one.entry for key, one in self._let_go.items()} | going
            self._clear()
            return found
        for key, entry in going.items():
            if len(self._let_go) < MOST_REMEMBERED:
                self._remember(key, _LetGo(entry, now, _seats_at(entry)))
        return {}

    def judge_claims(self, gone: Mapping[str, Entry], held: int, now: float, *, with_hosts: bool) -> dict[str, Entry]:
        """Which claims are to be held: these, and those let go in the last minute; empty: none.

        Args:
            gone: claims that are being taken away.
            held: how many are held already.
            now: seconds of the clock that `orphans` has.
            with_hosts: node keys go in the same moment: then two are enough, of however many.
        """
        if not self.limit.grace_s or now < self._allowed_until:
            return {}
        for key in [key for key, (_, at) in self._unclaimed.items() if now - at >= WINDOW_S]:
            del self._unclaimed[key]
        catalog = self._catalog()
        going = {key: entry for key, entry in gone.items() if catalog.leads(key)}
        if not going:
            return {}
        count = len(self._unclaimed) + held + len(going)
        whole = catalog.claims_served() + len(self._unclaimed)
        most = count * 100 > whole * self.limit.percent and (len(going) > 1 or count >= LEAST)
        if most or (with_hosts and len(going) > 1):
            found = {key: entry for key, (entry, _) in self._unclaimed.items()} | going
            self._unclaimed.clear()
            return found
        room = MOST_REMEMBERED - len(self._unclaimed)
        self._unclaimed.update((key, (going[key], now)) for key in list(going)[:room])
        return {}

    def leads(self, key: str) -> bool:
        """Whether the claim at a key leads to a service that is served: only then is it worth holding."""
        return self._catalog().leads(key)

    def meet_claim(self, key: str) -> None:
        """A claim is put: what it replaces went for good."""
        self._unclaimed.pop(key, None)

    def meet(self, entry: Entry) -> None:
        """A container record is put: what it replaces went for good."""
        if not self._let_go:
            return
        for key in {entry.key, *(self._seats.get(seat, entry.key) for seat in _seats_at(entry))}:
            self._drop(key)

    def allow(self, now: float) -> None:
        """An operator wants it so: hold nothing for a minute."""
        self._clear()
        self._unclaimed.clear()
        self._allowed_until = now + ALLOW_S

    def _forget(self, now: float) -> None:
        while self._let_go:
            key, one = next(iter(self._let_go.items()))
            if now - one.at < WINDOW_S:
                return
            self._drop(key)

    def _remember(self, key: str, one: _LetGo) -> None:
        self._let_go[key] = one
        self._seats.update(dict.fromkeys(one.seats, key))

    def _drop(self, key: str) -> None:
        one = self._let_go.pop(key, None)
        for seat in one.seats if one else ():
            if self._seats.get(seat) == key:
                del self._seats[seat]

    def _clear(self) -> None:
        self._let_go.clear()
        self._seats.clear()
