"""The DNS prober: what it judges, and that it sees what a server really answers."""

from __future__ import annotations

import asyncio
import math

import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.parts.prober import Aside, Asked, Fact, judge, longest_gap_s, text

HISTORY = {"web.test": [Fact(-math.inf, "1"), Fact(10.0, "2"), Fact(20.0, "2", present=False)], "web.test/SRV": []}


def _asked(at, *answers, **fields):
    given = {"rcode": "NOERROR", "name": "web.test", "type": "A", "server": "s", "took_s": 0.1, **fields}
    return Asked(seq=1, at=at, answers=answers, **given)


# title, one answer, what is wrong with it (kind -> values); history: 1 always, 2 from 10 to 20; bound 1 s
JUDGED = [
    ("right", _asked(5.0, "1"), {}),
    ("right with both", _asked(15.0, "1", "2"), {}),
    ("right in capitals and with a dot", _asked(5.0, "1", name="WEB.test."), {}),
    ("invented", _asked(5.0, "1", "3"), {"invented": ("3",)}),
    ("too early", _asked(5.0, "1", "2"), {"stale": ("2",)}),
    ("came while waiting", _asked(9.95, "1", "2"), {}),
    ("new, within the bound", _asked(10.9, "1"), {}),
    ("new, after the bound", _asked(11.1, "1"), {"missing": ("2",)}),
    ("gone, within the bound", _asked(20.9, "1", "2"), {}),
    ("gone, after the bound", _asked(21.1, "1", "2"), {"stale": ("2",)}),
    ("gone at once is fine", _asked(19.95, "1"), {}),
    ("all missing", _asked(15.0), {"missing": ("1", "2")}),
    ("denied", _asked(5.0, rcode="NXDOMAIN"), {"missing": ("1",)}),
    ("two kinds", _asked(15.0, "1", "3"), {"missing": ("2",), "invented": ("3",)}),
    ("lost", _asked(5.0, rcode=None, error="timeout"), {"lost": ("timeout",)}),
    ("refused", _asked(5.0, rcode="SERVFAIL"), {"refused": ("SERVFAIL",)}),
    ("by name and type", _asked(5.0, type="SRV"), {}),
    ("unknown name", _asked(5.0, name="nope.test", rcode="NXDOMAIN"), {}),
    ("unknown name answered", _asked(5.0, "1", name="nope.test"), {"invented": ("1",)}),
]


@pytest.mark.parametrize(("row", "expected"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED])
def test_judge(row, expected):
    """Each way to be wrong is found, with the values at fault."""
    verdict = judge([row], HISTORY, bound_s=1.0)
    kinds = ("lost", "refused", "stale", "missing", "invented")
    found = {kind: tuple(finding.values for finding in getattr(verdict, kind)) for kind in kinds}

    assert found == {kind: (expected[kind],) if kind in expected else () for kind in kinds}
    assert verdict.good == (not expected)
    assert verdict.bad == bool(expected)
    assert all(f"{kind}: 1" in text(verdict) for kind in expected)


def test_came_and_went_and_came():
    """A value that comes back is judged by each time that it was there."""
    facts = {"web.test": [Fact(0.0, "1"), Fact(10.0, "1", present=False), Fact(20.0, "1")]}
    bad = [row.at for row in (_asked(at) for at in (5.0, 10.5, 15.0, 20.5, 25.0)) if judge([row], facts, 1.0).bad]

    assert bad == [5.0, 25.0]


GAPS = [
    ("steady", [0.0, 0.1, 0.2], [], 0.1),
    ("hole", [0.0, 0.1, 0.9], [0.5], 0.8),
    ("late start", [0.5], [0.0], 0.6),
    ("no end", [0.0], [0.1, 0.7], 0.7),
    ("nothing ever", [], [0.0, 1.0], 1.1),
    ("no question", [], [], 0.0),
]


@pytest.mark.parametrize(("good", "lost", "expected"), [row[1:] for row in GAPS], ids=[row[0] for row in GAPS])
def test_longest_gap(good, lost, expected):
    """The longest time without an answer, begin and end counted, for the worst server."""
    rows = [_asked(at) for at in good] + [_asked(at, rcode=None) for at in lost]

    assert longest_gap_s(rows) == pytest.approx(expected)
    assert longest_gap_s([*rows, _asked(0.0, server="other", took_s=0.01)]) == pytest.approx(expected or 0.01)


class Zone(asyncio.DatagramProtocol):
    """Answers A of web.test with what it is told; `mood` may do something else."""

    def __init__(self):
        self.addresses, self.mood, self.asked = ["10.0.0.1"], "answer", 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.asked += 1
        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        asked = question.question[0]
        if asked.name.to_text() == "web.test.":
            reply.answer.append(dns.rrset.from_text(asked.name, 5, "IN", "A", *self.addresses))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        wire = reply.to_wire()
        if self.mood == "nonsense":
            wire = wire[:2] + b"\xff" * 20
        if self.mood != "silent":
            self.transport.sendto(wire, addr)


@pytest.fixture
async def zone():
    make = asyncio.get_running_loop().create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    transport, protocol = await make
    protocol.address = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    yield protocol
    transport.close()


async def test_answers_are_logged(tmp_path, zone):
    """Two names in turn, at a rate; what is answered is in the log."""
    arguments = [
        "--server",
        zone.address,
        "--ask",
        "web.test:A",
        "--ask",
        "nope.test:A",
        "--rate",
        "200",
        "--count",
        "20",
    ]
    async with Aside("tests.parts.prober", arguments, tmp_path / "log") as prober:
        await prober.finished()
    rows = prober.rows(Asked)
    verdict = judge(rows, {"web.test": [Fact(-math.inf, "10.0.0.1")]}, 1.0)

    assert (verdict.good, verdict.asked, zone.asked) == (20, 20, 20), text(verdict)
    assert {(row.name, row.rcode, row.answers) for row in rows} == {
        ("web.test", "NOERROR", ("10.0.0.1",)),
        ("nope.test", "NXDOMAIN", ()),
    }
    assert rows[-1].at - rows[0].at >= 18 / 200


async def test_losses_and_changes_are_seen(tmp_path, zone):
    """Silence, nonsense, a closed port and a change that came too late are told apart."""
    closed = "127.0.0.1:1"
    arguments = [
        "--server",
        zone.address,
        "--server",
        closed,
        "--ask",
        "web.test:A",
        "--rate",
        "100",
        "--timeout",
        "0.2",
    ]
    async with Aside("tests.parts.prober", arguments, tmp_path / "log") as prober:
        await prober.until_answered(10)
        changed_at = asyncio.get_running_loop().time()  # the monotonic clock
        await prober.until_answered(30)
        zone.addresses = ["10.0.0.2"]
        await prober.until_answered(20)
        for mood in ("nonsense", "silent"):
            zone.mood = mood
            await prober.until_answered(40)
    rows = prober.rows(Asked)
    facts = [Fact(-math.inf, "10.0.0.1"), Fact(changed_at, "10.0.0.1", present=False), Fact(changed_at, "10.0.0.2")]
    verdict = judge([row for row in rows if row.server == zone.address], {"web.test": facts}, bound_s=0.02)
    errors = {row.error for row in rows if row.server == zone.address and row.error}

    assert len(verdict.stale) >= 5
    assert len(verdict.missing) == len(verdict.stale)
    assert {error.partition(":")[0] for error in errors} == {"malformed", "timeout"}
    assert {row.error for row in rows if row.server == closed} == {"ConnectionRefusedError"}
    assert verdict.longest_gap_s > 0.2
