"""A domain that we are authoritative for. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Domain(NamedTuple):
    """One domain of ours.

    Attributes:
        text: in lower case, without its last dot.
        name: as wire name.
        reverse: below in-addr.arpa or ip6.arpa: it holds no services.
    """

    text: str
    name: bytes
    reverse: bool = False
