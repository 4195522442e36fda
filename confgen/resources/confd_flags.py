"""confd's command line -> ours.

Pure. What means something here is spelled as we do; what means nothing to an etcd v3 store is dropped, as confd itself
pays no heed to it; what cannot be done is refused with what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import quoted

_SWITCHES = frozenset({"onetime", "watch", "noop", "sync-only", "keep-stage-file"})
_LEVELS: Mapping[str, str] = MappingProxyType({"verbose": "info", "debug": "debug", "quiet": "error"})
# Flags with a value that say nothing about etcd v3: those of other backends, and the scheme of nodes found by SRV.
_IDLE = frozenset(
    {
        "app-id", "auth-token", "auth-type", "file", "filter", "path", "role-id", "scheme", "secret-id",
        "secret-keyring", "separator", "table", "user-id",
    }
)  # fmt: skip
# User and password count whenever they are given.
_IDLE_SWITCHES = frozenset({"basic-auth"})
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "srv-domain": "name the etcd endpoints: -node URL, once for each",
        "srv-record": "name the etcd endpoints: -node URL, once for each",
        "client-insecure": "etcd's certificate is always checked: name the file of its CA with -client-ca-keys",
    }
)
_UNSAID = MappingProxyType({"client-insecure": "true"})  # what a switch without a value means
_YES, _NO = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})


def spelled(arguments: Sequence[str]) -> list[str]:
    """A command line of confd, or of ours, as ours.

    >>> spelled(["confgen", "-watch=true", "-noop=false", "-scheme", "http", "-verbose", "-prefix=/a"])
    ['confgen', '--watch', '--log-level=info', '-prefix=/a']
    >>> spelled(["confgen", "-node", "http://h:1", "-version"])
    ['--version']

    Raises:
        BadSettings: names every flag that is not taken, with what to do instead.
    """
    found: list[str] = []
    errors: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, given, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            found.append(argument)
        elif name == "version":
            return ["--version"]
        elif name in _SWITCHES | _IDLE_SWITCHES | _LEVELS.keys():
            value = value.lower() if given else "true"
            if value not in _YES | _NO:
                errors.append(f"-{name} is a switch: {quoted(value)} is neither true nor false")
            found += _switch(name, value)
        elif name in _IDLE | _INSTEAD.keys():
            value = value if given else _UNSAID.get(name) or next(left, "")
            if name in _INSTEAD and value.lower() not in _NO | {""}:
                errors.append(f"-{name} is not taken; {_INSTEAD[name]}")
        else:
            found.append(argument)
    if errors:
        raise BadSettings(errors)
    return found


def _switch(name: str, value: str) -> list[str]:
    if name in _IDLE_SWITCHES or value not in _YES:
        return []
    return [f"--log-level={_LEVELS[name]}" if name in _LEVELS else f"--{name}"]
