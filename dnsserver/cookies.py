"""Server cookies: whoever shows the one that we gave to its address does not forge that address (RFC 7873, RFC 9018).

Pure: the secret and the time come in. A cookie costs some 15 µs to make and is remembered, so that a client that keeps
its own costs one look-up. How many are made in a second is bounded: a flood of made-up cookies must not cost more than
that, and meanwhile strangers are answered as if we had no cookies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hmac import compare_digest
from typing import NamedTuple

from dnsserver.recent import Recent

CLIENT_SIZE, SERVER_SIZE = 8, 16  # octets
SECRET_SIZE = 16  # octets; RFC 9018 §4.4
MOST = 20_000  # clients remembered; some 5 MB
MADE_PER_S = 5_000  # cookies made or checked the long way in a second; a fourteenth of one core
_VERSION = b"\x01\x00\x00\x00"  # and three reserved octets; RFC 9018 §4.1, §4.2
_PAST_S, _FUTURE_S, _RENEW_S = 3600, 300, 1800  # RFC 9018 §4.3
_STAMP = struct.Struct("!I")
_HALF_U32 = 1 << 31


class Checked(NamedTuple):
    """What came of a COOKIE option.

    Attributes:
        known: it has a server cookie that we gave to this address.
        option: what to put into the reply: the client's cookie and ours; b"": nothing, there were too many strangers.
    """

    known: bool
    option: bytes


class Cookies:
    """Makes and checks server cookies.

    Args:
        secret: 16 octets, the same for all servers behind one address.
        older: secrets whose cookies are still good; none is made with them (RFC 9018 §5).
        made_per_s: see the module.
    """

    def __init__(self, secret: bytes, older: Sequence[bytes] = (), *, made_per_s: int = MADE_PER_S) -> None:
        if any(len(one) != SECRET_SIZE for one in (secret, *older)):
            raise ValueError(f"a cookie secret has {SECRET_SIZE} octets")
        self.left_out = 0  # clients that were not served, because too many strangers came at once
        self._secrets = (secret, *older)
        self._known: Recent[bytes, tuple[int, bytes]] = Recent(MOST)  # client cookie and address: its time, the cookie
        self._made_per_s, self._second, self._left = made_per_s, -1, 0

    def check(self, octets: bytes, client: bytes, now_s: int) -> Checked:
        """Judge a COOKIE option and say what to reply.

        Args:
            octets: the option's data: a client cookie, and behind it a server cookie, if any.
            client: packed address, 4 or 16 octets.
            now_s: UNIX time in seconds.
        """
        theirs, shown = octets[:CLIENT_SIZE], octets[CLIENT_SIZE:]
        kept = self._kept(theirs + client, now_s)
        if kept is not None and compare_digest(kept, shown):
            return Checked(True, octets)
        known = bool(shown) and self.valid(theirs, shown, client, now_s)
        ours = self.answer(theirs, client, now_s)
        return Checked(known, theirs + ours if ours else b"")

    def answer(self, client_cookie: bytes, client: bytes, now_s: int) -> bytes:
        """The server cookie for a client: the one it had for half an hour, then a new one; b"": see the module.

        Args: as in `check`.
        """
        key = client_cookie + client
        kept = self._kept(key, now_s)
        if kept is not None:
            return kept
        if not self._may_make(now_s):
            return b""
        head = _VERSION + _STAMP.pack(now_s & 0xFFFFFFFF)
        made = head + _hash(self._secrets[0], client_cookie + head + client)
        self._known.put(key, (now_s, made))
        return made

    def valid(self, client_cookie: bytes, server_cookie: bytes, client: bytes, now_s: int) -> bool:
        """True for a cookie that was made for this client in the last hour, by us or by another with our secret.

        Args: as in `check`.
        """
        if len(server_cookie) != SERVER_SIZE or server_cookie[0] != _VERSION[0]:
            return False
        age_s = _since(_STAMP.unpack_from(server_cookie, 4)[0], now_s)
        if not -_FUTURE_S <= age_s <= _PAST_S:
            return False
        key = client_cookie + client
        found = self._known.get(key)
        if found is not None and compare_digest(found[1], server_cookie):
            return True
        if not self._may_make(now_s):
            return False
        hashed = client_cookie + server_cookie[:CLIENT_SIZE] + client
        matches = [compare_digest(_hash(one, hashed), server_cookie[CLIENT_SIZE:]) for one in self._secrets]
        if matches[0] and found is None and server_cookie.startswith(_VERSION):
            self._known.put(key, (now_s - age_s, server_cookie))  # made by another process: the client may keep it
        return any(matches)

    def _kept(self, key: bytes, now_s: int) -> bytes | None:
        found = self._known.get(key)
        return found[1] if found is not None and -_FUTURE_S <= now_s - found[0] < _RENEW_S else None

    def _may_make(self, now_s: int) -> bool:
        if now_s != self._second:
            self._second, self._left = now_s, self._made_per_s
        if not self._left:
            self.left_out += 1
            return False
        self._left -= 1
        return True


# The time in a cookie has 32 bits and goes on after their end (RFC 1982).
def _since(stamp: int, now_s: int) -> int:
    return (now_s - stamp + _HALF_U32) % (2 * _HALF_U32) - _HALF_U32


def _hash(secret: bytes, octets: bytes) -> bytes:
    return siphash(secret, octets).to_bytes(8, "little")


def siphash(key: bytes, octets: bytes) -> int:
    """SipHash-2-4, a keyed hash of 64 bits.

    Args:
        key: 16 octets.
        octets: any number of them.

    Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF".

    >>> hex(siphash(bytes(range(16)), bytes(range(15))))
    '0xa129ca6149be45e5'
    """
    mask = 0xFFFFFFFFFFFFFFFF
    k0, k1 = struct.unpack("<2Q", key)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    words = len(octets) // 8 + 1
    last = bytes(words * 8 - len(octets) - 1) + (len(octets) & 0xFF).to_bytes()
    for word, rounds in (*((one, 2) for one in struct.unpack(f"<{words}Q", octets + last)), (0, 4)):
        if rounds == 4:
            v2 ^= 0xFF
        v3 ^= word
        for _ in range(rounds):  # "x << n | x >> 64 - n" turns x by n bits
            v0, v2 = (v0 + v1) & mask, (v2 + v3) & mask
            v1, v3 = ((v1 << 13 | v1 >> 51) & mask) ^ v0, ((v3 << 16 | v3 >> 48) & mask) ^ v2
            v0 = (v0 << 32 | v0 >> 32) & mask
            v2, v0 = (v2 + v1) & mask, (v0 + v3) & mask
            v1, v3 = ((v1 << 17 | v1 >> 47) & mask) ^ v2, ((v3 << 21 | v3 >> 43) & mask) ^ v0
            v2 = (v2 << 32 | v2 >> 32) & mask
        v0 ^= word
    return int(v0 ^ v1 ^ v2 ^ v3)
