"""How much one network may have: buckets, their refill, slips, and a table that no flood makes larger."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.rate import MOST, Limiter, Verdict, network_of

PASS, SLIP, DROP = Verdict.PASS, Verdict.SLIP, Verdict.DROP


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


A, B = ip("192.0.2.1"), ip("198.51.100.1")

SAME_NETWORK = {
    "the same": ("192.0.2.1", "192.0.2.1", True),
    "one /24": ("192.0.2.0", "192.0.2.255", True),
    "two /24": ("192.0.2.255", "192.0.3.0", False),
    "one /56": ("2001:db8:0:1100::", "2001:db8:0:11ff:ffff::1", True),
    "two /56": ("2001:db8:0:11ff::", "2001:db8:0:1200::", False),
    "IPv4 in IPv6, the same": ("192.0.2.1", "::ffff:192.0.2.9", True),
    "IPv4 in IPv6, another": ("::ffff:192.0.2.1", "::ffff:192.0.3.1", False),
    "the families": ("192.0.2.1", "c000:0200::", False),
}


@pytest.mark.parametrize(("one", "other", "same"), SAME_NETWORK.values(), ids=SAME_NETWORK)
def test_what_is_one_network(one, other, same):
    """A /24 or a /56 shares one bucket."""
    limiter = Limiter(1)
    limiter.verdict(ip(one), 0.0)

    assert (network_of(ip(one)) == network_of(ip(other))) is same
    assert (limiter.verdict(ip(other), 0.0) is not PASS) is same


def test_a_second_s_worth_at_once_and_then_the_rate():
    """Ten a second: ten at once, then one every tenth of a second; a pause fills the bucket, and no more."""
    limiter = Limiter(10, slip=0)

    assert [limiter.verdict(A, 5.0) for _ in range(11)] == [PASS] * 10 + [DROP]
    assert [limiter.verdict(A, 5.1) for _ in range(2)] == [PASS, DROP]
    assert [limiter.verdict(A, 5.35) for _ in range(3)] == [PASS, PASS, DROP]
    assert [limiter.verdict(A, 500.0) for _ in range(11)] == [PASS] * 10 + [DROP]


SLIPS = {"none": (0, [DROP] * 6), "all": (1, [SLIP] * 6), "every second": (2, [DROP, SLIP] * 3),
         "every third": (3, [DROP, DROP, SLIP] * 2)}  # fmt: skip


@pytest.mark.parametrize(("slip", "expected"), SLIPS.values(), ids=SLIPS)
def test_some_of_what_is_over_slips(slip, expected):
    """One in so many is truncated, counted by network; the counters agree."""
    limiter = Limiter(1, slip=slip)
    limiter.verdict(A, 0.0)
    limiter.verdict(B, 0.0)

    got = [(limiter.verdict(A, 0.0), limiter.verdict(B, 0.0)) for _ in range(6)]

    assert got == [(one, one) for one in expected]
    assert (limiter.slipped, limiter.dropped) == (2 * expected.count(SLIP), 2 * expected.count(DROP))


def test_no_limit():
    """Zero is no limit."""
    limiter = Limiter(0)

    assert {limiter.verdict(A, 0.0) for _ in range(1000)} == {PASS}


def test_work_costs_more():
    """What had to be built takes more tokens; who owes some waits the longer, two seconds at most."""
    limiter = Limiter(10, slip=0)
    for _ in range(2):
        assert limiter.verdict(A, 0.0) is PASS
        limiter.charge(A, 0.0, 3)
    assert [limiter.verdict(A, 0.0) for _ in range(3)] == [PASS, PASS, DROP]
    limiter.charge(A, 0.0, 5)
    assert [limiter.verdict(A, at) for at in (0.5, 0.59, 0.61)] == [DROP, DROP, PASS]
    limiter.charge(B, 0.0, 1000)
    assert [limiter.verdict(B, at) for at in (1.0, 1.09, 1.11)] == [DROP, DROP, PASS]


def test_networks_do_not_share():
    """A flood from one network costs another nothing."""
    limiter = Limiter(5)
    for _ in range(1000):
        limiter.verdict(A, 0.0)

    assert [limiter.verdict(B, 0.0) for _ in range(5)] == [PASS] * 5


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4)), min_size=1, max_size=200),
)
def test_never_more_than_the_rate(per_second, asked):
    """In any stretch of time: no more tokens than a second's worth, the rate for that time, and the last one's work."""
    limiter, now, passed = Limiter(per_second), 1000.0, []
    for pause, work in asked:
        now += pause / 10
        if limiter.verdict(A, now) is PASS:
            limiter.charge(A, now, min(work, per_second))
            passed.append((now, 1 + min(work, per_second)))

    for first, (start, _) in enumerate(passed):
        spent = 0
        for at, cost in passed[first:]:
            spent += cost
            assert spent <= per_second * (1 + at - start) + 5 + 1e-6


def test_the_table_is_bounded():
    """However many networks are made up, a bounded number is remembered."""
    limiter = Limiter(1)
    for number in range(MOST + MOST // 2):
        octets = number.to_bytes(3)
        limiter.verdict(octets + b"\x01", 0.0)
        limiter.verdict(octets + b"\x01", 0.0)

    assert max(len(limiter._full_at), len(limiter._over)) <= MOST


@given(st.sampled_from([4, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)), st.floats(0, 1e12))
def test_any_address_at_any_time(client, now):
    """Any packed address, whenever: the first answer passes."""
    assert Limiter(3).verdict(client, now) is PASS
