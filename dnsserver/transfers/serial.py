"""The serial of our zones: the highest revision of the store that changed any of them. Pure."""

from __future__ import annotations

from pilotfish.catalog.mirror import Difference


class Serial:
    """Moves on with the differences of two parts of the store, which come each at its own pace."""

    def __init__(self) -> None:
        self.now = 0
        self._revisions: dict[str, int] = {}

    def move(self, part: str, difference: Difference) -> bool:
        """Take in a difference of a part; True when the serial is another one now.

        It only moves on (RFC 1982); only a store that began anew takes it back. What changes without the store, since
        an orphan does not answer, has no revision of its own, and moves it by one.
        """
        by_itself = not difference.started_over and difference.revision == self._revisions.get(part)
        anew = difference.started_over and difference.revision < self._revisions.get(part, 0)
        self._revisions[part] = difference.revision
        highest = max((entry.mod_revision for entry in difference.puts), default=0)
        before = self.now
        if difference.deletes or difference.kept:
            highest = max(highest, before + 1 if by_itself else difference.revision)
        self.now = max(self._revisions.values()) if anew else max(highest, before)
        return self.now != before
