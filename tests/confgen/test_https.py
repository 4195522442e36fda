"""A real nginx, old and new, serves https as docs/nginx.md says, to real clients."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import stat
from typing import NamedTuple

import pytest

from confgen.nginx import io_certs
from pilotfish.catalog.route import Hsts
from tests.confgen.kit import DOMAIN, Backend, Running, all_workers, claim, container, endpoint, get, put, until
from tests.confgen.tls_kit import dial, get_tls, served_certificate, weak
from tests.parts.ports import free_port

WEB, API = f"web.{DOMAIN}", f"api.{DOMAIN}"


def tls_running(folder, nginx, certs, **more):
    return Running(folder, nginx, certs=str(certs), https_port=free_port(), **more)


def secure(service, port, **more):
    return put(container(service, endpoint(service, to=port, scheme="https", **more)))


async def test_a_host_is_served_over_https_and_sent_there_from_http(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(secure("web", one.port, hsts=Hsts(86400, subdomains=True)), claim("web", WEB))
        answer = await get_tls(port, WEB, "/a?b=c", authority=authority)
        assert (answer.status, answer.body) == (200, "one GET /a?b=c")
        assert answer.headers["strict-transport-security"] == "max-age=86400; includesubdomains"
        seen = one.requests[-1][2]
        assert (seen["x-forwarded-proto"], seen["x-forwarded-port"], seen["x-real-ip"]) == (
            "https",
            str(port),
            "127.0.0.1",
        )
        for method, status in (("GET", 301), ("POST", 308)):
            answer = await get(running.port, WEB, "/a?b=c", method=method)
            assert (answer.status, answer.headers["location"]) == (status, f"https://{WEB}:{port}/a?b=c")
            assert "strict-transport-security" not in answer.headers  # RFC 6797 §7.2
        assert len(one.requests) == 1


async def test_each_name_is_shown_its_own_certificate_and_an_unknown_one_is_refused(nginx, folder, certs, authority):
    exact = authority.write(certs, "exact", "a.shop.test")
    wide = authority.write(certs, "wide", "*.shop.test", days=800)
    async with Backend("a") as a, Backend("b") as b, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(
            secure("a", a.port, hosts=("a.shop.test",)),
            secure("b", b.port, hosts=("*.shop.test",)),
            put(container("c", endpoint("c", to=b.port, hosts=("c.shop.test",)))),
            claim("a", "a.shop.test"),
            claim("b", "*.shop.test"),
            claim("c", "c.shop.test"),
        )
        for host, pem, body in (("a.shop.test", exact, "a GET /"), ("x.shop.test", wide, "b GET /")):
            assert (await get_tls(port, host, authority=authority)).body == body
            first = pem.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
            assert await served_certificate(port, host, authority) == ssl.PEM_cert_to_DER_cert(first.decode())
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await served_certificate(port, "nobody.test", authority)
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await served_certificate(port, None, authority)
        # On a connection that was made for another name, as browsers reuse them for all names of a certificate.
        answer = await get_tls(port, "nobody.test", authority=authority, name="x.shop.test")
        assert answer.status == 421


async def test_a_name_that_its_wildcard_does_not_cover_is_not_sent_to_https(nginx, folder, certs, authority):
    """`*` of nginx is any number of labels, that of a certificate one."""
    authority.write(certs, "wide", "*.w.test")
    authority.write(certs, "exact", "x.test")
    async with Backend("w") as one, tls_running(folder, nginx, certs) as running:
        wide = secure("web", one.port, hosts=("*.w.test", "x.test"), hsts=Hsts(60))
        path = put(container("path", endpoint("path", to=one.port, scheme="https", hosts=("*.w.test",), path="/p")))
        await running.settle(
            wide, path, claim("web", "*.w.test"), claim("web", "x.test"), claim("path", "*.w.test", "/p")
        )
        for host, method, path, status in (
            ("a.w.test", "GET", "/", 301),
            ("a.w.test.", "GET", "/", 301),
            ("A.W.TEST:99", "POST", "/", 308),
            ("a.w.test", "GET", "/p", 301),
            ("x.test", "GET", "/", 301),
            ("a.b.w.test", "GET", "/", 200),
            ("a.b.w.test.", "POST", "/", 200),
            ("c.a.b.w.test", "GET", "/p", 200),
        ):
            answer = await get(running.port, host, path, method=method)
            assert (answer.status, "strict-transport-security" in answer.headers) == (status, False), (host, path)
        answer = await get_tls(running.settings.https_port, "a.w.test", authority=authority)
        assert (answer.body, answer.headers["strict-transport-security"]) == ("w GET /", "max-age=60")
        reason = "names of more labels than *.w.test are served over http alone: no certificate covers them"
        assert [(note["subject"], note["reason"]) for note in running.state["refused"]] == [
            ("*.w.test/p", reason),
            ("*.w.test/", reason),
        ]


async def test_http2_is_spoken_to_a_client_that_asks_for_it(nginx, folder, certs, authority, tmp_path):
    authority.write(certs, WEB)
    authority.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(secure("web", one.port), claim("web", WEB))
        async with dial(port, WEB, authority.context("h2", "http/1.1")) as (_, _, tls):
            assert (tls.selected_alpn_protocol(), tls.version()) == ("h2", "TLSv1.3")
        curl = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--http2", "--cacert", str(tmp_path / "ca.pem"), "--resolve", f"{WEB}:{port}:127.0.0.1",
            "--write-out", " over %{http_version}", f"https://{WEB}:{port}/x", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(curl.communicate(), 10)
        assert output == b"one GET /x over 2"
        assert one.requests[-1][2]["host"] == f"{WEB}:{port}"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_protocols_are_refused(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        for version, taken in (("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)):
            context = authority.context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
            try:
                async with dial(running.settings.https_port, WEB, context) as (_, _, tls):
                    assert (tls.version().replace(".", "_"), taken) == (version, True)
            except ssl.SSLError:
                assert not taken


async def test_a_session_is_resumed_also_after_a_reload(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        context = authority.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the session is known right after the handshake
        port = running.settings.https_port
        first = await asyncio.to_thread(handshake, port, context)
        await running.settle(secure("web", one.port, weight=7), claim("web", WEB))
        assert (await asyncio.to_thread(handshake, port, context, first.session)).session_reused


class Handshaken(NamedTuple):
    session: ssl.SSLSession
    session_reused: bool


def handshake(port, context, session=None):
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=WEB, session=session) as tls,
    ):
        return Handshaken(tls.session, tls.session_reused)


async def test_without_a_certificate_http_serves_and_it_is_said_until_one_comes(nginx, folder, certs, authority):
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        assert (await get(running.port, WEB)).body == "one GET /"
        refused = [note["reason"] for note in running.state["refused"]]
        assert refused == [f"served over http alone: no certificate in --certs covers {WEB}"]
        assert running.service._record._wanted.https_port == 0
        authority.write(certs, WEB)
        await until(lambda: not running.state["refused"], "the certificate is found")
        await until(lambda: running.service._record._wanted.https_port, "that https is served is told")
        assert (await get(running.port, WEB)).status == 301
        assert (await get_tls(running.settings.https_port, WEB, authority=authority)).body == "one GET /"
        assert running.service._record._wanted.alpn == ("h2",)


async def test_without_a_folder_nothing_listens_for_https(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, https_port=free_port()) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        assert (await get(running.port, WEB)).body == "one GET /"
        assert [note["reason"] for note in running.state["refused"]] == ["served over http alone: no --certs is given"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", running.settings.https_port)


async def test_a_route_names_its_certificate(one_nginx, folder, certs, authority):
    authority.write(certs, "special", WEB)
    authority.write(certs, "better", WEB, days=365)
    authority.write(certs, "other", "other.test")
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        for named, shown, problems in (
            ("special", "special", []),
            ("nowhere", "better", ["--certs has no pair 'nowhere'"]),
            ("other", "better", [f"'other' does not cover {WEB}"]),
        ):
            await running.settle(secure("web", one.port, cert=named), claim("web", WEB))
            assert await served_certificate(running.settings.https_port, WEB, authority) == octets(certs, shown)
            assert [note["reason"] for note in running.state["refused"]] == [
                f"PROXY_CERT does not count: {problem}; '{shown}' is served" for problem in problems
            ]
            assert (await get(running.port, WEB)).status == 301


def octets(certs, name):
    return ssl.PEM_cert_to_DER_cert((certs / f"{name}.crt").read_text().split("\n-----BEGIN", 2)[0])


@pytest.mark.parametrize("named", ["nope", "other", "second"])
async def test_a_stranger_at_a_host_decides_nothing_about_its_certificate(one_nginx, folder, certs, authority, named):
    """Nor does a container that joins the service take https from it, whatever it names."""
    authority.write(certs, "first", WEB, days=365)
    authority.write(certs, "second", WEB)
    authority.write(certs, "other", "other.test")
    async with Backend("one") as one, Backend("evil") as evil, tls_running(folder, one_nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(secure("web", one.port), claim("web", WEB, since=1.0))
        await running.settle(
            secure("evil", evil.port, hosts=(WEB,), path="/zz", cert=named), claim("evil", WEB, "/zz", since=9.0)
        )
        assert await served_certificate(port, WEB, authority) == octets(certs, "first")
        assert (await get(running.port, WEB)).status == 301
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"
        (note,) = running.state["refused"]
        assert (note["service"], note["subject"]) == ("evil", f"{WEB}/zz")
        assert note["reason"].startswith("PROXY_CERT does not count: ")
        joining = endpoint("web", name="web2", to=one.port, scheme="https", cert="nope")
        await running.settle(put(container("web2", joining)))
        assert (await get(running.port, WEB)).status == 301
        assert (await get_tls(port, WEB, authority=authority)).body == "one GET /"


async def test_services_share_a_host_and_only_those_that_ask_for_it_leave_http(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("web") as web, Backend("acme") as acme, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        challenge = "/.well-known/acme-challenge"
        await running.settle(
            secure("web", web.port),
            put(container("acme", endpoint("acme", to=acme.port, hosts=(WEB,), path=challenge))),
            claim("web", WEB),
            claim("acme", WEB, challenge),
        )
        assert (await get(running.port, WEB, f"{challenge}/x")).body == f"acme GET {challenge}/x"
        assert (await get(running.port, WEB, "/x")).status == 301
        assert (await get_tls(port, WEB, f"{challenge}/x", authority=authority)).body == f"acme GET {challenge}/x"
        assert (await get_tls(port, WEB, "/x", authority=authority)).body == "web GET /x"
        await running.settle(
            put(container("acme", endpoint("acme", to=acme.port, hosts=(WEB,), path="/api", scheme="https"))),
            claim("acme", WEB, "/api"),
        )
        assert (await get(running.port, WEB, "/api/x")).status == 301
        assert (await get_tls(port, WEB, "/api/x", authority=authority)).body == "acme GET /api/x"


async def test_fault_c10_the_last_endpoint_leaves_a_503_over_https_too(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(secure("web", one.port), claim("web", WEB))
        assert (await get_tls(port, WEB, authority=authority)).status == 200
        await running.settle(secure("web", one.port, state="draining"))
        answer = await get_tls(port, WEB, authority=authority)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert (await get(running.port, WEB)).status == 301
        await running.settle(deletes=[secure("web", one.port).key])
        answer = await get_tls(port, WEB, authority=authority)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):  # and nobody's default page for others
            await served_certificate(port, API, authority)


async def test_keys_are_for_nginx_alone_and_stand_in_nothing_that_is_shown(one_nginx, folder, certs, authority, caplog):
    authority.write(certs, WEB)
    (certs / "broken.crt").write_bytes((certs / f"{WEB}.crt").read_bytes())
    (certs / "broken.key").write_bytes(authority.pair("other.test")[1])
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        keys_ = list((folder / "generations").glob("*/certs/*.key"))
        assert keys_
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys_} == {0o600}
        said = (
            json.dumps(running.state)
            + caplog.text
            + "".join(one.read_text() for one in (folder / "logs").glob("*error.log"))
        )
        said += running.telemetry.registry and str(list(running.telemetry.registry.collect()))
        assert running.state["certificate_problems"] == {
            "broken": "broken.crt, broken.key: the key is not that of the certificate; it is not served"
        }
        for pem in (certs / f"{WEB}.key", certs / "broken.key"):
            lines = [line for line in pem.read_text().splitlines() if not line.startswith("-----")]
            assert lines
            assert not any(line in said for line in lines)
        not_after = running.state["certificates"][0]["not_after"]
        sample = running.telemetry.registry.get_sample_value(
            "pilotfish_confgen_certificate_not_after_seconds", {"name": WEB}
        )
        assert sample == not_after > running.telemetry.now()


async def test_a_broken_pair_is_served_as_it_was_also_by_the_next_process(one_nginx, folder, certs, authority):
    authority.write(certs, WEB)
    shown = None
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        shown = await served_certificate(running.settings.https_port, WEB, authority)
        entries = [secure("web", one.port), claim("web", WEB)]
    (certs / f"{WEB}.key").write_text("half a k")
    async with tls_running(folder, one_nginx, certs) as running:
        await running.settle(*entries)
        assert await served_certificate(running.settings.https_port, WEB, authority) == shown
        problem = running.state["certificate_problems"][WEB]
        assert problem == f"{WEB}.key: no key is in it; the last good pair is served"


async def test_a_renewal_under_load_fails_no_handshake(nginx, folder, certs, authority):
    """Half a file, then a key without its certificate, then the certificate: each stands for a while."""
    old_chain = authority.write(certs, WEB)
    new_chain, new_key = authority.pair(WEB, days=365)
    failed, done = [], 0
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        port = running.settings.https_port
        await running.settle(secure("web", one.port), claim("web", WEB))
        before = await served_certificate(port, WEB, authority)
        stop = asyncio.Event()

        async def load():
            nonlocal done
            while not stop.is_set():
                try:
                    answer = await get_tls(port, WEB, authority=authority)
                    assert answer.body == "one GET /"
                    done += 1
                except Exception as error:  # noqa: BLE001  whatever it is, it is a failed request
                    failed.append(error)

        clients = [asyncio.create_task(load()) for _ in range(3)]
        for chain, key, problem in (
            (new_chain[: len(new_chain) // 3], None, "its certificate is cut short"),
            (old_chain, new_key, "the key is not that of the certificate"),
            (new_chain[: len(new_chain) * 3 // 4], None, "OpenSSL says"),
        ):
            if chain is not None:
                (certs / f"{WEB}.crt").write_bytes(chain)
            if key is not None:
                (certs / f"{WEB}.key").write_bytes(key)
            said = await until(
                lambda problem=problem: (
                    problem in (text := running.state["certificate_problems"].get(WEB, "")) and text
                ),
                f"{problem} is seen",
            )
            assert said.endswith("the last good pair is served")
            assert await served_certificate(port, WEB, authority) == before
        (certs / f"{WEB}.crt").write_bytes(new_chain)
        await until(lambda: served_is_new(port, authority, before), "the new certificate is served")
        stop.set()
        await asyncio.gather(*clients)
    assert failed == []
    assert done > 50


async def served_is_new(port, authority, before):
    return await served_certificate(port, WEB, authority) != before


async def test_a_folder_that_goes_away_takes_nothing_away(one_nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        shutil.rmtree(certs)
        await until(lambda: "" in running.state["certificate_problems"], "the folder is missed")
        assert (await get_tls(running.settings.https_port, WEB, authority=authority)).status == 200


async def test_a_pair_that_nginx_alone_refuses_costs_its_host_alone(nginx, folder, certs, authority, monkeypatch):
    """Two OpenSSLs may differ in what they take: here ours is told to take anything."""
    authority.write(certs, WEB)
    chain, key = weak(WEB, API)
    (certs / "weak.crt").write_bytes(chain)
    (certs / "weak.key").write_bytes(key)
    monkeypatch.setattr(io_certs, "STRENGTH", "ALL:@SECLEVEL=0")
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(
            secure("web", one.port),
            claim("web", WEB),
            secure("api", one.port, cert="weak"),
            claim("api", API),
        )
        assert (await get_tls(running.settings.https_port, WEB, authority=authority)).body == "one GET /"
        assert (await get(running.port, API)).body == "one GET /"
        problem = running.state["certificate_problems"]["weak"]
        assert problem.startswith("nginx refuses it: ")
        assert "key too small" in problem
        assert problem.endswith("it is not served")
        # A renewal that nginx does not take: what was served before is served on.
        before = await served_certificate(running.settings.https_port, WEB, authority)
        (certs / "weak.crt").unlink()  # which would serve as well
        (certs / f"{WEB}.crt").write_bytes(chain)
        (certs / f"{WEB}.key").write_bytes(key)
        said = await until(lambda: running.state["certificate_problems"].get(WEB), "it is refused")
        assert said.endswith("the last good pair is served")
        await running.settle(secure("web", one.port, weight=3))
        assert await served_certificate(running.settings.https_port, WEB, authority) == before


async def test_fault_c9_files_that_are_written_anew_with_the_same_octets_cost_no_reload(
    one_nginx, folder, certs, authority
):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        workers = await all_workers(running)
        care = running.service._front
        for _ in range(3):
            for file in certs.iterdir():
                file.write_bytes(file.read_bytes())
            assert not await care.look(settled_s=0.0)
        assert await all_workers(running) == workers


async def test_fault_c11_what_is_open_over_tls_outlives_reloads(nginx, folder, certs, authority):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        async with dial(running.settings.https_port, WEB, authority.context()) as (reader, writer, _):
            writer.write(f"GET / HTTP/1.1\r\nHost: {WEB}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            for turn in range(1, 26):
                await running.settle(secure("web", one.port, weight=turn))
                writer.write(b"%02d" % turn)
                assert await reader.readexactly(2) == b"%02d" % turn


async def test_fault_c13_a_certificate_that_was_edited_in_the_generation_is_restored(
    one_nginx, folder, certs, authority
):
    authority.write(certs, WEB)
    async with Backend("one") as one, tls_running(folder, one_nginx, certs) as running:
        await running.settle(secure("web", one.port), claim("web", WEB))
        served = folder / "current" / "certs" / f"{WEB}.pem"
        good = served.read_bytes()
        served.write_bytes(authority.pair("evil.test")[0])
        await running.settle(secure("web", one.port, weight=3))
        assert (folder / "current" / "certs" / f"{WEB}.pem").read_bytes() == good
        assert (await get_tls(running.settings.https_port, WEB, authority=authority)).status == 200
