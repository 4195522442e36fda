"""Until when a certificate is valid, read from its file's text: gRPC and etcd do not say which one has expired.

Pure. Knows of X.509 no more than where the dates stand (RFC 5280 §4.1: the fifth part of TBSCertificate, after the
optional version), in DER (X.690 §8.1).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
VERSION = 0xA0  # [0] EXPLICIT, absent in X.509 v1
UTC_TIME = 0x17  # two digits for the year: 50 to 99 are 19xx; else GeneralizedTime


class BadCertificate(ValueError):
    """The text holds a certificate that cannot be read."""


class Span(NamedTuple):
    """From when until when a certificate is valid."""

    begin: datetime
    end: datetime


def validity(pem: str) -> list[Span]:
    """When the certificates of a PEM file are valid, in their order.

    Raises:
        BadCertificate: there is none, or one that is damaged.
    """
    try:
        found = [_span(ssl.PEM_cert_to_DER_cert(one)) for one in _blocks(pem)]
    except (ValueError, IndexError) as error:
        raise BadCertificate("holds a certificate that cannot be read") from error
    if not found:
        raise BadCertificate("holds no certificate")
    return found


def complaint(path: str, pem: str, now: datetime, *, one_is_enough: bool = False) -> str:
    """What is wrong with a certificate's file now, as a sentence; "" when nothing is.

    Args:
        path: of the file, for the sentence.
        pem: what it holds.
        now: with a time zone.
        one_is_enough: it is a list of CAs, of which one that is valid may be the one that counts; else a chain.
    """
    try:
        spans = validity(pem)
    except BadCertificate as error:
        return f"{path} {error}"
    if one_is_enough and any(span.begin <= now <= span.end for span in spans):
        return ""
    begin, end = max(span.begin for span in spans), min(span.end for span in spans)
    if now > end:
        return f"{path} expired on {end:%Y-%m-%d %H:%M} UTC: renew it, it is read again at the next attempt"
    if now < begin:
        return f"{path} is not valid before {begin:%Y-%m-%d %H:%M} UTC: is this host's clock right?"
    return ""


def _blocks(pem: str) -> Iterator[str]:
    for part in pem.split(BEGIN)[1:]:
        yield BEGIN + part.partition(END)[0] + END


def _span(der: bytes) -> Span:
    _, certificate, _ = _element(der, 0)
    _, to_be_signed, _ = _element(certificate, 0)
    parts = list(_parts(to_be_signed))
    _, body = parts[4] if parts[0][0] == VERSION else parts[3]
    begin, end = list(_parts(body))[:2]
    return Span(_time(begin), _time(end))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, body, at = _element(data, at)
        yield tag, body


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and the end of the element that begins at an octet."""
    tag, size, at = data[at], data[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        size, at = int.from_bytes(data[at : at + octets], "big"), at + octets
    if at + size > len(data):
        raise BadCertificate("cut short")
    return tag, data[at : at + size], at + size


def _time(part: tuple[int, bytes]) -> datetime:
    tag, text = part[0], part[1].decode("ascii")
    year = "" if tag != UTC_TIME else "19" if text[:2] >= "50" else "20"  # RFC 5280 §4.1.2.5.1
    return datetime.strptime(year + text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
