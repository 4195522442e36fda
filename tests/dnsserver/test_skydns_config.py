"""SkyDNS's settings in the store: what each means, what is said of those that mean nothing, and who wins."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.settings import DnsSettings
from dnsserver.skydns.config import FIELDS, MEANINGLESS, NO_CONFIG, SkydnsConfig, change_of, merged, read
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry
from tests.dnsserver.conftest import until

# JSON -> settings that it gives
MEANT = {
    "domain": ({"domain": "SkyDNS.Local."}, {"domain": ("skydns.local",)}),
    "nameservers": (
        {"nameservers": ["192.0.2.1:53", "192.0.2.2", "[2001:db8::1]:5353"]},
        {"forward": (("192.0.2.1", 53), ("192.0.2.2", 53), ("2001:db8::1", 5353))},
    ),
    "no name servers: as by default": ({"nameservers": []}, {}),
    "no_rec": ({"no_rec": True}, {"recursion": ("none",)}),
    "no_rec false": ({"no_rec": False}, {}),
    "ttl": ({"ttl": 3600}, {"ttl": 3600}),
    "ttl 0: as by default": ({"ttl": 0}, {}),
    "min_ttl": ({"min_ttl": 60}, {"negative_ttl": 60}),
    "round_robin": ({"round_robin": True}, {}),
    "round_robin false": ({"round_robin": False}, {"fixed_order": True}),
    "ndot, as SkyDNS reads it": ({"ndot": 2}, {"ndots": 2}),
    "ndots, as its README has it": ({"ndots": 3}, {"ndots": 3}),
    "local": ({"local": "Web.SkyDNS.Local."}, {"local": "web.skydns.local"}),
    "hostmaster": ({"hostmaster": "jane.doe@example.org"}, {"hostmaster": "jane.doe@example.org"}),
    "in any case, as Go reads it": ({"TTL": 5}, {"ttl": 5}),
    "null": ({"ttl": None, "nameservers": None}, {}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize(("said", "given_"), MEANT.values(), ids=MEANT)
def test_what_a_key_means(said, given_):
    """Each key of SkyDNS is a setting of ours, without a word about it."""
    assert read(json.dumps(said).encode()) == (SkydnsConfig(given_), ())


def test_priority_is_no_setting_but_counts():
    """What records get that give none."""
    assert read(b'{"priority": 20}').config.priority == 20
    assert read(b'{"priority": 0}').config.priority == 10
    assert read(None, SkydnsConfig(priority=20)).config.priority == 10


NOTICED = {
    "a switch with a dash": ({"no-rec": True}, "'no-rec' is no setting of SkyDNS; is no_rec meant?"),
    "a letter too many": ({"nameserverss": []}, "'nameserverss' is no setting of SkyDNS; is nameservers meant?"),
    "like nothing": ({"xyzzy": 1}, "'xyzzy' is no setting of SkyDNS"),
    "dns_addr": ({"dns_addr": "127.0.0.1:53"}, "dns_addr means nothing here: --listen says where to answer"),
    "ttl as text": ({"ttl": "3600"}, "ttl: '\"3600\"' is no whole number; the former value stays"),
    "ttl as a switch": ({"ttl": True}, "ttl: 'true' is no whole number; the former value stays"),
    "ttl too large": ({"ttl": 86401}, "ttl: "),
    "a name server that is a name": ({"nameservers": ["ns.example.com:53"]}, "nameservers: "),
    "name servers as one text": ({"nameservers": "192.0.2.1:53"}, "nameservers: "),
    "too many name servers": ({"nameservers": ["192.0.2.1"] * 65}, "nameservers: 65 are too many"),
    "no_rec as text": ({"no_rec": "true"}, "no_rec: '\"true\"' is neither true nor false"),
    "priority too large": ({"priority": 65536}, "priority: "),
    "a domain that is none": ({"domain": "a..b"}, "domain: "),
    "a list of domains": ({"domain": ["a.test"]}, "domain: a list is no text"),
    "hostmaster": ({"hostmaster": "a@"}, "hostmaster: "),
    "a number in capitals": ({"TTL": [1]}, "ttl: a list is no whole number"),
}


@pytest.mark.parametrize(("said", "notice"), NOTICED.values(), ids=NOTICED)
def test_what_does_not_count_is_said(said, notice):
    """One line for each: what is unknown with the nearest that is known, what is wrong by its name."""
    found = read(json.dumps(said).encode())

    assert len(found.notices) == 1
    assert found.notices[0].startswith(notice)
    assert found.config == NO_CONFIG


@pytest.mark.parametrize("key", MEANINGLESS)
def test_settings_without_a_meaning_are_known(key):
    """Each setting of SkyDNS is either taken over or told why not."""
    (notice,) = read(json.dumps({key: 1}).encode()).notices

    assert notice == f"{key} means nothing here: {MEANINGLESS[key]}"


BAD = {"no JSON": b"{", "a list": b"[]", "a text": b'"x"', "no text": b"\xff", "deep": b"[" * 100_000}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_what_cannot_be_read_changes_nothing(value):
    """All stays as it was, with one line about it."""
    former = SkydnsConfig({"ttl": 7}, 20)
    found = read(value, former)

    assert (found.config, len(found.notices)) == (former, 1)


def test_a_bad_value_leaves_the_former_one():
    """What is wrong stays as it was, what is right counts, what is not there any more is as by default."""
    former = read(b'{"ttl": 7, "min_ttl": 8, "priority": 20, "local": "a.test"}').config
    found = read(b'{"ttl": "x", "min_ttl": 9, "priority": -1}', former)

    assert found.config == SkydnsConfig({"ttl": 7, "negative_ttl": 9}, 20)
    assert len(found.notices) == 2


CONFIG = SkydnsConfig({"ttl": 3600, "negative_ttl": 60, "domain": ("skydns.local",), "forward": (("192.0.2.1", 53),)})
WINS = {
    "nothing set": (DnsSettings(), CONFIG.given, ()),
    "one set": (DnsSettings(ttl=5), {**CONFIG.given, "ttl": 5}, ("ttl",)),
    "set to the default": (DnsSettings(ttl=30), CONFIG.given, ()),
    "all set": (
        DnsSettings(ttl=5, negative_ttl=6, domain=("a.test",), forward=(("192.0.2.9", 53),)),
        {"ttl": 5, "negative_ttl": 6, "domain": ("a.test",), "forward": (("192.0.2.9", 53),)},
        ("domain", "forward", "negative_ttl", "ttl"),
    ),
}


@pytest.mark.parametrize(("settings", "expected", "overruled"), WINS.values(), ids=WINS)
def test_what_was_set_elsewhere_wins(settings, expected, overruled):
    """The store's settings stand in the place of defaults only; those that are overruled are named."""
    found = merged(settings, CONFIG)

    assert {name: getattr(found.settings, name) for name in expected} == dict(expected)
    assert found.overruled == overruled
    assert dataclasses.replace(found.settings, **{name: getattr(settings, name) for name in expected}) == settings


def test_the_key_in_a_difference():
    """It is there with a value, gone, or not touched."""
    entry = Entry("/skydns/config", b"{}", 1, 2)

    assert change_of(Difference(2, (entry,)), "/skydns/config") == (True, b"{}")
    assert change_of(Difference(2, (), ("/skydns/config",)), "/skydns/config") == (True, None)
    assert change_of(Difference(2, (entry,)), "/other/config") == (False, None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@given(st.dictionaries(st.sampled_from([*FIELDS, *MEANINGLESS, "x", "TTL", "no-rec"]), anything))
def test_any_values_are_settings_or_named(said):
    """Whatever is written there, what comes of it are settings that a server starts with."""
    found = read(json.dumps(said).encode())

    assert isinstance(merged(DnsSettings(), found.config).settings, DnsSettings)
    assert 0 < found.config.priority <= 65535
    assert len(found.notices) <= len(said)


async def test_a_running_server_takes_it_in(run):
    """What is written at /skydns/config counts from then on, for what is there already and for what comes."""
    running = await run(negative_ttl=9)
    await running.put_raw("/skydns/internal/svc/web", b'{"host": "10.0.0.1"}')
    await running.put_raw("/skydns/test/skydns/web", b'{"host": "10.0.0.2", "port": 80}')
    before = (await running.ask("web.svc.internal.")).answer
    config = {"ttl": 77, "min_ttl": 60, "priority": 20, "local": "web.svc.internal", "hostmaster": "me@example.org"}
    await running.put_raw("/skydns/config", json.dumps(config).encode())

    assert before == ["web.svc.internal. 30 A 10.0.0.1"]
    assert (await running.ask("web.svc.internal.")).answer == ["web.svc.internal. 77 A 10.0.0.1"]
    assert (await running.ask("local.dns.svc.internal.")).answer == ["local.dns.svc.internal. 77 A 10.0.0.1"]
    assert (await running.ask("web.svc.internal.", "SRV")).answer[0].split()[3] == "20"
    soa = (await running.ask("svc.internal.", "SOA")).answer[0].split()
    assert (soa[1], soa[4], soa[-1]) == ("9", "me.example.org.", "9")  # a flag wins over min_ttl
    await running.put_raw("/skydns/config", json.dumps({**config, "ttl": "bad"}).encode())
    assert (await running.ask("web.svc.internal.")).answer == ["web.svc.internal. 77 A 10.0.0.1"]
    await running.put_raw("/skydns/config", b"{}")
    assert (await running.ask("web.svc.internal.")).answer == before


async def test_a_running_server_takes_in_another_domain(run):
    """Other domains: what the store holds is looked at once more, and the old names are nobody's."""
    running = await run()
    await running.put_raw("/skydns/test/skydns/web", b'{"host": "10.0.0.2"}')
    assert (await running.ask("web.skydns.test.")).rcode == "REFUSED"
    await running.put_raw("/skydns/config", b'{"domain": "skydns.test."}')

    assert (await running.ask("web.skydns.test.")).answer == ["web.skydns.test. 30 A 10.0.0.2"]
    assert (await running.ask("web.svc.internal.")).rcode == "REFUSED"
    await running.put_raw("/skydns/test/skydns/web", b'{"host": "10.0.0.3"}')
    assert (await running.ask("web.skydns.test.")).answer == ["web.skydns.test. 30 A 10.0.0.3"]


async def test_it_is_there_at_the_start(run, store):
    """A server that starts takes it in with its first reading."""
    first = await run()
    await first.put_raw("/skydns/config", b'{"domain": "skydns.test", "ttl": 5}')
    await first.put_raw("/skydns/test/skydns/web", b'{"host": "10.0.0.2"}')
    second = await run()
    await until(lambda: second.service.responder.serial >= 2, "it has read the store")

    assert (await second.ask("web.skydns.test.")).answer == ["web.skydns.test. 5 A 10.0.0.2"]
