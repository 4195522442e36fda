"""wrk: HTTP as fast as answers come, over kept connections."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 32
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Heard(NamedTuple):
    """What a run of wrk said: answers a second, how many in all, and the 99th percentile in milliseconds."""

    rate: float
    answers: int
    p99_ms: float


def ask(wrk: Path, url: str, host: str, seconds: int) -> Heard:
    """Ask for a host at a URL for some seconds.

    Raises:
        RuntimeError: not everything was answered with 2xx or 3xx, or wrk did not say what it saw.
    """
    options = ("-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency", "-H", f"Host: {host}")
    text = subprocess.run([wrk, *options, url], capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"not everything was answered:\n{text}")
    p99_ms = float(_said(text, r"99%\s+([\d.]+)")) * _UNITS[_said(text, r"99%\s+[\d.]+(us|ms|s)")]
    return Heard(float(_said(text, r"Requests/sec:\s+([\d.]+)")), int(_said(text, r"(\d+) requests in")), p99_ms)


def _said(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk did not say {pattern}:\n{text}")
    return found.group(1)
