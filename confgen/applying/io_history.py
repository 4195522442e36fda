"""The generations in nginx's folder, with what is remembered of them, and the pin that holds one. Blocking.

Reading needs no lock and changes nothing: it works beside a running config generator, and without one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from confgen.applying.history import FOLDER, PIN, Note, Pin, decode_note, decode_pin, encode
from confgen.applying.io_files import is_generation, pointed_at, read_small, write_whole
from confgen.nginx.shapes import service_file

MAX_FILE = 64 * 1024 * 1024  # octets that are read of one file of a generation


class History:
    """What was applied in one folder.

    Args:
        path: nginx's folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes = path / FOLDER

    @property
    def current(self) -> str:
        """The generation that nginx reads; empty for none."""
        return pointed_at(self.path, "current")

    @property
    def good(self) -> str:
        """The last generation that was proved; empty for none."""
        return pointed_at(self.path, "good")

    def generations(self) -> list[str]:
        """All that stand on disk, the last applied first.

        Raises:
            OSError: there is no such folder, or it may not be read.
        """
        found: dict[str, float] = {}
        for one in filter(lambda one: is_generation(one.name), (self.path / "generations").iterdir()):
            known = self.note(one.name)
            with contextlib.suppress(FileNotFoundError):  # removed since the folder was listed
                found[one.name] = known.at if known else one.stat().st_mtime
        return sorted(found, key=found.__getitem__, reverse=True)

    def has(self, generation: str) -> bool:
        """Whether a generation stands on disk."""
        return (self.path / "generations" / generation).is_dir()

    def files(self, generation: str) -> dict[str, bytes]:
        """All files of a generation: relative path -> text.

        Raises:
            OSError: it is gone, or may not be read.
        """
        root = self.path / "generations" / generation
        found = {}
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    found[path.relative_to(root).as_posix()] = read_small(path, MAX_FILE)
        if not found:
            raise FileNotFoundError(2, "no such generation", str(root))
        return dict(sorted(found.items()))

    def served(self) -> frozenset[str]:
        """The files of services in the generation that was proved last, without those that it served as 503."""
        good = self.good
        known = self.note(good)
        out = known.quarantined if known else ()
        try:
            names = os.listdir(self.path / "generations" / good / "services") if good else []  # noqa: PTH208
        except OSError:
            names = []
        return frozenset(f"services/{name}" for name in names) - {service_file(name).text for name in out}

    def note(self, generation: str) -> Note | None:
        """What is remembered of a generation; None when nothing is."""
        try:
            return decode_note(read_small(self._notes / f"{generation}.json"))
        except OSError:
            return None

    def record(self, note: Note) -> None:
        """Remember a generation.

        Raises:
            OSError: disk full, no rights.
        """
        self._notes.mkdir(exist_ok=True)
        write_whole(self._notes / f"{note.generation}.json", encode(note))

    def forget_others(self, generations: Iterable[str]) -> None:
        """Remove the notes of generations that are gone.

        Raises:
            OSError: no rights.
        """
        kept = {f"{one}.json" for one in generations}
        for one in self._notes.iterdir() if self._notes.is_dir() else ():
            if one.name not in kept:
                one.unlink(missing_ok=True)

    def pin(self) -> Pin | None:
        """The generation that is held; None for none."""
        try:
            return decode_pin(read_small(self.path / PIN))
        except OSError:
            return None

    def hold(self, pin: Pin) -> None:
        """Hold a generation.

        Raises:
            OSError: disk full, no rights.
        """
        write_whole(self.path / PIN, encode(pin))

    def let_go(self) -> bool:
        """Hold none any more; False when none was held.

        Raises:
            OSError: no rights.
        """
        held = (self.path / PIN).exists()
        (self.path / PIN).unlink(missing_ok=True)
        return held
