"""SkyDNS records written by others: fields, groups, wildcards, weights, aliases, and what is wrong with some."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.skydns.foreign import MAX_FOUND, MAX_LOOKED_AT, Foreign
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry
from tests.dnsserver.kit import World, container, endpoint, lan, node

ZONE = "example.test"
IP = "10.0.0.1"


def at(name: str) -> str:
    """Key, below /skydns/, of a name in the zone."""
    return "/".join(["test", "example", *reversed(name.split("."))]) if name else "test/example"


def world(records: dict[str, object], **options) -> World:
    made = World((ZONE,), **options)
    made.skydns({at(name): value for name, value in records.items()})
    return made


def short(rows: list[str]) -> list[str]:
    return [row.replace(f".{ZONE}.", "") for row in rows]


TWO = {"1.web": {"host": "10.0.0.1", "port": 8080}, "2.web": {"host": "10.0.0.2", "port": 8080}}
NGX = {
    "i.app": {"host": "ngx.example.test", "port": 1},
    "1.ngx": {"host": "10.0.0.1"},
    "2.ngx": {"host": "10.0.0.2"},
}

# name of the row: records, question, type -> rcode, answer without the zone, additional without the zone
VECTORS = {
    "A of a name with two": (TWO, "web", "A", "NOERROR", ["web 3600 A 10.0.0.1", "web 3600 A 10.0.0.2"], []),
    "SRV of a name with two": (
        TWO,
        "web",
        "SRV",
        "NOERROR",
        ["web 3600 SRV 10 50 8080 1.web", "web 3600 SRV 10 50 8080 2.web"],
        ["1.web 3600 A 10.0.0.1", "2.web 3600 A 10.0.0.2"],
    ),
    "A of one record": (TWO, "1.web", "A", "NOERROR", ["1.web 3600 A 10.0.0.1"], []),
    "AAAA where there is A": (TWO, "web", "AAAA", "NOERROR", [], []),
    "no such name": (TWO, "nope", "A", "NXDOMAIN", [], []),
    "below a record": (TWO, "x.1.web", "A", "NXDOMAIN", [], []),
    "an empty non-terminal, other type": ({"a.b.c": {"host": IP}}, "b.c", "TXT", "NOERROR", [], []),
    "targetstrip": (
        {"x.bar": {"host": "192.168.0.1", "port": 80, "targetstrip": 1}},
        "bar",
        "SRV",
        "NOERROR",
        ["bar 3600 SRV 10 100 80 bar"],
        ["bar 3600 A 192.168.0.1"],
    ),
    "targetstrip of more labels than there are": (
        {"x.bar": {"host": "192.168.0.1", "port": 80, "targetstrip": 9}},
        "bar",
        "SRV",
        "NOERROR",
        ["bar 3600 SRV 10 100 80 x.bar"],
        ["x.bar 3600 A 192.168.0.1"],
    ),
    "priority": (
        {"one": {"host": "10.0.0.9", "port": 80, "priority": 333}},
        "one",
        "SRV",
        "NOERROR",
        ["one 3600 SRV 333 100 80 one"],
        ["one 3600 A 10.0.0.9"],
    ),
    "an alias stands before the addresses behind it": (
        NGX,
        "app",
        "A",
        "NOERROR",
        ["app 3600 CNAME ngx", "ngx 3600 A 10.0.0.1", "ngx 3600 A 10.0.0.2"],
        [],
    ),
    "two instances behind one proxy: one alias": (
        {**NGX, "j.app": {"host": "ngx.example.test", "port": 2}},
        "app",
        "A",
        "NOERROR",
        ["app 3600 CNAME ngx", "ngx 3600 A 10.0.0.1", "ngx 3600 A 10.0.0.2"],
        [],
    ),
    "CNAME itself": (NGX, "i.app", "CNAME", "NOERROR", ["i.app 3600 CNAME ngx"], []),
    "CNAME of a name with records below": (NGX, "app", "CNAME", "NOERROR", [], []),
    "CNAME where there is an address": (TWO, "1.web", "CNAME", "NOERROR", [], []),
    "an alias to itself": ({"a": {"host": "a.example.test"}}, "a", "A", "NOERROR", [], []),
    "a loop of two": ({"a": {"host": "b.example.test"}, "b": {"host": "a.example.test"}}, "a", "A", "NOERROR", [], []),
    "an alias to nothing": ({"a": {"host": "b.example.test"}}, "a", "A", "NOERROR", [], []),
    "an alias to the outside": ({"a": {"host": "www.example.com"}}, "a", "A", "NOERROR", [], []),
    "an alias with a last dot, in capitals": (
        {"a": {"host": "B.Example.Test."}, "b": {"host": IP}},
        "a",
        "A",
        "NOERROR",
        ["a 3600 CNAME B.Example.Test.", "B.Example.Test. 3600 A 10.0.0.1"],
        [],
    ),
    "SRV to a name, resolved in both families": (
        {"a": {"host": "b.example.test", "port": 5}, "1.b": {"host": IP}, "2.b": {"host": "fd00::1"}},
        "a",
        "SRV",
        "NOERROR",
        ["a 3600 SRV 10 100 5 b"],
        ["b 3600 A 10.0.0.1", "b 3600 AAAA fd00::1"],
    ),
    "SRV to the outside": (
        {"a": {"host": "www.example.com", "port": 5}},
        "a",
        "SRV",
        "NOERROR",
        ["a 3600 SRV 10 100 5 www.example.com."],
        [],
    ),
    "one address, two ports": (
        {"1.s": {"host": IP, "port": 1, "targetstrip": 1}, "2.s": {"host": IP, "port": 2, "targetstrip": 1}},
        "s",
        "SRV",
        "NOERROR",
        ["s 3600 SRV 10 50 1 s", "s 3600 SRV 10 50 2 s"],
        ["s 3600 A 10.0.0.1"],
    ),
    "one address under two keys is one A": (
        {"1.s": {"host": IP, "port": 1}, "2.s": {"host": IP, "port": 2}},
        "s",
        "A",
        "NOERROR",
        ["s 3600 A 10.0.0.1"],
        [],
    ),
    "an IPv6 host": ({"a": {"host": "2001:db8::1"}}, "a", "AAAA", "NOERROR", ["a 3600 AAAA 2001:db8::1"], []),
    "an IPv4 address in IPv6 clothes": (
        {"a": {"host": "::ffff:10.0.0.1"}},
        "a",
        "A",
        "NOERROR",
        ["a 3600 A 10.0.0.1"],
        [],
    ),
    "TXT": ({"a": {"text": "hello"}}, "a", "TXT", "NOERROR", ['a 3600 TXT "hello"'], []),
    "TXT of a record with an address": (
        {"a": {"host": IP, "text": "hi"}},
        "a",
        "TXT",
        "NOERROR",
        ['a 3600 TXT "hi"'],
        [],
    ),
    "TXT in letters beyond ASCII": ({"a": {"text": "é"}}, "a", "TXT", "NOERROR", ['a 3600 TXT "\\195\\169"'], []),
    "TXT of 255 octets is one string": (
        {"a": {"text": "x" * 255}},
        "a",
        "TXT",
        "NOERROR",
        [f'a 3600 TXT "{"x" * 255}"'],
        [],
    ),
    "TXT of 510 octets is two": (
        {"a": {"text": "x" * 510}},
        "a",
        "TXT",
        "NOERROR",
        [f'a 3600 TXT "{"x" * 255}" "{"x" * 255}"'],
        [],
    ),
    "a record of text only has no address": ({"a": {"text": "x"}}, "a", "A", "NOERROR", [], []),
    "a record of text only is no service": ({"a": {"text": "x", "port": 1}}, "a", "SRV", "NOERROR", [], []),
    "the lowest TTL for all": (
        {"1.a": {"host": "10.0.0.1", "ttl": 60}, "2.a": {"host": "10.0.0.2", "ttl": 360}},
        "a",
        "A",
        "NOERROR",
        ["a 60 A 10.0.0.1", "a 60 A 10.0.0.2"],
        [],
    ),
    "wildcard": (TWO, "*.web", "A", "NOERROR", ["*.web 3600 A 10.0.0.1", "*.web 3600 A 10.0.0.2"], []),
    "wildcard for those who cannot ask for one": (
        TWO,
        "any.web",
        "SRV",
        "NOERROR",
        ["any.web 3600 SRV 10 50 8080 1.web", "any.web 3600 SRV 10 50 8080 2.web"],
        ["1.web 3600 A 10.0.0.1", "2.web 3600 A 10.0.0.2"],
    ),
    "wildcard in the middle": (
        {"a.east": {"host": "10.0.0.1"}, "a.west": {"host": "10.0.0.2"}, "b.west": {"host": "10.0.0.3"}},
        "a.*",
        "A",
        "NOERROR",
        ["a.* 3600 A 10.0.0.1", "a.* 3600 A 10.0.0.2"],
        [],
    ),
    "two wildcards": (
        {"1.a.east": {"host": "10.0.0.1"}, "1.b.west": {"host": "10.0.0.2"}},
        "*.*.west",
        "A",
        "NOERROR",
        ["*.*.west 3600 A 10.0.0.2"],
        [],
    ),
    "a wildcard that matches nothing": (TWO, "x.*.web", "A", "NOERROR", [], []),
    "a wildcard below nothing": (TWO, "*.nope", "A", "NXDOMAIN", [], []),
    "records that only begin with the same letters": (
        {"3.my": {"host": "10.0.0.3"}, "4.my1": {"host": "10.0.0.4"}},
        "my",
        "A",
        "NOERROR",
        ["my 3600 A 10.0.0.3"],
        [],
    ),
    "a record with records below it: all of them": (
        {"a": {"host": "10.0.0.1"}, "b.a": {"host": "10.0.0.2"}},
        "a",
        "A",
        "NOERROR",
        ["a 3600 A 10.0.0.1", "a 3600 A 10.0.0.2"],
        [],
    ),
    "a label that is no host name": (
        {"Docker01:estest_1:9200.e": {"host": IP, "port": 9}},
        "e",
        "SRV",
        "NOERROR",
        ["e 3600 SRV 10 100 9 Docker01:estest_1:9200.e"],
        ["Docker01:estest_1:9200.e 3600 A 10.0.0.1"],
    ),
    "such a label, asked for": (
        {"Docker01:estest_1:9200.e": {"host": IP}},
        "docker01:ESTEST_1:9200.e",
        "A",
        "NOERROR",
        ["docker01:ESTEST_1:9200.e 3600 A 10.0.0.1"],
        [],
    ),
    "fields in capitals, as Go reads them": (
        {"a": {"Host": IP, "TTL": 7}},
        "a",
        "A",
        "NOERROR",
        ["a 7 A 10.0.0.1"],
        [],
    ),
    "unknown fields and null": (
        {"a": {"host": IP, "x": [1], "ttl": None}},
        "a",
        "A",
        "NOERROR",
        ["a 3600 A 10.0.0.1"],
        [],
    ),
    "everything below the apex": (
        TWO,
        "",
        "A",
        "NOERROR",
        ["example.test. 3600 A 10.0.0.1", "example.test. 3600 A 10.0.0.2"],
        [],
    ),
    "name servers": (
        {"a.ns.dns": {"host": "10.0.0.1"}, "b.ns.dns": {"host": "10.0.0.2"}},
        "",
        "NS",
        "NOERROR",
        ["example.test. 3600 NS a.ns.dns", "example.test. 3600 NS b.ns.dns"],
        ["a.ns.dns 3600 A 10.0.0.1", "b.ns.dns 3600 A 10.0.0.2"],
    ),
    "a name server that is a name": ({"a.ns.dns": {"host": "x.example.test"}}, "", "NS", "NOERROR", [], []),
    "no name server": (TWO, "", "NS", "NXDOMAIN", [], []),
    "NS below the apex": (TWO, "web", "NS", "NOERROR", [], []),
    "a type that nobody has": (TWO, "web", "HINFO", "NOERROR", [], []),
}


@pytest.mark.parametrize("row", VECTORS.values(), ids=VECTORS.keys())
def test_vector(row):
    """Each record set answers its question as SkyDNS does, or as the decision record says."""
    records, name, rtype, rcode, answer, additional = row
    said = world(records).ask(f"{name}.{ZONE}." if name else f"{ZONE}.", rtype, tcp=True)
    assert (said.rcode, sorted(short(said.answer)), sorted(short(said.additional))) == (
        rcode,
        sorted(answer),
        sorted(additional),
    )
    assert "AA" in said.flags
    assert bool(said.authority) == (not answer)


WEIGHTS = {
    "three alike": ([0, 0, 0], [33, 33, 33]),
    "the README's": ([120, 100, 130], [34, 28, 37]),
    "region5 of SkyDNS's tests": ([130, 80, 150], [36, 22, 41]),
    "one": ([7], [100]),
    "a light one's share rounds to almost never (RFC 2782)": ([1, 1000], [0, 99]),
}


@pytest.mark.parametrize(("given_", "expected"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights(given_, expected):
    """Each weight is a share of 100 among its priority; another priority has its own hundred."""
    records = {
        f"{number}.s": {"host": f"10.0.0.{number + 1}", "weight": weight} for number, weight in enumerate(given_)
    }
    said = world({**records, "x.s": {"host": "10.0.1.1", "priority": 30, "weight": 9}}).ask(f"s.{ZONE}", "SRV")
    assert [int(row.split()[4]) for row in said.answer] == [*expected, 100]


GROUPS = {
    "subdomain of another group": ({"a.dom": "g1", "b.sub.dom": "g2"}, "dom", ["a.dom"]),
    "the subdomain itself": ({"a.dom": "g1", "b.sub.dom": "g2"}, "sub.dom", ["b.sub.dom"]),
    "subdomain without a group": ({"a.dom": "g1", "b.sub.dom": ""}, "dom", ["a.dom", "b.sub.dom"]),
    "no groups": ({"a.dom": "", "b.sub.dom": ""}, "dom", ["a.dom", "b.sub.dom"]),
    "disagreement on the shortest level": (
        {"a.dom": "g1", "b.dom": "g2", "c.sub.dom": "g3"},
        "dom",
        ["a.dom", "b.dom", "c.sub.dom"],
    ),
    "the same group everywhere": ({"a.dom": "g1", "b.sub.dom": "g1"}, "dom", ["a.dom", "b.sub.dom"]),
    "the shortest decides, wherever it stands": ({"z.dom": "g2", "b.sub.dom": "g1"}, "dom", ["z.dom"]),
    "only the deep ones have a group": (
        {"a.dom": "", "b.sub.dom": "g1", "c.sub.dom": "g2"},
        "dom",
        ["a.dom", "b.sub.dom", "c.sub.dom"],
    ),
}


@pytest.mark.parametrize(("groups", "name", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_groups(groups, name, expected):
    """Groups keep a subdomain's records out of the answer for its parent."""
    ips = {owner: f"10.0.0.{number}" for number, owner in enumerate(groups, 1)}
    records = {owner: {"host": ips[owner], "group": group} for owner, group in groups.items()}
    said = world(records).ask(f"{name}.{ZONE}")
    assert sorted(row.split()[-1] for row in said.answer) == sorted(ips[owner] for owner in expected)


def chain(length: int) -> dict[str, object]:
    links = {f"n{number}": {"host": f"n{number + 1}.{ZONE}"} for number in range(length)}
    return {**links, f"n{length}": {"host": IP}}


@pytest.mark.parametrize(("length", "reaches"), [(1, True), (8, True), (9, False), (60, False)])
def test_chain_limit(length, reaches):
    """Eight aliases in a row are followed, in order; a ninth leads nowhere."""
    said = world(chain(length)).ask(f"n0.{ZONE}", tcp=True)
    assert len(said.answer) == (length + 1 if reaches else 0)
    assert [row.split()[0] for row in said.answer] == [f"n{n}.{ZONE}." for n in range(len(said.answer))]
    assert said.rcode == "NOERROR"


def test_aliases_of_aliases_are_bounded():
    """Names that all point at each other cost no more than the limit, and say that it was too much."""
    records = {f"{i}.n{j}": {"host": f"n{(j * 7 + i) % 12}.{ZONE}", "port": i} for i in range(12) for j in range(12)}
    assert world({**records, "x.n0": {"host": IP}}).ask(f"n1.{ZONE}", tcp=True).rcode == "SERVFAIL"


def test_a_name_with_too_many_records_says_so():
    """More than we put together is SERVFAIL for that name only."""
    records = {f"r{number}.big": {"host": f"10.0.{number // 250}.{number % 250}"} for number in range(MAX_FOUND + 1)}
    made = world({**records, "small": {"host": IP}})
    assert made.ask(f"big.{ZONE}", tcp=True).rcode == "SERVFAIL"
    assert made.ask(f"small.{ZONE}").rcode == "NOERROR"
    made.skydns_gone(at("r0.big"))
    assert len(made.ask(f"big.{ZONE}", tcp=True).answer) == MAX_FOUND


BAD = {
    "no JSON": "{",
    "empty": "",
    "a number": "5",
    "a list": '["10.0.0.1"]',
    "host of the wrong type": '{"host": 5}',
    "port of the wrong type": '{"host": "10.0.0.1", "port": "80"}',
    "port too large": '{"host": "10.0.0.1", "port": 65536}',
    "negative port": '{"host": "10.0.0.1", "port": -1}',
    "priority too large": '{"host": "10.0.0.1", "priority": 65536}',
    "label of 64 octets in the host": json.dumps({"host": "x" * 64 + ".example.test"}),
    "host of 300 octets": json.dumps({"host": ".".join(["x" * 49] * 6)}),
    "two dots": '{"host": "a..b"}',
    "nested beyond reason": "[" * 100_000,
    "half a surrogate": '{"host": "\\ud800"}',
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_left_out_and_named(value):
    """What is no record is refused by name; its neighbours answer, and its name has what is left."""
    made = world({**TWO, "3.web": value})
    assert list(made.responder.zone.foreign.refused) == [f"/skydns/{at('3.web')}"]
    assert len(made.ask(f"web.{ZONE}").answer) == 2
    made.skydns({at("3.web"): {"host": "10.0.0.3"}})
    assert made.responder.zone.foreign.refused == {}
    assert len(made.ask(f"web.{ZONE}").answer) == 3


@pytest.mark.parametrize("label", ["x" * 64, "é" * 32, "x" * 63 + "/" + "y" * 63 + "/" + "z" * 63 + "/" + "w" * 63])
def test_a_key_that_is_no_name_is_named(label):
    """Keys whose labels make no domain name are refused, not crashed on."""
    made = world(TWO)
    made.skydns({f"test/example/{label}": {"host": IP}})
    assert len(made.responder.zone.foreign.refused) == 1


def test_skydns_settings_are_no_record():
    """/skydns/config holds SkyDNS's settings; it is neither a name nor an error."""
    made = World((ZONE,))
    made.skydns({"config": {"dns_addr": "127.0.0.1:53", "ttl": 3600}})
    assert (len(made.responder.zone.foreign), made.responder.zone.foreign.refused) == (0, {})


def test_ttl_of_what_hangs_on_a_lease_is_short():
    """A record that may end with its lease is kept by nobody for longer than 30 seconds."""
    made = World((ZONE,))
    made.skydns({at("a"): {"host": IP}, at("b"): {"host": IP, "ttl": 5}}, lease=7)
    assert [made.ask(f"{name}.{ZONE}").answer[0].split()[1] for name in "ab"] == ["30", "5"]


def test_ttl_beyond_2_31_is_cut():
    """A TTL has 31 bits (RFC 2181 §8)."""
    assert world({"a": {"host": IP, "ttl": 2**32 - 1}}).ask(f"a.{ZONE}").answer == [f"a.{ZONE}. {2**31 - 1} A {IP}"]


def test_our_own_exports_are_not_taken_in():
    """What carries our mark is answered from the records it was made from."""
    made = world({"1.web": {"host": IP, "pilotfish": "h1"}})
    assert (made.ask(f"web.{ZONE}").rcode, len(made.responder.zone.foreign)) == ("NXDOMAIN", 0)


def test_our_names_win_over_foreign_records_at_the_same_name():
    """Addresses and services of a name are ours alone; what we do not say at it, others may."""
    made = world({"web": {"host": "10.9.9.9", "port": 1, "text": "theirs"}, "x.web": {"host": "10.9.9.8"}})
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    assert made.ask(f"web.{ZONE}").answer == [f"web.{ZONE}. 5 A 192.168.0.1"]
    assert len(made.ask(f"web.{ZONE}", "SRV").answer) == 1
    assert made.ask(f"web.{ZONE}", "TXT").answer == [f'web.{ZONE}. 3600 TXT "theirs"']
    assert made.ask(f"x.web.{ZONE}").answer == [f"x.web.{ZONE}. 3600 A 10.9.9.8"]


def test_an_alias_may_lead_to_a_name_of_ours():
    """A foreign alias reaches our names, and moves with them."""
    made = world({"shop": {"host": f"web.{ZONE}"}})
    assert made.ask(f"shop.{ZONE}").answer == []
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    assert made.ask(f"shop.{ZONE}").answer == [f"shop.{ZONE}. 5 CNAME web.{ZONE}.", f"web.{ZONE}. 5 A 192.168.0.1"]
    made.put(container(1, endpoint("web", 80, lan("192.168.0.2"))))
    assert made.ask(f"shop.{ZONE}").answer[1] == f"web.{ZONE}. 5 A 192.168.0.2"


def test_an_alias_may_pass_through_records_outside_our_domains():
    """As in SkyDNS, a target is looked for among all records, whatever its domain."""
    made = world({"a": {"host": "b.other.test"}})
    made.skydns({"test/other/b": {"host": IP}})
    assert made.ask(f"a.{ZONE}").answer == [f"a.{ZONE}. 3600 CNAME b.other.test.", f"b.other.test. 3600 A {IP}"]
    made.skydns_gone("test/other/b")
    assert made.ask(f"a.{ZONE}").answer == []


def test_pointers_of_others():
    """PTR: the exact key only, beside what our hosts say."""
    made = World((ZONE,))
    made.skydns({"arpa/in-addr/10/0/0/1": {"host": "a.example.test."}})
    assert made.ask("1.0.0.10.in-addr.arpa", "PTR").answer == ["1.0.0.10.in-addr.arpa. 3600 PTR a.example.test."]
    assert made.ask("0.0.10.in-addr.arpa", "PTR").rcode == "REFUSED"
    made.put(node("h1", "10.0.0.1"))
    assert sorted(row.split()[-1] for row in made.ask("1.0.0.10.in-addr.arpa", "PTR").answer) == [
        "a.example.test.",
        "h1.node.example.test.",
    ]


def test_name_servers_of_others_win_over_our_own():
    """With records under ns.dns these are the name servers, without any it is we."""
    made = world({"web": {"host": IP}})
    made.put(node("h1", "192.168.0.1"))
    assert short(made.ask(f"{ZONE}.", "NS").answer) == ["example.test. 10 NS ns.dns"]
    assert short(made.ask(f"ns.dns.{ZONE}").answer) == ["ns.dns 10 A 192.168.0.1"]
    made.skydns({at("a.ns.dns"): {"host": "10.0.0.5"}})
    assert short(made.ask(f"{ZONE}.", "NS").answer) == ["example.test. 3600 NS a.ns.dns"]
    assert short(made.ask(f"ns.dns.{ZONE}").answer) == ["ns.dns 3600 A 10.0.0.5"]


keys = st.lists(st.sampled_from("ab*/."), min_size=1, max_size=8).map("".join)
values = st.one_of(
    st.binary(max_size=30),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["host", "port", "ttl", "text", "group", "targetstrip", "x"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.lists(st.tuples(keys, values | st.none()), max_size=12))
def test_any_records_in_any_order(changes):
    """Whatever is put and deleted, the tree holds what a fresh one would, and every question gets an answer."""
    walked, held = Foreign("/skydns", 30), {}
    for revision, (below, value) in enumerate(changes, 1):
        key = f"/skydns/test/example/{below}"
        if value is None:
            held.pop(key, None)
            walked.apply(Difference(revision, (), (key,)))
        else:
            held[key] = Entry(key, value, 1, revision)
            walked.apply(Difference(revision, (held[key],)))
    fresh = Foreign("/skydns", 30)
    fresh.apply(Difference(99, tuple(held.values())))
    assert walked.refused == fresh.refused
    for name in (b"\x07example\x04test\x00", b"\x01a\x07example\x04test\x00", b"\x01*\x01a\x07example\x04test\x00"):
        assert walked.find(name) == fresh.find(name)
        assert walked.exists(name) == fresh.exists(name)


def test_a_text_that_no_message_holds_is_refused_and_its_neighbours_answer():
    """What cannot be written is left out and named when it comes, not when it is asked for."""
    made = World()
    made.skydns({"internal/svc/t/big": {"text": "x" * 60_001}, "internal/svc/t/fits": {"text": "y" * 60_000}})
    assert list(made.responder.zone.foreign.refused) == ["/skydns/internal/svc/t/big"]
    assert len(made.ask("t.svc.internal.", "TXT", tcp=True).answer) == 1


MANY = {
    "a wildcard that matches and finds nothing": ("zz.*", "A", "SERVFAIL"),
    "everything below": ("", "A", "SERVFAIL"),
    "the SOA": ("", "SOA", "NOERROR"),
    "the name servers": ("", "NS", "NOERROR"),
    "a type that nobody has": ("", "HTTPS", "NOERROR"),
    "one of them": ("n7", "A", "NOERROR"),
}


@pytest.mark.parametrize(("name", "rtype", "rcode"), MANY.values(), ids=MANY.keys())
def test_many_records_below_a_name(name, rtype, rcode):
    """The work for one answer is bounded; what does not depend on how many there are is answered all the same."""
    made = World()
    made.put(node("h1", "192.168.0.1"))
    made.skydns({f"internal/svc/n{number}/a": {"host": "10.0.0.1"} for number in range(9000)})
    assert made.ask(f"{name}.svc.internal.".lstrip("."), rtype).rcode == rcode


@pytest.mark.parametrize(
    ("beside", "rcode"), [(4000, "NOERROR"), (MAX_LOOKED_AT + 10, "SERVFAIL")], ids=["few names", "too many names"]
)
def test_made_up_labels_beside_a_wildcard_cost_one_search(monkeypatch, beside, rcode):
    """What is below a `*` is found out once, until something there changes."""
    world, looked = World(), []
    world.skydns({f"internal/svc/y{number}": {"host": "10.0.0.1"} for number in range(beside)})

    class Counting(dict[bytes, set[bytes]]):
        def get(self, *name):
            looked.append(name)
            return super().get(*name)

    foreign = world.responder.zone.foreign
    monkeypatch.setattr(foreign, "_children", Counting(foreign._children))
    assert world.ask("q0.*.svc.internal").rcode == rcode
    looked.clear()
    for number in range(10, 20):
        assert world.ask(f"q{number}.*.svc.internal").rcode == rcode
    assert len(looked) < 100
    world.skydns({"internal/svc/y1/q10": {"host": "10.0.0.7"}})
    world.skydns_gone(*(f"internal/svc/y{number}" for number in range(4000, beside)))
    assert world.ask("q10.*.svc.internal").answer == ["q10.*.svc.internal. 3600 A 10.0.0.7"]
