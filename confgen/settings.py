"""Settings of the config generator; the shared ones are inherited."""

from __future__ import annotations

import dataclasses

from pilotfish.catalog import values
from pilotfish.catalog.options import parse_network
from pilotfish.catalog.settings import Shared, choice, option, whole


@dataclasses.dataclass(frozen=True)
class ConfgenSettings(Shared):
    """What the config generator can be told."""

    status: tuple[str, int] = dataclasses.field(
        default=("127.0.0.1", 9703), metadata=Shared.__dataclass_fields__["status"].metadata
    )
    ip: tuple[str, ...] = option(
        "address at which clients reach this proxy, instead of the host's record or the default route's",
        (),
        flag="--ip",
        parse=values.parse_ip,
        metavar="ADDR",
        repeat=True,
    )
    nginx: str = option(
        "spawn: start nginx and keep it running; signal: reload one that somebody else runs; off: only write files",
        "spawn",
        flag="--nginx",
        parse=choice("spawn", "signal", "off"),
        metavar="HOW",
    )
    nginx_bin: str = option("the nginx program", "nginx", flag="--nginx-bin", metavar="FILE")
    nginx_dir: str = option(
        "folder for configurations, pid file and logs; default: nginx/ in the data folder",
        "",
        flag="--nginx-dir",
        metavar="DIR",
    )
    nginx_on_exit: str = option(
        "what happens to nginx when confgen is stopped: keep (the next confgen takes it over) or quit",
        "keep",
        flag="--nginx-on-exit",
        parse=choice("keep", "quit"),
        metavar="WHAT",
    )
    http_port: int = option(
        "port on which nginx serves http", 80, flag="--http-port", parse=values.parse_port, metavar="PORT"
    )
    nginx_modules: str = option(
        "folder of nginx's loadable modules; default: the one that it was built for",
        "",
        flag="--nginx-modules",
        metavar="DIR",
    )
    h2c_port: int = option(
        "port on which nginx serves HTTP/2 without TLS, for gRPC; 0: none of its own. From nginx 1.25.1 on --http-port "
        "serves it too",
        0,
        flag="--h2c-port",
        parse=whole("port", 0, 65535),
        metavar="PORT",
    )
    trusted: tuple[str, ...] = option(
        "network of balancers in front of nginx, whose word on the client's address and scheme counts",
        (),
        flag="--trusted-proxies",
        parse=parse_network,
        metavar="NET",
        repeat=True,
    )
    proxy_protocol: bool = option(
        "those balancers send a PROXY protocol header on every connection; nothing else is served then",
        False,
        flag="--proxy-protocol",
    )
    htpasswd: str = option(
        "folder of htpasswd files, which PROXY_AUTH tags name; nginx's workers must be able to read them",
        "",
        flag="--htpasswd",
        metavar="DIR",
    )
    snippets: str = option(
        "folder of nginx directives for one host (HOST.conf) or one path of it (HOST@PATH.conf, / written as @)",
        "",
        flag="--snippets",
        metavar="DIR",
    )
    pages: str = option(
        "folder of pages: a host with a HOST.html in it is in maintenance, and answered 503 with that page",
        "",
        flag="--pages",
        metavar="DIR",
    )
    wait_s: float = option(
        "least time between two reloads", 0.5, flag="--wait", parse=values.parse_duration, metavar="TIME"
    )
    quiet_s: float = option(
        "time without a reload after which a change is applied at once",
        0.5,
        flag="--quiet",
        parse=values.parse_duration,
        metavar="TIME",
    )
    proof_s: float = option(
        "how long the workers may take to serve a new configuration before it is rolled back",
        5.0,
        flag="--proof",
        parse=values.parse_duration,
        metavar="TIME",
    )
    check_timeout_s: float = option(
        "how long `nginx -t` may take", 10.0, flag="--check-timeout", parse=values.parse_duration, metavar="TIME"
    )
    proxy_ttl_s: int = option(
        "seconds after which a dead proxy's own record goes",
        15,
        flag="--proxy-ttl",
        parse=whole("number of seconds", 2, 3600),
        metavar="SECONDS",
    )
    keep: int = option(
        "how many former configurations are kept", 5, flag="--keep", parse=whole("number", 1, 1000), metavar="N"
    )
