"""Replies that are not there yet. Pure: values only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dnsserver.outside import Asked
from dnsserver.wire import Query


class Wanted(NamedTuple):
    """A message that can be answered after others were asked.

    Attributes:
        id: of the message.
        query: what it asks.
        client: octets of the address that it came from.
        tcp: how it came.
        lookups: what others must be asked.
        servers: whom, for a stub zone; empty: the forwarders.
    """

    id: bytes
    query: Query
    client: bytes
    tcp: bool
    lookups: tuple[Asked, ...]
    servers: tuple[tuple[str, int], ...]


class Transfer(NamedTuple):
    """A reply of many messages, made one by one; without lengths in front."""

    messages: Iterator[bytes]
