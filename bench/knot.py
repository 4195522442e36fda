"""Knot DNS, serving the names of an estate, or of a domain that is not ours, from a zone file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.estate import CONTAINER_PORT, DOMAIN, HOSTS, PROXY_IP, Estate, container, host_ip, host_name, service_name
from bench.parts import LOCAL, Folder
from bench.question import OUTSIDE, OUTSIDE_NAMES, outside_name
from bench.server import Server
from tests.parts.ports import free_port

TITLE = "Knot DNS"
CONFIG = """\
server:
    rundir: "{folder}"
    listen: {ip}@{port}
    udp-workers: {workers}
    tcp-workers: {workers}
    background-workers: 1
database:
    storage: "{folder}"
template:
  - id: default
    zonefile-sync: -1
    journal-content: none
{modules}
zone:
  - domain: {domain}
    file: "{folder}/zone"
"""
COOKIES = "    global-module: mod-cookies"


def start(
    place: Folder, domain: str, lines: Iterable[str], *, name: str, workers: int = 1, cookies: bool = False
) -> Server:
    """Start one with a zone; returns it once it serves.

    Args:
        place: where it runs.
        domain: the zone's name.
        lines: the zone file.
        name: of its folder and log, one for each.
        workers: threads for UDP, and as many for TCP.
        cookies: whether it does DNS cookies (RFC 7873).
    """
    port = free_port()
    folder = place.path / name
    folder.mkdir()
    (folder / "zone").write_text("\n".join(lines) + "\n", encoding="ascii")
    config = folder / "knot.conf"
    text = CONFIG.format(
        folder=folder, ip=LOCAL, port=port, domain=domain, workers=workers, modules=COOKIES if cookies else ""
    )
    config.write_text(text, encoding="utf-8")
    process = place.start(name, [place.tools.find("knotd"), "--config", config])
    process.wait_line("server started", within_s=30)
    return Server(TITLE, process.pid, port)


def zone(estate: Estate) -> Iterator[str]:
    """The zone file with the names that our DNS server has for an estate; who is proxied has one proxy."""
    yield f"$ORIGIN {DOMAIN}."
    yield "@ 2 SOA ns.dns hostmaster 1 28800 7200 604800 2"
    yield "@ 10 NS ns.dns"
    yield from (f"ns.dns 10 A {host_ip(host)}" for host in range(HOSTS))
    yield from (f"{host_name(host)}.node 5 A {host_ip(host)}" for host in range(HOSTS))
    for service in estate.numbers:
        name = service_name(service)
        if estate.proxied:
            yield f"{name} 10 A {PROXY_IP}"
            continue
        for one in range(estate.each):
            endpoint = container(estate, service, one).endpoints[0]
            lan = endpoint.addresses[0]
            offered = f"5 SRV 10 100 {lan.port} {endpoint.label}.{name}"
            yield f"{name} 5 A {lan.ip}"
            yield f"{endpoint.label}.{name} 5 A {lan.ip}"
            yield f"{name} {offered}"
            yield f"_{CONTAINER_PORT}._tcp.{name} {offered}"


def outside() -> Iterator[str]:
    """The zone file of the domain that is not ours."""
    yield f"$ORIGIN {OUTSIDE}."
    yield "@ 3600 SOA ns hostmaster 1 28800 7200 604800 300"
    yield "@ 3600 NS ns"
    yield "ns 3600 A 192.0.2.1"
    for number in range(OUTSIDE_NAMES):
        yield f"{outside_name(number)}. 3600 A 10.78.{number // 250}.{number % 250 + 1}"
