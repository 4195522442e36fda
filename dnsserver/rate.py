"""How much one network of clients may have (response rate limiting): a bucket of tokens for each, refilled by time.

Pure: time comes in. Whoever forges addresses makes us send to their owners; beyond the rate a network gets silence,
and every second time a truncated reply, with which an honest client asks again over TCP. Work counts too: an answer
that had to be built costs more than one token. Loopback and private networks are limited like all others.
"""

from __future__ import annotations

from enum import Enum

from dnsserver.recent import Recent

MOST = 65_536  # networks remembered
_V4_OCTETS, _V6_OCTETS = 3, 7  # /24 and /56
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in IPv6; RFC 4291 §2.5.5.2


class Verdict(Enum):
    """What to do with an answer."""

    PASS = "pass"  # noqa: S105  no secret
    SLIP = "slip"  # send the question back with TC set, and nothing else
    DROP = "drop"


class Limiter:
    """Limits answers by client network, /24 or /56.

    Args:
        per_second: tokens for one network in a second, and at most at once; 0: no limit.
        slip: of those over the limit, one in so many is truncated instead of dropped; 0: none, 1: all.
    """

    def __init__(self, per_second: float, slip: int = 2) -> None:
        self.slipped = 0  # answers truncated
        self.dropped = 0  # answers left out
        self._step_s = 1 / per_second if per_second else 0.0  # seconds that a token takes to come back
        self._slip = slip
        self._full_at: Recent[bytes, float] = Recent(MOST)  # network: when its bucket will be full again
        self._over: Recent[bytes, int] = Recent(MOST)  # network: answers over the limit

    def verdict(self, client: bytes, now: float) -> Verdict:
        """Judge one answer, and take a token if it passes.

        Args:
            client: packed address, 4 or 16 octets.
            now: monotonic seconds.
        """
        step_s = self._step_s
        if not step_s:
            return Verdict.PASS
        network = client[:_V4_OCTETS] if len(client) == 4 else network_of(client)
        full_at = self._full_at.get(network)
        if full_at is None or full_at <= now:
            self._full_at.put(network, now + step_s)
            return Verdict.PASS
        full_at += step_s
        if full_at - now <= 1.0 + 1e-9:  # what a sum of fractions may be off by
            self._full_at.put(network, full_at)
            return Verdict.PASS
        return self._beyond(network)

    def charge(self, client: bytes, now: float, cost: float) -> None:
        """Take tokens for work that an answer made, whatever became of it; at most two seconds' worth are owed."""
        network = network_of(client)
        full_at = self._full_at.get(network) or now
        self._full_at.put(network, min(max(now, full_at) + cost * self._step_s, now + 2.0))

    def _beyond(self, network: bytes) -> Verdict:
        count = (self._over.get(network) or 0) + 1
        self._over.put(network, count)
        if self._slip and count % self._slip == 0:
            self.slipped += 1
            return Verdict.SLIP
        self.dropped += 1
        return Verdict.DROP


def network_of(client: bytes) -> bytes:
    """The network of an address: its first 24 or 56 bits.

    >>> network_of(bytes((192, 0, 2, 1))).hex()
    'c00002'
    """
    if len(client) == 4:
        return client[:_V4_OCTETS]
    return client[12 : 12 + _V4_OCTETS] if client[:12] == _MAPPED else client[:_V6_OCTETS]
