"""Server cookies: proof that a client receives what is sent to its address (RFC 7873, in the form of RFC 9018).

Pure. A server cookie is a version, a time and a hash over both, the client's cookie and address; all servers with one
secret make and accept the same ones. A client that keeps its cookie costs one look-up.
"""

from __future__ import annotations

import hmac
import struct

VERSION = b"\x01\x00\x00\x00"  # and three octets reserved; RFC 9018 §4.2
CLIENT, SERVER = 8, 16  # octets
PAST_S, FUTURE_S = 3600, 300  # how old, and how far ahead, a time may be; RFC 9018 §4.3
RENEW_S = 1800  # from then on a client gets a new one; RFC 9018 §4.3
MAX_REMEMBERED = 10_000  # clients

_MASK = 0xFFFFFFFFFFFFFFFF
_MAGIC = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


class Cookies:
    """Makes and checks server cookies.

    Args:
        secret: 16 octets, nobody else's.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = struct.unpack("<QQ", secret)
        self._made: dict[bytes, tuple[int, bytes]] = {}

    def answer(self, client_cookie: bytes, client: bytes, now_s: int) -> bytes:
        """A server cookie.

        Args:
            client_cookie: 8 octets.
            client: octets of the address.
            now_s: UNIX time.
        """
        found = self._made.get(client_cookie + client)
        if found is not None and now_s - found[0] < RENEW_S:
            return found[1]
        if len(self._made) >= MAX_REMEMBERED:
            self._made.clear()
        cookie = self._cookie(client_cookie, client, now_s & 0xFFFFFFFF)
        self._made[client_cookie + client] = now_s, cookie
        return cookie

    def valid(self, client_cookie: bytes, server_cookie: bytes, client: bytes, now_s: int) -> bool:
        """True for a server cookie that was made for this client's cookie and address, and is not too old."""
        if len(server_cookie) != SERVER:
            return False
        found = self._made.get(client_cookie + client)
        if found is not None and found[1] == server_cookie and now_s - found[0] < PAST_S:
            return True
        made_s: int = struct.unpack_from("!I", server_cookie, 4)[0]
        age_s = (now_s - made_s + 0x80000000) % 0x100000000 - 0x80000000  # RFC 1982
        if not -FUTURE_S <= age_s <= PAST_S:
            return False
        return hmac.compare_digest(self._cookie(client_cookie, client, made_s), server_cookie)

    def _cookie(self, client_cookie: bytes, client: bytes, made_s: int) -> bytes:
        head = VERSION + struct.pack("!I", made_s)
        return head + siphash24(self._key, client_cookie + head + client)


def siphash24(key: tuple[int, int], message: bytes) -> bytes:
    """SipHash-2-4 (Aumasson and Bernstein, 2012): 8 octets, little-endian as RFC 9018 takes them."""
    state = [key[at & 1] ^ magic for at, magic in enumerate(_MAGIC)]
    tail = len(message) % 8
    padded = message + bytes(7 - tail) + bytes((len(message) & 0xFF,))
    for word in struct.unpack(f"<{len(padded) // 8}Q", padded):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return struct.pack("<Q", state[0] ^ state[1] ^ state[2] ^ state[3])


def _rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a = (a + b) & _MASK
        b = ((b << 13) & _MASK | b >> 51) ^ a
        a = (a << 32) & _MASK | a >> 32
        c = (c + d) & _MASK
        d = ((d << 16) & _MASK | d >> 48) ^ c
        a = (a + d) & _MASK
        d = ((d << 21) & _MASK | d >> 43) ^ a
        c = (c + b) & _MASK
        b = ((b << 17) & _MASK | b >> 47) ^ c
        c = (c << 32) & _MASK | c >> 32
    state[:] = a, b, c, d
