"""One template, many files: files that come and go with their keys, and the reloads of those that went."""

from __future__ import annotations

import pytest

from pilotfish.catalog.failure import CannotStart
from tests.confgen.kit import until
from tests.confgen.resources_kit import Place


@pytest.fixture
async def place(tmp_path):
    found = Place(tmp_path)
    yield found
    await found.store.close()


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
