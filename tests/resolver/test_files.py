"""The two files that others share with us: rewritten so that everything else stays, and put back octet for octet."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.resolver.docker import BadDaemonJson, merged, parsed
from pilotfish.resolver.plan import HEAD
from pilotfish.resolver.resolv_conf import rewritten
from pilotfish.resolver.service import Options
from tests.resolver.kit import OURS, folder, make, resolver, tree

SERVERS = ((OURS.ip, OURS.port),)
REWRITTEN = {
    "empty": ("", "nameserver 10.0.0.1\n"),
    "ours takes the place of the first": (
        "# mine\nnameserver 192.0.2.1\noptions ndots:2\nnameserver 192.0.2.2\n; end\n",
        "# mine\nnameserver 10.0.0.1\noptions ndots:2\n; end\n",
    ),
    "no name server": ("search a.example\n", "search a.example\nnameserver 10.0.0.1\n"),
    "no newline at its end": ("nameserver 192.0.2.1", "nameserver 10.0.0.1\n"),
    "blanks in front": (" \tnameserver 192.0.2.1\n", "nameserver 10.0.0.1\n"),
    "a comment that looks like one": ("#nameserver 192.0.2.1\n", "#nameserver 192.0.2.1\nnameserver 10.0.0.1\n"),
    "a form feed is no end of a line": ("# a\x0cnameserver 1\n", "# a\x0cnameserver 1\nnameserver 10.0.0.1\n"),
}


@pytest.mark.parametrize(("before", "after"), REWRITTEN.values(), ids=REWRITTEN)
def test_resolv_conf(before, after):
    """Our server, the other lines as they were, and a word on top about who wrote it."""
    assert rewritten(before, (OURS.ip,)) == HEAD + after


SEARCH = {
    "behind the list": ("search a.example b.example\n", "", "search a.example b.example svc.internal"),
    "domain becomes a list": ("domain a.example\n", "", "search a.example svc.internal"),
    "the last one counts": ("domain a.example\nsearch b.example\n", "", "search b.example svc.internal"),
    "the host's own domain goes on": ("", "a.example", "search a.example svc.internal"),
    "nothing before": ("", "", "search svc.internal"),
    "already there": ("search svc.internal a.example\n", "", "search svc.internal a.example"),
}


@pytest.mark.parametrize(("before", "own", "line"), SEARCH.values(), ids=SEARCH)
def test_search_list(before, own, line):
    """Short names of ours are tried after those that were tried before."""
    lines = rewritten(before, (OURS.ip,), ("svc.internal",), own).splitlines()

    assert [one for one in lines if one.startswith("search")][-1] == line


WORDS = st.sampled_from(
    ["nameserver", "search", "domain", "options", "sortlist", "#", ";", "192.0.2.1", "a.example", ""]
)
LINES = st.lists(WORDS, max_size=4).map(" ".join)
TEXTS = st.one_of(
    st.lists(LINES, max_size=8).map("\n".join).map(str.encode),
    st.binary(max_size=120),
)


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_resolv_conf_comes_back(data):
    """Install, install again, remove: whatever was in the file is in it again; in between only we are asked."""
    with folder() as place:
        root = make(place, {"/etc/resolv.conf": data})
        before = tree(root)
        options = Options(kinds=("resolv.conf",), servers=SERVERS)
        resolver(root).install(options)
        text = (root / "etc/resolv.conf").read_bytes()
        resolver(root).install(options)

        asked = [line.split() for line in text.split(b"\n")]
        assert [words[1:] for words in asked if words[:1] == [b"nameserver"]] == [[b"10.0.0.1"]]
        assert (root / "etc/resolv.conf").read_bytes() == text
        resolver(root).remove(Options())
        assert tree(root) == before


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(
    st.sampled_from(["dns", "dns-search", "debug", "log-opts", "ä"]) | st.text(max_size=6), VALUES
)


@given(SETTINGS, st.sampled_from([None, 2, 4, "\t"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_daemon_json_comes_back(found, indent, ascii_only):
    """Everything but dns is as it was, and after remove the file is, to the octet."""
    text = json.dumps(found, indent=indent, ensure_ascii=ascii_only)
    with folder() as place:
        root = make(place, {"/etc/docker/daemon.json": text.encode("utf-8", "surrogatepass")})
        before = tree(root)
        resolver(root).install(Options(kinds=("docker",), servers=SERVERS))
        after = json.loads((root / "etc/docker/daemon.json").read_bytes())

        assert after["dns"] == ["10.0.0.1"]
        assert {**after, "dns": 0} == {**json.loads(text), "dns": 0}
        resolver(root).remove(Options())
        assert tree(root) == before


@given(st.text(max_size=60))
def test_any_text_as_daemon_json(text):
    """Settings or BadDaemonJson, nothing else."""
    try:
        parsed(text)
    except BadDaemonJson:
        return
    assert parsed(merged(text, ["10.0.0.1"]))["dns"] == ["10.0.0.1"]


def test_deep_daemon_json():
    """A thousand brackets are an error, not the end of us."""
    with pytest.raises(BadDaemonJson):
        parsed("[" * 100_000)


def test_mode_owner_and_link_come_back(place):
    """A file that only root may read stays so while it is ours; a link is a link again."""
    root = make(place, {"/etc/docker/daemon.json": "{}", "/run/resolvconf/resolv.conf": "nameserver 192.0.2.1\n",
                        "/etc/resolv.conf": Path("/run/resolvconf/resolv.conf")})  # fmt: skip
    (root / "etc/docker/daemon.json").chmod(0o600)
    before = tree(root)
    resolver(root).install(Options(kinds=("docker", "resolv.conf"), servers=SERVERS))

    assert (root / "etc/docker/daemon.json").stat().st_mode & 0o777 == 0o600
    assert not (root / "etc/resolv.conf").is_symlink()
    assert (root / "run/resolvconf/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    resolver(root).remove(Options())
    assert tree(root) == before
