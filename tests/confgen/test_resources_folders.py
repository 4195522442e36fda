"""The folders that template resources live in, taken away, full, or laid out in an odd way."""

from __future__ import annotations

import contextlib
import shutil

import pytest

from confgen.resources import io_ledger
from confgen.resources.io_ledger import CannotRemember, Ledger
from pilotfish.catalog.failure import CannotStart
from tests.confgen.kit import until
from tests.confgen.resources_kit import Place, mounts, needs_root

__all__ = ["mounts"]

ALL = '{{range gets "/x/*"}}{{base .Key}}={{.Value}};{{end}}'


@pytest.fixture
async def place(tmp_path):
    found = Place(tmp_path)
    yield found
    await found.store.close()


def reload(place, word="reload"):
    return f"echo {word} >> {place.log}"


def each(place):
    return {"dest": f"{place.path}/out/{{{{.name}}}}.conf", "for_each": "/x/*"}


# --- the confdir


@pytest.mark.parametrize("away", ["c", "c/conf.d"])
async def test_a_confdir_that_is_away_for_a_moment_ends_nothing(place, away):
    """What was read last goes on, that is said, and the folder is taken again when it is back."""
    place.resource("a", ALL)
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: place.text() == "one=1;")
        (place.path / away).rename(place.path / "aside")
        await until(lambda: "there is no" in place.missing().get("confdir", ""))
        await place.put(one="2")
        await until(lambda: place.text() == "one=2;")
        service.reload()
        (place.path / "aside").rename(place.path / away)
        await until(lambda: place.missing() == {})
        place.template("a", "other")
        await until(lambda: place.text() == "other")


async def test_a_confdir_that_comes_later(place):
    """So does confd when it polls."""
    place.resource("a", "x")
    (place.path / "c").rename(place.path / "aside")
    async with place.running():
        await until(lambda: "there is no such folder" in place.missing().get("confdir", ""))
        (place.path / "aside").rename(place.path / "c")
        await until(lambda: place.text() == "x" and place.missing() == {})


async def test_once_without_a_confdir_warns_and_is_content(place, caplog):
    """As in confd 0.16; one without conf.d is an error there, and here."""
    await place.service(confdir=str(place.path / "nope")).once()

    assert f"--confdir {place.path}/nope: there is no such folder" in caplog.text
    (place.path / "nope").mkdir()
    with pytest.raises(CannotStart, match=r"there is no folder conf\.d in it"):
        await place.service(confdir=str(place.path / "nope")).once()


async def test_a_confdir_without_conf_d_is_refused_at_the_start(place):
    (place.path / "c/conf.d").rmdir()
    with pytest.raises(ExceptionGroup) as caught:
        await place.service().run()

    assert "there is no folder conf.d in it" in str(caught.value.exceptions)


# --- the state folder


@pytest.mark.parametrize("kind", ["one file", "one for each"])
async def test_a_state_folder_that_is_removed_is_made_again(place, kind):
    """Also while a reload runs that has to be crossed out in it; and nobody else gets in meanwhile."""
    more = each(place) if kind == "one for each" else {}
    place.resource("a", ALL, reload_cmd=f"sleep 0.3; {reload(place)}", **more)
    name = "one.conf" if more else "a"
    await place.put(one="1")
    async with place.running() as service:
        await until(lambda: place.text(name) == "one=1;")
        shutil.rmtree(place.path / "state")
        await until(lambda: place.lines() == ["reload"])
        await place.put(one="2")
        await until(lambda: place.text(name) == "one=2;" and place.lines() == ["reload"] * 2)
        await until(lambda: place.due() == [] and place.missing() == {})
        with pytest.raises(CannotStart, match="another process works on these resources"):
            await place.service().once()
        assert service.state()["resources"][0]["failures"] == 0


def fill(path):
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@needs_root
@pytest.mark.parametrize("kind", ["one file", "one for each"])
async def test_fault_C6_a_full_state_folder(place, kind, mounts):
    """A file waits until its reload can be written down; what is crossed out meanwhile is written later."""
    more = each(place) if kind == "one for each" else {}
    name = "one.conf" if more else "a"
    place.resource("a", ALL, reload_cmd=f"sleep 0.3; {reload(place)}", **more)
    await place.put(one="1")
    (place.path / "state").mkdir()
    mounts("-t", "tmpfs", "-o", "size=64k", "tmpfs", place.path / "state")
    filler = place.path / "state/filler"
    async with place.running():
        await until(lambda: place.text(name) == "one=1;")
        fill(filler)
        await until(lambda: place.lines() == ["reload"])
        await until(lambda: place.missing() == {"ledger": f"--state-dir {place.path}/state: No space left on device"})
        await place.put(one="2")
        await until(lambda: "--state-dir" in place.missing().get("resource a.toml", ""))
        assert place.text(name) == "one=1;"
        filler.unlink()
        await until(lambda: place.text(name) == "one=2;" and place.lines() == ["reload"] * 2)
        await until(lambda: place.missing() == {} and place.due() == [])


def test_a_ledger_that_was_not_written_enters_nothing(tmp_path, monkeypatch):
    """Else a reload would be due for a file that never changed."""
    ledger = Ledger(tmp_path / "state", tmp_path)
    ledger.open()
    monkeypatch.setattr(io_ledger.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(CannotRemember, match="full"):
        ledger.enter("reload")
    with pytest.raises(CannotRemember, match="full"):
        ledger.make("a.toml", {"/a": "/x/a"})

    assert (ledger.due("reload"), ledger.made("a.toml"), ledger.behind) == (False, {}, "")
    ledger.close()
