"""Rows of the conformance tables: a message, and what a server that keeps the standards says to it.

A row is sent to a server on real sockets, over UDP and over TCP. What it expects is compared field by field with the
reply as dnspython and the raw octets show it; fields that a row does not name are free.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from dnsserver.message.frames import framed
from pilotfish.catalog.record import Record
from pilotfish.catalog.route import Place
from tests.dnsserver.conftest import DEADLINE_S
from tests.dnsserver.kit import container, endpoint, http, lan, node, proxy, question, rows

DOMAIN = "svc.internal"
ID = 0x1234
COOKIE = bytes(range(1, 9))  # what a client sends; RFC 7873 §4.1
LAST = question(
    f"web.{DOMAIN}.", id=0x5E5E, flags=0, use_edns=False
)  # sent behind each row; silence ends with its reply
SILENCE, CLOSED = {"silence": True}, {"closed": True}

# --- messages


def head(*, flags: int = 0, qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0, opcode: int = 0) -> bytes:
    """A header: RFC 1035 §4.1.1."""
    return struct.pack("!6H", ID, flags | opcode << 11, qd, an, ns, ar)


def name(text: str = f"web.{DOMAIN}") -> bytes:
    """A wire name without compression; "" is the root."""
    return b"".join(bytes((len(label),)) + label.encode() for label in text.split(".") if label) + b"\0"


def asks(text: str = f"web.{DOMAIN}", rtype: int | str = "A", klass: int = 1) -> bytes:
    """A question section of one entry."""
    return name(text) + struct.pack("!HH", dns.rdatatype.RdataType.make(rtype), klass)


def opt(*options: bytes, size: int = 1232, version: int = 0, flags: int = 0, owner: bytes = b"\0") -> bytes:
    """An OPT record: RFC 6891 §6.1.2."""
    data = b"".join(options)
    return owner + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(data)) + data


def option(code: int, data: bytes = b"") -> bytes:
    """One EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


def query(text: str = f"web.{DOMAIN}", rtype: int | str = "A", klass: int = 1, *, flags: int = 0) -> bytes:
    """A query without EDNS."""
    return head(flags=flags) + asks(text, rtype, klass)


def edns(
    *options: bytes, text: str = f"web.{DOMAIN}", rtype: int | str = "A", klass: int = 1, bits: int = 0, **fields: Any
) -> bytes:
    """A query with an OPT record; `bits` are the flags of the header, `flags` those of OPT."""
    return head(ar=1, flags=bits) + asks(text, rtype, klass) + opt(*options, **fields)


def labels(*octets: bytes) -> bytes:
    """A question for labels of any octets below the domain."""
    return b"".join(bytes((len(one),)) + one for one in octets) + asks(DOMAIN)


def long_name(octets: int) -> str:
    """A name below the domain of exactly so many octets on the wire."""
    room = octets - len(name(DOMAIN))
    parts = ["a" * 63] * (room // 64) + ["b" * (room % 64 - 1)] * bool(room % 64)
    return ".".join([*parts, DOMAIN])


# --- rows


class Row(NamedTuple):
    """One line of the checklist.

    Attributes:
        title: what must be true, and which RFC says so.
        message: octets to send.
        says: field -> value that the reply has (see `seen`); SILENCE, or CLOSED.
        udp, tcp: what differs on one of them; None: the row is not sent there.
        server: which of the servers of the test it is for.
        later: its reply may come after that to a message behind it.
    """

    title: str
    message: bytes
    says: dict[str, Any]
    udp: dict[str, Any] | None = {}  # noqa: RUF012  never changed
    tcp: dict[str, Any] | None = {}  # noqa: RUF012
    server: str = "plain"
    later: bool = False


def params(rows: list[Row]) -> list[Any]:
    """Every row over each transport, named by both."""
    return [
        pytest.param(row, transport, _merged(row.says, differs), id=f"{row.title} [{transport}]")
        for row in rows
        for transport, differs in (("udp", row.udp), ("tcp", row.tcp))
        if differs is not None
    ]


def _merged(says: dict[str, Any], differs: dict[str, Any]) -> dict[str, Any]:
    return differs if differs in (SILENCE, CLOSED) else {**says, **differs}


def seen(reply: bytes) -> dict[str, Any]:
    """What a reply shows, by field."""
    message = dns.message.from_wire(reply, ignore_trailing=False)
    parts = dns.message.from_wire(reply, one_rr_per_rrset=True)
    flags = struct.unpack_from("!H", reply, 2)[0]
    asked = message.question[0] if message.question else None
    return {
        "id": message.id,
        "opcode": flags >> 11 & 0xF,
        "rcode": dns.rcode.to_text(message.rcode()),
        "flags": dns.flags.to_text(message.flags),
        "z": bool(flags & 0x0040),
        "counts": struct.unpack_from("!4H", reply, 4),
        "question": asked.to_text() if asked is not None else "",
        "raw": reply[12:],
        "answer": sorted(rows(message.answer)),
        "order": rows(message.answer),
        "types": sorted({dns.rdatatype.to_text(rrset.rdtype) for rrset in message.answer}),
        "first": next((row.split(" ")[2] for row in rows(parts.answer)), ""),
        "number": sum(map(len, message.answer)),
        "ttls": sorted({rrset.ttl for rrset in message.answer}),
        "authority": [f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)}" for rrset in message.authority],
        "additional": sorted(rows(message.additional)),
        "edns": message.edns if message.edns >= 0 else None,
        "ednsflags": message.ednsflags & 0xFFFF if message.edns >= 0 else None,
        "options": {int(one.otype): one.to_wire() for one in message.options},
        "codes": sorted(int(one.otype) for one in message.options),
        "ede": next((int(one.code) for one in message.options if hasattr(one, "code")), None),
        "size": len(reply),
        "short": len(reply) <= 512,
        "fits": len(reply) <= 1232,
    }


# --- what is asked about

RECORDS: tuple[tuple[Record, Place | None], ...] = (
    (container(1, endpoint("web", 80, lan("192.168.0.1", 32768))), None),
    (container(2, endpoint("web", 80, lan("192.168.0.2", 32769), host="h2"), host="h2"), None),
    (container(3, endpoint("api.shop", 80, lan("192.168.0.1", 32770), name="c3")), None),
    (container(4, endpoint("site", 80, lan("192.168.0.1", 32771), name="c4", route=http())), None),
    (container(5, endpoint("slow", 80, lan("192.168.0.1", 32772), name="c5", ttl=60)), None),
    (container(6, endpoint("slow", 80, lan("192.168.0.2", 32773), name="c6", ttl=7, host="h2"), host="h2"), None),
    (container(7, endpoint("six", 80, lan("fd00::1", 32774), name="c7")), None),
    (node("h1", "192.168.0.1"), None),
    (node("h2", "192.168.0.2"), None),
    (proxy("h1", "192.168.0.1"), None),
)

FOREIGN = {
    "alias": '{"host": "web.svc.internal"}',
    "chain1": '{"host": "chain2.svc.internal"}',
    "chain2": '{"host": "chain3.svc.internal"}',
    "chain3": '{"host": "10.1.0.3"}',
    "loop1": '{"host": "loop2.svc.internal"}',
    "loop2": '{"host": "loop1.svc.internal"}',
    "note": '{"text": "%s"}' % ("x" * 600),
    "deep/x/y": '{"text": "below"}',
    "far": '{"host": "10.1.0.4", "ttl": 4294967295}',
    "dear/1": '{"host": "10.1.0.5", "port": 80, "ttl": 90}',
    "dear/2": '{"host": "10.1.0.6", "port": 80, "ttl": 20}',
    "twice/1": '{"host": "10.1.0.7", "port": 80}',
    "twice/2": '{"host": "10.1.0.7", "port": 81}',
    **{f"half/n{number}": f'{{"host": "fd00::{number}", "port": 80}}' for number in range(10, 34)},
    **{f"big/n{number}": f'{{"host": "10.2.0.{number}", "port": 80}}' for number in range(100)},
}


# --- asking


async def over_udp(at: tuple[str, int], message: bytes) -> bytes | None:
    """The reply to a datagram; None when the one behind it is answered first."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        await loop.sock_connect(client, at)
        await loop.sock_sendall(client, message)
        await loop.sock_sendall(client, LAST)
        found: list[bytes] = []
        async with asyncio.timeout(DEADLINE_S):
            while (reply := await loop.sock_recv(client, 65535))[:2] != LAST[:2]:
                found.append(reply)
    assert len(found) <= 1
    return found[0] if found else None


async def over_tcp(at: tuple[str, int], message: bytes) -> bytes | None:
    """The reply on a connection of its own; None when the one behind it is answered first.

    Raises:
        EOFError: the connection was closed without a reply.
    """
    reader, writer = await asyncio.open_connection(*at)
    found: list[bytes] = []
    try:
        writer.write(framed(message) + framed(LAST))
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                while (reply := await reader.readexactly(int.from_bytes(await reader.readexactly(2))))[:2] != LAST[:2]:
                    found.append(reply)
    finally:
        writer.transport.abort()
    assert len(found) <= 1
    return found[0] if found else None


async def fate(at: tuple[str, int], transport: str, message: bytes) -> dict[str, Any]:
    """What becomes of a message: the fields of its reply, SILENCE or CLOSED."""
    try:
        reply = await (over_udp if transport == "udp" else over_tcp)(at, message)
    except EOFError:
        return CLOSED
    return SILENCE if reply is None else seen(reply)


async def reply_to(at: tuple[str, int], transport: str, message: bytes, *, source: str = "") -> dict[str, Any]:
    """The fields of the one reply to a message, however long it takes; asked from an address of this host."""
    loop, local = asyncio.get_running_loop(), (source, 0) if source else None
    async with asyncio.timeout(DEADLINE_S):
        if transport == "tcp":
            reader, writer = await asyncio.open_connection(*at, local_addr=local)
            writer.write(framed(message))
            found = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            writer.transport.abort()
            return seen(found)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            if local:
                client.bind(local)
            await loop.sock_connect(client, at)
            await loop.sock_sendall(client, message)
            return seen(await loop.sock_recv(client, 65535))
