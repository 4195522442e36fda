"""What a route asks of nginx besides being served, seen by a real client of a real nginx, old and new."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import msgspec
import pytest

from pilotfish.catalog.options import Options, parse_networks, parse_rate, parse_redirect
from pilotfish.catalog.record import Address
from tests.confgen.asking import WEB, asking, hashed, login, statuses, websocket
from tests.confgen.kit import DOMAIN, NODE, Backend, Running, claim, container, endpoint, get, key_of, put, until
from tests.registrator.builders import decide

# Guards


async def test_auth_lets_in_who_knows_the_password_by_every_method_and_upgrade(nginx, folder, users):
    async with Backend("one") as one, Running(folder, nginx, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, auth="staff"))
        upgrade = [("Upgrade", "websocket")]
        for method, extra in [("GET", []), ("POST", []), ("LOCK", []), ("GET", upgrade)]:
            for headers, status in [([], 401), (login("bob", "wrong"), 401), (login("eve"), 401)]:
                answer = await get(running.port, WEB, method=method, headers=[*headers, *extra])
                assert (method, answer.status) == (method, status)
                assert answer.headers["www-authenticate"] == f'basic realm="restricted {WEB}"'
        assert one.requests == []
        for method in ("GET", "POST", "LOCK"):
            assert (await get(running.port, WEB, method=method, headers=login())).status == 200
        assert [request[0] for request in one.requests] == ["GET", "POST", "LOCK"]


@pytest.mark.parametrize(
    "how", [{"state": "failing"}, {"state": "starting"}, {"state": "draining"}, {"weight": 0}], ids=str
)
async def test_a_guard_stays_while_the_container_that_asks_for_it_is_not_published(one_nginx, folder, users, how):
    async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx, htpasswd=str(users)) as running:
        options = Options(auth="staff")
        beside = put(container("web2", endpoint("web", name="web2", to=two.port)))
        for more in ({}, how):
            guarded = put(container("web1", endpoint("web", name="web1", to=one.port, options=options, **more)))
            await running.settle(guarded, beside, claim("web", WEB))
            assert await statuses(running.port, 4) == [401] * 4
        answer = await get(running.port, WEB, headers=login())
        assert (answer.status, answer.body) == (200, "two GET /")  # the fault was met
        await running.settle(deletes=[guarded.key])
        assert (await get(running.port, WEB)).status == 200


async def test_auth_without_its_file_lets_nobody_in_until_it_is_there(one_nginx, folder, users):
    async with Backend("one") as one, Running(folder, one_nginx, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, auth="others"))
        assert await statuses(running.port, 2, headers=login()) == [503, 503]
        assert running.state["refused"][0]["reason"].startswith("PROXY_AUTH: no file others lies in ")
        closed = running.state["generation"]
        (users / "others").write_text(f"bob:{hashed()}\n", encoding="utf-8")
        await until(lambda: running.state["generation"] != closed, "the new file counts")
        assert await statuses(running.port, 1, headers=login()) == [200]
        assert await statuses(running.port, 1) == [401]
        (users / "others").unlink()
        await until(lambda: running.state["generation"] == closed, "the file is missed")
        assert await statuses(running.port, 1, headers=login()) == [503]
    assert all(request[2].get("authorization") for request in one.requests)


async def test_auth_without_a_folder_lets_nobody_in(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(*asking(one.port, auth="staff"))
        assert await statuses(running.port, 1, headers=login()) == [503]
        assert "give it with --htpasswd" in running.state["refused"][0]["reason"]


ALLOW = [
    ("an address", "127.0.0.1", 200),
    ("a network", "10.0.0.0/8,127.0.0.0/8", 200),
    ("others", "10.0.0.0/8,fd00::/8", 403),
]


@pytest.mark.parametrize(("allow", "status"), [row[1:] for row in ALLOW], ids=[row[0] for row in ALLOW])
async def test_allow(nginx, folder, allow, status):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, allow=parse_networks(allow)))
        assert await statuses(running.port, 2) == [status] * 2
        assert await statuses(running.port, 1, method="POST") == [status]
        if status == 403:
            assert await statuses(running.port, 1, headers=[("Upgrade", "websocket")]) == [status]
            assert one.requests == []


async def test_rate_and_burst(nginx, folder):
    """Three of a minute at once, and no more; another client's count is its own, and so is another service's."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        other = [put(container("b", endpoint("b", to=one.port))), claim("b", f"b.{DOMAIN}")]
        await running.settle(*asking(one.port, rate=parse_rate("3/m,burst=2")), *other)
        assert await statuses(running.port, 5) == [200, 200, 200, 429, 429]
        assert await statuses(running.port, 1, method="POST") == [429]
        assert await statuses(running.port, 1, host=f"b.{DOMAIN}") == [200]
        assert await statuses_from("127.0.0.2", running.port, 4) == [200, 200, 200, 429]


async def test_a_rate_that_changes_counts_anew_from_the_next_reload_on(nginx, folder):
    """A zone that changed under its old name would be refused by the reload, after `nginx -t` had taken it."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        for rate in ("1/m,burst=0", "2/m,burst=0,connections=1", "2/m,burst=1,connections=2", "1/s,burst=0"):
            before = running.state["generation"]
            await running.settle(*asking(one.port, rate=parse_rate(rate)))
            assert running.state["generation"] != before
            assert 429 in await statuses(running.port, 4)


async def statuses_from(source, port, count):
    """Statuses that a client at another address of this machine gets."""
    found = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: close\r\n\r\n".encode())
        found.append(int((await reader.read()).split()[1]))
        writer.close()
    return found


async def test_connections(nginx, folder):
    """Two WebSockets of a client are open; the third is refused, until one is closed."""
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, rate=parse_rate("connections=2")))
        async with websocket(running.port) as first:
            async with websocket(running.port) as second, websocket(running.port) as third:
                assert (first[0], second[0], third[0]) == (101, 101, 429)
            await until(lambda: opens(running.port), "there is room again")


async def opens(port):
    async with websocket(port) as (status, _, _):
        return status == 101


async def test_a_websocket_passes_its_guards(nginx, folder, users):
    """Password, network and limits hold for an upgrade, and it works behind them."""
    asked = {"auth": "staff", "allow": parse_networks("127.0.0.0/8"), "rate": parse_rate("100/s,connections=9")}
    async with Backend("one") as one, Running(folder, nginx, htpasswd=str(users)) as running:
        await running.settle(*asking(one.port, security=True, compress=True, sticky=True, body=9, **asked))
        async with websocket(running.port) as (status, _, _):
            assert status == 401
        credentials = login()[0][1]
        async with websocket(running.port, more=f"Authorization: {credentials}\r\n") as (status, reader, writer):
            writer.write(b"ping")
            assert (status, await reader.readexactly(4)) == (101, b"ping")


async def test_containers_that_disagree_are_served_by_one_rule_that_is_said(nginx, folder):
    """A second container that asks for less does not open what the first one closed; times are as the newest asks."""
    allow = parse_networks("10.0.0.0/8")
    async with Backend("a") as a, Backend("b", mood="silent") as b, Running(folder, nginx) as running:
        old = container("old", endpoint("web", to=a.port, options=Options(allow=allow), name="old"))
        new = container("new", endpoint("web", to=b.port, options=Options(timeout_s=0.2), name="new"))
        await running.settle(put(old), put(msgspec.structs.replace(new, started=2.0)), claim("web", WEB))
        assert await statuses(running.port, 2) == [403, 403]
        assert sorted(one["reason"] for one in running.state["refused"]) == [
            "its containers disagree about PROXY_ALLOW: what protects most counts",
            "its containers disagree about PROXY_TIMEOUT: h1:new:80, the newest, counts",
        ]
        await running.settle(deletes=[key_of(old)])
        assert await statuses(running.port, 1, method="POST") == [504]
        assert running.state["refused"] == []


async def test_containers_that_speak_otherwise_wait_for_the_rest(one_nginx, folder, certificate):
    """Nginx speaks one language with a group of servers: that of the newest."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with Backend("plain") as a, Backend("tls", tls=context) as b, Running(folder, one_nginx) as running:
        old = container("old", endpoint("web", to=a.port, name="old"))
        new = container("new", endpoint("web", to=b.port, backend="https", name="new"))
        await running.settle(put(old), put(msgspec.structs.replace(new, started=2.0)), claim("web", WEB))
        assert {(await get(running.port, WEB)).body for _ in range(6)} == {"tls GET /"}
        assert "disagree about PROXY_BACKEND" in running.state["refused"][0]["reason"]


# Convenience


async def test_weights(nginx, folder):
    async with Backend("a") as a, Backend("b") as b, Running(folder, nginx) as running:
        members = [endpoint("web", 80, to=a.port, weight=300), endpoint("web", 81, to=b.port, weight=100)]
        await running.settle(put(container("web", *members)), claim("web", WEB))
        bodies = [(await get(running.port, WEB, method="POST")).body[0] for _ in range(80)]
        # Each worker counts by itself, so a few requests may lie to either side.
        assert 50 <= bodies.count("a") <= 70


async def test_body(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, body=1024))
        assert await statuses(running.port, 1, method="POST", body="x" * 1024) == [200]
        assert await statuses(running.port, 1, method="POST", body="x" * 1025) == [413]
        assert len(one.requests) == 1


async def test_timeout(nginx, folder):
    """A server that says nothing costs its client as long as the tag says, also behind an upgrade."""
    async with Backend("one", mood="silent") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, timeout_s=0.2))
        assert await statuses(running.port, 1, method="POST") == [504]
        async with websocket(running.port) as (status, _, _):
            assert status == 504
        one.mood = "answer"
        async with websocket(running.port) as (status, reader, _):
            assert (status, await asyncio.wait_for(reader.read(1), 5)) == (101, b"")


async def test_compress(nginx, folder):
    async with Backend("one", body="text " * 1000) as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, compress=True))
        raw = await fetch(running.port, "Accept-Encoding: gzip")
        assert (raw.headers["content-encoding"], raw.headers["vary"]) == ("gzip", "accept-encoding")
        assert gzip.decompress(dechunked(raw.body)).decode() == "text " * 1000
        assert "content-encoding" not in (await fetch(running.port, "X-Nothing: 1")).headers


async def fetch(port, header):
    """An answer with its body as octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: close\r\n{header}\r\n\r\n".encode())
    top, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = top.decode().split("\r\n")[1:]
    return Fetched(dict(line.lower().split(": ", 1) for line in lines), body)


class Fetched:
    def __init__(self, headers, body):
        self.headers, self.body = headers, body


def dechunked(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


async def test_security_headers_where_the_application_has_none(nginx, folder):
    async with Backend("one", headers=[("X-Frame-Options", "DENY")]) as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, security=True))
        raw = await fetch(running.port, "X-Nothing: 1")
        assert {name: raw.headers.get(name) for name in ("x-frame-options", "x-content-type-options")} == {
            "x-frame-options": "deny",
            "x-content-type-options": "nosniff",
        }
        assert raw.headers["referrer-policy"] == "strict-origin-when-cross-origin"
        one.headers.clear()
        assert (await fetch(running.port, "X-Nothing: 1")).headers["x-frame-options"] == "sameorigin"


async def test_sticky(nginx, folder):
    """A client with its cookie stays where it is, by GET, POST and upgrade; a new one may come anywhere."""
    async with Backend("a") as a, Backend("b") as b, Backend("c") as c, Running(folder, nginx) as running:
        await running.settle(*asking(a.port, b.port, c.port, sticky=True))
        seen = set()
        for _ in range(20):
            first = await get(running.port, WEB)
            cookie = first.headers["set-cookie"].partition(";")[0]
            assert "httponly" in first.headers["set-cookie"]
            seen.add(first.body[0])
            again = [
                await get(running.port, WEB, method=method, headers=[("Cookie", cookie)]) for method in ["GET", "POST"]
            ]
            assert [answer.body[0] for answer in again] == [first.body[0]] * 2
        assert seen == {"a", "b", "c"}
        victim = {"a": a, "b": b, "c": c}[first.body[0]]
        victim.mood = "drop"
        assert (await get(running.port, WEB, headers=[("Cookie", cookie)])).status == 200  # elsewhere, rather than not


async def test_a_client_stays_when_others_come_and_finds_a_container_that_was_made_anew(nginx, folder):
    """Nginx's own cookie names the container; a hash moves its share of the clients to a newcomer, and no more."""
    async with Backend("a") as a, Backend("b") as b, Backend("c") as c, Running(folder, nginx) as running:
        await running.settle(*asking(a.port, b.port, sticky=True))
        first = [await get(running.port, WEB) for _ in range(40)]
        cookies = [(one.body[0], [("Cookie", one.headers["set-cookie"].partition(";")[0])]) for one in first]
        await running.settle(*asking(a.port, b.port, c.port, sticky=True))
        moved = [(was, (await get(running.port, WEB, headers=cookie)).body[0]) for was, cookie in cookies]
        strays = [(was, now) for was, now in moved if was != now]
        assert {now for _, now in strays} <= {"c"}
        by_cookie = running.service._publisher._renderer._machine.can.has("sticky")
        assert len(strays) == 0 if by_cookie else len(strays) < 30
        await running.settle(*asking(c.port, b.port, sticky=True))  # the first container is made anew, elsewhere
        if by_cookie:
            expected = {"a": "c", "b": "b"}
            assert {(was, (await get(running.port, WEB, headers=cookie)).body[0]) for was, cookie in cookies} == set(
                expected.items()
            )


# Elsewhere

REDIRECTS = [
    ("host of the route", "www.test", "old.test", "/a?b=1", 307, "http://www.test{port}/a?b=1"),
    ("host of the route, there already", "www.test", "www.test", "/a", 200, None),
    ("address", "301:https://new.test", "www.test", "/a?b=1", 301, "https://new.test/a?b=1"),
    ("address with port and path", "308:http://new.test:81/x", "www.test", "/a?b=1", 308, "http://new.test:81/x"),
]


@pytest.mark.parametrize("row", [row[1:] for row in REDIRECTS], ids=[row[0] for row in REDIRECTS])
async def test_redirect(nginx, folder, row):
    tag, host, path, status, location = row
    async with Backend("one") as one, Running(folder, nginx) as running:
        options = Options(redirect=parse_redirect(tag))
        members = endpoint("web", to=one.port, hosts=("www.test", "old.test"), options=options)
        await running.settle(put(container("web", members)), claim("web", "www.test"), claim("web", "old.test"))
        for method in ("GET", "POST"):
            answer = await get(running.port, f"{host}:{running.port}", path, method=method)
            assert answer.status == status
            assert answer.headers.get("location") == (location.format(port=f":{running.port}") if location else None)


async def test_a_redirect_to_a_host_that_a_wildcard_covers_does_not_turn_in_circles(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        redirect = Options(redirect=parse_redirect("www.test"))
        await running.settle(
            put(container("web", endpoint("web", to=one.port, hosts=("*.test",), options=redirect))),
            claim("web", "*.test"),
        )
        assert (await get(running.port, "a.test")).status == 307
        assert (await get(running.port, "www.test")).status == 200


async def test_maintenance_by_tag(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, maintenance=True, security=True))
        answer = await get(running.port, WEB)
        assert (answer.status, answer.headers["retry-after"]) == (503, "60")
        assert answer.body == f"503: {WEB} is being worked on; please try again later\n"
        assert one.requests == []


async def test_maintenance_by_a_page_begins_and_ends_with_the_file(nginx, folder):
    pages = folder.parent / "pages"
    pages.mkdir()
    page = pages / f"{WEB}.html"
    async with Backend("one") as one, Running(folder, nginx, pages=str(pages)) as running:
        await running.settle(*asking(one.port))
        assert (await get(running.port, WEB)).status == 200
        before = running.state["generation"]
        page.write_text("<h1>back at noon</h1>", encoding="utf-8")
        await until(lambda: running.state["generation"] != before, "the page is there")
        for method in ("GET", "POST"):
            answer = await get(running.port, WEB, "/any/path", method=method)
            assert (answer.status, answer.body) == (503, "<h1>back at noon</h1>")
            assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/html", "60")
        page.unlink()
        await until(lambda: running.state["generation"] == before, "the page is gone")
        assert (await get(running.port, WEB, "/.pilotfish-page")).status == 200


async def test_snippets_of_a_host_and_of_a_path(nginx, folder):
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    (snippets / f"{WEB}.conf").write_text("location = /robots.txt { return 200 'no robots'; }\n", encoding="utf-8")
    (snippets / f"{WEB}@.conf").write_text("add_header X-Path root always;\n", encoding="utf-8")
    (snippets / "no host;.conf").write_text("}", encoding="utf-8")
    async with Backend("one") as one, Running(folder, nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port))
        assert (await get(running.port, WEB, "/robots.txt")).body == "no robots"
        assert (await get(running.port, WEB)).headers["x-path"] == "root"
        (snippets / f"{WEB}.conf").unlink()
        await until(lambda: _says(running.port, "/robots.txt", "one GET /robots.txt"), "it is served")


async def _says(port, path, body):
    return (await get(port, WEB, path)).body.startswith(body)


# From the tag on

TAGGED = {
    "PROXY_AUTH=staff": (401, "/"),
    "PROXY_ALLOW=10.0.0.0/8": (403, "/"),
    "PROXY_REDIRECT=302:https://a.test": (302, "/"),
    "PROXY_MAINTENANCE=yes": (503, "/"),
    "PROXY_BODY=3": (413, "/"),
    "PROXY_TIMEOUT=5m": (200, "/"),
    "PROXY_PATH=/api": (404, "/"),
}


@pytest.mark.parametrize("tag", TAGGED)
async def test_what_the_tags_of_a_container_say_is_what_a_client_sees(one_nginx, folder, users, tag):
    """All the way: environment, record, store, configuration, answer."""
    status, path = TAGGED[tag]
    env = ["SERVICE_NAME=web", "SERVICE_80_PROXY=http", f"SERVICE_80_{tag}"]
    record = decide(ports={"80/tcp": 8000}, env=env).container
    async with Backend("one") as one, Running(folder, one_nginx, htpasswd=str(users)) as running:
        [found] = record.endpoints
        there = (Address("127.0.0.1", one.port, "lan"),)
        ready = msgspec.structs.replace(found, addresses=there, state="passing")
        record = msgspec.structs.replace(record, node=NODE, endpoints=(ready,))
        await running.settle(put(record), claim("web", WEB, found.route.path))
        answer = await get(running.port, WEB, path, method="PUT", body="four")
        assert (answer.status, "nothing serves" in answer.body) == (status, False)
