"""What is done for whom: cookies and other options, limits, who may have others asked, who may have a whole zone.

Pure. A guest is one message's sender. What is said to him alone (a cookie, padding) is put behind a finished answer, so
that all who ask the same share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnsserver.access import Clients
from dnsserver.aging import Clock
from dnsserver.cookies import Cookies
from dnsserver.message import edns, wire, writer
from dnsserver.message.edns import Options
from dnsserver.message.wire import Query, Rcode, Reply
from dnsserver.rate import Limiter, Verdict
from dnsserver.skydns import chaos

# An OPT record that ends a message, with a cookie as its one option: its length, and the option's head.
_CLIENT_COOKIE, _BOTH_COOKIES = b"\x00\x0c\x00\x0a\x00\x08", b"\x00\x1c\x00\x0a\x00\x18"
_COOKIE_HEAD = b"\x00\x0a\x00\x18"
NO_CLIENTS = Clients(())


class Policy(NamedTuple):
    """What an operator decided.

    Attributes:
        recursive: who may have others asked.
        transfers: who may have a whole zone.
        identity: what we call ourselves (NSID, id.server).
        version: what is said of our version; empty: nothing.
        turning: addresses come in another order each time.
        domains: ours, as wire names; in class CHAOS they tell who made us.
    """

    recursive: Clients = NO_CLIENTS
    transfers: Clients = NO_CLIENTS
    identity: str = ""
    version: str = ""
    turning: bool = True
    domains: frozenset[bytes] = frozenset()


NOTHING_SAID = Policy()


class Cookied(NamedTuple):
    """A message whose one option is a cookie, by the look of its end.

    Attributes:
        plain: the message without its id and the cookie.
        option: what is put behind the answer.
        limit: most octets of the answer, id included.
    """

    plain: bytes
    option: bytes
    limit: int

    def finished(self, body: bytes) -> bytes | None:
        """The body with a cookie; None when that is too long."""
        if len(body) + len(self.option) + 2 > self.limit:
            return None
        return writer.with_options(body, self.option)


class Guest(NamedTuple):
    """The sender of one message.

    Attributes:
        client: octets of his address.
        recursive: he may have others asked.
        transfers: he may have a whole zone.
        options: what he asks for besides.
        tcp: how he came.
        cookie: his cookie and ours; empty: none is given.
        nsid: what we call ourselves; empty: nothing is said.
        idle_ms: how long his connection may be silent.
        proven: he has a cookie of ours, so his address is his.
        tight: the answer has to leave room for what is put behind it.
    """

    client: bytes = b""
    recursive: bool = False
    transfers: bool = False
    options: Options = edns.NONE
    tcp: bool = False
    cookie: bytes = b""
    nsid: bytes = b""
    idle_ms: int = 0
    proven: bool = False
    tight: bool = False

    @property
    def room(self) -> int:
        """Octets to keep free."""
        return len(self._added(0)) + edns.PADDED_TO * self.options.padding if self.tight else 0

    def finished(self, body: bytes) -> bytes:
        """The body as this guest gets it."""
        added = self._added(len(body) + 2) if self.options is not edns.NONE else b""
        return writer.with_options(body, added) if added else body

    def _added(self, size: int) -> bytes:
        return edns.write_options(
            self.options,
            transport_tcp=self.tcp,
            cookie=self.cookie,
            nsid=self.nsid,
            keepalive_ms=self.idle_ms,
            size=size,
        )


class Guests:
    """What is done for whom.

    Args:
        policy: what an operator decided.
        cookies: what server cookies are made from; None: none are given.
        limiter: the bound on answers over UDP; None: there is none.
        clock: the time.
        idle_ms: how long a TCP connection may be silent now.
    """

    def __init__(
        self,
        policy: Policy = NOTHING_SAID,
        cookies: Cookies | None = None,
        limiter: Limiter | None = None,
        *,
        clock: Clock | None = None,
        idle_ms: Callable[[], int] = lambda: 10_000,
    ) -> None:
        self.policy, self.limiter, self.clock = policy, limiter, clock or Clock()
        self._cookies, self._idle_ms = cookies, idle_ms

    @property
    def turning(self) -> bool:
        """Addresses come in another order each time."""
        return self.policy.turning

    def by_cookie(self, key: bytes, client: bytes) -> Cookied | None:
        """What a message is without its cookie, if that is its one option; None: look at it whole.

        What only looks so at its end makes no harm: without these octets it is a message that was asked before.
        """
        if key[-14:-8] == _CLIENT_COOKIE and key[-23:-20] == wire.OPT_START:
            end, cookie = -14, key[-8:]
        elif key[-30:-24] == _BOTH_COOKIES and key[-39:-36] == wire.OPT_START:
            end, cookie = -30, key[-24:]
        else:
            return None
        if self._cookies is None:
            return None
        limit = min(wire.MAX_UDP, max(wire.MAX_PLAIN_UDP, int.from_bytes(key[end - 6 : end - 4])))
        both = self._cookies.check(cookie, client, int(self.clock.unix)).option
        return Cookied(key[:end] + b"\x00\x00", _COOKIE_HEAD + both, limit) if both else None

    def welcome(self, query: Query, client: bytes, *, tcp: bool) -> Guest:
        """Who asks, and what is done for him.

        Raises:
            Malformed: options that have no meaning.
        """
        policy = self.policy
        guest = Guest(client, policy.recursive.allows(client), policy.transfers.allows(client))
        if query.edns is None or not query.edns.options:
            return guest
        options = edns.read_options(query.edns.options, tcp=tcp)
        known, cookie = False, b""
        if options.cookie is not None and self._cookies is not None:
            known, cookie = self._cookies.check(options.cookie, client, int(self.clock.unix))
        return guest._replace(
            options=options,
            tcp=tcp,
            cookie=cookie,
            nsid=policy.identity.encode(),
            idle_ms=self._idle_ms() if tcp else 0,
            proven=known,
        )

    def limit(self, key: bytes, client: bytes) -> Verdict:
        """Whether one more answer over UDP is given; a client with a cookie of ours always gets it."""
        if self.limiter is None or self._is_proven(key, client):
            return Verdict.PASS
        return self.limiter.verdict(client, self.clock.now)

    def _is_proven(self, key: bytes, client: bytes) -> bool:
        if self._cookies is None or key[-30:-24] != _BOTH_COOKIES or key[-39:-36] != wire.OPT_START:
            return False
        return self._cookies.check(key[-24:], client, int(self.clock.unix)).known

    def chaos(self, query: Query) -> Reply:
        """What is said of ourselves; to a question without a question (RFC 7873 §5.4) nothing but a cookie."""
        if not query.question:
            return Reply(Rcode.NOERROR)
        policy = self.policy
        return chaos.answer(query.name, query.type, policy.domains, identity=policy.identity, version=policy.version)
