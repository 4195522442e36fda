"""Builders of what the engine answers, so that a test says only what matters to it."""

from registrator.rules.address import Host
from registrator.rules.container import Facts, facts
from registrator.rules.wanted import Wanted, wanted
from registrator.settings import RegistratorSettings

ID = "0123456789ab" * 5 + "cdef"
IP = "192.168.0.1"


def document(
    *,
    env=(),
    labels=None,
    image="a/redis:3",
    name="c",
    ports=None,
    expose=(),
    mode="default",
    networks=None,
    id_=ID,
    **more,
):
    """An inspect document (ContainerInspect).

    Args:
        env: entries of Config.Env.
        labels: Config.Labels.
        image: Config.Image.
        name: without the slash.
        ports: "80/tcp" -> host port, (address, host port), or a list of these: published.
        expose: further exposed ports, not published.
        mode: HostConfig.NetworkMode.
        networks: name -> IPv4, or (IPv4, IPv6), or a whole EndpointSettings; the default is one on the bridge.
        id_: the engine's id.
        more: whole sections that replace ours.
    """
    ports = ports or {}
    if networks is None:
        networks = {} if mode in {"host", "none"} or mode.startswith("container:") else {"bridge": "172.17.0.2"}
    return {
        "Id": id_,
        "Name": f"/{name}",
        "Config": {
            "Image": image,
            "Env": ["PATH=/bin", *env],
            "Labels": labels or {},
            "Hostname": id_[:12],
            "ExposedPorts": {port: {} for port in (*ports, *expose)},
        },
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {
            "Ports": {port: _bindings(where) for port, where in ports.items()} | dict.fromkeys(expose),
            "Networks": {name: _network(where) for name, where in networks.items()},
        },
        "State": {"Running": True, "StartedAt": "2026-01-02T03:04:05.678901234Z"},
        **more,
    }


def _bindings(where):
    listed = where if isinstance(where, list) else [where]
    pairs = [one if isinstance(one, tuple) else ("0.0.0.0", one) for one in listed]
    return [{"HostIp": ip, "HostPort": str(port)} for ip, port in pairs]


def _network(where):
    if isinstance(where, dict):
        return where
    ipv4, ipv6 = where if isinstance(where, tuple) else (where, "")
    return {"IPAddress": ipv4, "GlobalIPv6Address": ipv6, "Gateway": "172.17.0.1" if ipv4 else ""}


def given(**container) -> Facts:
    """Facts of `document(...)`."""
    return facts(document(**container))


def decide(flags=None, others=(), host=("h", (IP,)), **container) -> Wanted:
    """What `document(...)` wants on host h at 192.168.0.1.

    Args:
        flags: the registrator's settings.
        others: facts of containers whose network it may share.
        host: name and addresses.
        container: as `document` takes it.
    """
    known = {key: one for one in others for key in (one.id, one.name)}
    return wanted(given(**container), Host(*host), RegistratorSettings(**(flags or {})), known.get)


def endpoint(decided: Wanted, port, protocol="tcp"):
    """The endpoint of one container port."""
    return next(one for one in decided.container.endpoints if (one.port, one.protocol) == (port, protocol))


def places(decided: Wanted, port, scope=None):
    """Addresses of a port as text, such as "lan 192.168.0.1:80"."""
    listed = endpoint(decided, port).addresses
    return [f"{one.scope} {one.ip}:{one.port}" for one in listed if scope in (None, one.scope)]


def reasons(decided: Wanted):
    """Port -> rule, of what was left out."""
    return {left.port: left.rule for left in decided.left_out}
