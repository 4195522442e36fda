"""Services that nginx refused, and what is served instead: 503 at their places, or nothing at all. Pure.

A service is in quarantine for exactly the files that were refused. Other files, because its containers or its claims
changed, end it; the same ones are tried again with growing waits, since a cause may lie elsewhere (another
nginx, a port that is free again). It outlives a restart of the config generator. Invariant: whoever is out has a
reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from confgen.applying.blame import Blame
from confgen.nginx.shapes import Level

FORMAT = 1
FIRST_RETRY_S = 15.0
LAST_RETRY_S = 900.0
SHOWN = 5  # services that /ready names; /api/state has all


class Entry(msgspec.Struct, frozen=True):
    """One service in quarantine.

    Attributes:
        service: in lower case.
        level: what is served in its place.
        digest: hash of the files that were refused.
        since: UNIX time of the first refusal, seconds.
        tries: how often it was refused in a row.
        file: which file nginx named, relative to the configuration; empty for none.
        line: in that file, 0 when unknown.
        reason: nginx's own words, shortened.
        costly: it was refused by a reload, not by a check: each try costs two reloads.
    """

    service: str
    level: Level
    digest: str
    since: float
    tries: int
    file: str
    line: int
    reason: str
    costly: bool = False


class Saved(msgspec.Struct, frozen=True):
    """What stands on disk."""

    format: int
    services: tuple[Entry, ...]


class Quarantine:
    """Who is out, and until when at least."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._former: dict[str, Entry] = {}  # let out on trial: refused again, they keep their count and time
        self._due: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, by service; with those on trial: until they are accepted, their places still answer 503."""
        found = self._former | self._entries
        return tuple(found[service] for service in sorted(found))

    @property
    def levels(self) -> dict[str, Level]:
        """How far each service is out; those that are not are absent."""
        return {service: entry.level for service, entry in self._entries.items()}

    def add(self, blame: Blame, digest: str, *, now: float, clock: float, costly: bool = False) -> bool:
        """Take the service that a refusal names out, or further out; False when it cannot go further.

        Args:
            blame: with a service.
            digest: of its files as they should be.
            now: UNIX time, seconds.
            clock: monotonic time, seconds.
            costly: a reload refused it.
        """
        service = blame.service
        before = self._entries.get(service)
        if before is not None and before.level is Level.ABSENT:
            return False
        level = Level.SILENT if before is None else Level.ABSENT
        known = before or self._former.pop(service, None)
        same = known is not None and known.digest == digest
        # Further out is not once more: it was refused in the same try.
        tries = known.tries + (before is None) if known is not None and same else 1
        self._entries[service] = Entry(
            service=service,
            level=level,
            digest=digest,
            since=known.since if known is not None and same else now,
            tries=tries,
            file=blame.file,
            line=blame.line,
            reason=before.reason if before else blame.message,
            costly=costly,
        )
        self._refused_at[service] = clock
        self._due[service] = clock + min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (tries - 1))
        return True

    def changed(self, service: str, digest: str, clock: float) -> bool:
        """Let a service back in if it has other files now; True when it is.

        One that was refused by reloads waits for FIRST_RETRY_S: changing again and again, it would cost everybody two
        reloads each time.

        Args:
            service: in quarantine.
            digest: of its files as they should be; empty when it has none any more.
            clock: monotonic time, seconds.
        """
        entry = self._entries[service]
        if entry.digest == digest:
            return False
        earliest = self._refused_at.get(service, float("-inf")) + FIRST_RETRY_S
        if digest and entry.costly and clock < earliest:
            self._due[service] = min(self._due[service], earliest)
            return False
        for held in (self._entries, self._due, self._former, self._refused_at):
            held.pop(service, None)
        return True

    def try_again(self, clock: float) -> frozenset[str]:
        """Let those back in whose time has come; refused again, they wait for longer. Returns them."""
        found = frozenset(service for service, due in self._due.items() if due <= clock)
        for service in found:
            self._former[service] = self._entries.pop(service)
            del self._due[service]
        return found

    def accepted(self, out: Collection[str]) -> tuple[Entry, ...]:
        """Nginx serves what it was told: whoever was on trial in it is mended. Returns them.

        Args:
            out: services that were left out of it, since their trial began later.
        """
        mended = tuple(self._former[service] for service in sorted(self._former.keys() - set(out)))
        for entry in mended:
            del self._former[entry.service]
        return mended

    def next_due(self) -> float:
        """When the next one is tried again, on the monotonic clock; infinite without any."""
        return min(self._due.values(), default=float("inf"))

    def restore(self, saved: bytes, clock: float) -> None:
        """Take in what `saved` wrote. What cannot be read counts as nothing: all will be refused again, by name."""
        try:
            found = msgspec.json.decode(saved, type=Saved)
        except msgspec.MsgspecError:
            return
        if found.format != FORMAT:
            return
        for entry in found.services:
            self._entries[entry.service] = entry
            self._due[entry.service] = clock + FIRST_RETRY_S

    def saved(self) -> bytes:
        """As it stands on disk: JSON, one object."""
        return msgspec.json.format(msgspec.json.encode(Saved(FORMAT, self.entries)), indent=1)


def told(entries: Iterable[Entry]) -> str:
    """The services in quarantine and why, as one line for /ready; empty without any.

    >>> told([Entry("web", Level.SILENT, "", 0.0, 1, "", 0, "no port in services/web.conf:2")])
    'web: no port in services/web.conf:2'
    """
    listed = [f"{one.service}: {one.reason}" for one in entries]
    more = f"; and {len(listed) - SHOWN} more: see /api/state" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + more
