"""`pilotfish release`: which claim an operator means, and who gets the route. Pure."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.values import quoted
from pilotfish.operate import SHOWN, NotMeant, Refused, listed
from registrator.writing.claims import Askers


class Release(NamedTuple):
    """A claim that is given up.

    Attributes:
        place: what was claimed.
        owner: whose it was.
        waiting: services that ask for it, sorted; the first that writes its claim gets it.
    """

    place: Place
    owner: str
    waiting: tuple[str, ...]


def release(registry: Registry, text: str) -> Release:
    """What becomes of the route `HOST` or `HOST/PATH`.

    A host without its domain is enough where only one claim is called so.

    Raises:
        NotMeant: nobody has claimed it, or several claims are called so.
        Refused: its owner uses it and nobody else asks for it: it would be claimed again at once, after a gap.
    """
    place = _claimed(registry, text)
    owner = registry.claims[place].service.lower()
    endpoints = (one for container in registry.containers.values() for one in container.endpoints)
    askers = Askers(endpoints).of(place)
    waiting = tuple(sorted(askers - {owner}))
    if owner in askers and not waiting:
        raise Refused(f"{shown(place)} is used by {owner}, and nobody else asks for it: there is nothing to release")
    return Release(place, owner, waiting)


def _claimed(registry: Registry, text: str) -> Place:
    host, has_path, path = text.lower().partition("/")[0], "/" in text, "/" + text.partition("/")[2]
    called = [
        place
        for place in sorted(registry.claims)
        if (place.host == host or place.host.startswith(f"{host}.")) and (not has_path or place.path == path)
    ]
    found = [place for place in called if place.host == host] or called
    if len(found) == 1:
        return found[0]
    if found:
        raise NotMeant(f"{quoted(text)} is several claims; say which: {listed([shown(one) for one in found])}")
    all_of_them = [shown(one) for one in sorted(registry.claims)]
    near = difflib.get_close_matches(text, all_of_them, SHOWN, 0.6) or all_of_them
    raise NotMeant(f"nobody has claimed {quoted(text)}; claimed are {listed(near)}")


def shown(place: Place) -> str:
    """A place as operators write it."""
    return f"{place.host}{place.path}"
