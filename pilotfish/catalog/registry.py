"""Everything under /pilotfish/v1, checked and indexed by service and by name.

Pure. Fed with the mirror's differences; one difference is applied whole before anybody reads. Work is in proportion to
the difference, not to what is held. A bad record is left out and named; its neighbours are not touched. Containers are
held as octets (`containers`), and an index names keys of the store: a hundred thousand endpoints are to fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from pilotfish.catalog import keys
from pilotfish.catalog.containers import AT_HAND, Containers
from pilotfish.catalog.keys import ClaimKey, ContainerKey, NodeKey, ProxyKey, WishKey
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import BadRecord, Claim, Container, Endpoint, Node, Proxy, decode
from pilotfish.catalog.route import Place
from pilotfish.catalog.standing import Footing, Standing
from pilotfish.catalog.store import Entry
from pilotfish.catalog.verdict import AWAY, CALM, HELD, How, Placed, Situation, judge, names_of, situation
from pilotfish.catalog.wishes import SHIFT, Kind, Wishes, subject_of

T = TypeVar("T", Node, Proxy)
V = TypeVar("V")


class Touched:
    """What a difference touched, so that readers redo no more than that.

    Attributes:
        names: names relative to our domains, in lower case, whose endpoints changed in any way.
        services: services, in lower case, whose endpoints changed.
        nodes: hosts whose record came, changed or went.
        proxies: hosts whose proxy came, changed or went.
        places: places whose claim changed.
        situations: services, in lower case, whose endpoints are judged otherwise for what happened to others.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.services: set[str] = set()
        self.nodes: set[str] = set()
        self.proxies: set[str] = set()
        self.places: set[Place] = set()
        self.situations: set[str] = set()

    def add(self, *footings: Footing) -> None:
        """What a container stood or stands behind is touched."""
        for footing in footings:
            self.services.update(footing.services)
            self.names.update(name for name, _ in footing.names)


class Named(NamedTuple):
    """Who stands behind a name: how, and the endpoints that stand so. Published or not is for `verdict` to say."""

    how: How
    endpoints: tuple[Placed, ...]


class Registry:
    """The typed catalog. Change it only by `apply`; everything else is for reading.

    Args:
        at_hand: how many container records stay decoded; whoever goes through all of them again and again wants all.
        by_name: names are asked for, which costs a sixth of the time of a first reading. Without, none is known.
    """

    def __init__(self, at_hand: int = AT_HAND, *, by_name: bool = True) -> None:
        self.revision = 0
        self.nodes: dict[str, Node] = {}
        self.proxies: dict[str, Proxy] = {}
        self.claims: dict[Place, Claim] = {}
        self.wishes = Wishes()
        self.containers = Containers(at_hand)
        self.refused: dict[str, str] = {}  # key -> why its record was left out
        self.orphans: dict[str, frozenset[str]] = {}  # key, kept beyond its node's -> ids of endpoints that are silent
        self.held: set[str] = set()  # those of them that the guard holds
        self._standing = Standing(by_name=by_name)
        self._situations: dict[str, Situation] = {}  # those that are not calm

    def apply(self, difference: Difference) -> Touched:
        """Take in a difference of the mirror of /pilotfish/v1/."""
        touched = Touched()
        self.held.difference_update(difference.deletes, (entry.key for entry in difference.puts))
        for key in difference.deletes:
            self.orphans.pop(key, None)
            self._remove(key, keys.parse(key), touched)
        for entry in difference.puts:
            self.orphans.pop(entry.key, None)
            self._put(entry, touched)
        for key, silent in difference.kept.items():
            self._keep(key, silent, touched)
        self.held |= difference.held & self.orphans.keys()
        self.revision = difference.revision
        self._judge_again(touched)
        return touched

    def _keep(self, key: str, silent: frozenset[str], touched: Touched) -> None:
        """Mark a record as an orphan; one that was left out as a bad one has nothing to keep."""
        if key not in self.containers.held:
            return
        self.orphans[key] = silent
        touched.add(self._standing.of(key))

    def situation(self, service: str) -> Situation:
        """What decides about the endpoints of a service, in lower case, besides their own records."""
        return self._situations.get(service, CALM)

    def panics(self) -> tuple[str, ...]:
        """Services, in lower case and sorted, whose failing endpoints are kept since most of them fail."""
        return tuple(sorted(service for service, around in self._situations.items() if around.panic))

    def _judge_again(self, touched: Touched) -> None:
        """Find the situation of each service that changed; where it is another, all of its names are touched."""
        for service in touched.services:
            before, now = self._situations.get(service, CALM), self._situation_now(service)
            if now == before:
                continue
            self._situations[service] = now
            if now == CALM:
                del self._situations[service]
            touched.situations.add(service)
            for _, endpoint in self._members(service):
                touched.names.update(names_of(endpoint))

    # Calm is known without a look at the endpoints, so that a change costs the same however many there are.
    def _situation_now(self, service: str) -> Situation:
        if service not in self._standing.failing and service not in self.wishes.shifts and not self.wishes.drains:
            return CALM
        return situation(self._members(service), service, self.wishes)

    def _members(self, service: str) -> list[tuple[Container, Endpoint]]:
        containers = ((key, self.containers.at(key)) for key in self._standing.services.get(service, ()))
        return [
            (container, endpoint)
            for key, container in containers
            for endpoint in container.endpoints
            if endpoint.service.lower() == service and endpoint.id not in self.orphans.get(key, ())
        ]

    def service(self, name: str) -> tuple[Placed, ...]:
        """All endpoints of a service, sorted by id; empty for one that is not known."""
        service = name.lower()
        placed = self._placed(self._standing.services.get(service, ()))
        return tuple(sorted((one for one in placed if one.endpoint.service.lower() == service), key=_order))

    def proxied(self, key: str) -> bool:
        """True when proxies serve an endpoint of the container at a key in the store, which is there."""
        return any(one.endpoint.route is not None and one.verdict.published for one in self._placed((key,)))

    def serves(self, key: str) -> bool:
        """True when an endpoint of the container at a key in the store is served; False for one that is not known."""
        return key in self.containers.held and any(one.verdict.published for one in self._placed((key,)))

    def leads(self, key: str) -> bool:
        """True when the claim at a key in the store is of a service that is served, and not marked as idle."""
        parsed = keys.parse(key)
        claim = self.claims.get(parsed.place) if isinstance(parsed, ClaimKey) else None
        return claim is not None and not claim.idle_since and self._is_served(claim.service)

    def claims_served(self) -> int:
        """How many claims are not idle, and of services that are served. It looks at all of them."""
        services = Counter(claim.service.lower() for claim in self.claims.values() if not claim.idle_since)
        return sum(count for service, count in services.items() if self._is_served(service))

    def _is_served(self, service: str) -> bool:
        return any(one.verdict.published for one in self.service(service))

    def standing_count(self) -> int:
        """How many containers have endpoints."""
        return self._standing.count

    def knows_service(self, name: str) -> bool:
        """True for a service, in lower case, that has an endpoint, in whatever state."""
        return name in self._standing.services

    @property
    def away(self) -> tuple[str, ...]:
        """Hosts without a key whose containers the proxies keep as long as they answer, sorted."""
        return tuple(sorted({node for proxy in self.proxies.values() for node in proxy.away} - self.nodes.keys()))

    def services(self) -> tuple[str, ...]:
        """All services that have an endpoint, in lower case, sorted."""
        return tuple(sorted(self._standing.services))

    def names(self) -> tuple[str, ...]:
        """All names that an endpoint stands behind, sorted."""
        return tuple(sorted(self._standing.names))

    def name(self, name: str) -> Named | None:
        """Who stands behind a name; None when nobody does. Endpoints are sorted by id."""
        standing = self.standing(name)
        if not standing:
            return None
        how = max(how for how, _ in standing)
        return Named(how, tuple(placed for its, placed in standing if its is how))

    def standing(self, name: str) -> tuple[tuple[How, Placed], ...]:
        """Every endpoint that stands behind a name in whatever way, sorted by id."""
        lower = name.lower()
        placed = self._placed(self._standing.names.get(lower, ()))
        found = ((how, one) for one in placed if (how := names_of(one.endpoint).get(lower)))
        return tuple(sorted(found, key=lambda one: _order(one[1])))

    def ways(self, name: str) -> frozenset[How]:
        """In which ways endpoints stand behind a name; cheaper than `standing`."""
        return self._standing.ways(name.lower())

    def _placed(self, entry_keys: Iterable[str]) -> Iterator[Placed]:
        for key in entry_keys:
            container = self.containers.at(key)
            for endpoint in container.endpoints:
                around = self.situation(endpoint.service.lower())
                why = HELD if key in self.held else AWAY
                yield Placed(container, endpoint, judge(container, endpoint, around, self.orphans.get(key), why))

    def knows(self, name: str) -> bool:
        """True for a service or a name that has an endpoint, in whatever state."""
        return name.lower() in self._standing.names or name.lower() in self._standing.services

    def _put(self, entry: Entry, touched: Touched) -> None:
        key = keys.parse(entry.key)
        if isinstance(key, ContainerKey):
            self.refused.pop(entry.key, None)
        else:
            self._remove(entry.key, key, touched)
        try:
            self._take(key, entry, touched)
        except BadRecord as error:
            self._remove(entry.key, key, touched)
            self.refused[entry.key] = str(error)

    def _take(self, key: keys.OurKey | None, entry: Entry, touched: Touched) -> None:
        match key:
            case ContainerKey():
                container = self.containers.take(entry.key, key, entry.value)
                touched.add(*self._standing.put(entry.key, container.endpoints))
            case NodeKey(name):
                node = _named(decode(Node, entry.value), name)
                if not node.leaving:  # that key is but a word for readers that were away
                    self.nodes[name] = node
                    touched.nodes.add(name)
            case ProxyKey(name):
                self.proxies[name] = _named(decode(Proxy, entry.value), name)
                touched.proxies.add(name)
            case ClaimKey(place):
                self.claims[place] = decode(Claim, entry.value)
                touched.places.add(place)
            case WishKey():
                self.wishes.take(key, entry.value)
                self._touch_wished(key, touched)
            case None:
                raise BadRecord("its key is of no known form")

    def _remove(self, entry_key: str, key: keys.OurKey | None, touched: Touched) -> None:
        self.refused.pop(entry_key, None)
        match key:
            case ContainerKey():
                self.containers.drop(entry_key)
                touched.add(self._standing.drop(entry_key))
            case NodeKey(name) if self.nodes.pop(name, None):
                touched.nodes.add(name)
            case ProxyKey(name) if self.proxies.pop(name, None):
                touched.proxies.add(name)
            case ClaimKey(place) if self.claims.pop(place, None):
                touched.places.add(place)
            case WishKey():
                self.wishes.drop(key)
                self._touch_wished(key, touched)

    def _touch_wished(self, key: WishKey, touched: Touched) -> None:
        """Touch the services that a wish is about."""
        subject = subject_of(key.name)
        if key.kind == SHIFT:
            touched.services.add(key.name.lower())
        elif subject is not None:
            if subject.kind is Kind.SERVICE:
                touched.services.add(subject.name)
            elif subject.kind is Kind.NODE:
                touched.nodes.add(subject.name)
                touched.proxies.add(subject.name)
                self._touch_containers(lambda one: one.node == subject.name, touched)
            else:
                self._touch_containers(lambda one: one.id == subject.name, touched)

    def _touch_containers(self, is_meant: Callable[[ContainerKey], bool], touched: Touched) -> None:
        for one in self.containers:
            if is_meant(one):
                touched.services.update(self._standing.of(keys.container_key(*one)).services)


def _named(record: T, name: str) -> T:
    if record.node != name:
        raise BadRecord(f"says it is {record.node}, which is not its key")
    return record


# While a container is replaced by one of its name, both have the same endpoint ids.
def _order(placed: Placed) -> tuple[str, str, str]:
    return placed.endpoint.id, placed.node, placed.container.id
