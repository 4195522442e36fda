"""Directives of the admin's: what they guard stays guarded, whatever is asked for and whoever else stands there."""

from __future__ import annotations

import pytest

from confgen.nginx.directives import directives
from tests.confgen.asking import WEB, asking, statuses, websocket
from tests.confgen.kit import Backend, Running, claim, container, endpoint, get, put, until

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
