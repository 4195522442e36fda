"""What templates call, beside Go's own answers; and the same functions from Jinja2."""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
import time
from pathlib import Path

import dnslib
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from confgen.resources import functions, gopath, io_lookups
from confgen.resources.gotime import Moment
from confgen.resources.io_lookups import Lookups
from confgen.resources.keyspace import Keyspace
from confgen.resources.languages import BadTemplate, compiled
from tests.confgen.confd_kit import ENVIRON, render

GO = json.loads((Path(__file__).parent / "go_answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("pattern", "name", "expected"), GO["globs"])
def test_globs(pattern, name, expected):
    """A glob matches what path.Match matches, and is refused where that refuses it."""
    if expected == "bad":
        with pytest.raises(gopath.BadPattern):
            gopath.matcher(pattern)
    else:
        assert gopath.matcher(pattern)(name) is expected


@pytest.mark.parametrize(("path", "clean", "base", "directory"), GO["paths"])
def test_paths(path, clean, base, directory):
    assert (gopath.clean(path), gopath.base(path), gopath.directory(path)) == (clean, base, directory)


@given(st.text(alphabet="ab/*?[]^-\\ä", max_size=12), st.text(alphabet="ab/-ä", max_size=8))
def test_any_glob(pattern, name):
    """Any text is a glob or is refused; what matches begins with the literal beginning."""
    try:
        matches = gopath.matcher(pattern)
    except gopath.BadPattern:
        return
    assert not matches(name) or name.startswith(gopath.literal(pattern))


KEYS = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "ab", "c d", ".", "é"]), min_size=1, max_size=4).map("/".join).map("/".__add__),
    st.text(max_size=3),
    max_size=12,
)  # fmt: skip


@given(KEYS, st.text(alphabet="ab/*?[]", max_size=6).map("/".__add__))
def test_look_ups_by_prefix_find_what_a_walk_over_all_finds(values, pattern):
    """The index changes nothing: everything that matches is found, in order."""
    try:
        matches = gopath.matcher(pattern)
    except gopath.BadPattern:
        return
    keys = Keyspace(values)

    assert [pair.fields["Key"] for pair in keys.gets(pattern)] == sorted(filter(matches, values))
    assert list(keys.getvs(pattern)) == sorted(values[key] for key in values if matches(key))


@given(KEYS, st.text(alphabet="ab/.", max_size=6))
def test_directories_are_among_the_names(values, path):
    """What `lsdir` shows of a clean path among clean keys, `ls` shows too."""
    assume(all(gopath.clean(key) == key for key in values))
    keys = Keyspace(values)
    clean = gopath.clean("/" + path)

    assert clean == "/" or set(keys.lsdir(clean)) <= set(keys.ls(clean))


@pytest.mark.parametrize(("ns", "zone", "offset", "layout", "expected"), GO["times"])
def test_times(ns, zone, offset, layout, expected):
    """A moment prints as Go's time.Time does."""
    shown = Moment(ns, dt.timezone(dt.timedelta(seconds=offset), zone))

    assert (shown.format(layout) if layout else str(shown)) == expected


TIMES = [
    ("printed", "{{datetime}}", "1970-01-01 00:00:00 +0000 UTC"),
    ("with a layout", '{{datetime.UTC.Format "Jan 2, 2006 at 3:04pm (MST)"}}', "Jan 1, 1970 at 12:00am (UTC)"),
    ("in parentheses", '{{(datetime).UTC.Format "2006"}}', "1970"),
    ("from a variable", '{{$t := datetime}}{{$t.UTC.Format "06"}} {{$t.Year}}', "70 1970"),
    ("piped", '{{"2006" | datetime.UTC.Format}}', "1970"),
    ("number", "{{datetime.Unix}} {{datetime.UTC.Month}} {{datetime.UTC.Weekday}}", "0 January Thursday"),
    ("as a field", "{{.t.UTC.Year}}", None),
    ("no such method", "{{datetime.Nope}}", None),
    ("too many arguments", '{{datetime.Format "a" "b"}}', None),
    ("a number as layout", "{{datetime.Format 1}}", None),
]


@pytest.mark.parametrize(("template", "expected"), [row[1:] for row in TIMES], ids=[row[0] for row in TIMES])
def test_datetime(monkeypatch, template, expected):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    if expected is None and ".t." not in template:
        with pytest.raises(BadTemplate):
            render(template, {})
    elif expected is not None:
        assert render(template, {}) == expected


def test_octets_that_are_no_text_pass_through():
    """A value may hold any octets; they come out as they went in, also by way of base64."""
    value = b"\xff\xfe".decode("utf-8", "surrogateescape")

    written = render('{{getv "/b"}}{{base64Decode "//4="}}{{base64Encode (getv "/b")}}', {"/b": value})

    assert written.encode("utf-8", "surrogateescape") == b"\xff\xfe\xff\xfe//4="


JINJA = [
    ("getv", "{{ getv('/a') }}", "1"),
    ("default", "{{ getv('/x', 'd') }}", "d"),
    ("pairs", "{% for pair in gets('/d/*') %}{{ pair.Key }}={{ pair.Value }};{% endfor %}", "/d/x=2;/d/y=3;"),
    ("strings", "{{ join(getvs('/d/*'), ',') }}", "2,3"),
    ("json", "{{ json('{\"a\": [1, 2]}').a[1] }}", "2.0"),
    ("condition", "{% if exists('/a') %}yes{% endif %}", "yes"),
    ("trailing newline", "x\n", "x\n"),
    ("time", "{{ datetime().UTC().Format('2006') }}", "1970"),
    ("environment", "{{ getenv('HOSTNAME') }}", "localhost"),
]


def _jinja(text):
    values = {"/a": "1", "/d/x": "2", "/d/y": "3"}
    bound = functions.functions(Keyspace(values), Lookups(ENVIRON, 0).world)
    return compiled("t.j2", text).render(bound, {"name": "web", "key": "/d/web"})


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in JINJA], ids=[row[0] for row in JINJA])
def test_jinja(text, expected):
    assert _jinja(text) == expected


def test_jinja_knows_the_item():
    assert _jinja("{{ name }} {{ key }}") == "web /d/web"


JINJA_REFUSED = [
    ("undefined name", "a\n{{ nope }}", "template t.j2, line 2: 'nope' is undefined"),
    ("undefined attribute", "{{ gets('/d/*')[0].Nope }}", "line 1"),
    ("missing key", "\n\n{{ getv('/nope') }}", "template t.j2, line 3: key does not exist: /nope"),
    ("wrong type", "{{ toUpper(1) }}", "expected string; got int"),
    ("no template", "a\n{% if %}", "template t.j2, line 2: "),
    ("a way out", "{{ getv.__globals__ }}", "line 1"),
    ("division", "{{ div(1, 0) }}", "divide by zero"),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in JINJA_REFUSED], ids=[row[0] for row in JINJA_REFUSED])
def test_jinja_refuses(text, said):
    """What is wrong is named with file and line."""
    with pytest.raises(BadTemplate) as caught:
        _jinja(text)

    assert said in str(caught.value)


def _answering(records, monkeypatch, tmp_path, *, only="", questions=1):
    """A name server that gives these SRV records, on a port of its own; with `only`, at this name alone."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)

    def serve():
        for _ in range(questions):
            message, peer = server.recvfrom(4096)
            asked = dnslib.DNSRecord.parse(message)
            answer = asked.reply()
            for text in records if only in {"", str(asked.q.qname)} else []:
                answer.add_answer(*dnslib.RR.fromZone(f"{asked.q.qname} 5 IN SRV {text}"))
            server.sendto(answer.pack(), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    monkeypatch.setattr(io_lookups, "DNS_PORT", server.getsockname()[1])
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    return server, thread


def test_srv_records_come_sorted(monkeypatch, tmp_path):
    """However the server turns them round, they come out in one order."""
    server, thread = _answering(["10 5 80 b.test.", "10 5 80 a.test."], monkeypatch, tmp_path)
    world = Lookups({}, 0, tmp_path / "resolv.conf").world
    text = '{{range lookupSRV "mail" "tcp" "example.test"}}{{.Target}} {{.Port}} {{.Priority}} {{.Weight}};{{end}}'

    written = compiled("t.tmpl", text).render(functions.functions(Keyspace({}), world), {})
    thread.join()
    server.close()

    assert written == "a.test. 80 10 5;b.test. 80 10 5;"


def test_srv_records_are_searched(monkeypatch, tmp_path):
    """As confd does: a name that has none is looked for in the domains of resolv.conf."""
    whole = "_http._tcp.web.b.test."
    server, thread = _answering(["0 0 80 a."], monkeypatch, tmp_path, only=whole, questions=3)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch a.test b.test\n")
    found = Lookups({}, 0, tmp_path / "resolv.conf").lookup_srv("http", "tcp", "web")
    thread.join()
    server.close()

    assert [str(one.fields["Target"]) for one in found] == ["a."]


def test_an_ipv4_address_in_ipv6_is_the_ipv4_address():
    assert io_lookups.lookup_ip("::ffff:192.0.2.1") == ["192.0.2.1"]


def test_srv_records_that_nobody_gives(tmp_path):
    """Without a name server there is an empty list, as in confd."""
    assert Lookups({}, 0, tmp_path / "nothing").lookup_srv("a", "tcp", "b.test") == []


def test_an_interface():
    assert io_lookups.interface_ipv4("lo") == "127.0.0.1"
    assert (io_lookups.interface_ipv4("nope"), io_lookups.interface_ipv6("nope")) == ("", "")
