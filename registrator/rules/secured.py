"""The tags about https: which certificate, and what browsers are told to keep. Pure."""

from __future__ import annotations

import re

from pilotfish.catalog import values
from pilotfish.catalog.route import CERT_PATTERN, MAX_AGE_S, Hsts
from pilotfish.catalog.values import BadValue, quoted

_MAX_AGE = "max-age="
_SUBDOMAINS = frozenset({"subdomains", "includesubdomains"})


def parse_cert(text: str) -> str:
    """The name of a certificate: its file in the proxies' folder without the ending.

    Raises:
        BadValue: not such a name.
    """
    if not re.match(CERT_PATTERN, text):
        raise BadValue(
            f"{quoted(text)} is no certificate: the name of its file without .crt or .pem, such as www.example.com"
        )
    return text


def parse_hsts(text: str) -> Hsts | None:
    """`365d`, `365d,subdomains,preload`, the header itself (`max-age=31536000; includeSubDomains`), or `off`.

    Raises:
        BadValue: none of these.

    >>> parse_hsts("365d,subdomains")
    Hsts(max_age=31536000, subdomains=True, preload=False)
    """
    parts = [part.strip().lower() for part in re.split("[,;]", text) if part.strip()]
    if parts in (["off"], ["no"], ["none"]):
        return None
    first, *more = parts or [""]
    seconds = values.parse_duration(first.removeprefix(_MAX_AGE))
    unknown = [word for word in more if word not in _SUBDOMAINS | {"preload"}]
    if unknown or seconds > MAX_AGE_S or seconds != int(seconds):
        raise BadValue(
            f"{quoted(text)} is no HSTS: whole seconds up to ten years, with subdomains and preload behind a comma if "
            "meant, such as 365d,subdomains; or off"
        )
    return Hsts(int(seconds), bool(_SUBDOMAINS & set(more)), "preload" in more)
