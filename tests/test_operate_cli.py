"""`drain`, `undrain`, `shift` and `release` as an operator meets them: exit codes and messages."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_feed import FeedServer
from pilotfish.catalog.store import Put
from tests.operate_kit import claimed, container, pairs, proxy

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTFISH_", "ETCD", "DOCKER"))}


async def pilotfish(*arguments: str) -> tuple[int, str]:
    """Run the command line to its end: exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilotfish", *arguments, env=CLEAN,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.fixture
async def data(tmp_path):
    """The data folder of an `up` that serves its feed; the proxy of h2 has applied nothing, and never will."""
    store = EmbeddedStore()
    things = (
        container("web-1", version="v1"), container("web-2", version="v2"), container("db-1", "h2", service="db"),
        claimed("old", "www.example.com"), proxy("h2", 0),
    )  # fmt: skip
    await store.commit([], [Put(key, value) for key, value in pairs(*things)])
    (tmp_path / "run").mkdir()
    async with FeedServer(store, tmp_path / "run" / "feed.sock", {}).serving():
        yield str(tmp_path)
    await store.close()


COMMANDS = {
    "help of drain": (["drain", "--help"], 0, "Usage: pilotfish drain [OPTIONS] CONTAINER|NODE|SERVICE"),
    "help of undrain": (["undrain", "--help"], 0, "Usage: pilotfish undrain"),
    "help of shift": (["shift", "--help"], 0, "Usage: pilotfish shift [OPTIONS] SERVICE [VERSION=PERCENT ...]"),
    "help of release": (["release", "--help"], 0, "Usage: pilotfish release [OPTIONS] [HOST[/PATH]]"),
    "nobody to drain": (["drain"], 2, "Missing argument"),
    "a time that is none": (["drain", "web-1", "--timeout", "soon"], 2, "--timeout: 'soon' is no duration"),
    "no shares": (["shift", "web"], 2, "give VERSION=PERCENT"),
    "a share that is none": (["shift", "web", "v2"], 2, "'v2' is no share"),
    "shares and --clear": (["shift", "web", "v2=1", "--clear"], 2, "give no shares with it"),
    "nobody there": (["drain", "web-1", "--data", "/nonexistent"], 3, "nobody serves the feed"),
    "done": (["drain", "web-1", "--no-wait"], 0, " is drained: no new requests are sent there"),
    "not safe in time": (["drain", "web-1", "--timeout", "100ms"], 1, "the proxy on h2 has not applied it"),
    "unknown": (["drain", "web-9"], 1, "'web-9' is nothing registered; there is "),
    "needed": (["drain", "h2", "--no-wait"], 1, "nothing would be left of db"),
    "needed, and forced": (["drain", "h2", "--no-wait", "--force"], 0, "node:h2 is drained"),
    "not drained": (["undrain", "web-1"], 1, "'web-1' is not drained: nothing is"),
    "shifted": (["shift", "web", "v2=25", "--no-wait"], 0, "service:web is shifted: v1 75 %, v2 25 %"),
    "not shifted": (["shift", "web", "--clear"], 1, "service web is not shifted"),
    "released": (["release", "www.example.com"], 0, "www.example.com/ is free: it was old's"),
    "released of the guard": (["release", "--guard"], 0, "let go of what was taken away"),
    "neither a route nor the guard": (["release"], 2, "give either a route"),
    "both a route and the guard": (["release", "www.example.com", "--guard"], 2, "give either a route"),
    "not claimed": (["release", "example.org"], 1, "nobody has claimed 'example.org'; claimed are www.example.com/"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), COMMANDS.values(), ids=COMMANDS)
async def test_a_command(data, arguments, code, said):
    """0 done, 1 not done or not safe, 2 wrong usage, 3 nobody there."""
    given = arguments if "--data" in arguments else [*arguments, "--data", data]
    found, output = await pilotfish(*given)
    assert (found, said in output) == (code, True), output
