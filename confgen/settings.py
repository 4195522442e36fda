"""Settings of the config generator; the shared ones are inherited."""

from __future__ import annotations

import dataclasses

from confgen.nginx.stream_shapes import PortRange
from pilotfish.catalog import values
from pilotfish.catalog.options import parse_network, parse_size
from pilotfish.catalog.setting_values import choice, whole
from pilotfish.catalog.settings import Shared, option, spelled_too
from pilotfish.catalog.values import BadValue, quoted


def parse_range(text: str) -> PortRange:
    """One port, or two with `-` between.

    >>> parse_range("5000-5010"), parse_range("53")
    (PortRange(first=5000, last=5010), PortRange(first=53, last=53))
    """
    first, dash, last = text.partition("-")
    found = PortRange(values.parse_port(first), values.parse_port(last if dash else first))
    if found.first > found.last:
        raise BadValue(f"{quoted(text)} is no range of ports: the lower one stands first")
    return found


@dataclasses.dataclass(frozen=True)
class ConfgenSettings(Shared):
    """What the config generator can be told."""

    status: tuple[str, int] = dataclasses.field(
        default=("127.0.0.1", 9703), metadata=Shared.__dataclass_fields__["status"].metadata
    )
    etcd: tuple[str, ...] = dataclasses.field(
        default=(), metadata=spelled_too(Shared.__dataclass_fields__["etcd"].metadata, "--node")
    )
    etcd_ca: str = dataclasses.field(
        default="",
        metadata=spelled_too(
            Shared.__dataclass_fields__["etcd_ca"].metadata,
            "--client-ca-keys",
            env=("ETCD_CACERT", "CONFD_CLIENT_CAKEYS"),
        ),
    )
    etcd_cert: str = dataclasses.field(
        default="",
        metadata=spelled_too(
            Shared.__dataclass_fields__["etcd_cert"].metadata, "--client-cert", env=("ETCD_TLSPEM", "CONFD_CLIENT_CERT")
        ),
    )
    etcd_key: str = dataclasses.field(
        default="",
        metadata=spelled_too(
            Shared.__dataclass_fields__["etcd_key"].metadata, "--client-key", env=("ETCD_TLSKEY", "CONFD_CLIENT_KEY")
        ),
    )
    etcd_user: str = dataclasses.field(
        default="", metadata=spelled_too(Shared.__dataclass_fields__["etcd_user"].metadata, "--username")
    )
    etcd_password: str = dataclasses.field(
        default="",
        metadata=spelled_too(
            Shared.__dataclass_fields__["etcd_password"].metadata,
            "--password",
            flag="--etcd-password",
            help="the etcd user's password; everybody on this host can read command lines: rather --etcd-password-file",
        ),
        repr=False,
    )
    confdir: str = option(
        "confd's folder, with conf.d and templates in it: its template resources are rendered instead of nginx",
        "",
        flag="--confdir",
        metavar="DIR",
    )
    config_file: str = option(
        "confd's own settings; default: /etc/confd/confd.toml if it is there", "", flag="--config-file", metavar="FILE"
    )
    with_nginx: bool = option("render nginx as well where template resources are rendered", False, flag="--with-nginx")
    once: bool = option("render everything once and end; exit code 1 if something failed", False, flag="--once",
                        also=("--onetime",))  # fmt: skip
    watch: bool = option("taken from confd's command lines; keys are always watched", False, flag="--watch")
    interval_s: float = option(
        "how often all template resources are rendered although no key changed",
        600.0,
        flag="--interval",
        parse=values.parse_duration,
        metavar="TIME",
    )
    noop: bool = option("write nothing, show what would change as a diff", False, flag="--noop")
    sync_only: bool = option("write files without check_cmd and reload_cmd", False, flag="--sync-only")
    keep_stage_file: bool = option("leave staged files beside their place", False, flag="--keep-stage-file")
    prefix: str = option("key prefix of all template resources", "", flag="--prefix", metavar="PREFIX")
    prefix_mode: str = option(
        "replace: --prefix takes the place of a resource's own; join: it stands before it, as in confd 0.7",
        "replace",
        flag="--prefix-mode",
        parse=choice("replace", "join"),
        metavar="HOW",
    )
    backend: str = option(
        "what confd calls the store: etcdv3, or etcd, which is asked by its v3 API too",
        "",
        flag="--backend",
        parse=choice("etcdv3", "etcd"),
        metavar="NAME",
    )
    dest_root: tuple[str, ...] = option(
        "folder below which template resources may write; may be repeated",
        ("/",),
        flag="--dest-root",
        metavar="DIR",
        repeat=True,
    )
    state_dir: str = option(
        "folder where template resources remember reloads that are due; default: confd/ in the data folder",
        "",
        flag="--state-dir",
        metavar="DIR",
    )
    reload_timeout_s: float = option(
        "how long a reload_cmd may take", 60.0, flag="--reload-timeout", parse=values.parse_duration, metavar="TIME"
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
    nginx_modules: str = option(
        "folder of nginx's loadable modules; default: the one that it was built for",
        "",
        flag="--nginx-modules",
        metavar="DIR",
    )
    nginx_dir: str = option(
        "folder for configurations, pid file and logs; default: nginx/ in the data folder",
        "",
        flag="--nginx-dir",
        metavar="DIR",
    )
    nginx_endpoints: str = option(
        "how nginx hears of endpoints: reload (they stand in its configuration), or lua (they are sent to it; needs its"
        " Lua module)",
        "reload",
        flag="--nginx-endpoints",
        parse=choice("reload", "lua"),
        metavar="HOW",
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
    https_port: int = option(
        "port on which nginx serves https, once there are certificates",
        443,
        flag="--https-port",
        parse=values.parse_port,
        metavar="PORT",
    )
    https_public_port: int = option(
        "port of https as clients know it, to which they are sent from http; default: 443 with --trusted-proxies, else "
        "--https-port",
        0,
        flag="--https-public-port",
        parse=values.parse_port,
        metavar="PORT",
    )
    certs: str = option(
        "folder of certificates (NAME.crt or NAME.pem with NAME.key; NAME/fullchain.pem with NAME/privkey.pem); "
        "default: none, and no https",
        "",
        flag="--certs",
        metavar="DIR",
    )
    stream_ports: tuple[PortRange, ...] = option(
        "ports that PROXY=tcp and udp may ask for: one, or the first and the last with '-' between",
        (PortRange(1024, 65535),),
        flag="--stream-ports",
        parse=parse_range,
        metavar="PORTS",
        repeat=True,
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
        "how long `nginx -t`, or a check_cmd, may take; nginx in proportion longer from 1,000 files on",
        10.0,
        flag="--check-timeout",
        parse=values.parse_duration,
        metavar="TIME",
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
    log_size: int = option(
        "octets (with k, m or g behind them) from which a log of nginx is rotated, four former ones are kept; 0: never",
        64 * 1024 * 1024,
        flag="--log-size",
        parse=parse_size,
        metavar="SIZE",
    )
    worker_generations: int = option(
        "how many generations of nginx's workers may live before changes that only add something wait for one to end",
        4,
        flag="--worker-generations",
        parse=whole("number", 1, 1000),
        metavar="N",
    )
    refusal_grace_s: float = option(
        "how long the last good configuration stays when more than half of what it serves was refused; 0s: not at all",
        300.0,
        flag="--refusal-grace",
        parse=values.parse_duration,
        metavar="TIME",
    )

    @property
    def told(self) -> bool:
        """Balancers that are trusted say in HTTP headers whether their clients came over https."""
        return bool(self.trusted) and not self.proxy_protocol

    @property
    def public_port(self) -> int:
        """The port of https as clients know it."""
        return self.https_public_port or (443 if self.trusted else self.https_port)
