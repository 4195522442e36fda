"""What stands in front of the services: which changes of it may wait for old workers."""

from __future__ import annotations

import msgspec
import pytest

from confgen.nginx import quote, tls
from confgen.nginx.front import PLAIN, Front, only_adds
from confgen.nginx.shapes import Server
from confgen.nginx.streams import Around, Behind, Pool, Socket, StreamView, assemble

AROUND = Around(443, frozenset(), "/n/inner", ipv6=False)


def streams(**ports):
    """Streams of services at ports."""
    server = quote.address("10.0.0.1", 80)
    views = {}
    for service, port in ports.items():
        pool = Pool(quote.upstream(f"{service}--1"), False, (Server(server, quote.number(1), here=True),))
        behind = Behind(Socket("tcp", port), "", pool.name)
        views[service] = StreamView(quote.file(f"streams/{service}.conf"), (pool,), (behind,))
    return Front(stream=assemble(views, AROUND))


SECURE = Front(secure=tls.secure(443, ipv6=False, http2="none"), files={"certs/a.key": b"1"})
ROWS = {
    "nothing": (PLAIN, PLAIN, True),
    "https": (PLAIN, SECURE, True),
    "https no more": (SECURE, PLAIN, False),
    "https behind the streams": (
        SECURE,
        msgspec.structs.replace(SECURE, secure=tls.secure(443, ipv6=False, http2="none", inner="/n/inner/https.sock")),
        False,
    ),
    "a renewed certificate": (SECURE, msgspec.structs.replace(SECURE, files={"certs/a.key": b"2"}), False),
    "a certificate more": (
        SECURE,
        msgspec.structs.replace(SECURE, files={"certs/a.key": b"1", "certs/b.key": b"2"}),
        True,
    ),
    "a certificate that nobody uses": (SECURE, msgspec.structs.replace(SECURE, files={}), True),
    "a stream": (PLAIN, streams(db=5432), True),
    "another stream": (streams(db=5432), streams(db=5432, mq=1883), True),
    "a stream at another port": (streams(db=5432), streams(db=5433), False),
    "a stream less": (streams(db=5432, mq=1883), streams(db=5432), False),
    "no stream": (streams(db=5432), PLAIN, False),
}


@pytest.mark.parametrize(("before", "after", "expected"), ROWS.values(), ids=ROWS)
def test_only_what_adds_may_wait(before, after, expected):
    assert only_adds(before, after) is expected
