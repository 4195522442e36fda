"""Orphans: container records that a reader keeps although they left the store with their node's key.

Pure. The registrator or its host may have died, and the applications may live, so a reader keeps what it knew while it
answers. `take` stands between a mirror and its reader: what is kept is left out of the deletions, marked, and deleted
later. Invariants:

- what the store holds is never touched: an orphan ends as soon as its record is there again;
- nothing is kept longer than it was asked for, nor more records than `most`;
- nothing is kept that no dial speaks for: what cannot be dialled from here (UDP, an address of another host's bridge)
  stays with the TCP endpoints of its container, without these with those of its host's other orphans.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from pilotfish.catalog import keys
from pilotfish.catalog.dialling import Dial, Dialling, Where
from pilotfish.catalog.guard import Guard, Seat, seats
from pilotfish.catalog.keys import ClaimKey, ContainerKey, NodeKey, ProxyKey
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import BadRecord, Container, Endpoint, Node, decode
from pilotfish.catalog.store import Entry
from pilotfish.catalog.wishes import RELEASE_KEY

MOST_ORPHANS = 20_000  # records; what is more is let go at once
OTHERS_S = 5.0  # within which everybody has registered anew with a store that lost everything
PROXIES_S = 30.0  # twice the usual lease of a proxy: one that has not registered anew by then is dead
UNSERVED_S = 5.0  # after which nobody waits for a held claim's service any more
CLAIMS_A_LOOK = 256  # each asks whether its service is served
MOST_ADDRESSES = 4  # of one endpoint that are dialled


class Age(msgspec.Struct, frozen=True):
    """What an orphan has behind it: for how many seconds it is one, and ids of its endpoints that were given up."""

    age_s: float = 0.0
    silent: tuple[str, ...] = ()


NEW = Age()
CLAIMED = ("guard",)  # stands for `silent` of a claim that the guard holds
_ALL_NEW: Mapping[str, Age] = MappingProxyType({})


class Kept(msgspec.Struct):
    """One orphan.

    Attributes:
        entry: the record as it stood in the store.
        container: what it says.
        since: when it became an orphan, in seconds of the clock that is handed in.
        doors: ids of its endpoints that can be dialled from here and were not given up.
        silent: ids of those that were given up.
        blind: none of its endpoints can be dialled from here.
        until: when it ends at the latest.
    """

    entry: Entry
    container: Container
    since: float
    doors: set[str]
    silent: set[str]
    blind: bool
    until: float


class _Host(msgspec.Struct):
    orphans: set[str]  # keys
    blind: set[str]  # those of them that cannot be dialled


class Orphans:
    """All orphans of one reader.

    Args:
        node: the host that the reader runs on; only there `node` addresses can be dialled.
        keep_s: how long one is kept at most; 0: none is.
        dialling: when they are dialled.
        guard: says which removals are held.
        most: records.
    """

    def __init__(self, node: str, keep_s: float, dialling: Dialling, guard: Guard, most: int = MOST_ORPHANS) -> None:
        self.kept: dict[str, Kept] = {}  # by key; the longest kept first
        # Claims and proxies of a store that is no more, and since when: claims as long as there are orphans.
        self.others: dict[str, tuple[Entry, float]] = {}
        self.claims: dict[str, tuple[Entry, float]] = {}  # that the guard holds, and until when
        self.held: set[str] = set()  # those of `kept` that the guard holds
        self.version = 0  # grows with every change
        self._node, self.keep_s, self._dialling, self._most = node, keep_s, dialling, most
        self._guard = guard
        self._unserved: dict[str, float] = {}  # held claims of services that are not served, and since when
        self._ends: list[tuple[float, str]] = []  # a heap: when, which key
        self._back: dict[str, Entry] = {}  # what was let go, and is held after all
        self._hosts: dict[str, _Host] = {}
        self._seats: dict[Seat, set[tuple[str, str]]] = {}  # -> key, id of an endpoint
        self._gone: set[str] = set()  # keys that the reader is to be told of
        self._marked: set[str] = set()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts of which something is kept, sorted."""
        return tuple(sorted(self._hosts))

    def claims_held(self) -> list[tuple[Entry, float]]:
        """Claims that the guard holds, and since when. It may be called in another thread."""
        return [(entry, until - self._guard.limit.grace_s) for entry, until in list(self.claims.values())]

    # --- between the mirror and its reader

    def take(self, difference: Difference, now: float) -> Difference:
        """What a reader is told of a difference of its mirror."""
        if not difference.started_over and any(entry.key == RELEASE_KEY for entry in difference.puts):
            self._release(now)
        went = difference.orphans or difference.taken or difference.unclaimed
        keeps = self.kept or self.others or self.claims
        if not (keeps or went or self._gone or self._marked or self._guard.remembers):
            return difference
        if difference.unclaimed:  # first: whether they are served is what the reader knows now
            self._hold_claims(difference.unclaimed, now, with_hosts=bool(difference.orphans))
        if self.keep_s:
            self._adopt(difference.orphans, now)
        if difference.taken:
            self._hold(difference.taken, _arriving(difference), now)
        for entry in difference.puts:
            self._meet(entry, now)
            self._gone.discard(entry.key)  # it ended and is back before the reader was told
        return self._told(difference)

    def _told(self, difference: Difference) -> Difference:
        changes = self.changes(difference.revision)
        held = self.kept.keys() | self.others.keys() | self.claims.keys()
        deletes = (set(difference.deletes) - held) | set(changes.deletes)
        puts = difference.puts
        if self._back:
            puts = tuple(sorted((*puts, *(self._back[key] for key in self._back.keys() & held)), key=_key))
            self._back = {}
        return msgspec.structs.replace(
            difference, puts=puts, deletes=tuple(sorted(deletes)), kept=changes.kept, held=changes.held
        )

    def restore(self, entries: Iterable[Entry], ages: Mapping[str, Age], now: float) -> None:
        """Take in what an earlier run kept.

        Args:
            entries: records of orphans; claims and proxies.
            ages: by key.
            now: by the clock of this run.
        """
        if not self.keep_s:
            return
        # All at once: what cannot be dialled is kept for the sake of the others of its host.
        oldest_first = sorted(entries, key=lambda entry: -ages[entry.key].age_s)
        self._adopt({entry.key: entry for entry in oldest_first}, now, ages)

    def changes(self, revision: int) -> Difference:
        """What changed since it was last asked for, as a difference for the reader."""
        kept = {key: frozenset(self.kept[key].silent) for key in sorted(self._marked & self.kept.keys())}
        gone = tuple(sorted(self._gone - self.kept.keys() - self.others.keys() - self.claims.keys()))
        self._gone, self._marked = set(), set()
        return Difference(revision, deletes=gone, kept=kept, held=frozenset(kept.keys() & self.held))

    def whole(self, revision: int) -> Difference:
        """All that is kept, for a reader that begins anew with all that its mirror holds."""
        others = (entry for entry, _ in (*self.others.values(), *self.claims.values()))
        entries = (*others, *(one.entry for one in self.kept.values()))
        kept = {key: frozenset(one.silent) for key, one in self.kept.items()}
        return Difference(revision, entries, kept=kept, held=frozenset(self.held))

    # --- what dials and time say

    def give_up(self, key: str, endpoint: str) -> None:
        """An endpoint does not answer, or another has its address."""
        one = self.kept.get(key)
        if one is None:
            return
        one.silent.add(endpoint)
        one.doors.discard(endpoint)
        self._dialling.drop(key, endpoint)
        self._mark(key)
        left = any(each.id not in one.silent for each in one.container.endpoints)
        if not left or not (one.doors or one.blind):
            self._end(key)

    def give_up_host(self, host: str) -> None:
        """Nothing of a host answers, or what of it is kept is known not to be there."""
        for key in self._hosts[host].orphans.copy() if host in self._hosts else ():
            self._end(key)

    def expire(self, now: float) -> None:
        """End what was kept long enough."""
        over = {key for key, (_, since) in self.others.items() if self._is_over(key, now - since)}
        self._gone |= over
        for key in over:
            self._drop_other(key)
        self._drop_claims({key for key, (_, until) in self.claims.items() if until <= now})
        self._drop_claims(self._unserved_claims(now))
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            if key in self.kept and self.kept[key].until <= now:
                self._end(key)
        if not self.kept:
            self._ends.clear()

    def _unserved_claims(self, now: float) -> set[str]:
        """Held claims that lead nowhere: nothing of their service has been served for a while. Some at each look."""
        over = set()
        for key in list(itertools.islice(self.claims, CLAIMS_A_LOOK)):
            self.claims[key] = self.claims.pop(key)  # the next look begins behind it
            if self._guard.leads(key):
                self._unserved.pop(key, None)
            elif now - self._unserved.setdefault(key, now) >= UNSERVED_S:
                over.add(key)
        return over

    def _is_over(self, key: str, age_s: float) -> bool:
        if key.startswith(keys.PROXIES):
            return age_s >= PROXIES_S
        return not self.kept and age_s >= OTHERS_S

    def _drop_other(self, key: str) -> None:
        self.version += self.others.pop(key, None) is not None

    # --- how it goes on

    def _hold(self, taken: Mapping[str, Entry], arriving: int, now: float) -> Mapping[str, Entry]:
        """Keep what the guard holds of what is taken away, and what it let go before; returns all of that."""
        found = self._guard.judge(taken, len(self.held), arriving, now)
        for key in found.keys() & self.kept.keys():
            self._until(self.kept[key], now + self._guard.limit.grace_s, held=True)
            self._mark(key)
        self._adopt(found, now, held=True)
        self._back |= {key: entry for key, entry in found.items() if key not in taken}
        return found

    def _hold_claims(self, unclaimed: Mapping[str, Entry], now: float, *, with_hosts: bool) -> None:
        found = self._guard.judge_claims(unclaimed, len(self.claims), now, with_hosts=with_hosts)
        self.claims.update((key, (entry, now + self._guard.limit.grace_s)) for key, entry in found.items())
        self._back |= {key: entry for key, entry in found.items() if key not in unclaimed}
        self.version += bool(found)

    def _drop_claims(self, over: set[str]) -> None:
        for key in over:
            del self.claims[key]
            self._unserved.pop(key, None)
        self._gone |= over
        self.version += bool(over)

    def _release(self, now: float) -> None:
        """An operator lets go of what is held."""
        self._guard.allow(now)
        self._drop_claims(set(self.claims))
        for key in self.held.copy():
            self._end(key)

    def _until(self, one: Kept, until: float, *, held: bool) -> None:
        one.until = until
        heapq.heappush(self._ends, (until, one.entry.key))
        if held:
            self.held.add(one.entry.key)

    def _adopt(
        self, orphans: Mapping[str, Entry], now: float, ages: Mapping[str, Age] = _ALL_NEW, *, held: bool = False
    ) -> None:
        dials: list[tuple[str, Dial]] = []
        hosts = set()
        for key, entry in orphans.items():
            age = ages.get(key, NEW)
            if not isinstance(keys.parse(key), ContainerKey):
                if age.silent == CLAIMED:
                    self.claims[key] = entry, now - age.age_s + self._guard.limit.grace_s
                else:
                    self.others[key] = entry, now - age.age_s
                self.version += 1
                continue
            try:
                container = decode(Container, entry.value)
            except BadRecord:
                continue
            if container.endpoints and key not in self.kept and len(self.kept) < self._most:
                dials += self._keep(key, entry, container, now, age)
                until = now + self._guard.limit.grace_s if held else now - age.age_s + self.keep_s
                self._until(self.kept[key], until, held=held)
                hosts.add(container.node)
        self._dialling.add(dials, now)
        for host in hosts:
            self._unhear(host)

    def _keep(self, key: str, entry: Entry, container: Container, now: float, age: Age) -> list[tuple[str, Dial]]:
        found = {one.id: where for one in container.endpoints if (where := self._where(container.node, one))}
        doors = {id_: where for id_, where in found.items() if id_ not in age.silent}
        self.kept[key] = Kept(
            entry, container, now - age.age_s, set(doors), set(age.silent), blind=not found, until=now
        )
        host = self._hosts.setdefault(container.node, _Host(set(), set()))
        host.orphans.add(key)
        if not found:
            host.blind.add(key)
        for seat, endpoint in seats(container):
            self._seats.setdefault(seat, set()).add((key, endpoint))
        self._mark(key)
        return [(container.node, Dial(key, id_, where)) for id_, where in doors.items()]

    def _where(self, node: str, endpoint: Endpoint) -> Where:
        if endpoint.protocol != "tcp":
            return ()
        reachable = [one for one in endpoint.addresses if one.scope == "lan" or node == self._node]
        return tuple((one.ip, one.port) for one in reachable[:MOST_ADDRESSES])

    def _meet(self, entry: Entry, now: float) -> None:
        """What the store holds now ends what it contradicts."""
        match keys.parse(entry.key):
            case ContainerKey():
                self._guard.meet(entry)
                self._remove(entry.key)  # its registrator lives: what of its host cannot be dialled waits for it
                self._supersede(entry)
            case NodeKey(node) if node in self._hosts and _has_listed(entry):
                self._listed(node, now)
            case ClaimKey():
                self._guard.meet_claim(entry.key)
                self.version += self.claims.pop(entry.key, None) is not None
                self._unserved.pop(entry.key, None)
                self._drop_other(entry.key)
            case ProxyKey():
                self._drop_other(entry.key)

    def _listed(self, node: str, now: float) -> None:
        """A host's registrator has written what there is: the host's orphans are as good as taken away."""
        orphans = {key: self.kept[key].entry for key in self._hosts[node].orphans - self.held}
        for key in orphans.keys() - self._hold(orphans, 0, now).keys():
            self._end(key)

    def _supersede(self, entry: Entry) -> None:
        try:
            container = decode(Container, entry.value)
        except BadRecord:
            return
        for seat, _ in seats(container):
            for key, endpoint in self._seats.get(seat, set()).copy():
                self.give_up(key, endpoint)

    def _end(self, key: str) -> None:
        self._gone.add(key)
        one = self._remove(key)
        if one is not None:
            self._unhear(one.container.node)

    def _remove(self, key: str) -> Kept | None:
        one = self.kept.pop(key, None)
        if one is None:
            return None
        self.version += 1
        self.held.discard(key)
        for seat, endpoint in seats(one.container):
            seated = self._seats.get(seat, set())
            seated.discard((key, endpoint))
            if not seated:
                self._seats.pop(seat, None)
        for endpoint in one.doors:
            self._dialling.drop(key, endpoint)
        host = self._hosts[one.container.node]
        host.orphans.discard(key)
        host.blind.discard(key)
        if not host.orphans:
            del self._hosts[one.container.node]
        return one

    def _unhear(self, name: str) -> None:
        """What cannot be dialled has nothing that speaks for it once nothing else of its host is kept."""
        host = self._hosts.get(name)
        if host is not None and len(host.blind) == len(host.orphans):
            for key in host.blind.copy():
                self._end(key)

    def _mark(self, key: str) -> None:
        self._marked.add(key)
        self.version += 1


def _key(entry: Entry) -> str:
    return entry.key


def _arriving(difference: Difference) -> int:
    """How many container records are new."""
    new = (entry.key for entry in difference.puts if entry.create_revision == entry.mod_revision)
    return sum(key.startswith(keys.CONTAINERS) for key in new)


def _has_listed(entry: Entry) -> bool:
    try:
        return decode(Node, entry.value).listed
    except BadRecord:
        return False
