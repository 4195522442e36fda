"""What an admin should know about the tags of a container, said once for each container.

Knows the log that it was handed; decides only what is worth saying and how loud.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pilotfish.catalog.record import Container
from registrator.rules.wanted import Wanted

QUIET_RULES = frozenset({"filter", "ignored", "unpublished"})  # what somebody meant so, or never asked for


class Remarks:
    """Remembers what was said about which container.

    Args:
        log: where it is said.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.of_templates: dict[str, tuple[str, ...]] = {}  # container id -> what its key templates failed at
        self._log = log
        self._said: dict[str, frozenset[str]] = {}

    def note(self, container: str, wanted: Wanted | None) -> None:
        """Say what is new about a container; None: it is gone, and so is what was said."""
        if wanted is None:
            self._said.pop(container, None)
            self.of_templates.pop(container, None)
            return
        quiet = not wanted.container.endpoints  # nothing is published of it: mostly nobody wants it to be
        lines = dict.fromkeys(wanted.notices, logging.INFO if quiet else logging.WARNING)
        for left in wanted.left_out:
            lines[f"{left.port} is left out: {left.reason}"] = _level(left.rule)
        for line in lines.keys() - self._said.get(container, frozenset()):
            self._log.log(lines[line], "container %s: %s", wanted.container.name, line)
        self._said[container] = frozenset(lines)

    def problems(self, record: Container, problems: Sequence[str]) -> None:
        """Say what key templates failed at."""
        for problem in set(problems) - set(self.of_templates.get(record.id, ())):
            self._log.warning("container %s: %s", record.name, problem)
        self.of_templates[record.id] = tuple(problems)


def _level(rule: str) -> int:
    return logging.DEBUG if rule in QUIET_RULES else logging.WARNING
