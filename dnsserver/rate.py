"""A bound on what one client network gets over UDP, where addresses can be forged (response rate limiting).

Pure: time is a value. A network has as many tokens as it may have answers in a second; what others made it ask for
(its addresses were forged) ends there. Every second answer beyond is cut instead of dropped, so that an honest client
comes over TCP, where nobody can forge its address.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

MAX_NETWORKS = 50_000
SLIP = 2  # every so manieth answer beyond the limit is cut, the others are dropped
BUILT = 4  # an answer that has to be made costs as much as so many finished ones
_V4, _V6 = 3, 7  # octets of a network: /24, /56
_MAPPED = bytes(10) + b"\xff\xff"


class Verdict(Enum):
    """What becomes of an answer."""

    PASS = "pass"  # noqa: S105  no password
    CUT = "cut"
    DROP = "drop"


class _Bucket:
    __slots__ = ("beyond", "since", "tokens")

    def __init__(self, tokens: float, since: float) -> None:
        self.tokens, self.since, self.beyond = tokens, since, 0


class Limiter:
    """Counts answers by client network.

    Args:
        per_second: answers a network may have.

    Attributes:
        cut: answers that were cut.
        dropped: answers that were not given.
    """

    def __init__(self, per_second: int) -> None:
        self.cut = self.dropped = 0
        self._per_second = float(per_second)
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def verdict(self, client: bytes, now: float) -> Verdict:
        """What becomes of an answer for a client, given as the octets of its address, at monotonic seconds `now`."""
        bucket = self._bucket(client, now)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return Verdict.PASS
        bucket.beyond += 1
        if bucket.beyond % SLIP:
            self.dropped += 1
            return Verdict.DROP
        self.cut += 1
        return Verdict.CUT

    def charge(self, client: bytes, now: float) -> None:
        """Count that an answer had to be made."""
        self._bucket(client, now).tokens -= BUILT - 1

    def _bucket(self, client: bytes, now: float) -> _Bucket:
        network = _network(client)
        bucket = self._buckets.get(network)
        if bucket is None:
            if len(self._buckets) >= MAX_NETWORKS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[network] = _Bucket(self._per_second, now)
            return bucket
        bucket.tokens = min(self._per_second, bucket.tokens + (now - bucket.since) * self._per_second)
        bucket.since = now
        return bucket


def _network(client: bytes) -> bytes:
    if len(client) == 4:
        return client[:_V4]
    return client[12 : 12 + _V4] if client.startswith(_MAPPED) else client[:_V6]
