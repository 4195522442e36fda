"""What stands in front of the services: which changes of it may wait for old workers."""

from __future__ import annotations

import msgspec
import pytest

from confgen.nginx import quote, tls
from confgen.nginx.front import PLAIN, Front, only_adds
from confgen.nginx.shapes import Server
from confgen.nginx.stream_shapes import Around, Behind, Facts, Pool, Socket, StreamView
from confgen.nginx.streams import assemble
from tests.confgen.kit import Catalog, claim, container, endpoint, put

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
    assert only_adds(before, after, lambda *_: False) is expected


def named(*names, hosts=()):
    """Streams of services at names on the port of https, `SERVICE@NAME`, beside hosts of others."""
    catalog = Catalog()
    catalog.views.face(Facts(missing=""))
    for service, _, host in (one.partition("@") for one in names):
        catalog.feed(
            put(container(service, endpoint(service, scheme="tcp", hosts=(host,)))),
            claim(service, f"{host}:https", "/tcp"),
        )
    around = AROUND._replace(hosts=frozenset(hosts), reserved=("proxy.test",))
    return Front(stream=assemble(catalog.views.streams.views, around))


NAMES = {
    "the first name": ([], ["db@a.test"], (), True),
    "one more": (["db@a.test"], ["db@a.test", "mq@b.test"], (), True),
    "one below another's wildcard": (["db@*.test"], ["db@*.test", "mq@b.test"], (), False),
    "one below that of a wider wildcard": (["db@*.test"], ["db@*.test", "mq@c.b.test"], (), False),
    "a wildcard above another's name": (["db@a.test"], ["db@a.test", "mq@*.test"], ("b.test",), True),
    "a host of http below a wildcard": (["db@*.test"], ["db@*.test"], ("b.test",), False),
    "a host of http elsewhere": (["db@*.test"], ["db@*.test"], ("b.example",), True),
    "a name that nginx serves to another": ([], ["db@served.test"], (), False),
}


@pytest.mark.parametrize(("before", "after", "hosts", "expected"), NAMES.values(), ids=NAMES)
def test_a_new_name_that_another_service_answers_until_now_does_not_wait(before, after, hosts, expected):
    now = named(*after, hosts=hosts)
    assert only_adds(named(*before), now, lambda _, host, path: (host, path) == ("served.test", "/")) is expected
