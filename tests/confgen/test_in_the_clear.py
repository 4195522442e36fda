"""What becomes of who comes over http to a route of https that serves or refuses him, as PROXY_HTTP says."""

from __future__ import annotations

from pilotfish.catalog.route import Hsts
from tests.confgen.asking import WEB, asking, login
from tests.confgen.kit import Backend, Running, claim, container, endpoint, get, put
from tests.confgen.tls_kit import get_tls
from tests.parts.ports import free_port

TOLD = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https")]
NET = ("127.0.0.1/32",)


def secured(folder, nginx, certs, **more):
    return Running(folder, nginx, certs=str(certs), https_port=free_port(), **more)


async def test_http_is_served_beside_https_with_all_its_guards(nginx, folder, certs, authority, users):
    authority.write(certs, WEB)
    async with Backend("one") as one, secured(folder, nginx, certs, htpasswd=str(users)) as running:
        asked = {"scheme": "https", "http": "serve", "auth": "staff", "hsts": Hsts(60)}
        await running.settle(*asking(one.port, **asked))
        for method, headers, status in (("GET", [], 401), ("GET", login(), 200), ("POST", login(), 200)):
            more = {"method": method, "headers": headers}
            plain = await get(running.port, WEB, **more)
            secret = await get_tls(running.settings.https_port, WEB, authority=authority, **more)
            assert (plain.status, secret.status) == (status, status)
            assert "strict-transport-security" not in plain.headers
            assert secret.headers["strict-transport-security"] == "max-age=60"


async def test_http_is_refused_with_a_certificate_and_without(nginx, folder, certs, authority):
    """Nobody is served over http because a certificate is missing; the neighbour's path at the host is open."""
    part = [
        put(container("api", endpoint("api", to=free_port(), hosts=(WEB,), path="/api"))),
        claim("api", WEB, "/api"),
    ]
    async with Backend("one") as one, secured(folder, nginx, certs) as running:
        await running.settle(*asking(one.port, scheme="https", http="refuse"), *part)
        for method, headers in (("GET", []), ("POST", []), ("GET", [("Upgrade", "websocket")]), ("GET", TOLD)):
            answer = await get(running.port, WEB, method=method, headers=headers)
            assert (answer.status, answer.body) == (404, f"404: nothing is served at {WEB} over http\n")
        assert (await get(running.port, WEB, "/api")).status == 502  # it is asked: nothing listens there
        said = f"not served at all: no certificate in --certs covers {WEB}"
        assert {"service": "web", "subject": f"{WEB}/", "reason": said} in running.state["refused"]
        assert one.requests == []


async def test_refused_below_a_wildcard_are_the_names_that_no_certificate_covers_too(nginx, folder, certs, authority):
    authority.write(certs, "wild", "*.w.test")
    wide = put(container("web", endpoint("web", scheme="https", http="refuse", hosts=("*.w.test",))))
    async with secured(folder, nginx, certs) as running:
        await running.settle(wide, claim("web", "*.w.test"))
        assert [(await get(running.port, host)).status for host in ("a.w.test", "b.a.w.test")] == [404, 404]
        assert running.state["refused"][0]["reason"].startswith("names of more labels than *.w.test are not served:")


async def test_who_came_over_https_to_a_balancer_is_not_refused(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, secured(folder, nginx, certs, trusted=NET) as running:
        await running.settle(*asking(one.port, scheme="https", http="refuse"))
        assert (await get(running.port, WEB)).status == 404
        assert (await get(running.port, WEB, headers=TOLD)).body == "one GET /"
