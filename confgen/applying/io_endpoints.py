"""How nginx hears of its servers: from its configuration, or from us, over a unix socket and in a file.

The balancer is templates/endpoints.lua.j2. The file is written before an update is sent: an nginx that starts, or reads
its configuration anew, begins with it, so that it needs nobody to send it anything. An update names the table that it
builds on; whoever has another is sent all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from confgen.applying.io_nginx import Nginx, NotServing
from confgen.io_thread import in_thread
from confgen.nginx import endpoints
from confgen.nginx.endpoints import Apart
from confgen.nginx.shapes import ServiceView

SEND_TIMEOUT_S = 5.0


class NoBalancer(NotServing):
    """No nginx listens for endpoints: it does not run, or its configuration has no balancer yet."""


class InConfiguration:
    """Servers stand in the configuration, and nothing is sent (`--nginx-endpoints reload`).

    Args:
        services: the views of all, kept up to date by their owner.

    Attributes:
        settled: what is rendered, by service.
        told: nginx was sent the servers of now: never.
        updates: how many updates it took: none.
    """

    def __init__(self, services: Mapping[str, ServiceView]) -> None:
        self.settled, self.told, self.updates = services, False, 0

    async def open(self) -> None:
        """Nothing was sent before this process began."""

    def update(self, changed: Iterable[str]) -> set[str]:
        """Take in what changed; returns the services of which the configuration has to be rendered again."""
        return set(changed)

    async def bring(self, apply: Callable[[], Awaitable[bool]]) -> None:
        """Bring nginx to a configuration.

        Args:
            apply: does so; False: it was not applied.
        """
        await apply()


class Sent:
    """Servers are sent (`--nginx-endpoints lua`); the methods are those of `InConfiguration`.

    Args:
        services: the views of all, kept up to date by their owner.
        run: folder of the balancer's socket and its file.
        nginx: to be told.
    """

    def __init__(self, services: Mapping[str, ServiceView], run: Path, nginx: Nginx) -> None:
        self._services = services
        self._apart, self._balancer, self._nginx = Apart(), Balancer(run), nginx

    async def open(self) -> None:
        """Take in what was sent before this process began."""
        await self._balancer.open()

    @property
    def told(self) -> bool:
        """Whether nginx has the servers of now."""
        return self._balancer.told

    @property
    def updates(self) -> int:
        """How many updates nginx took."""
        return self._balancer.updates

    @property
    def settled(self) -> Mapping[str, ServiceView]:
        """What is rendered, by service."""
        return self._apart.settled

    def update(self, changed: Iterable[str]) -> set[str]:
        """Take in what changed; returns the services of which the configuration has to be rendered again."""
        return self._apart.update(self._services, changed)

    async def bring(self, apply: Callable[[], Awaitable[bool]]) -> None:
        """Bring nginx to its endpoints, and then to a configuration.

        Raises:
            NotServing: it did not take the endpoints.
            OSError: they cannot be written.
        """
        await self._balancer.bring(self._apart.table(), self._nginx, apply)


class Balancer:
    """What nginx's balancer was told last.

    Args:
        run: folder of its socket and its file.

    Attributes:
        told: it has the endpoints that it was to be brought last.
        updates: how many it took.
    """

    def __init__(self, run: Path) -> None:
        self.told, self.updates = False, 0
        self._version = ""  # of the table that nginx has; empty: not known
        self._held: Mapping[str, str] = {}
        self._saved: dict[str, str] = {}  # what stands in the file
        self._file_version = self._reread = ""
        self._pid = 0  # of the nginx that was told
        self._file, self._socket = run / "endpoints", run / "endpoints.sock"

    async def open(self) -> None:
        """Take in what an earlier process sent: configurations of its time ask for it."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self._saved = endpoints.read(await in_thread(lambda: self._file.read_text(encoding="ascii")))

    async def bring(self, table: Mapping[str, str], nginx: Nginx, apply: Callable[[], Awaitable[bool]]) -> None:
        """Bring nginx to its endpoints, and then to a configuration: one that is not applied holds up no endpoint.

        Args:
            table: all endpoints of now.
            nginx: which may not run yet.
            apply: brings it to the configuration; False: it was not applied.

        Raises:
            NotServing: it did not take the endpoints.
            OSError: they cannot be written.
        """
        self.told = False
        every = endpoints.with_past(table, self._saved)
        await self._save(every)
        try:
            if nginx.pid:
                # One that has no balancer yet gets it, and the file, with the configuration.
                with contextlib.suppress(NoBalancer):
                    await self._send(every, nginx)
            if await apply():
                await self._send(every, nginx)
        except NotServing:
            if self._reread != self._file_version:  # whoever reads its configuration anew reads the file too
                self._reread = self._file_version
                await nginx.reload()
            raise

    async def _save(self, table: dict[str, str]) -> None:
        version = endpoints.version(table)
        if version != self._file_version:
            await in_thread(lambda: self._write(endpoints.whole(table)))
            self._file_version = version
        self._saved = table

    def _write(self, text: str) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(text, encoding="ascii")
        aside.replace(self._file)

    async def _send(self, table: Mapping[str, str], nginx: Nginx) -> None:
        version = endpoints.version(table)
        if nginx.pid != self._pid:  # it began with the file, which anybody may have changed
            self._pid, self._version = nginx.pid, ""
        if version != self._version:
            await self._tell(version, table)
            self._held, self._version = table, version
            self.updates += 1
        self.told = True

    async def _tell(self, version: str, table: Mapping[str, str]) -> None:
        before, self._version = self._version, ""
        status, said = 409, ""
        if before:
            status, said = await self._post(before, version, endpoints.difference(self._held, table))
        if status == 409:
            status, said = await self._post("*", version, table)
        if status != 200:
            raise NotServing(f"nginx did not take the endpoints: {status} {said}".strip())

    async def _post(self, since: str, version: str, table: Mapping[str, str]) -> tuple[int, str]:
        body = endpoints.text(table).encode()
        head = f"POST / HTTP/1.0\r\nX-From: {since}\r\nX-To: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(head.encode() + body)
                    top, _, said = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
                finally:
                    writer.close()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoBalancer(f"nginx cannot be told its endpoints at {self._socket}: {error}") from error
        except (OSError, TimeoutError) as error:
            raise NotServing(f"nginx cannot be told its endpoints at {self._socket}: {error or 'no answer'}") from error
        words = top.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, said.strip()[:200]
