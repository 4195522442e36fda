"""Whom to ask next and when to give up; how servers are judged; what is never asked of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.aging import Clock
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.chain import Sections
from dnsserver.forwarding.health import DEAD_AFTER, MAX_PROBE_S, PROBE_S, REFUSES_AFTER, RESPELL_AFTER, Health, Healths
from dnsserver.forwarding.lookup import MAX_TRIES, PATIENCE_S, Ended, Event, Lookup, Step, Try, ours
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.forwarding.special_names import stays_here
from dnsserver.forwarding.upstream import Said
from dnsserver.message import rr
from dnsserver.message.dname import from_text, to_text
from dnsserver.message.rr import Data, Record, Type
from dnsserver.message.wire import Rcode, Reply

A, B, C = ("192.0.2.1", 53), ("192.0.2.2", 53), ("192.0.2.3", 53)
NAME = from_text("www.example.com")
ADDRESS = Record(NAME, Type.A, 300, Data(b"\x01\x02\x03\x04"))
FOUND = Said(0, recursion=True, edns=True, sections=Sections((ADDRESS,), last=NAME))
NOT_THERE = Said(3, recursion=True, edns=True, sections=Sections(last=NAME))
CUT = Said(0, truncated=True, edns=True)
CUT_AGAIN = FOUND._replace(truncated=True)
SERVFAIL, REFUSED, NOTIMP = (Said(code, recursion=True, edns=True) for code in (2, 5, 4))
BOGUS = Said(2, recursion=True, edns=True, ede=22)
REFERRAL = Said(0, edns=True, sections=Sections(last=NAME))
BARE_FORMERR = Said(1)
SILENT, UNREACHABLE, BROKEN, SPELLING, FLOODED = Event


def said(step: Step) -> str:
    """A step in words: `A udp`, `B tcp plain`, or how it ended."""
    if isinstance(step, Ended):
        ede = f" {step.reply.ede.name}" if step.reply.ede else ""
        return f"{'answer' if step.answered else 'failure'} {step.reply.rcode.name}{ede}"
    server = {A: "A", B: "B", C: "C"}[step.server]
    return f"{server} {'tcp' if step.tcp else 'udp'}{'' if step.edns else ' plain'}"


def played(servers: list, happens: list[Said | Event], *, took_s: float | None = None) -> list[str]:
    """The steps of a lookup to which these things happen, one after the other; silence takes all the time there is."""
    lookup, now = Lookup(servers, Healths(), 1.0, 0.0), 0.0
    steps = [lookup.start(now)]
    for what in happens:
        step = steps[-1]
        assert isinstance(step, Try), f"ended before {what}"
        spent_s = took_s if took_s is not None else step.timeout_s if what is SILENT else 0.01
        now += spent_s
        steps.append(lookup.after(what, spent_s, now))
    return [said(step) for step in steps]


# Title -> servers, what happens, the steps.
LOOKUPS = {
    "an answer": ([A, B], [FOUND], ["A udp", "answer NOERROR"]),
    "no such name": ([A, B], [NOT_THERE], ["A udp", "answer NXDOMAIN"]),
    "cut": ([A, B], [CUT, FOUND], ["A udp", "A tcp", "answer NOERROR"]),
    "cut over TCP too": ([A, B], [CUT, CUT_AGAIN, FOUND], ["A udp", "A tcp", "B udp", "answer NOERROR"]),
    "cut for ever": (
        [A, B], [CUT, CUT_AGAIN, CUT, CUT_AGAIN],
        ["A udp", "A tcp", "B udp", "B tcp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"],
    ),
    "cut, and no TCP": ([A, B], [CUT, UNREACHABLE, FOUND], ["A udp", "A tcp", "B udp", "answer NOERROR"]),
    "cut, and TCP is silent": ([A], [CUT, SILENT], ["A udp", "A tcp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"]),
    "one fails": ([A, B], [SERVFAIL, FOUND], ["A udp", "B udp", "answer NOERROR"]),
    "one refuses": ([A, B], [REFUSED, NOT_THERE], ["A udp", "B udp", "answer NXDOMAIN"]),
    "one points elsewhere": ([A, B], [REFERRAL, FOUND], ["A udp", "B udp", "answer NOERROR"]),
    "all fail": ([A, B], [SERVFAIL, SERVFAIL], ["A udp", "B udp", "failure SERVFAIL"]),
    "all refuse": ([A, B], [REFUSED, REFUSED], ["A udp", "B udp", "failure REFUSED"]),
    "refused and failed": ([A, B], [REFUSED, BOGUS], ["A udp", "B udp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"]),
    "all point elsewhere": (
        [A, B], [REFERRAL, REFERRAL], ["A udp", "B udp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"],
    ),
    "all cannot do that": ([A], [NOTIMP], ["A udp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"]),
    "no EDNS": ([A, B], [BARE_FORMERR, FOUND._replace(edns=False)], ["A udp", "A udp plain", "answer NOERROR"]),
    "no EDNS, cut": (
        [A], [BARE_FORMERR, CUT._replace(edns=False), FOUND], ["A udp", "A udp plain", "A tcp plain", "answer NOERROR"],
    ),
    "FORMERR with EDNS and without": (
        [A, B], [BARE_FORMERR, BARE_FORMERR, FOUND], ["A udp", "A udp plain", "B udp", "answer NOERROR"],
    ),
    "FORMERR that knows EDNS": ([A, B], [Said(1, edns=True), FOUND], ["A udp", "B udp", "answer NOERROR"]),
    "other letters": ([A, B], [SPELLING, FOUND], ["A udp", "A tcp", "answer NOERROR"]),
    "forged": ([A, B], [FLOODED, FOUND], ["A udp", "A tcp", "answer NOERROR"]),
    "forged, and nonsense over TCP": ([A, B], [FLOODED, FLOODED, FOUND], ["A udp", "A tcp", "B udp", "answer NOERROR"]),
    "one is silent": ([A, B], [SILENT, FOUND], ["A udp", "B udp", "answer NOERROR"]),
    "a lost datagram": ([A], [SILENT, FOUND], ["A udp", "A udp", "answer NOERROR"]),
    "one alone is silent": ([A], [SILENT, SILENT], ["A udp", "A udp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"]),
    "all are silent": (
        [A, B], [SILENT, SILENT, SILENT],
        ["A udp", "B udp", "A udp", "failure SERVFAIL NO_REACHABLE_AUTHORITY"],
    ),
    "silent, and fails": ([A, B], [SILENT, SERVFAIL, SILENT], ["A udp", "B udp", "A udp", "failure SERVFAIL"]),
    "nobody listens": ([A, B], [UNREACHABLE, UNREACHABLE], ["A udp", "B udp", "failure SERVFAIL NETWORK_ERROR"]),
    "nobody listens at one": ([A, B], [UNREACHABLE, FOUND], ["A udp", "B udp", "answer NOERROR"]),
    "nothing can be sent": ([A, B], [BROKEN, BROKEN], ["A udp", "B udp", "failure SERVFAIL NETWORK_ERROR"]),
    "no servers": ([], [], ["failure SERVFAIL NETWORK_ERROR"]),
}  # fmt: skip


@pytest.mark.parametrize(("servers", "happens", "steps"), LOOKUPS.values(), ids=LOOKUPS)
def test_a_lookup_takes_these_steps(servers, happens, steps):
    """Each thing that happens has its next step."""
    assert played(servers, happens) == steps


WHAT = st.sampled_from([SERVFAIL, REFUSED, NOTIMP, CUT, CUT_AGAIN, REFERRAL, BARE_FORMERR, *Event])


@given(st.integers(1, 40), st.lists(st.tuples(WHAT, st.floats(0, 1)), min_size=60, max_size=60), st.floats(0.001, 60))
def test_a_lookup_ends(count, happens, timeout_s):
    """However many servers there are and whatever they do: tries and time are bounded."""
    servers = [("192.0.2.1", port) for port in range(1, count + 1)]
    lookup, now, tries = Lookup(servers, Healths(), timeout_s, 0.0), 0.0, 0
    step = lookup.start(now)
    for what, part in happens:
        if isinstance(step, Ended):
            break
        tries += 1
        assert 0 < step.timeout_s <= timeout_s
        assert now + step.timeout_s <= PATIENCE_S + 1e-9
        spent_s = step.timeout_s * (1.0 if what is SILENT else part)
        now += spent_s
        step = lookup.after(what, spent_s, now)

    assert isinstance(step, Ended)
    assert tries <= MAX_TRIES
    assert step.reply.rcode in {Rcode.SERVFAIL, Rcode.REFUSED}


def test_an_ended_lookup_stays_ended():
    """What comes late changes nothing."""
    lookup = Lookup([A], Healths(), 1.0, 0.0)
    lookup.start(0.0)
    lookup.after(UNREACHABLE, 0.0, 0.0)

    assert said(lookup.after(FOUND, 0.1, 0.1)) == "failure SERVFAIL NETWORK_ERROR"


@pytest.mark.parametrize(
    ("ip", "passed_on"), {"127.0.0.1": True, "::1": True, "::ffff:127.0.0.1": True, "192.168.0.1": False}.items()
)
def test_ad_is_passed_on_from_this_host_only(ip, passed_on):
    """Of a server elsewhere, whoever stands between could have set it."""
    lookup = Lookup([(ip, 53)], Healths(), 1.0, 0.0)
    lookup.start(0.0)
    ended = lookup.after(FOUND._replace(authentic=True), 0.1, 0.1)

    assert isinstance(ended, Ended)
    assert ended.reply.authentic is passed_on


@pytest.mark.parametrize(
    ("ndots", "name", "short"),
    {
        "by default all are asked for": (0, "com", False),
        "the root too": (0, "", False),
        "one label of two": (2, "com", True),
        "two labels of two": (2, "example.com", False),
        "two labels of three": (3, "example.com", True),
    }.values(),
)  # fmt: skip
def test_names_with_few_labels(ndots, name, short):
    """Counted as SkyDNS counts: labels, though it is called ndots."""
    cache, probes = ForwardCache(10, 60.0), LoopProbes("0" * 32)
    recursion = Recursion(cache, probes, Clock(), ndots=ndots, servers=True)

    assert recursion.is_short(from_text(name)) is short


def test_letters_count_over_udp_only():
    """A name is spelled by chance in datagrams; over TCP nobody can forge."""
    lookup = Lookup([A], Healths(), 1.0, 0.0)
    over_udp = lookup.start(0.0)
    over_tcp = lookup.after(CUT, 0.1, 0.1)

    assert isinstance(over_udp, Try)
    assert isinstance(over_tcp, Try)
    assert (over_udp.exact, over_tcp.exact) == (True, False)


def test_a_server_that_changes_letters_is_no_longer_tried_with_them():
    """Three times over TCP for nothing, then it is asked in small letters, for an hour."""
    healths = Healths()
    for _ in range(RESPELL_AFTER):
        lookup = Lookup([A], healths, 1.0, 0.0)
        step = lookup.start(0.0)
        assert isinstance(step, Try)
        assert step.exact
        lookup.after(SPELLING, 0.0, 0.0)
        lookup.after(FOUND, 0.0, 0.0)

    steps = [Lookup([A], healths, 1.0, now).start(now) for now in (0.0, 3599.0, 3600.0)]
    assert [isinstance(step, Try) and step.exact for step in steps] == [False, False, True]


def test_forgers_do_not_take_the_letters_away():
    """A flood of guesses is no sign that a server changes letters."""
    healths = Healths()
    for _ in range(RESPELL_AFTER):
        lookup = Lookup([A], healths, 1.0, 0.0)
        lookup.start(0.0)
        lookup.after(FLOODED, 0.0, 0.0)
        lookup.after(FOUND, 0.0, 0.0)

    assert healths[A].keeps_case(0.0)


def test_a_server_that_never_understands_keeps_its_edns():
    """FORMERR with and without EDNS says nothing of EDNS."""
    healths = Healths()
    lookup = Lookup([A], healths, 1.0, 0.0)
    lookup.start(0.0)
    lookup.after(BARE_FORMERR, 0.0, 0.0)
    lookup.after(BARE_FORMERR, 0.0, 0.0)

    assert healths[A].knows_edns(1.0)


def test_letters_that_came_back_once_are_trusted_again():
    """Changed letters count in a row only: somebody may have forged them."""
    healths = Healths()
    for what in (SPELLING, SPELLING, FOUND, SPELLING, SPELLING):
        lookup = Lookup([A], healths, 1.0, 0.0)
        lookup.start(0.0)
        if isinstance(lookup.after(what, 0.0, 0.0), Try):
            lookup.after(FOUND, 0.0, 0.0)

    assert healths[A].keeps_case(0.0)


def test_a_server_without_edns_is_remembered():
    """It is asked without at once, for an hour."""
    healths = Healths()
    lookup = Lookup([A], healths, 1.0, 0.0)
    lookup.start(0.0)
    lookup.after(BARE_FORMERR, 0.0, 0.0)
    lookup.after(FOUND._replace(edns=False), 0.0, 0.0)

    steps = [Lookup([A], healths, 1.0, now).start(now) for now in (1.0, 3601.0)]
    assert [said(step) for step in steps] == ["A udp plain", "A udp"]


# --- health


def silent(health: Health, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        health.silent(now)


def refusing(health: Health) -> None:
    for _ in range(REFUSES_AFTER):
        health.answered(0.01, 0.0, refused=True)


# Title -> what A and B went through, the order in which A, B and C are asked at 10 s.
ORDERS = {
    "as listed": (lambda a, b: None, "ABC"),
    "one lost a question": (lambda a, b: silent(a, 1), "BCA"),
    "one is dead": (lambda a, b: silent(a, DEAD_AFTER), "BC"),
    "one is dead, one lost": (lambda a, b: (silent(a, DEAD_AFTER), silent(b, 1)), "CB"),
    "one is slow": (lambda a, b: a.answered(0.3, 0.0), "BCA"),
    "both are slow": (lambda a, b: (a.answered(0.3, 0.0), b.answered(0.1, 0.0)), "CBA"),
    "faster than needed": (lambda a, b: (a.answered(0.04, 0.0), b.answered(0.001, 0.0)), "ABC"),
    "one was slow long ago": (lambda a, b: a.answered(0.3, -60.0), "ABC"),
    "one refuses": (lambda a, b: refusing(a), "BCA"),
    "one came back": (lambda a, b: (silent(a, 9), a.answered(0.01, 9.0)), "ABC"),
    "one loops": (lambda a, b: a.loops(0.0), "BC"),
}


@pytest.mark.parametrize(("through", "order"), ORDERS.values(), ids=ORDERS)
def test_the_best_is_asked_first(through, order):
    """Who answers, answers fast and does not refuse comes first; who is dead is left out."""
    healths = Healths([A, B, C])
    through(healths[A], healths[B])

    assert healths.order([A, B, C], 10.0) == [{"A": A, "B": B, "C": C}[letter] for letter in order]


def test_who_refuses_again_and_again_is_asked_last():
    """Refusals count, and one answer ends their row."""
    healths = Healths([A, B])
    for _ in range(REFUSES_AFTER):
        lookup = Lookup([A], healths, 1.0, 0.0)
        lookup.start(0.0)
        lookup.after(REFUSED, 0.0, 0.0)
    assert healths.order([A, B], 0.0) == [B, A]

    lookup = Lookup([A], healths, 1.0, 0.0)
    lookup.start(0.0)
    lookup.after(SERVFAIL, 0.0, 0.0)
    assert healths.order([A, B], 0.0) == [A, B]


def test_when_all_are_dead_all_are_asked():
    """Better to try than to give up; but never one that asks us."""
    healths = Healths([A, B, C])
    for server in (A, B, C):
        silent(healths[server], DEAD_AFTER)
    healths[C].loops(0.0)

    assert healths.order([A, B, C], 1.0) == [A, B]
    assert not healths.any_lives([A, B, C])


def test_the_silent_are_probed_less_and_less():
    """After the first silence a probe comes soon, later ones at longer intervals, until it says anything."""
    health, now, times = Health(), 0.0, []
    silent(health, 1)
    while len(times) < 10:
        now += PROBE_S / 2
        if health.probe_due(now):
            times.append(now)
            health.silent(now)
    waits = [after - before for before, after in zip([0.0, *times], times, strict=False)]

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert max(waits) == MAX_PROBE_S
    health.answered(0.01, now)
    assert not health.probe_due(now + 100)


def test_those_that_answer_are_not_probed():
    """A server that answered last is asked only what somebody wants to know."""
    health = Health()
    silent(health, 1)
    health.answered(0.01, 0.1)

    assert not health.probe_due(100.0)


def test_a_pardoned_server_is_left_alone_for_longer():
    """One that is not probed gets questions again after a while; when it stays silent, the while is longer."""
    health = Health()
    silent(health, DEAD_AFTER)
    assert health.probe_due(0.5)
    health.pardon()
    assert (health.dead, health.probe_due(100.0)) == (False, False)
    silent(health, DEAD_AFTER, 100.0)

    assert [health.probe_due(now) for now in (100.9, 101.0)] == [False, True]


def test_round_trips_are_smoothed():
    """One slow answer among many changes little (RFC 6298); after a minute it is measured anew."""
    health = Health()
    for now in range(20):
        health.answered(0.01, float(now))
    health.answered(0.81, 20.0)
    assert health.rtt_s == pytest.approx(0.11)
    health.answered(0.03, 81.0)
    assert health.rtt_s == 0.03


def test_a_refusal_is_a_sign_of_life():
    """Whatever a server says, it is not dead."""
    health = Health()
    silent(health, 5)
    health.answered(0.01, 1.0, refused=True)

    assert (health.dead, health.failures) == (False, 0)


def test_the_servers_remembered_are_bounded():
    """Servers of stub zones come and go; the configured ones stay."""
    healths = Healths([A])
    for port in range(5000):
        healths["192.0.2.9", port].silent(0.0)

    assert len(healths.items()) == 1000
    assert healths.items()[0][0] == A


# --- ourselves

OWN = [("127.0.0.1", 53), ("192.0.2.7", 53), ("::1", 53)]
OURS = {
    "our address": (("127.0.0.1", 53), True),
    "our IPv6 address": (("::1", 53), True),
    "the same, written otherwise": (("0:0:0:0:0:0:0:1", 53), True),
    "our address in IPv6": (("::ffff:192.0.2.7", 53), True),
    "every address": (("0.0.0.0", 53), True),
    "every IPv6 address": (("::", 53), True),
    "another port": (("127.0.0.1", 5353), False),
    "every address, another port": (("0.0.0.0", 5353), False),
    "another loopback address": (("127.0.0.53", 53), False),
    "another host": (("192.0.2.8", 53), False),
}


@pytest.mark.parametrize(("server", "expected"), OURS.values(), ids=OURS)
def test_we_do_not_ask_ourselves(server, expected):
    """Whatever way our own address is written, it is known."""
    assert ours([server, A], OWN) == ([server] if expected else [])


# --- loops

TOKEN = "0123456789abcdef" * 2


def test_a_probe_that_comes_here_is_known():
    """Heard at our own socket, it means that its server asks us; it is answered, not forwarded."""
    probes = LoopProbes(TOKEN)
    asked, other = probes.fresh(), probes.fresh()
    answer = probes.answer(asked.name.upper())

    assert answer is not None
    assert answer.rcode == Rcode.NOERROR
    assert probes.has_come_back(asked, Reply(Rcode.SERVFAIL))
    assert not probes.has_come_back(other, Reply(Rcode.NXDOMAIN))


def test_a_probe_that_a_sibling_heard_is_known():
    """Another process at our address answers it; the answer tells us."""
    ours_, siblings = LoopProbes(TOKEN), LoopProbes(TOKEN)
    asked = ours_.fresh()
    answer = siblings.answer(asked.name)

    assert answer is not None
    assert ours_.has_come_back(asked, answer)
    assert not siblings.has_come_back(asked, Reply(Rcode.NXDOMAIN))


STRANGE = {
    "another server's": LoopProbes("f" * 32).fresh().name,
    "without a token": from_text("pilotfish-loop-probe"),
    "any name": NAME,
    "the root": b"\x00",
}


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_other_names_are_no_probes(name):
    """Nobody can guess a probe's name, and another server's probe is a name like any other."""
    assert LoopProbes(TOKEN).answer(name) is None


def test_a_probe_that_is_over_is_forgotten():
    """Heard again after its end it is answered, and means nothing; no memory grows."""
    probes = LoopProbes(TOKEN)
    asked = probes.fresh()
    probes.has_come_back(asked, Reply(Rcode.NXDOMAIN))

    assert probes.answer(asked.name)
    assert not probes.has_come_back(asked, Reply(Rcode.NXDOMAIN))


def test_probes_differ():
    """Each is a new question, which no cache on the way can answer."""
    probes = LoopProbes(TOKEN)

    assert len({probes.fresh().name for _ in range(100)}) == 100


# --- names that stay

LOOPBACK = {Type.A: "127.0.0.1", Type.AAAA: "::1"}
ZEROS = "0." * 31 + "ip6.arpa"
STAYING = {
    "localhost": "localhost.", "a.localhost": "localhost.", "test": "test.", "www.test": "test.", "invalid": "invalid.",
    "x.invalid": "invalid.", "abc.onion": "onion.", "printer.local": "local.", "x.alt": "alt.",
    "router.home.arpa": "home.arpa.", "_dns.resolver.arpa": "resolver.arpa.",
    "_x.default.service.arpa": "service.arpa.",
    "1.0.0.10.in-addr.arpa": "10.in-addr.arpa.", "10.in-addr.arpa": "10.in-addr.arpa.",
    "9.16.172.in-addr.arpa": "16.172.in-addr.arpa.", "9.31.172.in-addr.arpa": "31.172.in-addr.arpa.",
    "4.3.168.192.in-addr.arpa": "168.192.in-addr.arpa.", "1.0.0.127.in-addr.arpa": "127.in-addr.arpa.",
    "4.3.254.169.in-addr.arpa": "254.169.in-addr.arpa.", "1.64.100.in-addr.arpa": "64.100.in-addr.arpa.",
    "1.127.100.in-addr.arpa": "127.100.in-addr.arpa.", "1.2.0.192.in-addr.arpa": "2.0.192.in-addr.arpa.",
    "1.100.51.198.in-addr.arpa": "100.51.198.in-addr.arpa.", "1.113.0.203.in-addr.arpa": "113.0.203.in-addr.arpa.",
    "255.255.255.255.in-addr.arpa": "255.255.255.255.in-addr.arpa.", "0.in-addr.arpa": "0.in-addr.arpa.",
    "x.d.f.ip6.arpa": "d.f.ip6.arpa.", "1.8.e.f.ip6.arpa": "8.e.f.ip6.arpa.", "1.b.e.f.ip6.arpa": "b.e.f.ip6.arpa.",
    "1.8.b.d.0.1.0.0.2.ip6.arpa": "8.b.d.0.1.0.0.2.ip6.arpa.",
    f"1.{ZEROS}": f"1.{ZEROS}.", f"0.{ZEROS}": f"0.{ZEROS}.",
}  # fmt: skip


@pytest.mark.parametrize(("name", "zone"), STAYING.items(), ids=[name[:40] for name in STAYING])
def test_special_names_stay(name, zone):
    """They are answered here: no such name, or no such data at the top of the zone, with an SOA to keep it by."""
    reply = stays_here(from_text(name), Type.MX)

    assert reply is not None
    exists = zone in {f"{name}.", "localhost."}
    assert reply.rcode == (Rcode.NOERROR if exists else Rcode.NXDOMAIN)
    assert (reply.answer, reply.recursion, reply.authoritative) == ((), True, False)
    assert [(to_text(record.owner), record.type) for record in reply.authority] == [(zone, Type.SOA)]


LEAVING = [
    "example.com", "com", "", "localhost.example.com", "nolocalhost", "internal", "example", "ipv4only.arpa",
    "170.0.0.192.in-addr.arpa", "15.172.in-addr.arpa", "32.172.in-addr.arpa", "8.8.8.8.in-addr.arpa",
    "172.in-addr.arpa",
    "63.100.in-addr.arpa", "128.100.in-addr.arpa", "in-addr.arpa", "c.f.ip6.arpa", "0.0.2.ip6.arpa", "arpa",
    "0.c.e.f.ip6.arpa", f"2.{ZEROS}", "testing",
]  # fmt: skip


@pytest.mark.parametrize("name", LEAVING)
def test_all_others_leave(name):
    """What only looks like one of them is asked of others; so is ipv4only.arpa (RFC 8880)."""
    assert stays_here(from_text(name), Type.A) is None


@pytest.mark.parametrize("name", ["localhost", "a.b.localhost"])
@pytest.mark.parametrize("rtype", [Type.A, Type.AAAA])
def test_localhost_is_here(name, rtype):
    """It and all below it have the loopback address, whoever says otherwise (RFC 6761 §6.3)."""
    reply = stays_here(from_text(name), rtype)

    assert reply is not None
    assert [(record.owner, record.type, record.data) for record in reply.answer] == [
        (from_text(name), rtype, rr.address(LOOPBACK[rtype])[1])
    ]


@pytest.mark.parametrize("rtype", [Type.SOA, Type.NS])
def test_a_zone_has_its_own_records(rtype):
    """SOA and NS of such a zone name the zone itself (RFC 6303 §3)."""
    zone = from_text("10.in-addr.arpa")
    reply = stays_here(zone, rtype)

    assert reply is not None
    assert [(record.owner, record.type, record.data.names[0]) for record in reply.answer] == [(zone, rtype, zone)]


DS = {"10.in-addr.arpa": False, "1.10.in-addr.arpa": True, "home.arpa": False, "a.home.arpa": True, "test": True}


@pytest.mark.parametrize(("name", "stays"), DS.items())
def test_who_checks_signatures_is_told_that_there_are_none(name, stays):
    """DS at the top of a zone below arpa is asked of others: the zone above says that it is not signed."""
    assert (stays_here(from_text(name), Type.DS) is not None) is stays
