"""What the admin's own folders give to hosts and paths: directives, and pages of hosts in maintenance.

Pure. Only files in a folder of the proxy's host come here, never a tag: a directive can do anything that nginx can. A
file is named after what it is for: `www.test.conf` stands in the server block of that host, `www.test@api@v1.conf` in
the location of its path /api/v1 (`www.test@.conf`: of /), `www.test.html` answers for it. A file that is not
for any host, or too large, is left out, by name; one that nginx refuses is named by nginx, with its service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from confgen.nginx import directives
from pilotfish.catalog import values
from pilotfish.catalog.route import Place

MAX_SNIPPET = 64 * 1024  # octets of one file
MAX_PAGE = 1024 * 1024
MAX_FILES = 1000  # of one folder


class Extras(msgspec.Struct, frozen=True):
    """What the folders hold.

    Attributes:
        users: names of htpasswd files.
        hosts: host -> directives of its server block.
        places: host and path -> directives of its location.
        pages: host -> page; it is in maintenance.
        problems: what is left out, as sentences, sorted.
    """

    users: frozenset[str] = frozenset()
    hosts: Mapping[str, bytes] = {}
    places: Mapping[Place, bytes] = {}
    pages: Mapping[str, bytes] = {}
    problems: tuple[str, ...] = ()

    @property
    def listens(self) -> bool:
        """Directives of a host may listen for it, over TLS perhaps."""
        return any(directives.names(text) & directives.LISTENS for text in self.hosts.values())


NONE = Extras()


class Files(NamedTuple):
    """The files of the three folders: name -> content; None: too large, or not readable."""

    users: frozenset[str]
    snippets: Mapping[str, bytes | None]
    pages: Mapping[str, bytes | None]


def extras(files: Files) -> Extras:
    """Sort files by what they are for."""
    hosts, places, pages, problems = {}, {}, {}, []
    for name, text in sorted(files.snippets.items()):
        place = place_of(name)
        problem = "no host, and no host@path" if place is None else _unfit(text, MAX_SNIPPET)
        if place is None or text is None or problem:
            problems.append(f"snippet {values.quoted(name)}: {problem}; it is left out")
        elif place.path:
            places[place] = text
        else:
            hosts[place.host] = text
    for name, text in sorted(files.pages.items()):
        host = name.removesuffix(".html")
        problem = _unfit(text, MAX_PAGE) if _is_host(host) and host != name else "no host"
        if text is None or problem:
            problems.append(f"page {values.quoted(name)}: {problem}; it is left out")
        else:
            pages[host] = text
    return Extras(files.users, hosts, places, pages, tuple(problems))


def place_of(name: str) -> Place | None:
    """What a snippet is for; an empty path: the whole host.

    >>> place_of("www.test@api@v1.conf"), place_of("*.test.conf"), place_of("x;y.conf")
    (Place(host='www.test', path='/api/v1'), Place(host='*.test', path=''), None)
    """
    host, at, rest = name.removesuffix(".conf").partition("@")
    path = "/" + rest.replace("@", "/") if at else ""
    if not name.endswith(".conf") or not _is_host(host) or (path and not values.PATH.pattern.match(path)):
        return None
    return Place(host, path)


def reaching(places: Mapping[Place, bytes], place: Place) -> Place | None:
    """Whose directives stand at a place: /api and /api/ are one location to nginx, so either spelling counts for both.

    >>> reaching({Place("www.test", "/api"): b""}, Place("www.test", "/api/"))
    Place(host='www.test', path='/api')
    """
    stem = place.path.rstrip("/")
    spellings = (place, Place(place.host, stem), Place(place.host, f"{stem}/"))
    return next((one for one in spellings if one.path and one in places), None)


def _is_host(text: str) -> bool:
    return len(text) <= values.HOST.longest and values.HOST.pattern.match(text) is not None


def _unfit(text: bytes | None, longest: int) -> str:
    return "" if text is not None and len(text) <= longest else f"it cannot be read, or has more than {longest} octets"
