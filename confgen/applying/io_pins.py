"""The generation that an operator holds, if any: read anew at each look, let go when it is over."""

from __future__ import annotations

import contextlib

from confgen.applying.history import Pin
from confgen.applying.io_chronicle import Chronicle
from confgen.applying.io_files import UnsafePath
from confgen.applying.io_history import History
from confgen.applying.standing import Standing
from confgen.io_thread import in_thread
from confgen.nginx.render import Tree, generation_of


class Pins:
    """What is pinned in one folder.

    Args:
        history: of the folder.
        chronicle: is told when a pin was let go.
        standing: what is known of the pin; set here.
    """

    def __init__(self, history: History, chronicle: Chronicle, standing: Standing) -> None:
        self._history, self._chronicle, self._standing = history, chronicle, standing
        self._telemetry = standing.telemetry

    async def held(self) -> Pin | None:
        """The pin that holds; one that is over, or whose generation is gone, is let go."""
        found = await in_thread(self._history.pin)
        pin = self._holding(found)
        generation = pin.generation if pin else ""
        if generation and not await in_thread(lambda: self._history.has(generation)):
            self._telemetry.log.error(
                "generation %s is pinned, and gone: the pin is let go, and what the store says is to be applied",
                generation,
                extra={"cause": f"pin {generation}"},
            )
            pin = None
        if pin is None and found is not None:
            with contextlib.suppress(OSError):  # read-only now, it is over all the same
                await in_thread(self._history.let_go)
        if pin is None and self._standing.pin is not None:
            self._telemetry.log.info("no generation is pinned any more: what the store says is to be applied")
            self._chronicle.released()
        self._standing.pin = pin
        return pin

    async def changed(self) -> bool:
        """True when an operator asked for something else than what is known here."""
        return self._holding(await in_thread(self._history.pin)) != self._standing.pin

    async def holds(self) -> bool:
        """True while a generation is held: it can be served whatever the store says."""
        return self._holding(await in_thread(self._history.pin)) is not None

    def _holding(self, pin: Pin | None) -> Pin | None:
        return pin if pin is not None and pin.holds(self._telemetry.now()) else None

    def stored(self, generation: str) -> Tree:
        """A generation as it stands on disk. Blocking.

        Raises:
            OSError: it cannot be read.
            UnsafePath: it is not what was applied.
        """
        files = self._history.files(generation)
        if generation_of(files) != generation:
            raise UnsafePath("its files are not what was applied once; choose another one")
        return Tree(files, generation, {})
