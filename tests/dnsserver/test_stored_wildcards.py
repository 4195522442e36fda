"""Stored `*` records as wildcards (RFC 4592) beside `*` and `any` in questions (SkyDNS), and `--exact`."""

from __future__ import annotations

import pytest

from tests.dnsserver.kit import World, container, endpoint, http, lan, proxy
from tests.dnsserver.test_foreign import ZONE, at, short

STAR, ONE, TWO = "10.0.0.9", "10.0.0.1", "10.0.0.2"
WILD = {"*": {"host": STAR}, "web": {"host": ONE}, "a.b.deep": {"host": TWO}}
RECORD = {"host": STAR, "port": 80, "mail": True, "text": "t", "caa": [{"tag": "issue", "value": "ca"}]}

# name of the row: records, question, type -> code, answer without the zone
ROWS = {
    "a name that does not exist": (WILD, "nope", "A", "NOERROR", [f"nope 3600 A {STAR}"]),
    "its spelling is kept": (WILD, "NoPe", "A", "NOERROR", [f"NoPe 3600 A {STAR}"]),
    "several labels below (RFC 4592 §2.2.1)": (WILD, "x.y.nope", "A", "NOERROR", [f"x.y.nope 3600 A {STAR}"]),
    "a name that exists": (WILD, "web", "A", "NOERROR", [f"web 3600 A {ONE}"]),
    "a name that exists, other type": (WILD, "web", "TXT", "NOERROR", []),
    "below a name that exists": (WILD, "x.web", "A", "NXDOMAIN", []),
    "an empty non-terminal": (WILD, "deep", "TXT", "NOERROR", []),
    "below an empty non-terminal": (WILD, "x.deep", "A", "NXDOMAIN", []),
    "the wildcard has no such type": (WILD, "nope", "AAAA", "NOERROR", []),
    "TXT": ({"*": RECORD}, "n", "TXT", "NOERROR", ['n 3600 TXT "t"']),
    "CAA": ({"*": RECORD}, "n", "CAA", "NOERROR", ['n 3600 CAA 0 issue "ca"']),
    "SRV: the name asked for is the target": ({"*": RECORD}, "n", "SRV", "NOERROR", ["n 3600 SRV 10 100 80 n"]),
    "MX: the name asked for is the target": ({"*": RECORD}, "n", "MX", "NOERROR", ["n 3600 MX 10 n"]),
    "a directory is one RRset": (
        {"1.*": {"host": ONE}, "2.*": {"host": TWO}},
        "n",
        "A",
        "NOERROR",
        [f"n 3600 A {ONE}", f"n 3600 A {TWO}"],
    ),
    "a directory has its instances below the name asked for": (
        {"1.*": {"host": ONE, "port": 1}, "2.*": {"host": TWO, "port": 2}},
        "n",
        "SRV",
        "NOERROR",
        ["n 3600 SRV 10 50 1 1.n", "n 3600 SRV 10 50 2 2.n"],
    ),
    "an alias": ({"*": {"host": f"web.{ZONE}"}, "web": {"host": ONE}}, "n", "A", "NOERROR",
                 ["n 3600 CNAME web", f"web 3600 A {ONE}"]),
    "CNAME": ({"*": {"host": f"web.{ZONE}"}}, "n", "CNAME", "NOERROR", ["n 3600 CNAME web"]),
    "the nearest counts": (
        {"*": {"host": STAR}, "*.sub": {"host": ONE}, "x.sub": {"host": TWO}},
        "n.sub",
        "A",
        "NOERROR",
        [f"n.sub 3600 A {ONE}"],
    ),
    "one further up is kept from what is below a name (§3.3.1)": (
        {"*": {"host": STAR}, "x.sub": {"host": TWO}},
        "n.sub",
        "A",
        "NXDOMAIN",
        [],
    ),
    "a `*` that is not the first label is none (§2.1.1)": ({"x.*.y": {"host": ONE}}, "x.n.y", "AAAA", "NOERROR", []),
    "`any` in a key is a label": ({"any": {"host": ONE}}, "n", "A", "NXDOMAIN", []),
    "the domain itself": ({"*": {"text": "t"}}, "", "A", "NOERROR", []),
    "a question for `*` asks for everything below, as in SkyDNS": (
        {"*": {"host": STAR}, "web": {"host": ONE}},
        "*",
        "A",
        "NOERROR",
        [f"* 3600 A {ONE}", f"* 3600 A {STAR}"],
    ),
    "a question with `any` too": (
        {"*": {"host": STAR}, "1.web": {"host": ONE}},
        "1.any",
        "A",
        "NOERROR",
        [f"1.any 3600 A {ONE}"],
    ),
    "a question with `*` below nothing is one for a name that does not exist": (
        {"*": {"host": STAR}},
        "x.*.nope",
        "A",
        "NOERROR",
        [f"x.*.nope 3600 A {STAR}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_wildcard(row):
    """A stored `*` answers for names that do not exist below its parent, and for no others."""
    records, name, rtype, rcode, answer = row
    made = World((ZONE,))
    made.skydns({at(one): value for one, value in records.items()})
    asked = f"{name}.{ZONE}".lstrip(".")

    for said in (made.ask(asked, rtype), made.with_forwarder(asked, rtype)):
        assert (said.rcode, sorted(short(said.answer))) == (rcode, sorted(answer))


def test_an_alias_at_a_wildcard_may_lead_back_to_it():
    """It ends: without data as in SkyDNS, or by RFC 1034 with the chain as far as it goes."""
    made = World((ZONE,))
    made.skydns({at("*"): {"host": f"x.{ZONE}"}})

    assert made.ask(f"n.{ZONE}").answer == []
    assert short(made.with_forwarder(f"n.{ZONE}").answer) == ["n 3600 CNAME x"]


def test_a_wildcard_comes_and_goes():
    """What was said of a name that did not exist is forgotten when a wildcard, or the name, comes; and the reverse."""
    made = World((ZONE,))
    made.skydns({at("web"): {"host": ONE}})
    for _ in range(3):  # often enough to be remembered
        assert made.ask(f"nope.{ZONE}").rcode == "NXDOMAIN"
        assert made.ask(f"other.{ZONE}").rcode == "NXDOMAIN"
    made.skydns({at("*"): {"host": STAR}})
    assert short(made.ask(f"nope.{ZONE}").answer) == [f"nope 3600 A {STAR}"]
    made.skydns({at("nope"): {"host": TWO}})
    assert short(made.ask(f"nope.{ZONE}").answer) == [f"nope 3600 A {TWO}"]
    assert short(made.ask(f"other.{ZONE}").answer) == [f"other 3600 A {STAR}"]
    made.skydns_gone(at("*"))
    assert made.ask(f"other.{ZONE}").rcode == "NXDOMAIN"


def test_a_name_below_ends_a_wildcard_for_its_parents():
    """A name that comes to exist makes all between it and its domain exist."""
    made = World((ZONE,))
    made.skydns({at("*"): {"host": STAR}})
    assert short(made.ask(f"y.nope.{ZONE}").answer) == [f"y.nope 3600 A {STAR}"]
    made.skydns({at("x.nope"): {"text": "t"}})
    assert made.ask(f"y.nope.{ZONE}").rcode == "NXDOMAIN"
    assert made.ask(f"nope.{ZONE}").answer == []


def test_our_names_block_a_wildcard_and_are_not_blocked_by_one():
    """A service, its instances and its ports exist: a stored wildcard does not answer for what is below them."""
    made = World((ZONE,))
    made.skydns({at("*"): {"host": STAR}})
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))

    assert short(made.ask(f"web.{ZONE}").answer) == ["web 5 A 192.168.0.1"]
    assert short(made.ask(f"h1-c-80.web.{ZONE}").answer) == ["h1-c-80.web 5 A 192.168.0.1"]
    assert made.ask(f"x.web.{ZONE}").rcode == "NXDOMAIN"
    assert made.ask(f"x.h1-c-80.web.{ZONE}").rcode == "NXDOMAIN"
    assert short(made.ask(f"other.{ZONE}").answer) == [f"other 3600 A {STAR}"]


def test_a_wildcard_below_a_name_of_ours():
    """Others may put one below a service; instances and ports of the service win over it."""
    made = World((ZONE,))
    made.skydns({at("*.web"): {"host": STAR}})
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))

    assert short(made.ask(f"x.web.{ZONE}").answer) == [f"x.web 3600 A {STAR}"]
    assert short(made.ask(f"h1-c-80.web.{ZONE}").answer) == ["h1-c-80.web 5 A 192.168.0.1"]
    assert made.ask(f"x.h1-c-80.web.{ZONE}").rcode == "NXDOMAIN"


def test_our_own_wildcard_goes_first():
    """A host that a service claims with a `*` is ours; a stored one at the same place waits until it is gone."""
    made = World((ZONE,))
    made.skydns({at("*"): {"host": STAR}})
    route = http(f"*.{ZONE}")
    app = container(1, endpoint("app", 80, lan("192.168.0.1"), route=route))
    made.put(app, proxy("p1", "192.168.0.5"))
    made.claim("app", f"*.{ZONE}")

    assert short(made.ask(f"x.{ZONE}").answer) == ["x 10 A 192.168.0.5"]


EXACT = {
    "a name with records below only": ("web", "A", "NOERROR", []),
    "one of these": ("1.web", "A", "NOERROR", [f"1.web 3600 A {ONE}"]),
    "a name with both": ("both", "A", "NOERROR", [f"both 3600 A {ONE}"]),
    "SRV too": ("both", "SRV", "NOERROR", ["both 3600 SRV 10 100 0 both"]),
    "no such name": ("nope", "A", "NOERROR", [f"nope 3600 A {STAR}"]),
    "a question for `*` is one for the wildcard itself": ("*", "A", "NOERROR", [f"* 3600 A {STAR}"]),
    "`any` is a label": ("any", "A", "NOERROR", [f"any 3600 A {STAR}"]),
    "`any` in the middle": ("1.any", "A", "NOERROR", [f"1.any 3600 A {STAR}"]),
    "below a wildcard that is asked for by name (RFC 4592 §2.2.1)": ("ghost.*", "A", "NXDOMAIN", []),
    "below a name": ("x.both", "A", "NXDOMAIN", []),
    "the domain": ("", "A", "NOERROR", []),
    "name servers are still found": ("", "NS", "NOERROR", ["example.test. 3600 NS a.ns.dns"]),
}


@pytest.mark.parametrize(("name", "rtype", "rcode", "answer"), EXACT.values(), ids=EXACT)
def test_exact(name, rtype, rcode, answer):
    """With --exact a question finds what stands at its name, and no wildcard but a stored one."""
    made = World((ZONE,), exact=True)
    records = {
        "*": {"host": STAR},
        "1.web": {"host": ONE},
        "both": {"host": ONE},
        "1.both": {"host": TWO},
        "a.ns.dns": {"host": "10.0.0.53"},
    }
    made.skydns({at(one): value for one, value in records.items()})
    said = made.ask(f"{name}.{ZONE}".lstrip("."), rtype)

    assert (said.rcode, short(said.answer)) == (rcode, answer)
