"""Settings of the DNS server; the shared ones are inherited."""

from __future__ import annotations

import dataclasses

from pilotfish.catalog import values
from pilotfish.catalog.settings import BadSettings, Shared, address_and_port, option, whole


@dataclasses.dataclass(frozen=True)
class DnsSettings(Shared):
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
