"""What an answer may be besides octets: one that waits for other name servers, or one of many messages. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dnsserver.message.wire import Query
from dnsserver.outside import Asked


class Wanted(NamedTuple):
    """A query that others must be asked about first.

    Attributes:
        id: of the message, two octets.
        query: what was asked.
        client: packed address, 4 or 16 octets.
        tcp: it came over TCP, so the reply may be long.
        lookups: what must be known before it can be answered.
        servers: name servers to ask, address and port; (): those that everything is forwarded to.
        whole: the one look-up whose outcome is the answer; None: they are for aliases in an answer of ours.
    """

    id: bytes
    query: Query
    client: bytes
    tcp: bool
    lookups: tuple[Asked, ...]
    servers: tuple[tuple[str, int], ...]
    whole: Asked | None = None


class Transfer(NamedTuple):
    """A reply of many messages (RFC 5936 §2.2).

    Attributes:
        messages: finished, ids included, without lengths in front; made when they are taken. An empty one in between
            means that there is nothing to send yet: others have their turn first.
    """

    messages: Iterator[bytes]
