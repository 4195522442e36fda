"""The Docker engine's `dns` for its containers (dockerd(8), daemon.json): our servers and nobody else.

Whatever is in it already stays: only `dns` and, if asked for, `dns-search` are set. The engine reads them when it
starts, and gives them to a container when that starts.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from pilotfish.resolver.facts import Facts, Server, Wishes
from pilotfish.resolver.plan import (
    Command,
    Kind,
    Proposal,
    Refused,
    must_forward,
    restart,
    usable,
    write,
)
from pilotfish.resolver.state import File, State

DEFAULT = "/etc/docker/daemon.json"
DNS_PORT = 53
VALIDATES_SINCE = 23  # dockerd --validate


class BadDaemonJson(ValueError):
    """The engine's settings cannot be read, so nothing can be added to them."""


def settings_file(facts: Facts) -> str:
    """The file that the running engine was started with."""
    return next(iter(_flag(facts, "--config-file")), DEFAULT)


def _flag(facts: Facts, name: str) -> list[str]:
    process = facts.process("dockerd")
    argv = process.argv if process else ()
    found = [word.partition("=")[2] for word in argv if word.startswith(f"{name}=")]
    return found + [after for word, after in itertools.pairwise(argv) if word == name]


def parsed(text: str) -> dict[str, Any]:
    """The engine's settings.

    Raises:
        BadDaemonJson: no JSON object, or one that names a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise BadDaemonJson("a key is there twice")
        return dict(pairs)

    try:
        found = json.loads(text or "{}", object_pairs_hook=once) if text.strip() else {}
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadDaemonJson(str(error)) from error
    if not isinstance(found, dict):
        raise BadDaemonJson("it is no JSON object")
    return found


def merged(text: str, servers: Sequence[str], search: Sequence[str] = ()) -> str:
    r"""The settings with our servers, everything else as it is and indented as it was.

    Raises:
        BadDaemonJson: see `parsed`.

    >>> print(merged('{\n    "live-restore": true\n}\n', ["10.0.0.1"]), end="")
    {
        "live-restore": true,
        "dns": [
            "10.0.0.1"
        ]
    }
    """
    found = parsed(text)
    found["dns"] = list(servers)
    if search:
        before = found.get("dns-search")
        kept = [one for one in before if isinstance(one, str)] if isinstance(before, list) else []
        found["dns-search"] = list(dict.fromkeys([*kept, *search]))
    indent = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return json.dumps(found, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _fits(server: Server) -> str:
    if server.is_loopback:
        return (
            "a container's loopback is its own: have our server listen at an address of this host too,"
            " and name it with --server"
        )
    if ipaddress.ip_address(server.ip).is_unspecified:
        return "this is no address to ask"
    if server.port != DNS_PORT:
        return f"port {server.port}, but the engine's dns has no ports: have our server listen at port {DNS_PORT}"
    return ""


def _propose(facts: Facts, wishes: Wishes) -> Proposal:
    path = settings_file(facts)
    if flags := _flag(facts, "--dns"):
        raise Refused(
            f"dockerd was started with --dns {' '.join(flags)}, and does not start with both that and dns in {path}:"
            " take the flag away first"
        )
    servers = usable(wishes, _fits)
    must_forward(servers, "the containers")
    text = facts.text(path)
    try:
        before = parsed(text)
        after = merged(text, [server.ip for server in servers], _search(facts, wishes, before))
    except BadDaemonJson as error:
        raise Refused(f"{path}: {error}; mend it first") from error
    command = _reload(facts, wishes)
    live_restore = before.get("live-restore") is True
    return Proposal(
        NAME,
        servers,
        write(facts, path, after),
        checks=_checks(facts, path),
        reload=command,
        needs_outside=True,
        later="" if command or not facts.process("dockerd") else _later(facts, live_restore=live_restore),
        notes=tuple(_notes(before, servers, facts, restarts=command is not None and not live_restore)),
    )


def _search(facts: Facts, wishes: Wishes, before: dict[str, Any]) -> list[str]:
    """With `dns-search` containers no longer get the host's list: it is put in front."""
    if not wishes.search:
        return []
    words = (line.split() for line in facts.text("/etc/resolv.conf").splitlines())
    lists = [word[1:] for word in words if word[:1] in (["search"], ["domain"])]
    host = lists[-1] if lists and "dns-search" not in before else []
    return [*(one for one in host if one != "."), *wishes.domains]


def _checks(facts: Facts, path: str) -> tuple[Command, ...]:
    if facts.versions.get("docker", 0) < VALIDATES_SINCE:
        return ()
    return (Command(("dockerd", "--validate", f"--config-file={path}"), "have the engine check its settings"),)


def _later(facts: Facts, *, live_restore: bool) -> str:
    how = "systemctl restart docker" if facts.systemd else "restart the Docker engine"
    what = "containers go on running (live-restore)" if live_restore else "its containers stop and start"
    return f"{how}: it reads dns only when it starts; {what}, and each takes its name servers when it starts"


def _notes(before: dict[str, Any], servers: Sequence[Server], facts: Facts, *, restarts: bool) -> list[str]:
    old = before.get("dns")
    ours = {server.ip for server in servers}
    others = [one for one in old if isinstance(one, str) and one not in ours] if isinstance(old, list) else []
    notes = []
    if others:
        notes.append(
            f"dns {', '.join(others)} is asked no more: a second name server would say that our names do not exist"
        )
    if restarts:
        notes.append("restarting the engine stops the containers that run (live-restore is not set)")
    rootless = [word for word in _flag(facts, "--data-root") if "/.local/" in word]
    if rootless:
        notes.append("this engine runs rootless: its containers reach only addresses that its network lets through")
    return notes


def _reload(facts: Facts, wishes: Wishes) -> Command | None:
    if not facts.process("dockerd") or not (wishes.restart_docker or NAME in wishes.reload_with):
        return None
    return restart(facts, wishes, NAME, "docker")


def _is_used(facts: Facts) -> bool:
    return facts.process("dockerd") is not None if facts.live else facts.exists(DEFAULT)


def _is_ours(state: State, servers: Sequence[str]) -> bool:
    """daemon.json has no comments; our addresses in `dns` are the only mark."""
    if not isinstance(state, File):
        return False
    try:
        found = parsed(state.data.decode("utf-8", "surrogateescape")).get("dns")
    except BadDaemonJson:
        return True  # somebody is at work on it
    ips = {server.rpartition(":")[0].strip("[]") for server in servers}
    return isinstance(found, list) and any(one in ips for one in found if isinstance(one, str))


NAME = "docker"
KIND = Kind(NAME, _is_used, _propose, _reload, _is_ours)
