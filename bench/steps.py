"""What the steps of an answer take in this process, without sockets: a hit, a name that is not, a first answer."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench import question
from bench.estate import DOMAIN, Estate, service_name
from bench.figures import spread
from dnsserver import answer, zone
from dnsserver.answer import Authority
from dnsserver.finished import Data
from dnsserver.message import wire, writer
from dnsserver.own.index import OwnNames
from dnsserver.responder import Responder
from dnsserver.screen import screen
from dnsserver.skydns.foreign import Foreign
from dnsserver.zone import Zone
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Mirror

ESTATE = Estate(services=1000, each=2, proxied=False)
REPEATS, TIMES = 7, 20_000
CLIENT = bytes((127, 0, 0, 1))


class Step(NamedTuple):
    """One step: whose it is, what it is, and how it is done."""

    of: str
    title: str
    do: Callable[[], object]


def rows(times: int = TIMES) -> Iterator[tuple[str, str, str]]:
    """Microseconds of processor time of each step, the median of some repeats."""
    for step in _steps():
        took = timeit.repeat(step.do, timer=time.process_time, number=times, repeat=REPEATS)
        yield step.of, step.title, spread(took).shown(2, 1e6 / times)


def responder_of(estate: Estate) -> Responder:
    """A responder that has read an estate."""
    domains = [zone.domain(DOMAIN)]
    made = Responder(Zone(domains, OwnNames(domains, "proxy"), Foreign("/skydns", 30)), 2)
    made.apply_own(Mirror(keys.ROOT).start(estate.reading()))
    made.set_data(Data.FRESH)
    return made


def _steps() -> Iterator[Step]:
    responder = responder_of(ESTATE)
    hit = question.message(f"{service_name(7)}.{DOMAIN}", "A")
    responder.udp(hit, CLIENT)
    key, number = hit[2:], hit[:2]
    kept = responder.hot(key)
    if kept is None:
        raise RuntimeError("an answer that was just given is not held")
    body = kept.body() or b""
    yield Step("hit", "nothing: the cost of measuring", lambda: None)
    yield Step("hit", "cut off the id", lambda: hit[2:])
    yield Step("hit", "look up", lambda: responder.hot(key))
    yield Step("hit", "next turn of its addresses", kept.body)
    yield Step("hit", "put the id in front", lambda: number + body)
    yield Step("hit", "all of it, with limits and counting", lambda: responder.udp(hit, CLIENT))
    yield from _uncommon(responder)


def _uncommon(responder: Responder) -> Iterator[Step]:
    names = (question.message(f"x{number:08x}.{DOMAIN}", "A") for number in range(1 << 32))
    yield Step("no such name", "all of it, another name each time", lambda: responder.udp(next(names), CLIENT))
    first = question.message(f"{service_name(8)}.{DOMAIN}", "A")
    query = wire.read(first)
    authority = Authority(1, 2)
    reply = answer.answer(responder.zone, query.name, query.type, authority).reply
    yield Step("first answer", "read and screen the question", lambda: screen(first))
    yield Step(
        "first answer", "find what there is", lambda: answer.answer(responder.zone, query.name, query.type, authority)
    )
    yield Step("first answer", "write it", lambda: writer.write(query, reply, 512))
