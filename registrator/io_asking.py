"""Everything that the registrator asks of the ports of containers: first connections, and CHECK_* checks.

Follows the book: what is to be asked, and where, is decided there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from pilotfish.catalog.values import join_host_port
from registrator.book import Book
from registrator.health.io_checks import Dials, Port
from registrator.health.io_rounds import Rounds

NEW_S = 0.1  # a new container's record waits so long for its first dials, to be written once instead of twice
# One that runs for longer was registered before, unless we are new here, and readers keep it as an orphan: a record
# that says "starting" takes its name away until its checks have passed as often as CHECK_RISE asks, which may take two
# seconds each.
YOUNG_S, OLDER_S = 10.0, 5.0
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
        self.judging: set[str] = set()  # containers that `first` waits for: not to be written meanwhile

    def want(self, containers: set[str]) -> None:
        """Ask what the book wants to know of these containers, and nothing else of them."""
        for one in containers:
            self._dials.want(one, {Port(one, *spec): where for spec, where in self._book.dials(one).items()})
            probes = {Port(one, *spec): how for spec, how in self._book.probes(one).items()}
            self._rounds.want(one, probes, self._book.pages[one].facts.started if probes else 0.0)

    async def first(self, container: str, behind_s: float) -> None:
        """Wait until a container that is new to the store can be judged, but not for long.

        A young one: until each of its ports was asked once. An older one: until its checks have decided.
        `behind_s`: seconds that the clock of its engine is behind ours.
        """
        page = self._book.pages.get(container)
        if page is None:
            return
        older = self._now() - behind_s - page.facts.started >= YOUNG_S
        within_s = OLDER_S if older else NEW_S
        waits = self._rounds.hurry(container) if older else self._rounds.waits(container)
        if older:
            self.judging.add(container)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(self._dials.first(container, within_s), *(one.wait() for one in waits))
        except TimeoutError:
            pass  # what is known by then counts
        finally:
            self._rounds.calm(container)
            self.judging.discard(container)

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
            self._tell(port.container)

    def _on_result(self, port: Port, problem: str) -> None:
        if self._book.checked(port.container, (port.port, port.protocol), problem, self._now()):
            self._tell(port.container)

    def _tell(self, container: str) -> None:
        if container not in self.judging:
            self._changed(container)
