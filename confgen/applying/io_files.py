"""The folder of nginx's files: generations beside each other, and two links that say which is which.

    FOLDER/generations/<hash>/...   whole configurations, never changed once they stand there
    FOLDER/current -> generations/<hash>   what nginx reads; swapped by rename, so never absent and never half
    FOLDER/good    -> generations/<hash>   the last one that was proved
    FOLDER/run (pid, socket)   FOLDER/inner (sockets)   FOLDER/logs   FOLDER/temp   FOLDER/lock

A generation is written aside, synced to disk and renamed into place; files that did not change are hard links to the
generation before. Whatever a killed process left aside is removed at the next start. Blocking; call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from confgen.applying.history import PIN, decode_pin
from confgen.nginx.render import Tree
from confgen.nginx.tls import is_secret

_NAME = re.compile(r"[0-9a-f]{32}\Z")
_PART = re.compile(r"[A-Za-z0-9._@+~-]+\Z")
_ASIDE = re.compile(r"\.(?:staging|old|link|note)-")
Stamp: TypeAlias = tuple[int, int, int]  # inode, size, time of change in ns

MAX_NOTE = 16 * 1024 * 1024  # octets that are read of a file beside the generations
# In `run` is what only root and we ask; in `inner` what nginx's workers ask each other, made theirs by `io_front`.
FOLDERS = {"generations": 0o755, "run": 0o700, "inner": 0o700, "logs": 0o755, "temp": 0o755}
SYNC_ALL_FROM = 64  # this many new files are synced with their whole file system: cheaper than one by one


class FolderTaken(Exception):
    """Another config generator works in this folder."""


class UnsafePath(Exception):
    """A path that leaves its folder, or goes through a link."""


class Folder:
    """nginx's folder.

    Args:
        path: absolute; made if absent.
        keep: how many former generations stay.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._generations = path / "generations"
        self._keep = keep
        self._lock = -1
        self._last: Tree | None = None
        self._stamps: dict[str, Stamp] = {}  # of its files, as we wrote them
        self._proved: tuple[Tree | None, dict[str, Stamp]] = (None, {})  # the last one that was accepted, likewise

    def open(self) -> None:
        """Make the folder, take it for ourselves, and remove what a killed process left.

        Raises:
            FolderTaken: another process has it.
            UnsafePath: a part of it is a link.
            OSError: it cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for name, mode in FOLDERS.items():
            folder = self.path / name
            if folder.is_symlink():
                raise UnsafePath(f"{folder} is a link; it must be a folder of its own")
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        self._take()
        for folder in (self.path, self._generations):
            for left in folder.iterdir():
                if _ASIDE.match(left.name):
                    _remove(left)

    def _take(self) -> None:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise FolderTaken(
                f"another config generator uses {self.path}; give this one its own --nginx-dir"
            ) from error
        self._lock = lock

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def current(self) -> str:
        """The generation that nginx reads; empty for none."""
        return pointed_at(self.path, "current")

    def good_snippet(self, name: str) -> bytes | None:
        """A snippet as it stands in the last configuration that was proved; None when it does not."""
        if not name.startswith("snippets/"):
            return None
        try:
            return (self._generations / (self.good or "none") / name).read_bytes()
        except OSError:
            return None

    @property
    def good(self) -> str:
        """The last generation that was proved; empty for none."""
        return pointed_at(self.path, "good")

    def count(self) -> int:
        """How many files the configuration has that nginx reads."""
        return sum(len(files) for _, _, files in os.walk(self._generations / (self.current or "none")))

    def config(self, generation: str) -> Path:
        """The main file of a generation."""
        return self._generations / generation / "nginx.conf"

    def holds(self, tree: Tree) -> bool:
        """True when the tree stands on disk, byte for byte: nobody edited it, no crash cut it."""
        folder = self._generations / tree.generation
        try:
            return all((folder / name).read_bytes() == text for name, text in tree.files.items())
        except OSError:
            return False

    def accepted(self, tree: Tree) -> bool:
        """True when this process accepted the tree last, it still is the last good one, and nobody doubts its files."""
        last, _ = self._proved
        return last is not None and last.generation == tree.generation == self.good

    @property
    def proved_files(self) -> Mapping[str, bytes]:
        """The files of the configuration that this process accepted last; empty before the first."""
        tree, _ = self._proved
        return tree.files if tree is not None else {}

    def differing(self, tree: Tree) -> frozenset[str]:
        """Files of a tree that are new, or other than in the last generation that was proved."""
        known, _ = self._proved
        if known is not None and known.generation == self.good:
            return frozenset(name for name, text in tree.files.items() if known.files.get(name) != text)
        good = self._generations / (self.good or "none")
        found = set()
        for name, text in tree.files.items():
            try:
                same = (good / name).read_bytes() == text
            except OSError:
                same = False
            if not same:
                found.add(name)
        return frozenset(found)

    def intact(self) -> bool:
        """True while what was proved last stands as we wrote it and is what nginx reads; no file is opened for that."""
        tree, stamps = self._proved
        if tree is None:
            return True
        try:
            return self.current == tree.generation and self._stamps_of(tree) == stamps
        except OSError:
            return False

    def doubt(self) -> None:
        """Forget that what was accepted last stands as we wrote it: it is read before it counts again."""
        self._proved = None, {}

    def stage(self, tree: Tree) -> None:
        """Write a whole generation; it stands under its name when this returns, and nowhere when it raises.

        Raises:
            UnsafePath: a file's path leaves the generation.
            OSError: disk full, no rights.
        """
        if self.holds(tree):
            self._last, self._stamps = tree, self._stamps_of(tree)
            return
        aside = self._aside(tree)
        self._generations.mkdir(exist_ok=True)
        _remove(aside)
        try:
            aside.mkdir()
            stamps = self._write(str(aside), tree)
            self._place(aside, tree.generation)
        finally:
            _remove(aside)
        self._last, self._stamps = tree, stamps

    def set_aside(self, tree: Tree) -> Path:
        """Write a configuration that is only looked at; returns its main file. `clear_aside` removes it.

        Raises:
            UnsafePath: a file's path leaves it.
            OSError: disk full, no rights.
        """
        self.clear_aside(tree)
        aside = self._aside(tree)
        aside.mkdir()
        self._write(str(aside), tree, lasting=False)
        return aside / "nginx.conf"

    def clear_aside(self, tree: Tree) -> None:
        """Remove what `set_aside` wrote, all or a part of it."""
        _remove(self._aside(tree))

    def _aside(self, tree: Tree) -> Path:
        return self._generations / f".staging-{tree.generation}"

    def _stamps_of(self, tree: Tree) -> dict[str, Stamp]:
        return {name: _stamp(f"{self._generations}/{tree.generation}/{name}") for name in tree.files}

    def _write(self, aside: str, tree: Tree, *, lasting: bool = True) -> dict[str, Stamp]:
        """Write or link every file, to the disk if it is to be `lasting`; returns how each looks."""
        stamps, written = {}, []
        folders = sorted({os.path.dirname(_inside(name)) for name in tree.files})  # noqa: PTH120  thousands of them
        for folder in folders:
            os.makedirs(f"{aside}/{folder}", exist_ok=True)  # noqa: PTH103
        for name, text in tree.files.items():
            stamp = self._link(aside, name, text)
            if stamp is None:
                stamp = _write_new(f"{aside}/{name}", text, 0o600 if is_secret(name) else 0o644)
                written.append(f"{aside}/{name}")
            stamps[name] = stamp
        if lasting and len(written) >= SYNC_ALL_FROM:
            os.sync()
        elif lasting:
            for path in [*written, *(f"{aside}/{folder}" for folder in folders)]:
                _sync(path)
        return stamps

    def _link(self, aside: str, name: str, text: bytes) -> Stamp | None:
        """Link a file to the generation before, if it is the same there; how it looks, or None."""
        last = self._last
        if last is None or last.files.get(name) != text:
            return None
        before = f"{self._generations}/{last.generation}/{name}"
        try:
            stamp = _stamp(before)
            if stamp != self._stamps.get(name):  # edited by hand: the next generation must not inherit that
                return None
            os.link(before, f"{aside}/{name}", follow_symlinks=False)
        except OSError:  # pruned, or the file system has no such links
            return None
        return stamp

    def _place(self, aside: Path, generation: str) -> None:
        place = self._generations / generation
        if place.exists():
            old = self._generations / f".old-{generation}"
            _remove(old)
            place.rename(old)
            aside.rename(place)
            _remove(old)
        else:
            aside.rename(place)
        _sync(self._generations)

    def swap(self, generation: str) -> None:
        """Point `current` at a generation."""
        self._point("current", generation)

    def accept(self, generation: str) -> None:
        """Point `good` at a generation, and remove those that are too old."""
        self._point("good", generation)
        if self._last is not None and self._last.generation == generation:
            self._proved = self._last, self._stamps
        self.prune()

    def _point(self, link: str, generation: str) -> None:
        if not _NAME.match(generation) or not (self._generations / generation).is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such generation", generation)
        if (self.path / link).is_dir() and not (self.path / link).is_symlink():
            raise UnsafePath(f"{self.path / link} is a folder; it must be our link")
        aside = self.path / f".link-{link}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(f"generations/{generation}")
        os.utime(self._generations / generation)  # when it was last used
        aside.replace(self.path / link)
        _sync(self.path)

    def _pinned(self) -> str:
        try:
            pin = decode_pin(read_small(self.path / PIN))
        except OSError:
            return ""
        return pin.generation if pin else ""

    def discard(self, generation: str) -> None:
        """Remove a generation, unless a link points at it, or an operator holds it."""
        if generation in {self.current, self.good, self._pinned()}:
            return
        _remove(self._generations / generation)
        if self._last is not None and self._last.generation == generation:
            self._last, self._stamps = self._proved  # the next one has to link to files that stand

    def prune(self) -> None:
        """Remove generations beyond those that are kept, oldest use first; what a link or a pin points at stays."""
        found = [one for one in self._generations.iterdir() if _NAME.match(one.name)]
        found.sort(key=lambda one: one.stat().st_mtime_ns, reverse=True)
        pointed = {self.current, self.good, self._pinned()}
        for old in [one for one in found if one.name not in pointed][self._keep :]:
            _remove(old)


def is_generation(name: str) -> bool:
    """True for what a generation may be called."""
    return _NAME.match(name) is not None


def pointed_at(path: Path, link: str) -> str:
    """The generation that a link in nginx's folder names; empty for none, also when it points elsewhere."""
    try:
        name = (path / link).readlink().name
    except OSError:
        return ""
    return name if _NAME.match(name) and (path / "generations" / name).is_dir() else ""


def read_small(path: Path, most: int = MAX_NOTE) -> bytes:
    """A file that is no link, `most` octets of it at most.

    Raises:
        OSError: there is none, or it may not be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(most)


def write_whole(place: Path, text: bytes) -> None:
    """Write a small file whole, or not at all.

    Raises:
        OSError: disk full, no rights.
    """
    aside = place.parent / f".note-{place.name}"
    aside.unlink(missing_ok=True)
    try:
        _write_new(str(aside), text, 0o644)
        _sync(aside)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def _inside(name: str) -> str:
    parts = name.split("/")
    if not all(_PART.match(part) and part not in {".", ".."} for part in parts):
        raise UnsafePath(f"{name!r} is no path inside a configuration")
    return name


def _stamp(path: str) -> Stamp:
    return _look(os.lstat(path))


def _look(facts: os.stat_result) -> Stamp:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _write_new(path: str, text: bytes, mode: int) -> Stamp:
    """Write a file that is not there yet; returns how it looks."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        while text := text[os.write(handle, text) :]:  # a signal, or a disk that becomes full, may cut it short
            pass
        return _look(os.fstat(handle))
    finally:
        os.close(handle)


def _sync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
