"""What a Docker engine says of a container: `GET /containers/{id}/json` and the lists and events made from it.

`container` builds the document of a running container; `shown` derives what is said of it in another state; `summary`
its row in `GET /containers/json`. Pure. Shapes were taken from an engine 20.10.24 (API 1.41): see `captures/`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]
Binding = int | str | None  # 8080, "127.0.0.1:8080", "[::1]:8080"; None: exposed, not published

NEVER = "0001-01-01T00:00:00Z"
CREATED = "2026-01-01T12:00:00.123456789Z"
_NO_ADDRESS: Document = {
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}
_NOT_RUNNING: Document = {"Running": False, "Paused": False, "Restarting": False, "Pid": 0}


def hex_id(*parts: object) -> str:
    """A 64-digit id such as engines give, always the same for the same parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def container(
    name: str = "web_1",
    *,
    image: str = "web:1",
    env: Mapping[str, str] | Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    ports: Mapping[int | str, Binding | Sequence[Binding]] | None = None,
    networks: Mapping[str, str | tuple[str, str]] | None = None,
    network_mode: str = "default",
    health: str | None = None,
    stop_signal: str | None = None,
    stop_timeout: int | None = None,
    started_at: str = CREATED,
    container_id: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Document:
    """Build the inspect document of a running container.

    Args:
        name: without the leading slash.
        image: as given to `docker run`.
        env: by name, or "NAME=value" in order.
        labels: by name.
        ports: container port ("80/tcp", or 80 for tcp) -> where it is published: 8080 (on all addresses, IPv4 and
            IPv6), "127.0.0.1:8080", several in a list, or None for an exposed port that is not published.
        networks: name -> IPv4 address, or (IPv4, IPv6). By default one, that fits the mode.
        network_mode: "default", "bridge", "host", "none", "container:ID" or a network's name.
        health: status of a HEALTHCHECK ("starting", "healthy", "unhealthy"); None: the image has none.
        stop_signal: such as "SIGQUIT".
        stop_timeout: seconds.
        started_at: as the engine writes times.
        container_id: 64 hexadecimal digits; by default made from the name.
        more: top-level fields to replace.
    """
    own_id = container_id or hex_id("container", name)
    published = {_port(port): _bindings(where) for port, where in (ports or {}).items()}
    if networks is None:
        networks = _default_networks(network_mode, own_id)
    document: Document = _frame(own_id) | {
        "Name": "/" + name,
        "Image": "sha256:" + hex_id("image", image),
        "State": _state(started_at, health),
        "HostConfig": _host_config(network_mode, published),
        "Config": _config(own_id, image, env, labels, published) | _how_it_stops(health, stop_signal, stop_timeout),
        "NetworkSettings": _network_settings(own_id, network_mode, published, networks),
    }
    return document | dict(more or {})


def _frame(own_id: str) -> Document:
    """What is said of every container."""
    folder = f"/var/lib/docker/containers/{own_id}"
    return {
        "Id": own_id,
        "Created": CREATED,
        "Path": "/bin/server",
        "Args": [],
        "ResolvConfPath": f"{folder}/resolv.conf",
        "HostnamePath": f"{folder}/hostname",
        "HostsPath": f"{folder}/hosts",
        "LogPath": f"{folder}/{own_id}-json.log",
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "Mounts": [],
    }


def _port(port: int | str) -> str:
    text = str(port)
    return text if "/" in text else f"{text}/tcp"


def _bindings(where: Binding | Sequence[Binding]) -> list[Document] | None:
    items = where if isinstance(where, Sequence) and not isinstance(where, str) else [where]
    found = list(itertools.chain.from_iterable(_binding(item) for item in items if item is not None))
    return found or None


def _binding(where: int | str) -> list[Document]:
    address, _, port = str(where).rpartition(":")
    if address:
        return [{"HostIp": address.strip("[]"), "HostPort": port}]
    return [{"HostIp": "0.0.0.0", "HostPort": port}, {"HostIp": "::", "HostPort": port}]


def _default_networks(mode: str, own_id: str) -> dict[str, str]:
    if mode.startswith("container:"):
        return {}
    if mode in {"host", "none"}:
        return {mode: ""}
    name = "bridge" if mode == "default" else mode
    subnet = 17 if name == "bridge" else 18
    host = 2 + int(own_id[:6], 16) % 60_000
    return {name: str(ipaddress.ip_address(f"172.{subnet}.0.0") + host)}


def _state(started_at: str, health: str | None) -> Document:
    state: Document = {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4321,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": started_at,
        "FinishedAt": NEVER,
    }
    if health is not None:
        state["Health"] = {"Status": health, "FailingStreak": 0, "Log": []}
    return state


def _host_config(mode: str, published: Mapping[str, list[Document] | None]) -> Document:
    asked = {port: _asked(found) for port, found in published.items() if found}
    return {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": mode,
        "PortBindings": asked,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "Links": None,
        "Privileged": False,
        "PublishAllPorts": False,
        "Runtime": "runc",
    }


def _asked(found: Sequence[Document]) -> list[Document]:
    """What `docker run -p` was given: no address where the engine then bound both 0.0.0.0 and ::."""
    return [
        {"HostIp": "" if item["HostIp"] == "0.0.0.0" else item["HostIp"], "HostPort": item["HostPort"]}
        for item in found
        if item["HostIp"] != "::"
    ]


def _config(
    own_id: str,
    image: str,
    env: Mapping[str, str] | Sequence[str],
    labels: Mapping[str, str] | None,
    published: Mapping[str, object],
) -> Document:
    entries = [f"{key}={value}" for key, value in env.items()] if isinstance(env, Mapping) else list(env)
    config: Document = {
        "Hostname": own_id[:12],
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": {port: {} for port in published},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": entries or None,
        "Cmd": ["/bin/server"],
        "Image": image,
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": dict(labels or {}),
    }
    if not published:
        del config["ExposedPorts"]
    return config


def _how_it_stops(health: str | None, stop_signal: str | None, stop_timeout: int | None) -> Document:
    """What Config has only when the image or `docker run` said so."""
    check = None if health is None else {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 1}
    asked = {"Healthcheck": check, "StopSignal": stop_signal, "StopTimeout": stop_timeout}
    return {key: value for key, value in asked.items() if value is not None}


def _network_settings(
    own_id: str,
    mode: str,
    published: Mapping[str, list[Document] | None],
    networks: Mapping[str, str | tuple[str, str]],
) -> Document:
    found = {name: network(own_id, name, address) for name, address in networks.items()}
    joined = mode.startswith("container:")
    bridge = found.get("bridge", {})
    return {
        "Bridge": "",
        "SandboxID": "" if joined else hex_id("sandbox", own_id),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        # A host or joined container has no port map of its own, whatever it exposes.
        "Ports": {} if joined or mode in {"host", "none"} else dict(published),
        "SandboxKey": "" if joined else f"/var/run/docker/netns/{own_id[:12]}",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{field: bridge.get(field, empty) for field, empty in _NO_ADDRESS.items()},
        "Networks": found,
    }


def network(own_id: str, name: str, address: str | tuple[str, str]) -> Document:
    """One entry of NetworkSettings.Networks of a running container.

    Args:
        own_id: the container's id.
        name: the network's name.
        address: IPv4, or (IPv4, IPv6); "" for none, as on the networks host and none.
    """
    v4, v6 = (address, "") if isinstance(address, str) else address
    last = (f"02:42:{':'.join(f'{octet:02x}' for octet in ipaddress.ip_address(v4).packed)}") if v4 else ""
    user_made = name not in {"bridge", "host", "none"}
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": [own_id[:12]] if user_made else None,
        "NetworkID": hex_id("network", name),
        "EndpointID": hex_id("endpoint", own_id, name),
        "Gateway": v4.rpartition(".")[0] + ".1" if v4 else "",
        "IPAddress": v4,
        "IPPrefixLen": 16 if v4 else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": v6,
        "GlobalIPv6PrefixLen": 64 if v6 else 0,
        "MacAddress": last,
        "DriverOpts": None,
    }


def shown(document: Document) -> Document:
    """What an engine answers: the document, without addresses and port map when the container does not run.

    It shares with the document what it does not change: it is to be written out, not to be kept.
    """
    if document["State"]["Running"]:
        return document
    settings = document["NetworkSettings"]
    networks = {name: {**entry, **_NO_ADDRESS} for name, entry in settings["Networks"].items()}
    return {**document, "NetworkSettings": {**settings, **_NO_ADDRESS, "Ports": {}, "Networks": networks}}


def exited(document: Document, *, code: int, at: str) -> None:
    """Change a document in place: its process has ended."""
    document["State"].update(_NOT_RUNNING, Status="exited", ExitCode=code, FinishedAt=at)
    if "Health" in document["State"]:
        document["State"]["Health"]["Status"] = "unhealthy"


def started(document: Document, *, at: str) -> None:
    """Change a document in place: its process runs."""
    state = document["State"]
    state.update(Status="running", Running=True, Paused=False, Pid=4321, ExitCode=0, StartedAt=at)
    if "Health" in state:
        state["Health"] = {"Status": "starting", "FailingStreak": 0, "Log": []}


def summary(document: Document) -> Document:
    """The row of `GET /containers/json`."""
    answer = shown(document)
    settings, config = answer["NetworkSettings"], answer["Config"]
    return {
        "Id": answer["Id"],
        "Names": [answer["Name"]],
        "Image": config["Image"],
        "ImageID": answer["Image"],
        "Command": " ".join(config["Cmd"] or []),
        "Created": 1767268800,
        "Ports": [row for port, found in settings["Ports"].items() for row in _summary_ports(port, found)],
        "Labels": config["Labels"],
        "State": answer["State"]["Status"],
        "Status": "Up 2 seconds" if answer["State"]["Running"] else "Exited (0) 2 seconds ago",
        "HostConfig": {"NetworkMode": answer["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": [],
    }


def _summary_ports(port: str, found: Sequence[Document] | None) -> list[Document]:
    number, _, protocol = port.partition("/")
    plain = {"PrivatePort": int(number), "Type": protocol}
    if not found:
        return [plain]
    return [{"IP": row["HostIp"], "PublicPort": int(row["HostPort"]), **plain} for row in found]


def container_event(document: Document, action: str, at_ns: int, **attributes: str) -> Document:
    """An event of `GET /events` about a container."""
    image = document["Config"]["Image"]
    known = {**document["Config"]["Labels"], "image": image, "name": document["Name"].lstrip("/"), **attributes}
    old_style = {"status": action, "id": document["Id"], "from": image}
    return {**old_style, **_event("container", action, document["Id"], known, at_ns)}


def network_event(document: Document, action: str, name: str, at_ns: int) -> Document:
    """An event of `GET /events` about a container joining or leaving a network."""
    driver = {"host": "host", "none": "null"}.get(name, "bridge")
    attributes = {"container": document["Id"], "name": name, "type": driver}
    return _event("network", action, hex_id("network", name), attributes, at_ns)


def _event(kind: str, action: str, actor: str, attributes: Mapping[str, str], at_ns: int) -> Document:
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": at_ns // 1_000_000_000,
        "timeNano": at_ns,
    }
