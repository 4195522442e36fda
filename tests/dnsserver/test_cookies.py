"""Server cookies: the vectors of RFC 9018, the reference ones of SipHash, and what age, address and floods do."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.cookies import MOST, Checked, Cookies, siphash

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
ROLLED, AFTER = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715"), bytes.fromhex("445536bcd2513298075a5d379663c962")
THEIRS = bytes.fromhex("2464c4abcf10c957")
CLIENT = bytes((198, 51, 100, 100))
NOW = 1_559_731_985


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


SIPHASH = {  # of the octets 0, 1, 2, ...: as many as the row says, under the key 00 01 .. 0f
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
    20: "98eea21af25cd6be",
    63: "724506eb4c328a95",
}


@pytest.mark.parametrize(("size", "expected"), SIPHASH.items())
def test_siphash_as_its_authors_give_it(size, expected):
    """SipHash-2-4 of a prefix of 00 01 02 ... is what the reference implementation says."""
    assert siphash(bytes(range(16)), bytes(range(size))).to_bytes(8, "little").hex() == expected


RFC_9018 = {
    "A.1 a new one": (SECRET, THEIRS, "198.51.100.100", 1559731985, "010000005cf79f111f8130c3eee29480"),
    "A.2 renewed": (SECRET, THEIRS, "198.51.100.100", 1559734385, "010000005cf7a871d4a564a1442aca77"),
    "A.3 another client": (
        SECRET, bytes.fromhex("fc93fc62807ddb86"), "203.0.113.203", 1559734700, "010000005cf7a9acf73a7810aca2381e",
    ),
    "A.4 IPv6, after a change of the secret": (
        AFTER, bytes.fromhex("22681ab97d52c298"), "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961,
        "010000005cf7c609a6bb79d16625507a",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("secret", "theirs", "client", "now", "expected"), RFC_9018.values(), ids=RFC_9018)
def test_cookies_of_rfc_9018(secret, theirs, client, now, expected):
    """The server cookie for a client, a time and a secret is that of RFC 9018, appendix A."""
    made = Cookies(secret).answer(theirs, ip(client), now)

    assert (made.hex(), Cookies(secret).valid(theirs, made, ip(client), now)) == (expected, True)


def test_reserved_octets_are_hashed_with_the_rest_and_not_kept():
    """A.3: what another server put into the reserved octets is good, and the reply has them zero."""
    cookies, client = Cookies(SECRET), ip("203.0.113.203")
    shown = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    now = 0x5CF78F71 + 60

    known, option = cookies.check(shown, client, now)

    assert (known, option[:16].hex()) == (True, "fc93fc62807ddb8601000000" + now.to_bytes(4).hex())


def test_cookies_of_an_older_secret_are_good_and_renewed():
    """A.4: after a change of the secret the old cookies still count, and the new ones come from the new secret."""
    shown = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")
    client = ip("2001:db8:220:1:59de:d0f4:8769:82b8")

    assert Cookies(AFTER, [ROLLED]).check(shown, client, 1559741961) == Checked(
        True, bytes.fromhex("22681ab97d52c298010000005cf7c609a6bb79d16625507a")
    )
    assert Cookies(AFTER).check(shown, client, 1559741961).known is False


AGES = {
    "just made": (0, True),
    "half an hour": (1800, True),
    "an hour": (3600, True),
    "more than an hour": (3601, False),
    "a clock that is behind": (-300, True),
    "from the future": (-301, False),
}


@pytest.mark.parametrize(("age_s", "good"), AGES.values(), ids=AGES)
@pytest.mark.parametrize("start", [NOW, 2**32 - 100], ids=["today", "when 32 bits end"])
@pytest.mark.parametrize("remembered", [True, False])
def test_the_age_of_a_cookie(age_s, good, start, remembered):
    """Good for an hour, and five minutes ahead (RFC 9018 §4.3), also where the count of seconds begins anew."""
    maker = Cookies(SECRET)
    made = maker.answer(THEIRS, CLIENT, start)
    judge = maker if remembered else Cookies(SECRET)

    assert judge.valid(THEIRS, made, CLIENT, start + age_s) is good


def test_a_client_keeps_its_cookie_for_half_an_hour():
    """The same cookie until it is half an hour old, then another."""
    cookies = Cookies(SECRET)
    first = cookies.answer(THEIRS, CLIENT, NOW)

    assert cookies.answer(THEIRS, CLIENT, NOW + 1799) == first
    assert cookies.answer(THEIRS, CLIENT, NOW + 1800) != first


def test_a_clock_set_back_makes_new_cookies():
    """What was made in a future that others do not believe in is not given out."""
    cookies = Cookies(SECRET)
    cookies.answer(THEIRS, CLIENT, NOW + 4000)

    assert Cookies(SECRET).valid(THEIRS, cookies.answer(THEIRS, CLIENT, NOW), CLIENT, NOW)


STRANGERS = {
    "another address": (THEIRS, 0, ip("198.51.100.101")),
    "an address of the other family": (THEIRS, 0, ip("::ffff:198.51.100.100")),
    "another client cookie": (b"12345678", 0, CLIENT),
    "a changed version": (THEIRS, 0x02, CLIENT),
    "a changed hash": (THEIRS, 0x01, CLIENT),
}


@pytest.mark.parametrize(("theirs", "flip", "client"), STRANGERS.values(), ids=STRANGERS)
def test_a_cookie_is_good_for_one_client(theirs, flip, client):
    """A cookie of somebody else, or one that was changed, is none; the reply has a good one all the same."""
    cookies = Cookies(SECRET)
    made = bytearray(cookies.answer(THEIRS, CLIENT, NOW))
    made[0 if flip == 0x02 else 15] ^= flip

    known, option = cookies.check(theirs + bytes(made), client, NOW)

    assert known is False
    assert Cookies(SECRET).valid(theirs, option[8:], client, NOW)


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=32), st.sampled_from([4, 16]), st.integers(0, 2**33))
def test_any_octets_are_judged(theirs, shown, size, now):
    """Whatever a client shows: no exception, and only what we made is known."""
    cookies = Cookies(SECRET)

    known, option = cookies.check(theirs + shown, bytes(size), now)

    assert (known, option[:8], len(option)) == (False, theirs, 24)
    assert cookies.check(option, bytes(size), now) == Checked(True, option)


def test_a_cookie_of_another_process_is_adopted():
    """Behind SO_REUSEPORT a client meets several of us: the cookie of one satisfies the others, and stays."""
    one, other = Cookies(SECRET, made_per_s=10), Cookies(SECRET, made_per_s=1)
    option = one.check(THEIRS, CLIENT, NOW).option

    assert [other.check(option, CLIENT, NOW + 60) for _ in range(100)] == [Checked(True, option)] * 100


def test_a_flood_of_strangers_costs_no_more_than_its_bound():
    """Beyond the bound strangers get no cookie and are not known, until the next second; friends go on."""
    cookies = Cookies(SECRET, made_per_s=3)
    friend = cookies.check(THEIRS, CLIENT, NOW).option
    strangers = [number.to_bytes(8) for number in range(10)]

    made = [cookies.check(one, CLIENT, NOW).option for one in strangers]

    assert [bool(one) for one in made] == [True] * 2 + [False] * 8
    assert cookies.left_out == 8
    assert cookies.check(friend, CLIENT, NOW) == Checked(True, friend)
    assert cookies.check(strangers[9] + bytes((1, 0, 0, 0)) + NOW.to_bytes(4) + bytes(8), CLIENT, NOW).known is False
    assert cookies.check(strangers[9], CLIENT, NOW + 1).option


def test_what_is_remembered_is_bounded():
    """However many clients there are, a bounded number of cookies is held."""
    cookies = Cookies(SECRET, made_per_s=10**9)
    for number in range(MOST + MOST // 2):
        cookies.answer(number.to_bytes(8), CLIENT, NOW)

    assert len(cookies._known) <= MOST


@pytest.mark.parametrize("secret", [b"", bytes(15), bytes(17)])
def test_a_secret_of_another_size(secret):
    """A secret that is none is refused when it is given, old ones too."""
    with pytest.raises(ValueError, match="16 octets"):
        Cookies(secret)
    with pytest.raises(ValueError, match="16 octets"):
        Cookies(SECRET, [secret])
