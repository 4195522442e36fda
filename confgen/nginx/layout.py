"""What the main file and every server block need besides the services: ports, files, limits, timeouts.

Pure. Facts of this machine come in as values; hash sizes and connection limits are computed here, because nginx
refuses a configuration whose names do not fit its hash, and drops connections beyond its limit.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from confgen.nginx import quote
from confgen.nginx.features import LEAST, Features
from confgen.nginx.quote import Token

SPARE_FILES = 128  # of each worker: logs, listening sockets, temporary files
FEWEST_CONNECTIONS = 512
MOST_CONNECTIONS = 65536  # nginx allocates them at start: about 30 MB a worker
BUCKET_LEAST = 64  # octets: one cache line
NAMES_LEAST = 1024
LUA = ("ndk", "lua")  # features that its balancer needs, in the order in which nginx loads them
ENDPOINTS_SIZE = 64 * 1024 * 1024  # octets of shared memory, used as needed; 100,000 servers take a quarter


class Machine(msgspec.Struct, frozen=True):
    """Facts of the machine and of our settings.

    Attributes:
        folder: the folder of nginx's files, absolute.
        http_port: where http is served.
        ipv6: whether the machine has IPv6.
        workers: worker processes.
        files_limit: open files that a worker may have (RLIMIT_NOFILE, hard).
        user: account of the workers, empty when nginx does not start as root.
        group: its group.
        reserved: hosts that are answered 404 whatever wildcard covers them.
        can: what nginx can do.
        h2c_port: where HTTP/2 without TLS is served, on a port of its own; 0: on none.
        trusted: networks of balancers in front of us, which say who the client is.
        proxy_protocol: they say it in a PROXY header, on every connection; else in X-Forwarded-For.
        lua: servers are sent to a balancer in Lua; else they stand in the configuration.
        public_port: of https, as clients know it.
    """

    folder: str
    http_port: int
    ipv6: bool
    workers: int
    files_limit: int
    user: str = ""
    group: str = ""
    reserved: tuple[str, ...] = ()
    can: Features = LEAST
    h2c_port: int = 0
    trusted: tuple[str, ...] = ()
    proxy_protocol: bool = False
    public_port: int = 443

    @property
    def h2c(self) -> bool:
        """HTTP/2 without TLS is served on some port."""
        return self.can.has("http_v2") and (self.h2c_port > 0 or self.can.h2c_shares)

    @property
    def told(self) -> bool:
        """Balancers say in HTTP headers who the client is and how it came."""
        return bool(self.trusted) and not self.proxy_protocol

    lua: bool = False


class Main(msgspec.Struct, frozen=True):
    """What the main file prints; `public_suffix` stands behind the host in a redirect to https, None for 443."""

    user: Token | None
    group: Token | None
    workers: Token
    files_per_worker: Token
    connections: Token
    shutdown: Token
    pid_file: Token
    lock_file: Token
    error_log: Token  # nginx's own words, and nothing that clients or servers cause
    requests_log: Token
    access_log: Token
    stream_log: Token
    temp: Token
    generation_socket: Token
    names_bucket: Token
    names_size: Token
    body_limit: Token
    connect_timeout: Token
    read_timeout: Token
    tries: Token
    tries_timeout: Token
    http_port: Token
    ipv6: bool
    reserved: tuple[Token, ...]
    h2c_port: Token | None
    http2: Literal["directive", "parameter", "none"]
    trusted: tuple[Token, ...]
    proxy_protocol: bool
    grpc: bool
    ssl: bool
    lua: bool
    lua_modules: tuple[Token, ...]
    endpoints_socket: Token
    endpoints_file: Token
    endpoints_size: Token
    public_suffix: Token | None


class Rules(msgspec.Struct, frozen=True):
    """What the files of services print besides their own values; the same for all as long as the process runs."""

    http_port: Token
    ipv6: bool
    max_fails: Token
    fail_timeout: Token
    idle: Token
    upgraded: Token
    retry_after: Token
    pause: Token
    folder: Token
    h2c_port: Token | None
    http2: Literal["directive", "parameter", "none"]
    proxy_protocol: bool
    told: bool  # balancers that we trust say whether their clients came over https
    lua: bool


def rules(machine: Machine) -> Rules:
    """The proxying rules."""
    return Rules(
        http_port=quote.number(machine.http_port),
        ipv6=machine.ipv6,
        max_fails=quote.number(1),
        fail_timeout=quote.duration(1),
        idle=quote.duration(5),
        upgraded=quote.duration(3600),
        retry_after=quote.number(2),
        pause=quote.number(60),
        folder=quote.file(machine.folder),
        h2c_port=quote.number(machine.h2c_port) if machine.h2c_port else None,
        http2=machine.can.http2,
        proxy_protocol=machine.proxy_protocol,
        told=machine.told,
        lua=machine.lua,
    )


def main(machine: Machine, *, hosts: int, longest: int) -> Main:
    """The main file's values.

    Args:
        machine: facts.
        hosts: how many host names there are.
        longest: length of the longest of them, octets.
    """
    longest = max([longest, *(len(host) for host in machine.reserved)])
    return Main(
        user=quote.account(machine.user) if machine.user else None,
        group=quote.account(machine.group) if machine.user else None,
        workers=quote.number(machine.workers),
        files_per_worker=quote.number(machine.files_limit),
        connections=quote.number(connections(machine.files_limit)),
        shutdown=quote.duration(3600),
        pid_file=quote.file(f"{machine.folder}/run/nginx.pid"),
        lock_file=quote.file(f"{machine.folder}/run/nginx.lock"),
        error_log=quote.file(f"{machine.folder}/logs/error.log"),
        requests_log=quote.file(f"{machine.folder}/logs/requests-error.log"),
        access_log=quote.file(f"{machine.folder}/logs/access.log"),
        stream_log=quote.file(f"{machine.folder}/logs/streams.log"),
        temp=quote.file(f"{machine.folder}/temp"),
        generation_socket=quote.file(f"{machine.folder}/run/generation.sock"),
        names_bucket=quote.number(names_bucket(longest)),
        names_size=quote.number(names_size(hosts + len(machine.reserved))),
        body_limit=quote.number(0),
        connect_timeout=quote.duration(1),
        read_timeout=quote.duration(60),
        tries=quote.number(3),
        tries_timeout=quote.duration(5),
        http_port=quote.number(machine.http_port),
        ipv6=machine.ipv6,
        reserved=tuple(quote.host(host) for host in machine.reserved),
        h2c_port=quote.number(machine.h2c_port) if machine.h2c_port else None,
        http2=machine.can.http2,
        trusted=tuple(quote.network(network) for network in machine.trusted),
        proxy_protocol=machine.proxy_protocol,
        grpc=machine.can.has("grpc"),
        ssl=machine.can.has("http_ssl"),
        lua=machine.lua,
        lua_modules=tuple(quote.file(machine.can.load(name)) for name in LUA if machine.lua and machine.can.load(name)),
        endpoints_socket=quote.file(f"{machine.folder}/run/endpoints.sock"),
        endpoints_file=quote.file(f"{machine.folder}/run/endpoints"),
        endpoints_size=quote.number(ENDPOINTS_SIZE),
        public_suffix=None if machine.public_port == 443 else Token("suffix", f":{machine.public_port}"),
    )


def connections(files_limit: int) -> int:
    """Connections of one worker: as many as it may have files open, within reason.

    >>> connections(1024)
    896
    """
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, files_limit - SPARE_FILES))


def names_bucket(longest: int) -> int:
    """server_names_hash_bucket_size: a power of two in which the longest name fits (ngx_hash.c, NGX_HASH_ELT_SIZE).

    >>> names_bucket(253)
    512
    """
    needed = 8 + (longest + 2 + 7) // 8 * 8 + 8  # pointer, name with its length, end mark
    return _power_of_two(max(BUCKET_LEAST, needed))


def names_size(hosts: int) -> int:
    """server_names_hash_max_size: a power of two, twice the names, so that buckets stay short.

    >>> names_size(1000)
    2048
    """
    return _power_of_two(max(NAMES_LEAST, 2 * hosts))


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
