"""Directives of the admin's: what they guard stays guarded, whatever is asked for and whoever else stands there."""

from __future__ import annotations

import pytest

from confgen.nginx.directives import directives
from confgen.nginx.features import LEAST
from confgen.nginx.policy import Around, decide, overridden
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.options import Options, parse_networks, parse_rate
from pilotfish.catalog.route import Route
from tests.confgen.asking import WEB, asking, statuses, websocket
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.tls_kit import get_tls
from tests.parts.ports import free_port

SPELLED = [
    ("nothing", "", []),
    ("one", "deny all;", ["deny"]),
    ("comments", "# deny all;\nallow 1.2.3.4; # deny all;\n", ["allow"]),
    ("quotes", "add_header A \"x; y { }\" always;\nset $a 'it; s';", ["add_header", "set"]),
    ("a quoted name", "'deny' all;", ["deny"]),
    ("blocks", "location /x { deny all; if ($a) { return 1; } }\nallow all;", ["location", "allow"]),
    ("a variable in braces", "set $a ${b};deny all;", ["set", "deny"]),
    ("a mark inside a word", "return 301 /a#b;deny all;", ["return", "deny"]),
    ("too many ends", "}} deny all;", ["deny"]),
    ("no end", "deny all", []),
    ("no text", "a \xff;", ["a"]),
]


@pytest.mark.parametrize(("text", "names"), [row[1:] for row in SPELLED], ids=[row[0] for row in SPELLED])
def test_the_directives_of_a_snippet(text, names):
    assert [one.name for one in directives(text.encode("latin-1"))] == names


@pytest.fixture
def snippets(folder):
    path = folder.parent / "snippets"
    path.mkdir()
    return path


def second(to, path="/b", **more):
    """A service `b` with a path at the host of `web`."""
    return [put(container("b", endpoint("b", to=to, hosts=(WEB,), path=path, **more))), claim("b", WEB, path)]


async def test_a_guard_of_a_path_counts_for_every_method_and_upgrade(nginx, folder, snippets):
    (snippets / f"{WEB}@.conf").write_text("deny all;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port))
        for method in ("GET", "POST", "LOCK"):
            for headers in ([], [("Upgrade", "x")], [("Upgrade", "websocket"), ("Connection", "Upgrade")]):
                assert await statuses(running.port, 1, method=method, headers=headers) == [403]
        assert one.requests == []
        before = running.state["generation"]
        (snippets / f"{WEB}@.conf").write_text("proxy_read_timeout 90s;\nproxy_send_timeout 90s;\n", encoding="utf-8")
        await until(lambda: running.state["generation"] != before, "it serves with its own times")
        async with websocket(running.port) as (status, reader, writer):
            writer.write(b"ping")
            assert (status, await reader.readexactly(4)) == (101, b"ping")


UPGRADES = [("websocket", True), ("WebSocket", True), ("tcp", True), ("SPDY/3.1", True), ("x", False), ("h2c", False)]


@pytest.mark.parametrize(("word", "passed"), UPGRADES, ids=[row[0] for row in UPGRADES])
async def test_only_real_protocols_are_upgraded_to(one_nginx, folder, word, passed):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(*asking(one.port))
        await get(running.port, WEB, headers=[("Upgrade", word)]) if word.lower() != "websocket" else None
        if word.lower() == "websocket":
            async with websocket(running.port, word=word) as (status, _, _):
                assert status == 101
        assert ("upgrade" in one.requests[0][2]) is passed


async def test_either_spelling_of_a_path_is_guarded_and_what_is_for_nothing_is_listed(one_nginx, folder, snippets):
    for path in ("@api", "@b@", "@none"):
        (snippets / f"{WEB}{path}.conf").write_text("deny all;\n", encoding="utf-8")
    (snippets / "none.test.conf").write_text("deny all;\n", encoding="utf-8")
    pages = folder.parent / "pages"
    pages.mkdir()
    (pages / "none.test.html").write_text("x", encoding="utf-8")
    flags = {"snippets": str(snippets), "pages": str(pages)}
    async with Backend("one") as one, Running(folder, one_nginx, **flags) as running:
        api = [put(container("c", endpoint("c", to=one.port, hosts=(WEB,), path="/api/"))), claim("c", WEB, "/api/")]
        await running.settle(*asking(one.port), *second(one.port), *api)
        found = [(await get(running.port, WEB, path)).status for path in ("/", "/api/x", "/b", "/b/x")]
        assert found == [200, 403, 403, 403]
        assert [each.partition(":")[0] for each in running.state["snippets_unused"]] == [
            "snippet of none.test",
            f"snippet of {WEB}/none",
            "page of none.test",
        ]


def others(to):
    """Services that are served beside, so that one in quarantine is less than half."""
    return [
        entry
        for name in "cdef"
        for entry in (put(container(name, endpoint(name, to=to))), claim(name, f"{name}.{DOMAIN}"))
    ]


async def test_what_nginx_refuses_leaves_the_last_good_directives_also_over_a_restart(nginx, folder, snippets):
    file, flags = snippets / f"{WEB}.conf", {"snippets": str(snippets)}
    store = EmbeddedStore(quiet_s=1.0)
    file.write_text("location = /robots.txt { return 200 old; }\n", encoding="utf-8")
    async with Backend("one") as one:
        async with Running(folder, nginx, store=store, **flags) as running:
            await running.settle(*asking(one.port), *second(one.port))
            file.write_text("nonsense;\n", encoding="utf-8")
            await until(lambda: running.state["snippet_problems"], "the snippet is refused")
            [said] = running.state["snippet_problems"]
            assert said.startswith(f"snippet of {WEB}: nginx refuses it; the last good one stays: unknown directive")
            assert running.state["quarantined"] == []
            assert (await get(running.port, WEB, "/robots.txt")).body == "old"
            await running.settle(put(container("c", endpoint("c", to=one.port))), claim("c", f"c.{DOMAIN}"))
            assert await statuses(running.port, 1, host=f"c.{DOMAIN}") == [200]
        async with Running(folder, nginx, store=store, port=running.port, **flags) as running:
            await until(lambda: running.state["serving"], "nginx is there again")
            assert running.state["snippet_problems"] == [said]
            assert (await get(running.port, WEB, "/robots.txt")).body == "old"
            file.write_text("location = /robots.txt { return 200 new; }\n", encoding="utf-8")
            await until(lambda: _says(running.port, "/robots.txt", "new"), "the new one counts")
            assert (running.state["snippet_problems"], running.state["quarantined"]) == ([], [])
    await store.close()


async def _says(port, path, body):
    return (await get(port, WEB, path)).body.startswith(body)


async def test_a_leader_in_quarantine_leaves_the_guard_of_its_host_to_the_neighbours(one_nginx, folder, snippets):
    (snippets / f"{WEB}.conf").write_text("allow 10.9.9.9; deny all;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port), *second(one.port), *others(one.port))
        (snippets / f"{WEB}@.conf").write_text("nonsense;\n", encoding="utf-8")
        await until(lambda: _says(running.port, "/", "503: the configuration of"), "the leader is out")
        assert await statuses(running.port, 1, path="/b") == [403]
        assert one.requests == []


async def test_a_leader_in_quarantine_leaves_its_neighbours_paths_that_are_read_in_one_way(one_nginx, folder, snippets):
    closed = {"options": Options(allow=parse_networks("10.9.9.9"))}
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        guarded = endpoint("admin", to=one.port, hosts=(WEB,), path="/admin", **closed)
        await running.settle(
            *asking(one.port),
            *second(one.port),
            put(container("admin", guarded)),
            claim("admin", WEB, "/admin"),
            *others(one.port),
        )
        (snippets / f"{WEB}@.conf").write_text("nonsense;\n", encoding="utf-8")
        await until(lambda: _says(running.port, "/", "503: the configuration of"), "the leader is out")
        found = [
            (await get(running.port, WEB, path)).status for path in ("/b", "/admin", "/admin%2f..%2fb", "/admin;/")
        ]
        assert found == [200, 403, 400, 400]


async def test_a_host_whose_directives_were_never_good_is_closed_with_all_that_stands_there(
    one_nginx, folder, snippets
):
    (snippets / f"{WEB}.conf").write_text("nonsense;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*others(one.port))
        await running.settle(*asking(one.port), *second(one.port))
        for path in ("/", "/b", "/b/x"):
            answer = await get(running.port, WEB, path)
            assert (answer.status, answer.body.startswith("503: the directives of")) == (503, True)
        (snippets / f"{WEB}.conf").unlink()
        await until(lambda: _says(running.port, "/b", "one GET /b"), "it is mended")
        assert running.state["quarantined"] == []


OVERRIDDEN = [
    ("networks", "allow 10.9.9.9; deny all;", {"allow": parse_networks("0.0.0.0/0")}, 503),
    ("users", "auth_basic admin; auth_basic_user_file {users};", {"auth": "staff"}, 503),
    ("either of both", "satisfy any; allow 127.0.0.1; deny all;", {"auth": "staff"}, 503),
    ("what is not seen", "include {users};", {"allow": parse_networks("0.0.0.0/0")}, 503),
    ("networks and users", "allow 127.0.0.1; deny all;", {"auth": "staff"}, 401),
    ("nothing that guards", "add_header A b;", {"allow": parse_networks("127.0.0.1")}, 200),
    ("a block of its own", "location /x { deny all; }", {"allow": parse_networks("127.0.0.1")}, 200),
]


@pytest.mark.parametrize("row", OVERRIDDEN, ids=[row[0] for row in OVERRIDDEN])
async def test_a_tag_never_takes_the_place_of_a_guard_of_the_host(one_nginx, folder, snippets, users, row):
    _, text, asked, status = row
    (users / "empty").write_text("", encoding="utf-8")
    text = text.replace("{users}", str(users / "empty"))
    (snippets / f"{WEB}.conf").write_text(text, encoding="utf-8")
    flags = {"snippets": str(snippets), "htpasswd": str(users)}
    async with Backend("one") as one, Running(folder, one_nginx, **flags) as running:
        await running.settle(*second(one.port, options=Options(**asked)), *others(one.port))
        assert await statuses(running.port, 1, path="/b") == [status]
        reasons = [each["reason"] for each in running.state["refused"]]
        assert any("it would take the place of" in each for each in reasons) is (status == 503)


HEADED = [
    ("nothing", {}),
    ("careful headers", {"security": True}),
    ("stickiness", {"sticky": True}),
    ("maintenance", {"maintenance": True}),
]


@pytest.mark.parametrize("asked", [row[1] for row in HEADED], ids=[row[0] for row in HEADED])
async def test_headers_of_a_host_stay_whatever_a_tag_adds(nginx, folder, snippets, asked):
    text = "add_header X-Admin yes always;\nproxy_set_header X-My 1;\nproxy_set_header x-real-ip 'me; too';\n"
    (snippets / f"{WEB}.conf").write_text(text, encoding="utf-8")
    (snippets / f"{WEB}@b.conf").write_text("proxy_set_header X-B 2;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port, **asked), *second(one.port))
        websocket_too = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
        for path, headers in [("/", []), ("/", websocket_too), ("/b", [])]:
            if not (headers and asked.get("maintenance") is None):
                assert (await get(running.port, WEB, path, headers=headers)).headers["x-admin"] == "yes"
        async with websocket(running.port):
            pass
        for _, path, headers, _ in one.requests:
            assert (headers["x-my"], headers["x-real-ip"], headers["host"]) == ("1", "me; too", WEB)
            assert headers.get("x-b") == ("2" if path == "/b" else None)
            assert "x-forwarded-for" in headers


async def test_what_a_client_says_of_its_way_here_does_not_reach_the_application(nginx, folder):
    """Only balancers that are trusted say it."""
    said = {
        "forwarded": "for=9.9.9.9",
        "x-forwarded-prefix": "/p",
        "x-original-url": "/admin",
        "x-rewrite-url": "/admin",
    }
    ours = {"x-forwarded-ssl": "off", "x-original-uri": "/a?b"}
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(*asking(one.port))
        spoofed = {**said, "x-forwarded-ssl": "on", "x-original-uri": "/admin"}
        await get(running.port, WEB, "/a?b", headers=list(spoofed.items()))
        seen = one.requests[-1][2]
        assert not said.keys() & seen.keys()
        assert ours.items() <= seen.items()


async def test_a_trusted_balancer_says_how_a_client_came(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, trusted=("127.0.0.0/8",)) as running:
        await running.settle(*asking(one.port))
        said = {"forwarded": "for=9.9.9.9", "x-forwarded-prefix": "/p", "x-forwarded-proto": "https"}
        await get(running.port, WEB, headers=list(said.items()))
        assert {**said, "x-forwarded-ssl": "on"}.items() <= one.requests[-1][2].items()


async def test_a_tag_never_lets_in_whom_a_snippet_of_its_path_keeps_out(one_nginx, folder, snippets):
    (snippets / f"{WEB}@b.conf").write_text("allow 10.9.9.9; deny all;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*second(one.port, options=Options(allow=parse_networks("0.0.0.0/0"))))
        assert await statuses(running.port, 1, path="/b") == [503]
        assert "PROXY_ALLOW: it would take the place of allow" in running.state["refused"][0]["reason"]


def test_a_rate_does_not_take_the_place_of_a_limit_of_the_host():
    limited = decide(
        "web", Route(scheme="http", options=Options(rate=parse_rate("9/s"))), None, Around(can=LEAST)
    ).policy
    assert "limit_req" in overridden(limited, {"limit_req", "add_header"})
    assert overridden(limited, {"allow", "auth_basic", "client_max_body_size"}) == ""


async def test_directives_that_nginx_refuses_without_a_file_cost_their_host_alone(one_nginx, folder, snippets):
    """A zone that nobody made: nginx says so when all is read."""
    (snippets / f"{WEB}.conf").write_text("limit_req zone=nobody;\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*others(one.port))
        await running.settle(*asking(one.port), *second(one.port))
        assert await statuses(running.port, 1, path="/b") == [503]
        assert await statuses(running.port, 1, host=f"c.{DOMAIN}") == [200]


TWICE = [("all", "location / {", "/"), ("first of all", "location ^~ '/'{", "/"), ("a file", "location =/a {", "/a")]


@pytest.mark.parametrize(("text", "path"), [row[1:] for row in TWICE], ids=[row[0] for row in TWICE])
async def test_a_location_of_the_host_costs_no_neighbour_of_whoever_asks_for_it(
    one_nginx, folder, snippets, text, path
):
    """No location is taken twice; whoever leads the host would be left out with all of it."""
    (snippets / f"{WEB}.conf").write_text(f"{text} return 418; }}\n", encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*second(one.port), *asking(one.port, path=path))
        assert await statuses(running.port, 1, path=path) == [418]
        assert await statuses(running.port, 1, path="/b") == [200]
        assert running.state["quarantined"] == []
        reasons = " ".join(each["reason"] for each in running.state["refused"])
        assert "the host's own directives have a location" in reasons


LEFT = [
    ("the path alone", "location = /b { return 301 /b/; }", {}, {"/b": 301, "/b/x": 403, "/x": 200}, "ours is /b/"),
    ("what is below", "location /b/ { return 418; }", {}, {"/b": 403, "/b/x": 418, "/x": 200}, "ours is = /b"),
    ("all", "location = /b { return 301 /b/; } location /b/ { return 418; }", {}, {"/b": 301, "/b/x": 418}, "counts"),
    ("another's path alone", "location = /b { return 418; }", {"path": "/b/"}, {"/b": 418, "/x": 200}, "ours is /"),
]


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("strip", [False, True], ids=["whole", "stripped"])
@pytest.mark.parametrize("row", [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
async def test_what_a_location_of_the_host_leaves_of_a_path_stays_guarded(one_nginx, folder, snippets, row, strip):
    text, path, found, said = row
    (snippets / f"{WEB}.conf").write_text(text, encoding="utf-8")
    flags = {"snippets": str(snippets), "htpasswd": str(folder.parent / "users")}
    async with Backend("one") as one, Backend("b") as b, Running(folder, one_nginx, **flags) as running:
        for status, guard in ((403, {"allow": parse_networks("10.0.0.0/8")}), (401, {"auth": "staff"})):
            guarded = second(b.port, strip=strip, options=Options(**guard), **path)
            await running.settle(*asking(one.port), *guarded)
            asked = {each: (await get(running.port, WEB, each)).status for each in found}
            assert asked == {each: status if known == 403 else known for each, known in found.items()}
        assert b.requests == []
        assert any(each["reason"].endswith(said) for each in running.state["refused"])
        assert running.state["quarantined"] == []


ALONE, BELOW = "location = /b { return 418; }", "location /b/ { return 418; }"
STRIPPED = [
    ("the path alone", ALONE, "/", {"/b/x%2Fy": "/x%2Fy", "/b/": "/", "/b/x": "/x"}),
    ("the path alone, with another in its place", ALONE, "/v1", {"/b/x%2Fy": "/v1/x%2Fy", "/b/": "/v1/"}),
    ("what is below", BELOW, "/", {"/b?x": "/?x"}),
    ("what is below, with another in its place", BELOW, "/v1", {"/b?x": "/v1?x"}),
]


@pytest.mark.parametrize("row", [row[1:] for row in STRIPPED], ids=[row[0] for row in STRIPPED])
async def test_what_a_location_of_the_host_leaves_of_a_stripped_path_is_cut_as_ever(one_nginx, folder, snippets, row):
    text, dest, heard = row
    (snippets / f"{WEB}.conf").write_text(text, encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*second(one.port, strip=True, dest=dest))
        for path in heard:
            await get(running.port, WEB, path)
        assert [path for _, path, _, _ in one.requests] == list(heard.values())


@pytest.mark.parametrize("included", [False, True], ids=["itself", "by a file"])
async def test_an_application_hears_of_tls_that_only_a_host_of_the_admin_s_listens_for(
    one_nginx, folder, snippets, authority, included
):
    port, pairs = free_port(), folder.parent / "pairs"
    authority.write(pairs, WEB)
    text = f"listen {port} ssl; ssl_certificate {pairs}/{WEB}.crt; ssl_certificate_key {pairs}/{WEB}.key;"
    (pairs / "listen.conf").write_text(text, encoding="utf-8")
    (snippets / f"{WEB}.conf").write_text(f"include {pairs}/listen.conf;" if included else text, encoding="utf-8")
    async with Backend("one") as one, Running(folder, one_nginx, snippets=str(snippets)) as running:
        await running.settle(*asking(one.port))
        await get_tls(port, WEB, authority=authority)
        await get(running.port, WEB)
        heard = [(seen["x-forwarded-ssl"], seen["x-forwarded-port"]) for _, _, seen, _ in one.requests]
        assert heard == [("on", str(port)), ("off", str(running.port))]
