"""The query log: one line of valid JSON for whatever came, a bounded number of them, and nothing that waits for it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver import querylog
from dnsserver.io_querylog import QueryLog
from dnsserver.message.frames import framed
from dnsserver.querylog import Noted, left_out, line
from pilotfish.catalog.failure import CannotStart
from tests.dnsserver.kit import container, endpoint, lan, question
from tests.parts.fake_upstream import FakeUpstream, good

LOG = logging.getLogger("pilotfish.dns.test")
CLIENT = bytes((192, 0, 2, 1))
MESSAGE = question("web.svc.internal.")
REPLY = dns.message.make_response(dns.message.from_wire(MESSAGE)).to_wire()
DEADLINE_S = 20.0


def noted(message: bytes = MESSAGE, reply: bytes | None = REPLY, **fields: object) -> Noted:
    return Noted(1_700_000_000.25, CLIENT, "udp", message, reply)._replace(**fields)


def said(one: Noted) -> dict:
    written = line(one)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert written.isascii()
    return json.loads(written)


def test_a_line():
    """All that is known of one question, its client and its answer."""
    query = dns.message.make_query("web.svc.internal.", "SRV", id=7, use_edns=0, payload=1400, want_dnssec=True)
    reply = dns.message.make_response(query, recursion_available=True)
    octets = query.to_wire()

    assert said(noted(octets, reply.to_wire(), transport="tcp")) == {
        "time": 1_700_000_000.25,
        "client": "192.0.2.1",
        "transport": "tcp",
        "octets": len(octets),
        "id": 7,
        "flags": "rd",
        "name": "web.svc.internal.",
        "type": "SRV",
        "edns": 0,
        "size": 1400,
        "do": True,
        "rcode": "NOERROR",
        "answer_flags": "ra",
        "answers": 0,
        "answer_octets": len(reply.to_wire()),
    }


HEADER = MESSAGE[:12]
OPT = b"\0\0\x29\x04\xd0\0\0\0\0"  # an OPT record up to the length of its options
COOKIE_ONLY = MESSAGE[:4] + bytes(7) + b"\1" + OPT + b"\0\x0c\0\x0a\0\x08abcdefgh"  # RFC 7873 §5.4
IN_A = b"\x00\x01\x00\x01"
SHOWN = {
    "no reply": (noted(reply=None), {"rcode": None}),
    "IPv6": (noted(client=bytes(15) + b"\x01"), {"client": "::1"}),
    "IPv4 in IPv6": (noted(client=bytes(10) + b"\xff\xff" + CLIENT), {"client": "192.0.2.1"}),
    "a type without a name": (noted(question("a.svc.internal.", "TYPE666")), {"type": "TYPE666"}),
    "another class": (noted(MESSAGE[:-1] + b"\x03"), {"class": 3}),
    "an opcode": (noted(b"\0\0\x28\0" + MESSAGE[4:]), {"opcode": 5}),
    "no header": (noted(b"xyz"), {"octets": 3, "rcode": "NOERROR"}),
    "no question": (noted(COOKIE_ONLY), {"octets": len(COOKIE_ONLY), "edns": 0, "size": 1232, "rcode": "NOERROR"}),
    "malformed": (noted(HEADER), {"malformed": "a name is cut short"}),
    "the root": (noted(HEADER + b"\0" + IN_A), {"name": "."}),
    "a newline": (noted(HEADER + b"\x03a\nb\0" + IN_A), {"name": "a\\010b."}),
    "a quote and a backslash": (noted(HEADER + b'\x03"\\.\0' + IN_A), {"name": '\\"\\\\\\..'}),
    "an escape for terminals": (noted(HEADER + b"\x03\x1b[m\0" + IN_A), {"name": "\\027[m."}),
    "NUL and high octets": (noted(HEADER + b"\x03\x00\x80\xff\0" + IN_A), {"name": "\\000\\128\\255."}),
    "a code without a name": (noted(reply=REPLY[:3] + b"\x0b" + REPLY[4:]), {"rcode": "RCODE11"}),
    "BADVERS": (
        noted(MESSAGE[:11] + b"\x01" + MESSAGE[12:] + b"\0\0\x29\x04\xd0\0\x01\0\0\0\0"),
        {"edns": 1, "rcode": "BADVERS"},
    ),
}


@pytest.mark.parametrize(("one", "expected"), SHOWN.values(), ids=SHOWN)
def test_what_a_line_shows(one, expected):
    """Each kind of message is shown for what it is, with names escaped."""
    assert expected.items() <= said(one).items()


@given(st.binary(max_size=80), st.none() | st.binary(max_size=40), st.binary(max_size=20))
def test_any_octets_make_one_line(message, reply, client):
    """Whatever a client sends: one line, valid JSON, printable ASCII."""
    found = said(noted(message, reply, client=client))

    assert found["octets"] == len(message)
    assert all(char.isprintable() for char in found.get("name", ""))


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=30), st.sampled_from([b"", b"\0" + IN_A]))
def test_a_message_with_options_makes_one_line(cookie, more, asked):
    """With a question or without, whatever stands in its options."""
    options = b"\0\x0a\0\x08" + cookie + b"\xff\xff" + len(more).to_bytes(2) + more
    head = MESSAGE[:4] + bytes((0, bool(asked), 0, 0, 0, 0, 0, 1))
    found = said(noted(head + asked + OPT + len(options).to_bytes(2) + options))

    assert (found["edns"], "name" in found, "class" in found) == (0, bool(asked), False)


@given(st.binary(min_size=1, max_size=63))
def test_any_label_in_a_name(label):
    """Any label is written so that RFC 1035 §5.1 gives it back."""
    name = bytes((len(label),)) + label + b"\0"

    assert dns.name.from_text(said(noted(HEADER + name + IN_A))["name"]).labels == (label, b"")


def test_what_was_left_out_is_a_line_too():
    """Above the rate there is one line with the number."""
    assert json.loads(left_out(1.5, 7)) == {"time": 1.5, "left_out": 7}


# --- the file


def until(true: Callable[[], object], what: str) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def lines(path: Path) -> list[dict]:
    return [json.loads(one) for one in path.read_bytes().splitlines()]


def give(log: QueryLog, message: bytes = MESSAGE) -> bool:
    if not log.wants():
        return False
    log.note(CLIENT, "udp", message, REPLY)
    return True


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queries.json"


@pytest.fixture
def opened(path):
    made: list[QueryLog] = []

    def opening(per_second: int = 100, at: Path | str = path) -> QueryLog:
        made.append(QueryLog(str(at), per_second, LOG))
        return made[-1]

    yield opening
    for log in made:
        log.close()


def test_lines_are_appended_and_private(path, opened):
    """What was there stays; a new file is not for everybody; what was noted is written before the end."""
    path.write_bytes(b'{"old": 1}\n')
    log = opened()
    for _ in range(5):
        assert give(log)
    log.close()

    assert [one.get("name", "old") for one in lines(path)] == ["old"] + ["web.svc.internal."] * 5


def test_a_new_file_is_for_its_owner_and_group(path, opened):
    """0640 at most, whatever the umask lets through."""
    opened()

    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_lines_come_without_waiting_for_a_second(path, opened):
    """A line is in the file soon, so that it can be followed."""
    log = opened()
    give(log)

    until(lambda: path.stat().st_size, "the line is written")
    assert lines(path)[0]["client"] == "192.0.2.1"


def test_above_the_rate_lines_are_left_out_and_counted(path, opened):
    """No more lines than the rate; the next second has its own, and says how many were left out."""
    log = opened(per_second=10)
    taken = sum(give(log) for _ in range(1000))
    assert taken == 10

    until(lambda: give(log), "another second's allowance is given")
    log.close()

    written = lines(path)
    assert sum(one.get("left_out", 0) for one in written) == log.left_out
    assert len([one for one in written if "name" in one]) == 11
    assert log.left_out >= 990


def test_a_moved_file_is_left_behind(path, opened):
    """After `reopen` lines go into a new file, and none is lost between the two."""
    log, moved = opened(), path.with_suffix(".1")
    give(log)
    until(lambda: path.stat().st_size, "the first line is written")
    path.rename(moved)
    give(log)
    log.reopen()
    give(log)
    log.close()

    assert [len(lines(moved)), len(lines(path))] == [2, 1]


def test_a_file_that_cannot_be_reopened(path, opened, caplog):
    """The old file is kept, and it is said."""
    log, folder = opened(), path.with_suffix(".d")
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    log.reopen()
    give(log)
    log.close()

    assert len(lines(path.with_suffix(".1"))) == 1
    assert "is not written" in caplog.text
    assert not folder.exists()


CANNOT_OPEN = {"a folder": "", "a file in no folder": "none/queries", "a pipe that nobody reads": "pipe"}


@pytest.mark.parametrize("name", CANNOT_OPEN.values(), ids=CANNOT_OPEN)
def test_what_cannot_be_opened_is_said_at_once(tmp_path, name):
    """The server does not start with a log that it cannot write, and the flag is named."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(CannotStart, match=r"--query-log .*; name a file"):
        QueryLog(str(tmp_path / name), 10, LOG)


def test_standard_error(opened, capfd):
    """`-` is standard error, which stays open."""
    log = opened(at="-")
    give(log)
    log.reopen()
    give(log)
    log.close()
    os.write(2, b"still open\n")

    *written, last = capfd.readouterr().err.splitlines()
    assert ([json.loads(one)["rcode"] for one in written], last) == (["NOERROR"] * 2, "still open")


def test_a_pipe_that_is_not_read_holds_nothing_up(tmp_path, opened):
    """A reader that sleeps: lines are left out and counted, none is waited for, and no queue grows."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = opened(per_second=2000, at=fifo)
    long = question(".".join(["a" * 63] * 3) + ".svc.internal.")
    for _ in range(2000):  # more than the pipe holds
        give(log, long)
    until(lambda: not give(log, long), "the allowance is used up")
    before = log.left_out
    for _ in range(10_000):
        give(log, long)

    assert log.left_out == before + 10_000
    assert log._orders.qsize() <= 2 * 2000
    os.close(reader)


def test_a_line_that_cannot_be_made_costs_itself_only(path, opened, monkeypatch, caplog):
    """A fault of ours is said and counted; the lines around it are written."""
    log, bad = opened(), COOKIE_ONLY
    made = querylog.line
    monkeypatch.setattr(querylog, "line", lambda one: made(one) if one.message != bad else {}[bad])
    for message in (MESSAGE, bad, MESSAGE):
        give(log, message)
    log.close()

    written = lines(path)
    assert [one.get("name") for one in written[:2]] == ["web.svc.internal."] * 2
    assert (log.left_out, written[2]["left_out"]) == (1, 1)
    assert ("could not be made" in caplog.text, log._faults.count) == (True, 1)


def test_a_file_that_is_always_full(opened, caplog):
    """No room at all: said once, and nothing else happens."""
    log = opened(at="/dev/full")
    for _ in range(3):
        give(log)
        until(lambda: log._failing and not log._orders.qsize(), "the line was refused")
    log.close()

    assert caplog.text.count("No space left") == 1


def test_room_that_ends_in_the_middle_of_a_line(path, opened, caplog):
    """The line is torn, it is said once, and whole lines follow it when there is room again."""
    caplog.set_level(logging.INFO)
    path.write_bytes(b"{}\n" * 500_000)
    size, log, (soft, hard) = path.stat().st_size, opened(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # other files of this process are smaller
    try:
        for _ in range(3):
            give(log)
            until(lambda: log._failing and not log._orders.qsize(), "the line was refused")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    give(log)
    log.close()

    torn, *whole = path.read_bytes()[size:].splitlines()
    assert (len(torn), {json.loads(one)["name"] for one in whole}) == (10, {"web.svc.internal."})
    assert (caplog.text.count("is not written"), caplog.text.count("is written again")) == (1, 1)


# --- in the server


async def ask_tcp(at: tuple[str, int], *messages: bytes) -> None:
    """Send queries on one connection, and wait for its end."""
    reader, writer = await asyncio.open_connection(*at)
    writer.write(b"".join(map(framed, messages)))
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read()
    writer.close()


async def test_every_kind_of_answer_is_noted(run, path):
    """Answers made, finished before, refused, waited for over UDP and TCP, and a transfer: each once."""
    async with FakeUpstream(good()) as upstream:
        server = await run(
            query_log=str(path), query_log_rate=1000, forward=(upstream.server,), transfer=("127.0.0.0/8",)
        )
        await server.put(container(1, endpoint("web", 80, lan("192.168.0.1", 32768))))
        await server.put_raw("/skydns/internal/svc/dns/ns/1", b'{"host":"192.168.0.2"}')  # else there is no whole zone
        for name in ("web.svc.internal.", "web.svc.internal.", "none.svc.internal.", "a.example.com."):
            await server.ask(name, id=7)
        await server.udp(MESSAGE[:2] + b"\x28\x00" + MESSAGE[4:])  # opcode UPDATE
        axfr = question("svc.internal.", "AXFR", id=8)
        await ask_tcp(server.at, question("b.example.com.", id=9), axfr)
        await server.stop()

    noted = [(one["transport"], one.get("name"), one.get("type"), one["rcode"]) for one in lines(path)]
    assert sorted(noted, key=str) == sorted(
        [
            ("udp", "web.svc.internal.", "A", "NOERROR"),
            ("udp", "web.svc.internal.", "A", "NOERROR"),
            ("udp", "none.svc.internal.", "A", "NXDOMAIN"),
            ("udp", "a.example.com.", "A", "NOERROR"),
            ("udp", "web.svc.internal.", "A", "NOTIMP"),
            ("tcp", "b.example.com.", "A", "NOERROR"),
            ("tcp", "svc.internal.", "AXFR", "NOERROR"),
        ],
        key=str,
    )
    assert {one["client"] for one in lines(path)} == {"127.0.0.1"}


async def test_a_flood_is_a_sample_in_the_log(run, path):
    """More questions than the rate: all are answered, and what was left out is said."""
    server = await run(query_log=str(path), query_log_rate=5)
    for _ in range(200):
        await server.ask("none.svc.internal.")
    await server.stop()

    written = lines(path)
    assert len([one for one in written if "name" in one]) < 200
    assert len([one for one in written if "name" in one]) + sum(one.get("left_out", 0) for one in written) == 200


async def test_sighup_goes_on_in_a_new_file(run, path):
    """What `logrotate` moved away is left; the next line is in a new file."""
    server, moved = await run(query_log=str(path)), path.with_suffix(".1")
    await server.ask("a.svc.internal.")
    path.rename(moved)
    server.service.reload()
    await server.ask("b.svc.internal.")
    await server.stop()

    assert [[one["name"] for one in lines(each)] for each in (moved, path)] == [
        ["a.svc.internal."], ["b.svc.internal."],
    ]  # fmt: skip
