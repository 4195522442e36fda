"""MX, CAA and NAPTR of other people's records, and the names that mean something: local.dns and apex.dns."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.skydns.record import BadForeign, Found, parse
from pilotfish.catalog.store import Entry
from tests.dnsserver.kit import World, container, endpoint, lan
from tests.dnsserver.test_foreign import IP, ZONE, at, short, world

# name of the row: records, question, type -> answer, additional, both without the zone
ROWS = {
    "MX to a name": (
        {"a.mail": {"host": "mx.example.test", "mail": True, "priority": 50}, "mx": {"host": IP}},
        "mail",
        "MX",
        ["mail 3600 MX 50 mx"],
        [f"mx 3600 A {IP}"],
    ),
    "MX to an address": (
        {"a.mail": {"host": IP, "mail": True}, "b.mail": {"host": "fd00::1", "mail": True, "priority": 20}},
        "mail",
        "MX",
        ["mail 3600 MX 10 a.mail", "mail 3600 MX 20 b.mail"],
        [f"a.mail 3600 A {IP}", "b.mail 3600 AAAA fd00::1"],
    ),
    "MX of a record that is not for mail": ({"a": {"host": IP, "priority": 50}}, "a", "MX", [], []),
    "MX of a record without a host": ({"a": {"text": "x", "mail": True}}, "a", "MX", [], []),
    "MX through an alias": (
        {
            "a.mail2": {"host": "mx2.example.test", "mail": True, "priority": 50},
            "a.mx2": {"host": "a.ipaddr.example.test", "mail": True},
            "b.mx2": {"host": "b.ipaddr.example.test", "mail": True},
            "a.ipaddr": {"host": "172.16.1.1"},
            "b.ipaddr": {"host": "172.16.1.2"},
        },
        "a.mail2",
        "MX",
        ["a.mail2 3600 MX 50 mx2"],
        ["mx2 3600 CNAME b.ipaddr", "a.ipaddr 3600 A 172.16.1.1", "b.ipaddr 3600 A 172.16.1.2"],
    ),
    "MX asks for no group, as in SkyDNS": (
        {"a.m": {"host": IP, "group": "g1"}, "b.sub.m": {"host": "10.0.0.2", "mail": True, "group": "g2"}},
        "m",
        "MX",
        ["m 3600 MX 10 b.sub.m"],
        ["b.sub.m 3600 A 10.0.0.2"],
    ),
    "MX with targetstrip: the address at the record's own name, as both have it": (
        {"x.m": {"host": IP, "mail": True, "targetstrip": 1}},
        "m",
        "MX",
        ["m 3600 MX 10 m"],
        [f"x.m 3600 A {IP}"],
    ),
    "MX by query wildcard": (
        {"a.m": {"host": IP, "mail": True}},
        "*.m",
        "MX",
        ["*.m 3600 MX 10 a.m"],
        [f"a.m 3600 A {IP}"],
    ),
    "CAA": (
        {"w": {"caa": [{"tag": "issue", "value": "ca.example"}, {"flag": 128, "tag": "tbs", "value": "x; y=z"}]}},
        "w",
        "CAA",
        ['w 3600 CAA 0 issue "ca.example"', 'w 3600 CAA 128 tbs "x; y=z"'],
        [],
    ),
    "CAA that allows nobody": (
        {"w": {"caa": [{"tag": "issue", "value": ";"}], "ttl": 7}},
        "w",
        "CAA",
        ['w 7 CAA 0 issue ";"'],
        [],
    ),
    "CAA beside an address": (
        {"w": {"host": IP, "caa": [{"tag": "iodef", "value": "mailto:a@b.c"}]}},
        "w",
        "CAA",
        ['w 3600 CAA 0 iodef "mailto:a@b.c"'],
        [],
    ),
    "CAA of a name below says nothing of this one": (
        {"x.w": {"caa": [{"tag": "issue", "value": "ca.example"}]}, "w": {"host": IP}},
        "w",
        "CAA",
        [],
        [],
    ),
    "CAA of a domain itself": (
        {"": {"caa": [{"tag": "issue", "value": "a"}]}, "x.apex.dns": {"caa": [{"tag": "issue", "value": "b"}]}},
        "",
        "CAA",
        ['example.test. 3600 CAA 0 issue "a"', 'example.test. 3600 CAA 0 issue "b"'],
        [],
    ),
    "NAPTR with a replacement": (
        {
            "e": {
                "naptr": [
                    {
                        "order": 100,
                        "preference": 10,
                        "flags": "S",
                        "service": "SIP+D2U",
                        "replacement": "_sip._udp.example.test",
                    }
                ]
            }
        },
        "e",
        "NAPTR",
        ['e 3600 NAPTR 100 10 "S" "SIP+D2U" "" _sip._udp'],
        [],
    ),
    "NAPTR with a regexp": (
        {
            "e": {
                "naptr": [
                    {
                        "order": 1,
                        "preference": 2,
                        "flags": "u",
                        "service": "E2U+sip",
                        "regexp": "!^.*$!sip:i@example.test!",
                    }
                ]
            }
        },
        "e",
        "NAPTR",
        ['e 3600 NAPTR 1 2 "u" "E2U+sip" "!^.*$!sip:i@example.test!" .'],
        [],
    ),
    "lists in capitals, as all fields": (
        {"w": {"CAA": [{"Tag": "issue", "Value": "ca.example", "Flag": None}]}},
        "w",
        "CAA",
        ['w 3600 CAA 0 issue "ca.example"'],
        [],
    ),
    "a record of CAA only has no address": ({"w": {"caa": [{"tag": "issue", "value": "a"}]}}, "w", "A", [], []),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row(row):
    """Each record set answers its question as SkyDNS does, and what it has no word for as given."""
    records, name, rtype, answer, additional = row
    said = world(records).ask(f"{name}.{ZONE}".lstrip("."), rtype, tcp=True)

    assert said.rcode == "NOERROR"
    assert sorted(short(said.answer)) == sorted(answer)
    assert sorted(short(said.additional)) == sorted(additional)


def test_mx_with_targetstrip_and_a_forwarder():
    """With a forwarder the additional section is for the exchange, as RFC 1035 §3.3.9 has it."""
    said = world({"x.m": {"host": IP, "mail": True, "targetstrip": 1}}).with_forwarder(f"m.{ZONE}", "MX")

    assert (short(said.answer), short(said.additional)) == (["m 3600 MX 10 m"], [f"m 3600 A {IP}"])


def test_others_may_add_mail_and_caa_at_a_name_of_ours():
    """What our records do not say at a name of ours, others may say there."""
    made = world({"web": {"host": "mx.example.test", "mail": True, "caa": [{"tag": "issue", "value": "a"}]}})
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))

    assert short(made.ask(f"web.{ZONE}", "MX").answer) == ["web 3600 MX 10 mx"]
    assert short(made.ask(f"web.{ZONE}", "CAA").answer) == ['web 3600 CAA 0 issue "a"']
    assert short(made.ask(f"web.{ZONE}").answer) == ["web 5 A 192.168.0.1"]


BAD = {
    "caa without a tag": {"caa": [{"value": "x"}]},
    "caa without a value": {"caa": [{"tag": "issue"}]},
    "caa with an empty tag": {"caa": [{"tag": "", "value": "x"}]},
    "caa with a tag of other letters": {"caa": [{"tag": "is-sue", "value": "x"}]},
    "caa with a long tag": {"caa": [{"tag": "x" * 256, "value": "x"}]},
    "caa with a large flag": {"caa": [{"flag": 256, "tag": "issue", "value": "x"}]},
    "caa with an unknown field": {"caa": [{"tag": "issue", "value": "x", "ttl": 5}]},
    "caa that is no list": {"caa": {"tag": "issue", "value": "x"}},
    "caa of texts": {"caa": ["0 issue x"]},
    "caa with a long value": {"caa": [{"tag": "issue", "value": "x" * 20_000}]},
    "too many": {"caa": [{"tag": "issue", "value": "x"}] * 65},
    "naptr without an order": {"naptr": [{"preference": 1}]},
    "naptr with both": {"naptr": [{"order": 1, "preference": 1, "regexp": "!a!b!", "replacement": "x.test"}]},
    "naptr with a long string": {"naptr": [{"order": 1, "preference": 1, "service": "x" * 256}]},
    "naptr with long letters": {"naptr": [{"order": 1, "preference": 1, "service": "é" * 200}]},
    "naptr with flags of other letters": {"naptr": [{"order": 1, "preference": 1, "flags": "s;"}]},
    "naptr with a bad name": {"naptr": [{"order": 1, "preference": 1, "replacement": "a..b"}]},
    "half a surrogate in caa": {"caa": [{"tag": "issue", "value": "\ud800"}]},
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_a_bad_list_is_refused_by_key(said):
    """What cannot be right is left out with its whole record and named; its neighbours answer."""
    made = world({"1.web": {"host": IP}, "2.web": {"host": "10.0.0.2", **said}})

    assert list(made.responder.zone.foreign.refused) == [f"/skydns/{at('2.web')}"]
    assert short(made.ask(f"web.{ZONE}").answer) == [f"web 3600 A {IP}"]


LOCAL = "104.server1.development.region1"


def test_local_dns_stands_for_the_name_that_was_set():
    """As in SkyDNS: the answer has the name asked for, and the data of the one it stands for."""
    made = World((ZONE, "other.test"), local=f"{LOCAL}.{ZONE}")
    made.skydns({at(LOCAL): {"host": IP, "port": 80, "text": "x"}, at("local.dns"): {"host": "10.9.9.9"}})

    assert short(made.ask(f"local.dns.{ZONE}").answer) == [f"local.dns 3600 A {IP}"]
    assert made.ask("LOCAL.dns.other.test").answer == [f"LOCAL.dns.other.test. 3600 A {IP}"]
    assert short(made.ask(f"local.dns.{ZONE}", "TXT").answer) == ['local.dns 3600 TXT "x"']
    made.skydns({at(LOCAL): {"host": "10.0.0.2"}})
    assert short(made.ask(f"local.dns.{ZONE}").answer) == ["local.dns 3600 A 10.0.0.2"]
    made.skydns_gone(at(LOCAL))
    assert made.ask(f"local.dns.{ZONE}").rcode == "NXDOMAIN"


def test_local_dns_may_stand_for_a_name_of_ours():
    """The name may be a service."""
    made = World((ZONE,), local=f"web.{ZONE}")
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))

    assert short(made.ask(f"local.dns.{ZONE}").answer) == ["local.dns 5 A 192.168.0.1"]


def test_without_a_setting_local_dns_is_what_is_stored():
    """The name means nothing by itself."""
    assert short(world({"local.dns": {"host": IP}}).ask(f"local.dns.{ZONE}").answer) == [f"local.dns 3600 A {IP}"]


APEX = {
    "nothing under apex.dns: everything below the domain": (
        {"x": {"host": "10.0.0.2"}, "y": {"host": "10.0.0.3"}},
        "A",
        ["10.0.0.2", "10.0.0.3"],
    ),
    "apex.dns itself": ({"x": {"host": "10.0.0.2"}, "apex.dns": {"host": "10.0.0.4"}}, "A", ["10.0.0.4"]),
    "below apex.dns": (
        {"x": {"host": "10.0.0.2"}, "a1.apex.dns": {"host": "10.0.0.4"}, "a2.apex.dns": {"host": "10.0.0.5"}},
        "A",
        ["10.0.0.4", "10.0.0.5"],
    ),
    "the other family": (
        {"x": {"host": "fd00::2"}, "a1.apex.dns": {"host": "10.0.0.4"}, "a3.apex.dns": {"host": "2003::8:1"}},
        "AAAA",
        ["2003::8:1"],
    ),
}


@pytest.mark.parametrize(("records", "rtype", "ips"), APEX.values(), ids=APEX)
def test_what_stands_under_apex_dns_are_the_addresses_of_a_domain(records, rtype, ips):
    """As in CoreDNS; services and texts of the domain are still all below it, as in both."""
    made = world(records)

    assert [row.split()[-1] for row in sorted(made.ask(ZONE, rtype).answer)] == ips
    assert len(made.ask(ZONE, "SRV", tcp=True).answer) == len(records)


def test_a_domain_that_a_service_claims_is_the_service():
    """Our own names win at a domain itself as anywhere."""
    made = world({"apex.dns": {"host": "10.0.0.4"}})
    made.skydns({at("b.apex.dns"): {"host": "10.0.0.5"}})
    assert len(made.ask(ZONE).answer) == 2
    made.skydns_gone(at("b.apex.dns"))
    assert [row.split()[-1] for row in made.ask(ZONE).answer] == ["10.0.0.4"]
    made.skydns_gone(at("apex.dns"))
    assert made.ask(ZONE).answer == []


fields = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(["", "10.0.0.1", "a.test", "fd00::1", "x" * 70, "."]),
        "caa": st.lists(
            st.dictionaries(
                st.sampled_from(["tag", "value", "flag", "x"]), st.sampled_from(["issue", "", 0, 300, None])
            ),
            max_size=3,
        ),
        "naptr": st.lists(
            st.dictionaries(
                st.sampled_from(["order", "preference", "flags", "service", "regexp", "replacement"]),
                st.sampled_from(["S", "", "a.b", 0, 70_000, None, "x" * 300]),
            ),
            max_size=3,
        ),
        "mail": st.sampled_from([True, False, 1, None]),
        "ttl": st.integers(-1, 2**33),
    },
)


@given(fields)
def test_any_fields_are_a_record_or_refused(value):
    """A record is read or refused with a reason, never an exception; what is read can be answered."""
    entry = Entry("/skydns/test/example/a", json.dumps(value).encode(), 1, 1)
    found: Found | None = None
    with contextlib.suppress(BadForeign):
        found = parse(entry, ("a", "example", "test"))
    made = world({"a": value})
    for rtype in ("A", "SRV", "MX", "CAA", "NAPTR", "TXT"):
        assert made.ask(f"a.{ZONE}", rtype, tcp=True).rcode == ("NOERROR" if found else "NXDOMAIN")
