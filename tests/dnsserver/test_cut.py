"""Truncated replies made from the question's octets: the same as those that are written, and never for junk."""

from __future__ import annotations

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver import cut
from dnsserver.message import writer
from dnsserver.message.wire import Query
from dnsserver.screen import screen

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)
TYPES = st.sampled_from([1, 2, 5, 12, 15, 16, 28, 33, 65])


@st.composite
def questions(draw):
    name = b"".join(bytes([len(label)]) + label for label in draw(LABELS)) + b"\0"
    flags = draw(st.sampled_from([0x0000, 0x0100, 0x0110, 0x0010, 0x0120]))
    edns = draw(st.booleans())
    header = draw(st.integers(0, 65535)).to_bytes(2) + flags.to_bytes(2) + b"\0\1\0\0\0\0\0" + bytes([edns])
    opt = b"\0\0\x29" + draw(st.integers(0, 65535)).to_bytes(2) + b"\0\0" + draw(st.sampled_from([b"\0", b"\x80"]))
    return header + name + draw(TYPES).to_bytes(2) + b"\0\1" + (opt + b"\0\0\0" if edns else b"")


@given(questions())
def test_it_is_what_would_be_written(message):
    """For a plain question the short way and the long way give the same octets."""
    query = screen(message)
    assert isinstance(query, Query)
    assert cut.over_tcp(message) == message[:2] + _with_our_bits(writer.truncated(query))


def _with_our_bits(body: bytes) -> bytes:
    """Without AA and RA: nothing was looked up."""
    flags = int.from_bytes(body[:2]) & ~(dns.flags.AA | dns.flags.RA)
    return flags.to_bytes(2) + body[2:]


@given(st.binary(max_size=80) | questions().flatmap(lambda one: st.integers(0, len(one)).map(lambda at: one[:at])))
def test_what_is_no_plain_question_is_left_to_others(message):
    """Any octets: None, or a reply that dnspython reads, for a question that the screen lets pass."""
    reply = cut.over_tcp(message)
    if reply is not None:
        assert isinstance(screen(message), Query)
        assert dns.message.from_wire(reply).flags & dns.flags.TC
        assert len(reply) == len(message)


NOT_PLAIN = {
    "a reply": lambda m: m[:2] + b"\x81" + m[3:],
    "another opcode": lambda m: m[:2] + b"\x29" + m[3:],
    "two questions": lambda m: m[:5] + b"\2" + m[6:],
    "an answer record": lambda m: m[:7] + b"\1" + m[8:],
    "class CHAOS": lambda m: m[:-12] + b"\3" + m[-11:],
    "EDNS version 1": lambda m: m[:-5] + b"\1" + m[-4:],
    "an option": lambda m: m[:-1] + b"\4\0\3\0\0",
    "an octet more": lambda m: m + b"\0",
    "a pointer": lambda m: m[:12] + b"\xc0\x0c" + m[14:],
    "cut": lambda m: m[:-1],
}


@pytest.mark.parametrize("change", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_not_plain(change):
    """Each of these is for the screen to judge."""
    message = dns.message.make_query("web.svc.internal", "A", use_edns=0).to_wire()
    assert cut.over_tcp(message) is not None
    assert cut.over_tcp(change(message)) is None
