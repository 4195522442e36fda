"""`pilotfish shift`: how the versions of a service are to share the load. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilotfish.catalog.record import Shift
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import quoted
from pilotfish.catalog.verdict import judge, situation
from pilotfish.catalog.wishes import Wishes
from pilotfish.operate import NotMeant, Refused, listed


def service(registry: Registry, text: str) -> str:
    """The service that an operator means, in lower case: one that is registered, or that a shift is about.

    Raises:
        NotMeant: there is none; the message lists those that are.
    """
    name = text.removeprefix("service:").lower()
    if registry.service(name) or name in registry.wishes.shifts:
        return name
    raise NotMeant(f"{quoted(text)} is no service that is registered; there is {listed(registry.services())}")


def percents(words: Sequence[str]) -> dict[str, int]:
    """`VERSION=PERCENT ...` -> version -> percent; an empty version is that of endpoints without a VERSION tag.

    Raises:
        BadSettings: listing every word that is wrong.

    >>> percents(["v2=10", "v1=90"])
    {'v2': 10, 'v1': 90}
    """
    found: dict[str, int] = {}
    errors = []
    for word in words:
        version, equals, number = word.rpartition("=")
        number = number.removesuffix("%")
        if not equals or not (number.isascii() and number.isdigit() and len(number) < 4 and int(number) <= 100):
            errors.append(f"{quoted(word)} is no share: VERSION=PERCENT, from 0 to 100")
        elif version in found:
            errors.append(f"{quoted(word)}: version {quoted(version)} is given twice")
        else:
            found[version] = int(number)
    if sum(found.values()) > 100:
        errors.append(f"the shares are {sum(found.values())} percent together: 100 at most")
    if not words:
        errors.append("give VERSION=PERCENT, once or more often, or --clear")
    if errors:
        raise BadSettings(errors)
    return found


def refuse_emptying(registry: Registry, name: str, asked: Mapping[str, int]) -> None:
    """A share goes to a version that can take it, and something is left of the service.

    Raises:
        NotMeant: a version has a share and no endpoint.
        Refused: nobody would be served, be it now or when what is drained or shifted today is brought back.
    """
    versions = sorted({placed.endpoint.version for placed in registry.service(name)})
    unknown = [version for version, percent in asked.items() if percent and version not in versions]
    if unknown:
        shown = listed([quoted(version) for version in versions])
        raise NotMeant(f"{name} has no endpoint of version {listed([quoted(one) for one in unknown])}; it has {shown}")
    # What is drained, failing or shifted to 0 today comes back some day: not to shares that leave nobody.
    rest = 100 - sum(asked.values())
    shared = any(asked.get(version, rest) > 0 for version in versions)
    if not shared or _empties(registry, name, asked, registry.wishes) or _empties(registry, name, asked, Wishes()):
        raise Refused(
            f"{name} is not shifted: no endpoint that is served has a share; give one, or insist with --force"
        )


def _empties(registry: Registry, name: str, asked: Mapping[str, int], wishes: Wishes) -> bool:
    """True when a service is served under some wishes, and would not be with other shares."""
    return any(_served(registry, name, wishes).values()) and not any(
        _served(registry, name, _with_shares(wishes, name, asked)).values()
    )


def _with_shares(wishes: Wishes, name: str, asked: Mapping[str, int]) -> Wishes:
    made = Wishes()
    made.drains, made.shifts = wishes.drains, {name: Shift(since=0.0, percents=dict(asked))}
    return made


def served_with(registry: Registry, name: str, asked: Mapping[str, int]) -> dict[str, int]:
    """Version -> weights of its endpoints together, as they would be with a shift."""
    return _served(registry, name, _with_shares(registry.wishes, name, asked))


def _served(registry: Registry, name: str, wishes: Wishes) -> dict[str, int]:
    members = [(placed.container, placed.endpoint) for placed in registry.service(name)]
    around = situation(members, name, wishes)
    found: dict[str, int] = {}
    for container, endpoint in members:
        weight = judge(container, endpoint, around).weight
        found[endpoint.version] = found.get(endpoint.version, 0) + weight
    return found


def described(served: Mapping[str, int]) -> str:
    """What share each version has, in words: `v1 90 %, v2 10 %`."""
    whole = sum(served.values())
    return ", ".join(
        f"{version or 'no version'} {100 * weight / whole:.3g} %" for version, weight in sorted(served.items()) if whole
    )
