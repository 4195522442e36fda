"""Unbound with one thread, forwarding everything to one name server and keeping what it said."""

from __future__ import annotations

from bench.parts import LOCAL, Folder
from bench.server import Server
from tests.parts.ports import free_port

CONFIG = """\
server:
    interface: {ip}@{port}
    access-control: 127.0.0.0/8 allow
    num-threads: 1
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    do-not-query-localhost: no
    module-config: "iterator"
    so-rcvbuf: 1m
    prefetch: no
    verbosity: 1
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {ip}@{upstream}
"""


def start(place: Folder, upstream: int) -> Server:
    """Start it; returns it once it serves.

    Args:
        place: where it runs.
        upstream: port of the name server that it asks, on loopback.
    """
    port = free_port()
    folder = place.path / "unbound"
    folder.mkdir()
    config = folder / "unbound.conf"
    config.write_text(CONFIG.format(folder=folder, ip=LOCAL, port=port, upstream=upstream), encoding="utf-8")
    process = place.start("unbound", [place.tools.find("unbound"), "-d", "-p", "-c", config])
    process.wait_line("start of service", within_s=30)
    return Server("Unbound", process.pid, port)
