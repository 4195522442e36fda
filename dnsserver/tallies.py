"""How many messages were answered, by how they came, what they asked for and how it went.

Pure. A finished answer holds the cell that counts it, so that counting is one addition.
"""

from __future__ import annotations

from typing import NamedTuple

from dnsserver.finished import Transport
from dnsserver.message.rr import Type
from dnsserver.message.wire import Rcode

_KNOWN = frozenset(Type)
_OTHER = -1


class Counted(NamedTuple):
    """What is counted together."""

    transport: Transport
    type: str
    rcode: str


class Tallies:
    """The cells: lists of one number."""

    def __init__(self) -> None:
        self._cells: dict[tuple[Transport, int | None, int], list[int]] = {}

    def cell(self, transport: Transport, qtype: int | None, rcode: int) -> list[int]:
        """Where such messages are counted; `qtype` None: the message could not be read."""
        # Types that clients make up must not become as many counters.
        key = (transport, qtype if qtype in _KNOWN or qtype is None else _OTHER, rcode)
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = [0]
        return found

    def counts(self) -> dict[Counted, int]:
        """Messages so far."""
        return {
            Counted(transport, _type_name(qtype), _rcode_name(rcode)): cell[0]
            for (transport, qtype, rcode), cell in self._cells.items()
        }


def _type_name(qtype: int | None) -> str:
    if qtype is None:
        return "-"
    return "other" if qtype == _OTHER else Type(qtype).name


def _rcode_name(rcode: int) -> str:
    try:
        return Rcode(rcode).name
    except ValueError:  # of another name server
        return str(rcode)
