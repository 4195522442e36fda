"""Certificates: what they say, which files are pairs, which host gets which, and which pairs are good."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from confgen.nginx import io_certs, tls
from confgen.nginx.tls import Certificate, Certificates
from tests.confgen.tls_kit import NOW, weak

SOON = 10 * 86400.0


PAIRS = {
    "crt and key": (["a.crt", "a.key"], [("a", "a.crt", "a.key")], ()),
    "pem and key": (["a.pem", "a.key"], [("a", "a.pem", "a.key")], ()),
    "crt wins": (["a.pem", "a.crt", "a.key"], [("a", "a.crt", "a.key")], ()),
    "as certbot lays it": (
        ["a.test/fullchain.pem", "a.test/privkey.pem", "README"],
        [("a.test", "a.test/fullchain.pem", "a.test/privkey.pem")],
        (),
    ),
    "half of what certbot lays": (["a.test/fullchain.pem"], [], ("a.test/fullchain.pem",)),
    "a certificate without a key": (["a.crt"], [], ("a.crt",)),
    "parameters and chains": (["a.dhparam.pem", "a.chain.pem", "a.crt", "a.key"], [("a", "a.crt", "a.key")], ()),
    "no name": ([".crt", ".key"], [], ()),
}


@pytest.mark.parametrize(("files", "pairs", "lonely"), PAIRS.values(), ids=PAIRS)
def test_which_files_are_pairs(files, pairs, lonely):
    assert tls.pairs(files) == (tuple(pairs), lonely)


def cert(name, *hosts, since=0.0, until=SOON):
    return Certificate(name, hosts, since, until)


CHOICES = {
    "exact": ([cert("a", "a.test"), cert("w", "*.test", until=2 * SOON)], "a.test", "", "a"),
    "wildcard": ([cert("w", "*.a.test")], "x.a.test", "", "w"),
    "a wildcard covers one label": ([cert("w", "*.a.test")], "y.x.a.test", "", None),
    "a wildcard does not cover its own domain": ([cert("w", "*.a.test")], "a.test", "", None),
    "a wildcard route wants a wildcard": ([cert("a", "x.a.test"), cert("w", "*.a.test")], "*.a.test", "", "w"),
    "the longer validity": ([cert("a", "a.test"), cert("b", "a.test", until=2 * SOON)], "a.test", "", "b"),
    "valid now before longer": (
        [cert("a", "a.test"), cert("b", "a.test", since=SOON, until=9 * SOON)],
        "a.test",
        "",
        "a",
    ),
    "a wildcard that is valid before an exact one that has expired": (
        [cert("a", "a.test", until=1.0), cert("w", "*.test")],
        "a.test",
        "",
        "w",
    ),
    "expired, where there is no other": ([cert("a", "a.test", until=1.0)], "a.test", "", "a"),
    "by name": ([cert("a", "a.test"), cert("b", "a.test", until=1.0)], "a.test", "b", "b"),
    "by the name of a wildcard": ([cert("a", "a.b.test"), cert("b", "*.b.test")], "a.b.test", "b", "b"),
    "by the name of one that does not cover it": ([cert("a", "a.test"), cert("b", "b.test")], "a.test", "b", "a"),
    "a wildcard route, by the name of one below it": (
        [cert("a", "*.a.test"), cert("b", "b.a.test")],
        "*.a.test",
        "b",
        "a",
    ),
    "by a name that is not there": ([cert("a", "a.test")], "a.test", "b", "a"),
    "by a name that is not there, and no other covers it": ([cert("a", "b.test")], "a.test", "b", None),
    "nobody": ([], "a.test", "", None),
}


@pytest.mark.parametrize(("found", "host", "named", "chosen"), CHOICES.values(), ids=CHOICES)
def test_which_certificate_serves_a_host(found, host, named, chosen):
    for order in (found, found[::-1]):
        one = Certificates(order, 100.0).choose(host, named)
        assert (one.name if one else None) == chosen


@given(st.text(min_size=1, max_size=120).filter(lambda text: "/" not in text))
def test_any_file_name_becomes_one_that_nginx_can_read(name):
    files = Certificate(name, (), 0.0, 1.0).files
    assert files.chain.text.startswith("certs/")
    assert tls.is_secret(files.key.text)
    assert not tls.is_secret(files.chain.text)


def age(folder, seconds=10):
    """Make every file look as if nobody had written it just now."""
    for file in folder.rglob("*"):
        facts = file.stat()
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns - seconds * 10**9))


def encrypted(key):
    loaded = serialization.load_pem_private_key(key, None)
    locked = serialization.BestAvailableEncryption(b"secret")
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


BAD = {
    "no certificate": (lambda _, chain, key: (b"", key), "a.crt: no certificate is in it"),
    "half a certificate": (lambda _, chain, key: (chain[:300], key), "a.crt: its certificate is cut short"),
    "half a chain": (
        lambda _, chain, key: (chain[: len(chain) * 3 // 4], key),
        "a.crt, a.key: OpenSSL says bad end line",
    ),
    "another's key": (
        lambda one, chain, key: (chain, one.pair("b.test")[1]),
        "a.crt, a.key: the key is not that of the certificate",
    ),
    "no key": (lambda _, chain, key: (chain, b"x"), "a.key: no key is in it"),
    "half a key": (lambda _, chain, key: (chain, key[:100]), "a.crt, a.key: OpenSSL says "),
    "a key with a password": (
        lambda _, chain, key: (chain, encrypted(key)),
        "a.key: it is encrypted; nginx reads only keys without a password",
    ),
    "a key that is too short": (lambda *_: weak("a.test"), "a.crt, a.key: the key is too short to be safe"),
    "no DER": (
        lambda _, chain, key: (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key),
        "a.crt: its certificate is not built as RFC 5280 says",
    ),
    "too large": (lambda _, chain, key: (chain + b"\n" * io_certs.MAX_FILE, key), "a.crt: 26"),
}


@pytest.mark.parametrize(("spoil", "problem"), BAD.values(), ids=BAD)
def test_a_bad_pair_is_named_and_the_last_good_one_kept(tmp_path, authority, spoil, problem):
    chain, key = authority.pair("a.test")
    (tmp_path / "a.crt").write_bytes(spoil(authority, chain, key)[0])
    (tmp_path / "a.key").write_bytes(spoil(authority, chain, key)[1])
    folder, now = io_certs.Folder(tmp_path), NOW.timestamp()
    scan = folder.look(now, settled_s=0.0)
    assert scan.pairs == {}
    assert scan.problems["a"].startswith(problem)
    assert scan.problems["a"].endswith("; it is not served")
    (tmp_path / "a.crt").write_bytes(chain)
    (tmp_path / "a.key").write_bytes(key)
    scan = folder.look(now, settled_s=0.0)
    assert (scan.pairs["a"].chain, scan.problems) == (chain, {})
    (tmp_path / "a.crt").write_bytes(spoil(authority, chain, key)[0])
    (tmp_path / "a.key").write_bytes(spoil(authority, chain, key)[1])
    scan = folder.look(now, settled_s=0.0)
    assert (scan.pairs["a"].chain, scan.pairs["a"].key) == (chain, key)
    assert scan.problems["a"].startswith(problem)
    assert scan.problems["a"].endswith("; the last good pair is served")


def test_a_change_counts_once_it_is_a_second_old(tmp_path, authority):
    before = authority.write(tmp_path, "a.test")
    folder = io_certs.Folder(tmp_path)
    folder.look(NOW.timestamp(), settled_s=0.0)
    after = authority.write(tmp_path, "a.test")
    written = (tmp_path / "a.test.crt").stat().st_mtime
    assert folder.look(written + 0.5).pairs["a.test"].chain == before
    assert folder.look(written + 1.5).pairs["a.test"].chain == after


def test_files_that_vanish_are_missed_for_a_minute_before_they_are_believed_gone(tmp_path, authority):
    authority.write(tmp_path, "a.test")
    folder, now = io_certs.Folder(tmp_path), NOW.timestamp()
    folder.look(now, settled_s=0.0)
    (tmp_path / "a.test.key").unlink()
    scan = folder.look(now + 5)
    assert "a.test" in scan.pairs
    assert scan.problems == {
        "a.test": "its files are gone; it is served for 60 s more",
        "a.test.crt": "no key lies beside it",
    }
    assert folder.look(now + 66).pairs == {}


def test_what_has_expired_or_not_begun_is_said(tmp_path, authority):
    authority.write(tmp_path, "old", days=-1, since=-9)
    authority.write(tmp_path, "young", days=9, since=5)
    scan = io_certs.Folder(tmp_path).look(NOW.timestamp(), settled_s=0.0)
    assert scan.problems == {"old": "its certificate has expired", "young": "its certificate is not valid yet"}
    assert scan.pairs.keys() == {"old", "young"}


def test_links_as_certbot_makes_them_are_followed(tmp_path, authority):
    chain, key = authority.pair("a.test")
    archive, live = tmp_path / "archive", tmp_path / "live" / "a.test"
    archive.mkdir()
    live.mkdir(parents=True)
    for name, content in (("fullchain1.pem", chain), ("privkey1.pem", key)):
        (archive / name).write_bytes(content)
        (live / name.replace("1", "")).symlink_to(archive / name)
    folder = io_certs.Folder(tmp_path / "live")
    assert folder.look(NOW.timestamp(), settled_s=0.0).pairs["a.test"].chain == chain
    renewed, new_key = authority.pair("a.test")
    for name, content in (("fullchain2.pem", renewed), ("privkey2.pem", new_key)):
        (archive / name).write_bytes(content)
        (live / "next").symlink_to(archive / name)
        (live / "next").replace(live / name.replace("2", ""))
    age(archive)
    assert folder.look(NOW.timestamp() + 60).pairs["a.test"].chain == renewed


@contextlib.contextmanager
def as_nobody():
    """As a process that may not read everything, whoever runs the tests."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_what_cannot_be_looked_at_keeps_nothing_else_from_being_read(folder, authority):
    certs = folder.parent / "certs"
    chain = authority.write(certs, "a.test")
    (certs / "loop.crt").symlink_to("loop.crt")
    (certs / "loop.key").write_text("", encoding="utf-8")
    closed = certs / "b.test"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    (certs / "c.test").symlink_to(closed / "c.test")
    read = io_certs.Folder(certs)
    try:
        with as_nobody():
            scan = read.look(NOW.timestamp(), settled_s=0.0)
    finally:
        closed.chmod(0o700)
    assert {name: one.chain for name, one in scan.pairs.items()} == {"a.test": chain}
    assert {name: problem.rpartition(": ")[2] for name, problem in scan.problems.items()} == {
        "loop": "Too many levels of symbolic links; it is not served",
        "b.test": "Permission denied; it is not served",
        "c.test": "Permission denied; it is not served",
    }


def test_what_openssl_reads_is_what_was_read(tmp_path, authority, monkeypatch):
    """The pair is checked from memory: a file that changes meanwhile changes nothing, and no key goes to disk."""
    authority.write(tmp_path, "a.test")
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def spy(self, *files, **more):
        seen.extend(str(Path(file).readlink()) for file in files)
        (tmp_path / "a.test.key").write_bytes(b"meanwhile")
        return load(self, *files, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    scan = io_certs.Folder(tmp_path).look(NOW.timestamp(), settled_s=0.0)
    assert scan.pairs["a.test"].key != b"meanwhile"
    assert len(seen) == 2
    assert all(place.startswith("/memfd:") for place in seen)


def test_a_name_that_cannot_be_shown_is_left_out_by_its_quoted_name(tmp_path, authority):
    """Undecodable octets would break every page and metric that holds them."""
    authority.write(tmp_path, "a.test")
    for suffix in (b".crt", b".key"):
        (tmp_path / os.fsdecode(b"\xff\n" + suffix)).write_bytes(b"")
    scan = io_certs.Folder(tmp_path).look(NOW.timestamp(), settled_s=0.0)
    assert scan.pairs.keys() == {"a.test"}
    assert set(scan.problems) == {"'\\udcff\\n.crt'", "'\\udcff\\n.key'"}
    json.dumps(dict(scan.problems)).encode()


def test_a_former_generation_is_taken_for_good_while_the_folder_is_away(tmp_path, authority):
    generation = tmp_path / "generation" / "certs"
    generation.mkdir(parents=True)
    chain, key = authority.pair("a.test")
    for stem in ("a.test", "gone"):
        (generation / f"{stem}.pem").write_bytes(chain)
        (generation / f"{stem}.key").write_bytes(key)
    away = io_certs.Folder(tmp_path / "away")
    away.inherit(tmp_path / "generation")
    scan = away.look(NOW.timestamp(), settled_s=0.0)
    assert scan.pairs.keys() == {"a.test", "gone"}
    assert "No such file or directory; what was read before is kept" in scan.problems[""]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.test.crt").write_bytes(b"half")
    (tmp_path / "there" / "a.test.key").write_bytes(key)
    there = io_certs.Folder(tmp_path / "there")  # what is not there any more was taken away while we did not run
    there.inherit(tmp_path / "generation")
    assert there.look(NOW.timestamp(), settled_s=0.0).pairs.keys() == {"a.test"}


def test_the_longest_list_is_bounded(tmp_path, authority, monkeypatch):
    monkeypatch.setattr(io_certs, "MAX_PAIRS", 2)
    for name in ("a.test", "b.test", "c.test"):
        authority.write(tmp_path, name)
    scan = io_certs.Folder(tmp_path).look(NOW.timestamp(), settled_s=0.0)
    assert scan.pairs.keys() == {"a.test", "b.test"}
    assert scan.problems[""].endswith("3 pairs, 2 at most; the others are left out")
