"""A flood: `python -m bench.flood ADDRESS PORT COUNT RATE KIND` sends datagrams that nobody needs, and reads no reply.

KIND is `names` (questions for random names below DOMAIN, none twice), `elsewhere` (the same below example.), `spelled`
(the names n0 to n19 in ever new spellings and sizes, all different as octets), or `junk` (random octets, broken
messages, replies). Bounded in number and in time: it ends after COUNT datagrams or --seconds. It prints how many it
sent and how long that took as one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import dns.message

DOMAIN = "svc.internal"
SOCKETS = 8
MOST = 5_000_000
TICK_S = 0.001
_HEAD = b"\1\0\0\1\0\0\0\0\0\1"  # RD, one question, one additional record


class Sent(NamedTuple):
    """What a flood was: datagrams and seconds."""

    datagrams: int
    seconds: float


def names(chance: random.Random, below: str = DOMAIN) -> Iterator[bytes]:
    """Questions for random names; each name once."""
    label = "a" * 16
    template = bytearray(dns.message.make_query(f"{label}.{below}", "A", use_edns=0, payload=1232).to_wire())
    at = template.index(label.encode())
    while True:
        template[:2] = chance.randbytes(2)
        template[at : at + 16] = f"{chance.getrandbits(64):016x}".encode()
        yield bytes(template)


def spelled(chance: random.Random) -> Iterator[bytes]:
    """Questions for a few names, in so many spellings and with such sizes that hardly any comes twice."""
    while True:
        name = f"n{chance.randrange(20)}.{DOMAIN}"
        spelling = "".join(chance.choice((one.lower(), one.upper())) for one in name).encode()
        labels = b"".join(bytes([len(label)]) + label for label in spelling.split(b"."))
        size = chance.randrange(512, 4096).to_bytes(2, "big")
        yield chance.randbytes(2) + _HEAD + labels + b"\0\0\1\0\1" + b"\0\0\x29" + size + bytes(6)


def junk(chance: random.Random) -> Iterator[bytes]:
    """Octets of all kinds: noise, questions that are cut or bent, replies."""
    questions = names(chance)
    while True:
        whole = bytearray(next(questions))
        yield chance.randbytes(chance.randrange(1, 120))
        yield bytes(whole[: chance.randrange(len(whole))])
        whole[chance.randrange(2, len(whole))] ^= 1 << chance.randrange(8)
        yield bytes(whole)
        yield bytes(whole[:2]) + b"\x84" + bytes(whole[3:])  # QR and AA


KINDS: Mapping[str, Callable[[random.Random], Iterator[bytes]]] = {
    "names": names,
    "elsewhere": lambda chance: names(chance, "example"),
    "spelled": spelled,
    "junk": junk,
}


def flood(
    server: tuple[str, int], source: str, kind: str, count: int, *, rate: float, seconds: float, seed: int
) -> Sent:
    """Send; at `rate` datagrams a second, 0 as fast as it goes."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(SOCKETS)]
        for opened in sockets:
            opened.bind((source, 0))
            opened.connect(server)
            opened.setblocking(False)
        messages = KINDS[kind](random.Random(seed))
        begun, sent = time.monotonic(), 0
        while sent < count and (passed := time.monotonic() - begun) < seconds:
            due = min(count, sent + 500) if not rate else min(count, int(passed * rate))
            for number in range(sent, due):
                with contextlib.suppress(OSError):  # no room, or nobody listens: a flood does not care
                    sockets[number % SOCKETS].send(next(messages))
            sent = max(sent, due)
            if rate:
                time.sleep(TICK_S)
        return Sent(sent, time.monotonic() - begun)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--source", default="", help="address to send from")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    server, count = (given.address, given.port), min(given.count, MOST)
    sent = flood(server, given.source, given.kind, count, rate=given.rate, seconds=given.seconds, seed=given.seed)
    print(json.dumps(sent._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
