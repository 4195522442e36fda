"""The witness: what it says of a server that is right, stale, wrong, refuses, keeps silent, or is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.edns
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.replies import read
from bench.watched import Watched, added
from bench.witness import Question, _verdict, questions

NAME = "web.svc.internal"
RIGHT = f"{NAME} A NOERROR 10.0.0.1,10.0.0.2"
BOTH = ("10.0.0.1", "10.0.0.2")


def answer(query: bytes, *addresses: str, ttl: int = 5, ede: int | None = None, rcode: int = 0) -> bytes:
    """A reply with addresses."""
    asked = dns.message.from_wire(query)
    options = [] if ede is None else [dns.edns.EDEOption(dns.edns.EDECode(ede))]
    made = dns.message.make_response(asked)
    made.use_edns(0, options=options)
    made.set_rcode(rcode)
    if addresses:
        made.answer.append(dns.rrset.from_text(asked.question[0].name, ttl, "IN", "A", *addresses))
    return made.to_wire()


VERDICTS = {
    "right": (RIGHT, lambda q: answer(q, *BOTH), "fresh"),
    "in another order": (RIGHT, lambda q: answer(q, *reversed(BOTH)), "fresh"),
    "one of two": (RIGHT, lambda q: answer(q, BOTH[0]), "wrong"),
    "one too many": (RIGHT, lambda q: answer(q, *BOTH, "10.0.0.3"), "wrong"),
    "marked as stale": (RIGHT, lambda q: answer(q, *BOTH, ttl=30, ede=3), "marked"),
    "marked, and kept for too long": (RIGHT, lambda q: answer(q, *BOTH, ttl=31, ede=3), "wrong"),
    "another extended error": (RIGHT, lambda q: answer(q, *BOTH, ede=4), "fresh"),
    "no such name, which is so": (f"{NAME} A NXDOMAIN -", lambda q: answer(q, rcode=3), "fresh"),
    "the same, marked": (f"{NAME} A NXDOMAIN -", lambda q: answer(q, rcode=3, ede=19), "marked"),
    "no such name, which is not so": (RIGHT, lambda q: answer(q, rcode=3), "wrong"),
    "no data, which is not so": (RIGHT, answer, "wrong"),
    "SERVFAIL": (RIGHT, lambda q: answer(q, rcode=2, ede=14), "failed"),
    "REFUSED": (RIGHT, lambda q: answer(q, rcode=5), "failed"),
    "cut": (RIGHT, lambda q: q[:2] + b"\x82\x00" + q[4:], "failed"),
    "the first of two truths": (f"{NAME} A NOERROR 10.0.0.1|10.0.0.2", lambda q: answer(q, BOTH[0]), "fresh"),
    "half of each": (f"{NAME} A NOERROR 10.0.0.1|10.0.0.2", lambda q: answer(q, *BOTH), "wrong"),
    "not to be read": (RIGHT, lambda q: q[:20], "wrong"),
}


@pytest.mark.parametrize(("line", "reply", "kind"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(line, reply, kind):
    """One answer, judged by one line of the truth."""
    question: Question = next(questions([line]))
    assert _verdict(question, reply(b"\x00\x01" + question.octets)) == kind


STALE = answer(dns.message.make_query(NAME, "A", id=1).to_wire(), *BOTH, ede=3)


@given(st.binary(max_size=120) | st.integers(0, len(STALE)).map(lambda at: STALE[:at]))
def test_any_octets(octets):
    """Whatever comes is read or refused."""
    try:
        read(octets)
    except ValueError:
        return


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """By turns: right, marked, wrong, SERVFAIL, silent."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(10**6):
            query, client = opened.recvfrom(2048)
            if query == b"end":
                return
            replies = (answer(query, *BOTH), answer(query, *BOTH, ede=3), answer(query), answer(query, rcode=2), b"")
            if reply := replies[number % len(replies)]:
                opened.sendto(reply, client)

    thread = threading.Thread(target=serve)
    thread.start()
    yield opened.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"end", opened.getsockname())
    thread.join()
    opened.close()


def test_it_counts_each_kind(tmp_path, server):
    """A fifth of each, by seconds, none counted twice."""
    with Watched(tmp_path, server, [RIGHT], 100, seconds=1.0, ports=3) as witness:
        windows = witness.finished()
    found = added(windows)
    assert found.asked == found.fresh + found.marked + found.wrong + found.failed + found.lost
    assert found.asked >= 50
    for count in (found.fresh, found.marked, found.wrong, found.failed, found.lost):
        assert abs(count - found.asked / 5) <= 1
    assert windows[0].shown


def test_nobody_listens(tmp_path):
    """Every question is lost, and nothing breaks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = taken.getsockname()
    with Watched(tmp_path, nowhere, [RIGHT], 50, seconds=0.5, ports=3) as witness:
        found = added(witness.finished())
    assert 0 < found.asked == found.lost
