"""One template, many files: files that come and go with their keys, and the reloads of those that went."""

from __future__ import annotations

import pytest

from confgen.resources import io_ledger, io_reloads
from confgen.resources.io_ledger import Ledger
from pilotfish.catalog.failure import CannotStart
from tests.confgen.kit import until


def each(place, text="{{.name}}={{getv .key}}", name="a", **more):
    """A resource that makes out/NAME.conf for every key /x/NAME."""
    place.resource(name, text, **{"dest": f"{place.path}/out/{{{{.name}}}}.conf", "for_each": "/x/*", **more})


def files(place):
    return sorted(path.name for path in (place.path / "out").iterdir())


async def test_a_bad_name_is_left_out_and_holds_up_nobody(place, caplog):
    """It is told once; files of keys that are gone are removed all the same, and -onetime is content."""
    each(place)
    await place.put(a="1", b="2", **{"b;d": "3"})
    async with place.running() as service:
        await until(lambda: files(place) == ["a.conf", "b.conf"])
        await place.delete("b")
        await until(lambda: files(place) == ["a.conf"] and place.missing() == {})
        await place.put(a="2")
        await until(lambda: place.text("a.conf") == "a=2")
        said = "'/x/b;d' is left out: it cannot name a file"
        assert service.state()["resources"][0]["notices"] == [said]
        assert caplog.text.count(said) == 1
    await place.service().once()


async def test_an_item_that_fails_keeps_its_file_and_holds_up_nobody(place):
    """Its template fails, or its check: other files are written, and those that stand for nothing are removed."""
    each(place, "{{.name}}={{add 1 (atoi (getv .key))}}", check_cmd="! grep -q 667 {{.src}}")
    await place.put(a="1", b="2", c="3", d="4")
    async with place.running():
        await until(lambda: files(place) == ["a.conf", "b.conf", "c.conf", "d.conf"])
        await place.put(a="no number", b="666", d="5")
        await place.delete("c")
        await until(lambda: files(place) == ["a.conf", "b.conf", "d.conf"] and place.text("d.conf") == "d=6")
        assert (place.text("a.conf"), place.text("b.conf")) == ("a=2", "b=3")
        await until(lambda: "no number" in place.missing().get("resource a.toml", ""))


async def test_a_file_that_cannot_be_removed_is_tried_again(place):
    """Also by the next process: it is still known as ours."""
    each(place)
    await place.put(a="1", b="2")
    await place.service().once()
    place.out("b.conf").unlink()
    (place.out("b.conf") / "in the way").mkdir(parents=True)
    await place.delete("b")
    for _ in range(2):
        with pytest.raises(CannotStart, match=r"out/b\.conf: Is a directory"):
            await place.service().once()
    (place.out("b.conf") / "in the way").rmdir()
    place.out("b.conf").rmdir()
    place.out("b.conf").touch()
    await place.service().once()

    assert files(place) == ["a.conf"]


async def test_two_keys_for_one_file(place):
    """The first one is written, the other is told of; the file does not go to and fro."""
    each(place, for_each="/x/*/*", reload_cmd=f"echo reload >> {place.log}")
    await place.put(**{"a/web": "1", "b/web": "2"})
    for _ in range(2):
        with pytest.raises(CannotStart, match="/x/b/web and /x/a/web would both be written into it"):
            await place.service().once()

    assert (place.text("web.conf"), place.lines()) == ("web=1", ["reload"])


async def test_a_resource_for_each_that_becomes_one_for_one(place):
    """What it made before is removed, but not the file that it makes now."""
    each(place)
    await place.put(a="1", b="2")
    await place.service().once()
    place.resource("a", "one", dest=str(place.out("a.conf")))
    await place.service().once()
    await place.service().once()

    assert (files(place), place.text("a.conf")) == (["a.conf"], "one")


# --- reloads of files that went


async def test_the_reload_of_a_file_that_is_gone_is_given_up(place):
    """It asks for the file, so it can never succeed; nothing is due, tried or told afterwards, nor after a restart."""
    each(place, reload_cmd=f"test -e {{{{.dest}}}} && echo {{{{.name}}}} >> {place.log}")
    await place.put(a="1", b="2")
    async with place.running() as service:
        await until(lambda: sorted(place.lines()) == ["a", "b"])
        await place.delete("b")
        await until(lambda: any(name.startswith("reload test -e") for name in place.missing()), "it is told")
        await until(lambda: place.missing() == {} and place.due() == [])
        assert service.state()["failing_reloads"] == {}
        await place.put(a="2", b="3")
        await until(lambda: sorted(place.lines()) == ["a", "a", "b", "b"], "a file that comes back is reloaded")
    async with place.running():
        await until(lambda: place.missing() == {} and place.due() == [])


async def test_reloads_of_files_that_come_and_go_leave_nothing_behind(place):
    each(place, reload_cmd=f"echo {{{{.name}}}} >> {place.log}")
    async with place.running(wait_s=0.0) as service:
        for number in range(20):
            await place.put(**{f"n{number}": "1"})
            await until(lambda number=number: f"n{number}" in place.lines())
            await place.delete(f"n{number}")
            await until(lambda number=number: place.lines().count(f"n{number}") == 2)
        await place.put(last="1")
        await until(lambda: "last" in place.lines() and place.due() == [])
        await until(lambda: [name for name in service._reloads.known if "echo n" in name] == [])


async def test_a_failing_reload_of_a_file_that_is_there_is_not_given_up(place, monkeypatch):
    monkeypatch.setattr(io_reloads, "LAST_RETRY_S", 0.5)
    each(place, reload_cmd=f"echo {{{{.name}}}} >> {place.log}; test -e {place.path}/up")
    await place.put(a="1")
    async with place.running():
        await until(lambda: len(place.lines()) > io_reloads.LAST_TRIES + 1)
        (place.path / "up").touch()
        await until(lambda: place.missing() == {} and place.due() == [])


def test_a_ledger_is_bounded(tmp_path):
    """In commands that nobody knows any more, the oldest going first, and in entries of one that fails for ever."""
    ledger = Ledger(tmp_path / "state", tmp_path)
    ledger.open()
    for number in range(io_ledger.MOST_STRAYS + 5):
        ledger.placed(ledger.enter(f"c{number}"))
    ledger.prune(["c0"])
    for _ in range(io_ledger.MOST_ENTRIES * 2):
        ledger.placed(ledger.enter("c0"))
    newest = ledger.enter("c0")
    ledger.placed(newest)

    assert [number for number in range(io_ledger.MOST_STRAYS + 5) if not ledger.due(f"c{number}")] == [1, 2, 3, 4]
    assert (len(ledger.begun("c0")), max(ledger.begun("c0"))) == (io_ledger.MOST_ENTRIES, newest)
    ledger.close()


# --- others who write there


async def test_two_resources_for_each_with_one_name(place):
    """The first one has the file, the other is told of; it takes over when the first one lets go, and none is lost."""
    each(place, "A {{.name}}", "a", reload_cmd=f"echo reload >> {place.log}")
    each(place, "B {{.name}}", "b", for_each="/x/more/*")
    (place.path / "link").symlink_to(place.path / "out")
    each(place, "C {{.name}}", "c", for_each="/x/more/*", dest=f"{place.path}/link/{{{{.name}}}}.conf")
    await place.put(web="1")
    async with place.running():
        await until(lambda: place.text("web.conf") == "A web" and place.lines() == ["reload"])
        await place.put(**{"more/web": "1"})
        told = f"{place.path}/out/web.conf is written by a.toml already"
        await until(lambda: told in place.missing().get("resource b.toml", ""))
        await until(lambda: "web.conf is written by a.toml already" in place.missing().get("resource c.toml", ""))
        assert place.text("web.conf") == "A web"
        (place.path / "c/conf.d/c.toml").unlink()
        await until(lambda: "resource c.toml" not in place.missing())
        await place.delete("web")
        await until(lambda: place.text("web.conf") == "B web")
        await until(lambda: place.missing() == {} and place.due() == [])
        (place.path / "c/conf.d/b.toml").unlink()
        await until(lambda: place.missing() == {})
        await place.put(web="2")
        await until(lambda: place.text("web.conf") == "A web")
