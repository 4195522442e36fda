"""What is done for whom: cookies and other options, limits, who may have others asked, who may have a whole zone.

Pure. A guest is one message's sender. What is said to him alone (a cookie, padding) is put behind a finished answer, so
that all who ask the same share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnsserver import chaos, edns, wire
from dnsserver.access import Clients
from dnsserver.aging import Clock
from dnsserver.cookies import Cookies
from dnsserver.edns import Code, Options
from dnsserver.rate import Limiter, Verdict
from dnsserver.wire import Query, Rcode, Reply

# An OPT record that ends a message, with a cookie as its one option: its length, and the option's head.
_CLIENT_COOKIE, _BOTH_COOKIES = b"\x00\x0c\x00\x0a\x00\x08", b"\x00\x1c\x00\x0a\x00\x18"
_COOKIE_HEAD = b"\x00\x0a\x00\x18"
PADDING_BLOCK = 468  # octets; RFC 8467 §4.1
NO_CLIENTS = Clients()


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
        return wire.with_options(body, self.option)


class Guest(NamedTuple):
    """The sender of one message.

    Attributes:
        client: octets of his address.
        recursive: he may have others asked.
        transfers: he may have a whole zone.
        added: options that are put behind the answer.
        padded: the answer is filled up to whole blocks.
        proven: he has a cookie of ours, so his address is his.
        looped: the question was sent for a stub zone that leads to us.
        tight: the answer has to leave room for what is put behind it.
    """

    client: bytes = b""
    recursive: bool = False
    transfers: bool = False
    added: bytes = b""
    padded: bool = False
    proven: bool = False
    looped: bool = False
    tight: bool = False

    @property
    def room(self) -> int:
        """Octets to keep free."""
        return len(self.added) + PADDING_BLOCK * self.padded if self.tight else 0

    def finished(self, body: bytes) -> bytes:
        """The body as this guest gets it."""
        added = self.added
        if self.padded:
            head = 2 + len(edns.padding(0))  # the id in front, and what the option itself takes
            added += edns.padding(-(len(body) + len(added) + head) % PADDING_BLOCK)
        return wire.with_options(body, added) if added else body


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
        self.turning = policy.turning
        self._cookies, self._idle_ms = cookies, idle_ms

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
        own = self._cookies.answer(cookie[:8], client, int(self.clock.unix))
        return Cookied(key[:end] + b"\x00\x00", b"".join((_COOKIE_HEAD, cookie[:8], own)), limit)

    def welcome(self, query: Query, client: bytes, *, tcp: bool) -> Guest:
        """Who asks, and what is done for him.

        Raises:
            Malformed: options that have no meaning.
        """
        guest = Guest(client, self.policy.recursive.allows(client), self.policy.transfers.allows(client))
        if query.edns is None or not query.edns.options:
            return guest
        options = edns.read(query.edns.options)
        now_s = int(self.clock.unix)
        proven = self._cookies is not None and self._cookies.valid(
            options.client_cookie, options.server_cookie, client, now_s
        )
        return guest._replace(
            added=self._added(options, client, now_s, tcp=tcp),
            padded=tcp and options.padding,
            proven=proven,
            looped=options.looped,
        )

    def _added(self, options: Options, client: bytes, now_s: int, *, tcp: bool) -> bytes:
        added = b""
        if options.client_cookie and self._cookies is not None:
            own = self._cookies.answer(options.client_cookie, client, now_s)
            added += edns.option(Code.COOKIE, options.client_cookie + own)
        if options.nsid and self.policy.identity:
            added += edns.option(Code.NSID, self.policy.identity.encode())
        if options.keepalive and tcp:
            added += edns.keepalive(self._idle_ms())
        return added

    def limit(self, key: bytes, client: bytes) -> Verdict:
        """Whether one more answer over UDP is given; a client with a cookie of ours always gets it."""
        if self.limiter is None or self._is_proven(key, client):
            return Verdict.PASS
        return self.limiter.verdict(client, self.clock.now)

    def _is_proven(self, key: bytes, client: bytes) -> bool:
        if self._cookies is None or key[-30:-24] != _BOTH_COOKIES or key[-39:-36] != wire.OPT_START:
            return False
        return self._cookies.valid(key[-24:-16], key[-16:], client, int(self.clock.unix))

    def chaos(self, query: Query) -> Reply:
        """What is said of ourselves; to a question without a question (RFC 7873 §5.4) nothing but a cookie."""
        if not query.question:
            return Reply(Rcode.NOERROR)
        policy = self.policy
        return chaos.answer(query.name, query.type, policy.domains, identity=policy.identity, version=policy.version)
