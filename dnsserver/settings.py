"""Settings of the DNS server; the shared ones are inherited."""

from __future__ import annotations

import dataclasses
import ipaddress

from dnsserver.message import dname
from dnsserver.message.dname import BadName
from pilotfish.catalog import values
from pilotfish.catalog.setting_values import address_and_port, whole
from pilotfish.catalog.settings import BadSettings, Shared, option
from pilotfish.catalog.values import BadValue, quoted

DNS_PORT = 53
PRIVATE = "private"  # loopback, RFC 1918, RFC 4193 and link-local addresses
NOBODY = "none"


def server(text: str) -> tuple[str, int]:
    """A name server: an address, with or without a port.

    >>> server("192.0.2.1"), server("[2001:db8::1]:5353")
    (('192.0.2.1', 53), ('2001:db8::1', 5353))
    """
    if values.is_ip(text):
        return values.parse_ip(text), DNS_PORT
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not values.is_ip(host):
        raise BadValue(f"{quoted(text)} is no name server: 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53")
    return values.parse_ip(host), values.parse_port(port)


def network(text: str) -> str:
    """A network of clients: an address, or one with a prefix length."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise BadValue(f"{quoted(text)} is no network such as 192.0.2.0/24 or 2001:db8::/32") from error


def clients(text: str) -> str:
    """Whom something is for: a network, or one of two words."""
    return text if text in {PRIVATE, NOBODY} else network(text)


def mail(text: str) -> str:
    """A mail address, or its name in a SOA record."""
    try:
        dname.mailbox(text)
    except (BadName, UnicodeError) as error:
        raise BadValue(f"{quoted(text)} is no mail address: {error}") from error
    return text


def _secret(text: str) -> str:
    if len(text) != 32 or set(text.lower()) - set("0123456789abcdef"):
        raise BadValue("a cookie secret has 32 hex digits")  # not quoted: it is a secret
    return text.lower()


@dataclasses.dataclass(frozen=True)
class ForwardOptions(Shared):
    """How names that are not ours are answered."""

    forward: tuple[tuple[str, int], ...] = option(
        "name server that other names are asked of; may be repeated; without one they are REFUSED",
        (),
        flag="--forward",
        parse=server,
        metavar="ADDR[:PORT]",
        env=("SKYDNS_NAMESERVERS",),
        repeat=True,
    )
    recursion: tuple[str, ...] = option(
        "whose questions are forwarded: networks, `private` (loopback, RFC 1918, RFC 4193, link-local) or `none`;"
        " default: private; inside a container with a network of its own, where every client looks private, loopback",
        (),
        flag="--recursion",
        parse=clients,
        metavar="NET",
        repeat=True,
    )
    forward_timeout_s: float = option(
        "how long one try at a name server may take",
        1.0,
        flag="--forward-timeout",
        parse=values.parse_duration,
        metavar="TIME",
    )
    forward_cache: int = option(
        "forwarded answers held",
        50_000,
        flag="--forward-cache",
        parse=whole("number of answers", 0, 10_000_000),
        metavar="N",
    )
    stale_for_s: float = option(
        "how long after its end a forwarded answer may still be given when no name server answers (RFC 8767)",
        86400.0,
        flag="--forward-stale",
        parse=values.parse_duration,
        metavar="TIME",
    )
    ndots: int = option(
        "names with fewer labels than this are not forwarded, but answered SERVFAIL, as SkyDNS does; 0: all are",
        0,
        flag="--ndots",
        parse=whole("number of labels", 0, 127),
        metavar="N",
        env=("SKYDNS_NDOTS",),
    )


@dataclasses.dataclass(frozen=True)
class SkydnsOptions(ForwardOptions):
    """What SkyDNS could be told besides; the JSON at PREFIX/config says the same, and is overruled by these."""

    exact: bool = option(
        "answer other people's records at their own name only, not for the names above them", False, flag="--exact"
    )
    local: str = option(
        "name that local.dns.DOMAIN stands for", "", flag="--local", parse=values.parse_host, metavar="NAME",
        env=("SKYDNS_LOCAL",),
    )  # fmt: skip
    hostmaster: str = option(
        "mail address in the SOA; default: hostmaster@DOMAIN", "", flag="--hostmaster", parse=mail, metavar="MAIL"
    )
    fixed_order: bool = option("give addresses in the same order every time", False, flag="--fixed-order")


@dataclasses.dataclass(frozen=True)
class GuardOptions(SkydnsOptions):
    """Who gets what, how much of it, and what is written down."""

    transfer: tuple[str, ...] = option(
        "networks of secondaries that may have the whole zone (AXFR)",
        (),
        flag="--transfer",
        parse=network,
        metavar="NET",
        repeat=True,
    )
    notify: tuple[tuple[str, int], ...] = option(
        "secondary that is told when a zone changed (NOTIFY); may be repeated",
        (),
        flag="--notify",
        parse=server,
        metavar="ADDR[:PORT]",
        repeat=True,
    )
    rate_limit: int = option(
        "UDP answers a second for one client network (/24, /56) without a valid cookie; beyond it every second one is"
        " cut (TC) and the others are dropped; 0: no limit",
        0,
        flag="--rate-limit",
        parse=whole("number of answers", 0, 10_000_000),
        metavar="N",
    )
    version_shown: bool = option(
        "tell this version to those who ask for version.bind (CHAOS)", False, flag="--show-version"
    )
    cookie_secret: str = option(
        "32 hex digits that server cookies are made from, the same for all servers behind one address (RFC 9018);"
        " default: random",
        "",
        flag="",
        parse=_secret,
        secret=True,
    )
    query_log: str = option(
        "write questions and answers as JSON lines to FILE, `-` for standard error",
        "",
        flag="--query-log",
        metavar="FILE",
    )
    query_log_rate: int = option(
        "lines a second in the query log at most; under load it is a sample, and says so",
        100,
        flag="--query-log-rate",
        parse=whole("number of lines", 1, 100_000),
        metavar="N",
    )


@dataclasses.dataclass(frozen=True)
class DnsSettings(GuardOptions):
    """What the DNS server can be told."""

    status: tuple[str, int] = dataclasses.field(
        default=("127.0.0.1", 9702), metadata=Shared.__dataclass_fields__["status"].metadata
    )
    listen: tuple[tuple[str, int], ...] = option(
        "address and port to answer at, UDP and TCP; 0.0.0.0 or [::] stands for each address of the host, one by one",
        (("127.0.0.1", 53),),
        flag="--listen",
        parse=address_and_port,
        metavar="ADDR:PORT",
        env=("SKYDNS_ADDR",),
        repeat=True,
    )
    snapshot: str = option(
        "file that keeps the zone for a start without the store", "", flag="--snapshot", metavar="FILE"
    )
    snapshot_age_s: float = option(
        "age above which a snapshot is not answered from",
        3 * 86400.0,  # RFC 8767 §5 suggests one to three days
        flag="--snapshot-age",
        parse=values.parse_duration,
        metavar="TIME",
    )
    workers: int = option(
        "processes that answer, each on a core of its own",
        1,
        flag="--workers",
        parse=whole("number of workers", 1, 64),
        metavar="N",
    )
    beside: bool = option(
        "start beside a server of this user that answers at the same addresses, and share its questions as soon as"
        " everything is read, until it is ended: an upgrade without a gap",
        False,
        flag="--beside",
    )
    ttl: int = option(
        "seconds for SkyDNS records that give no TTL",
        30,
        flag="--ttl",
        parse=whole("TTL", 1, 86400),
        metavar="SECONDS",
    )
    negative_ttl: int = option(
        "seconds for which 'no such name' and the SOA may be kept",
        2,
        flag="--negative-ttl",
        parse=whole("TTL", 1, 3600),
        metavar="SECONDS",
    )
    stale_after_s: float = option(
        "silence of the store after which answers are marked as stale",
        15.0,
        flag="--stale-after",
        parse=values.parse_duration,
        metavar="TIME",
    )
    tcp_connections: int = option(
        "TCP connections at once, a tenth of them for any one client",
        1000,
        flag="--tcp-connections",
        parse=whole("number of connections", 1, 100_000),
        metavar="N",
    )
    tcp_idle_s: float = option(
        "silence after which a TCP connection is closed",
        10.0,
        flag="--tcp-idle",
        parse=values.parse_duration,
        metavar="TIME",
    )

    def __post_init__(self) -> None:
        """Refuse a bound that a store which is only quiet would exceed: it is heard every third of --etcd-stall."""
        if self.stale_after_s <= self.etcd_stall_s / 2:
            heard = f"a quiet etcd is heard every {self.etcd_stall_s / 3:g}s"
            raise BadSettings([f"--stale-after {self.stale_after_s:g}s: {heard}; give more than half of --etcd-stall"])
