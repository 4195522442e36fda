"""Where all but a little is served already, nginx is asked about that; what only the whole shows, a reload says."""

from __future__ import annotations

import pytest

from confgen.applying import io_apply
from confgen.applying.excerpt import excerpt
from confgen.nginx.render import GENERATION_FILE, Tree, builtin_templates
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, put
from tests.confgen.test_faults import WEB, web

# Four services: the second stands in the first one's host too, the third has a stream, the fourth stands alone.
FILES = {
    "nginx.conf": b"http { include services/*.conf; include unknown.conf; } stream { include stream.conf; }",
    "unknown.conf": b"return 404;",
    "stream.conf": b"include streams/*.conf;",
    GENERATION_FILE: b"0a",
    "services/a.conf": b"upstream a {} server {include parts/a.conf;\n include parts/b@a.conf; include unknown.conf; }",
    "parts/a.conf": b"location / {}",
    "parts/b@a.conf": b"location /b { proxy_pass http://b; include snippets/b.conf; }",
    "snippets/b.conf": b"# the admin's",
    "services/b.conf": b"upstream b {}",
    "services/c.conf": b"server {}",
    "streams/c.conf": b"upstream c {}",
    "services/d.conf": b"server { error_log_include no; }",
}
SERVICES = {
    "services/a.conf": "a",
    "parts/a.conf": "a",
    "parts/b@a.conf": "b",
    "snippets/b.conf": "b",
    "services/b.conf": "b",
    "services/c.conf": "c",
    "streams/c.conf": "c",
    "services/d.conf": "d",
}
COMMON = {"nginx.conf", "unknown.conf", "stream.conf", GENERATION_FILE, "streams/c.conf"}
OF_B = {"services/b.conf", "parts/b@a.conf", "snippets/b.conf"}
OF_A = {"services/a.conf", "parts/a.conf"}

# What is changed, and which files of services are read then; None: all.
CHANGES = {
    "nothing": ({}, set()),
    "the name of the generation": ({GENERATION_FILE: b"0b"}, set()),
    "a service that stands alone": ({"services/d.conf": b"server { }"}, {"services/d.conf"}),
    "a service with a stream": ({"services/c.conf": b"server { }"}, {"services/c.conf"}),
    "a service that stands in another's host": ({"services/b.conf": b"upstream b { }"}, OF_B),
    "the service whose host that is": ({"services/a.conf": FILES["services/a.conf"] + b" "}, OF_A | OF_B),
    "two of four": ({"services/b.conf": b"upstream b { }", "services/d.conf": b""}, OF_B | {"services/d.conf"}),
    "a service that comes": ({"services/e.conf": b"server {}"}, {"services/e.conf"}),
    "a service that goes": ({"services/d.conf": None}, set()),
    "more than half": ({"services/a.conf": b"include parts/b@a.conf;", "services/d.conf": b""}, None),
    "what is common": ({"unknown.conf": b"return 503;"}, None),
    "a certificate": ({"certs/a.key": b"secret"}, None),
    "a stream": ({"streams/c.conf": b"upstream c { }"}, None),
    "a place in another's host": ({"parts/b@a.conf": b"location /c {}"}, None),
    "a place that goes": ({"parts/b@a.conf": None}, None),
    "what an admin wrote": ({"snippets/b.conf": b"#"}, None),
}


@pytest.mark.parametrize(("changes", "read"), CHANGES.values(), ids=CHANGES)
def test_what_is_read_of_a_configuration(changes, read):
    files = {name: text for name, text in {**FILES, **changes}.items() if text is not None}
    services = SERVICES | {name: "e" for name in changes if name == "services/e.conf"}
    services = {name: service for name, service in services.items() if name in files}
    part = excerpt(Tree(files, "0b", services), FILES)

    if read is None:
        assert part is None
        return
    assert part.files.keys() == COMMON | read
    assert all(part.files[name] is files[name] for name in part.files)
    assert part.services == {name: service for name, service in services.items() if name in part.files}
    assert part.generation == "0b"


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


def plain(name, *ports):
    ends = (endpoint(name, 80 + turn, to=port) for turn, port in enumerate(ports))
    return put(container(name, *ends)), claim(name, f"{name}.{DOMAIN}")


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


async def test_what_only_the_whole_shows_is_refused_by_the_reload_and_costs_nobody_else(nginx, folder, looks):
    """Two services that are good alone and not together; who came last is out, and all others are served."""
    templates = builtin_templates()
    same = "{% if 'twin' in service.name %}upstream same { server 127.0.0.1:9; }\n{% endif %}"
    templates["service.conf.j2"] += same
    async with Backend("one") as one, Running(folder, nginx, templates=templates) as running:
        await running.settle(web(one.port), *plain("a", one.port), *plain("twin1", one.port), claim("web", WEB))
        looks.clear()
        await running.settle(*plain("twin2", one.port))
        assert looks[0] == {"twin2"}
        (entry,) = running.state["quarantined"]
        assert entry["service"] == "twin2"
        assert 'duplicate upstream "same"' in entry["reason"]
        assert {"web", "a", "twin1", "twin2"} in looks[1:]
        for name in ("web", "a", "twin1"):
            assert (await get(running.port, f"{name}.{DOMAIN}")).body == "one GET /"
        assert (await get(running.port, f"twin2.{DOMAIN}")).status == 503
        looks.clear()
        await running.settle(*plain("b", one.port))
        assert looks == [{"b"}]


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
