"""What this process knows of every container of its engine, and what follows for the store.

Pure; changed by looks (an inspection and the events that led to it), by answered dials and by deadlines. It says which
containers may have to be written anew and which ports are to be dialled; it writes, dials and waits for nothing itself.
A container that never was looked at is not known: nothing is concluded from its absence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pilotfish.catalog.record import Container, Endpoint, same
from pilotfish.catalog.verdict import names_of
from registrator.engines.engine import Event, Kind
from registrator.health import checks
from registrator.health.checks import Condition, Gate, Happening, Target
from registrator.health.progress import Progress
from registrator.rules.address import FactsOf, Host, network_holder
from registrator.rules.container import Facts
from registrator.rules.signals import parse_signal
from registrator.rules.wanted import Wanted
from registrator.writing.plan import Desired

WantedOf = Callable[[Facts, FactsOf], Wanted]
ExportsOf = Callable[[Container], Mapping[str, bytes]]
SIGNALLED = 128  # bit of the exit code of what a signal ended; Docker adds the signal's number
MAX_GONE = 10_000  # containers remembered as gone; one that is forgotten is looked at again

Spec = tuple[int, str]  # port and protocol of an endpoint


class Look(NamedTuple):
    """What was seen of one container.

    Attributes:
        container: its id.
        facts: None: there is no such container, or it does not run.
        events: that led to the look, oldest first; empty when it was looked at just so.
        now: UNIX time in seconds.
        behind_s: seconds that the clock of the engine, which events and facts tell times by, is behind that of `now`.
    """

    container: str
    facts: Facts | None
    events: Sequence[Event]
    now: float
    behind_s: float = 0.0

    def observed(self) -> float:
        """When what was seen came about, by our clock: at the last event; 0 when no event told."""
        return min(max(event.at for event in self.events) + self.behind_s, self.now) if self.events else 0.0

    def observed_run(self, facts: Facts) -> float:
        """The same of what runs: not before it was started, as an event that was told meanwhile is."""
        return max(self.observed(), min(facts.started + self.behind_s, self.now)) if self.events else 0.0


class Page:
    """What is known of one container that runs."""

    def __init__(self, facts: Facts, wanted: Wanted) -> None:
        self.facts = facts
        self.wanted = wanted
        self.conditions: dict[Spec, Condition] = {}
        self.observed = 0.0

    def record(self) -> Container:
        """Its record as it is now, without exports."""
        endpoints = tuple(self._halted(self._endpoint(endpoint)) for endpoint in self.wanted.container.endpoints)
        return msgspec.structs.replace(self.wanted.container, endpoints=endpoints, observed=self.observed)

    # It does not count as one that worked and now fails: no check says so, and no panic is to serve it all the same.
    def _halted(self, endpoint: Endpoint) -> Endpoint:
        """As it is: or failing, as a container that is frozen or has ended is, whatever its port said before."""
        if not self.facts.running:
            why = f"its container ended with exit code {self.facts.exit_code}"
        elif self.facts.paused and endpoint.state != "draining":
            why = "its container is paused"
        else:
            return endpoint
        return msgspec.structs.replace(endpoint, state="failing", why=why, passed=False, deadline=0.0)

    def _endpoint(self, endpoint: Endpoint) -> Endpoint:
        condition = self.conditions[_spec(endpoint)]
        return msgspec.structs.replace(
            endpoint,
            state=checks.state(condition),
            passed=condition.passed,
            why=checks.why(condition),
            deadline=condition.deadline,
        )


def failed(facts: Facts) -> bool:
    """True for a container that ended by itself, with an error; what a signal ended (128 and more) was ended.

    >>> [failed(Facts(id="0" * 12, name="c", exit_code=code)) for code in (0, 1, 137)]
    [False, True, False]
    """
    return not facts.running and facts.exit_code != 0 and not facts.exit_code & SIGNALLED


def _spec(endpoint: Endpoint) -> Spec:
    return endpoint.port, endpoint.protocol


class Book:
    """All containers of one engine.

    Args:
        host: that they run on.
        wanted_of: facts -> what should be published.
        exports_of: record -> keys for others' eyes.
        keep_failed: a container that ended with an error stays, failing, until it is removed or started again.
    """

    def __init__(self, host: Host, wanted_of: WantedOf, exports_of: ExportsOf, *, keep_failed: bool = False) -> None:
        self.pages: dict[str, Page] = {}
        self.host, self._wanted_of, self._exports_of = host, wanted_of, exports_of
        self._keep_failed = keep_failed
        self._names: dict[str, set[str]] = {}
        self._gone: dict[str, None] = {}

    def knows(self, container: str) -> bool:
        """True when a container was looked at: what was not is neither wanted nor unwanted."""
        return container in self.pages or container in self._gone

    def look(self, look: Look, recorded: Container | None) -> set[str]:
        """Take in what was seen; `recorded` is what the store holds of the container.

        Returns:
            Ids of containers that may have to be written: this one, and those that share its network.
        """
        before = self.pages.get(look.container)
        if look.facts is not None and self._stays(look.facts, recorded):
            self._end(look, look.facts, recorded)
        elif look.facts is None or not look.facts.running:
            self._close(look.container)
            self._gone[look.container] = None
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        else:
            page = self._open(look.facts, recorded, look.now)
            self._signals(page, look)
            page.observed = look.observed_run(page.facts) or (before.observed if before else look.now)
        names = {one.name for one in (before.facts if before else None, look.facts) if one}
        return {look.container} | self._followers({look.container} | names, look.now)

    def _stays(self, facts: Facts, recorded: Container | None) -> bool:
        """True for a container that ended with an error, is to be kept, and of which we know what it published."""
        before = self.pages.get(facts.id)
        started = before.facts.started if before else recorded.started if recorded else None
        return self._keep_failed and failed(facts) and started == facts.started

    # What it published is not asked anew: a container that has ended has no addresses any more.
    def _end(self, look: Look, facts: Facts, recorded: Container | None) -> None:
        page = self.pages.get(facts.id)
        if page is None and recorded is not None:
            page = Page(facts, Wanted(msgspec.structs.replace(recorded, exports=()), (), ()))
            page.observed = recorded.observed
            self._enter(page)
        if page is not None:
            page.facts = facts
            page.observed = look.observed() or page.observed
            page.conditions = {_spec(one): checks.begin(Gate.NONE) for one in page.wanted.container.endpoints}

    def answered(self, container: str, spec: Spec, at: float) -> bool:
        """A port took a connection; True when that changed something."""
        page = self.pages.get(container)
        if page is None or spec not in page.conditions:
            return False
        before = page.conditions[spec]
        page.conditions[spec] = checks.happen(before, Happening.ANSWERED)
        if page.conditions[spec] == before:
            return False
        page.observed = at
        return True

    def checked(self, container: str, spec: Spec, problem: str, at: float) -> bool:
        """A CHECK_* found something, "" for nothing wrong; True when that changed what is published."""
        page = self.pages.get(container)
        if page is None or spec not in page.conditions:
            return False
        before = page.conditions[spec]
        after = page.conditions[spec] = checks.damp(before, checks.checked(before, problem), at)
        if checks.shown(before) == checks.shown(after):
            return False
        page.observed = at
        return True

    def expire(self, now: float) -> set[str]:
        """End the draining of what should have stopped by now, and runs, and the holding back of what flapped.

        Returns:
            Ids of the containers that this concerns.
        """
        expired = set()
        for container, page in self.pages.items():
            for spec, condition in page.conditions.items():
                if 0 < condition.deadline <= now:
                    page.conditions[spec] = checks.happen(condition, Happening.EXPIRED)
                    self._believe(page, spec)
                    page.observed = now
                    expired.add(container)
                elif checks.settle(condition, now) != condition:
                    page.conditions[spec] = checks.settle(condition, now)
                    page.observed = now
                    expired.add(container)
        return expired

    def postpone(self, by_s: float) -> set[str]:
        """Let what is draining drain until so many seconds later: the time of day was set.

        Returns:
            Ids of the containers that this concerns.
        """
        concerned = set()
        for container, page in self.pages.items():
            for spec, condition in page.conditions.items():
                if condition.deadline:
                    page.conditions[spec] = checks.happen(condition, Happening.STOPPING, condition.deadline + by_s)
                    concerned.add(container)
        return concerned

    def desired(self, container: str) -> Desired | None:
        """How a container is to stand in the store; None: not at all. Asked only for one that is known."""
        page = self.pages.get(container)
        if page is None or not page.wanted.container.endpoints:
            return None
        record = page.record()
        return Desired(record, dict(self._exports_of(record)))

    def dials(self, container: str) -> dict[Spec, tuple[Target, ...]]:
        """Which ports of a container are to be dialled, and where."""
        return {spec: where for spec, condition, where in self._asked(container) if _waits_for_a_dial(condition)}

    def probes(self, container: str) -> dict[Spec, tuple[Progress, tuple[Target, ...]]]:
        """Which ports of a container have a CHECK_* to run, how it stands, and where to ask."""
        return {
            spec: (condition.progress, where)
            for spec, condition, where in self._asked(container)
            if condition.progress is not None and not condition.deadline
        }

    def _asked(self, container: str) -> Iterator[tuple[Spec, Condition, tuple[Target, ...]]]:
        """Ports that can be asked at all, each with its condition, and where."""
        page = self.pages.get(container)
        if page is None or page.facts.paused or not page.facts.running:
            return
        holder = network_holder(page.facts, self.facts_of) or page.facts
        for endpoint in page.wanted.container.endpoints:
            spec = _spec(endpoint)
            yield spec, page.conditions[spec], self._targets(holder, endpoint)

    def facts_of(self, container: str) -> Facts | None:
        """Facts of a container by id or name."""
        if container in self.pages:
            return self.pages[container].facts
        return next((page.facts for page in self.pages.values() if page.facts.name == container), None)

    def named(self, names: Iterable[str]) -> set[str]:
        """Ids of the containers that stand behind any of these names, in lower case."""
        return {container for name in names for container in self._names.get(name, ())}

    def serving(self, services: Collection[str]) -> set[str]:
        """Ids of the containers that have an endpoint of any of these services, in lower case."""
        if not services:
            return set()
        return {
            container
            for container, page in self.pages.items()
            if any(endpoint.service.lower() in services for endpoint in page.wanted.container.endpoints)
        }

    def _targets(self, holder: Facts, endpoint: Endpoint) -> tuple[Target, ...]:
        """Where to dial; on another host only what it offers to others: 172.17.0.2 would be a container of this one."""
        found = checks.targets(holder, endpoint, self.host.addresses)
        offered = {address.ip for address in endpoint.addresses if address.scope == "lan"}
        return found if self.host.local else tuple(target for target in found if target.ip in offered)

    def _open(self, facts: Facts, recorded: Container | None, now: float) -> Page:
        before = self.pages.get(facts.id)
        page = Page(facts, self._wanted_of(facts, self.facts_of))
        known = before.conditions if before and before.facts.started == facts.started else {}
        in_store = checks.recorded_endpoints(facts, recorded) if before is None else {}
        for endpoint in page.wanted.container.endpoints:
            spec = _spec(endpoint)
            was, choice = known.get(spec), page.wanted.checks.get(spec, checks.NO_CHOICE)
            if was is not None and checks.is_asked_so(was, facts, endpoint, choice):
                page.conditions[spec] = checks.damp(was, checks.observe(was, facts), now)
            else:
                page.conditions[spec] = checks.resume(facts, endpoint, in_store.get(spec), choice)
            self._believe(page, spec)
        self._close(facts.id)
        self._enter(page)
        return page

    def _believe(self, page: Page, spec: Spec) -> None:
        """Take a port that can be asked nowhere for one that answered."""
        holder = network_holder(page.facts, self.facts_of) or page.facts
        if not any(self._targets(holder, one) for one in page.wanted.container.endpoints if _spec(one) == spec):
            page.conditions[spec] = checks.happen(page.conditions[spec], Happening.ANSWERED)

    def _enter(self, page: Page) -> None:
        self.pages[page.facts.id] = page
        for name in _names(page):
            self._names.setdefault(name, set()).add(page.facts.id)

    def _close(self, container: str) -> None:
        page = self.pages.pop(container, None)
        for name in _names(page) if page else ():
            self._names[name].discard(container)
            if not self._names[name]:
                del self._names[name]

    def _signals(self, page: Page, look: Look) -> None:
        """Signals that begin a stop take every endpoint out; what was over before now is nothing."""
        for event in look.events:
            if event.kind is not Kind.KILL or not event.signal:
                continue
            signal = parse_signal(event.signal)
            deadline = checks.stop_deadline(page.facts, signal, event.at, look.now, look.behind_s)
            if deadline <= look.now:
                continue
            for spec, condition in page.conditions.items():
                page.conditions[spec] = checks.happen(condition, Happening.STOPPING, deadline)

    def _followers(self, called: Iterable[str], now: float) -> set[str]:
        """Containers that share the network of one, by its id or a name: what they publish may have changed with it."""
        modes = {f"container:{one}" for one in called}
        followers = {one for one, page in self.pages.items() if page.facts.network_mode in modes and page.facts.running}
        for one in followers:
            observed = self.pages[one].observed
            self._open(self.pages[one].facts, None, now).observed = observed
        return followers


def alike(one: Container | None, other: Container | None) -> bool:
    """True when two records, or none, say the same."""
    return one is other if one is None or other is None else same(one, other)


def _names(page: Page) -> set[str]:
    return {name for endpoint in page.wanted.container.endpoints for name in names_of(endpoint)}


def _waits_for_a_dial(condition: Condition) -> bool:
    return condition.gate is Gate.DIAL and not condition.opened
