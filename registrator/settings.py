"""Settings of the registrator; the shared ones are inherited."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

from pilotfish.catalog import values
from pilotfish.catalog.setting_values import choice, period, whole
from pilotfish.catalog.settings import Shared, option
from registrator.rules.filters import Filter, parse_filter
from registrator.rules.tags import parse_network


def docker_url(text: str) -> str:
    """Where an engine listens, after the name of its node and `=` where it has one.

    >>> docker_url("h2=tcp://10.0.0.2:2376"), docker_url("/run/podman/podman.sock")
    ('h2=tcp://10.0.0.2:2376', 'unix:///run/podman/podman.sock')
    """
    name, where = named(text)
    url = f"unix://{where}" if where.startswith("/") else where
    scheme, found, rest = url.partition("://")
    if not found or scheme not in {"unix", "tcp", "http", "https"} or not rest or "@" in rest:
        raise values.BadValue(f"{values.quoted(text)} is no engine: unix:///var/run/docker.sock or tcp://HOST:2376")
    if scheme == "unix":
        return _with_name(name, url)
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and (parts.port is not None or scheme in {"http", "https"})
    except ValueError:
        complete = False
    if not complete:
        raise values.BadValue(f"{values.quoted(text)} names no host and port: tcp://HOST:2376")
    return _with_name(name, url)


def docker_ip(text: str) -> str:
    """An address of the host of one of several engines: NAME=ADDR."""
    name, ip = named(text)
    if not name:
        raise values.BadValue(f"{values.quoted(text)} does not say whose address it is: NAME=ADDR")
    return _with_name(name, values.parse_ip(ip))


def named(text: str) -> tuple[str, str]:
    """`NAME=WHAT` apart; the name is empty where there is none.

    >>> named("h2=10.0.0.2"), named("10.0.0.2")
    (('h2', '10.0.0.2'), ('', '10.0.0.2'))
    """
    name, equals, what = text.partition("=")
    return (values.parse_node(name), what) if equals and "/" not in name else ("", text)


def _with_name(name: str, what: str) -> str:
    return f"{name}={what}" if name else what


def tls_verify(text: str) -> bool:
    """DOCKER_TLS_VERIFY: 1 checks the engine's certificate; Docker takes every text but the empty one for yes."""
    try:
        if values.parse_boolean(text):
            return True
    except values.BadValue:
        pass
    raise values.BadValue(f"{values.quoted(text)} is yes to Docker and no to the eye: write 1, or leave it empty")


def word(text: str) -> str:
    """One tag: printable, without a comma. What is a template to registrator 7.4 would be a tag that nobody meant."""
    if not text.isprintable():
        raise values.BadValue(f"{values.quoted(text)} is no tag: it holds control characters")
    if "{{" in text or "}}" in text:
        raise values.BadValue(f"{values.quoted(text)} is no tag: templates make keys (ETCD_TMPL_*), not tags")
    return text


@dataclasses.dataclass(frozen=True)
class RegistratorSettings(Shared):
    """What the registrator can be told."""

    status: tuple[str, int] = dataclasses.field(
        default=("127.0.0.1", 9701), metadata=Shared.__dataclass_fields__["status"].metadata
    )
    docker: tuple[str, ...] = option(
        "the engine to watch; repeat it, as NAME=URL with each node's name, for several",
        ("unix:///var/run/docker.sock",),
        flag="--docker",
        parse=docker_url,
        metavar="URL",
        env=("DOCKER_HOST",),
        repeat=True,
    )
    docker_tls_verify: bool = option(
        "check the certificate of engines at tcp:// against ca.pem",
        False,
        flag="--docker-tls-verify",
        parse=tls_verify,
        env=("DOCKER_TLS_VERIFY",),
    )
    docker_cert_path: str = option(
        "folder with ca.pem, cert.pem and key.pem for engines at tcp://; ~/.docker when --docker-tls-verify is alone",
        "",
        flag="--docker-cert-path",
        metavar="DIR",
        env=("DOCKER_CERT_PATH",),
    )
    swarm: str = option(
        "services of a swarm: auto (the registrator of the leading manager registers them) or off",
        "auto",
        flag="--swarm",
        parse=choice("auto", "off"),
        metavar="RULE",
    )
    ip: tuple[str, ...] = option(
        "address of this host for published ports, instead of the binding's or the default route's",
        (),
        flag="--ip",
        parse=values.parse_ip,
        metavar="ADDR",
        repeat=True,
    )
    docker_ip: tuple[str, ...] = option(
        "the same for the host of the engine of that name, instead of the address in its URL",
        (),
        flag="--docker-ip",
        parse=docker_ip,
        metavar="NAME=ADDR",
        repeat=True,
    )
    internal: bool = option("publish container addresses and ports instead of the host's", False, flag="--internal")
    network: tuple[str, ...] = option(
        "network whose addresses count as a container's own, by name or CIDR, where no NETWORK tag says; the first that"
        " it is on",
        (),
        flag="--network",
        parse=parse_network,
        metavar="NETWORK",
        repeat=True,
    )
    use_ip_from_label: str = option(
        "take a container's address from this label (a mask behind '/' is dropped)",
        "",
        flag="--use-ip-from-label",
        metavar="LABEL",
    )
    explicit: bool = option("publish only ports that a NAME tag names", False, flag="--explicit")
    only: tuple[Filter, ...] = option(
        "publish only containers that fit: label=KEY, label=KEY=VALUE, name=, image=, network= or project=, with * for"
        " any text; one of each kind that is named has to fit",
        (),
        flag="--only",
        parse=parse_filter,
        metavar="KIND=PATTERN",
        repeat=True,
    )
    ignore: tuple[Filter, ...] = option(
        "leave containers out that fit; as --only, and beats it",
        (),
        flag="--ignore",
        parse=parse_filter,
        metavar="KIND=PATTERN",
        repeat=True,
    )
    explicit_dns: bool = option("no automatic names: only DNS and PROXYDNS tags make any", False, flag="--explicit-dns")
    publish_untagged: bool = option(
        "publish containers that have no SERVICE_ tag too", False, flag="--publish-untagged"
    )
    virtual_host: str = option(
        "containers that have nginx-proxy's VIRTUAL_HOST are proxied as it says (docs/tags.md): on or off",
        "on",
        flag="--virtual-host",
        parse=choice("on", "off"),
        metavar="RULE",
    )
    name_suffix: str = option(
        "when '-port' is put behind a name: seed (default names of several ports), auto (registrator 7), always, never",
        "seed",
        flag="--name-suffix",
        parse=choice("seed", "auto", "always", "never"),
        metavar="RULE",
    )
    tags: tuple[str, ...] = option(
        "tag added to every endpoint; a comma list", (), flag="--tags", parse=word, metavar="TAG", repeat=True
    )
    lease_ttl_s: int = option(
        "seconds after which the endpoints of a dead host go",
        30,
        flag="--lease-ttl",
        parse=whole("number of seconds", 2, 3600),
        metavar="SECONDS",
    )
    on_exit: str = option(
        "what happens to this host's records when the registrator is stopped: keep (until the lease ends) or remove",
        "keep",
        flag="--on-exit",
        parse=choice("keep", "remove"),
        metavar="WHAT",
    )
    deregister: str = option(
        "which containers that ended are taken away: always, or on-success (what ended by itself with an error,"
        " a code below 128, stays, failing, until it is removed or started again)",
        "always",
        flag="--deregister",
        parse=choice("always", "on-success"),
        metavar="WHEN",
    )
    resync_s: float = option(
        "how often all containers are listed and compared, besides events",
        30.0,
        flag="--resync",
        parse=period,
        metavar="TIME",
    )
    ping_s: float = option(
        "how often the engine is pinged while its events are silent",
        5.0,
        flag="--docker-ping",
        parse=period,
        metavar="TIME",
    )
    docker_timeout_s: float = option(
        "how long one call to the engine may take",
        10.0,
        flag="--docker-timeout",
        parse=period,
        metavar="TIME",
    )
    check_dir: str = option(
        "folder with the scripts that CHECK_CMD tags may name; without it none is run",
        "",
        flag="--check-dir",
        metavar="DIR",
    )
    checks_at_once: int = option(
        "how many CHECK_* checks may be under way at once",
        256,
        flag="--checks-at-once",
        parse=whole("number of checks", 1, 4096),
        metavar="N",
    )
    once: bool = option("compare and write once, then end", False, flag="--once")
    dry_run: bool = option("print what would be written and write nothing", False, flag="--dry-run")
    etcd_tmpl: dict[str, str] = option(
        "key templates ETCD_TMPL_*: they replace the built-in exports",
        {},
        flag="",
        env_prefix="ETCD_TMPL",
    )

    @property
    def keep_failed(self) -> bool:
        """True when what ended by itself with an error stays, failing."""
        return self.deregister == "on-success"
