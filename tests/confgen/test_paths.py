"""Which path an application hears, and where a client is sent, seen by a real client of a real nginx."""

from __future__ import annotations

import pytest

from confgen.nginx.quote import nearly
from pilotfish.catalog.options import Options, parse_networks, parse_redirect
from registrator.rules.routes import LONGEST_GUARDED, MOST_PARTS_GUARDED
from tests.confgen.asking import WEB, asking, websocket
from tests.confgen.kit import Backend, Running, claim, container, endpoint, get, put

STRIPPED = [
    ("encoded slashes and blanks stay", "/api", "/api/projects/a%2Fb%20c", "/projects/a%2Fb%20c"),
    ("dots that climb out of it", "/api", "/api/../api/x%2Fy", "/x/y"),
    ("encoded ones", "/a/b", "/a/b/.%2E/%2e./a/b/x?y=/..", "/x?y=/.."),
    ("behind an encoded slash", "/api", "/api%2f..%2Fapi/x", "/x"),
    ("dots in a name or a query", "/api", "/api/..a%2F.b..?/../", "/..a%2F.b..?/../"),
    ("a query", "/api", "/api/x?y=%2F&z=/api/", "/x?y=%2F&z=/api/"),
    ("an address in it", "/api", "/api/x/http://u", "/x/http://u"),
    ("the prefix alone", "/api", "/api?a=1", "/?a=1"),
    ("the prefix with a slash", "/api", "/api/", "/"),
    ("a slash claimed", "/api/", "/api/a%2Fb", "/a%2Fb"),
    ("another spelling of the prefix", "/api", "/%61pi/x%2Fy", "/x/y"),
    ("two slashes before it", "/api", "//api/x", "/x"),
    ("two slashes behind it", "/api", "/api//evil.test/", "/evil.test/"),
    ("marks that mean something elsewhere", "/a.b+(c)*", "/a.b+(c)*/x%2Fy", "/x%2Fy"),
    ("what only looks like it", "/a.b", "/aXb/x", None),
    ("long", "/" + "p" * 1000, "/" + "p" * 1000 + "/x%2Fy", "/x%2Fy"),
]


@pytest.mark.parametrize("row", [row[1:] for row in STRIPPED], ids=[row[0] for row in STRIPPED])
async def test_what_is_left_of_a_stripped_path(nginx, folder, row):
    prefix, asked, heard = row
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, path=prefix, strip=True))
        for method in ("GET", "POST"):
            await get(running.port, WEB, asked, method=method, body="x")
        found = [(path, headers["x-forwarded-prefix"]) for _, path, headers, _ in one.requests]
        assert found == ([(heard, prefix.rstrip("/"))] * 2 if heard else [])


ELSEWHERE = [
    ("encoded slashes stay", "/api", "/v1", "/api/a%2Fb?c", "/v1/a%2Fb?c"),
    ("dots that climb out of it", "/api", "/v1", "/api/../api/x", "/v1/x"),
    ("the prefix alone", "/api", "/v1/x", "/api?a=1", "/v1/x?a=1"),
    ("the prefix with a slash", "/api", "/v1/", "/api/", "/v1/"),
    ("slashes claimed and given", "/api/", "/v1/", "/api/x", "/v1/x"),
    ("another spelling of the prefix", "/api", "/v1", "/%61pi/x", "/v1/x"),
    ("marks that mean something elsewhere", "/api", "/a.b+(c)*~@=:", "/api/x", "/a.b+(c)*~@=:/x"),
]


@pytest.mark.parametrize("row", [row[1:] for row in ELSEWHERE], ids=[row[0] for row in ELSEWHERE])
async def test_what_stands_in_the_place_of_a_path(nginx, folder, row):
    prefix, dest, asked, heard = row
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, path=prefix, strip=True, dest=dest))
        for method in ("GET", "POST"):
            await get(running.port, WEB, asked, method=method, body="x")
        found = [(path, headers["x-forwarded-prefix"]) for _, path, headers, _ in one.requests]
        assert found == [(heard, prefix.rstrip("/"))] * 2


async def test_a_stripped_path_is_guarded_and_upgraded_as_any_other(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port, path="/api", strip=True, security=True))
        answer = await get(running.port, WEB, "/api/x")
        assert (answer.status, answer.headers["x-frame-options"]) == (200, "sameorigin")
        async with websocket(running.port, path="/api/x") as (status, _, _):
            assert (status, one.requests[-1][1]) == (101, "/x")
        await running.settle(*asking(one.port, path="/api", strip=True, allow=parse_networks("10.0.0.0/8")))
        assert (await get(running.port, WEB, "/api/x")).status == 403


async def test_the_prefix_of_a_trusted_balancer_stands_in_front_of_ours(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, trusted=("127.0.0.0/8",)) as running:
        await running.settle(*asking(one.port, path="/api", strip=True))
        await get(running.port, WEB, "/api/x", headers=[("X-Forwarded-Prefix", "/outer")])
        assert one.requests[-1][2]["x-forwarded-prefix"] == "/outer/api"


REDIRECTS = [
    ("another path of this host", f"301:http://{WEB}/new", "/old", WEB, 301, f"http://{WEB}/new"),
    ("below itself", f"301:http://{WEB}/old/new", "/old", WEB, 200, None),
    ("below itself, elsewhere", f"301:https://{WEB}/old/new", "/old", WEB, 301, f"https://{WEB}/old/new"),
    ("itself", f"http://{WEB}", "/", WEB, 200, None),
    ("itself with the default port", f"http://{WEB}:80", "/", WEB, 200, None),
    ("itself, asked with the default port", f"http://{WEB}", "/", f"{WEB}:80", 200, None),
    ("a default port", "http://new.test:80", "/", WEB, 307, "http://new.test/old/x"),
    ("a default port of https", "https://new.test:443/y", "/", WEB, 307, "https://new.test/y"),
    ("the other's default port", "http://new.test:443", "/", WEB, 307, "http://new.test:443/old/x"),
]


@pytest.mark.parametrize("row", [row[1:] for row in REDIRECTS], ids=[row[0] for row in REDIRECTS])
async def test_who_is_sent_where(one_nginx, folder, row):
    tag, path, asked, status, location = row
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(*asking(one.port, path=path, redirect=parse_redirect(tag)))
        for method in ("GET", "POST"):
            answer = await get(running.port, asked, "/old/x", method=method)
            assert (answer.status, answer.headers.get("location")) == (status, location)


async def test_a_path_without_its_slash_belongs_to_whoever_has_what_is_above(nginx, folder):
    def at(name, to, path, **more):
        return [put(container(name, endpoint(name, to=to, hosts=(WEB,), path=path, **more))), claim(name, WEB, path)]

    async with Backend("root") as root, Backend("api") as api, Running(folder, nginx) as running:
        await running.settle(*at("web", root.port, "/"), *at("b", api.port, "/api/"))
        for method in ("GET", "POST"):
            assert (await get(running.port, WEB, "/api", method=method)).body == f"root {method} /api"
            assert (await get(running.port, WEB, "/api/", method=method)).body == f"api {method} /api/"
        await running.settle(*at("c", root.port, "/api/v1/x/"), *at("d", root.port, "/s", strip=True))
        assert (await get(running.port, WEB, "/api/v1/x")).body == "api GET /api/v1/x"
        await running.settle(*at("e", api.port, "/s/t/"))
        assert (await get(running.port, WEB, "/s/t")).body == "root GET /t"


def one_path(name, to, path, **options):
    """A service with one path of the host, and what it asks for there."""
    wish = endpoint(name, to=to, hosts=(WEB,), path=path, options=Options(**options))
    return [put(container(name, wish)), claim(name, WEB, path)]


AMBIGUOUS = ["/admin%2f..%2fpub/x", "/admin/..%2Fpub/x", "/pub/..;/admin", "/pub/%2e.%3B/admin", "/pub/..%5cadmin"]
AMBIGUOUS += ["/pub/..\\admin", "/pub%2fadmin", "/pub/x/../..", "/pub/%2E./pub/y", "/pub#/admin"]
PLAIN = ["/pub/x", "/pub/a;b=c", "/pub/x?next=%2fadmin/../#", "/pub/a..b", "/pub/..a/b..", "/pub/%252f", "/pub/./x"]


async def test_a_path_that_may_be_read_in_two_ways_is_refused_where_guards_differ(nginx, folder):
    closed = {"allow": parse_networks("10.0.0.0/8")}
    async with Backend("app") as app, Running(folder, nginx) as running:
        await running.settle(*one_path("web", app.port, "/"), *one_path("pub", app.port, "/pub"))
        assert [(await get(running.port, WEB, path)).status for path in AMBIGUOUS] == [200] * len(AMBIGUOUS)
        await running.settle(*one_path("pub", app.port, "/pub", **closed), *one_path("web", app.port, "/", **closed))
        assert [(await get(running.port, WEB, path)).status for path in AMBIGUOUS] == [403] * len(AMBIGUOUS)
        await running.settle(*one_path("pub", app.port, "/pub"))  # of a host that another service leads
        assert [(await get(running.port, WEB, path)).status for path in AMBIGUOUS] == [400] * len(AMBIGUOUS)
        assert [(await get(running.port, WEB, path)).status for path in PLAIN] == [200] * len(PLAIN)


NEAR = ["/ADMIN", "/Admin/x", "/admin;", "/admin;a=b/x", "/%61dmin%3Bx/y", "/api;v=1/v1.0/users", "/API/V1.0"]
NEAR += ["/api/v1.0;x", "//admin;x"]
NEAR += ["/;/admin", "/;x/admin/y", "/.;/admin", "//;a/%2e%3bb/Admin;c", "/;/api/;/v1.0", "/api/.;x/v1.0/y"]
NEAR += ["/;" * 2000 + "/admin", "/;x" * 2000 + "/api/v1.0", "/Admin;" + "x" * 6000]
FAR = ["/administrator", "/admins;x", "/pub;x/admin", "/x;admin", "/api/v1x0", "/api;x", "/Docs/x", "/DOCS", "/docsy"]
FAR += ["/;admin", "/.;admin", "/x/;/admin", "/x.;/admin"]


async def test_a_guarded_path_is_not_reached_by_a_spelling_that_its_application_alone_understands(nginx, folder):
    """Express does not mind the case of letters, and Tomcat takes `;...` off each segment."""
    closed = {"allow": parse_networks("10.0.0.0/8")}
    async with Backend("app") as app, Running(folder, nginx) as running:
        await running.settle(*one_path("web", app.port, "/"), *one_path("docs", app.port, "/Docs"))
        assert [(await get(running.port, WEB, path)).status for path in (*NEAR, *FAR)] == [200] * len([*NEAR, *FAR])
        guarded = {"admin": "/admin", "api": "/api/v1.0", "low": "/Docs/low"}
        await running.settle(
            *(one for name, path in guarded.items() for one in one_path(name, app.port, path, **closed))
        )
        assert [(await get(running.port, WEB, path)).status for path in NEAR] == [400] * len(NEAR)
        assert [(await get(running.port, WEB, path)).status for path in FAR] == [200] * len(FAR)
        for path in ("/admin", "/admin/x", "/%61dmin/x;y", "/api/v1.0/a;b", "/Docs/low"):
            assert (await get(running.port, WEB, path)).status == 403, path
        await running.settle(*one_path("other", app.port, "/ADMIN/open"))  # whoever has it has it
        await running.settle(*one_path("long", app.port, "/ADMIN/" + "x" * 1017))  # but no guard opens by it
        assert (await get(running.port, WEB, "/ADMIN/open/x")).status == 200
        assert (await get(running.port, WEB, "/ADMIN/x")).status == 400


LONG = "/admin/" + "+" * 170
ALLOW = {"allow": parse_networks("127.0.0.0/8")}
TOO_LONG = "is too long for its other spellings to be kept out"
UNKEPT = [
    ("a tag", ALLOW, {}, "", 503, f"{TOO_LONG} (120 characters and 10 parts fit); nobody is let in"),
    ("a tag, and the same all over the host", ALLOW, ALLOW, "", 200, ""),
    ("its own file", {}, {}, "allow 127.0.0.1; deny all;", 200, "they go round what its snippet guards"),
    ("a tag and its own file", ALLOW, {}, "auth_basic off;", 503, "nobody is let in"),
    ("a tag that its own file is against", ALLOW, {}, "allow 127.0.0.1; deny all;", 503, TOO_LONG),
    ("no guard", {}, {}, "add_header A b;", 200, ""),
]


@pytest.mark.parametrize("row", [row[1:] for row in UNKEPT], ids=[row[0] for row in UNKEPT])
async def test_a_guarded_path_that_is_too_long_to_keep_out_its_other_spellings(one_nginx, folder, row):
    """A registrator refuses such a tag; records of older ones and of others may have it."""
    asked, beside, text, status, said = row
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    (snippets / f"{WEB}{LONG.replace('/', '@')}.conf").write_text(text, encoding="utf-8")
    async with Backend("app") as app, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*one_path("web", app.port, "/", **beside), *one_path("admin", app.port, LONG, **asked))
        assert (await get(running.port, WEB, LONG)).status == status
        assert (await get(running.port, WEB, "/x")).status == 200
        reasons = [each["reason"] for each in running.state["refused"]]
        assert any(said in each for each in reasons) if said else not reasons, reasons
        assert running.state["quarantined"] == []


def test_what_a_registrator_takes_for_a_guarded_path_is_short_enough():
    """Its bounds, at the marks that take most room in an expression."""
    part = "+" * (LONGEST_GUARDED // MOST_PARTS_GUARDED - 1)
    path = f"/{part}" * MOST_PARTS_GUARDED
    assert (len(path), nearly(path) is not None) == (LONGEST_GUARDED, True)


BLOCKS = [
    ("a block that guards", "location /admin { deny all; }", 400),
    ("a block that does not", "location = /robots.txt { return 200 x; }", 200),
    ("a guard of all", "allow 127.0.0.1; deny all;", 200),
]


@pytest.mark.parametrize(("text", "status"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
async def test_a_block_of_a_snippet_may_be_such_a_guard(one_nginx, folder, text, status):
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    (snippets / f"{WEB}.conf").write_text(text, encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port))
        assert (await get(running.port, WEB, "/admin%2fx")).status == status


async def test_a_block_of_a_snippet_that_passes_requests_on_is_an_open_place_beside_guards(one_nginx, folder):
    """To the very application perhaps, which takes /ADMIN for /admin."""
    snippets = folder.parent / "snippets"
    snippets.mkdir()
    async with Backend("one") as one:
        passed = f"location / {{ proxy_pass http://127.0.0.1:{one.port}; }}"
        (snippets / f"{WEB}.conf").write_text(passed, encoding="utf-8")
        async with Running(folder, one_nginx, snippets=str(snippets)) as running:
            await running.settle(*asking(one.port, path="/admin", allow=("10.0.0.0/8",)))
            found = [
                (await get(running.port, WEB, path)).status for path in ("/x", "/admin/x", "/ADMIN/x", "/admin;x/y")
            ]
    assert found == [200, 403, 400, 400]
