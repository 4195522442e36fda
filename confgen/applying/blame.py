"""What nginx said, and whose fault it is: its error lines name a file, and every service has files of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

MAX_LINE = 500  # characters of one line of nginx that we pass on
MOST_CRASHES = 4  # workers that end by a signal within one reload; former ones may, when they are told to go
# From the line's start: what clients sent (referrer, user, request) stands further on in lines of lesser levels.
_LINE = re.compile(r"(?:nginx: |\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )\[([a-z]+)\] (?:\d+#\d+: )?(.*)")
_GRAVE = frozenset({"emerg", "alert", "crit"})
_WHERE = re.compile(r" in (\S+?):(\d+)$")
_GENERATION = re.compile(r".*/(?:generations/[^/]+|current)/(.+)$")  # the last: our folder may lie below such a one


class Blame(NamedTuple):
    """Why a configuration was refused.

    Attributes:
        service: whose file nginx named; empty when it named none of a service.
        file: relative to the configuration; empty when nginx named none.
        line: in that file; 0 when unknown.
        message: nginx's own line, shortened, without time and process.
    """

    service: str
    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.service}: {self.message}" if self.service else self.message


def blame(output: str, services: Mapping[str, str]) -> Blame:
    """Find the culprit in what nginx printed.

    Args:
        output: its error output, or the new part of its error log.
        services: file, relative to the configuration -> service.

    >>> blame("nginx: [emerg] no port in /n/generations/0a/services/web.conf:2", {"services/web.conf": "web"})
    Blame(service='web', file='services/web.conf', line=2, message='no port in services/web.conf:2')
    >>> blame("nginx: [emerg] no port in /current/n/current/services/web.conf:2", {"services/web.conf": "web"}).service
    'web'
    """
    messages = [message for level, message in _spoken(output) if level in _GRAVE]
    message = next((one for one in messages if _WHERE.search(one)), None) or _without_file(messages, output)
    where = _WHERE.search(message)
    if where is None:
        return Blame("", "", 0, _shortened(message))
    inside = _GENERATION.search(where.group(1))
    file = inside.group(1) if inside else where.group(1)
    shown = f"{message[: where.start()]} in {file}:{where.group(2)}"
    return Blame(services.get(file, ""), file, int(where.group(2)), _shortened(shown))


def graves(log: str) -> list[str]:
    """The messages of a piece of error log that say a start or a reload failed.

    nginx tries five times to listen before it gives up; until then `bind() to` lines decide nothing. Workers that die
    as soon as they are there leave nobody who accepts: nginx ends the former ones all the same.
    """
    spoken = _spoken(log)
    found = [message for level, message in spoken if level in _GRAVE]
    crashes = [message for message in found if "exited on signal" in message]
    decisive = [message for message in found if "cannot be respawned" in message]
    emergencies = [message for level, message in spoken if level == "emerg"]
    given_up = [message for message in emergencies if not message.startswith(("bind() to", "listen() to"))]
    return given_up + decisive + (crashes if len(crashes) >= MOST_CRASHES else [])


def lines_of(log: str, levels: Collection[str]) -> list[str]:
    """The lines of some levels, whole; a level counts in its own place alone.

    >>> lines_of('2026/11/21 10:01:10 [error] 7#7: *1 no, referrer: "[emerg] 7#7: yes"', ("emerg",))
    []
    """
    return [line for line in _lines(log) if (found := _LINE.match(line)) and found.group(1) in levels]


def _spoken(output: str) -> list[tuple[str, str]]:
    """Level and message of each line that is nginx's own."""
    return [(found.group(1), found.group(2)) for line in _lines(output) if (found := _LINE.match(line))]


def _lines(text: str) -> list[str]:
    """Lines as nginx ends them: other characters that end lines elsewhere may come from clients."""
    return text.split("\n")


def _without_file(messages: list[str], output: str) -> str:
    """The line that says most: which address is taken, rather than that nginx gave up."""
    lines = messages or [line.strip() for line in _lines(output) if line.strip()]
    bind = next((line for line in lines if line.startswith("bind() to")), "")
    hint = "; end who has it, or choose another --http-port or --https-port" if "Address already in use" in bind else ""
    return f"{bind}{hint}" if bind else lines[0] if lines else "nginx said nothing"


def _shortened(text: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return printable if len(printable) <= MAX_LINE else f"{printable[: MAX_LINE - 3]}..."
