"""Everything that the registrator asks of the ports of containers: first connections, and CHECK_* checks.

Follows the book: what is to be asked, and where, is decided there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from pilotfish.catalog.values import join_host_port
from registrator.book import Book
from registrator.io_checks import Dials, Port
from registrator.io_rounds import Rounds

NEW_S = 0.1  # a new container's record waits so long for its first dials, to be written once instead of twice
# One that runs for longer was registered before, unless we are new here, and readers keep it as an orphan: a record
# that says "starting" takes its name away until the first answer, which a check may need two seconds for.
YOUNG_S, OLDER_S = 10.0, 2.5
OVERDUE_S = 30.0  # a port that has not answered for so long is said to


class Asking:
    """Dials and checks of all containers.

    Args:
        book: what is known of the containers.
        now: UNIX time in seconds.
        changed: called with a container whose record may have to be written.
        at_once: how many checks may be under way.
        check_dir: folder of the scripts that CHECK_CMD names.
    """

    def __init__(
        self,
        book: Book,
        now: Callable[[], float],
        changed: Callable[[str], None],
        *,
        at_once: int,
        check_dir: str,
    ) -> None:
        self._book, self._now, self._changed = book, now, changed
        self._dials = Dials(self._on_answer)
        self._rounds = Rounds(self._on_result, at_once, check_dir)

    def want(self, containers: set[str]) -> None:
        """Ask what the book wants to know of these containers, and nothing else of them."""
        for one in containers:
            self._dials.want(one, {Port(one, *spec): where for spec, where in self._book.dials(one).items()})
            self._rounds.want(one, {Port(one, *spec): how for spec, how in self._book.probes(one).items()})

    async def first(self, container: str) -> None:
        """Wait until every port of a container was asked once, but not for long; for a container new to the store."""
        page = self._book.pages.get(container)
        if page is None:
            return
        within_s = NEW_S if self._now() - page.facts.started < YOUNG_S else OLDER_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(
                    self._dials.first(container, within_s), *(one.wait() for one in self._rounds.waits(container))
                )

    async def quiet(self, within_s: float) -> None:
        """Wait until every port has answered or was checked once, or for `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(self._dials.quiet(within_s), *(one.wait() for one in self._rounds.waits()))

    def overdue(self) -> list[str]:
        """What to say of ports that have not answered for long, each once."""
        return [
            f"container {self._book.pages[port.container].facts.name}: port {port.port} does not answer at "
            f"{', '.join(join_host_port(one.ip, one.port) for one in tried)}: it is published when it does"
            for port, tried in self._dials.overdue(OVERDUE_S)
        ]

    async def close(self) -> None:
        """Ask no more."""
        await self._dials.close()
        await self._rounds.close()

    def _on_answer(self, port: Port) -> None:
        if self._book.answered(port.container, (port.port, port.protocol), self._now()):
            self._changed(port.container)

    def _on_result(self, port: Port, problem: str) -> None:
        if self._book.checked(port.container, (port.port, port.protocol), problem, self._now()):
            self._changed(port.container)
