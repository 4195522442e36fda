"""Looks at nginx again and again: does it run, does it answer, is what it serves what was applied last?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from confgen.applying.blame import blame
from confgen.applying.io_apply import Applier
from confgen.applying.io_files import Folder
from confgen.applying.io_nginx import Nginx, NotServing
from confgen.applying.standing import NGINX, Standing
from pilotfish.catalog.io_follow import Backoff

LOOK_S = 0.25  # between two looks at nginx
MISSES = 3  # looks in a row without an answer that make nginx count as gone


class Watch:
    """Looks after one nginx.

    Args:
        nginx: the one.
        folder: its files.
        applier: starts it when it is `ours` and does not run.
        standing: what is known of it; `serving` is set here.
        ours: nobody else starts it.
        differs: called when it serves something else than was applied last.
        seen: called after each look that decided something, with whether nginx answers.
    """

    def __init__(
        self,
        nginx: Nginx,
        folder: Folder,
        applier: Applier,
        standing: Standing,
        *,
        ours: bool,
        differs: Callable[[], None],
        seen: Callable[[bool], None],
    ) -> None:
        self._nginx, self._folder, self._applier, self._standing = nginx, folder, applier, standing
        self._telemetry, self._ours = standing.telemetry, ours
        self._differs, self._seen = differs, seen

    async def run(self) -> None:
        """Look until cancelled."""
        backoff, misses = Backoff(0.1, 5.0), 0
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._folder.current:
                continue
            answer = await self._nginx.served()
            self._standing.metrics.generations(self._nginx.generations())
            misses = 0 if answer else misses + 1
            if answer and self._nginx.pid:
                backoff.reset()
                self._alive(answer.generation)
            elif not self._nginx.pid or misses >= MISSES:
                await self._missing(backoff)

    def _alive(self, generation: str) -> None:
        standing = self._standing
        if generation == standing.generation and not standing.serving:
            standing.serving = True
            self._telemetry.ready.good(NGINX)
            self._telemetry.log.info("nginx serves again", extra={"generation": generation})
        elif generation != standing.generation and standing.blame is None:
            self._differs()  # while something is refused, backoff rules
        self._seen(True)

    async def _missing(self, backoff: Backoff) -> None:
        pid = self._nginx.pid
        if self._standing.serving:
            self._telemetry.log.error("nginx does not serve", extra={"pid": pid})
        self._standing.serving = False
        self._telemetry.ready.bad(NGINX, "it does not answer" if pid else "it does not run")
        self._seen(False)
        if not self._ours or self._nginx.pid:
            return
        try:
            await self._applier.revive()
            self._standing.metrics.starts.inc()
        except (NotServing, OSError) as error:
            why = blame(str(error), {}).message  # nginx says it once a try
            self._telemetry.ready.bad(NGINX, f"it does not start: {why}")
            self._telemetry.log.warning("nginx does not start: %s", why, extra={"cause": NGINX})
            await backoff.wait()
