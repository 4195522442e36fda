"""Messages out of a TCP stream: two octets of length, then the message (RFC 1035 §4.2.2).

Pure. Octets may come in any pieces; what was fed and not taken is held, so take before you feed on.
"""

from __future__ import annotations

from dnsserver.message.wire import HEADER, MAX_QUERY

_LENGTH = 2  # octets


class BadFrame(ValueError):
    """A length that no query has; what follows cannot be understood, so the connection ends."""


class Frames:
    """Puts messages together."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes | memoryview) -> None:
        """Take in what came; copied."""
        self._buffer += octets

    @property
    def pending(self) -> int:
        """Octets that were fed and not taken."""
        return len(self._buffer)

    def take(self) -> bytes | None:
        """The next message; None: there is no whole one.

        Raises:
            BadFrame: a length below a header or above any query.
        """
        buffer = self._buffer
        if len(buffer) < _LENGTH:
            return None
        length = buffer[0] << 8 | buffer[1]
        if not HEADER <= length <= MAX_QUERY:
            raise BadFrame(f"a message of {length} octets")
        end = _LENGTH + length
        if end > len(buffer):
            return None
        message = bytes(buffer[_LENGTH:end])
        del buffer[:end]
        return message


def framed(reply: bytes) -> bytes:
    """A reply with its length in front, to be sent in one piece (RFC 7766 §8)."""
    return len(reply).to_bytes(_LENGTH) + reply
