"""How the values of settings are spelled: text -> value, BadValue where it is none."""

from __future__ import annotations

from collections.abc import Callable

from pilotfish.catalog import values
from pilotfish.catalog.values import BadValue, quoted


def choice(*allowed: str) -> Callable[[str], str]:
    """Parser of a word out of a few."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise BadValue(f"{quoted(text)} is none of {', '.join(allowed)}")
        return text

    return parse


def whole(noun: str, lowest: int, highest: int) -> Callable[[str], int]:
    """Parser of a whole number within bounds."""
    return lambda text: values.parse_integer(noun, text, lowest, highest)


def time_between(lowest_s: float, highest_s: float) -> Callable[[str], float]:
    """A parser of durations within bounds, both included."""

    def parse(text: str) -> float:
        found = values.parse_duration(text.strip())
        if not lowest_s <= found <= highest_s:
            raise BadValue(f"{quoted(text)} is out of bounds: from {lowest_s:g} s to {highest_s:g} s")
        return found

    return parse


# What is done again and again, or has to end: never without a pause, or before it began.
period = time_between(0.1, 86400.0)


def address_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:9700`, `[::1]:9700` or `:9700` (loopback): a socket to listen on.

    >>> address_and_port("[::1]:53")
    ('::1', 53)
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not values.is_ip(host):
        raise BadValue(f"{quoted(text)} is no address and port: 127.0.0.1:53 or [::1]:53")
    return values.parse_ip(host), values.parse_integer("port", port, 0, 65535)


def log_level(text: str) -> str:
    """A level, in capitals or not; also the names that confd has for some, of which the empty one is its default.

    >>> log_level("WARN"), log_level("")
    ('warning', 'info')
    """
    level = {"": "info", "warn": "warning", "fatal": "error", "panic": "error"}.get(text.lower(), text.lower())
    return choice("debug", "info", "warning", "error")(level)


def etcd_url(text: str) -> str:
    """One etcd endpoint: `http://h:2379`, `https://h:2379` or `h:2379`, as one URL without a path."""
    scheme, found, rest = text.partition("://")
    scheme, rest = (scheme, rest) if found else ("http", text)
    host, colon, port = rest.rstrip("/").rpartition(":")
    if scheme not in {"http", "https"} or not colon or not host or "/" in host or "@" in host:
        raise BadValue(f"{quoted(text)} is no etcd endpoint: http://HOST:2379 or https://HOST:2379")
    return f"{scheme}://{host}:{values.parse_port(port)}"


def domain(text: str) -> str:
    """A domain that we are authoritative for: lower case, without its last dot."""
    host = values.parse_host(text)
    if host.startswith("*"):
        raise BadValue(f"{quoted(text)} is no domain")
    return host


def skydns_prefix(text: str) -> str:
    """The prefix of SkyDNS keys: `/skydns`."""
    stripped = "/" + text.strip("/")
    if not all(values.NODE.pattern.match(part) for part in stripped[1:].split("/")):
        raise BadValue(f"{quoted(text)} is no key prefix such as /skydns")
    return stripped
