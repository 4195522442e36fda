"""EDNS options of queries and replies: the rows of the conformance list, any octets, and dnspython's opinion."""

from __future__ import annotations

import struct

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.message.edns import NONE, Options, read_options, write_options
from dnsserver.message.wire import MAX_TCP, Ede, Malformed

COOKIE = bytes.fromhex("2464c4abcf10c957")
BOTH = COOKIE + bytes.fromhex("010000005cf79f111f8130c3eee29480")
TCP, UDP = True, False


def option(code: int, data: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(data)) + data


READ = {
    "nothing": (b"", NONE),
    "a client cookie": (option(10, COOKIE), Options(COOKIE)),
    "both cookies": (option(10, BOTH), Options(BOTH)),
    "the shortest server cookie": (option(10, bytes(16)), Options(bytes(16))),
    "the longest server cookie": (option(10, bytes(40)), Options(bytes(40))),
    "two cookies: the first counts": (option(10, COOKIE) + option(10, BOTH), Options(COOKIE)),
    "NSID": (option(3), Options(nsid=True)),
    "NSID that says something": (option(3, b"who?"), Options(nsid=True)),
    "EXPIRE": (option(9), NONE),
    "keepalive": (option(11), Options(keepalive=True)),
    "padding": (option(12, bytes(100)), Options(padding=True)),
    "padding that is not zero": (option(12, b"\xff" * 3), Options(padding=True)),
    "client subnet": (option(8, bytes.fromhex("00011800c00002")), NONE),
    "a client subnet of nonsense": (option(8, b"\xff"), NONE),
    "the mark of a stub zone": (option(65011, b"\x01"), Options(stub_guard=True)),
    "unknown ones": (option(100, b"x") + option(65535) + option(0), NONE),
    "all together": (
        option(100) + option(12) + option(10, BOTH) + option(3) + option(11) + option(9) + option(65011),
        Options(BOTH, True, True, True, True),
    ),
}


@pytest.mark.parametrize(("octets", "expected"), READ.values(), ids=READ)
@pytest.mark.parametrize("tcp", [TCP, UDP], ids=["tcp", "udp"])
def test_options_of_a_query(octets, expected, tcp):
    """What is known is read, what is not known is ignored (RFC 6891 §6.1.2)."""
    assert read_options(octets, tcp=tcp) == expected


MALFORMED = {
    "no cookie in a COOKIE": option(10),
    **{f"a cookie of {size} octets": option(10, bytes(size)) for size in (*range(1, 8), *range(9, 16), 41, 100)},
    "a bad cookie behind a good one": option(10, COOKIE) + option(10, b"x"),
    "a code alone": b"\x00\x0a",
    "half a length": b"\x00\x0a\x00",
    "longer than the record": struct.pack("!HH", 10, 9) + COOKIE,
    "a last octet": option(3) + b"\x00",
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("tcp", [TCP, UDP], ids=["tcp", "udp"])
def test_options_that_are_none(octets, tcp):
    """Cookies of a length that none has (RFC 7873 §5.2.2), and options that do not fill their record."""
    with pytest.raises(Malformed):
        read_options(octets, tcp=tcp)


def test_a_timeout_from_a_client():
    """A client must not give a timeout over TCP (RFC 7828 §3.2.1); over UDP the option is ignored (§3.2.2)."""
    with pytest.raises(Malformed):
        read_options(option(11, b"\x00\x64"), tcp=TCP)
    assert read_options(option(11, b"\x00\x64")) == Options(keepalive=True)


@given(st.binary(max_size=64), st.booleans())
def test_any_octets(octets, tcp):
    """Any octets are options or malformed, as dnspython's walk over them says."""
    try:
        found = read_options(octets, tcp=tcp)
    except Malformed:
        return
    at, codes = 0, []
    while at < len(octets):
        code, size = struct.unpack_from("!HH", octets, at)
        codes.append(code)
        at += 4 + size
    assert at == len(octets)
    assert (found.cookie is not None, found.nsid, found.keepalive) == (10 in codes, 3 in codes, 11 in codes)


ALL = Options(BOTH, True, True, True, True)
GIVEN = {"cookie": BOTH, "nsid": b"ns1", "keepalive_ms": 10_000, "pad_to": 0x1_0000}
C, N, K = option(10, BOTH), option(3, b"ns1"), option(11, b"\x00\x64")
E = option(15, b"\x00\x03")

WRITTEN = {
    "nothing was asked for": (NONE, TCP, GIVEN, b""),
    "an extended error comes unasked": (NONE, UDP, {"ede": Ede.STALE}, E),
    "a cookie": (Options(COOKIE), UDP, GIVEN, C),
    "a cookie that we do not give": (Options(COOKIE), UDP, {}, b""),
    "NSID": (Options(nsid=True), UDP, GIVEN, N),
    "NSID that we do not tell": (Options(nsid=True), UDP, {}, b""),
    "keepalive over TCP": (Options(keepalive=True), TCP, GIVEN, K),
    "keepalive over UDP": (Options(keepalive=True), UDP, GIVEN, b""),
    "keepalive of no time": (Options(keepalive=True), TCP, {"keepalive_ms": 99}, option(11, b"\x00\x00")),
    "keepalive of two hours": (Options(keepalive=True), TCP, {"keepalive_ms": 7_200_000}, option(11, b"\xff\xff")),
    "padding over UDP": (Options(padding=True), UDP, {"size": 100}, b""),
    "the mark of a stub zone": (Options(stub_guard=True), TCP, GIVEN, b""),
    "everything over UDP": (ALL, UDP, {**GIVEN, "ede": Ede.STALE}, C + N + E),
}


@pytest.mark.parametrize(("options", "tcp", "given", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_options_of_a_reply(options, tcp, given, expected):
    """Only what was asked for is given, and nothing is echoed."""
    assert write_options(options, transport_tcp=tcp, **given) == expected


PADDED = {
    "a small one": 50,
    "one octet short of the block": 467 - 4,
    "just the block": 468 - 4,
    "one more": 468 - 3,
    "the largest that is": MAX_TCP - 4,
    "near the end": MAX_TCP - 20,
}


@pytest.mark.parametrize("size", PADDED.values(), ids=PADDED)
def test_padding_over_tcp(size):
    """The whole reply is a multiple of 468 octets (RFC 8467 §4.1), or as large as a message can be; zeros."""
    octets = write_options(Options(padding=True), transport_tcp=TCP, size=size)

    whole = size + len(octets)
    assert octets == option(12, bytes(len(octets) - 4))
    assert whole % 468 == 0 or whole == MAX_TCP
    assert whole - size - 4 < 468


def test_no_padding_where_there_is_no_room():
    """A reply that is full already stays as it is."""
    assert write_options(Options(padding=True), transport_tcp=TCP, size=MAX_TCP - 3) == b""


@given(
    st.builds(Options, st.none() | st.just(BOTH), *([st.booleans()] * 4)),
    st.booleans(),
    st.none() | st.sampled_from(Ede),
    st.integers(29, 4000),
)
def test_replies_as_dnspython_reads_them(options, tcp, ede, size):
    """What is written is what dnspython reads, with other octets in front counted for the padding."""
    octets = write_options(options, transport_tcp=tcp, cookie=BOTH, nsid=b"ns1", keepalive_ms=5000, ede=ede, size=size)
    opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(octets)) + octets
    message = dns.message.from_wire(struct.pack("!6H", 1, 0x8000, 0, 0, 0, 1) + opt)
    read = {int(one.otype): one for one in message.options}

    assert (10 in read, 3 in read, 9 in read) == (options.cookie is not None, options.nsid, False)
    assert (11 in read, 12 in read) == (tcp and options.keepalive, tcp and options.padding)
    assert (15 in read) == (ede is not None)
    assert ede is None or read[15].code == ede
    assert not (tcp and options.padding) or (size + len(octets)) % 468 == 0
    assert read_options(octets) == options._replace(
        keepalive=options.keepalive and tcp, padding=options.padding and tcp, stub_guard=False
    )
