"""Row D7 of the faults, with the whole server: name servers elsewhere are dead, slow, or lie."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.dnsserver.kit import container, endpoint, lan
from tests.parts import fake_upstream as fake
from tests.parts.fake_upstream import FakeUpstream, Manner, good

WEB = container(1, endpoint("web", 80, lan("192.168.0.1", 32768)))
BOUND_S = 3.0
HUGE = [fake.Raw(16, 300, b"\xff" + b"t" * 255)] * 240

MANNERS: dict[str, Manner | None] = {
    "dead": fake.silent,
    "gone": None,
    "slow": fake.slow(5.0, good()),
    "wrong id": fake.changed_id(good()),
    "wrong name": lambda seen: [fake.other_question("www.example.org")(seen)],
    "cut for ever": fake.truncated,
    "64 KiB": lambda seen: [fake.reply(seen.message, *HUGE)[: 65000 if not seen.tcp else None]],
    "64 KiB of nonsense": fake.over_udp(
        fake.truncated, lambda seen: [seen.message[:2] + b"\x81\x80" + b"\xc0" * 65000]
    ),
}


@pytest.mark.parametrize("title", MANNERS)
async def test_fault_D7(run, title):
    """Whoever asks for other names is told SERVFAIL and why within 3 s; our own names are answered meanwhile."""
    manner = MANNERS[title]
    async with FakeUpstream(manner or good()) as upstream:
        if manner is None:
            await upstream.stop()
        running = await run(forward=(upstream.server,), forward_timeout_s=0.7)
        await running.put(WEB)
        began = time.monotonic()
        others = [asyncio.create_task(running.ask(f"n{number}.example.com.", use_edns=0)) for number in range(20)]
        own = [await running.ask("web.svc.internal.") for _ in range(100)]
        own_s = time.monotonic() - began
        told = await asyncio.gather(*others)
        told_s = time.monotonic() - began

        assert {answer.rcode for answer in own} == {"NOERROR"}
        assert {(answer.rcode, answer.ede) for answer in told} <= {("SERVFAIL", 22), ("SERVFAIL", 23)}
        assert told_s < BOUND_S
        assert own_s < BOUND_S
        assert manner is None or len(upstream.names()) >= 20  # the fault bit


async def test_good_again(run):
    """When the name server is well again, so are its names."""
    async with FakeUpstream(fake.silent) as upstream:
        running = await run(forward=(upstream.server,), forward_timeout_s=0.1)
        assert (await running.ask("a.example.com.")).rcode == "SERVFAIL"
        upstream.manner = good()
        told = await running.ask("b.example.com.")

        assert told.answer == ["b.example.com. 300 A 192.0.2.1"]
