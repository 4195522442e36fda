"""Typed values: what is taken, what is refused and how that is said, and that nothing taken can leave its place."""

import ipaddress
import itertools
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.catalog import values
from pilotfish.catalog.record import Ip
from pilotfish.catalog.values import BadValue

# What could end or change a line of nginx's configuration, a quoted string or a key.
HARMFUL = set(";{}$#\"'\\") | {chr(code) for code in (*range(0x21), *range(0x7F, 0xA1), 0x2028, 0x2029, 0xFEFF)}

PARSERS = {
    "name": values.parse_name,
    "host": values.parse_host,
    "path": values.parse_path,
    "node": values.parse_node,
    "id": values.parse_id,
    "ip": values.parse_ip,
}

# A kind as tags are parsed by it, and the type that records declare.
KINDS = {
    "name": (values.NAME, values.Name),
    "host": (values.HOST, values.Host),
    "path": (values.PATH, values.Path),
    "node": (values.NODE, values.NodeName),
    "id": (values.ID, values.EndpointId),
}

near = st.text(st.sampled_from("aZ09._-:*/~!&()+,=@;{}$#\"'\\ \n\t\0\x7f\x85\xa0é%?<>|^`[]"), max_size=12)
shaped = st.one_of(*(st.from_regex(kind.pattern) for kind, _ in KINDS.values()))
texts = st.one_of(near, shaped, st.text(max_size=80), st.integers(1, 1100).map(lambda size: "a" * size))

TAKEN = {
    "a name": ("name", "web", "web"),
    "a name of labels": ("name", "web.Shop", "web.Shop"),
    "an underscore inside": ("name", "my_app.my_project", "my_app.my_project"),
    "a digit": ("name", "9", "9"),
    "a label of 63": ("name", "a" * 63, "a" * 63),
    "a name of 253": ("name", ".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
    "a reserved label inside": ("name", "dns.web", "dns.web"),
    "a host": ("host", "www.example.com", "www.example.com"),
    "a host with its last dot": ("host", "WWW.Example.com.", "www.example.com"),
    "a wildcard": ("host", "*.example.com", "*.example.com"),
    "a host of digits": ("host", "7", "7"),
    "digits that are no address": ("host", "1.2.3.example", "1.2.3.example"),
    "a short host": ("host", "www", "www"),
    "the root path": ("path", "/", "/"),
    "a path": ("path", "/a/b-c_d.e~f", "/a/b-c_d.e~f"),
    "a path with a dot file": ("path", "/.well-known/x", "/.well-known/x"),
    "three dots": ("path", "/...", "/..."),
    "a path of 1024": ("path", "/" + "a" * 1023, "/" + "a" * 1023),
    "a node": ("node", "Host-1", "Host-1"),
    "an id": ("id", "h1:web_1:80:udp", "h1:web_1:80:udp"),
    "an id of 512": ("id", "a" * 512, "a" * 512),
    "IPv4": ("ip", "192.0.2.1", "192.0.2.1"),
    "IPv6": ("ip", "2001:DB8:0::0001", "2001:db8::1"),
}

REFUSED = {
    "no name": ("name", "", "no name"),
    "a dot in front": ("name", ".web", "no name"),
    "a dot behind": ("name", "web.", "no name"),
    "two dots": ("name", "web..shop", "no name"),
    "a hyphen in front": ("name", "-web", "no name"),
    "a hyphen behind": ("name", "web-", "no name"),
    "an underscore in front": ("name", "_tcp", "no name"),
    "a label of 64": ("name", "a" * 64, "no name"),
    "a name of 254": (
        "name",
        ".".join(["a" * 63] * 3 + ["b" * 62]),
        "too long for a name: 254 characters, 253 at most",
    ),
    "a name with a line end": ("name", "web\n", "no name"),
    "a name of letters elsewhere": ("name", "wéb", r"'w\\xe9b' is no name"),
    "any": ("name", "any", "any, arpa, dns, localhost, node at its end and nearest at its front are reserved"),
    "nearest in front": ("name", "Nearest.web", "nearest at its front"),
    "a reserved end": ("name", "web.DNS", "reserved"),
    "a host with a port": ("host", "www.example.com:80", "no host"),
    "a bare star": ("host", "*", "no host"),
    "a star inside": ("host", "www.*.com", "no host"),
    "a host of letters elsewhere": ("host", "bücher.example", "no host: write it as DNS has it, such as xn--"),
    "an expression": ("host", "~^www", "no host"),
    "an address": ("host", "192.0.2.1", "an address, not a host name"),
    "all addresses that end so": ("host", "*.0.2.1", "no host"),
    "all addresses with an octet": ("host", "*.1", "no host"),
    "an address with zeros in front": ("host", "010.0.0.1", "no host"),
    "an address of version 6": ("host", "fd00::1", "no host"),
    "two last dots": ("host", "example.com..", "no host"),
    "a host of 254": ("host", ".".join(["a" * 63] * 3 + ["b" * 62]), "too long"),
    "a relative path": ("path", "a", "no path"),
    "no path": ("path", "", "no path"),
    "dots at the end": ("path", "/a/..", "no path"),
    "dots inside": ("path", "/../etc", "no path"),
    "one dot": ("path", "/./a", "no path"),
    "an escape": ("path", "/%2e%2e/", "no path"),
    "a query": ("path", "/a?b", "no path"),
    "a variable": ("path", "/$host", "no path"),
    "a path of 1025": ("path", "/" + "a" * 1024, "too long"),
    "a node with a dot": ("node", "h1.example", "no node name"),
    "a node of 64": ("node", "a" * 64, "too long"),
    "an id with a slash": ("id", "a/b", "no id"),
    "an id with a colon in front": ("id", ":80", "no id"),
    "an id of 513": ("id", "a" * 513, "too long"),
    "an address with a zone": ("ip", "fe80::1%eth0", "no IP address"),
    "an address with a zero in front": ("ip", "192.0.2.01", "no IP address"),
    "no address": ("ip", "", "no IP address"),
}


@pytest.mark.parametrize(("kind", "text", "value"), TAKEN.values(), ids=TAKEN)
def test_what_is_taken(kind, text, value):
    assert PARSERS[kind](text) == value


@pytest.mark.parametrize(("kind", "text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(kind, text, why):
    with pytest.raises(BadValue, match=why):
        PARSERS[kind](text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
@example(text="a\n")
@example(text="/\n")
def test_tags_and_records_take_the_same(kind, text):
    """Parsing and decoding read one row: neither lets through what the other refuses."""
    row, type_ = KINDS[kind]
    try:
        parsed = values._parse(row, text)
    except BadValue:
        parsed = None
    try:
        converted = msgspec.convert(text, type_)
    except msgspec.ValidationError:
        converted = None

    assert parsed == converted


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@given(text=texts)
def test_nothing_that_is_taken_can_leave_its_place(parse, text):
    try:
        value = parse(text)
    except BadValue:
        return
    assert not HARMFUL & set(value)
    assert value.isascii()


@pytest.mark.parametrize("kind", KINDS)
def test_no_harmful_character_is_taken_anywhere(kind):
    """One by one, at every place of a good value."""
    row, _ = KINDS[kind]
    good = {"path": "/ab/"}.get(kind, "ab")
    spoiled = (good[:at] + char + good[at:] for char in sorted(HARMFUL) for at in range(len(good) + 1))

    assert row.pattern.match(good)
    assert [text for text in spoiled if row.pattern.search(text)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_these_characters_are_taken(kind):
    """Over all of Unicode's first planes, inside a value."""
    allowed = {
        "name": r"[A-Za-z0-9._-]",
        "host": r"[a-z0-9._-]",
        "path": r"[A-Za-z0-9._~!&()*+,=:@/-]",
        "node": r"[A-Za-z0-9_-]",
        "id": r"[A-Za-z0-9_.:-]",
    }[kind]
    row, _ = KINDS[kind]
    good = "/a{}b" if kind == "path" else "a{}b"
    taken = {char for char in map(chr, range(0x3000)) if row.pattern.search(good.format(char))}

    assert taken == set(re.findall(allowed, "".join(map(chr, range(0x80)))))


@pytest.mark.parametrize("kind", [*KINDS, "ip"])
def test_a_hostile_text_is_refused_in_time(kind):
    """Nothing that is repeated makes a pattern try everything."""
    pattern = re.compile(values.IP_PATTERN) if kind == "ip" else KINDS[kind][0].pattern
    tried = [part * 20_000 + "!" for part in ("a", "a.", "a-", "-", "/", "/.", "/..", "0:", ":", "1.", "*.")]

    assert not any(pattern.search(text) for text in tried if kind != "path" or "/" not in text)


@given(st.ip_addresses())
@example(ipaddress.ip_address("::ffff:192.0.2.1"))
@example(ipaddress.ip_address("::"))
def test_every_address_is_taken_by_records(address):
    assert msgspec.convert(values.parse_ip(str(address)), Ip) == str(address)


pieces = st.sampled_from(
    ["0", "1", "ffff", "10", "255", "256", "01", "00000", "f", "", ":", "::", ".", "%", "::ffff:", "A"]
)


@given(st.lists(pieces, max_size=16).map("".join) | st.lists(pieces, max_size=9).map(":".join))
@example("::::")
@example("1.2.3")
@example("1.2.3.4.5")
@example("1:2:3:4::5:6:7:8")
@example("::1.2.3.4")
def test_records_take_nothing_but_addresses(text):
    """Readers turn them into packed octets without looking again."""
    if re.search(values.IP_PATTERN, text):
        assert values.is_ip(text)


LISTS = {
    "names": (values.parse_names, "web, shop,,web ", ("web", "shop")),
    "no names": (values.parse_names, " , ", ()),
    "hosts": (values.parse_hosts, "A.com, a.com.,*.b.com", ("a.com", "*.b.com")),
}


@pytest.mark.parametrize(("parse", "text", "expected"), LISTS.values(), ids=LISTS)
def test_lists(parse, text, expected):
    assert parse(text) == expected


def test_one_bad_name_refuses_its_list():
    with pytest.raises(BadValue, match="'b;' is no name"):
        values.parse_names("a,b;")


INTEGERS = {
    "the least": ("1", 1),
    "the most": ("65535", 65535),
    "zeros in front": ("0080", 80),
    "below": ("0", None),
    "above": ("65536", None),
    "nothing": ("", None),
    "negative": ("-1", None),
    "a plus": ("+1", None),
    "a space": (" 1", None),
    "digits elsewhere": ("\u0663", None),
    "a power": ("\u00b2", None),
    "far too long": ("9" * 5000, None),
}


@pytest.mark.parametrize(("text", "expected"), INTEGERS.values(), ids=INTEGERS)
def test_ports(text, expected):
    if expected is None:
        with pytest.raises(BadValue, match="is no port: a whole number from 1 to 65535"):
            values.parse_port(text)
    else:
        assert values.parse_port(text) == expected


DURATIONS = {
    "seconds": ("30", 30.0),
    "milliseconds": ("500ms", 0.5),
    "a fraction": ("1.5s", 1.5),
    "several": ("1m30s", 90.0),
    "hours": ("24h", 86400.0),
    "days": ("2d", 172800.0),
    "zero": ("0", 0.0),
    "nothing": ("", None),
    "no unit after a point": ("1.5", None),
    "an unknown unit": ("1w", None),
    "negative": ("-1s", None),
    "a space": ("1 s", None),
    "a line end": ("1s\n", None),
    "too many digits": ("1234567890", None),
    "too many digits before a unit": ("1234567890s", None),
    "digits elsewhere": ("\u0663s", None),
}


@pytest.mark.parametrize(("text", "expected"), DURATIONS.values(), ids=DURATIONS)
def test_durations(text, expected):
    if expected is None:
        with pytest.raises(BadValue, match="is no duration"):
            values.parse_duration(text)
    else:
        assert values.parse_duration(text) == pytest.approx(expected)


BOOLEANS = {
    "yes": (("1", "t", "TRUE", "Yes", "y", " on "), True),
    "no": (("0", "f", "False", "no", "N", "OFF", "", " "), False),
    "neither": (("2", "maybe", "nope"), None),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [pytest.param(text, expected, id=f"{text!r}") for texts_, expected in BOOLEANS.values() for text in texts_],
)
def test_booleans(text, expected):
    if expected is None:
        with pytest.raises(BadValue, match="use true or false"):
            values.parse_boolean(text)
    else:
        assert values.parse_boolean(text) is expected


@given(st.text(max_size=100))
def test_a_quoted_text_is_safe_to_show(text):
    """One line of printable ASCII, not longer than asked for."""
    shown = values.quoted(text)

    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 60


def test_a_long_text_is_shortened():
    assert values.quoted("a" * 100, 20) == "'aaaaaaaaaaaaaaa...'"


@given(st.ip_addresses() | st.from_regex(values.HOST.pattern), st.integers(1, 65535))
def test_host_and_port_can_be_told_apart_again(host, port):
    joined = values.join_host_port(str(host), port)
    before, _, after = joined.rpartition(":")

    assert (before.strip("[]"), after) == (str(host), str(port))
    assert ("[" in joined) == (":" in str(host))


def test_reserved_names_are_names():
    """Each is what a tag could ask for; otherwise it would not need reserving."""
    assert all(values.NAME.pattern.match(name) for name in values.RESERVED_NAMES)
    assert all(name == name.lower() for name in itertools.chain(values.RESERVED_NAMES))
