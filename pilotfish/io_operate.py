"""Performs what operators ask for: reads the catalog, puts or removes a wish, and waits until it has come about."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from msgspec.structs import replace

from pilotfish import operate, operate_claims, operate_shift
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.guard import ALLOW_S
from pilotfish.catalog.keys import PROXIES, ROOT, WishKey, claim_key, parse, wish_key
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.record import BadRecord, Drain, Proxy, Release, Shift, encode
from pilotfish.catalog.record import decode as decoded
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.settings import Shared
from pilotfish.catalog.store import (
    Absent,
    Condition,
    Delete,
    ModifiedAt,
    Operation,
    Put,
    Reading,
    Store,
    StoreError,
    StoreUnavailable,
)
from pilotfish.catalog.wishes import DRAIN, RELEASE_KEY, SHIFT, Kind, Subject
from pilotfish.io_reach import reached
from pilotfish.operate import Costs, Wait
from pilotfish.settings import UpSettings

LOOK_S = 0.25  # between two looks at how far the proxies are
SAY_S = 10.0  # between two lines that say what is missing

# What is said when nobody waits any more.
STANDS = "not waited for any longer: the {} stands all the same"
GONE = "not waited for any longer: the {} is taken back all the same"

Say = Callable[[str], None]


def run(settings: UpSettings, perform: Callable[[Store, UpSettings], Coroutine[Any, Any, None]]) -> None:
    """Do something with the store that the settings name; errors as `reached` and whatever is done have them."""

    async def performed() -> None:
        async with reached(settings) as store:
            await perform(store, settings)

    asyncio.run(performed())


class Catalog:
    """The catalog at one revision.

    Attributes:
        registry: as readers have it.
        revisions: key -> revision of its last change.
        values: key -> what stands there.
    """

    def __init__(self, reading: Reading) -> None:
        self.registry = Registry()
        self.registry.apply(Mirror(ROOT).start(reading))
        self.revisions = {entry.key: entry.mod_revision for entry in reading.entries}
        self.values = {entry.key: entry.value for entry in reading.entries}

    def unchanged(self, key: str) -> Condition:
        """Holds while nobody has touched a key since."""
        revision = self.revisions.get(key)
        return Absent(key) if revision is None else ModifiedAt(key, revision)


async def read(store: Store) -> Catalog:
    """The catalog as it is now."""
    return Catalog(await store.read(ROOT))


async def commit(store: Store, condition: Condition, operation: Operation) -> int:
    """Perform one operation; returns its revision.

    Raises:
        CannotStart: somebody else changed the same thing meanwhile.
    """
    done = await store.commit([condition], [operation])
    if not done.succeeded:
        raise CannotStart("somebody else has just changed the same: look again, and repeat it if it is still wanted")
    return done.revision


def asker() -> str:
    """Who asks, for others to know: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = "?"
    return f"{user}@{socket.gethostname()}"


class Asked(NamedTuple):
    """How something is to be done.

    Attributes:
        force: also when nothing is left of a service.
        timeout_s: how long to wait at most; None: do not wait.
        say: gets the lines that tell what happens.
        proxy_name: the name that stands for all proxies.
    """

    say: Say
    force: bool = False
    timeout_s: float | None = None
    proxy_name: str = Shared.proxy_name


async def drain(store: Store, text: str, asked: Asked) -> None:
    """Take a node, a container or a service out, and wait until that is safe.

    Args:
        store: where the catalog is.
        text: whom, as `operate.find` reads it.
        asked: how.

    Raises:
        NotMeant, Refused: nothing was changed.
        CannotStart: it was not safe within the time; the drain stands.
    """
    catalog = await read(store)
    subject = operate.find(catalog.registry, text, force=asked.force)
    key = wish_key(DRAIN, str(subject))
    wish = catalog.registry.wishes.drains.get(subject)
    made = Made(key, catalog.revisions.get(key, 0), wish)
    if wish is None:
        if not asked.force:
            operate.refuse_emptying(catalog.registry, subject, asked.proxy_name)
        wish = Drain(since=time.time(), by=asker())
        made = Made(key, await commit(store, catalog.unchanged(key), Put(key, encode(wish))), wish)
        if not asked.force:
            await _refuse_late(store, subject, made, asked)
    costs = operate.costs(catalog.registry, subject, asked.proxy_name)
    asked.say(operate.taken_out(catalog.registry, subject))
    if asked.timeout_s is not None:
        await _wait(store, made, costs, asked.timeout_s, asked.say)
        asked.say(f"{operate.shown(catalog.registry, subject)} is out: it is safe to stop it")


async def _refuse_late(store: Store, subject: Subject, made: Made, asked: Asked) -> None:
    """Another node may have been drained in the same moment: then this one is taken back."""
    try:
        operate.refuse_emptying((await read(store)).registry, subject, asked.proxy_name)
    except (asyncio.CancelledError, StoreError):
        asked.say(STANDS.format("drain"))
        raise
    except operate.Refused:
        await store.commit([ModifiedAt(made.key, made.revision)], [Delete(made.key)])
        raise


async def undrain(store: Store, text: str, asked: Asked) -> None:
    """Bring back what was drained, and wait until it has its share again.

    Raises:
        NotMeant: nothing was changed.
        CannotStart: it did not come about within the time, or nothing of it is served for another reason; the drain is
            taken back all the same.
    """
    catalog = await read(store)
    subject = operate.find_drained(catalog.registry, text)
    key = wish_key(DRAIN, str(subject))
    revision = await commit(store, catalog.unchanged(key), Delete(key))
    asked.say(f"{operate.shown(catalog.registry, subject)} is not drained any more")
    if asked.timeout_s is not None:
        costs = operate.costs_back(catalog.registry, subject, asked.proxy_name)
        await _wait(store, Made(key, revision, None), costs, asked.timeout_s, asked.say)
        asked.say(operate.brought_back((await read(store)).registry, subject))


async def shift(store: Store, text: str, percents: dict[str, int], asked: Asked) -> None:
    """Say how the versions of a service share the load; an earlier shift of it is replaced.

    Args:
        store: where the catalog is.
        text: the service.
        percents: of versions; the rest of 100 goes to versions that are not named.
        asked: how.

    Raises:
        NotMeant, Refused: nothing was changed.
        CannotStart: it did not come about within the time; the shift stands.
    """
    catalog = await read(store)
    name = operate_shift.service(catalog.registry, text)
    if not asked.force:
        operate_shift.refuse_emptying(catalog.registry, name, percents)
    key = wish_key(SHIFT, name)
    wish = Shift(since=time.time(), percents=percents, by=asker())
    revision = await commit(store, catalog.unchanged(key), Put(key, encode(wish)))
    shares = operate_shift.described(operate_shift.served_with(catalog.registry, name, percents))
    asked.say(f"service:{name} is shifted: {shares or 'no endpoint of it is served'}")
    await _wait_for_shares(store, catalog, name, Made(key, revision, wish), asked)


async def unshift(store: Store, text: str, asked: Asked) -> None:
    """Let the versions of a service share the load by their weights again.

    Raises:
        NotMeant: nothing was changed.
        CannotStart: it did not come about within the time; the shift is taken back all the same.
    """
    catalog = await read(store)
    name = operate_shift.service(catalog.registry, text)
    if name not in catalog.registry.wishes.shifts:
        raise operate.NotMeant(f"service {name} is not shifted")
    key = wish_key(SHIFT, name)
    revision = await commit(store, catalog.unchanged(key), Delete(key))
    asked.say(f"service:{name} is not shifted any more")
    await _wait_for_shares(store, catalog, name, Made(key, revision, None), asked)


async def _wait_for_shares(store: Store, catalog: Catalog, name: str, made: Made, asked: Asked) -> None:
    if asked.timeout_s is not None:
        costs = operate.costs_back(catalog.registry, Subject(Kind.SERVICE, name), asked.proxy_name)
        await _wait(store, made, costs, asked.timeout_s, asked.say)
        asked.say(f"service:{name}: all proxies and DNS servers know it")


async def release(store: Store, text: str, asked: Asked) -> None:
    """Free a route, so that another service can have it at once.

    Raises:
        NotMeant, Refused: nothing was changed.
    """
    catalog = await read(store)
    found = operate_claims.release(catalog.registry, text)
    key = claim_key(found.place)
    await commit(store, catalog.unchanged(key), Delete(key))
    waiting = f"; {operate.listed(found.waiting)} asks for it" if found.waiting else ""
    asked.say(f"{operate_claims.shown(found.place)} is free: it was {found.owner}'s{waiting}")


async def release_guard(store: Store, asked: Asked) -> None:
    """Let go of what the blast-radius guard holds, everywhere."""
    lease = await store.grant(int(ALLOW_S))  # nobody has to clear it away
    wish = Release(since=time.time(), by=asker())
    await store.commit([], [Put(RELEASE_KEY, encode(wish), lease.id)])
    asked.say(
        f"DNS servers and proxies let go of what was taken away, and for {ALLOW_S:g} s of whatever is taken away next"
    )


class Made(NamedTuple):
    """What was done about a wish: its key, the revision that did it, and how it stands now; None: it went."""

    key: str
    revision: int
    wish: Drain | Shift | None

    def undone(self, reading: Reading) -> str:
        """What somebody else did about it since, in words; empty for nothing. A mark of a registrator is nothing."""
        entry = reading.entry(self.key)
        value = entry.value if entry else None
        if self.wish is None:
            key = parse(self.key)
            shifted = isinstance(key, WishKey) and key.kind == SHIFT
            return f"{'shifted' if shifted else 'drained'} it again" if value is not None else ""
        if value is None:
            return "took it back"
        try:
            found = decoded(Shift, value) if isinstance(self.wish, Shift) else decoded(Drain, value)
        except BadRecord:
            return "replaced it"
        same = replace(found, gone_since=0.0) == replace(self.wish, gone_since=0.0)
        return "" if same else "replaced it"


async def _wait(store: Store, made: Made, costs: Costs, timeout_s: float, say: Say) -> None:
    """Wait until everybody has come as far as a wish; who is stopped meanwhile says what is left behind."""
    try:
        await _come_about(store, made, costs, timeout_s, say)
    except asyncio.CancelledError:
        key = parse(made.key)
        kind = key.kind if isinstance(key, WishKey) else "wish"
        say((STANDS if made.wish else GONE).format(kind))
        raise


async def _come_about(store: Store, made: Made, costs: Costs, timeout_s: float, say: Say) -> None:
    begun = said_at = time.monotonic()
    wait = Wait(made.revision, begun, costs)
    missing: tuple[str, ...] = ("nothing was heard of the proxies",)
    while True:
        now = time.monotonic()
        try:
            reading = await store.read(PROXIES, made.key)
            missing = wait.missing(_proxies(reading), time.monotonic())
            if undone := made.undone(reading):
                raise CannotStart(f"somebody else {undone} meanwhile")
        except StoreUnavailable as error:
            missing = (str(error),)
        if not missing:
            return
        if now - begun >= timeout_s:
            raise CannotStart(f"not safe after {timeout_s:g} s: {'; '.join(missing)}")
        if now - said_at >= SAY_S:
            said_at = now
            say(f"waiting: {'; '.join(missing)}")
        await asyncio.sleep(min(LOOK_S, timeout_s))


def _proxies(reading: Reading) -> list[Proxy]:
    """All that live; one that cannot be read counts as one that has applied nothing."""
    found = []
    for entry in reading.entries:
        key = parse(entry.key)
        if entry.key.startswith(PROXIES) and key is not None:
            try:
                found.append(decoded(Proxy, entry.value))
            except BadRecord:
                found.append(Proxy(node=entry.key.removeprefix(PROXIES), addresses=()))
    return found
