"""What all nodes have registered, as far as it decides about what this one writes: claims, and what names stand for.

Pure; fed with the mirror's differences.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Container, Endpoint
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry
from pilotfish.catalog.verdict import How, Verdict, judge
from registrator.claims import Held
from registrator.exports import HTTP_PORT


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
        proxy_port: where the proxies serve http: the port that most of them have, the lowest of several; kept while
            there is no proxy.
    """

    def __init__(self) -> None:
        self.claims: dict[Place, Held] = {}
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
        names = set(self._turned(touched.names))
        if touched.proxies and self._moved():
            names |= {name for name, ways in self._ways.items() if How.PROXIED in ways}
        return Turned(frozenset(names), frozenset(touched.situations), frozenset(touched.places))

    def _moved(self) -> bool:
        """True when the proxies' port is another than before."""
        ports = collections.Counter(proxy.http_port for proxy in self._registry.proxies.values() if proxy.http_port)
        found = min(ports, key=lambda port: (-ports[port], port), default=self.proxy_port)
        before, self.proxy_port = self.proxy_port, found
        return found != before

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
