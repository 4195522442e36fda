"""`pilotfish history`, `show`, `diff`, `rollback` and `accept`: what they print, and what they do to a generator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from confgen.applying import history as confgen_history
from confgen.applying.history import MOST_NAMES, Note, Pin, decode_note, decode_pin, encode
from confgen.applying.io_history import History
from lab.tools import Tools
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.history import Past, UnknownGeneration, changed, compared, difference, plain, table, told
from pilotfish.io_past import Books
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, kill_nginx, put, until

A, B, C = "a" * 32, "ab" * 16, "c0" * 16
NOTES = {
    A: Note(1, A, B, 60.0, 12, "the store at revision 12", changed=("web",), counts=(0, 1, 0)),
    B: Note(1, B, "", 0.0, 7, "the store at revision 7", added=("web",), counts=(1, 0, 0), main=True),
}
PAST = Past((A, B, C), NOTES, A, A, Pin(1, A, 90.0))
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTFISH_", "ETCD", "DOCKER"))}
WEB = f"web.{DOMAIN}"


def test_table():
    assert table(PAST).splitlines() == [
        "GENERATION      APPLIED               REVISION  CHANGED          WHY",
        "* aaaaaaaaaaaa  1970-01-01T00:01:00Z  12        ~web             pinned; the store at revision 12",
        "  abababababab  1970-01-01T00:00:00Z  7         +web, main file  the store at revision 7",
        "  c0c0c0c0c0c0  -                     -         -                not remembered",
    ]


def test_json_has_all_of_it():
    found = json.loads(json.dumps(plain(PAST)))
    assert (found["current"], found["pinned"]["generation"]) == (A, A)
    assert [one["generation"] for one in found["generations"]] == [A, B, C]
    assert found["generations"][1]["added"] == ["web"]


def test_a_generation_that_is_removed_while_the_folder_is_read_hides_no_other(tmp_path):
    """Until it is looked at it is a name only, as a link that leads nowhere."""
    (tmp_path / "generations" / A).mkdir(parents=True)
    (tmp_path / "generations" / B).symlink_to(tmp_path / "gone")

    assert History(tmp_path).generations() == [A]


NAMED = [("aaaa", A), ("abab", B), ("C0C0", C), ("current", A), ("previous", B), (B, B)]
UNNAMED = ["a", "aba", "ffff", "", "../a", "nothing"]


@pytest.mark.parametrize(("name", "generation"), NAMED)
def test_a_generation_is_named_by_its_beginning(name, generation):
    assert PAST.named(name) == generation


@pytest.mark.parametrize("name", UNNAMED)
def test_what_names_none_or_several_is_refused_with_what_there_is(name):
    with pytest.raises(UnknownGeneration, match=r"names no generations: there are aaaaaaaaaaaa, abababababab"):
        PAST.named(name)


def test_the_second_of_two_is_what_nginx_reads_unless_it_is_named():
    assert compared(PAST, ["abab"]) == (B, A)
    assert compared(PAST, ["aaaa", "c0c0"]) == (A, C)


def test_all_that_is_known_of_one_is_told():
    said = told(PAST, A, {"nginx.conf": b"12345"})
    for part in (
        A,
        "nginx reads it",
        "pinned since 1970",
        "revision     12",
        "changed      web",
        "       5  nginx.conf",
    ):
        assert part in said


def test_a_difference_is_a_patch():
    before = {"nginx.conf": b"one\ntwo\n", "services/a.conf": b"a\n", "same": b"x"}
    after = {"nginx.conf": b"one\nthree\n", "services/b.conf": b"b\n", "same": b"x"}
    assert list(difference(before, after)) == [
        "--- a/nginx.conf", "+++ b/nginx.conf", "@@ -1,2 +1,2 @@", " one", "-two", "+three",
        "--- a/services/a.conf", "+++ /dev/null", "@@ -1 +0,0 @@", "-a",
        "--- /dev/null", "+++ b/services/b.conf", "@@ -0,0 +1 @@", "+b",
    ]  # fmt: skip


def test_no_private_key_is_shown_and_that_one_changed_is_seen(tmp_path):
    for generation, key in ((A, b"secret one"), (B, b"secret two")):
        certs = tmp_path / "generations" / generation / "certs"
        certs.mkdir(parents=True)
        (certs / "web.key").write_bytes(key)
        (certs / "web.pem").write_bytes(b"public")
    books = Books(tmp_path)
    one, two = books.files(A), books.files(B)
    assert one["certs/web.pem"] == b"public"
    assert b"secret" not in b"".join([*one.values(), *two.values()])
    assert [line[0] for line in difference(one, two)] == list("-+@-+")


def test_a_note_is_bounded_and_still_counts():
    files = {f"services/s{number:04}.conf": b"" for number in range(MOST_NAMES + 5)}
    found = confgen_history.note(
        confgen_history.difference({}, files),
        generation=A, before="", at=1.0, revision=1, reason="", quarantined=(),
    )  # fmt: skip
    assert (len(found.added), found.counts) == (MOST_NAMES, (MOST_NAMES + 5, 0, 0))
    assert changed(found) == f"+s0000 +s0001 +s0002 +s0003 and {MOST_NAMES + 1} more"
    assert decode_note(encode(found)) == found


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format":2}', b"\xff", encode(NOTES[A]).replace(b": 1,", b": 2,", 1)])
def test_a_note_that_cannot_be_read_is_none(text):
    assert decode_note(text) is None


@pytest.mark.parametrize("generation", ["", "../../etc", "A" * 32, "x"])
def test_a_pin_names_a_generation_or_is_none(generation):
    assert decode_pin(encode(Pin(1, generation, 1.0))) is None


def test_a_pin_ends_when_it_was_told_to():
    assert Pin(1, A, 0.0).holds(1e12)
    assert Pin(1, A, 0.0, 10.0).holds(9.9)
    assert not Pin(1, A, 0.0, 10.0).holds(10.0)


# On a running generator.


@pytest.fixture(scope="module")
def nginx():
    return Tools(["lab"]).find("nginx")


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="pf-"))
    path.chmod(0o755)
    yield path / "nginx"
    kill_nginx(path / "nginx")
    shutil.rmtree(path)


async def pilotfish(*arguments):
    """Run the command line to its end: exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilotfish", *arguments, env=CLEAN,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


def web(port, **more):
    return put(container("web", endpoint("web", to=port, **more)))


async def past(folder):
    code, said = await pilotfish("history", "--json", "--nginx-dir", str(folder))
    assert code == 0, said
    return json.loads(said)


async def test_a_rollback_holds_until_it_is_accepted_also_over_a_restart(nginx, folder):
    where = ("--nginx-dir", str(folder))
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one, Backend("two") as two:
        async with Running(folder, nginx, store=store, nginx_on_exit="keep") as running:
            await running.settle(web(one.port), claim("web", WEB))
            first, revision = running.state["generation"], running.state["revision"]
            await running.settle(web(two.port))
            second = running.state["generation"]
            notes = (await past(folder))["generations"]
            assert [one["generation"] for one in notes] == [second, first]
            assert (notes[0]["changed"], notes[0]["before"], notes[1]["added"]) == (["web"], first, ["web"])
            assert notes[0]["reason"] == f"the store at revision {running.state['revision']}"
            assert abs(notes[0]["at"] - time.time()) < 60

            code, said = await pilotfish("rollback", *where)
            assert (code, said) == (0, f"{first[:12]} is served, and stays until `pilotfish accept`\n")
            assert (await get(running.port, WEB)).body == "one GET /"
            await until(lambda: running.state["pinned"], "it is shown")
            assert first in running.telemetry.ready.missing["pinned"]
            assert running.state["revision"] == revision  # whoever waits for a later one, waits
            await running.write(web(two.port, weight=7))
            await running.write(web(two.port, weight=8))
        async with Running(folder, nginx, store=store, port=running.port) as again:
            await until(lambda: again.state["serving"] and again.state["pinned"], "still pinned")
            assert (await get(again.port, WEB)).body == "one GET /"
            code, said = await pilotfish("accept", *where)
            assert (code, said) == (0, "let go: what the store says is applied again\n")
            text = folder / "current" / "services" / "web.conf"
            await until(lambda: "weight=8 " in text.read_text() and not again.telemetry.ready.missing, "let go")
            assert again.state["pinned"] is None
            assert (await get(again.port, WEB)).body == "two GET /"
            assert (await past(folder))["generations"][0]["reason"].endswith(", which an operator accepted")
    await store.close()


async def test_everything_is_read_when_no_generator_runs_and_a_pin_waits_for_one(nginx, folder):
    where = ("--nginx-dir", str(folder))
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one, Backend("two") as two:
        async with Running(folder, nginx, store=store, nginx_on_exit="keep") as running:
            await running.settle(web(one.port), claim("web", WEB))
            first = running.state["generation"]
            await running.settle(web(two.port))
        before = sorted(str(path) for path in folder.rglob("*"))
        rows = [
            (("history",), 0, f"* {(folder / 'current').readlink().name[:12]}"),
            (("show", "previous"), 0, "services/web.conf"),
            (("show", "previous", "services/web.conf"), 0, f"server 127.0.0.1:{one.port} "),
            (("show", "previous", "nothing"), 1, "has no 'nothing'"),
            (("show", "ffff"), 1, "'ffff' names no generations: there are "),
            (("diff", first[:8]), 0, f"+    server 127.0.0.1:{two.port} "),
            (("diff", "current", "previous", "current"), 2, "give one generation, or two"),
            (("rollback", "--for", "soon"), 2, "--for: 'soon' is no duration"),
            (("accept",), 0, "nothing was pinned"),
        ]
        for arguments, expected, part in rows:
            code, said = await pilotfish(*arguments, *where)
            assert (code, part in said) == (expected, True), (arguments, said)
        assert sorted(str(path) for path in folder.rglob("*")) == before
        code, said = await pilotfish("rollback", "--timeout", "100ms", *where)
        assert (code, "does confgen run in this folder" in said) == (1, True)
        async with Running(folder, nginx, store=store, port=running.port) as again:
            await until(lambda: again.state["generation"] == first, "taken at its start")
            assert (await get(again.port, WEB)).body == "one GET /"
    await store.close()


async def test_a_pin_ends_by_itself_and_what_is_pinned_is_never_removed(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx, keep=1) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first = running.state["generation"]
        await running.settle(web(one.port, weight=2))
        code, said = await pilotfish("rollback", "--for", "2s", "--nginx-dir", str(folder))
        assert code == 0, said
        await running.write(web(one.port, weight=3))
        assert running.state["generation"] == first
        await until(lambda: "weight=3 " in (folder / "current" / "services" / "web.conf").read_text(), "it is over")
        await until(lambda: not running.telemetry.ready.missing, "ready")
        assert not (folder / "pin.json").exists()


async def test_a_pinned_generation_that_cannot_be_used_is_reported_and_what_serves_goes_on(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first = running.state["generation"]
        await running.settle(web(one.port, weight=2))
        second = running.state["generation"]
        (folder / "generations" / first / "services" / "web.conf").write_text("server { listen 1; }")
        History(folder).hold(Pin(1, first, time.time()))
        error = await until(lambda: running.state["nginx"]["error"], "it is reported")
        assert error["message"].startswith(f"generation {first} is pinned: ")
        assert (folder / "current").readlink().name == second
        assert (await get(running.port, WEB)).body == "one GET /"
        History(folder).let_go()
        await until(lambda: not running.telemetry.ready.missing, "all well again")
