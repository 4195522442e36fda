"""Writes down what each configuration changed, when and why. A disk that is full costs the note, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confgen.applying.history import difference, note
from confgen.applying.io_history import History
from confgen.applying.quarantine import Entry, told
from confgen.io_thread import in_thread
from confgen.nginx.render import Tree
from pilotfish.catalog.telemetry import Telemetry


class Chronicle:
    """The history of one generator's folder, as it is made.

    Args:
        history: of the folder, before anything is applied to it.
        telemetry: time and log.
    """

    def __init__(self, history: History, telemetry: Telemetry) -> None:
        self._history, self._telemetry = history, telemetry
        self._last: Tree | None = None  # what was accepted last by this process
        self._found = history.good  # and what by the one before
        self._told: frozenset[str] = frozenset()  # whose quarantine is written down
        self._released = False

    def released(self) -> None:
        """Note that a pin was let go: that is why the next configuration is another one."""
        self._released = True

    def reason(self, revision: int, entries: Iterable[Entry]) -> str:
        """Why a configuration that was just proved is another one than the one before."""
        entries = tuple(entries)
        fresh = [one for one in entries if one.service not in self._told]
        self._told = frozenset(one.service for one in entries)
        released, self._released = self._released, False
        why = f"the store at revision {revision}{', which an operator accepted' if released else ''}"
        return f"{why}; refused: {told(fresh)}" if fresh else why

    async def remember(self, tree: Tree, revision: int, reason: str, quarantined: tuple[str, ...]) -> None:
        """Write down a configuration that is served now, unless it was served before."""
        before, self._last = self._last, tree
        if before is not None and before.generation == tree.generation:
            return

        def write() -> None:
            if before is None and self._adopted(tree):
                return
            files, was, services = self._before(before, tree)
            made = note(
                difference(files, tree.files, services),
                generation=tree.generation,
                before=was,
                at=self._telemetry.now(),
                revision=revision,
                reason=reason,
                quarantined=quarantined,
            )
            self._history.record(made)
            self._history.forget_others(self._history.generations())

        try:
            await in_thread(write)
        except OSError as error:
            self._telemetry.log.warning("the history cannot be written: %s: %s", error.filename, error.strerror)

    def _adopted(self, tree: Tree) -> bool:
        """True for the first configuration of this process if it was served, and written down, before."""
        return tree.generation == self._found and self._history.note(tree.generation) is not None

    def _before(self, before: Tree | None, tree: Tree) -> tuple[Mapping[str, bytes], str, dict[str, str]]:
        """Files, name and owners of the configuration before, which another process may have applied."""
        if before is not None:
            return before.files, before.generation, {**before.services, **tree.services}
        found = "" if self._found == tree.generation else self._found
        try:
            return self._history.files(found) if found else {}, found, dict(tree.services)
        except OSError:
            return {}, found, dict(tree.services)
