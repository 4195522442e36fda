"""The faults that a proxy can put into a stream, by Toxiproxy's names, and where each has bitten. Values; no sockets.

A toxic concerns one direction: "upstream" is from client to server, "downstream" from server to client. `toxicity` is
the part of the connections that it concerns; which ones, the proxy's seed decides.
Source: Shopify/toxiproxy, README, "Toxics".
"""

from __future__ import annotations

import random
from typing import Literal

UPSTREAM: Stream = "upstream"
DOWNSTREAM: Stream = "downstream"
Stream = Literal["upstream", "downstream"]


class Toxic:
    """One fault, made by the functions of this module and put in force by a proxy's `add`.

    Attributes:
        kind: the name of the function that made it.
        stream: which direction it concerns.
        toxicity: 0 to 1.
        bitten: how often it has really done something: octets delayed, a connection cut, a datagram dropped.
        since: when it came into force, by the proxy's clock; -1 before.
        number: its place among the proxy's toxics; part of what the seed decides by.
    """

    def __init__(self, kind: str, stream: Stream, toxicity: float, **how: float) -> None:
        self.kind = kind
        self.stream = stream
        self.toxicity = toxicity
        self.how = how
        self.bitten = 0
        self.since = -1.0
        self.number = -1

    def __repr__(self) -> str:
        how = ", ".join(f"{name}={value:g}" for name, value in self.how.items())
        return f"{self.kind}({how}, {self.stream})"

    def concerns(self, seed: int, connection: int) -> bool:
        """Whether it meets a connection: the same answer each time."""
        return random.Random(f"{seed}/{connection}/{self.number}").random() < self.toxicity


def latency(ms: float, jitter: float = 0.0, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Delay all data by `ms` plus or minus `jitter` milliseconds; the order is kept."""
    return Toxic("latency", stream, toxicity, ms=ms, jitter=jitter)


def bandwidth(rate: float, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Let `rate` KB (1000 octets) a second through."""
    return Toxic("bandwidth", stream, toxicity, rate=rate)


def slow_close(ms: float, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Hold back the end of the stream for `ms` milliseconds."""
    return Toxic("slow_close", stream, toxicity, ms=ms)


def timeout(ms: float, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Let nothing through, and close after `ms` milliseconds; 0: hold for ever, without closing.

    Differs from Toxiproxy: what is held back is delivered when the toxic goes, as after a partition that has healed.
    """
    return Toxic("timeout", stream, toxicity, ms=ms)


def reset_peer(ms: float = 0.0, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Break both sides with a TCP reset after `ms` milliseconds (a plain close on unix sockets)."""
    return Toxic("reset_peer", stream, toxicity, ms=ms)


def slicer(
    size: float, variation: float = 0.0, delay_us: float = 0.0, stream: Stream = DOWNSTREAM, toxicity: float = 1.0
) -> Toxic:
    """Cut data into pieces of `size` plus or minus `variation` octets, `delay_us` microseconds apart."""
    return Toxic("slicer", stream, toxicity, size=size, variation=variation, delay_us=delay_us)


def limit_data(octets: float, stream: Stream = DOWNSTREAM, toxicity: float = 1.0) -> Toxic:
    """Close the connection after that many octets from here on."""
    return Toxic("limit_data", stream, toxicity, octets=octets)


def loss(part: float, stream: Stream = DOWNSTREAM) -> Toxic:
    """Drop that part of the datagrams, 0 to 1; for UDP only."""
    return Toxic("loss", stream, 1.0, part=part)
