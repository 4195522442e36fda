"""Services that nginx refuses in several ways, on a real nginx: who is named, what others notice, how it ends."""

from __future__ import annotations

import time

import pytest

from confgen.applying import io_apply, quarantine
from confgen.nginx.render import builtin_templates
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import Put
from tests.confgen.kit import DOMAIN, Backend, Running, claim, container, endpoint, get, key_of, plain, put, until
from tests.confgen.test_faults import BAD, WEB, fragile, taken, web
from tests.parts.ports import free_port

SPOILED = "{{% for site in service.sites %}}{{% for one in site.locations %}}{{% if one.path == '{}' %}}"
DONE = "{% endif %}{% endfor %}{% endfor %}\n"


def spoiling(text, path="/broken"):
    """Templates that put a text into the file of a service with this path."""
    templates = builtin_templates()
    templates["service.conf.j2"] += f"{SPOILED.format(path)}{text}{DONE}"
    return templates


def broken(name, port, path="/broken", **more):
    host = f"{name}.{DOMAIN}"
    entry = put(container(name, endpoint(name, to=port, path=path, **more)))
    return entry, claim(name, host, path)


def applied(running, outcome):
    name = "pilotfish_confgen_configurations_total"
    return running.telemetry.registry.get_sample_value(name, {"outcome": outcome}) or 0


# nginx says "could not build server_names_hash" and names no file.
LONG_NAME = f"server {{ listen {{{{ rules.http_port }}}}; server_name {'x' * 600}.test; }}"


async def test_fault_C1_a_culprit_that_nginx_does_not_name_is_searched_for(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx, templates=spoiling(LONG_NAME)) as running:
        await running.settle(web(one.port), claim("web", WEB))
        others = [put(container(f"s{n}", endpoint(f"s{n}", to=one.port))) for n in range(20)]
        claims = [claim(f"s{n}", f"s{n}.{DOMAIN}") for n in range(20)]
        began = time.monotonic()
        await running.settle(*others, *claims, *broken("bad", one.port))
        print(f"C1: found among 21 and the others applied after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 3
        (entry,) = running.state["quarantined"]
        assert (entry["service"], entry["file"]) == ("bad", "")
        assert "could not build server_names_hash" in entry["reason"]
        assert (await get(running.port, f"s19.{DOMAIN}")).body == "one GET /"
        assert (await get(running.port, BAD, "/broken")).status == 503


@pytest.fixture
async def crowd(one_nginx, folder):
    """A thousand services at rest, and how others of the same application are written."""
    async with Backend("one") as one:
        templates = fragile() | {"service.conf.j2": spoiling(LONG_NAME, "/silent")["service.conf.j2"]}
        options = {"templates": templates, "guard_s": 0.0}
        async with Running(folder, one_nginx, **options) as running:
            names = [f"s{number:03}" for number in range(1000)]
            entries = [entry for name in names for entry in plain(name, one.port)]
            for start in range(0, len(entries), 100):
                await running.write(*entries[start : start + 100])
            await running.settle(*plain("last", one.port))
            yield running, one.port


# Which services come, and are refused in which way.
COME = {
    "one": (["bad"], []),
    "ten by name": ([], range(10)),
    "ten": (range(10), []),
    "five and five": (range(5), range(5, 10)),
}


@pytest.mark.parametrize("come", COME)
async def test_fault_C1_culprits_among_a_thousand(crowd, come):
    (running, port), (silent, named) = crowd, COME[come]
    silent, named = ([f"{way}{one}" for one in which] for way, which in (("silent", silent), ("named", named)))
    bad = [*(broken(name, port, path="/silent") for name in silent), *(broken(name, port) for name in named)]
    good = [plain(f"new{number}", port) for number in range(20)]
    refused, accepted, began = applied(running, "refuse"), applied(running, "accept"), time.monotonic()
    await running.settle(*(entry for both in (*bad, *good) for entry in both))
    print(f"C1: {come} among 1,000 services: named and the others applied after {time.monotonic() - began:.2f} s")
    # What takes long among so many is to check, and to reload, all of them.
    assert (applied(running, "refuse"), applied(running, "accept")) == (refused + 1, accepted + 1)
    entries = {entry["service"]: entry["reason"] for entry in running.state["quarantined"]}
    assert sorted(entries) == sorted(silent + named)
    assert all("could not build server_names_hash" in entries[name] for name in silent)
    assert all("unknown directive" in entries[name] for name in named)
    assert (await get(running.port, f"new19.{DOMAIN}")).body == "one GET /"
    assert not list((running.folder / "generations").glob(".*"))


async def test_fault_C1_many_culprits_at_once(one_nginx, folder):
    # Without the guard: it would hold ten of eleven containers, and their claims.
    options = {"templates": fragile(), "guard_s": 0.0}
    async with Backend("one") as one, Running(folder, one_nginx, **options) as running:
        await running.settle(web(one.port), claim("web", WEB))
        names = [f"bad{number}" for number in range(10)]
        began = time.monotonic()
        await running.settle(*(entry for name in names for entry in broken(name, one.port)), web(one.port, weight=7))
        print(f"C1: ten culprits named and the rest applied after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 3
        assert [entry["service"] for entry in running.state["quarantined"]] == names
        assert applied(running, "accept") == 2  # no reload for any of them
        await running.settle(*(), deletes=[key_of(container(name)) for name in names])
        await running.settle(*(), deletes=[claim(name, f"{name}.{DOMAIN}", "/broken").key for name in names])
        assert running.state["quarantined"] == []


# When the port is taken: before it is tried, or just after that.
@pytest.mark.parametrize("when", ["before", "after"])
async def test_fault_C2_a_reload_refused_for_one_services_port_is_that_services_fault(nginx, folder, when, monkeypatch):
    if when == "after":
        monkeypatch.setattr(io_apply, "taken", lambda *_: "")
    async with Backend("one") as one, Backend("two") as two:
        with taken(port := free_port()):
            templates = spoiling(f"server {{ listen 127.0.0.1:{port}; }}")
            async with Running(folder, nginx, templates=templates) as running:
                await running.settle(web(one.port), claim("web", WEB))
                began = time.monotonic()
                await running.settle(*broken("bad", one.port), web(two.port), claim("web", WEB))
                print(f"C2: the port's service named and the others applied after {time.monotonic() - began:.2f} s")
                said = "still could not bind()" in (folder / "logs" / "error.log").read_text()
                assert said is (when == "after")  # nginx was told to listen there, or was not
                (entry,) = running.state["quarantined"]
                assert entry["service"] == "bad"
                assert entry["reason"].startswith(f"bind() to 127.0.0.1:{port} failed (98: Address")
                assert (await get(running.port, WEB)).body == "two GET /"


async def test_a_port_that_nginx_has_for_a_service_stays_its_own(one_nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    templates = spoiling(f"server {{ listen 127.0.0.1:{free_port()}; }}")
    async with Backend("one") as one:
        options = {"store": store, "templates": templates}
        async with Running(folder, one_nginx, nginx_on_exit="keep", **options) as first:
            await first.settle(web(one.port), claim("web", WEB), *broken("bad", one.port))
            await first.settle(*broken("bad", one.port, weight=7))
        await store.commit([], [Put(each.key, each.value) for each in broken("bad", one.port, weight=9)])
        async with Running(folder, one_nginx, port=first.port, **options) as second:  # knows of nothing proved
            await second.settle(web(one.port, weight=7))
            assert second.state["quarantined"] == []
            assert "weight=9 " in (folder / "current" / "services" / "bad.conf").read_text()
    await store.close()


async def test_a_service_in_quarantine_stays_there_over_a_restart_and_is_not_tried_at_once(one_nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one:
        options = {"store": store, "templates": fragile()}
        async with Running(folder, one_nginx, nginx_on_exit="keep", **options) as first:
            await first.settle(web(one.port), claim("web", WEB), *broken("bad", one.port))
            before, generation = first.state["quarantined"], first.state["generation"]
        async with Running(folder, one_nginx, port=first.port, **options) as second:
            await until(lambda: second.state["serving"], "adopted")
            assert (second.state["quarantined"], second.state["generation"]) == (before, generation)
            assert (applied(second, "refuse"), applied(second, "accept")) == (0, 0)
            await until(lambda: "bad" in second.telemetry.ready.missing.get("quarantine", ""), "it is named again")
        async with Running(folder, one_nginx, port=first.port, store=store) as mended:
            await until(lambda: mended.state["serving"], "the templates are mended")
            assert mended.state["quarantined"] == []
            assert (await get(mended.port, BAD, "/broken")).body == "one GET /broken"
    await store.close()


async def test_when_most_services_are_refused_the_last_good_one_stays_for_a_while(one_nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    names = ["a", "b", "c"]
    async with Backend("one") as one:
        entries = [entry for name in names for entry in broken(name, one.port)]
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB), *entries)
        options = {"store": store, "port": first.port, "templates": fragile()}
        async with Running(folder, one_nginx, refusal_grace_s=300.0, nginx_on_exit="keep", **options) as held:
            error = await until(lambda: held.state["nginx"]["error"], "it is held back")
            assert error["message"].startswith("3 of 4 services were refused: the last good one stays for 300 s")
            assert [entry["service"] for entry in held.state["quarantined"]] == names
            answers = [(await get(first.port, f"{name}.{DOMAIN}", "/broken")).body for name in [*names, "web"]]
            assert answers == ["one GET /broken"] * 4
            assert applied(held, "accept") == 0
        async with Running(folder, one_nginx, refusal_grace_s=1.0, **options) as over:
            await until(lambda: over.state["serving"] and applied(over, "accept"), "applied after its grace time")
            assert (await get(first.port, WEB)).body == "one GET /"
            assert (await get(first.port, f"a.{DOMAIN}", "/broken")).status == 503
            await until(lambda: set(over.telemetry.ready.missing) == {"quarantine"}, "its record is there as well")
    await store.close()


async def test_a_trial_that_begins_while_another_change_is_applied_is_not_passed_by_that(
    one_nginx, folder, monkeypatch
):
    monkeypatch.setattr(quarantine, "FIRST_RETRY_S", 1.0)
    async with Backend("one") as one, Running(folder, one_nginx, templates=fragile()) as running:
        await running.settle(web(one.port), claim("web", WEB))
        await running.settle(*broken("bad", one.port))
        nginx, held = running.service._nginx, running.service._quarantine
        original, seen = nginx.prove, []

        async def slow(*args, **more):
            await until(lambda: not held.levels, "let out on trial meanwhile")  # the fault is met
            await original(*args, **more)
            seen.append(held.entries[0].tries)

        nginx.prove = slow
        await running.settle(web(one.port, weight=7))
        nginx.prove = original
        assert seen == [1]
        assert [entry["service"] for entry in running.state["quarantined"]] == ["bad"]
        await until(lambda: running.state["quarantined"][0]["tries"] == 2, "tried, and refused again")
        assert (await get(running.port, BAD, "/broken")).status == 503


async def test_what_is_mended_elsewhere_returns_by_itself(one_nginx, folder, monkeypatch):
    monkeypatch.setattr(quarantine, "FIRST_RETRY_S", 0.5)
    included = folder.parent / "included.conf"
    templates = spoiling(f"include {included};")
    async with Backend("one") as one, Running(folder, one_nginx, templates=templates) as running:
        await running.settle(web(one.port), claim("web", WEB), *broken("bad", one.port))
        assert "No such file" in running.state["quarantined"][0]["reason"]
        await until(lambda: running.state["quarantined"][0]["tries"] >= 2, "tried again, and refused again")
        assert applied(running, "accept") == 1  # a refused trial costs the others no reload
        included.write_text("")
        await until(lambda: not running.state["quarantined"], "back")
        assert (await get(running.port, BAD, "/broken")).body == "one GET /broken"
        await until(lambda: running.telemetry.ready.missing == {}, "it is ready")


async def test_fault_C5_a_template_that_fails_for_one_service_spoils_only_that(one_nginx, folder):
    templates = spoiling("{{ nobody.knows }}")
    async with Backend("one") as one, Running(folder, one_nginx, templates=templates) as running:
        await running.settle(web(one.port), claim("web", WEB), *broken("bad", one.port))
        (entry,) = running.state["quarantined"]
        assert (entry["service"], entry["reason"]) == ("bad", "template service.conf.j2: 'nobody' is undefined")
        assert (await get(running.port, WEB)).body == "one GET /"
        assert (await get(running.port, BAD, "/broken")).status == 503


SHARED = {
    "the one that leads the host": ("/broken", "/broken/api", "/broken/api/x", "/broken/x"),
    "one that has a path there": ("/broken", "/", "/x", "/broken/x"),
}


@pytest.mark.parametrize("at", SHARED)
async def test_others_at_the_host_of_a_refused_service_are_served(one_nginx, folder, at):
    refused, other, served, silent = SHARED[at]
    async with Backend("one") as one, Running(folder, one_nginx, templates=fragile()) as running:
        await running.settle(
            put(container("bad", endpoint("bad", to=one.port, hosts=("www.test",), path=refused))),
            put(container("good", endpoint("good", to=one.port, hosts=("www.test",), path=other))),
            claim("bad", "www.test", refused),
            claim("good", "www.test", other),
        )
        assert [entry["service"] for entry in running.state["quarantined"]] == ["bad"]
        assert (await get(running.port, "www.test", served)).body == f"one GET {served}"
        answer = await get(running.port, "www.test", silent)
        assert (answer.status, "in quarantine" in answer.body) == (503, True)
        assert int(answer.headers["retry-after"]) > 0


async def test_a_service_whose_503_is_refused_too_is_left_out_alone(one_nginx, folder):
    templates = fragile()
    refused = "{% if one.path == '/broken' %}no_such_directive on;{% endif %}"
    spoiled = f"{{% for one in site.locations %}}{refused}{{% endfor %}}\n"
    templates["quarantined_part.conf.j2"] = spoiled + templates["quarantined_part.conf.j2"]
    async with Backend("one") as one, Running(folder, one_nginx, templates=templates) as running:
        shared = put(container("part", endpoint("part", to=one.port, hosts=(WEB,), path="/broken")))
        await running.settle(
            web(one.port), claim("web", WEB), shared, claim("part", WEB, "/broken"), *broken("bad", one.port)
        )
        levels = {entry["service"]: entry["served"] for entry in running.state["quarantined"]}
        assert set(levels) == {"bad", "part"}
        assert all(level.startswith("left out") for level in levels.values())
        assert (await get(running.port, WEB)).body == "one GET /"
        assert (await get(running.port, BAD, "/broken")).status == 404


@pytest.mark.parametrize("what", ["full disk", "hung check"])
async def test_what_is_nobodys_fault_puts_nobody_into_quarantine(one_nginx, folder, what):
    program = folder.parent / "nginx-that-hangs"
    flag = folder.parent / "hang"
    program.write_text(
        f'#!/bin/sh\nif [ -e {flag} ]; then case " $* " in *" -t "*) sleep 60;; esac; fi\nexec {one_nginx} "$@"\n'
    )
    program.chmod(0o755)
    async with Backend("one") as one, Running(folder, program, check_timeout_s=0.5) as running:
        await running.settle(web(one.port), claim("web", WEB))
        if what == "hung check":
            flag.touch()
        else:
            running.service._folder.stage = full
        revision = await running.write(web(one.port, weight=9), *broken("bad", one.port))
        error = await until(lambda: running.state["nginx"]["error"], "it is reported")
        assert error["message"].endswith(("No space left on device", "did not end within 0.5 s and was killed"))
        assert running.state["quarantined"] == []
        flag.unlink(missing_ok=True)
        vars(running.service._folder).pop("stage", None)
        await running.applied(revision)
        assert (await get(running.port, BAD, "/broken")).body == "one GET /broken"


def full(tree):
    raise OSError(28, "No space left on device", "generations")
