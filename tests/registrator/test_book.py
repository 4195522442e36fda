"""What is known of a container that can be asked nowhere: one of an engine on another host, at a fixed address."""

from __future__ import annotations

from registrator.book import Book, Look
from registrator.engines.engine import Event, Kind
from registrator.rules.address import Host
from registrator.rules.wanted import wanted
from registrator.settings import RegistratorSettings
from tests.registrator.builders import ID, given

STOPPED_AT = 2_000_000_000.0


def test_what_outlives_its_draining_and_can_be_asked_nowhere_is_believed():
    """As it was when it started: a dial of nothing would never be answered."""
    host = Host("far", ("10.9.9.9",), local=False)
    book = Book(host, lambda facts, of: wanted(facts, host, RegistratorSettings(), of), lambda _: {})
    seen = given(env=("SERVICE_NAME=w", "SERVICE_IP=10.8.8.8"), ports={"80/tcp": 80})

    def state():
        return book.pages[ID].record().endpoints[0].state

    book.look(Look(ID, seen, (), STOPPED_AT), None)
    states = [state()]
    book.look(Look(ID, seen, (Event(Kind.KILL, ID, STOPPED_AT, "kill", "15"),), STOPPED_AT), None)
    states.append(state())
    book.expire(STOPPED_AT + 100)
    states.append(state())
    assert states == ["passing", "draining", "passing"]
