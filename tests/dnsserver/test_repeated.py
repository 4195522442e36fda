"""Answers that are given again: of others, while time passes, and of ours, while the store changes."""

from __future__ import annotations

import dns.edns
import pytest

from dnsserver import zone as zones
from dnsserver.own.index import OwnNames
from dnsserver.skydns.foreign import Foreign
from dnsserver.transport.later import Wanted
from dnsserver.zone import Zone
from tests.dnsserver.forwarding_kit import Forwarding, found, no_such_name
from tests.dnsserver.kit import node, said

WWW = found("www.example.com 3600 CNAME web.example.com.", "web.example.com 3600 A 192.0.2.1")
NSID = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")
GONE = no_such_name("internal")
SPELLINGS = ["www.example.com", "wWw.example.com", "WWW.EXAMPLE.COM"]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("options", [{}, {"use_edns": 0}], ids=["plain", "EDNS"])
def test_a_chain_of_others_gets_older_however_it_is_spelled(name, options):
    """Letters in other cases give a repeated answer no new life."""
    world = Forwarding(lambda _: WWW)
    world.ask("www.example.com", **options)
    world.clock.now += 3000
    for _ in range(3):
        assert {row.split(" ")[1] for row in world.ask(name, **options).answer} == {"600"}


@pytest.mark.parametrize("name", ["none.example.com", "nOne.example.com"])
def test_no_such_name_of_others_gets_older_however_it_is_spelled(name):
    """So does the SOA of an answer without records."""
    world = Forwarding(lambda _: no_such_name("example.com"))
    world.ask("none.example.com")
    world.clock.now += 800
    for _ in range(2):
        assert world.ask(name).authority[0].split(" ")[:2] == ["example.com.", "100"]


def test_what_is_made_anew_to_fit_gets_older_too():
    """An answer that leaves no room for a server's name is written again, with the TTLs of then."""
    rows = [f"big.example.com 3600 A 192.0.2.{number}" for number in range(1, 70)]
    world = Forwarding(lambda _: found(*rows))
    world.responder.guests.policy = world.responder.guests.policy._replace(identity="n" * 100)
    world.ask("big.example.com", use_edns=0, payload=1232)
    world.clock.now += 3000
    said = world.ask("big.example.com", use_edns=0, payload=1232, options=[NSID])
    assert {row.split(" ")[1] for row in said.answer} == {"600"}


@pytest.mark.parametrize("name", SPELLINGS)
def test_addresses_take_turns_however_they_are_spelled(name):
    """Whoever takes the first address reaches all of them, behind an alias too."""
    addresses = [f"web.example.com 3600 A 192.0.2.{number}" for number in (1, 2, 3)]
    world = Forwarding(lambda _: found("www.example.com 3600 CNAME web.example.com.", *addresses))
    assert len({world.ask(name).answer[1] for _ in range(9)}) == len(addresses)


REVERSE = "8.8.8.8.in-addr.arpa"
TELLS = {
    "a host": lambda world: world.put(node("h1", "8.8.8.8")),
    "a record": lambda world: world.skydns({"arpa/in-addr/8/8/8/8": {"host": "h1.node.svc.internal"}}),
}


@pytest.mark.parametrize("tell", TELLS.values(), ids=TELLS)
@pytest.mark.parametrize("name", [REVERSE, REVERSE.upper()], ids=["lower case", "upper case"])
def test_a_reverse_name_is_ours_from_the_moment_that_we_know_it(tell, name):
    """What others said of it is not repeated after that."""
    world = Forwarding(lambda _: no_such_name("8.8.8.in-addr.arpa"))
    assert [world.ask(name, "PTR").rcode for _ in range(2)] == ["NXDOMAIN"] * 2
    tell(world)
    assert [row.split(" ")[-1] for row in world.ask(name, "PTR").answer] == ["h1.node.svc.internal."]


def test_an_answer_to_one_name_is_never_given_for_another():
    """What was ours when others were asked where its alias leads is asked for itself when it is ours no more."""
    world = Forwarding(lambda asked: found("www.example.com 300 A 192.0.2.1") if asked.name[1:4] == b"www" else GONE)
    world.skydns({"internal/svc/al": {"host": "www.example.com"}})
    told = world.begin("al.svc.internal")
    assert isinstance(told, Wanted)
    domains = [zones.domain("other.test")]
    world.responder.set_zone(Zone(domains, OwnNames(domains, "proxy"), Foreign("/skydns", 3600)))
    world.responder.forget()
    answers = [said(world.end(told)), world.ask("al.svc.internal")]
    assert [(one.rcode, one.answer) for one in answers] == [("NXDOMAIN", [])] * 2


@pytest.mark.parametrize("record", [{"text": "x"}, {"host": "10.0.0.1"}], ids=["a text", "an address"])
def test_a_reverse_name_without_a_host_name_is_forwarded(record):
    """As in SkyDNS: only what PTR can say makes it ours."""
    world = Forwarding(lambda _: found(f"{REVERSE} 300 PTR dns.example.com."))
    world.skydns({"arpa/in-addr/8/8/8/8": record})
    for _ in range(2):
        assert world.ask(REVERSE, "PTR").answer == [f"{REVERSE}. 300 PTR dns.example.com."]


ALIASES = {"internal/svc/al": {"host": "nope.svc.internal"}, "internal/svc/out": {"host": "www.example.com"}}
BACK = found("www.example.com 300 CNAME nope.svc.internal.")


@pytest.mark.parametrize("name", ["al.svc.internal", "Al.svc.internal", "out.svc.internal"])
@pytest.mark.parametrize("then", ["NXDOMAIN", "NOERROR"])
def test_an_alias_that_leads_to_nothing_tells_the_serial_of_now(name, then):
    """As every denial does, also when others led back to us."""
    world = Forwarding(lambda _: BACK)
    world.skydns(ALIASES)
    if then == "NOERROR":
        world.skydns({"internal/svc/nope": {"text": "x"}})
    for number in range(3):
        for _ in range(2):
            said = world.ask(name)
            assert said.rcode == then
            assert int(said.authority[0].split(" ")[5]) == world.responder.serial
        world.skydns({"internal/svc/other": {"host": f"192.0.2.{number}"}})
