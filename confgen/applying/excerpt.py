"""The excerpt of a configuration that nginx has to read to judge what is new in it. Pure.

Of a thousand services one has changed; the others stand as nginx has read them. In an excerpt are everything common,
the changed services with all their files, and whatever includes or is included by these, with its services: where two
services stand in one host, a file of one is included by the other, and names upstreams that stand in its own.

Services with files of the admin's (directives, pages) are always in it: these may name what lies elsewhere and changes
by itself. Where more than half of all have some, all is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confgen.nginx.render import GENERATION_FILE, Tree, parts_in
from confgen.nginx.shapes import PARTS, SERVICES

STREAMS = "streams/"  # is read as a whole: what is common to all streams names the groups of each
MOST = 0.5  # of all services; where more of them are concerned, there is little to gain


def excerpt(tree: Tree, before: Mapping[str, bytes]) -> Tree | None:
    """What is to be read of a configuration; None: all of it.

    Args:
        tree: what is to be served.
        before: the files of what is served, all of which nginx has read.

    >>> services = {"services/a.conf": "a", "services/b.conf": "b"}
    >>> before = {"nginx.conf": b"", **dict.fromkeys(services, b"")}
    >>> sorted(excerpt(Tree(before | {"services/b.conf": b"#"}, "0a", services), before).files)
    ['nginx.conf', 'services/b.conf']
    """
    changed = {name for name, text in tree.files.items() if before.get(name) != text}
    changed |= before.keys() - tree.files.keys()
    changed.discard(GENERATION_FILE)
    if not all(name.startswith(SERVICES) for name in changed):
        return None
    owned = {name: tree.services[name] for name in tree.services if name in tree.files and not name.startswith(STREAMS)}
    wanted = _closed(
        tree, owned, [name for name in tree.files if name in changed or not name.startswith((SERVICES, PARTS))]
    )
    concerned = {owned[name] for name in wanted if name in owned}
    if not owned or len(concerned) > MOST * len(set(owned.values())):
        return None
    files = {name: text for name, text in tree.files.items() if name in wanted}
    return Tree(files, tree.generation, {name: tree.services[name] for name in files if name in tree.services})


def _closed(tree: Tree, owned: Mapping[str, str], begin: Iterable[str]) -> set[str]:
    """Some files, all others of their services, and all that include or are included by one of them."""
    of_service: dict[str, list[str]] = {}
    linked: dict[str, list[str]] = {}
    for name, service in owned.items():
        of_service.setdefault(service, []).append(name)
        for one in parts_in(tree.files[name]):
            linked.setdefault(name, []).append(one)
            linked.setdefault(one, []).append(name)
    found: set[str] = set()
    ahead = list(begin)
    while ahead:
        name = ahead.pop()
        if name in found or name not in tree.files:
            continue
        found.add(name)
        ahead += (*linked.get(name, ()), *of_service.get(owned.get(name, ""), ()))
    return found
