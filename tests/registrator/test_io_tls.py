"""TLS towards an engine: what `docker-machine env` prints, every way to get it wrong, and renewed certificates."""

from __future__ import annotations

import contextlib
import http
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.settings import BadSettings, resolve
from pilotfish.catalog.telemetry import Telemetry
from registrator.engines import io_tls
from registrator.engines.engine import EngineRefused, EngineUnavailable
from registrator.engines.io_docker import DockerEngine, DockerSettings
from registrator.io_fleet import registrator
from registrator.settings import RegistratorSettings


class Handler(BaseHTTPRequestHandler):
    """An engine behind TLS, as far as `info` needs one."""

    def do_GET(self):
        about = {"ApiVersion": "1.41", "ID": "remote", "Name": "far", "ServerVersion": "20.10"}
        body = json.dumps(about).encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Remote:
    """An engine on tcp:// that wants a client's certificate, and a folder with ours, as docker-machine keeps it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.served = folder, 0, 0
        self.renew()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def renew(self) -> None:
        """Everything anew: another CA, the engine's certificate, ours."""
        self.ca = trustme.CA()
        ours = self.ca.issue_cert("client")
        self.ca.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        ours.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))
        ours.private_key_pem.write_to_path(str(self.folder / "key.pem"))

    def start(self, name: str = "127.0.0.1") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def far(tmp_path):
    made = Remote(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def remote(far):
    """Its URL and the folder."""
    return far.url, far.folder


@contextlib.asynccontextmanager
async def client(url, **changes):
    engine = DockerEngine(DockerSettings(url=url, **{"timeout_s": 2.0, "ping_s": 0.5, **changes}))
    try:
        yield engine
    finally:
        await engine.close()


async def test_what_docker_machine_env_prints_is_understood(far):
    """The four lines of it, as environment."""
    env = {"DOCKER_TLS_VERIFY": "1", "DOCKER_HOST": far.url, "DOCKER_CERT_PATH": str(far.folder),
           "DOCKER_MACHINE_NAME": "far"}  # fmt: skip
    settings = resolve(RegistratorSettings, {}, env, {})
    engine = DockerEngine(DockerSettings.of(settings))
    try:
        assert (await engine.info()).id == "remote"
    finally:
        await engine.close()


async def test_without_verify_the_certificate_is_not_checked_and_ours_is_shown(far):
    """An empty DOCKER_TLS_VERIFY with a DOCKER_CERT_PATH: private, and with anybody; ca.pem is not needed."""
    (far.folder / "ca.pem").unlink()
    async with client(far.url, cert_path=str(far.folder)) as engine:
        assert (await engine.info()).id == "remote"


async def test_verify_without_a_folder_uses_dockers_own(far, monkeypatch):
    """~/.docker, as Docker's command line."""
    home = far.folder.parent / "home"
    home.mkdir()
    far.folder.rename(home / ".docker")
    monkeypatch.setenv("HOME", str(home))
    async with client(far.url, tls_verify=True) as engine:
        assert (await engine.info()).id == "remote"
    (home / ".docker").rename(far.folder)


async def test_tls_uses_the_given_ca_whatever_the_environment_says(remote, monkeypatch, tmp_path):
    """DOCKER_CERT_PATH decides; REQUESTS_CA_BUNDLE, which others need, must not stand in for it."""
    url, folder = remote
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    async with client(url, tls_verify=True, cert_path=str(folder)) as engine:
        assert (await engine.info()).id == "remote"


async def test_tls_refuses_a_certificate_of_another_ca(remote, tmp_path):
    """The chain is checked; the error says so."""
    url, folder = remote
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"))
    async with client(url, tls_verify=True, cert_path=str(folder)) as engine:
        with pytest.raises(EngineUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await engine.info()


async def test_tls_refuses_a_certificate_for_another_host(tmp_path):
    """The host name is checked too, not the chain alone."""
    far = Remote(tmp_path)
    far.start("elsewhere.example")
    try:
        async with client(far.url, tls_verify=True, cert_path=str(tmp_path)) as engine:
            with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1"):
                await engine.info()
    finally:
        far.stop()


async def test_renewed_certificates_are_read_again(far):
    """CA, engine and client all anew: the next connection uses them, without a restart of ours."""
    async with client(far.url, tls_verify=True, cert_path=str(far.folder)) as engine:
        assert (await engine.info()).id == "remote"
        far.stop()
        far.renew()
        far.start()
        assert (await engine.info()).id == "remote"


async def test_certificates_that_went_bad_are_named_at_the_next_connection(far):
    """What was right at the start may be wrong at a reconnect; it is mended as soon as the files are."""
    settings = {"tls_verify": True, "cert_path": str(far.folder)}
    kept = (far.folder / "key.pem").read_bytes()
    async with client(far.url, **settings) as engine:
        (far.folder / "key.pem").write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes())
        with pytest.raises(EngineRefused, match="do not belong together"):
            await engine.info()
        (far.folder / "key.pem").write_bytes(kept)
        assert (await engine.info()).id == "remote"


def without(name):
    return lambda folder: (folder / name).unlink()


def with_text(name, text):
    return lambda folder: (folder / name).write_bytes(text)


def with_other_key(folder):
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(folder / "key.pem"))


ENCRYPTED = b"""-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00000000000000000000000000000000

AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END RSA PRIVATE KEY-----
"""

WRONG = {
    "no ca.pem, with verify": (without("ca.pem"), True, "ca.pem, which checks the engine's certificate: No such file"),
    "no ca.pem, without": (without("ca.pem"), False, ""),
    "no cert.pem": (without("cert.pem"), True, "cert.pem, which is shown to the engine: No such file"),
    "no cert.pem, without verify": (without("cert.pem"), False, "cert.pem, which is shown to the engine: No such file"),
    "no key.pem": (without("key.pem"), True, "key.pem, which is the key of cert.pem: No such file"),
    "a folder instead": (lambda folder: [without("ca.pem")(folder), (folder / "ca.pem").mkdir()], True, "directory"),
    "another's key": (with_other_key, True, "key.pem: they do not belong together"),
    "an encrypted key": (with_text("key.pem", ENCRYPTED), True, "key.pem: "),
    "a key that is none": (with_text("key.pem", b"secret?"), True, "one of them is no PEM file"),
    "a ca.pem that is none": (with_text("ca.pem", b"x"), True, "ca.pem holds no CA certificate"),
    "an empty ca.pem": (with_text("ca.pem", b""), True, "ca.pem holds no CA certificate"),
    "nothing": (lambda _: None, True, ""),
}


@pytest.mark.parametrize(("spoil", "verify", "words"), WRONG.values(), ids=WRONG)
def test_wrong_files_are_named(tmp_path, spoil, verify, words):
    """Each with the flag, the file and what is wrong with it; what it holds is never shown."""
    Remote(tmp_path)
    spoil(tmp_path)
    found = io_tls.problems("tcp://10.0.0.2:2376", tls_verify=verify, cert_path=str(tmp_path))
    assert len(found) == bool(words)
    assert words in "".join(found)
    assert "secret" not in "".join(found)
    assert all(one.startswith("--docker-cert-path: ") and str(tmp_path) in one for one in found)


SETTINGS = {
    "no such folder": ("tcp://h:1", True, "/nowhere", "--docker-cert-path: /nowhere is no folder"),
    "verify without a folder": ("tcp://h:1", True, "", "--docker-tls-verify without --docker-cert-path: "),
    "http has none": ("http://h:1", True, "/nowhere", "http://h:1 has no TLS"),
    "a socket needs none": ("unix:///x", True, "/nowhere", ""),
    "plain": ("tcp://h:1", False, "", ""),
}


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(("url", "verify", "folder", "words"), SETTINGS.values(), ids=SETTINGS)
def test_wrong_settings_are_named(url, verify, folder, words):
    """Before anything is connected to."""
    found = io_tls.problems(url, tls_verify=verify, cert_path=folder)
    assert len(found) == bool(words)
    assert words in "".join(found)


async def test_wrong_files_are_an_error_at_the_start(tmp_path):
    """All of them at once, once each however many engines there are."""
    flags = {"docker": ("a=tcp://h1:1", "b=tcp://h2:1"), "docker_tls_verify": True, "docker_cert_path": str(tmp_path)}
    store = EmbeddedStore(quiet_s=1.0)
    try:
        with pytest.raises(BadSettings) as caught:
            registrator(resolve(RegistratorSettings, flags, {}, {}), store, Telemetry("registrator", time.time))
    finally:
        await store.close()
    assert len(caught.value.errors) == 3
