"""DNS questions at a steady rate: `python -m tests.parts.prober --server 10.0.0.1:53 --ask web.svc.internal:A --log F`.

At each tick every server is asked the next of the questions, over UDP, whether or not earlier answers have come. See
`prober_judge` for what becomes of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from tests.parts.aside import Aside, Progress, end_point, read_rows
from tests.parts.prober_judge import Asked, Fact, Finding, Verdict, judge, longest_gap_s, text

__all__ = ["Aside", "Asked", "Fact", "Finding", "Verdict", "judge", "longest_gap_s", "read_rows", "text"]


class _Server(asyncio.DatagramProtocol):
    """One server: what was asked of it and is not yet answered, by message id."""

    def __init__(self, address: str, progress: Progress, timeout_s: float) -> None:
        self.address = address
        self.progress = progress
        self.timeout_s = timeout_s
        self.pending: dict[int, tuple[Asked, asyncio.TimerHandle]] = {}
        self.random = random.Random()
        self.idle = asyncio.Event()
        self.idle.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def ask(self, seq: int, name: str, kind: str) -> None:
        """Send one question."""
        number = self.random.randrange(65536)
        while number in self.pending:
            number = self.random.randrange(65536)
        question = dns.message.make_query(name, kind, use_edns=0, payload=1232, id=number)
        row = Asked(seq, time.monotonic(), 0.0, self.address, name, kind)
        timer = asyncio.get_running_loop().call_later(self.timeout_s, self._time_out, number)
        self.pending[number] = row, timer
        self.idle.clear()
        self.transport.sendto(question.to_wire())

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if len(data) < 2 or int.from_bytes(data[:2]) not in self.pending:
            return
        number = int.from_bytes(data[:2])
        self._finish(number, _read(data, self.pending[number][0]))

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: nobody listens. Whatever waits gets no answer."""
        for number in list(self.pending):
            self._finish(number, {"error": type(exc).__name__})

    def _time_out(self, number: int) -> None:
        self._finish(number, {"error": "timeout"})

    def _finish(self, number: int, found: dict[str, object]) -> None:
        row, timer = self.pending.pop(number)
        timer.cancel()
        about = {"seq": row.seq, "at": row.at, "server": row.server, "name": row.name, "type": row.type}
        self.progress.write(Asked(took_s=time.monotonic() - row.at, **about, **found))  # type: ignore[arg-type]
        if not self.pending:
            self.idle.set()


def _read(data: bytes, row: Asked) -> dict[str, object]:
    """What a reply says."""
    try:
        reply = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        return {"error": f"malformed: {type(error).__name__}"}
    question = reply.question[0] if reply.question else None
    if question is None or question.name.to_text(omit_final_dot=True).lower() != row.name.lower().rstrip("."):
        return {"error": "another question"}
    wanted = dns.rdatatype.from_text(row.type)
    answers = sorted(record.to_text() for found in reply.answer if found.rdtype == wanted for record in found)
    truncated = bool(reply.flags & dns.flags.TC)
    return {"rcode": dns.rcode.to_text(reply.rcode()), "answers": tuple(answers), "truncated": truncated}


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    async with Progress(options.log, options.seconds) as progress:
        servers = []
        for address in options.server:
            make = lambda address=address: _Server(address, progress, options.timeout)  # noqa: E731  binds now
            transport, server = await loop.create_datagram_endpoint(make, remote_addr=end_point(address))
            servers.append((transport, server))
        await _ask_all(options, progress, [server for _, server in servers])
        for transport, server in servers:
            await server.idle.wait()
            transport.close()


async def _ask_all(options: argparse.Namespace, progress: Progress, servers: list[_Server]) -> None:
    begin, tick = time.monotonic(), 0
    while not progress.stop.is_set() and (not options.count or tick < options.count):
        name, _, kind = options.ask[tick % len(options.ask)].rpartition(":")
        for place, server in enumerate(servers):
            server.ask(tick * len(servers) + place, name, kind)
        tick += 1
        await asyncio.sleep(max(0.0, begin + tick / options.rate - time.monotonic()))


def main() -> None:
    """Ask."""
    parser = argparse.ArgumentParser(description="DNS questions at a steady rate.")
    parser.add_argument("--server", action="append", required=True, help="address:port; repeatable, all are asked")
    parser.add_argument("--ask", action="append", required=True, help="name:TYPE; repeatable, asked in turn")
    parser.add_argument("--log", required=True, help="file for the rows")
    parser.add_argument("--rate", type=float, default=100.0, help="questions a second to each server")
    parser.add_argument(
        "--count", type=int, default=0, help="how many questions to each server (0: until the time is up)"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="how long at most")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds until a question counts as lost")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
