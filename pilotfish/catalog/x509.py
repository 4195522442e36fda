"""What a certificate says of itself: which hosts it is for, and from when to when.

Pure: octets in, values out. A strict reader of the little DER that we need; signatures, keys and chains are for
OpenSSL. Every length is checked against what is there, and nothing is read twice, so work is bounded by
the input.
Source: RFC 5280 §4.1 and §4.2.1.6, RFC 7468 §5 (PEM), ITU-T X.690 §8 and §10 (DER).
Differs: the subject's common name is no host name (RFC 9525 §2): no client of today takes it for one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from pilotfish.catalog import values

MAX_NAMES = 1000  # hosts of one certificate that are looked at; authorities sign about a hundred

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _OID, _OCTETS = 0x30, 0x17, 0x18, 0x06, 0x04
_EXTENSIONS, _DNS_NAME = 0xA3, 0x82  # [3] EXPLICIT; [2] IMPLICIT IA5String
_SUBJECT_ALT_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17


class BadCertificate(ValueError):
    """It is no certificate, or not one that can be read; the message says what is missing."""


class Said(NamedTuple):
    """What a certificate says of itself.

    Attributes:
        hosts: exact ones and `*.` ones, lower case, sorted, each once; addresses and what is no host are left out.
        not_before: UNIX time in seconds from which it is valid.
        not_after: until which.
    """

    hosts: tuple[str, ...]
    not_before: float
    not_after: float


class _Element(NamedTuple):
    tag: int
    value: bytes


def read(pem: bytes) -> Said:
    """Read the first certificate of a file: a server's own stands first, its chain behind it.

    Raises:
        BadCertificate: there is none, or it cannot be read.
    """
    return next(_read(pem))


def read_all(pem: bytes) -> tuple[Said, ...]:
    """Read all certificates of a file, in their order.

    Raises:
        BadCertificate: there is none, or one of them cannot be read.
    """
    return tuple(_read(pem))


def _read(pem: bytes) -> Iterator[Said]:
    blocks = pem.split(_BEGIN)[1:]
    if not blocks:
        raise BadCertificate("no certificate is in it")
    for block in blocks:
        body, end, _ = block.partition(_END)
        if not end:
            raise BadCertificate("its certificate is cut short")
        try:
            der = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error as error:
            raise BadCertificate("its certificate is no base64") from error
        yield read_der(der)


def read_der(der: bytes) -> Said:
    """Read one certificate in DER.

    Raises:
        BadCertificate: it cannot be read.
    """
    body = _inside(_one(_inside(_one(der), _SEQUENCE)), _SEQUENCE)
    fields = [one for one in _elements(body) if one.tag != 0xA0]  # [0]: its version
    if len(fields) < 6:
        raise BadCertificate("its certificate is cut short")
    not_before, not_after = _validity(_inside(fields[3], _SEQUENCE))
    extensions = next((one.value for one in fields[6:] if one.tag == _EXTENSIONS), b"")
    return Said(tuple(sorted(set(_hosts(extensions)))), not_before, not_after)


def _validity(value: bytes) -> tuple[float, float]:
    times = [_time(one) for one in _elements(value)]
    if len(times) != 2:
        raise BadCertificate("its certificate does not say how long it is valid")
    return times[0], times[1]


def _time(one: _Element) -> float:
    """RFC 5280 §4.1.2.5: UTCTime with two digits of the year up to 2049, then GeneralizedTime; both end with Z."""
    text = one.value.decode("ascii", "replace")
    if one.tag == _UTC_TIME and len(text) == 13:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif one.tag != _GENERALIZED_TIME:
        text = ""
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadCertificate("its certificate has a time that is none") from None


def _hosts(extensions: bytes) -> Iterator[str]:
    if not extensions:
        return
    for extension in _elements(_inside(_one(extensions), _SEQUENCE)):
        parts = list(_elements(_inside(extension, _SEQUENCE)))
        if len(parts) < 2 or parts[0] != _Element(_OID, _SUBJECT_ALT_NAME):
            continue
        names = list(_elements(_inside(_one(_inside(parts[-1], _OCTETS)), _SEQUENCE)))
        for name in names[:MAX_NAMES]:
            text = name.value.decode("ascii", "replace").lower()
            if name.tag == _DNS_NAME and len(text) <= values.MAX_NAME and values.HOST.pattern.match(text):
                yield text


def _inside(one: _Element, tag: int) -> bytes:
    if one.tag != tag:
        raise BadCertificate("its certificate is not built as RFC 5280 says")
    return one.value


def _one(data: bytes) -> _Element:
    """The first element of what may have more behind it."""
    found = next(_elements(data), None)
    if found is None:
        raise BadCertificate("its certificate is cut short")
    return found


def _elements(data: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        tag, length, at = _head(data, at)
        if at + length > len(data):
            raise BadCertificate("its certificate is cut short")
        yield _Element(tag, data[at : at + length])
        at += length


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, length, and where the value begins; X.690 §8.1.2 and §8.1.3, definite lengths of at most four octets."""
    if at + 2 > len(data):
        raise BadCertificate("its certificate is cut short")
    tag, length, at = data[at], data[at + 1], at + 2
    if length < 0x80:
        return tag, length, at
    octets = length & 0x7F
    if not 1 <= octets <= 4 or at + octets > len(data):
        raise BadCertificate("its certificate has a length that is none")
    return tag, int.from_bytes(data[at : at + octets], "big"), at + octets
