"""The sockets that are open: a pair for each address, UDP and TCP, and more when addresses come.

0.0.0.0 and :: stand for each address of the host, one by one: an answer leaves from the address that was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from dnsserver.faults import Faults
from dnsserver.responder import Responder, Told
from dnsserver.transport import io_addresses
from dnsserver.transport.io_slots import Slots
from dnsserver.transport.io_tcp import TcpEdge
from dnsserver.transport.io_udp import NOT_ANSWERED, UDP, Defer, Note, UdpEdge
from dnsserver.transport.later import Transfer, Wanted
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.catalog.values import join_host_port

TCP = "tcp"
LISTENING = "dns sockets"  # in /ready
REBIND_S = 10.0  # how often addresses that came or went are looked for, when listening at all of them
At = tuple[str, int]


class Manner(NamedTuple):
    """How the sockets are served.

    Attributes:
        defer: takes what others must be asked for, and how to send the reply.
        note: told of each message; None: nobody asks.
        shared: other processes of ours have sockets at the same addresses.
        short_cut: see UdpEdge.
        faults: told of what costs a message its answer.
    """

    defer: Defer
    note: Note | None = None
    shared: bool = False
    short_cut: bool = True
    faults: Faults | None = None


class Edges:
    """All sockets of one server.

    Args:
        responder: what answers.
        slots: the TCP connections.
        manner: how they are served.
        telemetry: where it is said what opens and closes.
    """

    def __init__(self, responder: Responder, slots: Slots, manner: Manner, telemetry: Telemetry) -> None:
        self._responder, self._slots, self._manner, self._telemetry = responder, slots, manner, telemetry
        self._faults = manner.faults or Faults(telemetry.log)
        self.open: dict[At, tuple[UdpEdge, TcpEdge]] = {}
        self._overflowed_before = 0  # of sockets that are closed
        self._now = asyncio.get_running_loop().time

    def listen(self, where: Sequence[At]) -> None:
        """Open everything that is asked for.

        Raises:
            CannotStart: an address cannot be had; of all addresses of the host, not one, or there is none.
        """
        for ip, port in where:
            if io_addresses.is_any(ip):
                self._listen_at_all(ip, port)
            else:
                self._listen_at(ip, port)
        if not self.open:
            raise CannotStart(f"--listen {_joined(where)}: this host has no address of that kind; name another")
        self._telemetry.log.info("DNS answers at %s, UDP and TCP", _joined(self.open))
        self._say_ready()

    async def follow_addresses(self, where: Sequence[At]) -> None:
        """Open and close sockets as addresses of this host come and go, for ever; at once when nothing asks for all."""
        while any(io_addresses.is_any(ip) for ip, _ in where):
            await asyncio.sleep(REBIND_S)
            try:
                self._rebind(set(io_addresses.expanded(where)))
            except OSError as error:  # out of file handles: the sockets that are open go on
                self._telemetry.log.warning("this host's addresses are not known now: %s", error)

    def _rebind(self, wanted: set[At]) -> None:
        for at in [at for at in self.open if at not in wanted]:
            self._telemetry.log.info("an address is gone: no longer at %s", join_host_port(*at))
            self._remove(at)
        for at in wanted - self.open.keys():
            with contextlib.suppress(OSError):
                self._add(*at)
                self._telemetry.log.info("a new address: DNS answers at %s too", join_host_port(*at))
        self._say_ready()

    def _say_ready(self) -> None:
        if self.open:
            self._telemetry.ready.good(LISTENING)
        else:
            self._telemetry.ready.bad(LISTENING, "this host has no address to listen at any more")

    def _listen_at(self, ip: str, port: int) -> None:
        try:
            self._add(ip, port)
        except OSError as error:
            raise io_addresses.cannot_listen(ip, port, error) from error

    def _listen_at_all(self, ip: str, port: int) -> None:
        first: CannotStart | None = None
        for at in io_addresses.expanded([(ip, port)]):
            try:
                self._listen_at(*at)
            except CannotStart as error:
                first = first or error
                self._telemetry.log.warning("%s", error)
        if first is not None and not self.open:
            raise first

    def _add(self, ip: str, port: int) -> None:
        manner = self._manner
        udp, tcp = io_addresses.open_pair(ip, port, shared=manner.shared)
        at = ip, udp.getsockname()[1]
        defer = manner.defer if manner.note is None else _noting(manner.defer, manner.note)
        stream = TcpEdge(tcp, self._slots, self._tcp, defer, self._telemetry.log)
        edge = UdpEdge(udp, self._responder, defer, manner.note, short_cut=manner.short_cut, faults=self._faults)
        self.open[at] = edge, stream

    def _tcp(self, message: bytes, client: bytes) -> Told:
        self._responder.clock.now = self._now()
        try:
            told, note = self._responder.tcp(message, client), self._manner.note
        except Exception as error:  # noqa: BLE001  it costs this message, not the connection's others
            self._faults.caught(NOT_ANSWERED, error)
            return None
        if note is None or isinstance(told, Wanted):
            return told
        if isinstance(told, Transfer):
            return Transfer(_first_noted(told.messages, partial(note, client, TCP, message)))
        note(client, TCP, message, told)
        return told

    def _remove(self, at: At) -> None:
        udp, tcp = self.open.pop(at)
        self._overflowed_before += udp.overflowed
        udp.close()
        tcp.close()

    def refuse_more(self) -> None:
        """Leave new connections and datagrams to others at these addresses; what has come is served on."""
        for udp, tcp in self.open.values():
            udp.stand_aside()
            tcp.close()

    def close(self) -> None:
        """Close everything; what has come already is answered."""
        for at in list(self.open):
            self._remove(at)
        self._slots.close()

    @property
    def overflowed(self) -> int:
        """Datagrams that the kernel dropped because a buffer was full."""
        return self._overflowed_before + sum(udp.overflowed for udp, _ in self.open.values())

    @property
    def unsent(self) -> int:
        """Replies that the kernel did not take."""
        return sum(udp.unsent for udp, _ in self.open.values())

    @property
    def connections(self) -> int:
        """TCP connections that are open."""
        return len(self._slots)

    @property
    def refused(self) -> int:
        """TCP connections closed at once, because their client had its share."""
        return self._slots.refused

    @property
    def evicted(self) -> int:
        """TCP connections closed because they were silent, slow, or in the way of others."""
        return self._slots.evicted


def _joined(where: Iterable[At]) -> str:
    return ", ".join(join_host_port(*at) for at in where)


# What had to be waited for is noted when its reply is there; the client's options are not known any more.
def _noting(defer: Defer, note: Note) -> Defer:
    def deferred(wanted: Wanted, send: Callable[[bytes], None]) -> None:
        def sent(reply: bytes) -> None:
            note(wanted.client, TCP if wanted.tcp else UDP, wanted.id + wanted.query.plain, reply)
            send(reply)

        defer(wanted, sent)

    return deferred


def _first_noted(messages: Iterator[bytes], note: Callable[[bytes], None]) -> Iterator[bytes]:
    noted = False
    for message in messages:
        if message and not noted:  # an empty one is a pause
            noted = True
            note(message)
        yield message
