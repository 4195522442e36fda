"""Snapshots: what was written comes back, and nothing else ever does."""

import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog import io_snapshot, snapshot
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.snapshot import SLICE, BadSnapshot, Orphan, Snapshot, decode, encode, pieces, snapshot_of
from pilotfish.catalog.store import Entry, Reading

PREFIX = "/pilotfish/v1/"
SMALL = Snapshot(
    cluster="c1",
    revision=7,
    taken=1_700_000_000.5,
    prefixes=(PREFIX,),
    entries=(
        Entry(f"{PREFIX}containers/h1/0a", b'{"format":1}', 3, 5, 9),
        Entry(f"{PREFIX}nodes/h1", b"\x00\xff", 3, 3, 9),
    ),
)

entries = st.builds(
    Entry,
    key=st.text(max_size=20).map(lambda text: PREFIX + text),
    value=st.binary(max_size=40),
    create_revision=st.integers(1, 2**62),
    mod_revision=st.integers(1, 2**62),
    lease=st.integers(0, 2**62),
)


def utf8(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


snapshots = st.builds(
    Snapshot,
    cluster=st.text(min_size=1, max_size=20).filter(utf8),
    revision=st.integers(1, 2**62),
    taken=st.floats(0, 1e12),
    prefixes=st.just((PREFIX,)),
    entries=st.lists(entries.filter(lambda one: utf8(one.key)), max_size=8, unique_by=lambda one: one.key).map(
        lambda found: tuple(sorted(found, key=lambda one: one.key))
    ),
    orphans=st.lists(
        st.builds(
            Orphan,
            entry=entries.filter(lambda one: utf8(one.key)),
            since=st.floats(0, 1e12),
            silent=st.lists(st.text(max_size=9).filter(utf8), max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)


@given(snapshots)
def test_what_was_encoded_comes_back(taken):
    assert taken == decode(encode(taken))


def test_pieces_are_small_and_make_the_whole():
    """Large snapshots are written in pieces of SLICE entries; together they are what is read."""
    entries = tuple(Entry(f"/p/{number:06}", b"v" * 10, 1, number + 1) for number in range(2 * SLICE + 1))
    taken = Snapshot("c1", 9, 1.0, ("/p/",), entries)
    made = list(pieces(taken))
    assert decode(b"".join(made)) == taken
    assert max(map(len, made)) < 60 * SLICE


def test_every_truncation_is_refused():
    data = encode(SMALL)
    for length in range(len(data)):
        with pytest.raises(BadSnapshot):
            decode(data[:length])


def test_every_single_bit_flip_is_refused():
    data = encode(SMALL)
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(BadSnapshot):
            decode(bytes(changed))


@given(st.data())
@settings(max_examples=300)
def test_any_change_is_refused(data):
    """Several octets replaced, cut or added anywhere: never read as another snapshot."""
    whole = encode(data.draw(snapshots))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:]
    if changed != whole:
        with pytest.raises(BadSnapshot):
            decode(changed)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(BadSnapshot):
        decode(data)


def rebuilt(body, *, magic=snapshot.MAGIC, number=snapshot.FORMAT):
    """Bytes whose length and checksum are right, whatever they hold."""
    head = snapshot._HEAD.pack(magic, number, len(body))
    return head + snapshot._digest(head, body) + body


def body_of(**changes: object):
    taken = {"cluster": "c1", "revision": 7, "taken": 1.0, "prefixes": ["/p/"], "rows": [["/p/a", b"", 1, 1, 0]]}
    return msgspec.msgpack.encode(list((taken | changes).values()))


FORGED = {
    "other magic": (rebuilt(body_of(), magic=b"registry"), "no snapshot of pilotfish"),
    "later format": (rebuilt(body_of(), number=2), "format 2"),
    "body is no msgpack": (rebuilt(b"\xc1"), "not of format 1"),
    "body is another type": (rebuilt(msgspec.msgpack.encode({"cluster": "c1"})), "not of format 1"),
    "row too short": (rebuilt(body_of(rows=[["/p/a", b""]])), "not of format 1"),
    "empty cluster": (rebuilt(body_of(cluster="")), "nothing was read yet"),
    "revision 0": (rebuilt(body_of(revision=0)), "nothing was read yet"),
    "time is not a number": (rebuilt(body_of(taken=float("nan"))), "no time"),
    "time before 1970": (rebuilt(body_of(taken=-1.0)), "no time"),
    "key twice": (rebuilt(body_of(rows=[["/p/a", b"", 1, 1, 0]] * 2)), "not sorted"),
    "key outside": (rebuilt(body_of(rows=[["/q/a", b"", 1, 1, 0]])), "outside its prefixes"),
    "octets behind the end": (encode(SMALL) + b"x", "holds"),
    "empty": (b"", "ends after 0 octets"),
}


@pytest.mark.parametrize(("data", "why"), FORGED.values(), ids=FORGED)
def test_refusals_say_why(data, why):
    with pytest.raises(BadSnapshot, match=why):
        decode(data)


def test_the_forged_bytes_are_good_but_for_what_was_forged():
    """The control of the table above: its helpers make a snapshot that is taken."""
    taken = Snapshot("c1", 7, 1.0, ("/p/",), (Entry("/p/a", b"", 1, 1, 0),))

    assert taken == decode(rebuilt(body_of()))


def test_a_mirror_starts_from_its_snapshot():
    before = Mirror(PREFIX)
    before.start(Reading("c1", 7, SMALL.entries))
    after = Mirror(PREFIX)

    after.start(decode(encode(snapshot_of([before], 1.0))).reading(PREFIX))

    assert (before.entries, before.cluster, before.revision) == (after.entries, after.cluster, after.revision)


def test_several_mirrors_share_a_snapshot():
    """The lowest revision is taken, and each prefix gets its own entries back."""
    ours, theirs = Mirror(PREFIX), Mirror("/skydns/")
    ours.start(Reading("c1", 9, SMALL.entries))
    theirs.start(Reading("c1", 8, (Entry("/skydns/a", b"x", 1, 8),)))

    taken = snapshot_of([ours, theirs], 1.0)

    assert taken.revision == 8
    assert taken.reading(PREFIX) == Reading("c1", 8, SMALL.entries)
    assert taken.reading("/skydns/") == Reading("c1", 8, (Entry("/skydns/a", b"x", 1, 8),))


def test_mirrors_of_two_stores_share_none():
    one, other = Mirror("/a/"), Mirror("/b/")
    one.start(Reading("c1", 9, ()))
    other.start(Reading("c2", 9, ()))

    with pytest.raises(BadSnapshot, match="not of one store"):
        snapshot_of([one, other], 1.0)


def test_an_empty_mirror_has_no_snapshot():
    with pytest.raises(BadSnapshot, match="nothing was read yet"):
        snapshot_of([Mirror(PREFIX)], 1.0)


def test_a_prefix_that_was_not_mirrored_is_not_read_from_a_snapshot():
    """Absence in a snapshot of something else must not be taken for absence in the store."""
    with pytest.raises(BadSnapshot, match="does not cover /skydns/"):
        SMALL.reading("/skydns/")


# The file.


def test_the_file_brings_it_back(tmp_path):
    path = tmp_path / "made" / "dns.snapshot"

    io_snapshot.save(path, SMALL)

    assert io_snapshot.load(path) == SMALL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(path.parent.iterdir())


def test_no_file_is_no_snapshot(tmp_path):
    assert io_snapshot.load(tmp_path / "absent") is None


def test_saving_replaces_and_sweeps_what_a_dead_writer_left(tmp_path):
    path = tmp_path / "dns.snapshot"
    io_snapshot.save(path, SMALL)
    (tmp_path / ".dns.snapshot.x1y2.new").write_bytes(b"half")
    (tmp_path / ".other.snapshot.x1y2.new").write_bytes(b"not ours")
    newer = msgspec.structs.replace(SMALL, revision=8)

    io_snapshot.save(path, newer)

    assert io_snapshot.load(path) == newer
    assert sorted(one.name for one in tmp_path.iterdir()) == [".other.snapshot.x1y2.new", "dns.snapshot"]


def test_a_failed_save_keeps_the_one_before(tmp_path):
    path = tmp_path / "dns.snapshot"
    io_snapshot.save(path, SMALL)
    unwritable = msgspec.structs.replace(SMALL, cluster="\ud800")  # cannot be written in UTF-8

    with pytest.raises(UnicodeEncodeError):
        io_snapshot.save(path, unwritable)

    assert io_snapshot.load(path) == SMALL
    assert [path] == list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_one_before():
    """Saving where nothing can be written says so."""
    with pytest.raises(OSError, match="/proc"):
        io_snapshot.save("/proc/pilotfish/dns.snapshot", SMALL)


def as_link(path):
    kept = path.with_name("kept")
    path.rename(kept)
    path.symlink_to(kept)


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


SPOILED = {
    "others may write": (lambda path: path.chmod(0o666), "others may write it"),
    "group may write": (lambda path: path.chmod(0o660), "others may write it"),
    "a link": (as_link, "cannot be opened"),
    "a folder": (as_folder, "no regular file"),
    "a pipe": (as_pipe, "no regular file"),
    "0 octets": (lambda path: path.write_bytes(b""), "ends after 0 octets"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "should hold"),
    "too large": (lambda path: os.truncate(path, 5000), "over the limit of 4096"),
}


@pytest.mark.parametrize(("spoil", "why"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path, spoil, why):
    path = tmp_path / "dns.snapshot"
    io_snapshot.save(path, SMALL)
    spoil(path)

    with pytest.raises(BadSnapshot, match=why) as caught:
        io_snapshot.load(path, max_bytes=4096)

    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    path = tmp_path / "dns.snapshot"
    io_snapshot.save(path, SMALL)
    os.chown(path, 12345, -1)

    with pytest.raises(BadSnapshot, match="belongs to user 12345"):
        io_snapshot.load(path)


def test_refusing_leaves_no_descriptor_open(tmp_path):
    path = tmp_path / "dns.snapshot"
    as_folder_at = tmp_path / "folder"
    as_folder_at.mkdir()
    path.write_bytes(b"junk")
    before = len(list(Path("/proc/self/fd").iterdir()))

    for refused in [path, as_folder_at] * 50:
        with pytest.raises(BadSnapshot):
            io_snapshot.load(refused)

    assert before == len(list(Path("/proc/self/fd").iterdir()))
