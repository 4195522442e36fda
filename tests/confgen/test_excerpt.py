"""Where all but a little is served already, nginx is asked about that; what only the whole shows, a reload says."""

from __future__ import annotations

import asyncio
import shutil
import threading

import pytest

from confgen.applying import io_apply
from confgen.applying.excerpt import excerpt
from confgen.nginx.render import GENERATION_FILE, Tree, builtin_templates
from tests.confgen.kit import DOMAIN, Backend, Running, claim, get, kill_nginx, plain, until
from tests.confgen.test_faults import WEB, web

# `b` stands in the host of `a` too, `c` has a stream, `e` a snippet of the admin's; the others stand alone.
FILES = {
    "nginx.conf": b"http { include services/*.conf; include unknown.conf; } stream { include stream.conf; }",
    "unknown.conf": b"return 404;",
    "stream.conf": b"include streams/*.conf;",
    GENERATION_FILE: b"0a",
    "services/a.conf": b"upstream a {}\nserver {\n    include parts/b@a.conf;\n    include unknown.conf;\n}\n",
    "parts/b@a.conf": b"location /b { proxy_pass http://b; }",
    "services/b.conf": b"upstream b {}",
    "services/c.conf": b"server {}",
    "streams/c.conf": b"upstream c {}",
    "services/d.conf": b"server { error_log_include no; }",
    "services/e.conf": b"server { include snippets/e.conf; }",
    "snippets/e.conf": b"include /elsewhere;",
    "services/f.conf": b"",
    "services/g.conf": b"",
    "services/h.conf": b"",
}
SERVICES = {name: name.rpartition("/")[2][0] for name in FILES if "/" in name}
ALWAYS = {"nginx.conf", "unknown.conf", "stream.conf", GENERATION_FILE, "streams/c.conf", "services/e.conf",
          "snippets/e.conf"}  # fmt: skip
TOGETHER = {"services/a.conf", "services/b.conf", "parts/b@a.conf"}

# What is changed, and which files of services are read besides; None: all.
CHANGES = {
    "nothing": ({}, set()),
    "the name of the generation": ({GENERATION_FILE: b"0b"}, set()),
    "a service that stands alone": ({"services/d.conf": b"server { }"}, {"services/d.conf"}),
    "a service with a stream": ({"services/c.conf": b"server { }"}, {"services/c.conf"}),
    "a service with a snippet": ({"services/e.conf": b"server { }"}, set()),
    "a service that stands in another's host": ({"services/b.conf": b"upstream b { }"}, TOGETHER),
    "the service whose host that is": ({"services/a.conf": FILES["services/a.conf"] + b" "}, TOGETHER),
    "a service that comes": ({"services/n.conf": b"server {}"}, {"services/n.conf"}),
    "a service that goes": ({"services/d.conf": None}, set()),
    "half of all": ({"services/a.conf": b"", "services/d.conf": b""}, {"services/a.conf", "services/d.conf"}),
    "more than half": ({f"services/{one}.conf": b"#" for one in "cdfgh"}, None),
    "what is common": ({"unknown.conf": b"return 503;"}, None),
    "a certificate": ({"certs/a.key": b"secret"}, None),
    "a stream": ({"streams/c.conf": b"upstream c { }"}, None),
    "a place in another's host": ({"parts/b@a.conf": b"location /c {}"}, None),
    "a place that goes": ({"parts/b@a.conf": None}, None),
    "what an admin wrote": ({"snippets/e.conf": b"#"}, None),
}


@pytest.mark.parametrize(("changes", "read"), CHANGES.values(), ids=CHANGES)
def test_what_is_read_of_a_configuration(changes, read):
    files = {name: text for name, text in {**FILES, **changes}.items() if text is not None}
    services = SERVICES | {name: "n" for name in changes if name == "services/n.conf"}
    services = {name: service for name, service in services.items() if name in files}
    part = excerpt(Tree(files, "0b", services), FILES)

    if read is None:
        assert part is None
        return
    assert part.files.keys() == ALWAYS | read
    assert all(part.files[name] is files[name] for name in part.files)
    assert part.services == {name: service for name, service in services.items() if name in part.files}
    assert part.generation == "0b"


def test_of_what_belongs_to_nobody_all_is_read():
    """An operator goes back to a generation of which no more is known than its files."""
    assert excerpt(Tree(FILES, "0b", {}), FILES) is None


@pytest.fixture
def reloads(monkeypatch):
    """How often nginx was told, or started."""
    found = []
    reload = io_apply.Nginx.reload

    async def noting(nginx, patience=1.0):
        found.append(patience)
        await reload(nginx, patience)

    monkeypatch.setattr(io_apply.Nginx, "reload", noting)
    return found


@pytest.fixture
def looks(monkeypatch):
    """Which services' files nginx was asked about, each time."""
    found = []
    check = io_apply.Nginx.check

    async def noting(nginx, config, patience=1.0):
        found.append({one.stem for one in (config.parent / "services").glob("*.conf")})
        return await check(nginx, config, patience)

    monkeypatch.setattr(io_apply.Nginx, "check", noting)
    return found


async def test_nginx_is_asked_about_what_is_new_alone(nginx, folder, looks):
    """A start reads all, an endpoint and a service that comes or goes nothing else; nothing is left of the excerpt."""
    async with Backend("one") as one, Backend("two") as two, Running(folder, nginx) as running:
        await running.settle(web(one.port), *plain("a", one.port), *plain("b", one.port), claim("web", WEB))
        assert looks == [{"web", "a", "b"}]
        looks.clear()
        for entries, read in (
            ([web(two.port)], {"web"}),
            (plain("c", one.port), {"c"}),
            ([*plain("a", two.port), web(one.port)], {"a", "web"}),
        ):
            await running.settle(*entries)
            assert looks == [read]
            looks.clear()
        assert (await get(running.port, WEB)).body == "one GET /"
        assert (await get(running.port, f"a.{DOMAIN}")).body == "two GET /"
        assert (await get(running.port, f"c.{DOMAIN}")).body == "one GET /"
        assert [one.name for one in (folder / "generations").iterdir() if one.name.startswith(".")] == []


def twins():
    """Templates with which services called so are good alone and not together."""
    templates = builtin_templates()
    templates["service.conf.j2"] += "{% if 'twin' in service.name %}upstream same { server 127.0.0.1:9; }\n{% endif %}"
    return templates


async def test_what_only_the_whole_shows_is_refused_by_the_reload_and_costs_nobody_else(nginx, folder, looks, reloads):
    """Who came last is out, since nginx names it when it is asked about the whole; all others are served."""
    async with Backend("one") as one, Backend("two") as two, Running(folder, nginx, templates=twins()) as running:
        await running.settle(web(one.port), *plain("a", one.port), *plain("twin1", one.port), claim("web", WEB))
        looks.clear()
        await running.settle(*plain("twin2", one.port))
        assert looks[:2] == [{"twin2"}, {"web", "a", "twin1", "twin2"}]
        (entry,) = running.state["quarantined"]
        assert entry["service"] == "twin2"
        assert 'duplicate upstream "same"' in entry["reason"]
        for name in ("web", "a", "twin1"):
            assert (await get(running.port, f"{name}.{DOMAIN}")).body == "one GET /"
        assert (await get(running.port, f"twin2.{DOMAIN}")).status == 503
        looks.clear()
        reloads.clear()
        await running.settle(*plain("twin2", one.port, two.port))
        assert len(reloads) == 0  # it changed, and stays out for a while: to try it costs two
        looks.clear()
        await running.settle(*plain("b", one.port))
        assert looks == [{"b"}]


async def test_who_changed_is_not_blamed_for_what_broke_elsewhere(one_nginx, folder, looks):
    """A template names a file of its own, which breaks: the reload is refused, and who changed is innocent."""
    outer = folder.parent / "outer.conf"
    outer.write_text("# good\n")
    templates = builtin_templates()
    templates["service.conf.j2"] += f"{{% if service.name == 'a' %}}include {outer};\n{{% endif %}}"
    async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx, templates=templates) as running:
        await running.settle(web(one.port), *plain("a", one.port), *plain("b", one.port), claim("web", WEB))
        outer.write_text("nonsense;\n")
        looks.clear()
        revision = await running.write(web(two.port))
        await until(lambda: running.state["nginx"]["error"], "it is said")
        assert looks[:2] == [{"web"}, {"web", "a", "b"}]
        assert running.state["quarantined"] == []
        assert "nonsense" in running.state["nginx"]["error"]["message"]
        assert (await get(running.port, WEB)).body == "one GET /"
        outer.write_text("# good again\n")
        await running.applied(revision)
        assert running.state["quarantined"] == []
        assert (await get(running.port, WEB)).body == "two GET /"


async def test_a_service_with_directives_of_the_admins_is_always_read(nginx, folder, looks, reloads):
    """They may name what lies elsewhere, and is broken now: no reload is tried."""
    outer, snippets = folder.parent / "outer.conf", folder.parent / "snippets"
    outer.write_text("# good\n")
    snippets.mkdir()
    (snippets / f"a.{DOMAIN}.conf").write_text(f"include {outer};\n")
    async with (
        Backend("one") as one,
        Backend("two") as two,
        Running(folder, nginx, snippets=str(snippets)) as running,
    ):
        others = [entry for name in "bcd" for entry in plain(name, one.port)]
        await running.settle(web(one.port), *plain("a", one.port), *others, claim("web", WEB))
        outer.write_text("nonsense;\n")
        looks.clear()
        reloads.clear()
        await running.write(*plain("b", two.port))
        await until(lambda: running.state["nginx"]["error"], "it is said")
        assert looks[:2] == [{"a", "b"}, {"web", "a", "b", "c", "d"}]
        assert reloads == []
        assert running.state["quarantined"] == []
        outer.write_text("# good again\n")
        await running.settle(web(one.port))


async def test_who_is_told_to_end_before_nginx_was_leaves_what_was_checked(one_nginx, folder, monkeypatch):
    """Between the swap and the reload: `current` is the last good one again, and not what nginx has seen a part of."""
    swapped, told, swap = threading.Event(), threading.Event(), io_apply.Folder.swap

    def stopping(place, generation):
        swap(place, generation)
        if running.state["generation"] not in {"", generation} and not swapped.is_set():
            swapped.set()
            assert told.wait(10)

    monkeypatch.setattr(io_apply.Folder, "swap", stopping)
    async with Backend("one") as one, Running(folder, one_nginx, templates=twins()) as running:
        await running.settle(web(one.port), *plain("a", one.port), *plain("twin1", one.port), claim("web", WEB))
        before = (folder / "current").readlink()
        await running.write(*plain("twin2", one.port))
        await until(swapped.is_set, "it is swapped")
        assert (folder / "current").readlink() != before
        running.task.cancel()
        asyncio.get_running_loop().call_soon(told.set)
        await running.stop()
        assert (folder / "current").readlink() == before == (folder / "good").readlink()


async def test_an_nginx_that_is_gone_is_started_on_the_last_good_one_where_current_is_refused(one_nginx, folder):
    """A machine that lost its power between the swap and nginx's refusal."""
    async with Backend("one") as one, Running(folder, one_nginx, nginx_on_exit="keep") as running:
        await running.settle(web(one.port), claim("web", WEB))
        good = (folder / "good").readlink()
    broken = folder / "generations" / ("0" * 32)
    shutil.copytree(folder / good, broken)
    (broken / "nginx.conf").write_text("nonsense;\n")
    (folder / "current").unlink()
    (folder / "current").symlink_to(f"generations/{broken.name}")
    kill_nginx(folder)
    place = io_apply.Folder(folder, 3)
    place.open()
    nginx = io_apply.Nginx(str(one_nginx), folder, ours=True, check_timeout_s=10.0)
    try:
        await io_apply.Applier(place, nginx, proof_s=5.0).revive()
        assert (folder / "current").readlink() == good
        assert f"generations/{(await nginx.served()).generation}" == str(good)
    finally:
        await nginx.stop()
        place.close()


async def test_an_excerpt_that_does_not_stand_for_itself_refuses_nobody(nginx, folder, looks):
    """An admin's template may name in one service's file what stands in another's."""
    templates = builtin_templates()
    templates["service.conf.j2"] += (
        "{% if service.name == 'a' %}upstream shared { server 127.0.0.1:9; }\n{% endif %}"
        "{% if service.name == 'user' %}server {\n    listen {{ rules.http_port }};\n    server_name user.test;\n"
        "    location / {\n        proxy_pass http://shared;\n    }\n}\n{% endif %}"
    )
    async with Backend("one") as one, Running(folder, nginx, templates=templates) as running:
        await running.settle(web(one.port), *plain("a", one.port), claim("web", WEB))
        looks.clear()
        await running.settle(*plain("user", one.port))
        assert looks == [{"user"}, {"web", "a", "user"}]
        assert running.state["quarantined"] == []
        assert (await get(running.port, f"user.{DOMAIN}")).body == "one GET /"
