"""Whatever comes: an answer, a refusal or silence, within bounds, the same however it is cut; never an exception."""

from __future__ import annotations

import asyncio
import struct

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver.message.frames import framed
from tests.dnsserver import hostile
from tests.dnsserver.hostile import HEADER, filled, odd, told_others
from tests.dnsserver.kit import question
from tests.dnsserver.rows import DOMAIN, RECORDS, asks, head, opt, option

ODD = odd()
WORLD = filled()
TOLD = told_others(filled())


def check(message: bytes, *, tcp: bool) -> bytes | None:
    return hostile.check(WORLD, message, tcp=tcp)


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
@settings(max_examples=400, deadline=None)
def test_messages_after_accidents(message, tcp):
    """Bits turned, octets put in and taken out, one message running into another; and what others are told after it."""
    for _ in range(3):  # what comes often is held
        check(message, tcp=tcp)
    assert told_others(WORLD) == TOLD


@given(
    st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=8), st.binary(max_size=9), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_any_options(options, rest, tcp):
    """Any EDNS options, and rubbish behind them: the answer is the same as without, or FORMERR."""
    plain = question(f"web.{DOMAIN}.", id=1, flags=0, use_edns=False)
    body = opt(*(option(code, data) for code, data in options), rest)
    reply = check(head(ar=1)[:2] + struct.pack("!5H", 0, 1, 0, 0, 1) + plain[HEADER:] + body, tcp=tcp)
    if reply is not None:
        malformed = rest or {10, 11} & dict(options).keys()  # a cookie of no length that has a meaning, a time
        assert dns.message.from_wire(reply).rcode().name in ({"NOERROR", "FORMERR"} if malformed else {"NOERROR"})


RECORD = b"\0\1\0\1\0\0\0\0\0\4\1\2\3\4"  # type, class, TTL, data of an address
BESIDE = {
    "no OPT": head(ar=1) + asks(f"x.{DOMAIN}") + b"\0" + RECORD,
    "no OPT, with an owner": head(ar=1) + asks(f"x.{DOMAIN}") + b"\1a\0" + RECORD,
    "beside OPT": head(ar=2) + asks(f"x.{DOMAIN}") + b"\0" + RECORD + opt(),
    "behind OPT": head(ar=2) + asks(f"x.{DOMAIN}") + opt() + b"\0" + RECORD,
    "two of them": head(ar=2) + asks(f"x.{DOMAIN}") + b"\0" + RECORD + b"\0" + RECORD,
}


@pytest.mark.parametrize("message", BESIDE.values(), ids=BESIDE)
def test_a_record_beside_a_question_teaches_nothing_wrong(message):
    """Whatever follows a question for a name that does not exist: it and all others go on to be told what is so."""
    world = filled()
    for _ in range(4):
        for tcp in (False, True):
            assert dns.message.from_wire(hostile.check(world, message, tcp=tcp)).rcode().name == "NXDOMAIN"
    assert told_others(world) == TOLD
    promised = head(ar=2) + asks(f"x.{DOMAIN}") + opt()
    assert dns.message.from_wire(hostile.check(world, promised, tcp=False)).rcode().name == "FORMERR"


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
