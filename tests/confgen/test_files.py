"""Generations on disk: whole or absent, whatever happens, and nothing outside their folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from confgen.io_files import Folder, FolderTaken, UnsafePath
from confgen.render import Tree


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


def test_fault_C6_readers_never_see_a_missing_or_half_file(opened):
    first = tree(1, size=1000)
    opened.stage(first)
    opened.swap(first.generation)
    wrong, reads, done = [], 0, threading.Event()
    whole = {tree(number, size=1000).files["nginx.conf"] for number in (1, 2)}

    def read():
        nonlocal reads
        while not done.is_set():
            text = (opened.path / "current" / "nginx.conf").read_bytes()
            reads += 1
            if text not in whole:
                wrong.append(text[:50])

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        one = tree(1 + turn % 2, size=1000)
        opened.stage(one)
        opened.swap(one.generation)
    done.set()
    reader.join()
    assert wrong == []
    assert reads > 100


PROGRAM = """
import os, resource, sys
from pathlib import Path
from confgen.io_files import Folder
from tests.confgen.test_files import tree

where, how, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
folder = Folder(where, keep=2)
folder.open()
if how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))
    try:
        folder.stage(tree(2, size=1000))
    except OSError as error:
        print("refused:", error.strerror)
    sys.exit(0)

calls = 0
def counted(name):
    original = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), 9)
        return original(*arguments, **options)
    setattr(os, name, call)
for name in ("open", "fsync", "link", "utime", "rename", "replace", "mkdir", "symlink"):
    counted(name)
folder.stage(tree(2)); folder.swap(tree(2).generation); folder.accept(tree(2).generation)
print("calls:", calls)
"""


def run_program(folder, how, count):
    argv = [sys.executable, "-c", PROGRAM, str(folder), how, str(count)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])


def prepared(path):
    folder = Folder(path, keep=2)
    folder.open()
    folder.stage(tree(1))
    folder.swap(tree(1).generation)
    folder.accept(tree(1).generation)
    folder.close()


def test_fault_C7_killed_at_any_step_the_next_start_finds_one_whole_configuration_and_no_litter(tmp_path):
    prepared(tmp_path / "whole")
    done = run_program(tmp_path / "whole", "kill", 0)
    steps = int(done.stdout.split()[1])
    assert steps > 8, done
    for count in range(1, steps + 1):
        path = tmp_path / f"at{count}"
        prepared(path)
        assert run_program(path, "kill", count).returncode == -9  # the fault was met
        folder = Folder(path, keep=2)
        folder.open()
        try:
            assert folder.current in {tree(1).generation, tree(2).generation}
            assert folder.holds(tree(int(folder.current, 16)))
            assert folder.good in {tree(1).generation, tree(2).generation}
            names = [one.name for where in (path, path / "generations") for one in where.iterdir()]
            assert not [name for name in names if name.startswith(".")]
        finally:
            folder.close()


def test_fault_C6_a_full_disk_leaves_what_was_there_and_nothing_half(tmp_path):
    prepared(tmp_path / "nginx")
    done = run_program(tmp_path / "nginx", "full", 2000)
    assert done.stdout.startswith("refused:"), done
    before = Folder(tmp_path / "nginx", keep=2)
    assert before.current == tree(1).generation
    assert [one.name for one in (tmp_path / "nginx" / "generations").iterdir()] == [tree(1).generation]
