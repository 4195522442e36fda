"""The status server: alive, ready, metrics, state; refuses foreign names; shows children with their parent."""

from __future__ import annotations

import time

import aiohttp
import pytest

from pilotfish.catalog.io_status import ChildSource, LocalSource, application, serving
from pilotfish.catalog.telemetry import Telemetry


def part(name: str = "dns") -> Telemetry:
    return Telemetry(name, time.time)


async def get(address, path: str, **headers: str) -> tuple[int, str]:
    url = f"http://{address[0]}:{address[1]}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_one_part():
    """/health, /ready with what is missing, /metrics and /api/state of one part."""
    telemetry = part()
    telemetry.ready.bad("store", "not read yet")
    app = application(LocalSource(telemetry, lambda: {"queries": 1}))
    async with serving(app, ("127.0.0.1", 0)) as address:
        assert await get(address, "/health") == (200, "alive\n")
        assert await get(address, "/ready") == (503, '{"missing":{"store":"not read yet"},"ready":false}\n')
        telemetry.ready.good("store")
        assert await get(address, "/ready") == (200, '{"missing":{},"ready":true}\n')
        assert await get(address, "/api/state") == (200, '{"queries":1}\n')
        status, text = await get(address, "/metrics")
        assert status == 200
        assert 'pilotfish_build_info{part="dns"' in text


HOSTS = {
    "127.0.0.1:9700": 200,
    "[::1]:9700": 200,
    "localhost": 200,
    "localhost:1": 200,
    "evil.example.com": 421,
    "127.0.0.1.evil.example:80": 421,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_foreign_names_are_refused(host):
    """A page that was brought here by DNS rebinding reads nothing."""
    async with serving(application(LocalSource(part(), dict)), ("127.0.0.1", 0)) as address:
        status, _ = await get(address, "/health", Host=host)
        assert status == HOSTS[host]


async def test_only_reading():
    """No method but GET and HEAD does anything."""
    async with serving(application(LocalSource(part(), dict)), ("127.0.0.1", 0)) as address:
        url = f"http://{address[0]}:{address[1]}/api/state"
        async with aiohttp.ClientSession() as session, session.post(url, data=b"x") as response:
            assert response.status == 405


async def test_child_and_parent_as_one(tmp_path):
    """A child's readiness, metrics and state stand beside its parent's; a dead child is missing, not an error."""
    parent, child = part("up"), part("dns")
    child.ready.bad("store", "away")
    socket = tmp_path / "dns.sock"
    app = application(LocalSource(parent, lambda: {"a": 1}), ChildSource("dns", socket))
    async with serving(app, ("127.0.0.1", 0)) as address:
        async with serving(application(LocalSource(child, lambda: {"b": 2})), socket):
            assert await get(address, "/ready") == (503, '{"missing":{"dns: store":"away"},"ready":false}\n')
            assert await get(address, "/api/state") == (200, '{"dns":{"b":2},"up":{"a":1}}\n')
            _, text = await get(address, "/metrics")
            assert 'part="dns"' in text
            assert 'part="up"' in text
        status, text = await get(address, "/ready")
        assert (status, text) == (503, '{"missing":{"dns: process":"does not answer"},"ready":false}\n')


async def test_taken_address_is_named():
    """The message names the flag and the address."""
    app = application(LocalSource(part(), dict))
    async with serving(app, ("127.0.0.1", 0)) as address:
        with pytest.raises(OSError, match=rf"--status 127\.0\.0\.1:{address[1]}"):
            async with serving(application(LocalSource(part(), dict)), (address[0], address[1])):
                pass
