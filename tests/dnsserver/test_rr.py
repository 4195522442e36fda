"""The data of every record type that we write by hand is what dnslib writes."""

from __future__ import annotations

import dnslib
import pytest

from dnsserver.message import rr

WEB = b"\x03web\x07example\x00"


def packed(data: dnslib.RD) -> bytes:
    buffer = dnslib.DNSBuffer()
    data.pack(buffer)
    return bytes(buffer.data)


def written(data: rr.Data) -> bytes:
    return data.head + b"".join(data.names) + data.tail


ROWS = {
    "A": (rr.address("10.0.0.1")[1], dnslib.A("10.0.0.1")),
    "AAAA": (rr.address("fd00::1")[1], dnslib.AAAA("fd00::1")),
    "CNAME": (rr.pointing(WEB), dnslib.CNAME("web.example.")),
    "PTR": (rr.pointing(WEB), dnslib.PTR("web.example.")),
    "NS": (rr.pointing(WEB), dnslib.NS("web.example.")),
    "SRV": (rr.srv(rr.Service(10, 50, 8080, WEB)), dnslib.SRV(10, 50, 8080, "web.example.")),
    "SOA": (
        rr.soa(WEB, b"\x04mail\x04test\x00", rr.Soa(7, 1, 2, 3, 4)),  # nothing in common that dnslib would compress
        dnslib.SOA("web.example.", "mail.test.", (7, 1, 2, 3, 4)),
    ),
    "TXT, short": (rr.text(b"hello"), dnslib.TXT([b"hello"])),
    "TXT, empty": (rr.text(b""), dnslib.TXT([b""])),
    "TXT, exactly one string": (rr.text(b"a" * 255), dnslib.TXT([b"a" * 255])),
    "TXT, two strings": (rr.text(b"a" * 256), dnslib.TXT([b"a" * 255, b"a"])),
}


@pytest.mark.parametrize(("ours", "theirs"), ROWS.values(), ids=ROWS.keys())
def test_data(ours, theirs):
    """Octet for octet."""
    assert written(ours) == packed(theirs)
