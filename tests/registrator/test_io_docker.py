"""The Docker client beside the contract: what it makes of engines that are wrong, and what it ever sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registrator.engines import io_docker, io_inbox
from registrator.engines.engine import (
    Away,
    BrokenStream,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Event,
    Kind,
    Lines,
    ListAgain,
    read_event,
    read_info,
)
from registrator.engines.io_docker import DockerEngine, DockerSettings
from tests.parts.fake_docker import FakeDocker, container, duplicated
from tests.registrator.harness import WAIT_S, until

ID = "0123456789ab" * 5


@pytest.fixture
async def fake(tmp_path):
    async with FakeDocker(tmp_path / "docker.sock") as engine:
        yield engine


@contextlib.asynccontextmanager
async def client(url, **changes):
    engine = DockerEngine(DockerSettings(url=url, **{"timeout_s": 2.0, "ping_s": 0.5, **changes}))
    try:
        yield engine
    finally:
        await engine.close()


@contextlib.asynccontextmanager
async def listening(engine):
    """The engine's news, as a list that grows."""
    heard = []

    async def listen():
        async with contextlib.aclosing(engine.news()) as news:
            async for one in news:
                heard.append(one)

    task = asyncio.create_task(listen())
    try:
        await until(lambda: heard, "the first news")
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def raw(action, kind="container", actor=ID, **attributes):
    return {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes}, "timeNano": 5_000_000_000}


EVENTS = {
    "docker's start": (raw("start"), Event(Kind.LOOK, ID, 5.0, "start")),
    "docker's die": (raw("die", exitCode="0"), Event(Kind.LOOK, ID, 5.0, "die")),
    "podman's died": (raw("died"), Event(Kind.LOOK, ID, 5.0, "died")),
    "podman's remove": (raw("remove"), Event(Kind.LOOK, ID, 5.0, "remove")),
    "a signal by number": (raw("kill", signal="3"), Event(Kind.KILL, ID, 5.0, "kill", "3")),
    "podman's kill says no signal": (raw("kill"), Event(Kind.KILL, ID, 5.0, "kill", "")),
    "health with its status": (raw("health_status: healthy"), Event(Kind.LOOK, ID, 5.0, "health_status")),
    "a network's": (raw("connect", "network", "n" * 64, container=ID), Event(Kind.LOOK, ID, 5.0, "connect")),
    "a network's, podman's": (
        raw("connect", "network", podId="", containerExitCode="0", name="web-1"),
        Event(Kind.LOOK, ID, 5.0, "connect"),
    ),
    "without nanoseconds": ({**raw("start"), "timeNano": None, "time": 7}, Event(Kind.LOOK, ID, 7.0, "start")),
    "of no time": ({**raw("start"), "timeNano": "x"}, Event(Kind.LOOK, ID, 0.0, "start")),
    "a health check's own exec": (raw("exec_start: /bin/check"), None),
    "an image's": (raw("start", "image"), None),
    "a network's creation": (raw("create", "network"), None),
    "a network's of no container": (raw("connect", "network", name="backend", type="bridge"), None),
    "of no id": (raw("start", actor="../../etc/passwd"), None),
    "of a null id": ({"Type": "container", "Action": "start", "Actor": {"ID": None}}, None),
    "of a null actor": ({"Type": "container", "Action": "start", "Actor": None}, None),
    "before API 1.22": ({"status": "start", "id": ID, "time": 5}, None),
    "empty": ({}, None),
}


@pytest.mark.parametrize(("line", "event"), EVENTS.values(), ids=EVENTS)
def test_events_are_read(line, event):
    """Type, Action and Actor tell; what does not matter or makes no sense is nothing."""
    assert read_event(line) == event


def test_podman_is_the_same_engine_whatever_it_calls_itself():
    """Its ID is another one in every answer: taken for the engine's, the node would be taken anew with every list."""
    about = {"Name": "h1", "ServerVersion": "4.3.1", "BuildahVersion": "1.28.2", "DockerRootDir": "/var/lib/containers"}
    one, other = (read_info({**about, "ID": made_up}, "1.41") for made_up in ("27ab7a22", "42b814f6"))
    assert one == other
    assert one.id == "podman h1 /var/lib/containers"
    assert read_info({"ID": "ABCD", "Name": "h1"}, "1.41").id == "ABCD"


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["Type", "Action", "Actor", "ID", "Attributes", "time", "timeNano"]), inner
            )
        ),
    ).filter(lambda value: isinstance(value, dict))
)
def test_any_json_object_is_an_event_or_nothing(line):
    """The engine may say what it likes."""
    assert read_event(line) is None or isinstance(read_event(line), Event)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), max_size=5), st.data())
def test_lines_do_not_depend_on_how_they_were_cut(objects, data):
    """Whole, octet by octet, or several at once."""
    text = b"".join(json.dumps(one).encode() + b"\n" for one in objects)
    lines, found, at = Lines(), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text) - at))
        found += lines.feed(text[at : at + size])
        at += size
    assert found == objects


BROKEN = {
    "half a line and another": b'{"a":\n{"b":1}\n',
    "no JSON": b"<html>\n",
    "no object": b"[1]\n",
    "no UTF-8": b'{"a":"\xff"}\n',
    "endless": b"x" * 2_000_000,
}


@pytest.mark.parametrize("octets", BROKEN.values(), ids=BROKEN)
def test_broken_lines_are_an_error(octets):
    """After it nothing can be told apart: better to connect anew than to wait for sense."""
    with pytest.raises(BrokenStream):
        Lines().feed(octets)


REACHING = {
    "no socket": (
        "unix:///nowhere/docker.sock",
        "there is no such socket: is Docker running, or is it elsewhere (--docker",
    ),
    "no socket but a file": ("unix:///etc/hostname", "nobody listens there: is Docker running?"),
    "nobody at the port": ("tcp://127.0.0.1:1", "nobody listens there: is Docker running?"),
    "nobody at the port, TLS": ("https://127.0.0.1:1", "nobody listens there: is Docker running?"),
}


@pytest.mark.parametrize(("url", "words"), REACHING.values(), ids=REACHING)
async def test_an_engine_that_cannot_be_reached_is_named(url, words):
    """The error says where, why, and what to do."""
    async with client(url) as engine:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.info()
    assert url in str(caught.value)
    assert words in str(caught.value)


OLD = {"an old engine": "1.40", "no version": "", "nonsense": "new"}


@pytest.mark.parametrize("version", OLD.values(), ids=OLD)
async def test_an_engine_that_is_too_old_is_refused(fake, version):
    """1.41 is the least; the error says which versions have it."""
    fake.disturb("version", body=json.dumps({"ApiVersion": version}).encode())
    async with client(fake.url) as engine:
        with pytest.raises(EngineRefused, match=r"1\.41 is needed: Docker 20\.10 or podman 4"):
            await engine.info()


@pytest.mark.parametrize("version", ["1.41", "1.44", "1.53"])
async def test_the_version_is_negotiated(tmp_path, version):
    """The engine's own is spoken: later ones refuse old clients."""
    async with FakeDocker(tmp_path / "docker.sock", api=version) as fake, client(fake.url) as engine:
        info = await engine.info()
        assert (info.api, info.id) == (version, fake.engine_id)


async def test_everything_happens_by_reading(fake):
    """Six GETs, whatever is done."""
    web = fake.add(container("web-1"))
    async with client(fake.url) as engine, listening(engine) as heard:
        assert await engine.running() == (web,)
        assert await engine.inspect(web)
        await engine.info()
        await until(lambda: fake.requests["ping"] > 2, "it pings")
        # Events of the second in which it began are told too, by this engine as by Docker's.
        assert [one for one in heard if not isinstance(one, Event)] == [ListAgain("listening")]
    assert fake.violations == []
    assert set(fake.requests) == {"version", "info", "ping", "list", "inspect", "events"}


async def test_a_stream_that_is_cut_is_begun_again(fake):
    """In the middle of a line or at its end: Away, ListAgain, and what happened meanwhile is told again."""
    async with client(fake.url) as engine, listening(engine) as heard:
        first = fake.add(container("web-1"))
        await until(lambda: any(isinstance(one, Event) and one.container == first for one in heard), "the first start")
        fake.cut_streams()
        second = fake.add(container("web-2"))
        await until(lambda: heard.count(ListAgain("listening")) == 2, "it listens again")
        await until(
            lambda: any(isinstance(one, Event) and one.container == second for one in heard), "the second start"
        )
        assert any(isinstance(one, Away) for one in heard)
    assert fake.bitten["cut"]


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
async def test_what_happened_between_two_streams_is_heard_though_the_engines_clock_was_set(fake, by_s):
    """A signal is told by its event alone; and what was heard before is not heard again."""
    web = fake.add(container("web-1"), quiet=True)
    async with client(fake.url) as engine, listening(engine) as heard:
        await until(lambda: fake.listeners, "it listens")
        fake.kill(web, 1)
        fake.update(web)
        await until(lambda: _actions(heard)[-1:] == ["update"], "the events before")
        await fake.down()
        fake.set_clock(by_s)
        fake.kill(web, 15)
        await fake.up()
        fake.pause(web)
        await until(lambda: "pause" in _actions(heard), "an event after")
    assert _actions(heard) == ["kill", "update", "kill", "pause"]


async def test_what_happens_before_the_first_event_is_heard_is_not_lost(fake):
    """The first stream breaks before it told anything: the next one begins where that one did."""
    web = fake.add(container("web-1"), quiet=True)
    fake.set_clock(-60.0)
    async with client(fake.url) as engine, listening(engine) as heard:
        await until(lambda: fake.listeners, "it listens")
        await fake.down()
        fake.kill(web, 15)
        fake.set_clock(0.0)
        await fake.up()
        fake.pause(web)
        await until(lambda: "pause" in _actions(heard), "an event after")
    assert _actions(heard) == ["kill", "pause"]


def _actions(heard):
    return [one.action for one in heard if isinstance(one, Event) and one.action != "connect"]


async def test_a_broken_line_is_answered_by_listing(fake):
    """A line that is no JSON may hide an event: connect anew and list."""
    broken = fake.disturb("events", body=b'{"Type": "container", "Act\n', times=1)
    async with client(fake.url) as engine, listening(engine) as heard:
        await until(lambda: heard.count(ListAgain("listening")) == 2, "it listens again")
        assert [one.why.partition(":")[0] for one in heard if isinstance(one, Away)] == ["the event stream broke"]
    assert broken.bitten == 1


async def test_what_comes_twice_or_in_pieces_is_heard(fake):
    """Duplicates are passed on, pieces are put together; nothing is lost."""
    fake.tamper, fake.chunk = duplicated, 3
    async with client(fake.url) as engine, listening(engine) as heard:
        ids = {fake.add(container(f"web-{number}")) for number in range(5)}
        await until(lambda: {one.container for one in heard if isinstance(one, Event)} == ids, "all five")


async def test_more_than_the_queue_holds_is_answered_by_listing(fake, monkeypatch):
    """Events that find no room are not forgotten silently."""
    monkeypatch.setattr(io_inbox, "MAX_QUEUE", 3)
    async with client(fake.url) as engine, listening(engine) as heard:
        for number in range(200):
            fake.add(container(f"web-{number}"))
        await until(
            lambda: any(isinstance(one, ListAgain) and one.why.startswith("more events") for one in heard), "a list"
        )


async def test_a_burst_is_answered_by_listing_when_it_is_over(fake):
    """An engine drops events for a reader that does not keep up, silently: more than it holds, and some are lost."""
    async with client(fake.url) as engine, listening(engine) as heard:
        for number in range(1000):
            fake.add(container(f"web-{number}"))
        await until(
            lambda: any(isinstance(one, ListAgain) and one.why.startswith("many events") for one in heard), "a list"
        )
        assert fake.bitten["skipped"]
        assert len({one.container for one in heard if isinstance(one, Event)}) < 1000


async def test_bursts_that_come_again_and_again_are_not_each_answered_by_listing(fake, monkeypatch):
    """As health checks of many containers are, every few seconds."""
    between_s = 2.0
    monkeypatch.setattr(io_docker, "BETWEEN_LISTS_S", between_s)
    one = fake.add(container("web-1"))
    lists = []

    def listed(heard, number):
        if sum(isinstance(one, ListAgain) and one.dropped for one in heard) == number:
            lists.append(time.monotonic())
        return len(lists) == number

    async with client(fake.url) as engine, listening(engine) as heard:
        for number in (1, 2):
            for _ in range(io_docker.BURST):
                fake.deliver(raw("exec_start: true", actor=one))
            await until(lambda number=number: listed(heard, number), f"list {number}")
    assert lists[1] - lists[0] >= between_s - 0.1


async def test_an_engine_that_joins_a_swarm_is_heard_of_it(fake):
    """Events of services and nodes are told to who asked for them when it began to listen, and to nobody else."""
    told = []
    async with client(fake.url) as engine, listening(engine) as heard:
        engine.on_swarm = told.append
        await until(lambda: fake.listeners, "it listens")
        await engine.membership()
        assert heard == [ListAgain("listening")]
        fake.swarm = {"LocalNodeState": "active", "NodeID": "n1", "ControlAvailable": True, "Cluster": {"ID": "c"}}
        await engine.membership()

        def is_told():
            fake.deliver(raw("update", kind="service"))
            return told

        await until(is_told, "a service changed", 10.0)
    assert told[0] == "service"


async def test_the_end_is_heard_with_the_last_events():
    """An engine that stops tells who died and hangs up in one breath: nobody waits for a ping then."""
    inbox = io_inbox.Inbox(asyncio.get_running_loop())
    inbox.put([raw("die")])
    inbox.put([], EngineUnavailable("it ended"))
    async with asyncio.timeout(WAIT_S):
        assert await inbox.wait(3600)
        assert inbox.take() == [raw("die")]
        assert await inbox.wait(3600)
    with pytest.raises(EngineUnavailable, match="it ended"):
        inbox.check()


async def test_a_hanging_engine_is_noticed_by_its_ping(fake):
    """No answer within the ping's time: Away, though the stream looks well."""
    async with client(fake.url) as engine, listening(engine) as heard:
        hang = fake.disturb("ping", hang=True)
        await until(lambda: any(isinstance(one, Away) for one in heard), "it is noticed")
        assert hang.bitten
        hang.end()
        await until(lambda: heard.count(ListAgain("listening")) == 2, "it listens again")


HANGING = {"list": lambda engine: engine.running(), "info": lambda engine: engine.info()}


@pytest.mark.parametrize("endpoint", HANGING)
async def test_every_call_has_an_end(fake, endpoint):
    """A call that hangs fails in time, and the next one is answered."""
    async with client(fake.url, timeout_s=0.5) as engine:
        await engine.ping()
        hang = fake.disturb(endpoint, hang=True, times=1)
        with pytest.raises(EngineUnavailable):
            await HANGING[endpoint](engine)
        assert hang.bitten == 1
        await HANGING[endpoint](engine)


ANSWERS = {
    "an error": {"status": 500},
    "no JSON": {"body": b"<html>"},
    "another shape": {"body": b'{"message": "x"}'},
    "numbers": {"body": b"[1, null, {}]"},
}


@pytest.mark.parametrize("how", ANSWERS.values(), ids=ANSWERS)
async def test_nonsense_is_an_error_or_nothing(fake, how):
    """Whatever a list is answered with, nothing but an EngineError comes out."""
    fake.disturb("list", **how)
    async with client(fake.url) as engine:
        with contextlib.suppress(EngineError):
            assert await engine.running() == ()


async def test_closing_leaves_no_thread(fake):
    """Whatever it was doing, an engine that is closed lets its threads end."""

    def threads():
        return {one.name for one in threading.enumerate() if one.name.startswith("docker")}

    before = threads()
    async with client(fake.url) as engine, listening(engine):
        assert threads() > before
    async with asyncio.timeout(WAIT_S):
        await until(lambda: threads() <= before, "the threads are gone")


async def test_what_is_no_list_of_a_swarm_is_an_error(fake):
    """It is not taken for an empty one: all that is registered of the swarm would go."""
    async with client(fake.url) as engine:
        assert await engine.swarm("tasks") == []
        for body in (b"{}", b"null"):
            fake.disturb("tasks", body=body, times=1)
            with pytest.raises(EngineUnavailable, match="/tasks is no list"):
                await engine.swarm("tasks")
