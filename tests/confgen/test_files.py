"""Generations on disk: whole or absent, whatever happens, and nothing outside their folder."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from confgen.applying.io_files import Folder, FolderTaken, UnsafePath
from confgen.nginx.render import Tree


def tree(number, *names, size=10):
    generation = f"{number:032x}"
    files = {name: f"{generation} {name}".encode() * size for name in names or ("nginx.conf", "services/a.conf")}
    return Tree(files, generation, {})


@pytest.fixture
def opened(tmp_path):
    folder = Folder(tmp_path / "nginx", keep=2)
    folder.open()
    yield folder
    folder.close()


def test_a_staged_tree_stands_whole_under_its_name(opened):
    one = tree(1)
    opened.stage(one)
    assert opened.holds(one)
    assert opened.current == ""
    opened.swap(one.generation)
    assert (opened.path / "current" / "services/a.conf").read_bytes() == one.files["services/a.conf"]
    assert (opened.current, opened.good) == (one.generation, "")
    opened.accept(one.generation)
    assert opened.good == one.generation


def test_unchanged_files_are_the_same_file(opened):
    one = tree(1)
    two = Tree({**one.files, "services/b.conf": b"new"}, f"{2:032x}", {})
    opened.stage(one)
    opened.stage(two)
    paths = [opened.path / "generations" / each.generation / "nginx.conf" for each in (one, two)]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
    assert opened.holds(two)


def test_what_is_only_looked_at_stands_aside_and_goes(opened):
    one = tree(1)
    opened.stage(one)
    opened.swap(one.generation)
    opened.accept(one.generation)
    looked_at = Tree({**one.files, "services/b.conf": b"bad"}, f"{2:032x}", {})
    for _ in range(2):  # what a process that was killed left in its place does not matter
        config = opened.set_aside(looked_at)
    assert (config.parent / "services/b.conf").read_bytes() == b"bad"
    assert config.stat().st_ino == (opened.path / "current" / "nginx.conf").stat().st_ino
    opened.clear_aside(looked_at)
    assert [each.name for each in (opened.path / "generations").iterdir()] == [one.generation]
    assert (opened.current, opened.intact()) == (one.generation, True)


def test_what_differs_from_the_last_good_one(opened):
    one = tree(1)
    opened.stage(one)
    opened.swap(one.generation)
    two = Tree({**one.files, "services/a.conf": b"new", "services/b.conf": b"new"}, f"{2:032x}", {})
    assert opened.differing(two) == {*two.files}
    opened.accept(one.generation)
    another = Folder(opened.path, keep=2)  # a process that proved nothing itself
    for folder in (opened, another):
        assert folder.differing(two) == {"services/a.conf", "services/b.conf"}
    assert (dict(opened.proved_files), dict(another.proved_files)) == (one.files, {})


def test_what_is_doubted_is_not_taken_for_accepted(opened):
    one = tree(1)
    opened.stage(one)
    opened.swap(one.generation)
    opened.accept(one.generation)
    assert opened.accepted(one)
    opened.doubt()
    assert (opened.accepted(one), opened.holds(one)) == (False, True)
    opened.stage(one)
    opened.accept(one.generation)
    assert opened.accepted(one)


def test_after_a_refused_one_unchanged_files_are_linked_to_the_one_that_was_proved(opened):
    one = tree(1)
    refused = Tree({**one.files, "services/b.conf": b"bad"}, f"{2:032x}", {})
    mended = Tree({**one.files, "services/b.conf": b"good"}, f"{3:032x}", {})
    opened.stage(one)
    opened.swap(one.generation)
    opened.accept(one.generation)
    opened.stage(refused)
    opened.discard(refused.generation)
    opened.stage(mended)
    paths = [opened.path / "generations" / each.generation / "nginx.conf" for each in (one, mended)]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
    assert opened.holds(mended)
    assert opened.intact() == (opened.current == one.generation)


def test_a_file_that_was_edited_by_hand_is_not_believed(opened):
    one = tree(1)
    opened.stage(one)
    opened.config(one.generation).write_text("mine")
    assert not opened.holds(one)
    opened.stage(one)
    assert opened.holds(one)


def test_old_generations_go_but_never_what_a_link_points_at(opened):
    for number in range(1, 8):
        one = tree(number)
        opened.stage(one)
        opened.swap(one.generation)
        if number <= 5:
            opened.accept(one.generation)
    left = {int(entry.name, 16) for entry in (opened.path / "generations").iterdir()}
    assert {5, 7} <= left
    opened.prune()
    left = {int(entry.name, 16) for entry in (opened.path / "generations").iterdir()}
    assert {5, 7} <= left
    assert len(left) == 4


HOSTILE = ["../x", "a/../../x", "/etc/x", "a//b", "", ".", "a/.", "a\nb", "a b", "a\0b", "services/../../../x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_path_never_leaves_its_generation(opened, name):
    before = everything(opened.path.parent)
    with pytest.raises(UnsafePath):
        opened.stage(Tree({"nginx.conf": b"x", name: b"x"}, f"{1:032x}", {}))
    assert everything(opened.path.parent) == before


def everything(folder):
    return sorted(str(one) for one in folder.rglob("*"))


def link_to_elsewhere(folder, elsewhere):
    folder.mkdir()
    (folder / "generations").symlink_to(elsewhere)


def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link_to_elsewhere(tmp_path / "nginx", tmp_path / "elsewhere")
    with pytest.raises(UnsafePath, match="is a link"):
        Folder(tmp_path / "nginx", keep=2).open()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_in_the_place_of_our_link_is_refused_and_kept(opened):
    opened.stage(tree(1))
    (opened.path / "current").mkdir()
    (opened.path / "current" / "precious").write_text("x")
    with pytest.raises(UnsafePath, match="must be our link"):
        opened.swap(tree(1).generation)
    assert (opened.path / "current" / "precious").read_text() == "x"


@pytest.mark.parametrize("target", ["/etc", "generations/../../etc", "generations/nobody", "nonsense"])
def test_a_link_that_points_elsewhere_counts_as_none(opened, target):
    (opened.path / "current").symlink_to(target)
    assert opened.current == ""


def test_only_one_process_has_the_folder(opened):
    with pytest.raises(FolderTaken, match="give this one its own --nginx-dir"):
        Folder(opened.path, keep=2).open()


@pytest.mark.parametrize("least", [100, pytest.param(10**6, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_fault_C6_readers_never_see_a_missing_or_half_file(opened, least):
    first = tree(1, size=1000)
    opened.stage(first)
    opened.swap(first.generation)
    wrong, reads, swaps, done = [], 0, 0, threading.Event()
    whole = {tree(number, size=1000).files["nginx.conf"] for number in (1, 2)}

    def read():
        nonlocal reads
        while not done.is_set():
            try:
                text = (opened.path / "current" / "nginx.conf").read_bytes()
            except OSError as error:
                text = str(error).encode()
            reads += 1
            if text not in whole:
                wrong.append(text[:50])

    reader = threading.Thread(target=read)
    reader.start()
    while swaps < 100 or reads <= least:
        swaps += 1
        one = tree(1 + swaps % 2, size=1000)
        opened.stage(one)
        opened.swap(one.generation)
    done.set()
    reader.join()
    print(f"C6: {len(wrong)} of {reads:,} reads torn or absent, over {swaps:,} swaps")
    assert wrong == []


# A process of its own: forking, killing and limits meet neither pytest nor its threads. Prints one JSON line a try.
PROGRAM = """
import json, os, resource, shutil, sys
from pathlib import Path
from confgen.applying.io_files import Folder
from confgen.nginx.render import Tree

where, how = Path(sys.argv[1]), sys.argv[2]

def tree(number, size=10):
    name = f"{number:032x}"
    return Tree({file: f"{name} {file}".encode() * size for file in ("nginx.conf", "services/a.conf")}, name, {})

def install(folder, one):
    folder.stage(one)
    folder.swap(one.generation)
    folder.accept(one.generation)

def prepared(path):
    folder = Folder(path, keep=2)
    folder.open()
    install(folder, tree(1))
    folder.close()

def counting(limit):
    calls = 0
    for name in ("open", "write", "fsync", "link", "utime", "rename", "replace", "mkdir", "symlink"):
        def call(*arguments, original=getattr(os, name), **options):
            nonlocal calls
            calls += 1
            if calls == limit:
                os.kill(os.getpid(), 9)
            return original(*arguments, **options)
        setattr(os, name, call)
    return lambda: calls

def killed_at(path, limit):
    prepared(path)
    child = os.fork()
    if not child:
        folder = Folder(path, keep=2)
        folder.open()
        counting(limit)
        install(folder, tree(2))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    folder = Folder(path, keep=2)
    folder.open()
    names = [one.name for place in (path, path / "generations") for one in place.iterdir()]
    found = {"status": status, "current": folder.current, "good": folder.good, "names": names}
    found["whole"] = folder.holds(tree(int(folder.current, 16)))
    folder.close()
    print(json.dumps(found))
    return status

def full(path):
    prepared(path)
    folder = Folder(path, keep=2)
    folder.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        folder.stage(tree(2, size=1000))
    except OSError as error:
        names = [one.name for one in (path / "generations").iterdir()]
        print(json.dumps({"error": error.strerror, "current": folder.current, "names": names}))

if how == "full":
    full(where)
else:
    limit = 1
    while killed_at(where / str(limit), limit) == -9:
        limit += 1
"""


def tries(folder, how):
    argv = [sys.executable, "-c", PROGRAM, str(folder), how]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=100, cwd=root)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_fault_C7_killed_at_any_step_the_next_start_finds_one_whole_configuration_and_no_litter(tmp_path):
    found = tries(tmp_path, "kill")
    assert len(found) > 10
    assert [one["status"] for one in found] == [-9] * (len(found) - 1) + [0]  # the fault was met at every step
    names = {tree(1).generation, tree(2).generation}
    for one in found:
        assert one["whole"]
        assert {one["current"], one["good"]} <= names
        assert not [name for name in one["names"] if name.startswith(".")]
    assert (found[-1]["current"], found[-1]["good"]) == (tree(2).generation, tree(2).generation)


def test_fault_C6_a_full_disk_leaves_what_was_there_and_nothing_half(tmp_path):
    old = tree(1).generation
    assert tries(tmp_path / "nginx", "full") == [{"error": "File too large", "current": old, "names": [old]}]
