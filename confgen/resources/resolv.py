"""What resolv.conf(5) says: whom to ask for a name, and what else a short name may mean.

Pure. As Go's own resolver reads it, which confd asks.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_SERVERS = 3
MOST_DOTS = 15
LONGEST_NAME = 254  # octets, with the last dot
NOBODY = ("127.0.0.1", "::1")  # who is asked when the file names nobody


class Resolv(NamedTuple):
    """How names are looked up.

    Attributes:
        servers: addresses, in the order in which they are asked.
        search: domains that are put behind a name, without dots at their ends.
        ndots: a name with at least so many dots is tried as it is first.
    """

    servers: tuple[str, ...] = NOBODY
    search: tuple[str, ...] = ()
    ndots: int = 1

    def candidates(self, name: str) -> list[str]:
        """The names to ask for, in order, each with its last dot.

        >>> Resolv(search=("a.test",)).candidates("web"), Resolv(search=("a.test",)).candidates("web.b.")
        (['web.a.test.', 'web.'], ['web.b.'])
        """
        if name.endswith("."):
            return [name]
        whole, longer = f"{name}.", [f"{name}.{domain}." for domain in self.search]
        found = [whole, *longer] if name.count(".") >= self.ndots else [*longer, whole]
        return [one for one in found if len(one) <= LONGEST_NAME]


def parse(text: str, hostname: str) -> Resolv:
    """Read a resolv.conf.

    Args:
        text: what is in it.
        hostname: of this host; its domain is searched where the file names none.
    """
    servers: list[str] = []
    search = tuple(filter(None, [hostname.partition(".")[2].strip(".")]))
    ndots = 1
    for line in text.splitlines():
        word, *values = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver":
            servers += values[:1]
        elif word in {"search", "domain"}:
            search = tuple(filter(None, (value.strip(".") for value in values)))
        elif word == "options":
            told = [value.removeprefix("ndots:") for value in values if value.startswith("ndots:")]
            ndots = next((min(int(value), MOST_DOTS) for value in told if value.isdecimal()), ndots)
    return Resolv(tuple(servers[:MOST_SERVERS]) or NOBODY, search, ndots)
