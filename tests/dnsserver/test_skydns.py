"""Other people's records, compared with what the real SkyDNS and CoreDNS answered to the same questions."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import dns.name
import pytest

from dnsserver.transfers.transfer import NOBODY
from tests.dnsserver.kit import World, said

DATA = Path(__file__).parent / "data" / "skydns.json"

# Where the two disagree: whom we follow, and how often. docs/decisions/0010 has the rules and the reason for each.
FOLLOWED = {
    ("A", "coredns"): 62, ("A", "skydns"): 16, ("A", "neither"): 1,
    ("AAAA", "coredns"): 9, ("AAAA", "skydns"): 1,
    ("CNAME", "coredns"): 13, ("CNAME", "skydns"): 32,
    ("SRV", "coredns"): 39, ("SRV", "skydns"): 31,
    ("TXT", "skydns"): 35,
    ("MX", "skydns"): 4,
}  # fmt: skip


@functools.cache
def sets() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DATA.read_text())["sets"]
    return found


def world_of(records: list[dict[str, Any]]) -> World:
    world = World(("skydns.test",), ttl=3600, negative_ttl=60)
    world.skydns({record["key"].removeprefix("/skydns/"): record["value"] for record in records})
    return world


def told(rows: list[str], *, ttl: bool) -> list[str]:
    """Rows as `owner [ttl] type data`, sorted, each once; of a SOA the name server only."""
    found = set()
    for row in rows:
        owner, seconds, rest = row.split(" ", 2)
        rtype, data = rest.removeprefix("IN ").split(" ", 1)
        soa = rtype == "SOA"
        found.add(" ".join([owner, *([seconds] if ttl and not soa else []), rtype, data.split()[0] if soa else data]))
    return sorted(found)


def ours(world: World, case: dict[str, Any], *, ttl: bool, **options: Any) -> tuple[object, ...]:
    reply = world.ask(case["qname"], case["qtype"], tcp=True, **options)
    return reply.rcode, *(told(rows, ttl=ttl) for rows in (reply.answer, reply.authority, reply.additional))


def theirs(case: dict[str, Any], *, ttl: bool) -> tuple[object, ...]:
    return case["rcode"], *(told(case[section], ttl=ttl) for section in ("answer", "ns", "extra"))


@pytest.mark.parametrize("number", range(30))
def test_where_both_agree_we_do_too(number):
    """Every answer that SkyDNS and CoreDNS both give is ours, SkyDNS's TTLs included, with and without EDNS."""
    world = world_of(sets()[number]["records"])
    asked = [case for case in sets()[number]["cases"] if case["agree"]]
    assert len(asked) > 20
    for case in asked:
        for options in ({}, {"use_edns": 0}):
            assert ours(world, case, ttl=True, **options) == theirs(case, ttl=True), case["qname"]


def test_where_they_disagree_we_follow_one_of_them():
    """Every other answer is one of the two, as often as written down; one cannot be: it would have two aliases."""
    followed: Counter[tuple[str, str]] = Counter()
    for one in sets():
        world = world_of(one["records"])
        for case in one["cases"]:
            if case["agree"]:
                continue
            mine = ours(world, case, ttl=False)
            whom = "neither"
            if mine == theirs(case, ttl=False):
                whom = "skydns"
            elif mine == theirs(case["coredns"], ttl=False):
                whom = "coredns"
            followed[case["qtype"], whom] += 1
    assert followed == FOLLOWED


def test_with_a_forwarder_only_aliases_are_answered_otherwise():
    """Where both agree we do too with a forwarder, but for aliases, what has none of its own, and MX's addresses."""
    others: Counter[str] = Counter()
    for one in sets():
        world = world_of(one["records"])
        for case in one["cases"]:
            found = world.with_forwarder(case["qname"], case["qtype"], NOBODY)
            mine = found.rcode, *(told(rows, ttl=False) for rows in (found.answer, found.authority, found.additional))
            if case["agree"] and mine != theirs(case, ttl=False):
                others[why(world, case)] += 1
    assert others == {"an alias": 112, "no name server": 4, "the exchange of a stripped record": 5}


def why(world: World, case: dict[str, Any]) -> str:
    zone = world.responder.zone
    if case["qtype"] == "NS":
        return "no name server" if zone.foreign.under(b"\x02ns\x03dns\x06skydns\x04test\x00") is None else "?"
    found = zone.foreign.find(dns.name.from_text(case["qname"].lower()).to_wire())
    hosts = found.hosts if found else ()
    if case["qtype"] == "MX" and any(one.said.targetstrip and one.address for one in hosts):
        return "the exchange of a stripped record"
    return "an alias" if any(one.target for one in hosts) else "?"


def test_the_exception_has_one_alias():
    """Where both would repeat an owner's alias or invent one, we give one alias and the addresses behind all."""
    world = world_of(sets()[0]["records"])
    aliases = [row for row in world.ask("*.skydns.test.", tcp=True).answer if " CNAME " in row]
    assert len({row.split()[0] for row in aliases}) == len(aliases)


@pytest.mark.parametrize("number", range(0, 30, 7))
def test_changes_one_by_one_end_where_a_reading_does(number):
    """Records that come and go one at a time, asked for in between, answer in the end as if they had come at once."""
    records, cases = sets()[number]["records"], sets()[number]["cases"]
    world = world_of([])
    for record in records:
        world.skydns({record["key"].removeprefix("/skydns/"): {"host": "10.99.99.99"}})
        for case in cases[::5]:
            world.ask(case["qname"], case["qtype"])
    for record in records[::2]:
        world.skydns_gone(record["key"].removeprefix("/skydns/"))
        for case in cases[::5]:
            world.ask(case["qname"], case["qtype"])
    for record in reversed(records):
        world.skydns({record["key"].removeprefix("/skydns/"): record["value"]})
        for case in cases[::5]:
            world.ask(case["qname"], case["qtype"])
    fresh = world_of(records)
    for case in cases:
        assert ours(world, case, ttl=True) == ours(fresh, case, ttl=True)


@pytest.mark.parametrize("number", range(30))
def test_over_udp_the_same_or_cut(number):
    """Over UDP: the same answer, or TC and as many whole records as fit; within what the client takes."""
    world = world_of(sets()[number]["records"])
    for case in sets()[number]["cases"]:
        whole = world.ask(case["qname"], case["qtype"], tcp=True)
        for limit, options in ((512, {}), (1232, {"use_edns": 0, "payload": 4096})):
            reply = world.ask(case["qname"], case["qtype"], **options)
            assert reply.size <= limit
            assert set(reply.answer) <= set(whole.answer)
            if "TC" in reply.flags:
                assert reply.answer != whole.answer
            else:
                assert sorted(reply.answer) == sorted(whole.answer)
                assert set(reply.additional) <= set(whole.additional)


def test_every_answer_of_the_set_is_well_formed():
    """No RRset has two TTLs, no owner two aliases, no record is there twice, aliases stand before all else."""
    for one in sets():
        world = world_of(one["records"])
        for case in one["cases"]:
            reply = world.ask(case["qname"], case["qtype"], tcp=True)
            for section in (reply.answer, reply.additional):
                kinds: dict[tuple[str, str], set[str]] = {}
                for row in section:
                    owner, ttl, rtype, _ = row.split(" ", 3)
                    kinds.setdefault((owner, rtype), set()).add(ttl)
                assert all(len(ttls) == 1 for ttls in kinds.values())
                assert len(set(section)) == len(section)
                aliases = [" CNAME " in row for row in section]
                assert aliases == sorted(aliases, reverse=True)


def test_kit_reads_what_it_should():
    """The comparison would see a difference: another TTL, owner, type or datum is another row."""
    row = "a.skydns.test. 60 IN A 10.0.0.1"
    assert told([row], ttl=True) == ["a.skydns.test. 60 A 10.0.0.1"]
    for other in (
        "b.skydns.test. 60 IN A 10.0.0.1",
        "a.skydns.test. 61 IN A 10.0.0.1",
        "a.skydns.test. 60 IN A 10.0.0.2",
    ):
        assert told([other], ttl=True) != told([row], ttl=True)
    assert said(World().send(b"\x00\x01\x01\x00\x00\x00" + bytes(6))).rcode == "FORMERR"
