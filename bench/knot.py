"""Knot DNS with one UDP worker, serving the names of an estate from a zone file."""

from __future__ import annotations

from collections.abc import Iterator

from bench.estate import CONTAINER_PORT, DOMAIN, HOSTS, Estate, container, host_ip, host_name, service_name
from bench.machine import free_port
from bench.parts import LOCAL, Folder
from lab.process import Process

CONFIG = """\
server:
    rundir: "{folder}"
    listen: {ip}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
zone:
  - domain: {domain}
    file: "{folder}/zone"
    zonefile-sync: -1
    journal-content: none
"""


def start(place: Folder, estate: Estate) -> tuple[Process, int]:
    """Start it; returns the process and its port, once it serves."""
    port = free_port()
    folder = place.path / "knot"
    folder.mkdir()
    (folder / "zone").write_text("\n".join(_lines(estate)) + "\n", encoding="ascii")
    config = folder / "knot.conf"
    config.write_text(CONFIG.format(folder=folder, ip=LOCAL, port=port, domain=DOMAIN), encoding="utf-8")
    process = place.start("knot", [place.tools.find("knotd"), "--config", config])
    process.wait_line("server started", within_s=30)
    return process, port


def _lines(estate: Estate) -> Iterator[str]:
    yield f"$ORIGIN {DOMAIN}."
    yield "@ 2 SOA ns.dns hostmaster 1 28800 7200 604800 2"
    yield "@ 10 NS ns.dns"
    yield from (f"ns.dns 10 A {host_ip(host)}" for host in range(HOSTS))
    yield from (f"{host_name(host)}.node 5 A {host_ip(host)}" for host in range(HOSTS))
    for service in range(estate.services):
        name = service_name(service)
        for one in range(estate.each):
            endpoint = container(estate, service, one).endpoints[0]
            lan = endpoint.addresses[0]
            offered = f"5 SRV 10 100 {lan.port} {endpoint.label}.{name}"
            yield f"{name} 5 A {lan.ip}"
            yield f"{endpoint.label}.{name} 5 A {lan.ip}"
            yield f"{name} {offered}"
            yield f"_{CONTAINER_PORT}._tcp.{name} {offered}"
