"""How the name servers that we ask are doing, and so in which order they are asked.

Pure: the clock is an argument, monotonic seconds. Those that do not refuse come first, then those that lost nothing,
then those that are fast; else the order in which they were listed. One that was silent is probed, at longer and longer
intervals, until it says anything at all; after several times in a row it is dead, and not asked while others live.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

Server = tuple[str, int]

DEAD_AFTER = 3  # tries in a row without a word; two may be one question that no server can answer in time
REFUSES_AFTER = 3  # refusals in a row: it does not want our questions
PROBE_S, MAX_PROBE_S = 0.5, 30.0  # between probes of a dead one: at first, and at most
RESPELL_AFTER = 3  # questions whose letters came back changed: it does not keep them
_KNOWN = 1000  # servers remembered; those of stub zones come and go
_FAST_S = 0.05  # faster than this is all the same
_HABIT_S = 3600.0  # what a server cannot do is tried again after that
_RTT_VALID_S = 60.0  # then a slow one gets another chance


class Health:
    """What is known of one server.

    Attributes:
        failures: tries in a row without a word.
        refusals: answers in a row that were refusals.
        rtt_s: smoothed round trip time (RFC 6298 §2).
        dead: it is not asked while others live.
        looping: what it is asked comes back to us: it is not asked at all.
    """

    __slots__ = (
        "_measured", "_misspelled", "_no_case_until", "_no_edns_until", "_probe_at", "_probe_s",
        "dead", "failures", "looping", "refusals", "rtt_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.failures = self.refusals = 0
        self.rtt_s = 0.0
        self.dead = self.looping = False
        self._measured = self._no_case_until = self._no_edns_until = float("-inf")
        self._misspelled = 0
        self._probe_at, self._probe_s = 0.0, PROBE_S

    def keeps_case(self, now: float) -> bool:
        """False when it is known to change the letters of a question."""
        return now >= self._no_case_until

    def knows_edns(self, now: float) -> bool:
        """False when it was seen not to understand EDNS."""
        return now >= self._no_edns_until

    def answered(self, rtt_s: float, now: float, *, refused: bool = False) -> None:
        """It said something after so many seconds."""
        fresh = now - self._measured > _RTT_VALID_S
        self.rtt_s = rtt_s if fresh else self.rtt_s + (rtt_s - self.rtt_s) / 8
        self._measured = now
        self.failures = 0
        self.refusals = self.refusals + 1 if refused else 0
        self.dead, self._probe_s = False, PROBE_S

    def silent(self, now: float) -> None:
        """It said nothing, or could not be reached."""
        if not self.failures:
            self._probe_at = now + self._probe_s
        self.failures += 1
        self.dead = self.failures >= DEAD_AFTER

    def misspelled(self, now: float) -> None:
        """It changed the letters of a question, and answered it over TCP."""
        self._misspelled += 1
        if self._misspelled >= RESPELL_AFTER:
            self._no_case_until = now + _HABIT_S

    def spelled(self) -> None:
        """It kept them."""
        self._misspelled = 0

    def no_edns(self, now: float) -> None:
        """It could read a question only without EDNS."""
        self._no_edns_until = now + _HABIT_S

    def pardon(self) -> None:
        """Let it have questions again; it is not probed, and when it stays silent it is left alone for longer."""
        self.failures, self.dead, self.looping = 0, False, False

    def loops(self, now: float) -> None:
        """What it was asked came back to us."""
        if not self.looping:
            self.looping = True
            self._probe_at = now + MAX_PROBE_S

    def probe_due(self, now: float) -> bool:
        """True when it is time to find out whether it is well again; the next time will come later."""
        if not (self.failures or self.looping) or now < self._probe_at:
            return False
        self._probe_s = min(self._probe_s * 2, MAX_PROBE_S)
        self._probe_at = now + self._probe_s
        return True

    def rank(self, now: float) -> tuple[bool, int, int]:
        """The lower the better."""
        slow = 0 if now - self._measured > _RTT_VALID_S else int(self.rtt_s / _FAST_S).bit_length()
        return self.refusals >= REFUSES_AFTER, self.failures, slow


class Healths:
    """The health of every server that was asked lately."""

    def __init__(self, servers: Iterable[Server] = ()) -> None:
        self._of: OrderedDict[Server, Health] = OrderedDict((server, Health()) for server in servers)
        self._configured = frozenset(self._of)

    def __getitem__(self, server: Server) -> Health:
        found = self._of.get(server)
        if found is None:
            found = self._of[server] = Health()
            if len(self._of) > _KNOWN:
                del self._of[next(known for known in self._of if known not in self._configured)]
        return found

    def items(self) -> list[tuple[Server, Health]]:
        """All that are known."""
        return list(self._of.items())

    def order(self, servers: Iterable[Server], now: float) -> list[Server]:
        """Who is to be asked, the best first: those that live; when none does, all that do not loop."""
        usable = [server for server in servers if not self[server].looping]
        living = [server for server in usable if not self[server].dead] or usable
        return living if len(living) < 2 else sorted(living, key=lambda server: self[server].rank(now))

    def any_lives(self, servers: Iterable[Server]) -> bool:
        """True when one of the servers is neither dead nor looping."""
        return any(not (self[server].dead or self[server].looping) for server in servers)
