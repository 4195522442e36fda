"""What `up` prints when it is up: what it watches, where it listens, and three lines to try. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.catalog.telemetry import own_version
from pilotfish.catalog.values import join_host_port
from pilotfish.settings import Everything


def welcome(everything: Everything, missing: Mapping[str, str]) -> str:
    """The lines that `up` prints once.

    Args:
        everything: the settings.
        missing: what is not there yet, with the reason for each.
    """
    up, dns, confgen = everything.up, everything.dns, everything.confgen
    domain = up.domain[0]
    address, port = dns.listen[0]
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # the wildcard stands for loopback too
    store = f"etcd at {', '.join(up.etcd)}" if up.etcd else f"embedded, in {everything.data}"
    host = f"hello.{domain}"
    web = "" if confgen.http_port == 80 else f":{confgen.http_port}"
    return "\n".join([
        f"pilotfish {own_version()} on {up.node_name}",
        *(f"  not yet  {what}: {why}" for what, why in sorted(missing.items())),
        f"  watches  {', '.join(everything.registrator.docker)}",
        f"  store    {store}",
        f"  DNS      {', '.join(join_host_port(*one) for one in dns.listen)}, udp and tcp, for {', '.join(up.domain)}",
        f"  HTTP     port {confgen.http_port}",
        f"  status   http://{join_host_port(*up.status)}/ready",
        "Try:",
        "  docker run -d -P --name hello -e SERVICE_80_PROXY=http -e SERVICE_NAME=hello nginx",
        f"  dig @{asked} -p {port} {host}",
        f"  curl -H 'Host: {host}' http://127.0.0.1{web}/",
    ])  # fmt: skip
