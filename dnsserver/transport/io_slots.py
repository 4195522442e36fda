"""Who may hold a TCP connection, and for how long.

A connection earns its time with whole queries and replies that were taken; trickling octets earn nothing. When slots
become scarce, the time that silence may last shrinks; when all are taken, the connection that was silent longest makes
room (RFC 7766 §6.2.3, §10). One that waits for other name servers is not silent.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from itertools import islice
from typing import Protocol

from dnsserver.transport.io_turns import Turns

READ_SIZE = 16 * 1024  # octets read at once, into one buffer for all
MOST_TRANSFERS = 4  # at once; the others wait in line
_SHARE = 10  # one client may hold this part of all slots
_SCARCE = 0.5  # part of the slots above which silence may last less
_LEAST = 0.1  # part of the idle time that is left when all slots are taken
_SWEEP_S = 0.5
_PATIENCE_S = 30.0  # how long a connection may wait for other name servers
_LOOKED_AT = 64  # connections looked at for one that may go
_LINGER_S = 0.5  # after the last reply, for the client to close
_DRAIN_STEP_S = 0.02
_SPARE_FILES = 8  # left for the other parts of this process when there are no more
_V6_CLIENT = 8  # octets: whoever has one IPv6 address has a /64


class Held(Protocol):
    """A connection, as its slot sees it."""

    @property
    def client(self) -> bytes:
        """Packed address, 4 or 16 octets."""
        ...

    @property
    def waits(self) -> bool:
        """It is our turn: a query is not answered yet, and not because of the client."""
        ...

    @property
    def owes(self) -> bool:
        """Something that was asked is not answered, or an answer not taken yet."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...

    def finish(self) -> None:
        """Read no more; close when everything is answered."""
        ...

    def transfer(self) -> None:
        """Begin the transfer that waits in line."""
        ...


class Slots:
    """The connections of all listening sockets together.

    Args:
        most: connections at once.
        idle_s: silence after which one is closed.
    """

    def __init__(self, most: int, idle_s: float) -> None:
        self.refused = 0  # connections closed at once: their client has its share
        self.evicted = 0  # connections that made room, or were idle or slow for too long
        self.buffer = memoryview(bytearray(READ_SIZE))  # what came is copied out of it before anybody else reads
        self.most = most  # at this moment: fewer for a while after files ran out
        self._allowed, self._share, self._idle_s = most, max(1, most // _SHARE), idle_s
        self._held: OrderedDict[Held, float] = OrderedDict()  # the one that earned its time last, last
        self._by_client: Counter[bytes] = Counter()
        self._transferring: set[Held] = set()
        self._line: deque[Held] = deque()
        self.now = asyncio.get_running_loop().time
        self.turns = Turns(self.now)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def idle_s(self) -> float:
        """Seconds of silence after which a connection is closed now."""
        spare = (1 - len(self._held) / self.most) / (1 - _SCARCE)
        return self._idle_s * min(1.0, max(_LEAST, spare))

    @property
    def idle_ms(self) -> int:
        """The same in milliseconds, for clients that ask (RFC 7828)."""
        return round(self.idle_s * 1000)

    def enter(self, connection: Held) -> bool:
        """Take a slot; False when the client has its share."""
        client = _client(connection)
        if self._by_client[client] >= self._share:
            self.refused += 1
            return False
        while len(self._held) >= self.most:
            self._make_room()
        self._by_client[client] += 1
        self._held[connection] = self.now()
        return True

    def earned(self, connection: Held) -> None:
        """It did something useful: its time begins anew."""
        if connection in self._held:
            self._held[connection] = self.now()
            self._held.move_to_end(connection)

    def leave(self, connection: Held) -> None:
        """Give the slot back."""
        if self._held.pop(connection, None) is None:
            return
        client = _client(connection)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        self.transferred(connection)

    def squeeze(self) -> None:
        """There are no file handles left: hold fewer connections, and leave some to the rest of the process."""
        self.most = max(1, len(self._held) - _SPARE_FILES)
        while len(self._held) > self.most:
            self._make_room()

    def _make_room(self) -> None:
        first = next(iter(self._held))
        self._evict(next((one for one in islice(self._held, _LOOKED_AT) if not one.waits), first))

    # --- transfers

    def queue(self, connection: Held) -> None:
        """Let a transfer begin, now or when it is its turn."""
        if len(self._transferring) < MOST_TRANSFERS:
            self._transferring.add(connection)
            connection.transfer()
        else:
            self._line.append(connection)

    def transferred(self, connection: Held) -> None:
        """A transfer came to its end, or its connection did."""
        if connection in self._transferring:
            self._transferring.discard(connection)
            if self._line:
                self.queue(self._line.popleft())
        elif connection in self._line:
            self._line.remove(connection)

    # --- time

    async def sweep(self) -> None:
        """Close what is idle, for ever."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._idle_s / 2))
            self.most = min(self._allowed, self.most + 1)
            self._sweep_once()

    def _sweep_once(self) -> None:
        now, due = self.now(), []
        limit = now - self.idle_s
        for connection, since in self._held.items():
            if since >= limit:
                break
            if not connection.waits or since < now - _PATIENCE_S:
                due.append(connection)
        for connection in due:
            self._evict(connection)

    async def drain(self, within_s: float) -> int:
        """Let every connection have what it asked for, then close it; no new ones may come meanwhile.

        Returns:
            how many were closed without.
        """
        await asyncio.sleep(0)  # what has come is read
        await asyncio.sleep(0)
        for connection in list(self._held):
            connection.finish()
        until = self.now() + within_s
        while any(one.owes for one in self._held) and self.now() < until:  # noqa: ASYNC110  a clock is read
            await asyncio.sleep(_DRAIN_STEP_S)
        until = min(until, self.now() + _LINGER_S)
        while self._held and self.now() < until:  # noqa: ASYNC110  a clock is read
            await asyncio.sleep(_DRAIN_STEP_S)
        owed = sum(one.owes for one in self._held)
        self.close()
        return owed

    def close(self) -> None:
        """Close all connections at once; no more can come."""
        for connection in list(self._held):
            connection.abort()
        self.turns.close()

    def _evict(self, connection: Held) -> None:
        self.evicted += 1
        connection.abort()


def _client(connection: Held) -> bytes:
    return connection.client[:_V6_CLIENT]
