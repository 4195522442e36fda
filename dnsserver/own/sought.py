"""A name in one of our domains, as it is looked for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from dnsserver.message import dname
from dnsserver.own.domain import Domain

Only: TypeAlias = Callable[[str], bool]  # nodes that count


class Sought(NamedTuple):
    """A name in one of our domains: the labels in front of it. `only`: what is on these nodes counts; None: on all."""

    labels: tuple[str, ...]
    domain: Domain
    only: Only | None = None

    def above(self, count: int = 1) -> Sought:
        """The name without its first labels."""
        return self._replace(labels=self.labels[count:])

    @property
    def text(self) -> str:
        """Relative to the domain."""
        return ".".join(self.labels)

    @property
    def host(self) -> str:
        """The whole name as text."""
        return ".".join((*self.labels, self.domain.text))

    @property
    def name(self) -> bytes:
        """The whole name as wire name."""
        return b"".join(bytes((len(label),)) + label.encode() for label in self.labels) + self.domain.name


def texts_of(name: bytes, domain: Domain) -> tuple[str, ...] | None:
    """The labels in front of the domain, as text; None when one of them cannot be in a name of ours."""
    labels = dname.labels_of(name[: len(name) - len(domain.name)] + dname.ROOT)
    if any(b"." in label or not label.isascii() for label in labels):
        return None
    return tuple(label.decode() for label in labels)
