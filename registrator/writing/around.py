"""What all nodes have registered, as far as it decides about what this one writes: claims, and what names stand for.

Pure; fed with the mirror's differences.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pilotfish.catalog import keys
from pilotfish.catalog.keys import WISHES, ContainerKey, WishKey, claim_key
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Container, Endpoint
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry
from pilotfish.catalog.verdict import How, Verdict, judge
from pilotfish.catalog.wishes import Kind, Subject
from registrator.engines.swarm import ENGINE_PREFIX
from registrator.rules.exports import HTTP_PORT
from registrator.writing.claims import Held
from registrator.writing.wishes import Tidied, Wished, plan_wishes


class Turned(NamedTuple):
    """What a difference changed for us.

    Attributes:
        names: in lower case, that stand for something else than before: our exports under them change.
        services: in lower case, whose endpoints are judged otherwise for what happened to others.
        places: whose claim changed.
    """

    names: frozenset[str]
    services: frozenset[str]
    places: frozenset[Place]


class Around:
    """The catalog as a registrator reads it.

    Attributes:
        claims: all of them, with the revision of their last change.
        wishes: all of them, likewise.
        proxy_port: where the proxies serve http: the port that most of them have, the lowest of several; kept while
            there is no proxy.
    """

    def __init__(self) -> None:
        self.claims: dict[Place, Held] = {}
        self.wishes: dict[str, Wished] = {}  # by key
        self.proxy_port = HTTP_PORT
        self._registry = Registry(at_hand=sys.maxsize)  # `endpoints` goes through all, again and again
        self._ways: dict[str, frozenset[How]] = {}

    def apply(self, difference: Difference, entries: Mapping[str, Entry]) -> Turned:
        """Take in a difference of the mirror of /pilotfish/v1/, whose entries after it are `entries`."""
        touched = self._registry.apply(difference)
        for place in touched.places:
            claim = self._registry.claims.get(place)
            if claim is None:
                self.claims.pop(place, None)
            else:
                self.claims[place] = Held(claim, entries[claim_key(place)].mod_revision)
        self._take_wishes(difference)
        names = set(self._turned(touched.names))
        if touched.proxies and self._moved():
            names |= {name for name, ways in self._ways.items() if How.PROXIED in ways}
        return Turned(frozenset(names), frozenset(touched.situations), frozenset(touched.places))

    def _take_wishes(self, difference: Difference) -> None:
        for gone in difference.deletes:
            self.wishes.pop(gone, None)
        for entry in difference.puts:
            key = keys.parse(entry.key) if entry.key.startswith(WISHES) else None
            if isinstance(key, WishKey):
                self.wishes.pop(entry.key, None)
                wish = self._registry.wishes.at(key)
                if wish is not None and entry.key not in self._registry.refused:
                    self.wishes[entry.key] = Wished(key, wish, entry.mod_revision)

    def tidy(self, now: float) -> tuple[Tidied, ...]:
        """What is to be written about wishes for what is gone, at a UNIX time in seconds."""
        return plan_wishes(self.wishes.values(), self.is_there, now)

    def is_there(self, subject: Subject) -> bool:
        """True when any node knows whom a wish is about."""
        registry, name = self._registry, subject.name
        if subject.kind is Kind.SERVICE:
            return registry.knows_service(name)
        if subject.kind is Kind.NODE:
            return (
                name in registry.nodes
                or name in registry.proxies
                or any(one.node == name for one in registry.containers)
            )
        return any(one.id == name for one in registry.containers)

    def _moved(self) -> bool:
        """True when the proxies' port is another than before."""
        ports = collections.Counter(proxy.http_port for proxy in self._registry.proxies.values() if proxy.http_port)
        found = min(ports, key=lambda port: (-ports[port], port), default=self.proxy_port)
        before, self.proxy_port = self.proxy_port, found
        return found != before

    @property
    def swarm(self) -> bool:
        """True while a manager's registrator registers the tasks of a swarm."""
        return any(node.engine.startswith(ENGINE_PREFIX) for node in self._registry.nodes.values())

    def elsewhere(self, container: str, node: str) -> bool:
        """True when a container is registered under another node than this one."""
        others = (ContainerKey(other, container) for other in self._registry.nodes if other != node)
        return any(other in self._registry.containers for other in others)

    def is_proxied(self, name: str) -> bool:
        """True when an endpoint of any node has the name stand for the proxies."""
        return How.PROXIED in self._ways.get(name, ())

    def is_tagged(self, name: str) -> bool:
        """True when a DNS tag of an endpoint of any node has this name."""
        return How.TAGGED in self._ways.get(name, ())

    def endpoints(self) -> list[Endpoint]:
        """All endpoints of all nodes."""
        return [endpoint for container in self._registry.containers.values() for endpoint in container.endpoints]

    def judge(self, container: Container, endpoint: Endpoint) -> Verdict:
        """The verdict on an endpoint of ours, which the store need not have yet."""
        return judge(container, endpoint, self._registry.situation(endpoint.service.lower()))

    def panics(self) -> tuple[str, ...]:
        """Services, in lower case, whose failing endpoints are kept since most of them fail."""
        return self._registry.panics()

    def _turned(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            ways = self._registry.ways(name)
            if ways != self._ways.get(name, frozenset()):
                yield name
            if ways:
                self._ways[name] = ways
            else:
                self._ways.pop(name, None)


def freed(difference: Difference, node: str) -> set[str]:
    """Ids of containers whose records under other nodes than this one went."""
    gone = (key for key in map(keys.parse, difference.deletes) if isinstance(key, ContainerKey))
    return {key.id for key in gone if key.node != node}
