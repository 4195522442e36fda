"""SkyDNS's own settings, kept in the store at PREFIX/config: what they mean here, and who overrules whom.

Pure. It is one JSON object. A key that nobody knows is named with the nearest that is known, since SkyDNS took `no-rec`
and `ndots` in silence and did nothing; a bad value is named too, and the former one stays. What was set by flag,
environment or file wins: a setting is taken from here only where it has its default.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from dnsserver.settings import NOBODY, DnsSettings
from dnsserver.skydns.record import DEFAULT_PRIORITY
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.settings import Option
from pilotfish.catalog.settings import known as known_settings
from pilotfish.catalog.values import BadValue, quoted

MAX_KEYS = 64
MAX_LISTED = 64  # name servers
_SHOWN = 64  # characters of an unknown key that are compared with the known ones

_OPTIONS: Mapping[str, Option] = {setting.name: setting.option for setting in known_settings(DnsSettings)}
_DEFAULTS: Mapping[str, object] = {setting.name: setting.default for setting in known_settings(DnsSettings)}


class SkydnsConfig(NamedTuple):
    """What it says, in our terms.

    Attributes:
        given: settings of ours by name, as `DnsSettings` has them.
        priority: of records that give none.
    """

    given: Mapping[str, object] = {}
    priority: int = DEFAULT_PRIORITY


NO_CONFIG = SkydnsConfig()


def change_of(difference: Difference, key: str) -> tuple[bool, bytes | None]:
    """Whether a difference touches the key, and what is there now."""
    for entry in difference.puts:
        if entry.key == key:
            return True, entry.value
    return key in difference.deletes, None


class Read(NamedTuple):
    """What was read, and a line for everything in it that does not count."""

    config: SkydnsConfig
    notices: tuple[str, ...] = ()


def read(value: bytes | None, former: SkydnsConfig = NO_CONFIG) -> Read:
    """Read the value at PREFIX/config.

    Args:
        value: what is there; None: the key is gone, and all is as by default.
        former: what counted before: it stays where a value is bad.

    Never raises.
    """
    if value is None:
        return Read(NO_CONFIG)
    try:
        raw = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Read(former, (f"this is no JSON ({error}); all stays as it was",))
    if not isinstance(raw, dict):
        return Read(former, ("this is no JSON object; all stays as it was",))
    given: dict[str, object] = {}
    notices: list[str] = []
    for spelled, said in sorted(raw.items())[:MAX_KEYS]:
        key = spelled.lower()  # as Go reads it
        if key in FIELDS:
            _take(key, said, given, former, notices)
        else:
            notices.append(_unmeant(key))
    if len(raw) > MAX_KEYS:
        notices.append(f"only the first {MAX_KEYS} of {len(raw)} keys were read")
    priority = given.pop("priority", DEFAULT_PRIORITY)
    return Read(SkydnsConfig(given, priority if isinstance(priority, int) else DEFAULT_PRIORITY), tuple(notices))


def _take(key: str, said: object, given: dict[str, object], former: SkydnsConfig, notices: list[str]) -> None:
    field = FIELDS[key]
    if said is None or (not said and field.empty_is_default):
        return
    try:
        meant = field.parse(field, said)
    except BadValue as error:
        before = {**former.given, "priority": former.priority}
        notices.append(f"{key}: {error}; the former value stays")
        if field.setting in before:
            given[field.setting] = before[field.setting]
        return
    if meant is not None:
        given[field.setting] = meant


def _unmeant(key: str) -> str:
    if key in MEANINGLESS:
        return f"{key} means nothing here: {MEANINGLESS[key]}"
    near = difflib.get_close_matches(key[:_SHOWN].replace("-", "_"), [*FIELDS, *MEANINGLESS], 1)
    return f"{quoted(key)} is no setting of SkyDNS" + (f"; is {near[0]} meant?" if near else "")


class Field(NamedTuple):
    """One key: which setting of ours it stands for, and how its value is read.

    Attributes:
        setting: a field of `DnsSettings`, or `priority`.
        parse: raises BadValue; None: it is the default.
        empty_is_default: 0, "" and [] count as not given, as in SkyDNS.
    """

    setting: str
    parse: Callable[[Field, object], object | None]
    empty_is_default: bool = True


def _text(field: Field, said: object) -> object:
    if not isinstance(said, str):
        raise BadValue(f"{_shown(said)} is no text")
    return _OPTIONS[field.setting].parse(said)


def _texts(field: Field, said: object) -> object:
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise BadValue(f"{_shown(said)} is no list of texts")
    if len(said) > MAX_LISTED:
        raise BadValue(f"{len(said)} are too many: {MAX_LISTED} are allowed")
    return tuple(_OPTIONS[field.setting].parse(one) for one in said)


def _only(field: Field, said: object) -> object:
    return (_text(field, said),)  # SkyDNS has one domain


def _whole(field: Field, said: object) -> object:
    if type(said) is not int:
        raise BadValue(f"{_shown(said)} is no whole number")
    return _OPTIONS[field.setting].parse(str(said))


def _priority(_field: Field, said: object) -> object:
    if type(said) is not int or not 0 < said <= 65535:
        raise BadValue(f"{_shown(said)} is no priority from 1 to 65535")
    return said


def _shown(said: object) -> str:
    return quoted(json.dumps(said)) if isinstance(said, str | int | float) else f"a {type(said).__name__}"


def _switch(said: object) -> bool:
    if not isinstance(said, bool):
        raise BadValue(f"{_shown(said)} is neither true nor false")
    return said


def _off(_field: Field, said: object) -> object | None:
    return None if _switch(said) else True


def _nobody(_field: Field, said: object) -> object | None:
    return (NOBODY,) if _switch(said) else None


FIELDS: Mapping[str, Field] = {
    "domain": Field("domain", _only),
    "nameservers": Field("forward", _texts),
    "no_rec": Field("recursion", _nobody, empty_is_default=False),
    "ttl": Field("ttl", _whole),
    "min_ttl": Field("negative_ttl", _whole),
    "priority": Field("priority", _priority),
    "round_robin": Field("fixed_order", _off, empty_is_default=False),
    "ndot": Field("ndots", _whole),
    "ndots": Field("ndots", _whole),  # what its README says; SkyDNS itself reads only `ndot`
    "local": Field("local", _text),
    "hostmaster": Field("hostmaster", _text),
}

_OWN_CACHE = "answers are held in memory anyway; --forward-cache bounds those of others"
MEANINGLESS: Mapping[str, str] = {
    "dns_addr": "--listen says where to answer",
    "systemd": "sockets are opened at --listen",
    "read_timeout": "--forward-timeout says how long other name servers are waited for",
    "ns_rotate": "forwarders are chosen by how well they answer",
    "rcache": _OWN_CACHE,
    "rcache_ttl": _OWN_CACHE,
    "scache": "nothing is signed",
    "dnssec": "nothing is signed",
    "path_prefix": "--skydns-prefix says where records are",
    "etcdversion": "the store is that of --etcd",
    "version": "it is not to be set",
}


class Merged(NamedTuple):
    """Settings with what the store adds.

    Attributes:
        settings: what counts.
        overruled: settings that the store gives too, and that flags, environment or file have set.
    """

    settings: DnsSettings
    overruled: tuple[str, ...]


def merged(settings: DnsSettings, config: SkydnsConfig) -> Merged:
    """The settings with the config's values in the place of defaults."""
    free = {name for name in config.given if getattr(settings, name) == _DEFAULTS[name]}
    added: dict[str, Any] = {name: value for name, value in config.given.items() if name in free}
    return Merged(dataclasses.replace(settings, **added), tuple(sorted(config.given.keys() - free)))
