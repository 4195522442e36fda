"""Aliases among other people's records: as SkyDNS follows them, and as RFC 1034 does when there is a forwarder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

from dnsserver.case import MAX_ASKED
from dnsserver.message.wire import Rcode
from tests.dnsserver.kit import NO_SUCH_NAME, Others, World, container, endpoint, lan
from tests.dnsserver.test_foreign import at, short

ZONE = "example.test"
IP, IP2, V6 = "10.0.0.1", "10.0.0.2", "fd00::1"
WWW = "www.example.com."
SOA = "example.com. 30 SOA ns.example.com. root.example.com. 1 2 3 4 30"
NO_NAME = f"example.com. {NO_SUCH_NAME} SOA ns.example.com. root.example.com. 1 2 3 4 30"
NOTHING: tuple[str, list[str]] = ("NOERROR", [])


class Row(NamedTuple):
    """Records, a question, what SkyDNS says, and what is said with a forwarder when others say so much."""

    records: dict[str, object]
    name: str
    rtype: str
    skydns: tuple[str, list[str]]
    strict: tuple[str, list[str]]
    others: Mapping[tuple[str, str], list[str] | Rcode] = MappingProxyType({})
    soa: bool = False  # with a forwarder: an SOA comes with it


def alias(target: str, **fields: object) -> dict[str, object]:
    return {"host": target if target.endswith(".") else f"{target}.{ZONE}", **fields}


OUT = {(WWW, "A"): [f"{WWW} 60 A 192.0.2.1"], (WWW, "AAAA"): [f"{WWW} 60 AAAA 2001:db8::1"]}
CDN = {(WWW, "A"): [f"{WWW} 60 CNAME cdn.example.net.", "cdn.example.net. 20 A 192.0.2.9"]}
GONE = {(WWW, "A"): [NO_NAME]}
EMPTY = {(WWW, "A"): [SOA]}
DEAD: dict[tuple[str, str], list[str] | Rcode] = {(WWW, "A"): Rcode.SERVFAIL}

ROWS = {
    "one alias": Row(
        {"a": alias("b"), "b": {"host": IP}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME b", f"b 3600 A {IP}"]),
        ("NOERROR", ["a 3600 CNAME b", f"b 3600 A {IP}"]),
    ),
    "the alias itself": Row(
        {"a": alias("b"), "b": {"host": IP}},
        "a",
        "CNAME",
        ("NOERROR", ["a 3600 CNAME b"]),
        ("NOERROR", ["a 3600 CNAME b"]),
    ),
    "the alias itself, written below the name": Row(
        {"1.a": alias("b"), "b": {"host": IP}}, "a", "CNAME", NOTHING, ("NOERROR", ["a 3600 CNAME b"])
    ),
    "the alias itself, with a port": Row(
        {"1.app": alias("b", port=80), "b": {"host": IP}},
        "app",
        "A",
        ("NOERROR", ["app 3600 CNAME b", f"b 3600 A {IP}"]),
        ("NOERROR", ["app 3600 CNAME b", f"b 3600 A {IP}"]),
    ),
    "a chain in order": Row(
        {"a": alias("b"), "b": alias("c"), "c": {"host": IP}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME b", "b 3600 CNAME c", f"c 3600 A {IP}"]),
        ("NOERROR", ["a 3600 CNAME b", "b 3600 CNAME c", f"c 3600 A {IP}"]),
    ),
    "to a name that does not exist (RFC 6604 §3)": Row(
        {"a": alias("b")}, "a", "A", NOTHING, ("NXDOMAIN", ["a 3600 CNAME b"]), soa=True
    ),
    "to a name without such data": Row(
        {"a": alias("b"), "b": {"text": "x"}}, "a", "A", NOTHING, ("NOERROR", ["a 3600 CNAME b"]), soa=True
    ),
    "to itself": Row({"a": alias("a")}, "a", "A", NOTHING, NOTHING, soa=True),
    "to itself, written below": Row({"x.a": alias("a")}, "a", "A", NOTHING, NOTHING, soa=True),
    "a loop of two": Row(
        {"a": alias("b"), "b": alias("a")}, "a", "A", NOTHING, ("NOERROR", ["a 3600 CNAME b", "b 3600 CNAME a"])
    ),
    "a loop that does not come back to the name": Row(
        {"a": alias("b"), "b": alias("c"), "c": alias("b")},
        "a",
        "A",
        NOTHING,
        ("NOERROR", ["a 3600 CNAME b", "b 3600 CNAME c", "c 3600 CNAME b"]),
    ),
    "beside an address": Row(
        {"1.a": alias("b"), "2.a": {"host": IP}, "b": {"host": IP2}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME b", f"a 3600 A {IP}", f"b 3600 A {IP2}"]),
        ("NOERROR", [f"a 3600 A {IP}", f"a 3600 A {IP2}"]),
    ),
    "beside an address of the other family": Row(
        {"1.a": alias("b"), "2.a": {"host": V6}, "b": {"host": IP}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME b", f"b 3600 A {IP}"]),
        ("NOERROR", [f"a 3600 A {IP}"]),
    ),
    "two aliases": Row(
        {"1.a": alias("b"), "2.a": alias("c"), "b": {"host": IP}, "c": {"host": IP2}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME c", f"b 3600 A {IP}", f"c 3600 A {IP2}"]),
        ("NOERROR", [f"a 3600 A {IP}", f"a 3600 A {IP2}"]),
    ),
    "two aliases, one leads nowhere": Row(
        {"1.a": alias("b"), "2.a": alias("c"), "c": {"host": IP2}},
        "a",
        "A",
        ("NOERROR", ["a 3600 CNAME c", f"c 3600 A {IP2}"]),
        ("NOERROR", [f"a 3600 A {IP2}"]),
    ),
    "two aliases that both lead nowhere": Row(
        {"1.a": alias("b"), "2.a": alias("c")}, "a", "A", NOTHING, NOTHING, soa=True
    ),
    "two aliases, asked for themselves": Row(
        {"1.a": alias("b"), "2.a": alias("c")}, "a", "CNAME", NOTHING, NOTHING, soa=True
    ),
    "TXT where there is an alias alone": Row(
        {"a": alias("b"), "b": {"text": "hi"}},
        "a",
        "TXT",
        NOTHING,
        ("NOERROR", ["a 3600 CNAME b", 'b 3600 TXT "hi"']),
    ),
    "TXT where there is an alias and a text": Row(
        {"a": alias("b", text="mine"), "b": {"text": "hi"}},
        "a",
        "TXT",
        ("NOERROR", ['a 3600 TXT "mine"']),
        ("NOERROR", ['a 3600 TXT "mine"']),
    ),
    "SRV where there is an alias with a port": Row(
        {"a": alias("b", port=80), "b": {"host": IP, "port": 81}},
        "a",
        "SRV",
        ("NOERROR", ["a 3600 SRV 10 100 80 b"]),
        ("NOERROR", ["a 3600 SRV 10 100 80 b"]),
    ),
    "SRV where there is an alias alone": Row(
        {"a": alias("b"), "b": {"host": IP, "port": 81}},
        "a",
        "SRV",
        ("NOERROR", ["a 3600 SRV 10 100 0 b"]),
        ("NOERROR", ["a 3600 CNAME b", "b 3600 SRV 10 100 81 b"]),
    ),
    "SRV where there is an alias with a priority": Row(
        {"a": alias("b", priority=5), "b": {"host": IP, "port": 81}},
        "a",
        "SRV",
        ("NOERROR", ["a 3600 SRV 5 100 0 b"]),
        ("NOERROR", ["a 3600 SRV 5 100 0 b"]),
    ),
    "SRV that says that there is none (RFC 2782)": Row(
        {"a": alias(".", port=80), "b": {"host": IP}},
        "a",
        "SRV",
        ("NOERROR", ["a 3600 SRV 10 100 80 ."]),
        ("NOERROR", ["a 3600 SRV 10 100 80 ."]),
    ),
    "the root is no alias": Row({"a": alias("."), "b": {"host": IP}}, "a", "A", NOTHING, NOTHING, soa=True),
    "MX that says that there is none (RFC 7505)": Row(
        {"a": alias(".", mail=True)}, "a", "MX", ("NOERROR", ["a 3600 MX 10 ."]), ("NOERROR", ["a 3600 MX 10 ."])
    ),
    "a type that nobody has": Row(
        {"a": alias("b"), "b": {"host": IP}}, "a", "HINFO", NOTHING, ("NOERROR", ["a 3600 CNAME b"]), soa=True
    ),
    "ANY": Row(
        {"a": alias("b"), "b": {"host": IP}},
        "a",
        "ANY",
        ("NOERROR", ['a 2 HINFO "RFC8482" ""']),
        ("NOERROR", ['a 2 HINFO "RFC8482" ""']),
    ),
    "at the apex": Row(
        {"apex.dns": alias("b"), "b": {"host": IP}},
        "",
        "A",
        ("NOERROR", [f"example.test. 3600 A {IP}"]),
        ("NOERROR", [f"example.test. 3600 A {IP}"]),
    ),
    "outside": Row(
        {"a": alias(WWW)},
        "a",
        "A",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 A 192.0.2.1"]),
        OUT,
    ),
    "outside, through an alias of theirs": Row(
        {"a": alias(WWW)},
        "a",
        "A",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 CNAME cdn.example.net.", "cdn.example.net. 20 A 192.0.2.9"]),
        CDN,
    ),
    "outside, where there is no such name": Row(
        {"a": alias(WWW)}, "a", "A", NOTHING, ("NXDOMAIN", [f"a 3600 CNAME {WWW}"]), GONE, soa=True
    ),
    "outside, where there is no such data": Row(
        {"a": alias(WWW)}, "a", "A", NOTHING, ("NOERROR", [f"a 3600 CNAME {WWW}"]), EMPTY, soa=True
    ),
    "outside, where nobody answers": Row(
        {"a": alias(WWW)}, "a", "A", NOTHING, ("SERVFAIL", [f"a 3600 CNAME {WWW}"]), DEAD
    ),
    "outside, beside an address": Row(
        {"1.a": alias(WWW), "2.a": {"host": IP}},
        "a",
        "A",
        ("NOERROR", [f"a 3600 A {IP}"]),
        ("NOERROR", ["a 20 A 192.0.2.9", f"a 20 A {IP}"]),
        CDN,
    ),
    "outside, beside an address, where nobody answers": Row(
        {"1.a": alias(WWW), "2.a": {"host": IP}},
        "a",
        "A",
        ("NOERROR", [f"a 3600 A {IP}"]),
        ("NOERROR", [f"a 3600 A {IP}"]),
        DEAD,
    ),
    "outside and back to us": Row(
        {"a": alias(WWW), "b": {"host": IP}},
        "a",
        "A",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 CNAME b", f"b 3600 A {IP}"]),
        {(WWW, "A"): [f"{WWW} 60 CNAME b.{ZONE}."]},
    ),
    "outside and back to where it began": Row(
        {"a": alias(WWW)},
        "a",
        "A",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 CNAME a"]),
        {(WWW, "A"): [f"{WWW} 60 CNAME a.{ZONE}."]},
    ),
    "records that are not of the chain": Row(
        {"a": alias(WWW)},
        "a",
        "A",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 A 192.0.2.1"]),
        {(WWW, "A"): [f"{WWW} 60 A 192.0.2.1", f"b.{ZONE}. 60 A 192.0.2.66", f'{WWW} 60 TXT "x"']},
    ),
    "MX outside": Row(
        {"a": alias(WWW)},
        "a",
        "MX",
        NOTHING,
        ("NOERROR", [f"a 3600 CNAME {WWW}", f"{WWW} 60 MX 5 mail.example.com."]),
        {(WWW, "MX"): [f"{WWW} 60 MX 5 mail.example.com."]},
    ),
    "name servers, when nobody is one": Row({"a": {"host": IP}}, "", "NS", ("NXDOMAIN", []), NOTHING, soa=True),
}


def world(row: Row) -> World:
    made = World((ZONE,))
    made.skydns({at(name): value for name, value in row.records.items()})
    return made


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_without_a_forwarder_skydns_is_followed(row):
    """As SkyDNS and CoreDNS do: an alias only with what is behind it, also beside other records."""
    said = world(row).ask(f"{row.name}.{ZONE}.".lstrip("."), row.rtype, tcp=True)

    assert (said.rcode, sorted(short(said.answer))) == (row.skydns[0], sorted(row.skydns[1]))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_with_a_forwarder_rfcs_are_followed(row):
    """By RFC 1034 §3.6.2 and RFC 6604: an alias has no other data, the code is that of the last name."""
    said = world(row).with_forwarder(f"{row.name}.{ZONE}.".lstrip("."), row.rtype, Others(row.others))

    assert (said.rcode, sorted(short(said.answer))) == (row.strict[0], sorted(row.strict[1]))
    assert bool(said.authority) == row.soa


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_aliases_stand_in_front_in_the_order_of_the_chain(row):
    """Each alias comes before what it leads to, and before everything else (glibc gives up otherwise)."""
    made = world(row)
    name = f"{row.name}.{ZONE}.".lstrip(".")
    for said in (made.ask(name, row.rtype, tcp=True), made.with_forwarder(name, row.rtype, Others(row.others))):
        kinds = [" CNAME " in line for line in said.answer]
        assert kinds == sorted(kinds, reverse=True)

    strict = [line.split() for line in said.answer if " CNAME " in line]
    assert [owner for owner, *_ in strict[1:]] == [line[-1] for line in strict[:-1]]


@pytest.mark.parametrize(("length", "reaches"), [(1, True), (8, True), (9, False), (60, False)])
def test_a_long_chain_ends(length, reaches):
    """Eight aliases in a row are followed; then the answer ends where it is, and whoever wants goes on from there."""
    links = {f"n{number}": alias(f"n{number + 1}") for number in range(length)}
    made = world(Row({**links, f"n{length}": {"host": IP}}, "", "", NOTHING, NOTHING))
    said = made.with_forwarder(f"n0.{ZONE}")

    assert len(said.answer) == (length + 1 if reaches else 8)
    assert said.rcode == "NOERROR"


def test_what_others_must_be_asked_is_said_once_and_only_when_needed():
    """Without the forwarder's word the answer is none yet: it names the look-ups, and depends on the outside name."""
    made = world(Row({"a": alias(WWW), "b": {"host": IP}}, "", "", NOTHING, NOTHING))
    answered = made.answered(f"a.{ZONE}", "A", Others({}))

    assert [(one.name, one.type) for one in answered.lookups] == [(b"\x03www\x07example\x03com\x00", 1)]
    assert b"\x03www\x07example\x03com\x00" in answered.depends
    assert made.answered(f"b.{ZONE}", "A", Others({})).lookups == ()
    assert made.answered(f"a.{ZONE}", "A", None).lookups == ()


TIMES = {
    "the lowest TTL of what others said": (CDN, 20),
    "no such data: as long as their SOA says": (EMPTY, 30),
    "nobody answers: not at all": (DEAD, 0),
}


@pytest.mark.parametrize(("others", "seconds"), TIMES.values(), ids=TIMES)
def test_what_others_said_ends(others, seconds):
    """An answer that holds what others said counts no longer than that; one that does not has no end."""
    made = world(Row({"a": alias(WWW), "b": {"host": IP}}, "", "", NOTHING, NOTHING))

    assert made.answered(f"a.{ZONE}", "A", Others(others)).expires_s == seconds
    assert made.answered(f"b.{ZONE}", "A", Others(others)).expires_s is None


SERVICES = {
    "SRV": ({"host": WWW, "port": 80}, "SRV", [f"s 3600 SRV 10 100 80 {WWW}"]),
    "MX": ({"host": WWW, "mail": True, "priority": 5}, "MX", [f"s 3600 MX 5 {WWW}"]),
}


@pytest.mark.parametrize(("record", "rtype", "answer"), SERVICES.values(), ids=SERVICES)
def test_targets_outside_come_with_their_addresses(record, rtype, answer):
    """SRV and MX: both families in the additional section, their aliases once, TTLs as they came."""
    made = world(Row({"s": record}, "", "", NOTHING, NOTHING))
    both = {
        (WWW, "A"): [f"{WWW} 60 CNAME cdn.example.net.", "cdn.example.net. 20 A 192.0.2.9"],
        (WWW, "AAAA"): [f"{WWW} 60 CNAME cdn.example.net.", "cdn.example.net. 25 AAAA 2001:db8::9"],
    }
    said = made.with_forwarder(f"s.{ZONE}", rtype, Others(both))

    assert short(said.answer) == answer
    assert sorted(said.additional) == [
        "cdn.example.net. 20 A 192.0.2.9",
        "cdn.example.net. 25 AAAA 2001:db8::9",
        f"{WWW} 60 CNAME cdn.example.net.",
    ]
    assert short(made.ask(f"s.{ZONE}", rtype).answer) == answer
    assert made.ask(f"s.{ZONE}", rtype).additional == []


def test_nobody_is_asked_for_a_target_that_is_known_here():
    """Records outside our domains, our services, and names of others in the store: none of these is asked for."""
    made = world(Row({"a": alias("b.other.test."), "c": alias("web")}, "", "", NOTHING, NOTHING))
    made.skydns({"test/other/b": {"host": IP}})
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    others = Others({})

    assert made.with_forwarder(f"a.{ZONE}", "A", others).answer[-1] == f"b.other.test. 3600 A {IP}"
    assert short(made.with_forwarder(f"c.{ZONE}", "A", others).answer) == ["c 5 CNAME web", "web 5 A 192.168.0.1"]
    assert others.asked == []


def test_an_alias_moves_with_what_it_leads_to():
    """A name behind an alias is among what an answer depends on, also when it does not exist yet."""
    made = world(Row({"a": alias("web")}, "", "", NOTHING, NOTHING))
    web = b"\x03web\x07example\x04test\x00"

    assert web in made.answered(f"a.{ZONE}", "A", Others({})).depends
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    assert web in made.answered(f"a.{ZONE}", "A", Others({})).depends


def test_a_record_in_a_reverse_zone_is_a_pointer_and_no_alias():
    """In a reverse zone of ours a host name is what PTR says, with a forwarder too."""
    made = World((ZONE, "10.in-addr.arpa"))
    made.skydns({"arpa/in-addr/10/0/0/1": {"host": "a.example.test."}})
    pointer = ["1.0.0.10.in-addr.arpa. 3600 PTR a.example.test."]

    assert made.ask("1.0.0.10.in-addr.arpa", "PTR").answer == pointer
    assert made.with_forwarder("1.0.0.10.in-addr.arpa", "PTR").answer == pointer
    assert made.with_forwarder("1.0.0.10.in-addr.arpa", "TXT").answer == []


def test_one_answer_asks_for_a_bounded_number_of_names():
    """Whoever writes a thousand targets does not make one question a thousand."""
    records = {f"n{number}.s": {"host": f"h{number}.example.com", "port": 1} for number in range(200)}
    answered = world(Row(records, "", "", NOTHING, NOTHING)).answered(f"s.{ZONE}", "SRV", Others({}))

    assert len(answered.lookups) == MAX_ASKED


def test_too_much_behind_aliases_is_said():
    """Names that all point at each other cost no more than the limit, with a forwarder too."""
    records = {f"{i}.n{j}": alias(f"n{(j * 7 + i) % 12}", port=i) for i in range(12) for j in range(12)}
    made = world(Row({**records, "x.n0": {"host": IP}}, "", "", NOTHING, NOTHING))

    assert made.with_forwarder(f"n1.{ZONE}").rcode == "SERVFAIL"


def test_a_large_name_has_its_other_types():
    """Where there is too much for an answer, what does not need it is answered: it is no alias."""
    made = World()
    made.skydns({f"internal/svc/big/n{number}": {"host": "10.0.0.1"} for number in range(3000)})

    assert made.with_forwarder("big.svc.internal", "HINFO").rcode == "NOERROR"
    assert made.with_forwarder("big.svc.internal", "A").rcode == "SERVFAIL"
