"""A Compose file -> what the engine would say of its containers, as far as it decides what is registered.

Pure. What cannot be known from the file alone is said: variables without a default, files with environment, services
that are taken from other files. Compose files of the first version (a fig.yml: services at the top) are read too.
Source: the Compose specification; `docker compose config --format json` prints the same shape as JSON.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilotfish.catalog.values import is_ip, quoted
from registrator.rules.container import PREFIX, VIRTUAL
from registrator.rules.naming import to_label

MOST_OF_A_SERVICE = 3  # containers of a scaled service that are looked at: enough to see them collide
MAX_PORTS = 1000  # of one service
MAX_ENTRIES = 50_000  # ports, variables and labels of all containers of a file; aliases make many of a few lines
MAX_CHARACTERS = 4 * 1024 * 1024  # of all that is filled in, likewise
MAX_NESTED = 16  # defaults within defaults
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?:\}|(:?[-+?]))|([A-Za-z_]\w*))")
_BRACE = re.compile(r"\$\$|\$\{|\}")
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9A-Fa-f:.]+\]|[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f:]*::[0-9A-Fa-f:]*):)?"
    r"(?:(?P<host>[0-9]*(?:-[0-9]+)?):)?(?P<port>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[A-Za-z]+))?\Z"
)


class BadCompose(ValueError):
    """A document is no Compose file; the message says what it lacks."""


class Composed(NamedTuple):
    """What a Compose file makes.

    Attributes:
        documents: as the engine answers for each container (ContainerInspect), in the order of the file.
        notes: (container, sentence) of what the file alone does not tell.
        problems: (container, sentence) of what compose itself would refuse.
    """

    documents: list[dict[str, Any]]
    notes: list[tuple[str, str]]
    problems: list[tuple[str, str]]


def compose(document: object, project: str) -> Composed:
    """Read a Compose file.

    Args:
        document: the file, as JSON or as `yaml.parse` gives it.
        project: its name where the file names none: that of its folder.

    Raises:
        BadCompose: it holds no services, or too much.
    """
    if not isinstance(document, Mapping):
        raise BadCompose("no Compose file: a map with `services` is expected")
    services = document.get("services")
    if services is None:  # the first version: services at the top
        services = {name: one for name, one in document.items() if _is_service(one)}
    services = {} if services is None and "include" in document else services
    if not isinstance(services, Mapping) or not (services or "include" in document):
        raise BadCompose("no Compose file: it has no services")
    work = _Work(_text(document.get("name")) or project, services)
    if _listed(document.get("include")):
        work.note("include: the files that it includes are not looked at")
    for name, one in services.items():
        if isinstance(one, Mapping):
            work.service(str(name), one)
        else:
            work.problems.append((str(name), "the service is no map"))
    return Composed(work.documents, list(work.notes), work.problems)


def _is_service(one: object) -> bool:
    return isinstance(one, Mapping) and bool({"image", "build"} & one.keys())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or isinstance(value, list | Mapping) else str(value)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class _Work:
    """One file on its way into documents."""

    def __init__(self, project: str, services: Mapping[str, Any]) -> None:
        self.services = services
        self.entries = self.characters = 0
        self.project = re.sub(r"[^a-z0-9_-]", "", project.lower()).lstrip("_-") or "compose"
        self.documents: list[dict[str, Any]] = []
        self.notes: dict[tuple[str, str], None] = {}
        self.problems: list[tuple[str, str]] = []
        self.current = ""

    def spend(self, entries: int, characters: int = 0) -> None:
        self.entries += entries
        self.characters += characters
        if self.entries > MAX_ENTRIES or self.characters > MAX_CHARACTERS:
            raise BadCompose(
                f"service {quoted(self.current)}: up to it the file has more than {MAX_ENTRIES} ports, variables and "
                f"labels, or {MAX_CHARACTERS} characters in them: check it in parts"
            )

    def note(self, text: str) -> None:
        if (self.current, text) not in self.notes:
            self.spend(1)
            self.notes[self.current, text] = None

    def service(self, name: str, one: Mapping[str, Any]) -> None:
        self.current = name
        if "extends" in one:
            self.note("extends: the service that it extends is not looked at")
        if _listed(one.get("env_file")):
            self.note("env_file: tags in it are not seen")
        labels = {str(key): text for key, text in self.pairs(one.get("labels")).items()}
        labels |= {"com.docker.compose.project": self.project, "com.docker.compose.service": name}
        environment = self.pairs(one.get("environment"))
        self.unseen(one.get("environment"))
        self.swarms(one.get("deploy"), labels)
        ports = self.ports(self.a_list(one, "ports"))
        exposed = self.exposed(self.a_list(one, "expose"))
        names, number = self.names(name, one)
        if number > 1 and one.get("container_name"):
            self.problems.append((name, f"container_name is {quoted(names[0])} for {number} containers"))
        tags = sum(key.startswith(PREFIX) for key in (*labels, *environment))
        looked_at = (len(ports) + len(exposed)) * (1 + tags // 4)  # each tag is read for each port
        self.spend(max(1, len(names)) * (1 + len(labels) + len(environment) + looked_at))
        for container in names:
            self.documents.append(
                {
                    "Id": hashlib.sha256(container.encode()).hexdigest(),
                    "Name": f"/{container}",
                    "Config": {
                        "Image": self.filled(_text(one.get("image"))) or f"{self.project}-{name}",
                        "Env": [f"{key}={text}" for key, text in environment.items()],
                        "Labels": labels,
                        "ExposedPorts": {key: {} for key in (*ports, *exposed)},
                    },
                    "HostConfig": {"NetworkMode": self.mode(one)},
                    "NetworkSettings": {
                        "Ports": {} if self.mode(one) == "host" else dict.fromkeys(exposed) | ports,
                        "Networks": self.networks(one),
                    },
                    "State": {"Running": True},
                }
            )

    def a_list(self, one: Mapping[str, Any], field: str) -> object:
        """What stands in a field that is to be a list; it is read all the same, and what is wrong is said."""
        value = one.get(field)
        if value is not None and not isinstance(value, list):
            self.problems.append((self.current, f"{field}: {quoted(_text(value))} is no list: put `- ` before it"))
        return value

    def swarms(self, deploy: object, own: Mapping[str, str]) -> None:
        """Tags in `deploy.labels` are those of a swarm's service; a container has only what stands in `labels`."""
        labels = self.pairs(deploy.get("labels")) if isinstance(deploy, Mapping) else {}
        for key in labels:
            if key.startswith(PREFIX) and key not in own:
                self.note(f"deploy.labels: {quoted(key)[1:-1]} is read in a swarm only; else it belongs under labels")

    def names(self, name: str, one: Mapping[str, Any]) -> tuple[list[str], int]:
        """Names of the containers of a service that are looked at, and how many it has."""
        deploy = one.get("deploy") if isinstance(one.get("deploy"), Mapping) else {}
        text = self.filled(_text(one.get("scale")) or _text(deploy.get("replicas") if deploy else None))
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1
        if given := self.filled(_text(one.get("container_name"))):
            return [given] if number else [], number
        stem = f"{self.project}-{to_label(name) or 'service'}"
        return [f"{stem}-{each}" for each in range(1, min(number, MOST_OF_A_SERVICE) + 1)], number

    def pairs(self, value: object) -> dict[str, str]:
        """`environment` or `labels`: a map, or a list of KEY=VALUE; a key without a value comes from elsewhere."""
        if isinstance(value, Mapping | list):
            self.spend(len(value), sum(len(str(key)) for key in value if isinstance(key, str)))
        if isinstance(value, Mapping):
            return {str(key): self.filled(_text(text)) for key, text in value.items() if text is not None}
        split = (_text(entry).partition("=") for entry in _listed(value))
        return {key: self.filled(text) for key, equals, text in split if equals}

    def unseen(self, environment: object) -> None:
        """Tags in `environment` without a value, which compose takes from its own environment, are said."""
        if isinstance(environment, Mapping):
            keys = [str(key) for key, text in environment.items() if text is None]
        else:
            keys = [text for text in map(_text, _listed(environment)) if "=" not in text]
        for key in keys:
            if key.startswith(PREFIX) or key in VIRTUAL:
                self.note(f"{quoted(key)[1:-1]}: its value comes from the shell, and is not seen")

    def filled(self, text: str, depth: int = 0) -> str:
        """Text with its variables: their defaults; what has none is empty, and that is said."""
        self.spend(0, len(text))
        closing, found, at = _closing(text), [], 0
        while hit := _VARIABLE.search(text, at):
            found.append(text[at : hit.start()])
            at, name, how = hit.end(), hit[2] or hit[4], hit[3] or ""
            end = closing.get(hit.start(), -1) if how else at
            if end < 0:  # not closed: no variable
                found.append(hit[0])
            elif hit[1]:
                found.append("$")
            elif how.endswith("-") and depth < MAX_NESTED:
                found.append(self.filled(text[at:end], depth + 1))
            elif not how.endswith("+"):
                self.note(f"${{{name}}} is not known here and taken for empty")
            at = end + 1 if how and end >= 0 else at
        return "".join([*found, text[at:]])

    def ports(self, value: object) -> dict[str, list[dict[str, str]]]:
        """Published ports, as NetworkSettings.Ports has them; a host port that the engine would choose is the same."""
        found: dict[str, list[dict[str, str]]] = {}
        number = 0
        for entry in _listed(value):
            made = self.long(entry) if isinstance(entry, Mapping) else self.short(_text(entry))
            number += len(made)
            if self.too_many(number):
                break
            for key, binding in made:
                found.setdefault(key, []).append(binding)
        return found

    def too_many(self, ports: int) -> bool:
        """True, and said, for more ports than one service may have."""
        self.spend(1)
        if ports > MAX_PORTS:
            text = f"more than {MAX_PORTS} ports: those from there on are not looked at"
            self.problems.append((self.current, text))
        return ports > MAX_PORTS

    def long(self, entry: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
        fields = {key: self.filled(_text(entry.get(key))) for key in ("target", "published", "protocol", "host_ip")}
        if not fields["target"]:
            self.problems.append((self.current, "ports: an entry without target: name the port of the container by it"))
            return []
        published = f"{fields['published']}:" if fields["published"] else ""
        made = self.short(f"{published}{fields['target']}/{fields['protocol'] or 'tcp'}")
        ip = fields["host_ip"] if is_ip(fields["host_ip"]) else ""
        return [(key, {**binding, "HostIp": ip}) for key, binding in made]

    def short(self, text: str) -> list[tuple[str, dict[str, str]]]:
        text = self.filled(text)
        found = _PORT.match(text)
        ports = _range(found["port"]) if found else range(0)
        ip = (found["ip"] or "").strip("[]") if found else ""
        if not found or not ports or (ip and not is_ip(ip)):
            self.problems.append((self.current, f"ports: {quoted(text)} is none"))
            return []
        if len(ports) > MAX_PORTS:
            self.problems.append(
                (self.current, f"ports: {quoted(text)} are {len(ports)}, at most {MAX_PORTS} are looked at")
            )
            return []
        hosts = _range(found["host"] or "") or ports
        protocol = (found["protocol"] or "tcp").lower()  # the engine takes UDP for udp
        chosen = hosts if len(hosts) == len(ports) else [hosts[0]] * len(ports)  # of a range the engine takes one
        return [
            (f"{port}/{protocol}", {"HostIp": ip, "HostPort": str(host)})
            for port, host in zip(ports, chosen, strict=True)
        ]

    def exposed(self, value: object) -> list[str]:
        """Ports of `expose`, each once."""
        found: dict[str, None] = {}
        for entry in _listed(value):
            found |= dict.fromkeys(key for key, _ in self.short(_text(entry)))
            if self.too_many(len(found)):
                break
        return list(found)[:MAX_PORTS]

    def mode(self, one: Mapping[str, Any]) -> str:
        """HostConfig.NetworkMode: of another service it is that one's first container."""
        mode = self.filled(_text(one.get("network_mode") or one.get("net")))
        kind, _, name = mode.partition(":")
        if kind == "service":
            of = self.services.get(name)
            names, _ = self.names(name, of) if isinstance(of, Mapping) else ([], 0)
            container = names[0] if names else f"{self.project}-{to_label(name)}-1"
            return "container:" + hashlib.sha256(container.encode()).hexdigest()
        return mode or next(iter(self.networks(one)), "default")

    def networks(self, one: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        if one.get("network_mode") or one.get("net"):
            return {}
        given = one.get("networks")
        names = [str(name) for name in given] if isinstance(given, list | Mapping) and given else ["default"]
        self.spend(len(names), sum(map(len, names)))
        # Addresses of RFC 5737, which nobody has: that there is one counts, not which.
        return {
            f"{self.project}_{name}": {"IPAddress": f"198.51.100.{min(number, 250)}"}
            for number, name in enumerate(names, 2)
        }


def _closing(text: str) -> dict[int, int]:
    """Where each `${` stands -> where its brace is closed; those that are not closed are missing."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for hit in _BRACE.finditer(text):
        if hit[0] == "${":
            opened.append(hit.start())
        elif hit[0] == "}" and opened:
            found[opened.pop()] = hit.start()
    return found


def _range(text: str) -> range:
    """`80` or `8000-8003`; empty for what is no range of ports."""
    low, dash, high = text.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()) or len(low) > 5 or len(high) > 5:
        return range(0)
    first, last = int(low), int(high or low)
    return range(first, last + 1) if 1 <= first <= last <= 65535 else range(0)
