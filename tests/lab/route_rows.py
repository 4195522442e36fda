"""Requests whose answers say what a tag did: the table of `test_routes.py`, by the services of `routes.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tests.confgen.asking import login
from tests.lab.suite import DOMAIN


def url(service: str, path: str = "/", scheme: str = "http") -> str:
    return f"{scheme}://{service}.{DOMAIN}{path}"


class Row(NamedTuple):
    """One request, and what is to come of it.

    Attributes:
        url: without a port.
        options: curl's.
        status: of the answer.
        headers: of the answer; None: it is not there.
        seen: what the application saw; "x-...": a header.
        text: what stands in the answer.
    """

    url: str
    options: tuple[str, ...] = ()
    status: int = 200
    headers: Mapping[str, str | None] = MappingProxyType({})
    seen: Mapping[str, object] = MappingProxyType({})
    text: str = ""


BASIC = ("-H", f"Authorization: {login()[0][1]}")
STAFF_REALM = f'Basic realm="Restricted staff.{DOMAIN}"'
HTTP2 = ("--http2-prior-knowledge",)
ROWS = {
    "http/1.1": Row(url("plain", "/a?b=c"), seen={"target": "/a?b=c", "x-forwarded-proto": "http"}),
    "http/2 without tls": Row(url("plain", "/a"), HTTP2, seen={"target": "/a"}),
    "client": Row(url("plain"), seen={"x-real-ip": "10.88.0.1", "x-forwarded-for": "10.88.0.1"}),
    "host": Row("http://site.test/a/b", seen={"target": "/a/b", "port": 9200}),
    "another host of it": Row("http://www.site.test/", seen={"name": "site", "port": 9200}),
    "path, stripped": Row(
        "http://site.test/api/v1", seen={"port": 9300, "target": "/v1", "x-forwarded-prefix": "/api"}
    ),
    "path, another prefix": Row("http://dest.test/shop/a?b=c", seen={"port": 9600, "target": "/v2/a?b=c"}),
    "path of another host": Row("http://www.site.test/api/v1", seen={"port": 9200, "target": "/api/v1"}),
    "path": Row("http://only.test/only/a", seen={"target": "/only/a", "port": 9500}),
    "path that nobody serves": Row("http://only.test/", status=404),
    "wildcard": Row("http://a.b.wild.test/", seen={"port": 9200, "host": "a.b.wild.test"}),
    "exact before wildcard": Row("http://exact.wild.test/", seen={"port": 9300}),
    "http beside https": Row(url("open", "/a"), seen={"port": 9600, "target": "/a"}),
    "http refused": Row(url("unheard"), status=404),
    "application in tls": Row(url("inner"), seen={"name": "inner", "sni": f"inner.{DOMAIN}"}),
    "timeout": Row(url("patient", "/slow/2500"), status=504),
    "in time": Row(url("patient", "/slow/10")),
    "body as large as may be": Row(url("small"), ("-d", "x" * 1024), seen={"body": 1024}),
    "body too large": Row(url("small"), ("-d", "x" * 1025), status=413),
    "chunked body": Row(
        url("plain"), ("-H", "Transfer-Encoding: chunked", "-d", "x" * 5000), seen={"body": 5000, "method": "POST"}
    ),
    "no password": Row(url("staff"), status=401, headers={"www-authenticate": STAFF_REALM}),
    "password": Row(url("staff"), BASIC, seen={"name": "guards"}),
    "password by post": Row(url("staff"), ("-d", "x"), status=401),
    "redirect to the first host": Row(
        "http://old.test/a?b=1", status=307, headers={"location": "http://new.test/a?b=1"}
    ),
    "first host": Row("http://new.test/a", seen={"target": "/a"}),
    "redirect elsewhere": Row(url("gone"), status=301, headers={"location": "https://else.test/x"}),
    "maintenance": Row(url("works"), status=503, headers={"retry-after": "60"}, text="is being worked on"),
    "compression": Row(url("packed", "/big/5000"), ("--compressed",), headers={"content-encoding": "gzip"},
                       text="x" * 5000),
    "no compression": Row(url("packed", "/big/5000"), headers={"content-encoding": None}),
    "careful headers": Row(
        url("careful"),
        headers={"x-content-type-options": "nosniff", "x-frame-options": "SAMEORIGIN",
                 "referrer-policy": "strict-origin-when-cross-origin"},
    ),
    "snippet of a host": Row(url("snip", "/robots.txt"), text="no robots"),
    "snippet of a path": Row(url("snip"), headers={"x-path": "root"}, seen={"name": "dressed"}),
    "nginx-proxy's host": Row("http://old-school.test/a", seen={"target": "/a", "port": 9200, "name": "old"}),
    "unknown host": Row("http://nobody.test/", status=404, text="pilotfish explain nobody.test"),
}  # fmt: skip
