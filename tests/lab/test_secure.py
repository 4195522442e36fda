"""One container on a real engine, tagged for https, TCP and UDP: served by its tags alone, to clients that verify."""

from __future__ import annotations

import json
import socket

import pytest
import trustme

from lab.tools import Tools
from lab.waiting import wait_until
from tests.lab.suite import DOMAIN, ask, run, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NAME = f"shop.{DOMAIN}"
TAGS = (
    *("-e", "SERVICE_NAME=shop", "-e", "SERVICE_9200_PROXY=https", "-e", "SERVICE_9200_PROXY_HSTS=1d"),
    *("-e", "SERVICE_9300_PROXY=tcp", "-e", "SERVICE_9300_PROXY_PORT=15432"),
    *("-e", "SERVICE_9400_PROXY=udp", "-e", "SERVICE_9400_PROXY_PORT=15353"),
    *("-p", "9200", "-p", "9300", "-p", "9400/udp", "-e", "UDP_PORTS=9400"),
)


def curl(host, url, *more):
    """What curl says of a URL at the host's own proxy: body, status, and the version of HTTP."""
    command = ["curl", "-s", "-m", "3", "-w", "\n%{http_code} %{http_version} %{redirect_url}", *more, url]
    body, _, rest = host.run(command, check=False).stdout.rpartition("\n")
    return body, rest.split()


def datagram(host, port):
    with host.inside():
        client = socket.socket(type=socket.SOCK_DGRAM)
    with client:
        client.settimeout(3)
        client.sendto(b"hello", (host.address, port))
        return client.recv(200)


def test_tags_bring_https_and_streams(fresh1, tmp_path):
    (host,) = fresh1.hosts
    ca = trustme.CA()
    pair = ca.issue_cert(f"*.{DOMAIN}")
    certs = tmp_path / "certs" / "wide"
    certs.mkdir(parents=True)
    pair.private_key_pem.write_to_path(str(certs / "privkey.pem"))
    (certs / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusting = ("--cacert", str(tmp_path / "ca.pem"), "--resolve", f"{NAME}:443:{host.address}")
    modules = str(Tools(["lab"]).nginx_modules)
    with running(fresh1, confgen=("--certs", str(certs.parent), "--nginx-modules", modules)) as suite:
        run(host, *TAGS, name="shop1")
        wait_until(lambda: curl(host, f"https://{NAME}/", *trusting)[1][0] == "200", within_s=20, what="https")
        body, (status, version, *_) = curl(host, f"https://{NAME}/", *trusting)
        assert (json.loads(body)["name"], status, version) == ("shop1", "200", "2")
        plain = curl(host, f"http://{host.address}/x", "-H", f"Host: {NAME}")
        assert plain[1] == ["301", "1.1", f"https://{NAME}/x"]
        body, _ = curl(host, f"http://{host.address}:15432/")
        assert json.loads(body)["name"] == "shop1"
        assert datagram(host, 15353) == b"shop1:9400 hello"
        wait_until(lambda: srv_ports(host) == [80, 443, 15353, 15432], within_s=10, what="the proxy's ports in DNS")
        assert suite.state(host, "confgen")["refused"] == []


def srv_ports(host):
    """Ports that DNS gives; of https as soon as the proxy's own record, written once a second, has it."""
    return sorted(int(str(one).split()[2]) for one in ask(host, NAME, "SRV").answer[0])
