"""Secondaries are told of changes (NOTIFY): the message, what counts as a reply, and tries that end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver import zone as zones
from dnsserver.answer import Authority
from dnsserver.message.rr import Record
from dnsserver.transfers import notify
from dnsserver.transfers.io_notify import Notifier
from tests.dnsserver.conftest import until

DOMAIN = zones.domain("example.test")
TRIES_S = (0.2, 0.2, 0.2)


def soa(serial: int = 7) -> Record:
    return Authority(serial, 2).record(DOMAIN)


def test_the_message():
    """Opcode NOTIFY, AA, the zone's SOA asked for, and as a hint in the answer (RFC 1996 §3.7)."""
    message = dns.message.from_wire(notify.message(0xABCD, soa()))

    assert (message.id, message.opcode(), dns.flags.to_text(message.flags)) == (0xABCD, dns.opcode.NOTIFY, "AA")
    assert message.question[0].to_text() == "example.test. IN SOA"
    assert message.answer[0][0].serial == 7


SENT = notify.message(0x1234, soa())
REPLY = dns.message.make_response(dns.message.from_wire(SENT)).to_wire()
REPLIES = {
    "as it should be": (REPLY, 0),
    "a refusal": (REPLY[:3] + bytes((REPLY[3] | 5,)) + REPLY[4:], 5),
    "a header alone": (REPLY[:4] + bytes(8), 0),
    "spelled otherwise": (REPLY.replace(b"example", b"EXAMPLE"), 0),
    "another id": (b"\0\0" + REPLY[2:], None),
    "no reply": (SENT, None),
    "to a query": (REPLY[:2] + bytes((REPLY[2] & 0x87,)) + REPLY[3:], None),
    "of another zone": (REPLY.replace(b"example", b"exampla"), None),
    "cut": (REPLY[:11], None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize(("reply", "rcode"), REPLIES.values(), ids=REPLIES)
def test_what_counts_as_a_reply(reply, rcode):
    """The id, QR, the opcode and the question have to be those of what was sent."""
    assert notify.outcome(reply, SENT) == rcode


@given(st.binary(max_size=64))
def test_any_octets_are_a_reply_or_none(octets):
    """Whatever comes back is no exception."""
    for reply in (octets, SENT[:2] + octets, REPLY[:12] + octets):
        assert notify.outcome(reply, SENT) in {None, *range(16)}


class Secondary(asyncio.DatagramProtocol):
    """Hears notices, and says to each what it is told to; b"": that it heard."""

    def __init__(self, says: Callable[[int], bytes | None]) -> None:
        self.says, self.heard, self.from_ = says, [], []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = dns.message.from_wire(data)
        self.heard.append(message.answer[0][0].serial)
        self.from_.append(addr)
        said = self.says(len(self.heard))
        if said is not None:
            self.transport.sendto(data[:2] + said[2:] if said else dns.message.make_response(message).to_wire(), addr)


@asynccontextmanager
async def secondary(says: Callable[[int], bytes | None]) -> AsyncIterator[tuple[Secondary, tuple[str, int]]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Secondary(says), ("127.0.0.1", 0))
    yield protocol, transport.get_extra_info("sockname")
    transport.close()


@asynccontextmanager
async def telling(at: tuple[str, int], held: list[Record], **options) -> AsyncIterator[Notifier]:
    log = logging.getLogger("test.notify")
    notifier = Notifier([at], lambda: held, log, tries_s=TRIES_S, quiet_s=0.05, **options)
    task = asyncio.create_task(notifier.run())
    yield notifier
    task.cancel()
    await asyncio.wait([task])


async def test_a_change_is_told_once():
    """Many changes of one serial are one notice; another serial is another one."""
    held = [soa(7)]
    async with secondary(lambda _: REPLY) as (other, at), telling(at, held) as notifier:
        for _ in range(5):
            notifier.changed()
        await until(lambda: other.heard == [7], "told of the first")
        notifier.changed()
        held[0] = soa(8)
        notifier.changed()
        await until(lambda: other.heard == [7, 8], "told of the second")


async def test_it_is_told_again_until_it_is_heard():
    """A lost notice is sent anew; a reply to something else does not end the wait."""
    says = {1: None, 2: SENT, 3: REPLY}
    async with secondary(says.get) as (other, at), telling(at, [soa()]) as notifier:
        notifier.changed()
        await until(lambda: len(other.heard) == 3, "told three times")


async def test_it_is_given_up(caplog):
    """A secondary that never answers is told so often and no more, and named in the log."""
    async with secondary(lambda _: None) as (other, at), telling(at, [soa()]) as notifier:
        notifier.changed()
        await until(lambda: "does not answer" in caplog.text, "given up")

    assert len(other.heard) == len(TRIES_S)
    assert f"127.0.0.1:{at[1]}" in caplog.text


async def test_a_refusal_is_said(caplog):
    """One that does not take notices from here is told once, and the admin why."""
    refusal = REPLY[:3] + bytes((REPLY[3] | dns.rcode.REFUSED,)) + REPLY[4:]
    async with secondary(lambda _: refusal) as (other, at), telling(at, [soa()]) as notifier:
        notifier.changed()
        await until(lambda: "says REFUSED" in caplog.text, "said in the log")

    assert other.heard == [7]


async def test_nobody_listens(caplog):
    """A port where nobody is (ICMP unreachable) is tried so often and given up, like silence."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        at = taken.getsockname()
    async with telling(at, [soa()]) as notifier:
        notifier.changed()
        await until(lambda: "does not answer" in caplog.text, "given up")


async def test_a_newer_change_takes_the_place_of_an_older():
    """While one is told again and again, it is told the newest serial."""
    held = [soa(7)]
    says = lambda count: REPLY if count >= 3 else None  # noqa: E731  a table of two rows
    async with secondary(says) as (other, at), telling(at, held) as notifier:
        notifier.changed()
        await until(lambda: bool(other.heard), "told of the first")
        held[0] = soa(9)
        notifier.changed()
        await until(lambda: len(other.heard) >= 3, "told until it hears")

    assert other.heard[-1] == 9


async def test_it_comes_from_where_we_answer():
    """Secondaries expect to hear from the address that they ask at (RFC 1996 §3.10)."""
    where = [("192.0.2.9", 53), ("127.0.0.2", 53)]
    async with (
        secondary(lambda _: REPLY) as (other, at),
        telling(at, [soa()], listening=lambda: where) as one,
    ):
        one.changed()
        await until(lambda: bool(other.heard), "told")

    assert other.from_[0][0] == "127.0.0.2"


async def test_a_server_tells_of_changes(run):
    """From a record in the store to a notice with its serial."""
    async with secondary(lambda _: b"") as (other, at):
        running = await run(notify=(at,))
        await until(lambda: bool(other.heard), "told at the start")
        await running.put_raw("/skydns/internal/svc/web", b'{"host": "10.0.0.1"}')
        await until(lambda: other.heard[-1] == running.service.responder.serial, "told of the record")
