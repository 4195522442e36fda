"""What tags bring to clients: one row for each row of the tables in docs/nginx.md, all on one real engine.

Containers are started by `docker run` with tags, and clients ask Debian's nginx and the newest, which both serve them.
"""

from __future__ import annotations

import asyncio
import collections
import shutil
import socket
import ssl
import tempfile
from pathlib import Path

import aiohttp
import pytest

from lab.waiting import wait_until
from tests.confgen.asking import login
from tests.lab import clients
from tests.lab.clients import begun, call, certificate, curl, datagram, echoed, ended, greeted, websocket
from tests.lab.route_rows import ROWS, url
from tests.lab.routes import BALANCER, Box, Front, Town, start, town
from tests.lab.suite import DOMAIN

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FRONTS = {"1.22.1": "confgen", "newest": "newest"}
WITHIN_S = 20


@pytest.fixture(scope="module")
def place(lab1):
    """The host with all containers and proxies."""
    admin = Path(tempfile.mkdtemp(prefix="pf-routes-"))
    try:
        with town(lab1, admin) as made:
            yield made
    finally:
        lab1.reset()
        shutil.rmtree(admin)


@pytest.fixture(params=FRONTS)
def front(request, place: Town) -> Front:
    return place.fronts[FRONTS[request.param]]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_one_request(front, row):
    answer = curl(front, row.url, *row.options)
    assert answer.status == row.status, answer
    assert {name: answer.headers.get(name) for name in row.headers} == row.headers
    if row.seen:
        seen = {**answer.seen["headers"], **answer.seen}
        assert {name: seen.get(name) for name in row.seen} == row.seen
    assert row.text in answer.text
    if "--http2-prior-knowledge" in row.options:
        assert answer.version == "2"


def test_all_of_it_at_once_is_taken_by_nginx(front):
    """But for the streams of the proxies beside it, which have ports of their own."""
    state = front.state
    assert {note["reason"].partition(" is ")[2] for note in state["refused"]} == {"not among --stream-ports"}
    assert (state["nginx"]["error"], state["quarantined"], state["snippet_problems"]) == (None, [], [])
    assert "[warn]" not in (front.nginx / "logs/error.log").read_text(encoding="utf-8")


def test_a_name_is_found_by_dns_and_served(place):
    """Nothing but the name: the host asks our DNS server, and comes to the proxies."""
    place.host.resolver(place.host.address)
    answer = clients.parsed(place.host.run(["curl", "-sSi", "-m", "5", url("plain")]).stdout)
    assert (answer.status, answer.seen["name"]) == (200, "plain")


# Connections that stay


def inside(front, coroutine):
    with front.host.inside():
        return asyncio.run(coroutine)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_websocket(place, front, scheme):
    trust = {"ssl": place.authority.context()} if scheme == "wss" else {}
    where = url({"ws": "plain", "wss": "shop"}[scheme], "/chat", scheme)
    assert inside(front, echoed(front, where, **trust)) == "ping"


def test_a_websocket_passes_a_password(front):
    where = url("staff", "/", "ws")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        inside(front, echoed(front, where))
    assert refused.value.status == 401
    assert inside(front, echoed(front, where, headers=dict(login()))) == "ping"


def test_one_connection_at_a_time(front):
    """A WebSocket that is open takes the client's only place; when it is closed, there is room again."""

    async def hold():
        async with websocket(front, url("single", "/", "ws")) as held:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await echoed(front, url("single", "/", "ws"))
            await held.send_str("still here")
            return refused.value.status, (await held.receive(timeout=5)).data

    assert inside(front, hold()) == (429, "still here")
    wait_until(lambda: curl(front, url("single")).status == 200, within_s=WITHIN_S, what="room for another")


@pytest.mark.parametrize("service", ["calls", "tlscalls"])
@pytest.mark.parametrize("by", ["h2c", "tls"])
def test_grpc(place, front, service, by):
    name = f"{service}.{DOMAIN}"
    told = call(place, front.h2c, name) if by == "h2c" else call(place, front.https, name, str(place.admin / "ca.pem"))
    assert (told["echo"], told["chat"]) == ("hello", ["a!", "b!"])
    assert told["seen"]["x-real-ip"] == place.host.address


def test_grpc_without_its_password(place, front):
    assert call(place, front.h2c, f"staffcalls.{DOMAIN}") == {"code": "UNAUTHENTICATED"}


def test_connections_to_the_application_are_kept_but_for_post(place):
    """By the proxy of the container's own host; a request that cannot be sent twice has a fresh one."""
    front = place.fronts["confgen"]

    def ports(*options):
        return {curl(front, url("plain"), *options).seen["client_port"] for _ in range(12)}

    assert len(ports()) < 12
    assert len(ports("-d", "x")) == 12


# TLS


def test_https_is_served_by_http2_and_http_leads_there(place, front):
    trust = ("--cacert", str(place.admin / "ca.pem"))
    port = "" if front.https == 443 else f":{front.https}"
    answer = curl(front, url("shop", "/a", "https"), *trust)
    assert (answer.version, answer.status, answer.seen["headers"]["x-forwarded-proto"]) == ("2", 200, "https")
    assert answer.headers["strict-transport-security"] == "max-age=86400"
    assert curl(front, url("shop", "/a", "https"), *trust, "--http1.1").version == "1.1"
    for options, status in [((), 301), (("-d", "x"), 308)]:
        away = curl(front, url("shop", "/a?b=1"), *options)
        assert (away.status, away.headers["location"]) == (status, f"https://shop.{DOMAIN}{port}/a?b=1")
        assert "strict-transport-security" not in away.headers


SHOWN = {"by its wildcard": ("shop", "wide"), "exact before wildcard": ("named", "named"), "by tag": ("chosen", "wide")}


@pytest.mark.parametrize(("service", "name"), SHOWN.values(), ids=SHOWN)
def test_the_certificate_is_chosen_by_sni(place, front, service, name):
    shown = certificate(front, f"{service}.{DOMAIN}", place.authority.context())
    assert ssl.DER_cert_to_PEM_cert(shown) in (place.certs / f"{name}.crt").read_text(encoding="ascii")


@pytest.mark.parametrize("name", ["nobody.test", f"plain.{DOMAIN}", None], ids=["unknown", "http only", "none"])
def test_a_name_that_has_no_https_is_shown_no_certificate(place, front, name):
    with pytest.raises(ssl.SSLError, match=r"unrecognized_name|UNRECOGNIZED_NAME"):
        greeted(front, name, place.authority.context(verify=False))


def test_a_host_that_the_connection_was_not_made_for_is_sent_back(place, front):
    trust = ("--cacert", str(place.admin / "ca.pem"))
    assert curl(front, url("shop", "/", "https"), *trust, "-H", f"Host: plain.{DOMAIN}").status == 421


def test_a_renewed_certificate_is_served(place, front):
    chain = place.authority.write(place.certs, "named", f"named.{DOMAIN}").decode()
    context = place.authority.context()
    wait_until(
        lambda: ssl.DER_cert_to_PEM_cert(certificate(front, f"named.{DOMAIN}", context)) in chain,
        within_s=WITHIN_S, what="the new certificate", every_s=0.1,
    )  # fmt: skip


def test_tls_is_1_2_or_1_3_and_sessions_are_resumed(place, front):
    context = place.authority.context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # with it this client would speak the old versions
    with pytest.deprecated_call():
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"alert protocol version"):
        greeted(front, f"shop.{DOMAIN}", context)
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    with greeted(front, f"shop.{DOMAIN}", context) as tls:
        assert tls.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with greeted(front, f"shop.{DOMAIN}", context) as first:
        session = first.session
    with greeted(front, f"shop.{DOMAIN}", context, session=session) as second:
        assert second.session_reused


# Streams


def test_tcp(place, front):
    """HTTP is only what goes over it: nginx neither reads nor changes it."""
    answer = curl_at(front, front.streams, "/through")
    assert (answer.seen["name"], answer.seen["target"]) == ("lines", "/through")
    assert "x-forwarded-for" not in answer.seen["headers"]


def curl_at(front, port, path):
    asked = ["curl", "-sSi", "-m", "5", f"http://{front.host.address}:{port}{path}"]
    return clients.parsed(front.host.run(asked, check=False).stdout)


def test_udp(front):
    port = {15000: 9400, 16000: 9401}[front.streams]
    for text in (b"one", b"two"):
        assert datagram(front, front.streams + 1, text) == b"lines:%d %s" % (port, text)


@pytest.mark.parametrize("where", ["beside https", "on a port of its own"])
def test_tls_is_passed_through_by_its_name(place, front, where):
    """The client verifies the application's own certificate, and the proxy's own hosts stay what they are."""
    context = ssl.create_default_context()
    place.application.configure_trust(context)
    port = front.https if where == "beside https" else front.streams + 2
    with greeted(front, "passed.test", context, port) as tls, tls.makefile("rb") as stream:
        tls.sendall(b"GET /a HTTP/1.1\r\nHost: passed.test\r\nConnection: close\r\n\r\n")
        answer = clients.parsed(stream.read().decode())
    assert (answer.seen["name"], answer.seen["sni"]) == ("inner", "passed.test")
    beside = curl(front, url("shop", "/", "https"), "--cacert", str(place.admin / "ca.pem"))
    assert beside.seen["headers"]["x-real-ip"] == front.host.address


@pytest.fixture
def guest(place):
    """Starts a container that goes with the test."""
    yield lambda *tags: start(place.host, "guest", Box(dict(zip(("9200", "9300"), tags, strict=False))), place.admin)
    place.host.docker(["rm", "-f", "guest"])


def test_a_port_that_is_taken_costs_its_route_alone(front, guest):
    late, port = f"late-{front.name}", front.streams + 3
    with front.host.inside():
        squatter = socket.create_server((front.host.address, port))
    with squatter:
        guest(f"NAME={late} PROXY=tcp PROXY_PORT={port}", "NAME=beside PROXY=http")
        said = wait_until(lambda: front.refused(late), within_s=WITHIN_S, what="it to be said", every_s=0.1)
        assert f"port {port}/tcp is taken" in said[0]
        wait_until(lambda: curl(front, url("beside")).status == 200, within_s=WITHIN_S, what="its neighbour")
    wait_until(lambda: curl_at(front, port, "/").status == 200, within_s=WITHIN_S, what="the port, once it is free")


def test_nobody_takes_a_name_that_another_service_has(place, front, guest):
    guest("NAME=thief PROXY=http PROXY_HOST=site.test", f"NAME=thief PROXY=tcp PROXY_HOST=shop.{DOMAIN}")
    said = wait_until(lambda: len(found := front.refused("thief")) == 2 and found, within_s=WITHIN_S, what="both")
    assert ["site" in one or "shop" in one for one in said] == [True, True], said
    assert curl(front, "http://site.test/").seen["name"] == "site"
    shown = certificate(front, f"shop.{DOMAIN}", place.authority.context())
    assert ssl.DER_cert_to_PEM_cert(shown) in (place.certs / "wide.crt").read_text(encoding="ascii")


# Limits by client


def test_rate(front):
    statuses = [curl(front, url("rated")).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_allow(place, front):
    """This host is let in, the world outside is not."""
    assert curl(front, url("near")).status == 200
    outside = curl(front, url("near"), place=place.lab.switch)
    assert outside.status == 403
    assert curl(front, url("plain"), place=place.lab.switch).seen["headers"]["x-real-ip"] == place.lab.switch.GATEWAY


# Several containers


def test_weights(front):
    names = collections.Counter(curl(front, url("weighed"), "-d", "x").seen["name"] for _ in range(40))
    assert 26 <= names["heavy"] <= 34  # 30 of 40; each worker counts by itself


def test_sticky(front):
    met = set()
    for _ in range(60):  # a coin that falls the same way 60 times
        first = curl(front, url("sticky"))
        cookie = first.headers["set-cookie"].partition(";")[0]
        again = [curl(front, url("sticky"), "-b", cookie, *more).seen["name"] for more in ((), (), ("-d", "x"))]
        assert again == [first.seen["name"]] * 3
        met.add(first.seen["name"])
        if len(met) == 2:
            break
    assert met == {"sticky1", "sticky2"}


@pytest.fixture
def pair(place):
    """Two containers of one service, which may be stopped or killed; afterwards every proxy has both again."""
    yield "pair1", "pair2"
    ended_too = place.host.docker(["ps", "-a", "-q", "-f", "name=^pair[12]$", "-f", "status=exited"]).stdout.split()
    served_by_all(
        place, 2 - len(ended_too), "what has ended to leave"
    )  # or the proxies would seem to have them already
    place.host.docker(["start", "pair1", "pair2"])
    served_by_all(place, 2, "both to be back")


def served_by_all(place, count, what):
    for one in FRONTS.values():
        front = place.fronts[one]
        wait_until(lambda front=front: front.servers().get("pair", 0) == count, within_s=WITHIN_S, what=what)


def test_a_container_that_dies_costs_no_request(place, front, pair):
    """It is killed with a request in its hands; another one answers, and the log names both."""
    number = f"dies-{front.name}"
    asked = begun(front, url("pair", f"/slow/2500?n={number}"), "-H", f"X-Request-ID: {number}")
    victim = wait_until(lambda: clients.holder(place, pair, number), within_s=5, what="the request to arrive")
    place.host.docker(["kill", "--signal", "KILL", victim])
    answer = ended(asked)
    assert (answer.status, answer.seen["name"]) == (200, next(name for name in pair if name != victim))
    line = wait_until(lambda: front.logged(number), within_s=5, what="its line in the log")
    assert line["server_status"] == "502, 200"


def test_a_container_that_is_stopped_finishes_what_it_has(place, front, pair):
    """It answers the request that it has; new ones go to the other, and none fails."""
    number = f"stops-{front.name}"
    asked = begun(front, url("pair", f"/slow/2500?n={number}"))
    leaving = wait_until(lambda: clients.holder(place, pair, number), within_s=5, what="the request to arrive")
    stopping = place.host.popen(["docker", "stop", "-t", "20", leaving], name="stop")
    statuses = []

    def gone():
        statuses.append(curl(front, url("pair")).status)
        return front.servers().get("pair") == 1

    wait_until(gone, within_s=WITHIN_S, what=f"{leaving} to leave the upstream")
    wait_until(
        lambda: leaving not in {curl(front, url("pair")).seen["name"] for _ in range(6)},
        within_s=2, what=f"{leaving} to get no more",
    )  # fmt: skip
    assert (answer := ended(asked)).status == 200
    assert answer.seen["name"] == leaving
    assert set(statuses) == {200}
    assert stopping.wait(30) == 0
    assert '"drained", "unfinished": 0' in place.host.docker(["logs", "--tail", "1", leaving]).stdout


def test_a_service_without_containers_is_503(place, front):
    place.host.docker(["stop", "-t", "0", "stopped"])
    answer = wait_until(
        lambda: (found := curl(front, url("stopped"))).status == 503 and found, within_s=WITHIN_S, what="503"
    )
    assert int(answer.headers["retry-after"]) > 0


# What an admin sees and gives


def test_the_access_log_has_the_id_that_the_application_saw(front):
    number = f"trace-{front.name}.1:2"
    answer = curl(front, url("plain", "/traced"), "-H", f"X-Request-ID: {number}")
    assert answer.seen["headers"]["x-request-id"] == number
    line = wait_until(lambda: front.logged(number), within_s=5, what="its line in the log")
    assert (line["status"], line["uri"], line["client"]) == (200, "/traced", front.host.address)
    own = curl(front, url("plain", "/traced"), "-H", "X-Request-ID: a b").seen["headers"]["x-request-id"]
    assert wait_until(lambda: front.logged(own), within_s=5, what="the proxy's own")["uri"] == "/traced"


def test_maintenance_by_a_page(place, front):
    page = place.admin / "pages" / f"paged.{DOMAIN}.html"
    page.write_text("<h1>back at noon</h1>", encoding="utf-8")
    found = wait_until(
        lambda: (one := curl(front, url("paged", "/any"))).status == 503 and one, within_s=WITHIN_S, what="the page"
    )
    assert (found.text, found.headers["content-type"]) == ("<h1>back at noon</h1>", "text/html")
    page.unlink()
    wait_until(lambda: curl(front, url("paged")).status == 200, within_s=WITHIN_S, what="the application")


def test_trusted_balancers_say_who_the_client_is(place):
    front = place.fronts["told"]
    told = ("-H", f"X-Forwarded-For: {BALANCER}", "-H", "X-Forwarded-Proto: https")
    seen = curl(front, url("near"), *told).seen["headers"]
    assert (seen["x-real-ip"], seen["x-forwarded-proto"]) == (BALANCER, "https")
    assert curl(front, url("near"), "-H", "X-Forwarded-For: 8.8.8.8").status == 403
    outside = curl(front, url("plain"), *told, place=place.lab.switch).seen["headers"]
    assert (outside["x-real-ip"], outside["x-forwarded-proto"]) == (place.lab.switch.GATEWAY, "http")


@pytest.mark.parametrize(("client", "status"), [(BALANCER, 200), ("8.8.8.8", 403)])
def test_the_proxy_protocol(place, client, status):
    front = place.fronts["behind"]
    with front.host.inside():
        there = socket.create_connection((front.host.address, front.http), timeout=5)
    head = f"GET / HTTP/1.1\r\nHost: near.{DOMAIN}\r\nConnection: close\r\n\r\n"
    with there, there.makefile("rb") as stream:
        there.sendall(f"PROXY TCP4 {client} {front.host.address} 5000 80\r\n{head}".encode())
        answer = clients.parsed(stream.read().decode())
    assert answer.status == status
    if status == 200:
        assert answer.seen["headers"]["x-real-ip"] == client
