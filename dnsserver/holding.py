"""Where a finished answer is held, and how it is given again.

Pure. What is said of one name that does not exist is held for all below the same name; what names something, what does
not, and what others said are held apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnsserver.aging import Aging, Clock
from dnsserver.answer import Answered
from dnsserver.cache import Cache
from dnsserver.denial import Shape, is_apart
from dnsserver.finished import SERIAL_END, Denial, Finished
from dnsserver.message import writer
from dnsserver.message.wire import Query, Rcode
from dnsserver.message.writer import Written
from dnsserver.zone import Zone

_HEADER = 10  # octets of a header without its id

Place = tuple[Cache | None, Callable[[], bytes | None] | None]  # where, and what gives it again; None: nowhere
NOWHERE: Place = (None, None)


class Made(NamedTuple):
    """An answer that was just made: to what, what it says, and its octets; `tally` counts those like it."""

    query: Query
    answered: Answered
    written: Written
    tally: list[int]


def place(made: Made, side: Finished, zone: Zone, clock: Clock, *, turning: bool, recursive: bool) -> Place:
    """Where an answer is held, if it is worth it.

    Args:
        made: the answer.
        side: what is held for its transport; learns what is said of all names like this one.
        zone: what it was made from.
        clock: the time.
        turning: addresses are given in turn.
        recursive: who asked may have others asked.
    """
    answered, written = made.answered, made.written
    if answered.expires_s is not None:
        aging = Aging(written, clock.now, clock.now + answered.expires_s, clock, None, turning=turning)
        return (side.beyond, aging) if recursive else NOWHERE
    if answered.reply.answer:
        if written.authority:  # aliases that lead to nothing of ours: they have no order, and an SOA
            return side.some, Denial(side, written)
        return side.some, writer.turns(written, turning=turning)
    if _learned(made, side, zone) or not side.asked_again(made.query.plain):
        return NOWHERE
    return side.nothing, Denial(side, written)


# What is said of one name that does not exist is said of all others below the same name.
def _learned(made: Made, side: Finished, zone: Zone) -> bool:
    query, reply, written = made.query, made.answered.reply, made.written
    lower = query.name.lower()
    if reply.rcode != Rcode.NXDOMAIN or not written.authority:
        return False
    found = None if zone.exists(lower) else zone.denies_below(lower)
    if found is None:
        return False
    above, absent = found
    body, start = written.body, _HEADER + len(query.question)
    at = len(body) - written.opt - SERIAL_END
    if not is_apart(body[start:at], query.name, reply.authority[0]):
        return False
    side.denials.learn(query.plain, above, absent, Shape(body[:_HEADER], body[start:at], body[at + 4 :], made.tally))
    return True
