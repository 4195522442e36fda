"""Does somebody whom we ask ask us? A name that nobody can guess is asked of each server; here it is known again.

Pure. The token is random (`secrets.token_hex(16)`): a name that could be guessed would let anybody switch forwarding
off. Processes that answer at the same address share it: whichever of them hears the question says so in its answer.
"""

from __future__ import annotations

from dnsserver.message import rr
from dnsserver.message.dname import from_text
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Rcode, Reply
from dnsserver.outside import Asked

_ZONE = "pilotfish-loop-probe"  # not below `invalid`: good resolvers would answer that themselves
_WORDS = rr.text(b"this question came back to the server that asked it")


class LoopProbes:
    """The probes of one server.

    Args:
        token: 32 random hex digits.
    """

    def __init__(self, token: str) -> None:
        self._token, self._count = token, 0
        self._suffix = from_text(f"{token}.{_ZONE}")
        self._out: set[bytes] = set()
        self._back: set[bytes] = set()

    def fresh(self) -> Asked:
        """A new question, which no cache on the way can answer."""
        self._count += 1
        name = from_text(f"p{self._count}.{self._token}.{_ZONE}")
        self._out.add(name)
        return Asked(name, Type.TXT)

    def answer(self, name: bytes) -> Reply | None:
        """What to say to a question for a probe's name, which is never forwarded; None for all other names."""
        name = name.lower()
        if not name.endswith(self._suffix):
            return None
        if name in self._out:
            self._back.add(name)
        return Reply(Rcode.NOERROR, answer=(Record(name, Type.TXT, 0, _WORDS),))

    def has_come_back(self, asked: Asked, reply: Reply) -> bool:
        """True when a probe was heard here, or its answer is ours; the probe is over."""
        self._out.discard(asked.name)
        heard = asked.name in self._back
        self._back.discard(asked.name)
        return heard or any(record.data == _WORDS for record in reply.answer)
