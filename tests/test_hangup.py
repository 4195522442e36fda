"""SIGHUP to the process of `up`."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from pilotfish.catalog.telemetry import Telemetry
from pilotfish.io_dns_child import reread_at_hangup


class Part:
    def __init__(self):
        self.told = asyncio.Event()

    def reload(self):
        self.told.set()


async def test_it_reaches_every_part():
    parts = [Part(), Part()]
    reread_at_hangup([], parts, Telemetry("up", time.time))
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(5):
            for part in parts:
                await part.told.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
