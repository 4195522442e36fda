"""A generator that starts over an nginx that serves, or over a pin: what it takes for the last good configuration."""

from __future__ import annotations

import shutil
import time

import pytest

from confgen import service
from confgen.applying.history import FORMAT, Note, Pin, encode
from confgen.applying.io_files import Folder
from confgen.applying.io_history import History
from confgen.applying.io_nginx import NotServing
from confgen.nginx.render import Tree
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import StoreUnavailable
from pilotfish.io_past import Books
from tests.confgen.kit import Backend, Running, claim, container, endpoint, get, put, until
from tests.confgen.test_faults import WEB, hold, web


def pin(folder, generation, until_=0.0):
    (folder / "pin.json").write_bytes(encode(Pin(FORMAT, generation, time.time() - 100, until_)))


def away():
    """A store that is not there."""
    store = EmbeddedStore(quiet_s=1.0)

    async def gone(*_, **__):
        raise StoreUnavailable("etcd is away")

    store.read = store.survey = store.grant = store.commit = gone
    return store


@pytest.mark.parametrize("ends_in_s", [-50.0, 1.5], ids=["ended before the start", "ends while it is served"])
async def test_a_pin_that_ends_while_the_store_is_away_leaves_what_is_served(one_nginx, folder, ends_in_s):
    async with Backend("one") as one:
        async with Running(folder, one_nginx, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            generation = first.state["generation"]
        pin(folder, generation, time.time() + ends_in_s)
        async with Running(folder, one_nginx, port=first.port, store=away()) as running:
            await until(lambda: hasattr(running.service, "_extras"), "opened")
            looked, original = [], running.service._publisher.pins.holds

            async def holds():
                looked.append(await original())
                return looked[-1]

            running.service._publisher.pins.holds = holds
            await until(lambda: running.service._wake.set() or looked.count(False) >= 3, "it is over")
            assert (await get(first.port, WEB)).body == "one GET /"
            assert (folder / "current").readlink().name == generation
            assert not running.service._follower.mirror.complete  # the fault was met


async def test_a_pinned_generation_that_is_gone_is_let_go_and_said(one_nginx, folder, caplog):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first = running.state["generation"]
        await running.settle(web(one.port, weight=2))
        shutil.rmtree(folder / "generations" / first)
        pin(folder, first)
        await until(lambda: not (folder / "pin.json").exists(), "let go")
        await running.settle(web(one.port, weight=3))
        assert f"generation {first} is pinned, and gone" in caplog.text
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


async def test_while_a_generation_is_pinned_no_change_counts_as_converged(one_nginx, folder):
    def count():
        name = "pilotfish_convergence_seconds_count"
        return running.telemetry.registry.get_sample_value(name, {"stage": "proxy"})

    def seen(port):
        return put(container("web", endpoint("web", to=port), observed=time.time()))

    async with Backend("one") as one, Backend("two") as two, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        await running.settle(seen(two.port))
        await until(lambda: count() == 1, "a change counts")
        pin(folder, running.state["generation"])
        await until(lambda: running.state["pinned"], "held")
        published, done = running.service._publisher.publish, []

        async def publish(revision, **more):
            done.append((revision, await published(revision, **more)))
            return done[-1][1]

        running.service._publisher.publish = publish
        revision = await running.write(seen(one.port))
        await until(lambda: any(at >= revision for at, _ in done), "the change was looked at")
        assert (await get(running.port, WEB)).body == "two GET /"
        assert count() == 1


async def test_what_is_adopted_after_a_restart_is_looked_after(one_nginx, folder, monkeypatch, caplog):
    monkeypatch.setattr(service, "EDITS_LOOK_S", 0.2)
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one:
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
        async with Running(folder, one_nginx, port=first.port, store=store) as running:
            await until(lambda: running.state["serving"], "adopted")
            file = folder / "current" / "services" / "web.conf"
            before = file.read_text()
            file.write_text(f"# edited\n{before}")
            await until(lambda: file.read_text() == before, "written anew")
            assert "changed by hand" in caplog.text
    await store.close()


async def test_what_was_never_proved_is_proved_when_it_is_adopted(one_nginx, folder):
    """Ended in the middle of a proof: what is served then is what a refused change goes back to."""
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one, Backend("two") as two, Backend("three") as three:
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            with hold(first.service._applier, "prove") as reached:
                await first.write(web(two.port))
                await reached.wait()
                await until(lambda: served_by(first.port, "two"), "nginx read it")
                await first.stop()
        assert (folder / "current").readlink() != (folder / "good").readlink()  # the fault was met
        async with Running(folder, one_nginx, port=first.port, store=store) as running:
            await until(lambda: running.state["serving"], "adopted")
            assert (folder / "current").readlink() == (folder / "good").readlink()
            nginx = running.service._nginx
            original, tries = nginx.prove, []

            async def once(*args, **more):
                tries.append(args)
                if len(tries) == 1:
                    raise NotServing("a worker died")
                await original(*args, **more)

            nginx.prove = once
            await running.write(web(three.port))
            await until(lambda: tries, "a reload fails")
            bodies = set()
            await until(lambda: heard(bodies, first.port, "three"), "then it is taken")
            assert bodies <= {"two", "three"}  # never "one", which is gone
    await store.close()


async def test_what_cannot_be_remembered_as_the_last_good_one_is_said_and_tried_again(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        held = running.service._folder
        original, tries = held.accept, []

        def accept(generation):
            tries.append(generation)
            raise OSError(28, "No space left on device", "good")

        held.accept = accept
        await running.write(web(one.port, weight=2))
        error = await until(lambda: running.state["nginx"]["error"], "it is said")
        assert error["message"] == "good: No space left on device"
        assert running.telemetry.ready.missing == {"configuration": "good: No space left on device"}
        await until(lambda: len(tries) >= 2, "tried again")
        held.accept = original
        await until(lambda: running.telemetry.ready.missing == {}, "remembered")
        assert (folder / "good").readlink() == (folder / "current").readlink()


def test_previous_is_one_that_was_proved(tmp_path):
    """A kill, or a reload that failed there and back, can leave others; they have no note."""
    held, history = Folder(tmp_path / "n", 5), History(tmp_path / "n")
    held.open()
    for name in ("a", "f", "b"):
        held.stage(Tree({"nginx.conf": name.encode()}, name * 32, {}))
        held.swap(name * 32)
        if name != "f":
            held.accept(name * 32)
            history.record(Note(FORMAT, name * 32, "", time.time(), 1, ""))
    held.close()
    assert set(history.generations()) == {"a" * 32, "f" * 32, "b" * 32}
    assert Books(tmp_path / "n").past.named("previous") == "a" * 32


async def served_by(port, name):
    return (await get(port, WEB)).body.startswith(name)


async def heard(bodies, port, last):
    bodies.add((await get(port, WEB)).body.split()[0])
    return last in bodies


async def test_what_failed_there_and_back_leaves_nothing_behind(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first, nginx = running.state["generation"], running.service._nginx
        original = nginx.prove

        async def fails(*_, **__):
            raise NotServing("nobody answers")

        nginx.prove = fails
        revision = await running.write(web(one.port, weight=2))
        await until(lambda: running.state["last_outcome"] == "alarm", "neither is proved")
        await until(lambda: [one.name for one in (folder / "generations").iterdir()] == [first], "removed")
        nginx.prove = original
        await running.applied(revision)
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")
