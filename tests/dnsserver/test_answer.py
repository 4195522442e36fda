"""What every answer has in common, whatever it is about."""

from __future__ import annotations

import pytest

from dnsserver.own.names import addressed
from dnsserver.skydns.foreign import MAX_FOUND
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, lan, node, question

OUTSIDE = [
    "example.com",
    "internal",
    "xsvc.internal",
    "svc.internal.example",
    "*",
    "any",
    "localhost",
    "*.arpa",
    "arpa",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("rtype", ["A", "SOA", "ANY", "PTR"])
def test_names_outside_are_refused(name, rtype):
    """Outside our domains: REFUSED without AA, records or authority; EDE 20 says why (RFC 8914 §4.21)."""
    world = World()
    world.skydns({"com/example": {"host": "10.0.0.1"}, "internal/x": {"host": "10.0.0.1"}})
    said = world.ask(f"{name}.", rtype, use_edns=0)
    assert (said.rcode, "AA" in said.flags, said.answer, said.authority, said.ede) == ("REFUSED", False, [], [], 20)


def test_a_wildcard_over_everything_costs_nothing_outside():
    """A question for `*` does not walk all records that there are."""
    world = World()
    world.skydns({f"com/r{number}": {"host": "10.0.0.1", "port": number} for number in range(MAX_FOUND + 10)})
    for name in ("*.", "any.", "*.com."):
        assert world.ask(name).rcode == "REFUSED"


DENIED = ["A", "AAAA", "SRV", "TXT", "CNAME", "PTR", "NS", "MX", "HINFO", "DS", "DNSKEY", "RRSIG", "HTTPS", "TYPE666"]


@pytest.mark.parametrize("name", ["nope", "h1-c-81.web", "a.b.c"])
@pytest.mark.parametrize("rtype", DENIED)
def test_a_name_does_not_exist_for_any_type_or_for_none(name, rtype):
    """NXDOMAIN is about the name, not the type (RFC 8020 §2); AA and SOA with it (RFC 2308 §3)."""
    world = World()
    world.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    said = world.ask(f"{name}.{DOMAIN}", rtype)
    assert (said.rcode, "AA" in said.flags, len(said.authority), said.answer) == ("NXDOMAIN", True, 1, [])


@pytest.mark.parametrize("rtype", sorted({*DENIED} - {"A", "SRV"}))
def test_a_name_that_exists_has_no_such_data(rtype):
    """NODATA: NOERROR, AA, SOA with the TTL of denials, nothing else."""
    world = World(negative_ttl=7)
    world.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    said = world.ask(f"web.{DOMAIN}", rtype)
    assert (said.rcode, "AA" in said.flags, said.answer, said.additional) == ("NOERROR", True, [], [])
    assert said.authority[0].startswith(f"{DOMAIN}. 7 SOA ")
    assert said.authority[0].endswith(" 7")


def test_every_rrset_has_one_ttl():
    """Endpoints with different TTL tags share the lowest in one RRset (RFC 2181 §5.2)."""
    world = World()
    world.put(
        container(1, endpoint("web", 80, lan("192.168.0.1"), ttl=60)),
        container(2, endpoint("web", 80, lan("192.168.0.2"), ttl=7, host="h2"), host="h2"),
    )
    for rtype in ("A", "SRV"):
        assert {row.split()[1] for row in world.ask(f"web.{DOMAIN}", rtype).answer} == {"7"}


@pytest.mark.parametrize("ttls", [(7, 60), (60, 7)])
def test_endpoints_at_one_address_share_the_lowest_ttl(ttls):
    """Two ports at one address with different TTL tags are one record, with the lower of them."""
    world = World()
    world.put(
        container(
            1, *(endpoint("web", 80 + at, lan("192.168.0.1", 32000 + at), ttl=ttl) for at, ttl in enumerate(ttls))
        )
    )
    assert world.ask(f"web.{DOMAIN}").answer == [f"web.{DOMAIN}. 7 A 192.168.0.1"]


def test_no_record_comes_twice():
    """Several ports at one address are one A."""
    world = World()
    world.put(container(1, *(endpoint("web", port, lan("192.168.0.1", 32000 + port)) for port in range(80, 90))))
    assert world.ask(f"web.{DOMAIN}").answer == [f"web.{DOMAIN}. 5 A 192.168.0.1"]
    assert len(world.ask(f"web.{DOMAIN}", "SRV", tcp=True).answer) == 10


@pytest.mark.parametrize("rtype", ["A", "SRV"])
def test_no_record_comes_twice_in_two_spellings(rtype):
    """Two spellings of a target are one name, with one set of addresses."""
    world = World()
    spelled = {f"internal/svc/app/{at}": {"host": f"{name}.svc.internal"} for at, name in enumerate(("NGX", "ngx"))}
    world.skydns({**spelled, "internal/svc/ngx/1": {"host": "1.2.3.4"}, "internal/svc/ngx/2": {"host": "1.2.3.5"}})
    message = world.send(question("app.svc.internal.", rtype))
    assert message is not None
    answers, additional = (int.from_bytes(message[at : at + 2]) for at in (6, 10))
    assert (answers, additional) == {"A": (3, 0), "SRV": (2, 2)}[rtype]


def test_a_record_that_cannot_be_read_leaves_its_neighbours():
    """A bad record under our own prefix is named; an address that is none is left out."""
    world = World()
    world.put(container(1, endpoint("web", 80, lan("192.168.0.1"))), node("h1", "192.168.0.1"))
    world.raw("/pilotfish/v1/containers/h1/00000000000b", b"{")
    world.raw("/pilotfish/v1/nodes/h9", b"null")
    assert sorted(world.responder.zone.own.registry.refused) == [
        "/pilotfish/v1/containers/h1/00000000000b",
        "/pilotfish/v1/nodes/h9",
    ]
    assert world.ask(f"web.{DOMAIN}").rcode == "NOERROR"
    assert world.ask(f"h1.node.{DOMAIN}").answer == [f"h1.node.{DOMAIN}. 5 A 192.168.0.1"]
    assert len(addressed(["1.2.3", "192.168.0.1", "::::", "192.168.0.1"], 5)) == 1
