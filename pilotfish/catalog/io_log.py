"""Where log lines go: standard error, as text or JSON."""

from __future__ import annotations

import logging
import sys
import time

from pilotfish.catalog.telemetry import Consolidate, JsonFormatter, TextFormatter


def set_up(level: str, form: str) -> None:
    """Send all log lines of this process to standard error.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "text" or "json".
    """
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(Consolidate())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aiohttp.access", "urllib3", "docker", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
