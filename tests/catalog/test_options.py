"""What a route may ask for: read from tags, refused by name, and refused again when a record is decoded."""

from __future__ import annotations

import msgspec
import pytest

from pilotfish.catalog import options
from pilotfish.catalog.options import Options, Rate, Redirect
from pilotfish.catalog.values import BadValue

GOOD = [
    ("a time", options.parse_timeout, "1m30s", 90.0),
    ("a day", options.parse_timeout, "24h", 86400.0),
    ("octets", options.parse_size, "512", 512),
    ("kilo", options.parse_size, "8k", 8192),
    ("mega, in words", options.parse_size, " 10MB ", 10 << 20),
    ("giga", options.parse_size, "2g", 2 << 30),
    ("any size", options.parse_size, "unlimited", 0),
    ("a file", options.parse_file, "staff.htpasswd", "staff.htpasswd"),
    ("a network", options.parse_networks, "10.0.0.0/8", ("10.0.0.0/8",)),
    ("addresses, once", options.parse_networks, "10.0.0.1, FD00::1,10.0.0.1", ("10.0.0.1/32", "fd00::1/128")),
    ("everybody", options.parse_networks, "0.0.0.0/0,::/0", ("0.0.0.0/0", "::/0")),
    ("a rate", options.parse_rate, "10/s", Rate(10, "s", 10)),
    ("a rate of minutes with burst", options.parse_rate, "100/m,burst=0", Rate(100, "m", 0)),
    ("connections", options.parse_rate, "connections=3", Rate(connections=3)),
    ("all of it, in any order", options.parse_rate, "connections=3, 5/S ,burst=7", Rate(5, "s", 7, 3)),
    ("a host", options.parse_redirect, "WWW.test", Redirect("www.test")),
    ("a code and a host", options.parse_redirect, "308:www.test", Redirect("www.test", code=308)),
    ("an address", options.parse_redirect, "https://a.test", Redirect("a.test", "https")),
    ("an address of digits", options.parse_redirect, "http://10.0.0.1", Redirect("10.0.0.1", "http")),
    ("all of one", options.parse_redirect, "301:http://a.test:81/x/", Redirect("a.test", "http", 81, "/x/", 301)),
]


@pytest.mark.parametrize(("parse", "text", "value"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_good_values(parse, text, value):
    assert parse(text) == value


BAD = [
    ("no time", options.parse_timeout, "0"),
    ("too long", options.parse_timeout, "25h"),
    ("not a time", options.parse_timeout, "soon"),
    ("no size", options.parse_size, "-1"),
    ("a size with a fraction", options.parse_size, "1.5g"),
    ("too large", options.parse_size, "2000g"),
    ("a path", options.parse_file, "../passwd"),
    ("credentials", options.parse_file, "bob:$apr1$x$y"),
    ("hidden", options.parse_file, ".htpasswd"),
    ("digits behind the prefix", options.parse_networks, "10.0.0.1/8"),
    ("too long a prefix", options.parse_networks, "10.0.0.0/33"),
    ("a mask", options.parse_networks, "10.0.0.0/255.0.0.0"),
    ("a zone", options.parse_networks, "fe80::1%eth0"),
    ("a name", options.parse_networks, "all"),
    ("no network", options.parse_networks, ","),
    ("too many", options.parse_networks, ",".join(f"10.0.{turn // 256}.{turn % 256}" for turn in range(257))),
    ("no rate", options.parse_rate, "10"),
    ("a rate of days", options.parse_rate, "10/d"),
    ("a rate of nothing", options.parse_rate, "0/s"),
    ("twice", options.parse_rate, "1/s,2/s"),
    ("burst alone", options.parse_rate, "burst=3"),
    ("burst without a rate", options.parse_rate, "burst=3,connections=2"),
    ("no connections", options.parse_rate, "connections=0"),
    ("another word", options.parse_rate, "1/s,delay=3"),
    ("another code", options.parse_redirect, "200:https://a.test"),
    ("a host that is an address", options.parse_redirect, "10.0.0.1"),
    ("a wildcard", options.parse_redirect, "*.test"),
    ("another scheme", options.parse_redirect, "ftp://a.test"),
    ("a user", options.parse_redirect, "https://bob@a.test"),
    ("a query", options.parse_redirect, "https://a.test/?x=1"),
    ("a variable", options.parse_redirect, "https://a.test/$uri"),
    ("a way up", options.parse_redirect, "https://a.test/../x"),
    ("a long path", options.parse_redirect, "https://a.test/" + "x" * 512),
    ("a port out of range", options.parse_redirect, "https://a.test:65536"),
]


@pytest.mark.parametrize(("parse", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_values(parse, text):
    with pytest.raises(BadValue):
        parse(text)


def test_what_may_be_a_password_is_not_repeated():
    with pytest.raises(BadValue) as caught:
        options.parse_file("bob:canary")
    assert "canary" not in str(caught.value)
    assert "--htpasswd" in str(caught.value)


RECORDS = [
    ("digits behind a prefix", {"allow": ["10.0.0.1/8"]}),
    ("a prefix of IPv6 for IPv4", {"allow": ["10.0.0.0/64"]}),
    ("no network", {"allow": ["all"]}),
    ("too short a time", {"timeout_s": 1e-9}),
    ("too long a time", {"timeout_s": 1e9}),
    ("a negative size", {"body": -1}),
    ("a path for a file", {"auth": "../x"}),
    ("a wildcard to go to", {"redirect": {"host": "*.test"}}),
    ("another code", {"redirect": {"host": "a.test", "code": 200}}),
    ("a long path", {"redirect": {"host": "a.test", "target": "/" + "x" * 512}}),
    ("many networks", {"allow": ["10.0.0.0/8"] * 257}),
]


@pytest.mark.parametrize("record", [row[1] for row in RECORDS], ids=[row[0] for row in RECORDS])
def test_a_record_that_no_tag_could_have_made(record):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(record), type=Options)


@pytest.mark.parametrize("row", [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_value_survives_its_record(row):
    parse, text, _ = row
    field = {
        options.parse_timeout: "timeout_s",
        options.parse_size: "body",
        options.parse_file: "auth",
        options.parse_networks: "allow",
        options.parse_rate: "rate",
        options.parse_redirect: "redirect",
    }[parse]
    asked = Options(**{field: parse(text)})
    written = msgspec.json.encode(asked)
    assert msgspec.json.decode(written, type=Options) == asked
    assert list(msgspec.json.decode(written)) == [field]  # nothing that was not asked for stands in a record
