"""Whole zones for secondaries: what is in them, that they are of one moment, and how they are cut into messages."""

from __future__ import annotations

import random
from collections.abc import Iterator

import dns.message
import dns.name
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest

from dnsserver import zone as zones
from dnsserver.answer import Authority
from dnsserver.transfers import transfer
from dnsserver.transfers.transfer import MESSAGE, Collection
from dnsserver.transport.later import Transfer
from tests.dnsserver import generated
from tests.dnsserver.kit import World, container, endpoint, http, lan, node, proxy, question, rows, said
from tests.dnsserver.test_differential import ZONES, Compared
from tests.dnsserver.test_foreign import IP, ZONE, at

HERE = bytes((127, 0, 0, 1))
SERVER = {"a.ns.dns": {"host": "10.0.0.53"}}


def world(records: dict[str, object], domains: tuple[str, ...] = (ZONE,), **options) -> World:
    made = World(domains, transfers=True, **options)
    made.skydns({at(name): value for name, value in {**SERVER, **records}.items()})
    return made


def messages(made: World, domain: str = ZONE, rtype: str = "AXFR", **options) -> Iterator[bytes]:
    """The messages of a transfer, without the pauses in between."""
    told = made.responder.tcp(question(f"{domain}.", rtype, **options), HERE)
    assert isinstance(told, Transfer)
    return (message for message in told.messages if message)


def transferred(made: World, domain: str = ZONE) -> dns.zone.Zone:
    """The zone as a secondary has it in the end; dnspython checks that it is well-formed."""
    zone = dns.zone.Zone(f"{domain}.", relativize=False)
    with dns.xfr.Inbound(zone, dns.rdatatype.AXFR, None) as inbound:
        done = [inbound.process_message(dns.message.from_wire(one, xfr=True)) for one in messages(made, domain)]
    assert done[-1] is True
    assert not any(done[:-1])
    return zone


def one_by_one(message: bytes) -> list[str]:
    """Records in the order in which they stand in a message."""
    return rows(dns.message.from_wire(message, one_rr_per_rrset=True).answer)


def shown(zone: dns.zone.Zone, *names: str) -> list[str]:
    """Rows of a zone without its SOA and servers; those of some names."""
    found = [
        f"{name} {rdataset.ttl} {dns.rdatatype.to_text(rdataset.rdtype)} {rdata.to_text()}"
        for name, node_ in zone.nodes.items()
        for rdataset in node_
        for rdata in rdataset
        if rdataset.rdtype != dns.rdatatype.SOA
    ]
    picked = [row.replace(f".{ZONE}.", "") for row in found if ".dns." not in row]
    return sorted(row for row in picked if not names or row.split()[0] in names)


# records -> rows of the zone at the names given
ROWS = {
    "an address": ({"web": {"host": IP, "port": 80}}, ["web 3600 A 10.0.0.1", "web 3600 SRV 10 100 80 web"], ["web"]),
    "a text": ({"web": {"text": "hi"}}, ['web 3600 TXT "hi"'], ["web"]),
    "mail, CAA and NAPTR": (
        {
            "web": {
                "host": IP,
                "mail": True,
                "caa": [{"tag": "issue", "value": "ca"}],
                "naptr": [{"order": 1, "preference": 2}],
            }
        },
        [
            "web 3600 A 10.0.0.1",
            'web 3600 CAA 0 issue "ca"',
            "web 3600 MX 10 web",
            'web 3600 NAPTR 1 2 "" "" "" .',
            "web 3600 SRV 10 100 0 web",
        ],
        ["web"],
    ),
    "what a name finds below it": (
        {"1.web": {"host": IP, "port": 80}, "2.web": {"host": "10.0.0.2", "port": 81}},
        [
            "web 3600 A 10.0.0.1",
            "web 3600 A 10.0.0.2",
            "web 3600 SRV 10 50 80 1.web",
            "web 3600 SRV 10 50 81 2.web",
        ],
        ["web"],
    ),
    "an alias alone": ({"a": {"host": f"b.{ZONE}"}, "b": {"host": IP}}, ["a 3600 CNAME b"], ["a"]),
    "an alias to nothing": ({"a": {"host": f"nope.{ZONE}"}}, ["a 3600 CNAME nope"], ["a"]),
    "an alias outside": ({"a": {"host": "www.example.com"}}, ["a 3600 CNAME www.example.com."], ["a"]),
    "an alias with a port has addresses": (
        {"a": {"host": f"b.{ZONE}", "port": 80}, "b": {"host": IP}},
        ["a 3600 A 10.0.0.1", "a 3600 SRV 10 100 80 b"],
        ["a"],
    ),
    "an alias outside with a port has none": (
        {"a": {"host": "www.example.com", "port": 80}},
        ["a 3600 SRV 10 100 80 www.example.com."],
        ["a"],
    ),
    "an alias beside an address": (
        {"1.a": {"host": f"b.{ZONE}"}, "2.a": {"host": "10.0.0.2"}, "b": {"host": IP}},
        ["a 3600 A 10.0.0.1", "a 3600 A 10.0.0.2", "a 3600 SRV 10 50 0 2.a", "a 3600 SRV 10 50 0 b"],
        ["a"],
    ),
    "a wildcard": (
        {"*": {"host": IP, "port": 80}},
        ["* 3600 A 10.0.0.1", "* 3600 SRV 10 100 80 *"],
        ["*"],
    ),
    "a wildcard of some": (
        {"1.*": {"host": IP}, "2.*": {"host": "10.0.0.2"}},
        ["* 3600 A 10.0.0.1", "* 3600 A 10.0.0.2", "* 3600 SRV 10 50 0 1.*", "* 3600 SRV 10 50 0 2.*"],
        ["*"],
    ),
    "a label `any`": (
        {"any": {"host": IP}, "web": {"host": "10.0.0.2"}},
        ["any 3600 A 10.0.0.1", "any 3600 SRV 10 100 0 any"],
        ["any"],
    ),
    "records that say the same, each once": (
        {"1.a": {"host": IP}, "2.a": {"host": IP}},
        ["a 3600 A 10.0.0.1", "a 3600 SRV 10 100 0 1.a"],
        ["a"],
    ),
}


@pytest.mark.parametrize(("records", "expected", "names"), ROWS.values(), ids=ROWS)
def test_what_a_name_has_in_the_zone(records, expected, names):
    """All that questions for a name give, or one alias."""
    assert shown(transferred(world(records)), *names) == sorted(expected)


def test_the_domain_has_its_servers_and_their_addresses():
    """SOA first and last, NS at the apex, and the addresses that a secondary's clients need."""
    made = world({"web": {"host": IP}})
    whole = [row for message in messages(made) for row in one_by_one(message)]

    assert whole[0] == whole[-1]
    assert whole[0].split()[2] == "SOA"
    assert sum(" SOA " in row for row in whole) == 2
    assert f"{ZONE}. 3600 NS a.ns.dns.{ZONE}." in whole
    assert f"a.ns.dns.{ZONE}. 3600 A 10.0.0.53" in whole


def test_our_own_names():
    """Services, instances, ports, hosts, proxies and hosts of routes; not what depends on where one asks."""
    made = World((ZONE,), transfers=True, node="h1")
    route = http(f"*.apps.{ZONE}")
    app = container(2, endpoint("app", 8080, lan("192.168.0.1"), route=route, name="app"))
    made.put(
        node("h1", "192.168.0.1"), proxy("h1", "192.168.0.1"), container(1, endpoint("web", 80, lan("192.168.0.1")))
    )
    made.put(app)
    made.claim("app", f"*.apps.{ZONE}")
    zone = transferred(made)
    names = {str(name).replace(f".{ZONE}.", "") for name in zone.nodes}

    assert {"web", "h1-c-80.web", "_80._tcp.web", "_http._tcp.web", "h1.node", "proxy", "*.apps", "app"} <= names
    assert not any("nearest" in name for name in names)
    assert shown(zone, "web") == ["web 5 A 192.168.0.1", "web 5 SRV 10 100 80 h1-c-80.web"]
    assert shown(zone, "*.apps")[0] == "*.apps 10 A 192.168.0.1"


def test_a_domain_within_another_is_delegated():
    """Its names are not in the zone above it: name servers and their addresses are."""
    made = World((ZONE, f"sub.{ZONE}"), transfers=True)
    made.skydns({at("web.sub"): {"host": IP}, at("web"): {"host": IP}})
    made.put(node("h1", "192.168.0.1"))
    rows_ = [row for message in messages(made) for row in said(message).answer]

    assert f"sub.{ZONE}. 10 NS ns.dns.sub.{ZONE}." in rows_
    assert f"ns.dns.sub.{ZONE}. 10 A 192.168.0.1" in rows_
    assert not any(row.startswith(f"web.sub.{ZONE}.") for row in rows_)


def test_a_reverse_zone():
    """It has the pointers of our hosts and of others."""
    made = World((ZONE, "10.in-addr.arpa"), transfers=True)
    made.put(node("h1", "10.0.0.7"))
    made.skydns({"arpa/in-addr/10/0/0/1": {"host": "a.example.test."}})
    found = [row for message in messages(made, "10.in-addr.arpa") for row in said(message).answer]

    assert sorted(row for row in found if " PTR " in row) == [
        "1.0.0.10.in-addr.arpa. 3600 PTR a.example.test.",
        f"7.0.0.10.in-addr.arpa. 5 PTR h1.node.{ZONE}.",
    ]


def test_a_transfer_of_what_is_no_longer_answered_from_ends():
    """When the domains change, a zone that is being put together is given up: it hears of nothing any more."""
    made = world({f"n{number}": {"host": IP} for number in range(500)})
    told = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(told, Transfer)
    assert next(told.messages) == transfer.PAUSE
    made.responder.zone.watching.clear()

    assert [said(message).rcode for message in told.messages if message] == ["SERVFAIL"]


def test_names_in_a_stub_zone_are_left_out():
    """Others answer for them."""
    made = world({"web.sub": {"host": IP}, "web": {"host": IP}, f"a.sub.{ZONE}.stub.dns": {"host": "192.0.2.53"}})

    assert {row.split()[0] for row in shown(transferred(made))} >= {"web"}
    assert not shown(transferred(made), "web.sub", "sub")


@pytest.mark.parametrize("seed", range(8))
def test_a_secondary_answers_the_same(seed):
    """For every name in a zone by chance and each type, the zone has what a question gives, and nothing else."""
    chance = random.Random(seed)
    compared = Compared(chance)
    compared.world = World(ZONES, transfers=True)
    compared.become(generated.facts(chance))
    for zone in ZONES[:2]:
        held = transferred(compared.world, zone)
        names = {str(name) for name in held.nodes} | {
            name for name in compared.reference.names if f".{name}".endswith(f".{zone}.")
        }
        for name in names:
            if "*" not in name:
                for rtype in ("A", "AAAA", "SRV", "TXT", "MX", "CNAME"):
                    _same(compared.world, held, name, rtype)


def _same(world_: World, held: dns.zone.Zone, name: str, rtype: str) -> None:
    alias = held.get_rdataset(name, "CNAME")
    told = [row for row in world_.with_forwarder(name, rtype, transfer.NOBODY).answer if row.startswith(f"{name} ")]
    if alias is None and held.get_node(name) is not None:
        told = [row for row in told if row.split()[2] != "CNAME"]  # it has other data too, and is no alias in a zone
    if alias is not None and rtype != "CNAME":
        assert [row.split()[2:] for row in told] == [["CNAME", alias[0].to_text()]]
    elif alias is None and any(row.split()[2] == "CNAME" for row in told):
        assert any(rdataset.rdtype == dns.rdatatype.TXT for rdataset in held.nodes[dns.name.from_text(name)])
    else:
        assert sorted(told) == _rows(name, held.get_rdataset(name, rtype))


def _rows(name: str, rdataset: object) -> list[str]:
    if rdataset is None:
        return []
    return sorted(f"{name} {rdataset.ttl} {dns.rdatatype.to_text(rdataset.rdtype)} {one.to_text()}" for one in rdataset)


# --- of one moment


def collecting(made: World) -> Collection:
    authority = Authority(7, 2)
    return Collection(made.responder.zone, zones.domain(ZONE), lambda: authority)


@pytest.mark.parametrize("seed", range(6))
def test_what_changes_meanwhile_is_as_it_is_in_the_end(seed):
    """Records, services and proxies that come and go between steps: the result is that of a fresh start."""
    chance = random.Random(seed)
    made = World((ZONE,), transfers=True)
    made.put(node("h1", "192.168.0.1"))
    names = [f"n{number}.d{number % 7}" for number in range(300)]
    made.skydns({at(name): {"host": f"10.0.0.{1 + number % 250}", "port": 1} for number, name in enumerate(names)})
    collection, steps = collecting(made), 0
    while not collection.step():
        steps += 1
        for _ in range(3):
            name = chance.choice(names)
            match chance.randrange(5):
                case 0:
                    made.skydns_gone(at(name))
                case 1:
                    made.put(container(steps, endpoint(f"s{steps}", 80, lan("192.168.0.1"), name=f"c{steps}")))
                case 2:
                    made.put(proxy("h1", f"192.168.0.{chance.randrange(1, 200)}"))
                case 3:
                    made.skydns({at(chance.choice(["*", "*.d1", "d2"])): {"host": "10.9.9.9"}})
                case _:
                    target = chance.choice([f"s{steps}", *names])
                    made.skydns({at(name): {"host": f"{target}.{ZONE}", "port": chance.choice([0, 1])}})
    fresh = collecting(made)
    while not fresh.step():
        pass

    assert steps > 3
    assert sorted(collection.records()) == sorted(fresh.records())


def test_a_collection_that_is_closed_hears_no_more():
    """Nothing is left behind: neither by one that ends nor by one that is given up."""
    made = world({f"n{number}": {"host": IP} for number in range(500)})
    assert made.responder.zone.watching == []
    given_up = messages(made)
    next(given_up)
    del given_up
    told = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(told, Transfer)
    assert next(told.messages) == transfer.PAUSE
    assert len(made.responder.zone.watching) == 1
    del told

    assert made.responder.zone.watching == []


def test_a_zone_that_never_rests_is_given_up():
    """What changes faster than it can be put together ends with SERVFAIL, not never."""
    made = world({f"n{number}": {"host": IP} for number in range(200)})
    told = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(told, Transfer)
    for turn, message in enumerate(told.messages):
        if message:
            break
        made.skydns({at(f"n{number}"): {"host": f"10.1.{turn % 250}.{number}"} for number in range(200)})

    assert said(message).rcode == "SERVFAIL"


def test_the_serial_is_that_of_the_moment():
    """The SOA at both ends is the newest one, also when the zone moved on while it was put together."""
    made = world({f"n{number}": {"host": IP} for number in range(400)})
    told = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(told, Transfer)
    assert next(told.messages) == transfer.PAUSE
    made.skydns({at("new"): {"host": IP}})
    serial = made.responder.serial
    found = [row for message in told.messages if message for row in one_by_one(message)]

    assert [row.split()[5] for row in found if " SOA " in row] == [str(serial), str(serial)]
    assert f"new.{ZONE}. 3600 A {IP}" in found


def test_those_who_ask_at_once_share_a_zone():
    """A second transfer of the same serial begins with messages: nothing is put together twice."""
    made = world({f"n{number}": {"host": IP} for number in range(400)})
    first = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(first, Transfer)
    while next(first.messages) == transfer.PAUSE:
        pass
    second = made.responder.tcp(question(f"{ZONE}.", "AXFR"), HERE)
    assert isinstance(second, Transfer)

    assert next(second.messages) != transfer.PAUSE


# --- as messages


def test_messages_are_bounded_and_repeat_the_question():
    """Each has the id, AA, the question, and at most 16 KiB; with EDNS each has an OPT record."""
    made = world({f"n{number}": {"host": IP, "port": number + 1} for number in range(3000)})
    query = question(f"{ZONE}.", "AXFR", use_edns=0)
    told = made.responder.tcp(query, HERE)
    assert isinstance(told, Transfer)
    found = [message for message in told.messages if message]

    assert len(found) > 5
    assert all(len(message) <= MESSAGE for message in found)
    assert all(message[:2] == query[:2] for message in found)
    assert all({"QR", "AA"} <= said(message).flags and said(message).edns for message in found)
    assert all("TC" not in said(message).flags for message in found)


def test_a_large_record_has_a_message_of_its_own():
    """A text that fits in no usual message is still sent whole."""
    made = world({"big": {"text": "x" * 60_000}, "web": {"host": IP}})

    assert max(len(message) for message in messages(made)) > 60_000
    assert len(shown(transferred(made), "big")) == 1


def test_a_name_with_too_much_is_left_out():
    """Where a question is SERVFAIL the zone says nothing; the names below are there."""
    made = world({f"n{number}.big": {"host": f"10.1.{number // 250}.{number % 250}"} for number in range(2100)})
    zone = transferred(made)

    assert shown(zone, "big") == []
    assert len(shown(zone, "n7.big")) == 2


IXFR = {
    "an older serial: the whole zone": (-1, False, None),
    "the same serial: it has it": (0, False, "SOA"),
    "a later serial": (5, False, "SOA"),
    "over UDP: the SOA, so that it comes by TCP": (-1, True, "SOA"),
}


@pytest.mark.parametrize(("ahead", "udp", "expected"), IXFR.values(), ids=IXFR)
def test_questions_for_changes(ahead, udp, expected):
    """IXFR is answered with the whole zone (RFC 1995 §4), or with the SOA alone."""
    made = world({"web": {"host": IP}})
    serial = made.responder.serial + ahead
    query = dns.message.make_query(f"{ZONE}.", "IXFR", id=7)
    soa = f"{ZONE}. 60 IN SOA ns.dns.{ZONE}. hostmaster.{ZONE}. {serial} 1 2 3 4"
    query.authority.append(
        dns.zone.from_text(soa, f"{ZONE}.", check_origin=False, relativize=False).get_rrset(f"{ZONE}.", "SOA")
    )
    told = (made.responder.udp if udp else made.responder.tcp)(query.to_wire(), HERE)
    if expected is None:
        assert isinstance(told, Transfer)
        assert len([row for one in told.messages if one for row in said(one).answer]) > 2
    else:
        assert isinstance(told, bytes)
        assert [row.split()[2] for row in said(told).answer] == [expected]


REFUSED = {
    "from elsewhere": (ZONE, "AXFR", bytes((192, 0, 2, 1)), False, "REFUSED"),
    "over UDP": (ZONE, "AXFR", HERE, True, "REFUSED"),
    "a name within the zone": (f"web.{ZONE}", "AXFR", HERE, False, "NOTAUTH"),
    "somebody else's zone": ("example.com", "AXFR", HERE, False, "NOTAUTH"),
}


@pytest.mark.parametrize(("name", "rtype", "client", "udp", "rcode"), REFUSED.values(), ids=REFUSED)
def test_who_gets_nothing(name, rtype, client, udp, rcode):
    """Only those listed get a zone, over TCP, and only one of ours."""
    made = world({"web": {"host": IP}})
    told = (made.responder.udp if udp else made.responder.tcp)(question(f"{name}.", rtype), client)

    assert isinstance(told, bytes)
    assert said(told).rcode == rcode


def test_a_zone_without_name_servers_is_none():
    """A secondary could not load it, and would be told so by its log; here it is told by us."""
    made = World((ZONE,), transfers=True)
    made.skydns({at("web"): {"host": IP}})

    assert [said(message).rcode for message in messages(made)] == ["SERVFAIL"]
