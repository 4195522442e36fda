"""registrator 7.4 as a model: what it makes of a container, its faults kept. Written from its sources, bridge and util.

Only what decides about a service is here: metadata, ports, addresses, names, ids, tags. Maps that Go walks in random
order are walked in the order of the document. The tests compare it with what we make of the same document.
"""

import posixpath
import re
from typing import NamedTuple


class Service(NamedTuple):
    """A service as the original hands it to its backends."""

    name: str
    id: str
    ip: str
    port: int
    tags: tuple
    attrs: dict


class Flags(NamedTuple):
    """The original's flags that decide about services, and what its host gives it.

    Attributes:
        hostname: of the registrator's process.
        resolved: what that name resolves to; empty: to nothing.
    """

    ip: str = ""
    internal: bool = False
    explicit: bool = False
    use_ip_from_label: str = ""
    tags: str = ""
    hostname: str = "h"
    resolved: str = "192.168.0.1"


class Port(NamedTuple):
    host_port: str
    host_ip: str
    exposed_port: str
    exposed_ip: str
    protocol: str


def services(document, flags, inspect=lambda _: None):
    """Port key such as "80/tcp" -> the service made of it; ports that make none are left out.

    Args:
        document: what the engine's inspect answers.
        flags: of the registrator.
        inspect: id or name -> document of another container, or None.
    """
    ports = candidates(document, internal=flags.internal)
    made = {key: new_service(document, port, flags, is_group=len(ports) > 1, inspect=inspect)
            for key, port in ports.items()}  # fmt: skip
    return {key: service for key, service in made.items() if service}


def candidates(document, *, internal):
    """Ports that are registrable: of the configuration as if published, then overwritten by what runs."""
    exposed = document["Config"].get("ExposedPorts") or {}
    ports = {key: service_port(document, key, [{"HostIp": "0.0.0.0", "HostPort": key.split("/")[0]}])
             for key in exposed}  # fmt: skip
    for key, published in (document["NetworkSettings"].get("Ports") or {}).items():
        ports[key] = service_port(document, key, published or [])
    return {key: port for key, port in ports.items() if internal or port.host_port}


def service_port(document, key, published):
    host_port = published[0]["HostPort"] if published else ""
    host_ip = (published[0]["HostIp"] if published else "") or "0.0.0.0"
    networks = document["NetworkSettings"].get("Networks") or {}
    mode = document["HostConfig"]["NetworkMode"]
    if mode not in {"bridge", "default", "host"}:
        host_ip = networks.get(mode, {}).get("IPAddress", "")
    exposed_ip = document["NetworkSettings"].get("IPAddress", "")
    if not exposed_ip:
        for network in networks.values():
            exposed_ip = network["IPAddress"]
    number, _, protocol = key.partition("/")
    return Port(host_port, host_ip, number, exposed_ip, protocol or "tcp")


def new_service(document, port, flags, *, is_group, inspect):
    config = document["Config"]
    default_name = (posixpath.basename(config["Image"].rstrip("/")) or ".").split(":")[0]
    host_ip = port.host_ip
    if host_ip == "0.0.0.0" and flags.resolved:
        host_ip = flags.resolved
    host_ip = flags.ip or host_ip
    metadata, from_port = service_metadata(config, port.exposed_port)
    if metadata.get("ignore"):
        return None
    name = metadata.get("name", "")
    if not name and flags.explicit:
        return None
    name = name or default_name
    if is_group and "name" not in from_port:
        name += f"-{port.exposed_port}"
    udp = port.protocol == "udp"
    ip = port.exposed_ip if flags.internal else host_ip
    number = int((port.exposed_port if flags.internal else port.host_port) or 0)
    ip = ip_from_label(config, flags) or ip
    other = inspect(document["HostConfig"]["NetworkMode"].removeprefix("container:"))
    if document["HostConfig"]["NetworkMode"].startswith("container:") and other:
        ip = other["NetworkSettings"].get("IPAddress", "")
    given_id = f"{flags.hostname}:{document['Name'][1:]}:{port.exposed_port}{':udp' if udp else ''}"
    tags = [*escaped_commas(metadata.get("tags", "")), *escaped_commas(flags.tags), *(["udp"] if udp else [])]
    attrs = {key: value for key, value in metadata.items() if key not in {"id", "tags", "name"}}
    return Service(name, metadata.get("id") or given_id, ip, number, tuple(tags), attrs)


def ip_from_label(config, flags):
    text = (config.get("Labels") or {}).get(flags.use_ip_from_label, "") if flags.use_ip_from_label else ""
    return text.rpartition("/")[0] if "/" in text else text


def service_metadata(config, port):
    """Metadata of one port, and which of its keys name the port."""
    listed = [*(config.get("Env") or []), *(f"{key}={value}" for key, value in (config.get("Labels") or {}).items())]
    metadata, from_port = {}, set()
    for text in listed:
        name, equals, value = text.partition("=")
        if not (name.startswith("SERVICE_") and equals):
            continue
        key = name.removeprefix("SERVICE_").lower()
        if key in from_port:
            continue
        first, more, rest = key.partition("_")
        if more and re.fullmatch(r"[+-]?[0-9]+", first):
            if first == port:
                metadata[rest] = value
                from_port.add(rest)
        else:
            metadata[key] = value
    return metadata, from_port


def escaped_commas(text):
    """Its recParseEscapedComma: a list in reverse order."""
    if not text:
        return []
    if text[0] == ",":
        return escaped_commas(text[1:])
    offset = 0
    while text[offset:]:
        index = text[offset:].find(",")
        if index == -1:
            break
        if text[offset + index - 1 : offset + index] != "\\":
            return [*escaped_commas(text[offset + index + 1 :]), text[: offset + index]]
        text = text[: offset + index - 1] + text[offset + index :]
        offset += index
    return [text]
