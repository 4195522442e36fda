"""Ids of the endpoints of a container: as tagged, else the default, and each with a label of its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from pilotfish.catalog.values import quoted
from registrator.rules import naming
from registrator.rules.container import Facts, PortSpec
from registrator.rules.tags import PortTags


class Ids(NamedTuple):
    """What was found.

    Attributes:
        ids: of the ports that have one.
        left_out: port -> why it has none.
        notices: about tags that were not followed.
    """

    ids: dict[PortSpec, str]
    left_out: dict[PortSpec, str]
    notices: list[str]


def ids_of(node: str, facts: Facts, ports: Sequence[PortTags]) -> Ids:
    """Give each port its id.

    Args:
        node: name of the host.
        facts: of the container.
        ports: with their tags.
    """
    given: dict[str, list[PortSpec]] = {}
    for read in ports:
        if "id" in read.values:
            given.setdefault(cast("str", read.values["id"]), []).append(read.port)
    tagged = {spec: _told_apart(text, spec, sharing) for text, sharing in given.items() for spec in sharing}
    default = {read.port: naming.default_id(node, facts, read.port) for read in ports}
    return _unique(tagged, default)


def _told_apart(text: str, spec: PortSpec, sharing: list[PortSpec]) -> str:
    if len(sharing) == 1:
        return text
    return naming.shared_id(text, spec, number=len({one.port for one in sharing}) > 1)


def _unique(tagged: dict[PortSpec, str], default: dict[PortSpec, str]) -> Ids:
    """Ids whose labels differ: a tag that would take another port's label is refused."""
    found = Ids({spec: text for spec, text in default.items() if spec not in tagged}, {}, [])
    labels = {naming.label_of(text) for text in found.ids.values()}
    for spec, text in sorted(tagged.items()):
        for candidate in (text, default[spec]):
            if naming.label_of(candidate) not in labels:
                found.ids[spec] = candidate
                labels.add(naming.label_of(candidate))
                break
        if found.ids.get(spec) != text:
            found.notices.append(f"{spec}: another port has the id {quoted(text)} already; the default is used")
        if spec not in found.ids:
            found.left_out[spec] = f"its ids {quoted(text)} and {quoted(default[spec])} are other ports' already"
    return found
