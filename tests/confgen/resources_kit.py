"""A confdir, a store, and the service over them, for tests of template resources."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from confgen.resources.io_resources import ResourcesService
from confgen.settings import ConfgenSettings
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.store import Delete, Put
from pilotfish.catalog.telemetry import Telemetry

ALL = '{{range gets "/x/*"}}{{base .Key}}={{.Value}};{{end}}'


class Place:
    """A folder with everything that a service of template resources needs.

    Attributes:
        path: of it all; files go into `path/out`, reloads write to `path/log`.
        store: in memory.
        said: what --noop printed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.store, self.said = path, EmbeddedStore(), []
        for name in ("c/conf.d", "c/templates", "out"):
            (path / name).mkdir(parents=True)
        self.log = path / "log"

    def out(self, name: str = "a") -> Path:
        return self.path / "out" / name

    def text(self, name: str = "a") -> str:
        """A file as it is; "" where there is none."""
        return self.out(name).read_text() if self.out(name).exists() else ""

    def lines(self) -> list[str]:
        """What the reload commands wrote, one line each."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def template(self, name: str, text: str, *, ending: str = "tmpl") -> None:
        (self.path / f"c/templates/{name}.{ending}").write_text(text)

    def resource(self, name: str = "a", text: str | None = None, *, ending: str = "tmpl", **more: object) -> None:
        """Write a resource, and its template if there is a text."""
        if text is not None:
            self.template(name, text, ending=ending)
        fields = {"src": f"{name}.{ending}", "dest": str(self.out(name)), "keys": ["/x"], **more}
        written = "".join(f"{key} = {value!r}\n" for key, value in fields.items())
        (self.path / f"c/conf.d/{name}.toml").write_text(f"[template]\n{written}")

    async def put(self, **values: str) -> None:
        """Set /x/NAME for each."""
        await self.store.commit([], [Put(f"/x/{key}", value.encode()) for key, value in values.items()])

    async def delete(self, *names: str) -> None:
        await self.store.commit([], [Delete(f"/x/{name}") for name in names])

    def service(self, store: object = None, **more: object) -> ResourcesService:
        settings = ConfgenSettings(confdir=str(self.path / "c"), state_dir=str(self.path / "state"), wait_s=0.05)
        self.telemetry = Telemetry("confgen", time.time)
        changed = dataclasses.replace(settings, **more)
        return ResourcesService(changed, store or self.store, self.telemetry, self.said.append)

    @contextlib.asynccontextmanager
    async def running(self, **more: object):
        """The service at work; nothing of it is left afterwards."""
        service = self.service(**more)
        task = asyncio.create_task(service.run())
        try:
            yield service
            assert not task.done(), task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def missing(self) -> dict[str, str]:
        """What /ready would name."""
        return self.telemetry.ready.missing

    def mark(self) -> str:
        """What staged files of this confdir have in their names."""
        return next((self.path / "state").glob("*.lock")).stem

    def due(self) -> list[str]:
        """Reloads that are due, as the ledger has them."""
        page = json.loads((self.path / f"state/{self.mark()}.json").read_text())
        return list(page["reloads"])

    def strays(self) -> list[str]:
        """Staged files that were left."""
        return sorted(str(path) for path in self.path.rglob(".*") if path.name.endswith(".stage"))


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True, timeout=10)


@pytest.fixture
def mounts():
    """Mounts what is asked for, and unmounts it afterwards."""
    made = []

    def make(*words):
        mount(*words)
        made.append(str(words[-1]))

    yield make
    for path in reversed(made):
        subprocess.run(["umount", path], check=True, timeout=10)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def reload(place: Place, word: str = "reload") -> str:
    """A command that writes a word into the place's log."""
    return f"echo {word} >> {place.log}"
