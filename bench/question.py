"""Questions as dnsperf reads them and as they are sent. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.estate import CONTAINER_PORT, DOMAIN, Estate, service_name

OUTSIDE = "outside.example"
OUTSIDE_NAMES = 1000
TYPES = {"A": 1, "AAAA": 28, "SRV": 33}
MANY = 400_000  # more than are asked in one run, so that no made-up name is asked twice in it


def message(name: str, kind: str) -> bytes:
    """A query with the id 0 that asks for recursion, without EDNS (RFC 1035 §4.1).

    >>> message("a.b", "SRV").hex(" ", -12)
    '000001000001000000000000 01610162000021 0001'
    """
    labels = b"".join(bytes((len(one),)) + one for one in name.encode().split(b"."))
    return bytes.fromhex("0000 0100 0001 0000 0000 0000") + labels + b"\0" + bytes((0, TYPES[kind], 0, 1))


def hits(estate: Estate, chance: random.Random) -> Iterator[str]:
    """Addresses of all services, each once; asked again and again."""
    names = [service_name(number) for number in estate.numbers]
    chance.shuffle(names)
    return (f"{name}.{DOMAIN} A" for name in names)


def misses(_estate: Estate, chance: random.Random) -> Iterator[str]:
    """Names that do not exist, none of them twice."""
    digits = chance.randbytes(8 * MANY).hex()
    return (f"x{digits[at : at + 16]}.{DOMAIN} A" for at in range(0, 16 * MANY, 16))


def mix(estate: Estate, chance: random.Random) -> Iterator[str]:
    """Nine of ten about a service (of nine: six A, an AAAA that is not there, two SRV), one for a name that is not."""
    pool: list[str] = []
    for number in estate.numbers:
        name = f"{service_name(number)}.{DOMAIN}"
        pool += [f"{name} A"] * 6 + [f"{name} AAAA", f"{name} SRV", f"_{CONTAINER_PORT}._tcp.{name} SRV"]
    made_up = misses(estate, chance)
    for number, known in enumerate(chance.choices(pool, k=MANY)):
        yield known if number % 10 else next(made_up)


def ports(estate: Estate, chance: random.Random) -> Iterator[str]:
    """The endpoints of one port of every service (SRV)."""
    numbers = list(estate.numbers)
    chance.shuffle(numbers)
    return (f"_{CONTAINER_PORT}._tcp.{service_name(number)}.{DOMAIN} SRV" for number in numbers)


def elsewhere(_estate: Estate, chance: random.Random) -> Iterator[str]:
    """Addresses of all names that are not ours."""
    numbers = list(range(OUTSIDE_NAMES))
    chance.shuffle(numbers)
    return (f"{outside_name(number)} A" for number in numbers)


def outside_name(number: int) -> str:
    """The n-th name that is not ours."""
    return f"h{number:05}.{OUTSIDE}"
