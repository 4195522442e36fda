"""What is the same question however it is spelled, and what it costs: one answer, held once, given as it was asked."""

from __future__ import annotations

import itertools
import tracemalloc

import dns.message
import pytest

from dnsserver.message import wire
from dnsserver.message.wire import MAX_UDP, folded_size
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, lan, question, said


def world(count: int = 2) -> World:
    made = World((DOMAIN, f"deep.{DOMAIN}"))
    for number in range(count):
        ip = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        made.put(container(number, endpoint("web", 80, lan(ip), name=f"c{number}")))
    return made


def test_spellings_share_one_answer():
    """Each way to spell a name gets its own spelling back, from the answer that was made for the first."""
    made = world()
    made.ask(f"web.{DOMAIN}")
    misses, kept = made.responder.misses, made.responder.kept
    for spelled in itertools.islice(itertools.product(*zip("web", "WEB", strict=True)), 8):
        name = "".join(spelled) + ".sVc.internal."
        reply = dns.message.from_wire(made.send(question(name)))
        assert reply.question[0].name.to_text() == name
        assert {rrset.name.to_text() for rrset in reply.answer} == {name}
        assert sum(map(len, reply.answer)) == 2
    assert (made.responder.misses, made.responder.kept) == (misses, kept)


def test_denials_share_one_pattern_and_keep_the_spelling():
    """The same for names that do not exist, with unusual EDNS sizes besides."""
    made = world()
    made.ask(f"nope.{DOMAIN}", use_edns=0, payload=1300)
    misses = made.responder.misses
    for number in range(200):
        asked = question(f"NoPe{number}.{DOMAIN}.", use_edns=0, payload=1300 + number * 3 + 1)
        reply = said(made.send(asked))
        assert (reply.rcode, reply.edns) == ("NXDOMAIN", True)
    assert made.responder.misses <= misses + 12  # for each length of the name, and each size that is told apart


SIZES = {0: 512, 511: 512, 512: 512, 513: 512, 600: 576, 1200: 1200, 1231: 1216, 1232: 1232, 1233: 1232, 1400: 1400,
         4096: 4096, 5000: MAX_UDP, 65535: MAX_UDP}  # fmt: skip


@pytest.mark.parametrize(("size", "folded"), SIZES.items())
def test_sizes(size, folded):
    """Few sizes are told apart, and none is made larger than what the client takes."""
    assert folded_size(size) == folded
    assert min(MAX_UDP, folded) <= max(512, size)


def test_sizes_are_few():
    """Whatever a client sends, there are not more kinds of answers than this."""
    assert len({folded_size(size) for size in range(65536)}) < 32


@pytest.mark.parametrize("bits", [0x0400, 0x0200, 0x0080, 0x0040, 0x000F])
def test_flags_without_meaning_make_no_answer_of_their_own(bits):
    """AA, TC, RA, Z and a response code in a query are nothing to us."""
    made = world()
    plain = question(f"web.{DOMAIN}.")
    made.send(plain)
    misses = made.responder.misses
    odd = bytearray(plain)
    odd[2:4] = (int.from_bytes(odd[2:4]) | bits).to_bytes(2)
    assert made.send(bytes(odd)) is not None
    assert made.responder.misses == misses


def test_what_is_held_is_counted():
    """All orders of an answer, and the names that it depends on, are in the octets that bound what is held."""
    made = world(64)
    side = made.responder._udp
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for size in sorted({folded_size(size) for size in range(512, 5000)}):
        for flags in range(8):
            asked = bytearray(question(f"web.{DOMAIN}.", use_edns=0, payload=size))
            asked[2] = flags & 1
            asked[3] = (flags & 2) << 4 | (flags & 4) << 2
            made.send(bytes(asked))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(side.some) > 100
    assert side.some.octets > grown / 2


def test_a_name_that_exists_teaches_no_denial():
    """NS of a nested domain without name servers is no such name, as SkyDNS has it; others are not of that zone."""
    made = world()
    assert made.ask(f"deep.{DOMAIN}", "NS").rcode == "NXDOMAIN"
    for name in ("nope", "none"):
        assert made.ask(f"{name}.{DOMAIN}", "NS").authority[0].startswith(f"{DOMAIN}. ")


def test_many_names_make_no_long_wait():
    """A service of thousands is answered with what fits, and found to exist without being laid out."""
    made = world(1500)
    assert "TC" in made.ask(f"web.{DOMAIN}", "SRV").flags
    assert made.ask(f"web.{DOMAIN}", "TXT").rcode == "NOERROR"
    assert made.ask(f"x.web.{DOMAIN}").rcode == "NXDOMAIN"


def test_folded_is_what_plain_says():
    """The question that an answer is made for is the one that it is held by."""
    asked = wire.read(question(f"WeB.{DOMAIN.upper()}.", use_edns=0, payload=1300))
    folded = asked.folded()
    again = wire.read(b"\0\0" + asked.plain)
    assert (again.name, again.question, again.edns, again.plain) == (
        folded.name, folded.question, folded.edns, asked.plain,
    )  # fmt: skip
