"""Inputs that a target did not stand: one kept for each place in the code that failed, the others counted."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.targets import Run

SAY_EVERY = 1000  # inputs
SLOW_S = 2.0  # of CPU for one input; no input may cost so much, coverage being counted or not


class Findings:
    """Runs a target and remembers what it did not stand.

    Args:
        folder: where inputs are kept, as `<hash>.input` with the traceback beside it.
        run: the target's function.
        say: file that tells how it goes, for the process that started this one, which may end without a last word.
    """

    def __init__(self, folder: Path, run: Run, say: Path | None = None) -> None:
        self.tried = 0
        self.slowest_s = 0.0
        self.places: Counter[str] = Counter()
        self._folder, self._run, self._say = folder, run, say
        folder.mkdir(parents=True, exist_ok=True)

    def try_one(self, data: bytes) -> None:
        """Give one input to the target; never raises."""
        self.tried += 1
        before = time.process_time()
        try:
            self._run(data)
        except Exception as error:  # noqa: BLE001  that is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            self._keep(f"{type(error).__name__} at {last.filename}:{last.lineno}", data, traceback.format_exc())
        took_s = time.process_time() - before
        if took_s > self.slowest_s:
            self.slowest_s = took_s
            if took_s > SLOW_S:
                self._keep("slow", data, f"{took_s:.3f} s of CPU")
        if self.tried % SAY_EVERY == 0:
            self.write()

    def _keep(self, place: str, data: bytes, why: str) -> None:
        self.places[place] += 1
        if self.places[place] == 1:
            name = hashlib.sha256(data).hexdigest()[:16]
            (self._folder / f"{name}.input").write_bytes(data)
            (self._folder / f"{name}.txt").write_text(f"{place}\n{why}\n{data.hex()}\n")
            self.write()

    def write(self) -> None:
        """Say how it goes."""
        if self._say is not None:
            said = {"tried": self.tried, "slowest_ms": round(1000 * self.slowest_s, 1), "places": dict(self.places)}
            self._say.write_text(json.dumps(said))
