"""The folders that template resources live in, taken away, full, or laid out in an odd way."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from confgen.resources import io_ledger
from confgen.resources.io_ledger import CannotRemember, Ledger
from pilotfish.catalog.failure import CannotStart
from tests.confgen.kit import until
from tests.confgen.resources_kit import ALL, mounts, needs_root, reload

__all__ = ["mounts"]


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


# --- odd layouts


def config_map(folder, version):
    """Lay a folder out as Kubernetes mounts a ConfigMap: files in a dated folder, a link to it, a link to each."""
    real = folder / f"..{version}"
    real.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(real / path.name)
        path.symlink_to(f"..data/{path.name}")
    (folder / "..data").symlink_to(real.name)


async def test_a_mounted_config_map(place):
    """Each resource is met twice, and is one; a new version of it is taken when the link is turned."""
    place.resource("a", ALL)
    config_map(place.path / "c/conf.d", "one")
    config_map(place.path / "c/templates", "one")
    await place.put(one="1")
    await place.service().once()
    assert place.text() == "one=1;"
    async with place.running() as service:
        await until(lambda: [one["resource"] for one in service.state()["resources"]] == ["a.toml"])
        for folder in (place.path / "c/conf.d", place.path / "c/templates"):
            shutil.copytree(folder / "..one", folder / "..two")
        (place.path / "c/templates/..two/a.tmpl").write_text("two")
        for folder in (place.path / "c/conf.d", place.path / "c/templates"):
            (folder / "..next").symlink_to("..two")
            (folder / "..next").replace(folder / "..data")
            shutil.rmtree(folder / "..one")
        await until(lambda: place.text() == "two" and place.missing() == {})
        assert [one["resource"] for one in service.state()["resources"]] == ["a.toml"]


async def test_linked_folders_of_conf_d_are_not_read(place):
    """As in confd; nor does a circle of links keep us busy. conf.d may be a link itself."""
    place.resource("a", "x")
    place.resource("b", "b")
    (place.path / "other").mkdir()
    (place.path / "c/conf.d/b.toml").rename(place.path / "other/b.toml")
    for folder in ("conf.d", "templates"):
        for name in ("one", "two", "three"):
            (place.path / "c" / folder / name).symlink_to("..")
    (place.path / "c/conf.d/more").symlink_to(place.path / "other")
    (place.path / "c/conf.d").rename(place.path / "aside")
    (place.path / "c/conf.d").symlink_to(place.path / "aside")
    async with place.running() as service:
        await until(lambda: place.text() == "x")
        assert [one["resource"] for one in service.state()["resources"]] == ["a.toml"]


async def test_a_template_in_a_linked_folder_is_followed(place):
    """What is below templates may be reached over links, and is read again when it changes."""
    (place.path / "shared").mkdir()
    (place.path / "shared/t.tmpl").write_text("one")
    (place.path / "c/templates/linked").symlink_to(place.path / "shared")
    place.resource("a", src="/linked/t.tmpl")
    async with place.running():
        await until(lambda: place.text() == "one")
        (place.path / "shared/t.tmpl").write_text("other")
        await until(lambda: place.text() == "other")


async def test_a_folder_of_conf_d_that_cannot_be_read_is_red_alone(place, monkeypatch):
    """What was read from it goes on, and all others are followed."""
    place.resource("a", ALL)
    place.resource("b", "b={{getv `/x/one`}}")
    (place.path / "c/conf.d/more").mkdir()
    (place.path / "c/conf.d/b.toml").rename(place.path / "c/conf.d/more/b.toml")
    await place.put(one="1")

    def scandir(path, real=os.scandir):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    async with place.running() as service:
        await until(lambda: place.text("b") == "b=1")
        monkeypatch.setattr(os, "scandir", scandir)
        service.reload()
        await until(lambda: place.missing() == {"resource more": "more: Permission denied"})
        await place.put(one="2")
        await until(lambda: (place.text(), place.text("b")) == ("one=2;", "b=2"))
