"""Held answers are those that would be made now: random changes, with memories so small that all of them overflow."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from dnsserver import denial, finished
from dnsserver.message.dname import to_text
from dnsserver.message.rr import Type
from dnsserver.message.wire import Reply
from dnsserver.outside import Asked
from dnsserver.own import index
from pilotfish.catalog.record import Claim
from pilotfish.catalog.route import Place, Route
from tests.dnsserver.forwarding_kit import Forwarding, found, no_such_name
from tests.dnsserver.kit import DOMAIN, Said, World, container, endpoint, lan, node, proxy

STEPS, QUESTIONS = 15, 12
SEEDS = [0, 1, 14, 24]  # the last two once found answers that were held too long
LABELS = ["a", "b", "c", "x", "*", "_tcp", "dns", "ns", "node", "h1", "sub", "any", "proxy", "apex", "nearest"]
SERVICES = ["a", "b", "c", "a.b", "b.a", "x.a", "sub", "proxy", "h1"]
PLACES = [f"a.{DOMAIN}", f"*.a.{DOMAIN}", f"*.{DOMAIN}", DOMAIN, f"q.sub.{DOMAIN}", f"b.{DOMAIN}"]
FRONTS = ["_http._tcp.", "_80._tcp.", "_postgresql._tcp.", "_443._https.", "h1-c1-80.", "nearest.", "deep.er."]
TYPES = ["A", "A", "SRV", "AAAA", "TXT", "MX", "NS", "SOA", "CNAME", "ANY", "HTTPS", "CAA", "DS"]
DOMAINS = [(DOMAIN,), (DOMAIN, f"sub.{DOMAIN}"), (DOMAIN, "0.0.10.in-addr.arpa"), (f"sub.{DOMAIN}",)]
REVERSE = "in-addr.arpa"
Change = Callable[[World], object]


@pytest.fixture(params=["large memories", "small memories"])
def _memories(request, monkeypatch):
    if request.param == "small memories":
        monkeypatch.setattr(index, "MAX_REMEMBERED", 1)
        monkeypatch.setattr(denial, "MAX_PATTERNS", 2)
        monkeypatch.setattr(denial, "MAX_SHAPES", 1)
        for name in ("MAX_KEPT", "MAX_KEPT_NOTHING"):
            monkeypatch.setattr(finished, name, 4)


def others(asked: Asked) -> Reply:
    """Addresses exist, an alias of theirs leads back to us, and all else does not exist."""
    name = asked.name
    if asked.type != Type.A:
        return no_such_name("internal", 300)
    if name.startswith(b"\x04back"):
        return found(f"back.e.org 300 CNAME a.{DOMAIN}.")
    return found(f"{to_text(name)} 300 A 192.0.2.9")


class Chance:
    """Changes and questions by chance; the seed decides."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.domains = self.random.choice(DOMAINS)

    def chosen(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def often(self, part: float) -> bool:
        return self.random.random() < part

    def name(self) -> str:
        labels = [self.chosen(*LABELS) for _ in range(self.random.randint(0, 3))]
        return ".".join([*labels, self.chosen(*self.domains)])

    def question(self) -> tuple[str, str]:
        if self.often(0.08):
            return f"{self.random.randint(1, 4)}.0.0.{self.chosen(10, 8)}.{REVERSE}", self.chosen("PTR", "PTR", "A")
        return (self.chosen(*FRONTS) if self.often(0.3) else "") + self.name(), self.chosen(*TYPES)

    def change(self) -> Change:
        kinds = [self._container, self._container, self._host, self._proxy, self._claim, *[self._record] * 5]
        return self.chosen(*kinds)()

    def _container(self) -> Change:
        number, host = self.random.randint(1, 4), self.chosen("h1", "h2")
        record = container(number, *[self._endpoint(number, host) for _ in range(self.chosen(1, 2))], host=host)
        return self._put_or_remove(record, 0.5)

    def _endpoint(self, number: int, host: str) -> Any:
        fields: dict[str, Any] = {"state": self.chosen("passing", "passing", "failing")}
        if self.often(0.3):
            fields["dns"] = tuple(self.random.sample(["a", "b", "c", "x", "proxy", "a.b"], self.chosen(0, 1, 2)))
        if self.often(0.2):
            fields["proxydns"] = (self.chosen("a", "b", "x", "c.b"),)
        if self.often(0.4):
            hosts = tuple(self.random.sample(PLACES, self.chosen(0, 1, 2)))
            fields["route"] = Route(scheme=self.chosen("http", "https"), hosts=hosts)
        address = lan(f"10.0.0.{self.random.randint(1, 4)}", self.chosen(80, 81))
        return endpoint(
            self.chosen(*SERVICES), self.chosen(80, 5432, 443), address, host=host, name=f"c{number}", **fields
        )

    def _host(self) -> Change:
        ips = self.random.sample(["10.0.0.1", "10.0.0.2", "8.0.0.3", "fd00::1", "fd00:0::1"], self.chosen(1, 2))
        return self._put_or_remove(node(self.chosen("h1", "H1", "h2"), *ips), 0.4)

    def _proxy(self) -> Change:
        ip = f"10.0.0.{self.random.randint(7, 9)}"
        return self._put_or_remove(proxy(self.chosen("h1", "h2", "p3"), ip, https=self.chosen(0, 443, 8443)), 0.4)

    def _claim(self) -> Change:
        return self._put_or_remove(
            Claim(service=self.chosen("a", "b", "c"), since=1.0), 0.4, place=Place(self.chosen(*PLACES), "/")
        )

    def _put_or_remove(self, record: Any, removed: float, **options: Any) -> Change:
        gone = self.often(removed)
        return lambda world: (world.remove if gone else world.put)(record, **options)

    def _record(self) -> Change:
        key = "/".join(reversed(self.name().split(".")))
        if self.often(0.15):
            zone = self.chosen("org", "internal/svc/b", "internal/svc/a/x")
            key = f"internal/svc/dns/stub/{zone}/z"
        elif self.often(0.12):
            key = f"arpa/in-addr/{self.chosen(10, 8)}/0/0/{self.random.randint(1, 4)}"
        if self.often(0.35):
            return lambda world: world.skydns_gone(key)
        hosts = ("192.0.2.1", "192.0.2.2", "fd00::1", self.name(), self.name().upper(), "e.org", "back.e.org", "")
        value: dict[str, object] = {"host": self.chosen(*hosts), "port": self.chosen(0, 80)}
        for part, field, said in ((0.3, "text", "t"), (0.2, "group", "g"), (0.2, "mail", True)):
            if self.often(part):
                value[field] = said
        return lambda world: world.skydns({key: value})


def says(said: Said) -> tuple[object, ...]:
    """What two answers to one question have in common, in whatever order; TTLs of others' records may differ."""
    return said.rcode, said.flags, said.sorted, said.authority, sorted(said.additional), said.ede


@pytest.mark.usefixtures("_memories")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_held_is_what_would_be_made(seed):
    """After each change every question gets the answer of a server that remembers nothing, and no record twice."""
    chance = Chance(seed)
    options = {"domains": chance.domains, "node": "h1", "exact": chance.often(0.2)}
    options["local"] = chance.chosen("", f"a.{DOMAIN}", f"zz.{DOMAIN}")
    holds, anew = Forwarding(others, **options), Forwarding(others, **options)
    questions = [chance.question() for _ in range(40)]
    for _ in range(STEPS):
        change = chance.change()
        for world in (holds, anew):
            change(world)
        for name, rtype in chance.random.sample(questions, QUESTIONS):
            spelled = name.upper() if chance.often(0.3) else name
            anew.responder.forget()
            wanted = anew.ask(spelled, rtype)
            for _ in range(3):
                assert says(holds.ask(spelled, rtype)) == says(wanted), (spelled, rtype)
            rows = [row.lower() for row in wanted.answer]
            assert len(rows) == len(set(rows)), (spelled, rtype)
    assert holds.responder.misses < anew.responder.misses * 3
