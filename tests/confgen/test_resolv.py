"""resolv.conf, and the names that a short one may stand for; the order was compared with confd on a name server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.resources import resolv
from confgen.resources.resolv import LONGEST_NAME, NOBODY, Resolv

FILES = [
    ("empty", "", Resolv(NOBODY, (), 1)),
    ("servers", "nameserver 10.0.0.1\nnameserver ::1 # mine\n", Resolv(("10.0.0.1", "::1"))),
    ("more than three", "nameserver 1.0.0.1\n" * 5, Resolv(("1.0.0.1",) * 3)),
    ("search", "search a.test b.test.\noptions ndots:5 timeout:1", Resolv(search=("a.test", "b.test"), ndots=5)),
    ("domain, the last one counts", "search a.test\ndomain c.test", Resolv(search=("c.test",))),
    ("search of the root", "search .", Resolv()),
    ("remarks", "# nameserver 1.1.1.1\n; search x\n\nnameserver", Resolv()),
    ("dots without sense", "options ndots:x ndots:99", Resolv(ndots=15)),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_files(text, expected):
    assert resolv.parse(text, "host") == expected


def test_the_hosts_own_domain_is_searched_where_none_is_named():
    assert resolv.parse("", "host.example.test").search == ("example.test",)
    assert resolv.parse("search a.test", "host.example.test").search == ("a.test",)


NAMES = [
    ("whole", "web.test.", ["web.test."]),
    ("short", "web", ["web.a.test.", "web.b.", "web."]),
    ("with a dot", "_http._tcp.web", ["_http._tcp.web.", "_http._tcp.web.a.test.", "_http._tcp.web.b."]),
]


@pytest.mark.parametrize(("name", "expected"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_candidates(name, expected):
    assert Resolv(search=("a.test", "b")).candidates(name) == expected


@given(st.text(), st.text())
def test_any_file_and_any_name(text, name):
    """Whatever it says, every name that is asked for begins with the one that was given, and is not too long."""
    candidates = resolv.parse(text, "host").candidates(name)

    assert all(one.startswith(name) and one.endswith(".") for one in candidates)
    assert all(len(one) <= LONGEST_NAME for one in candidates if not name.endswith("."))
