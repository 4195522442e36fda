"""Reads the history of nginx's folder, and tells the config generator that works there what to hold."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from confgen.applying.history import FORMAT, Pin
from confgen.applying.io_history import History
from confgen.nginx.tls import is_secret
from pilotfish.catalog.failure import CannotStart
from pilotfish.history import Past

LOOK_S = 0.05  # between two looks at whether a generation is applied


class Books:
    """The history of one folder. Reading it changes nothing, and no config generator has to run.

    Args:
        path: nginx's folder.

    Attributes:
        past: as it was when this was made.

    Raises:
        CannotStart: there is none, or it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self._history = history = History(path)
        try:
            generations = tuple(history.generations())
            notes = {one: known for one in generations if (known := history.note(one))}
        except OSError as error:
            raise CannotStart(
                f"no configurations in {path} ({error.strerror}): name nginx's folder with --nginx-dir, or the folder"
                " of `pilotfish up` with --data"
            ) from error
        pin = history.pin()
        held = pin if pin is not None and pin.holds(time.time()) else None
        self.past = Past(generations, notes, history.current, history.good, held)

    def files(self, generation: str) -> dict[str, bytes]:
        """The files of a generation, private keys as no more than whether they changed.

        Raises:
            CannotStart: they are gone, or may not be read.
        """
        with self._said(generation):
            found = self._history.files(generation)
        return {name: _hidden(text) if is_secret(name) else text for name, text in found.items()}

    def hold(self, generation: str, for_s: float) -> None:
        """Pin a generation.

        Args:
            generation: one that stands there.
            for_s: for how long, seconds; 0: until it is let go.

        Raises:
            CannotStart: the folder may not be written.
        """
        now = time.time()
        with self._said(f"{self._history.path} cannot be written"):
            self._history.hold(Pin(FORMAT, generation, now, now + for_s if for_s else 0.0))

    def let_go(self) -> bool:
        """Pin none any more; False when none was.

        Raises:
            CannotStart: the folder may not be written.
        """
        with self._said(f"{self._history.path} cannot be written"):
            return self._history.let_go()

    def applied(self, generation: str, timeout_s: float) -> bool:
        """Wait until a generation is what nginx reads, and proved; False when that takes longer."""
        deadline = time.monotonic() + timeout_s
        while not self._history.current == self._history.good == generation:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        return True

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotStart(f"{what}: {error.strerror}") from error


def _hidden(key: bytes) -> bytes:
    return f"a private key, not shown; its SHA-256 is {sha256(key).hexdigest()}\n".encode()
