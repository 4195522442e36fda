"""Template resources at work: from a change of a key to files and commands, and through everything that goes wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import threading
import time

import pytest

from confgen.applying.io_processes import look
from confgen.io_beside import confgen_service
from confgen.resources import io_stage
from confgen.settings import ConfgenSettings
from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.store import Put, StoreUnavailable
from pilotfish.catalog.telemetry import Telemetry
from tests.confgen.kit import until
from tests.confgen.resources_kit import ALL, mount, mounts, needs_root, reload

__all__ = ["mounts"]


def keep(place):
    """A reload that writes down what the file says."""
    return f"cat {place.out()} >> {place.log}; echo >> {place.log}"


def first(service):
    """What the service shows of its first resource."""
    return next(iter(service.state()["resources"]), {"status": "", "failures": 0, "revision": 0})


# --- the way of a change


async def test_a_change_reaches_the_file_and_the_command(place):
    place.resource("a", ALL, reload_cmd=reload(place))
    await place.put(one="1")
    async with place.running():
        await until(lambda: place.text() == "one=1;" and place.lines() == ["reload"])
        await place.put(two="2")
        await until(lambda: place.text() == "one=1;two=2;" and place.lines() == ["reload"] * 2)
        await place.delete("one")
        await until(lambda: place.text() == "two=2;" and place.lines() == ["reload"] * 3)
        assert place.missing() == {}


async def test_equal_bytes_change_nothing(place):
    """A change that the template does not show, and a new start, write no file and run no command."""
    place.resource("a", 'v={{getv "/x/one"}}', reload_cmd=reload(place))
    await place.put(one="1")
    await place.service().once()
    before = place.out().stat()
    async with place.running() as service:
        await until(lambda: first(service)["status"] == "in sync")
        await place.put(other="2")
        await until(lambda: first(service)["revision"] == 2)

    assert place.out().stat() == before
    assert place.lines() == ["reload"]


async def test_a_file_edited_by_hand_is_restored(place):
    """The safety poll and SIGHUP look at files, not only at keys."""
    place.resource("a", ALL)
    await place.put(one="1")
    async with place.running(interval_s=0.2) as service:
        await until(lambda: place.text() == "one=1;")
        place.out().write_text("mine")
        await until(lambda: place.text() == "one=1;")
    async with place.running() as service:
        await until(lambda: first(service)["status"] == "in sync")
        place.out().write_text("mine")
        service.reload()
        await until(lambda: place.text() == "one=1;")


async def test_nothing_is_rendered_before_the_store_was_read(place):
    """A store that is away is not an empty one."""

    class Away:
        async def read(self, *_):
            raise StoreUnavailable("nobody answers")

        survey = read

    place.resource("a", ALL, reload_cmd=reload(place))
    place.out().write_text("old")
    async with place.running(store=Away()):
        await until(lambda: place.missing().get("store /x") == "nobody answers")

    assert (place.text(), place.lines()) == ("old", [])


async def test_keys_of_several_places_are_of_one_revision(place):
    """A transaction that changes two places is never seen in half."""
    text = '{{getv "/x/n" ""}}={{getv "/y/z/n" ""}}'
    place.resource("a", text, keys=["/x", "/y/z"], reload_cmd=keep(place))
    async with place.running(wait_s=0.0):
        for number in range(30):
            await place.store.commit([], [Put("/x/n", b"%d" % number), Put("/y/z/n", b"%d" % number)])
            await asyncio.sleep(0)
        await until(lambda: place.text() == "29=29")
        await until(lambda: place.lines()[-1:] == ["29=29"])

    assert all(line.split("=")[0] == line.split("=")[1] for line in place.lines())


async def test_mode_and_owner(place):
    place.resource("a", "x", mode="0640", uid=33, gid=4)
    place.resource("b", "x", owner="www-data", group="adm")
    place.resource("c", "x")
    place.out("c").write_text("old")
    place.out("c").chmod(0o604)
    await place.service().once()

    facts = {name: place.out(name).stat() for name in "abc"}
    assert (facts["a"].st_mode & 0o7777, facts["a"].st_uid, facts["a"].st_gid) == (0o640, 33, 4)
    assert (facts["b"].st_mode & 0o7777, facts["b"].st_uid, facts["b"].st_gid) == (0o644, 33, 4)
    assert (facts["c"].st_mode & 0o7777, facts["c"].st_uid) == (0o604, os.geteuid())


async def test_a_mode_changed_by_hand_is_restored_and_reloaded(place):
    place.resource("a", "x", mode="0640", reload_cmd=reload(place))
    await place.service().once()
    place.out().chmod(0o644)
    await place.service().once()

    assert place.out().stat().st_mode & 0o777 == 0o640
    assert place.lines() == ["reload"] * 2


async def test_datetime_alone_changes_nothing(place):
    """Time passes; that is no reason to write and to reload. With another change the time is a new one."""
    place.resource("a", '{{datetime.UnixNano}} {{getv "/x/one"}}', reload_cmd=reload(place))
    await place.put(one="1")
    began = time.time_ns()
    await place.service().once()
    first = place.text()
    await place.service().once()
    assert (place.text(), place.lines()) == (first, ["reload"])
    await place.put(one="2")
    await place.service().once()

    assert began < int(first.split()[0]) < int(place.text().split()[0])
    assert place.lines() == ["reload"] * 2


# --- commands


async def test_one_reload_for_all_that_share_it(place):
    """It comes after the files of all of them."""
    for name in "abcde":
        place.resource(name, ALL, reload_cmd=f"cat {place.path}/out/* >> {place.log}; echo >> {place.log}")
    await place.put(one="1")
    async with place.running():
        await until(lambda: place.lines() == ["one=1;" * 5])
        await place.put(one="2")
        await until(lambda: place.lines() == ["one=1;" * 5, "one=2;" * 5])


async def test_a_check_refuses(place):
    """The file that is there stays; what the check said is told; it is tried again until it passes."""
    place.resource("a", ALL, check_cmd="echo line 7 is wrong; grep -q good {{.src}}", reload_cmd=reload(place))
    place.out().write_text("old")
    await place.put(one="bad")
    async with place.running() as service:
        await until(lambda: "line 7 is wrong" in place.missing().get("resource a.toml", ""))
        await until(lambda: first(service)["failures"] > 1)
        assert (place.text(), place.lines()) == ("old", [])
        await until(lambda: place.strays() == [], "between two tries nothing is left")
        await place.put(one="good")
        await until(lambda: place.text() == "one=good;" and place.lines() == ["reload"])
        await until(lambda: place.missing() == {}, "it is ready once the reload has ended")


async def test_a_check_that_recovers_by_itself_is_tried_again(place):
    """No key changes: what the check looks at does."""
    place.resource("a", ALL, check_cmd=f"test -e {place.path}/allowed")
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: first(service)["failures"])
        (place.path / "allowed").touch()
        await until(lambda: place.text() == "one=1;")


async def test_a_failed_reload_is_tried_until_it_succeeds(place):
    place.resource("a", ALL, reload_cmd=f"echo try >> {place.log}; test -e {place.path}/up")
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: len(place.lines()) >= 2)
        assert list(service.state()["failing_reloads"].values()) == ["exit code 1"]
        assert [name for name in place.missing() if name.startswith("reload ")]
        (place.path / "up").touch()
        await until(lambda: place.missing() == {})
        tries = len(place.lines())
        await place.put(one="2")
        await until(lambda: place.text() == "one=2;" and len(place.lines()) == tries + 1)


async def test_fault_C8_hung_commands_are_killed_with_their_children_and_delay_nobody(place):
    """A check and a reload that hang; a third resource is served meanwhile."""
    pids = place.path / "pids"
    hang = f"sleep 300 & echo $! $$ >> {pids}; wait"
    place.resource("a", ALL, check_cmd=hang, timeout="1s")
    place.resource("b", ALL, reload_cmd=hang, timeout="1s")
    place.resource("c", ALL, reload_cmd=reload(place))
    await place.put(one="1")
    async with place.running():
        await until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        await until(lambda: place.text("c") == "one=1;" and place.lines() == ["reload"])
        await until(lambda: "did not end within 1 s" in place.missing().get("resource a.toml", ""))
        await until(lambda: any("did not end" in why for name, why in place.missing().items() if "reload" in name))
        hung = [int(pid) for pid in pids.read_text().split()[:4]]
        await until(lambda: not any(look(pid) for pid in hung), "nobody of them is left")


async def test_a_reload_that_runs_may_finish(place):
    """We are told to end in the middle of it: it ends first, and is not due any more."""
    begun = place.path / "begun"
    place.resource("a", "x", reload_cmd=f"touch {begun}; sleep 1; {reload(place)}")
    async with place.running():
        await until(begun.exists)

    assert (place.lines(), place.due()) == (["reload"], [])


async def test_commands_without_a_shell(place):
    place.resource("a", "x", check_cmd=["test", "-s", "{{.src}}"], reload_cmd=["cp", "{{.dest}}", str(place.log)])
    await place.service().once()

    assert place.lines() == ["x"]


async def test_sync_only_runs_no_command(place):
    place.resource("a", "x", check_cmd="false", reload_cmd=reload(place))
    await place.service(sync_only=True).once()

    assert (place.text(), place.lines()) == ("x", [])


async def test_jinja_and_go_side_by_side(place):
    place.resource("a", ALL)
    place.resource("b", '{% for pair in gets("/x/*") %}{{ base(pair.Key) }}={{ pair.Value }};{% endfor %}', ending="j2")
    place.resource("c", "{{ nope }}", ending="j2")
    await place.put(one="1", two="2")
    async with place.running():
        await until(lambda: place.text("a") == place.text("b") == "one=1;two=2;")
        await until(lambda: "template c.j2, line 1: 'nope' is undefined" in place.missing().get("resource c.toml", ""))


async def test_beside_nginx(place):
    """With --with-nginx both are at work in one process, under one status."""
    place.resource("a", ALL)
    await place.put(one="1")
    settings = ConfgenSettings(
        confdir=str(place.path / "c"), state_dir=str(place.path / "state"), with_nginx=True, nginx="off",
        nginx_dir=str(place.path / "nginx"), node_name="h1", ip=("10.0.0.1",),
    )  # fmt: skip
    telemetry = Telemetry("confgen", time.time)
    both = confgen_service(settings, place.store, telemetry)
    task = asyncio.create_task(both.run())
    try:
        await until(lambda: place.text() == "one=1;" and both.state()["generation"])
        await until(lambda: telemetry.ready.missing == {})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert both.state()["resources"][0]["status"] == "in sync"
    assert (place.path / "nginx/current/nginx.conf").exists()


def test_flags_of_template_resources_need_a_folder(place):
    with pytest.raises(BadSettings, match="--noop is for template resources: name their folder with --confdir"):
        confgen_service(ConfgenSettings(noop=True), place.store, Telemetry("confgen", time.time))


# --- bad neighbours


BAD = [
    ("missing key", '{{getv "/x/nope"}}', {}, "key does not exist: /x/nope"),
    ("no template", "{{if}}", {}, "missing value for if"),
    ("wrong type", '{{add "1" 2}}', {}, "expected int; got string"),
    ("no such user", "x", {"owner": "nobody-of-that-name"}, "this host has no user"),
    ("check fails", "x", {"check_cmd": "false"}, "check_cmd refused it: exit code 1"),
    ("no program", "x", {"check_cmd": ["/nonexistent/x"]}, "cannot be run"),
    ("no folder", "x", {"dest": "/nonexistent/x"}, "No such file or directory"),
    ("a folder in the way", "x", {"dest": "/etc"}, "is no file"),
    ("no TOML value", "x", {"mode": 644}, "mode: must be octal"),
]


@pytest.mark.parametrize(("text", "more", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_fault_C5_a_bad_resource_is_red_alone(place, text, more, said):
    """It is named with its reason; its file stays; the other one is served, also after the next change."""
    place.resource("bad", text, **more)
    place.resource("good", ALL)
    place.out("bad").write_text("old")
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: place.text("good") == "one=1;")
        await until(lambda: said in place.missing().get("resource bad.toml", ""))
        await place.put(one="2")
        await until(lambda: place.text("good") == "one=2;")
        assert list(place.missing()) == ["resource bad.toml"]
        shown = service.state()
        assert said in str(shown["bad_resources"]) + str(shown["resources"])
        place.resource("bad", "mended")
        await until(lambda: place.text("bad") == "mended" and place.missing() == {})


async def test_two_resources_for_one_file(place):
    place.resource("a", "a")
    place.resource("b", "b", dest=str(place.out("a")))
    async with place.running():
        await until(lambda: "is written by a.toml already" in place.missing().get("resource b.toml", ""))
        await until(lambda: place.text() == "a")


async def test_roots_are_kept(place):
    """Also where a link leads out of them."""
    (place.path / "out/link").symlink_to(place.path)
    place.resource("a", "x", dest=str(place.path / "out/link/escaped"))
    place.resource("b", "x", dest=str(place.path / "out/../escaped"))
    place.resource("c", "x")
    with pytest.raises(CannotStart) as caught:
        await place.service(dest_root=(str(place.path / "out"),)).once()

    assert str(caught.value).count("--dest-root says where files may be written") == 2
    assert (place.text("c"), (place.path / "escaped").exists()) == ("x", False)


async def test_metrics_count(place):
    """What went well and what did not, and how much is red now."""
    place.resource("a", ALL, reload_cmd=reload(place))
    place.resource("b", '{{getv "/x/nope"}}')
    place.resource("c", "x", mode=644)
    await place.put(one="1")

    def value(name, **labels):
        return place.telemetry.registry.get_sample_value(f"pilotfish_confgen_{name}", labels) or 0

    async with place.running():
        await until(lambda: value("reloads_total", outcome="done") == 1)
        await until(lambda: value("renderings_total", outcome="failed") >= 2)
        assert value("renderings_total", outcome="written") == 1
        assert (value("resources"), value("failing_resources")) == (3, 2)


# --- conf.d


async def test_conf_d_is_read_again_when_it_changes(place):
    place.resource("a", ALL)
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: place.text() == "one=1;")
        place.resource("b", "new")
        await until(lambda: place.text("b") == "new")
        place.template("a", "other")
        await until(lambda: place.text() == "other")
        (place.path / "c/conf.d/b.toml").unlink()
        await until(lambda: len(service.state()["resources"]) == 1)
        (place.path / "c/conf.d/a.toml").write_text("[template")
        await until(lambda: "resource a.toml" in place.missing())
        place.out().unlink()
        service.reload()
        await until(lambda: place.text() == "other", "the resource goes on as it was read last")


async def test_folders_below_conf_d_are_read(place):
    place.resource("a", "x")
    (place.path / "c/conf.d/more").mkdir()
    (place.path / "c/conf.d/a.toml").rename(place.path / "c/conf.d/more/anytoml")
    await place.service().once()

    assert place.text() == "x"


# --- several files


async def test_one_file_for_each(place):
    """Files come and go with their keys, and one reload serves all; what others put there stays."""
    place.resource(
        "a", 'server {{.name}} {{range getvs (printf "%s/*" .key)}}{{.}} {{end}}',
        dest=f"{place.path}/out/{{{{.name}}}}.conf", for_each="/x/*", reload_cmd=reload(place),
    )  # fmt: skip
    place.out("other.conf").write_text("mine")
    await place.put(**{"web/1": "10.0.0.1", "web/2": "10.0.0.2", "api/1": "10.0.0.3"})
    async with place.running():
        await until(lambda: place.text("web.conf") == "server web 10.0.0.1 10.0.0.2 " and place.text("api.conf"))
        await until(lambda: place.lines() == ["reload"])
        await place.delete("api/1")
        await until(lambda: not place.out("api.conf").exists() and place.lines() == ["reload"] * 2)
    await place.delete("web/1", "web/2")
    await place.service().once()

    assert sorted(path.name for path in (place.path / "out").iterdir()) == ["other.conf"]
    assert place.lines() == ["reload"] * 3


# --- bursts


async def test_changes_are_collected(place):
    """With wait, a burst is rendered once when it is over; an endless one after the longest wait."""
    place.resource("a", '{{len (gets "/x/*")}}', wait="300ms:900ms", reload_cmd=keep(place))
    async with place.running():
        await until(lambda: place.lines() == ["0"])
        for number in range(20):
            await place.put(**{f"k{number}": "v"})
        await until(lambda: place.lines()[-1:] == ["20"])
        assert place.lines() == ["0", "20"]
        stop = time.monotonic() + 2.0
        while time.monotonic() < stop:
            await place.put(**{f"e{time.monotonic_ns()}": "v"})
            await asyncio.sleep(0.02)
        assert 3 <= len(place.lines()) <= 6


async def test_a_burst_costs_few_reloads(place):
    place.resource("a", '{{len (gets "/x/*")}}', reload_cmd=reload(place))
    async with place.running(wait_s=0.5):
        await until(lambda: place.lines() == ["reload"])
        began = time.monotonic()
        for number in range(300):
            await place.put(**{f"k{number}": "v"})
        await until(lambda: place.text() == "300")
        allowed = 2 + int((time.monotonic() - began) / 0.5)
        assert len(place.lines()) - 1 <= allowed


# --- once, noop


async def test_once_names_everything_that_failed(place):
    """One failure keeps no other resource from being written."""
    place.resource("a", '{{getv "/x/nope"}}')
    place.resource("b", "x", reload_cmd="echo why; exit 3")
    place.resource("c", "x")
    (place.path / "c/conf.d/d.toml").write_text("[template]")
    with pytest.raises(CannotStart) as caught:
        await place.service().once()

    for said in ("a.toml: template a.tmpl", "exit code 3: why", "d.toml: src is missing"):
        assert said in str(caught.value)
    assert (caught.value.exit_code, place.text("c"), place.strays()) == (1, "x", [])


async def test_once_without_a_store(place):
    class Away:
        async def read(self, *_):
            raise StoreUnavailable("nobody answers")

    place.resource("a", ALL)
    with pytest.raises(CannotReach, match="nobody answers; is --etcd"):
        await place.service(store=Away()).once()


async def test_noop_shows_a_diff_and_touches_nothing(place):
    place.resource("a", "one\n2\nthree", check_cmd=reload(place), reload_cmd=reload(place))
    place.resource("b", "new\n")
    place.resource("c", "same")
    place.out("a").write_text("one\ntwo\nthree\n")
    place.out("c").write_text("same")
    await place.service(noop=True).once()
    path = place.out()

    assert "".join(place.said) == (
        f"{path}: content differs\n--- {path}\n+++ {path}\n@@ -1,3 +1,3 @@\n one\n-two\n-three\n+2\n+three\n"
        f"\\ No newline at end of file\n{place.out('b')}: absent differs\n--- /dev/null\n+++ {place.out('b')}\n"
        "@@ -0,0 +1 @@\n+new\n"
    )
    assert (place.out("b").exists(), place.lines(), (place.path / "state").exists()) == (False, [], False)


async def test_a_diff_is_one_that_patch_takes(place):
    place.resource("a", "one\n2\nthree")
    place.out("a").write_text("one\ntwo\nthree\n")
    await place.service(noop=True).once()
    patch(place.out(), "".join(place.said))

    assert place.text() == "one\n2\nthree"


async def test_stage_files_can_be_kept(place):
    place.resource("a", "new", check_cmd="false")
    with pytest.raises(CannotStart):
        await place.service(keep_stage_file=True).once()

    assert place.strays() == [str(place.out(f".a.{place.mark()}.stage"))]


async def test_two_processes_on_one_folder(place):
    place.resource("a", "x")
    async with place.running() as service:
        await until(lambda: service.state()["resources"])
        with pytest.raises(CannotStart, match="another process works on these resources"):
            await place.service().once()


# --- the disk


def patch(path, diff):
    subprocess.run(["patch", "-s", str(path)], input=diff, text=True, check=True, timeout=10)


@needs_root
async def test_a_mount_point_is_written_in_place(place, mounts):
    """What was bound into a container cannot be renamed over; it is written, and that is said."""
    place.resource("a", ALL, mode="0600", reload_cmd=reload(place))
    source = place.path / "source"
    source.write_text("something that is longer than what comes")
    place.out().touch()
    mounts("--bind", source, place.out())
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: place.text() == "one=1;" and place.lines() == ["reload"])
        await until(lambda: first(service)["written_in_place"] == [str(place.out())])

    assert (source.read_text(), source.stat().st_mode & 0o777, place.strays()) == ("one=1;", 0o600, [])


@needs_root
async def test_fault_C6_a_full_disk(place, mounts):
    """The file that is there stays whole, nothing is left behind, and it is written when there is room."""
    mounts("-t", "tmpfs", "-o", "size=64k", "tmpfs", place.path / "out")
    place.resource("a", '{{getv "/x/one"}}', reload_cmd=reload(place))
    await place.put(one="small")
    async with place.running():
        await until(lambda: place.text() == "small")
        filler = place.out("filler")
        filler.write_bytes(b"x" * 40_000)
        await place.put(one="y" * 30_000)
        await until(lambda: os.strerror(errno.ENOSPC) in place.missing().get("resource a.toml", ""))
        assert (place.text(), place.strays()) == ("small", [])
        filler.unlink()
        await until(lambda: place.text() == "y" * 30_000)
        await until(lambda: place.missing() == {} and place.lines() == ["reload"] * 2)


@needs_root
async def test_fault_C6_a_disk_that_is_read_only(place, mounts):
    mounts("-t", "tmpfs", "tmpfs", place.path / "out")
    place.resource("a", ALL)
    await place.put(one="1")
    async with place.running():
        await until(lambda: place.text() == "one=1;")
        mount("-o", "remount,ro", place.path / "out")
        await place.put(one="2")
        await until(lambda: os.strerror(errno.EROFS) in place.missing().get("resource a.toml", ""))
        assert place.text() == "one=1;"
        mount("-o", "remount,rw", place.path / "out")
        await until(lambda: place.text() == "one=2;" and place.missing() == {})


async def test_fault_C6_no_reader_sees_half_a_file(place):
    """A reader in a tight loop over a file that is replaced all the time: never absent, never cut."""
    wanted = [
        io_stage.Wanted(place.out(), char * 200_000, 0o644, os.geteuid(), os.getegid(), 0) for char in (b"a", b"b")
    ]
    io_stage.replace(io_stage.stage(wanted[0], "m"), wanted[0])
    whole, done, reads, torn = {one.data for one in wanted}, threading.Event(), [0], []

    def read():
        while not done.is_set():
            reads[0] += 1
            try:
                data = place.out().read_bytes()
            except OSError as error:
                torn.append(error)
            else:
                if data not in whole:
                    torn.append(len(data))

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(300):
        io_stage.replace(io_stage.stage(wanted[turn % 2], "m"), wanted[turn % 2])
    done.set()
    thread.join()

    assert torn == []
    assert reads[0] > 100
