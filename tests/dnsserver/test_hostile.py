"""Whatever comes: an answer, a refusal or silence, within bounds, the same however it is cut; never an exception."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver import wire
from dnsserver.frames import framed
from tests.dnsserver.kit import World, question
from tests.dnsserver.rows import DOMAIN, FOREIGN, RECORDS, head, opt, option

HEADER = 12


def odd() -> dict[str, bytes]:
    """The messages in data/odd.txt by title."""
    lines = (Path(__file__).parent / "data" / "odd.txt").read_text().splitlines()
    split = (line.split("\t") for line in lines if not line.startswith("#"))
    return {title: bytes.fromhex(octets) for title, octets in split}


ODD = odd()


def filled() -> World:
    """A world that was asked before, so that finished answers of each kind are at hand."""
    world = World()
    for record, place in RECORDS:
        world.put(record, place=place)
    world.skydns({f"internal/svc/{key}": value for key, value in FOREIGN.items()})
    for message in [*ODD.values()] * 3:
        for tcp in (False, True):
            world.send(message, tcp=tcp)
    return world


WORLD = filled()


def check(message: bytes, *, tcp: bool) -> bytes | None:
    """Send a message, and hold the reply against what is true of all replies."""
    reply = WORLD.send(message, tcp=tcp)
    if reply is None:
        assert len(message) < HEADER or message[2] & 0x80, "only what is too short and replies get none"
        return None
    assert len(reply) >= HEADER
    assert len(reply) <= (wire.MAX_TCP if tcp else wire.MAX_UDP)
    asked, flags = wire.head(message), wire.head(reply).flags
    assert (wire.head(reply).id, flags & wire.OPCODE_MASK) == (asked.id, asked.flags & wire.OPCODE_MASK)
    assert flags & wire.QR
    assert not flags & (wire.RA | wire.AD | wire.CD | 0x0040)
    assert flags & wire.RD == asked.flags & wire.RD
    read = dns.message.from_wire(reply, ignore_trailing=False)
    if read.question:
        end = HEADER + len(read.question[0].name.to_wire()) + 4
        assert reply[HEADER:end] == message[HEADER:end], "the question comes back octet by octet"
    if read.edns < 0 and not tcp:
        assert len(reply) <= wire.MAX_PLAIN_UDP
    assert read.edns <= 0
    return reply


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("message", ODD.values(), ids=ODD)
def test_odd_messages(message, tcp):
    """Each gets a reply that can be read, or none; the same when it comes again."""
    first, again = check(message, tcp=tcp), check(message, tcp=tcp)
    assert (first is None) == (again is None)
    assert first is None or (first[:HEADER], len(first)) == (again[:HEADER], len(again))


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("title", ["RFC 7873 4: client and server cookie", "a chain of aliases"])
def test_every_bit_and_every_end(title, tcp):
    """A question with any one bit turned, or cut anywhere, or with any octet after it."""
    message = ODD[title]
    for bit in range(8 * len(message)):
        turned = bytearray(message)
        turned[bit // 8] ^= 1 << bit % 8
        check(bytes(turned), tcp=tcp)
    for end in range(len(message)):
        check(message[:end], tcp=tcp)
    for octet in range(256):
        check(message + bytes((octet,)), tcp=tcp)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message of the corpus after some accidents."""
    message = bytearray(draw(st.sampled_from(list(ODD.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(message) - 1)))
        match draw(st.sampled_from(["turn", "put", "cut", "drop", "splice", "number"])):
            case "turn" if message:
                message[at] ^= 1 << draw(st.integers(0, 7))
            case "put":
                message[at:at] = draw(st.binary(max_size=20))
            case "cut":
                del message[at:]
            case "drop":
                del message[at : at + draw(st.integers(1, 20))]
            case "splice":
                message[at:] = draw(st.sampled_from(list(ODD.values())))[at:]
            case "number":
                message[at : at + 2] = struct.pack("!H", draw(st.sampled_from([0, 1, 255, 0xC00C, 0x7FFF, 0xFFFF])))
    return bytes(message)


@given(mutated(), st.booleans())
@settings(max_examples=400)
def test_messages_after_accidents(message, tcp):
    """Bits turned, octets put in and taken out, one message running into another."""
    check(message, tcp=tcp)


@given(
    st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=8), st.binary(max_size=9), st.booleans()
)
@settings(max_examples=200)
def test_any_options(options, rest, tcp):
    """Any EDNS options, and rubbish behind them: the answer is the same as without, or FORMERR."""
    plain = question(f"web.{DOMAIN}.", id=1, flags=0, use_edns=False)
    body = opt(*(option(code, data) for code, data in options), rest)
    reply = check(head(ar=1)[:2] + struct.pack("!5H", 0, 1, 0, 0, 1) + plain[HEADER:] + body, tcp=tcp)
    rcode = dns.message.from_wire(reply).rcode().name
    assert rcode in ({"NOERROR", "FORMERR"} if rest or 10 in dict(options) else {"NOERROR"})


@pytest.fixture
async def server(run):
    running = await run()
    for record, place in RECORDS:
        await running.put(record, place=place)
    return running


SPLIT = [
    "a plain question",
    "a reply",
    "no question",
    "a name that does not exist",
    "RFC 7830 3: padding to 128",
    "opcode 15",
]


async def exchange(at: tuple[str, int], pieces: list[bytes]) -> bytes:
    """Everything that comes back for a stream that is sent in pieces, each read before the next is sent."""
    reader, writer = await asyncio.open_connection(*at)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)  # the server runs in the same loop
        await asyncio.sleep(0)
    writer.write_eof()
    async with asyncio.timeout(20):
        got = await reader.read()
    writer.close()
    return got


async def test_every_split_of_a_stream(server):
    """Six messages on one connection, cut in two at each octet: the same octets come back."""
    stream = b"".join(framed(ODD[title]) for title in SPLIT)
    whole = await exchange(server.at, [stream])
    assert len(whole) > 200
    for at in range(1, len(stream)):
        turned = await exchange(server.at, [stream[:at], stream[at:]])
        assert parted(turned) == parted(whole), f"cut at {at}"
    assert parted(await exchange(server.at, [stream[at : at + 1] for at in range(len(stream))])) == parted(whole)


def parted(stream: bytes) -> list[tuple[bytes, int]]:
    """Header and length of each message; addresses turn from answer to answer."""
    found = []
    while stream:
        size = int.from_bytes(stream[:2])
        found.append((stream[2 : 2 + HEADER], size))
        stream = stream[2 + size :]
    return found
