"""Only checked tokens reach a configuration, and no token can leave its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confgen.nginx import quote
from confgen.nginx.quote import KINDS, Token, Unprintable, finalize

PAYLOADS = {
    "semicolon": "a;b",
    "block": "a}\nserver{listen 1;}",
    "comment after newline": "a\n#",
    "double quote": '"',
    "single quote": "'",
    "backslash": "\\",
    "variable": "$request_uri",
    "braced variable": "${x}",
    "jinja expression": "{{7*7}}",
    "jinja block": "{% for %}",
    "hash": "#",
    "nul": "a\0b",
    "line separator": "a\u2028b",
    "long": "a" * 65536,
    "traversal": "../../etc/passwd",
    "command": "$(id)",
    "backticks": "`id`",
    "encoded newline": "%0a",
    "port and end": ":80;",
    "bracketed": "[::1",
    "unix socket": "unix:/tmp/x;",
    "regex host": "~^(a+)+$",
    "blank": "a b",
    "empty": "",
    "tab": "a\tb",
    "carriage return": "a\rb",
    "bidi": "a\u202eb",
}
MAKERS = {
    "host": quote.host,
    "path": quote.below,
    "exact path": quote.exactly,
    "upstream": quote.upstream,
    "label": quote.label,
    "digest": quote.digest,
    "file": quote.file,
    "account": quote.account,
    "address": lambda text: quote.address(text, 80),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_text_is_refused_by_every_kind(maker, payload):
    with pytest.raises(Unprintable):
        MAKERS[maker](PAYLOADS[payload])


GOOD = [
    ("host", quote.host("www.example.com"), "www.example.com"),
    ("wildcard", quote.host("*.example.com"), "*.example.com"),
    ("underscore in a host", quote.host("web.my_project.svc.internal"), "web.my_project.svc.internal"),
    ("whole path", quote.below("/"), "/"),
    ("exact path", quote.exactly("/api"), "= /api"),
    ("path with marks", quote.below("/a-b_c~d/(x)+,=:@&!*/"), "/a-b_c~d/(x)+,=:@&!*/"),
    ("IPv4", quote.address("10.0.0.1", 80), "10.0.0.1:80"),
    ("IPv6", quote.address("fd00:0::1", 8080), "[fd00::1]:8080"),
    ("zero", quote.number(0), "0"),
    ("whole seconds", quote.duration(3600), "3600s"),
    ("milliseconds", quote.duration(0.25), "250ms"),
    ("absolute file", quote.file("/var/lib/pilotfish/nginx"), "/var/lib/pilotfish/nginx"),
    ("relative file", quote.file("parts/a@+.b.conf"), "parts/a@+.b.conf"),
]


@pytest.mark.parametrize(("token", "text"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_value_prints_itself(token, text):
    assert finalize(token) == text


BAD = [
    ("unspecified address", lambda: quote.address("0.0.0.0", 80)),
    ("IPv6 zone", lambda: quote.address("fe80::1%eth0", 80)),
    ("port 0", lambda: quote.address("10.0.0.1", 0)),
    ("port 65536", lambda: quote.address("10.0.0.1", 65536)),
    ("negative number", lambda: quote.number(-1)),
    ("negative time", lambda: quote.duration(-1)),
    ("endless time", lambda: quote.duration(float("inf"))),
    ("dots in a file", lambda: quote.file("/srv/./x")),
    ("unknown kind", lambda: Token("anything", "a")),
    ("host by hand", lambda: Token("host", "a;b")),
]


@pytest.mark.parametrize("make", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_value_is_refused(make):
    with pytest.raises(Unprintable):
        make()


PRINTED = [("str", "a"), ("int", 80), ("None", None), ("list", ["a"]), ("bytes", b"a"), ("undefined", object())]


@pytest.mark.parametrize("value", [row[1] for row in PRINTED], ids=[row[0] for row in PRINTED])
def test_a_template_prints_nothing_but_tokens(value):
    with pytest.raises(Unprintable):
        finalize(value)


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.text() | st.from_regex(r"[a-z0-9./@_-]{1,20}.?"))
def test_whatever_becomes_a_token_stays_one_word_of_nginx(kind, text):
    try:
        token = Token(kind, text)
    except Unprintable:
        return
    inner = token.text.removeprefix("= ")
    assert not set(inner) & set(";{}$#\\\"'\n\r\t\0`")
    assert inner.isascii()
    assert inner.isprintable()
    assert " " not in inner
