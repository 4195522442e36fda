"""Messages out of a TCP stream: two octets of length, then the message (RFC 1035 §4.2.2).

Pure. Octets may come in any pieces; what was fed and not taken is held, so take before you feed on.
"""

from __future__ import annotations

from dnsserver.wire import HEADER, MAX_QUERY

_LENGTH = 2  # octets


class BadFrame(ValueError):
    """A length that no query has; what follows cannot be understood, so the connection ends."""


class Frames:
    """Puts messages together."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> None:
        """Take in what came."""
        self._buffer += octets

    @property
    def pending(self) -> int:
        """Octets that make no whole message yet."""
        return len(self._buffer)

    def take(self, most: int) -> list[bytes]:
        """At most so many whole messages, in order.

        Raises:
            BadFrame: a length below a header or above any query.
        """
        messages: list[bytes] = []
        at, buffer = 0, self._buffer
        while len(messages) < most and at + _LENGTH <= len(buffer):
            length = buffer[at] << 8 | buffer[at + 1]
            if not HEADER <= length <= MAX_QUERY:
                raise BadFrame(f"a message of {length} octets")
            end = at + _LENGTH + length
            if end > len(buffer):
                break
            messages.append(bytes(buffer[at + _LENGTH : end]))
            at = end
        del buffer[:at]
        return messages


def framed(reply: bytes) -> bytes:
    """A reply with its length in front, to be sent in one piece (RFC 7766 §8)."""
    return len(reply).to_bytes(_LENGTH) + reply
