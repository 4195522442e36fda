"""Until when a certificate is valid, as a sentence: gRPC and etcd do not say which one has expired. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from pilotfish.catalog import x509


def complaint(path: str, pem: bytes, now: datetime, *, one_is_enough: bool = False) -> str:
    """What is wrong with a certificate's file now, as a sentence; "" when nothing is.

    Args:
        path: of the file, for the sentence.
        pem: what it holds.
        now: with a time zone.
        one_is_enough: it is a list of CAs, of which one that is valid may be the one that counts; else a chain.
    """
    try:
        found = x509.read_all(pem)
    except x509.BadCertificate as error:
        return f"{path}: {error}"
    moment = now.timestamp()
    if one_is_enough and any(one.not_before <= moment <= one.not_after for one in found):
        return ""
    begin, end = max(one.not_before for one in found), min(one.not_after for one in found)
    if moment > end:
        return f"{path} expired on {_shown(end)}: renew it, it is read again at the next attempt"
    if moment < begin:
        return f"{path} is not valid before {_shown(begin)}: is this host's clock right?"
    return ""


def _shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
