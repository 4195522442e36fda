"""Names that do not exist, answered from patterns: always what an answer of their own would say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver.denial import MAX_PATTERNS, MAX_SHAPES, Denials, Shape
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, http, lan, question, said

HEAD = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
REST = b"\x00\x01\x00\x01"
TEST = b"\x04test\x00"


def shape() -> Shape:
    return Shape(b"H" * 10, b"before", b"after", [0])


def learned(*, absent=lambda _name: True) -> Denials:
    denials = Denials(b"SSSS")
    denials.learn(HEAD + b"\x01a" + TEST + REST, TEST, absent, shape())
    return denials


FOUND = b"H" * 10 + b"%s" + TEST + REST + b"beforeSSSSafter"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        pytest.param(HEAD + b"\x01b" + TEST + REST, b"\x01b", id="another name of this length"),
        pytest.param(HEAD + b"\x01B" + TEST + REST, b"\x01B", id="in capitals: the same pattern"),
        pytest.param(HEAD + b"\x01b\x04TEST\x00" + REST, None, id="the name above in capitals: an answer of its own"),
        pytest.param(HEAD + b"\x02bb" + TEST + REST, None, id="another length: a shape of its own"),
        pytest.param(HEAD + TEST + REST, None, id="the name above itself"),
        pytest.param(HEAD + b"\x01b\x05other\x00" + REST, None, id="another name above"),
        pytest.param(HEAD + b"\x01b" + TEST + b"\x00\x1c\x00\x01", None, id="another type"),
        pytest.param(b"\x00" + HEAD[1:] + b"\x01b" + TEST + REST, None, id="other flags"),
        pytest.param(HEAD + b"\x01*" + TEST + REST, None, id="a wildcard in the question"),
        pytest.param(HEAD + b"\xc0\x0c" + TEST + REST, None, id="a pointer"),
        pytest.param(HEAD + b"\x3f", None, id="cut short"),
        pytest.param(HEAD[:4], None, id="no header"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_what_finds_a_pattern(key, found):
    """Only a question that differs in the labels in front, and in nothing else."""
    assert learned().find(key) == (None if found is None else FOUND % found)


def test_it_looks_before_it_denies():
    """Whether the name right below exists is asked each time, in lower case."""
    asked: list[bytes] = []

    def absent(name: bytes) -> bool:
        asked.append(name)
        return name != b"\x01x" + TEST

    denials = learned(absent=absent)
    denials.learn(HEAD + b"\x01a\x01x" + TEST + REST, TEST, absent, shape())
    assert denials.find(HEAD + b"\x01X" + TEST + REST) is None
    assert denials.find(HEAD + b"\x01c\x01X" + TEST + REST) is None
    assert denials.find(HEAD + b"\x01x\x01c" + TEST + REST) is not None
    assert asked == [b"\x01x" + TEST, b"\x01x" + TEST, b"\x01c" + TEST]


def test_a_pattern_goes_with_the_names_that_it_depends_on():
    """The name above, and a wildcard below it; nothing else."""
    for name, gone in [(TEST, 1), (b"\x01*" + TEST, 1), (b"\x01a" + TEST, 0)]:
        denials = learned()
        assert (denials.drop([name]), len(denials)) == (gone, 1 - gone)
        assert denials.drop([name]) == 0


def test_bounds():
    """Patterns and their shapes are bounded; beyond, all are made anew or no more are held."""
    denials = Denials(bytes(4))
    for number in range(MAX_PATTERNS + 5):
        above = b"\x04%04x" % number + TEST
        denials.learn(HEAD + b"\x01a" + above + REST, above, lambda _name: True, shape())
    assert len(denials) == 5
    for length in range(1, 64):
        for second in (1, 40):
            front = bytes((length,)) + b"a" * length + bytes((second,)) + b"b" * second + b"\x3f" + b"c" * 63
            denials.learn(HEAD + front + TEST + REST, TEST, lambda _name: True, shape())
    pattern = denials._patterns[HEAD.lower(), TEST + REST]
    assert len(pattern.shapes) <= MAX_SHAPES


def world() -> World:
    made = World()
    made.put(
        container(1, endpoint("web", 80, lan("192.168.0.1"), name="a"), endpoint("db.shop", 5432, lan("10.0.0.9")))
    )
    made.put(container(2, endpoint("app", 80, lan("192.168.0.1", 33000), route=http(f"*.apps.{DOMAIN}"))))
    made.claim("app", f"*.apps.{DOMAIN}")
    made.skydns({"internal/svc/old/x/1": {"host": "10.0.0.1"}})
    return made


LABELS = [
    "web", "shop", "db", "apps", "old", "x", "1", "h1-a-80", "_80", "_tcp", "node", "dns", "ns", "proxy", "h1", "q",
    "QQ", "hostmaster", "a" * 63,
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(LABELS) | st.text("aZ09-_", min_size=1, max_size=9), min_size=1, max_size=4),
    st.sampled_from(["A", "AAAA", "TXT", "HTTPS"]),
    st.sampled_from([{}, {"use_edns": 0}, {"use_edns": 0, "want_dnssec": True, "payload": 4096}]),
)
def test_a_warm_server_says_what_a_fresh_one_says(labels, rtype, options):
    """Whatever was asked before, a name gets the answer that it would get first."""
    name = ".".join([*labels, DOMAIN, ""])
    if len(name) > 253:
        return
    asked = question(name, rtype, **options)
    warm = WARM.send(asked)
    fresh = world().send(asked)
    assert warm is not None
    assert fresh is not None
    one, other = said(warm), said(fresh)
    assert (one.rcode, one.flags, one.sorted, one.authority, one.ede, one.edns) == (
        other.rcode, other.flags, other.sorted, other.authority, other.ede, other.edns,
    )  # fmt: skip


WARM = world()
