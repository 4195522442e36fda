"""Which containers count at all: the admin's `--only` and `--ignore`, for every container of the engine.

Pure. A filter is `KIND=PATTERN`; `*` in a pattern stands for any text, everything else for itself. `--ignore` leaves a
container out if any of its filters fits. With `--only`, one of each kind that is named has to fit, as with the filters
of `docker ps`: `--only project=shop --only project=blog --only label=public` is (shop or blog) and public.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog.values import BadValue, quoted
from registrator.rules.container import Facts

MAX_PATTERN = 512  # characters


class Filter(NamedTuple):
    """One filter.

    Attributes:
        kind: one of `KINDS`.
        pattern: what has to fit; for a label `KEY` or `KEY=VALUE`.
    """

    kind: str
    pattern: str

    def __str__(self) -> str:
        """As it was given."""
        return f"{self.kind}={self.pattern}"

    def fits(self, facts: Facts) -> bool:
        """True when the container is one that the filter names."""
        glob = _glob(self.pattern)
        return any(glob.match(text) for text in KINDS[self.kind](facts))


def _images(facts: Facts) -> tuple[str, ...]:
    """The image as written, and without digest and tag, so that `image=nginx` means every nginx."""
    plain = facts.image.partition("@")[0]
    last = plain.rpartition("/")[2]
    return facts.image, plain, plain.removesuffix(last) + last.partition(":")[0]


def _labels(facts: Facts) -> tuple[str, ...]:
    return (*facts.labels, *(f"{key}={value}" for key, value in facts.labels.items()))


def _networks(facts: Facts) -> tuple[str, ...]:
    mode = "bridge" if facts.network_mode == "default" else facts.network_mode
    return mode, *(network.name for network in facts.networks)


# Kind -> the texts of a container one of which has to fit.
KINDS: Mapping[str, Callable[[Facts], tuple[str, ...]]] = MappingProxyType(
    {
        "label": _labels,
        "name": lambda facts: (facts.name,),
        "image": _images,
        "network": _networks,
        "project": lambda facts: (facts.project,) if facts.project else (),
    }
)


def parse_filter(text: str) -> Filter:
    """A filter from its text.

    >>> str(parse_filter("label=tier=web*"))
    'label=tier=web*'

    Raises:
        BadValue: it is no `KIND=PATTERN`; the message names the nearest kind.
    """
    kind, equals, pattern = text.partition("=")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, list(KINDS), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadValue(f"{quoted(text)} is no filter: KIND=PATTERN with one of {', '.join(KINDS)}{hint}")
    if not equals or not pattern or len(pattern) > MAX_PATTERN or not pattern.isprintable():
        raise BadValue(f"{quoted(text)} is no filter: {kind}=PATTERN, printable, in which * stands for any text")
    if kind == "label" and pattern.startswith("="):
        raise BadValue(f"{quoted(text)} is no filter: label=KEY or label=KEY=VALUE")
    return Filter(kind, pattern)


def left_out(facts: Facts, only: Sequence[Filter], ignore: Sequence[Filter]) -> str:
    """Why the filters leave a container out, as a sentence that names the filter; empty: they do not."""
    for one in ignore:
        if one.fits(facts):
            return f"--ignore {quoted(str(one))[1:-1]} fits it"
    for kind in dict.fromkeys(one.kind for one in only):
        asked = [one for one in only if one.kind == kind]
        if not any(one.fits(facts) for one in asked):
            listed = " or ".join(quoted(str(one))[1:-1] for one in asked)
            return f"--only asks for {listed}, and {_have(kind, facts)}"
    return ""


def _have(kind: str, facts: Facts) -> str:
    if kind == "label":
        return "it has no such label"
    listed = ", ".join(quoted(text) for text in dict.fromkeys(KINDS[kind](facts)[: 1 if kind == "image" else None]))
    return f"its {kind} is {listed}" if listed else f"it is of no {kind}"


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(f"{'.*'.join(map(re.escape, pattern.split('*')))}\\Z", re.DOTALL)
