"""The etcd store and who may use it: users, roles, tokens that run out, TLS; no password in any error."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trustme

from pilotfish.catalog.etcd.channel import Ring, Tls, parse_endpoint
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import METHODS
from pilotfish.catalog.store import (
    AccessRefused,
    Put,
    StoreError,
    StoreUnavailable,
)
from tests.parts.etcd_server import EtcdCluster, EtcdMember
from tests.parts.etcd_stores import WAIT_S, connected, keep_trying, next_change
from tests.parts.ports import free_port

# --- users


PASSWORD = "p4ss-word-of-pilot"
ROOT = ("--user", "root:r00t")


def with_users(member: EtcdMember) -> None:
    """Authentication on: root, and a pilot who may write under /pilotfish/ only."""
    for command in (
        ("user", "add", "root:r00t"),
        ("user", "add", f"pilot:{PASSWORD}"),
        ("role", "add", "ours"),
        ("role", "grant-permission", "ours", "--prefix=true", "readwrite", "/pilotfish/"),
        ("user", "grant-role", "pilot", "ours"),
        ("user", "grant-role", "root", "root"),
        ("auth", "enable"),
    ):
        member.ctl(*command)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One server with users, whose tokens end after 3 s without use."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), options=("--auth-token-ttl", "3")) as cluster:
        with_users(cluster.members[0])
        yield cluster


def told(error: StoreError) -> str:
    """All that a log could show of an error."""
    parts = []
    cause: BaseException | None = error
    while cause is not None:
        parts += [str(cause), repr(cause), repr(vars(cause))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(parts)


DENIED = {
    "read": lambda store: store.read("/other/"),
    "commit": lambda store: store.commit([], [Put("/other/a", b"")]),
    "watch": lambda store: anext(store.watch("/other/", 1)),
}


@pytest.mark.parametrize("call", DENIED.values(), ids=DENIED.keys())
async def test_what_a_role_does_not_allow_is_refused_by_name(guarded, call):
    """The error names endpoint, user and prefix; a denied watch does not look like a quiet one."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        await store.commit([], [Put("/pilotfish/a", b"")])
        with pytest.raises(AccessRefused) as caught:
            await call(store)

    assert all(part in told(caught.value) for part in (guarded.urls[0], "'pilot'", "/other/", "permission denied"))
    assert PASSWORD not in told(caught.value)


LOGINS = {"wrong password": ("pilot", "wrong-secret"), "no such user": ("nobody", "wrong-secret"), "no user": ("", "")}


@pytest.mark.parametrize(("user", "password"), LOGINS.values(), ids=LOGINS.keys())
async def test_a_login_that_fails_is_refused_by_name(guarded, user, password):
    """Reads, commits and watches say who could not log in where; the password is in no part of the error."""
    async with connected(guarded.urls, user=user, password=password) as store:
        for call in (store.read("/pilotfish/"), store.commit([], [Put("/pilotfish/a", b"")])):
            with pytest.raises(AccessRefused) as caught:
                await call
            assert f"user {user!r}" in str(caught.value) or "without a user" in str(caught.value)
            assert "wrong-secret" not in told(caught.value)
        with pytest.raises(AccessRefused):
            await anext(store.watch("/pilotfish/", 1))


async def test_a_token_that_ran_out_is_renewed(guarded):
    """B8: after the token's end, reads, commits, leases, an open watch and a new one go on without an error."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        lease = await store.grant(60)
        start = await store.commit([], [Put("/pilotfish/a", b"1", lease.id)])
        async with aclosing(store.watch("/pilotfish/", start.revision)) as old:
            await anext(old)
            stale = store._client._auth.metadata
            await expired(guarded.urls[0], stale)
            assert store._client._auth.metadata == stale  # not renewed yet
            calls = [store.read("/pilotfish/"), store.keep_alive(lease.id), store.read("/pilotfish/")]
            readings = await asyncio.gather(*calls)
            done = await store.commit([], [Put("/pilotfish/a", b"2")])
            async with aclosing(store.watch("/pilotfish/", start.revision)) as new:
                found = [await next_change(new), await next_change(old)]

    assert [entry.value for entry in readings[0].entries if entry.key == "/pilotfish/a"] == [b"1"]
    assert [change.revision for change in found] == [done.revision] * 2


async def expired(url: str, token: tuple[tuple[str, str], ...]) -> None:
    """Wait until etcd refuses a token. Asking too often would keep it alive."""
    ring = Ring([parse_endpoint(url)], Tls())
    link = await ring.ready()
    refused: EtcdError | None = None
    async with asyncio.timeout(WAIT_S):
        while refused is None:
            await asyncio.sleep(4.5)
            try:
                await link.call("range", METHODS["range"].request(key=b"/pilotfish/a"), token, 5.0)
            except EtcdError as error:
                refused = error
    await ring.close()
    assert refused.stale_login, refused


async def test_a_watch_begun_with_a_stale_token_stands(guarded):
    """A new watch logs in first: with a stale token it would be refused as if the role forbade it."""
    async with connected(guarded.urls, user="pilot", password=PASSWORD) as store:
        start = await store.read("/pilotfish/")
        await expired(guarded.urls[0], store._client._auth.metadata)
        async with aclosing(store.watch("/pilotfish/", start.revision)) as watch:
            done = await store.commit([], [Put("/pilotfish/b", b"")])
            assert (await next_change(watch)).revision == done.revision


async def test_a_server_that_forgot_all_tokens_is_logged_into_again(tmp_path):
    """etcd keeps tokens in memory: after its restart the first call logs in again."""  # noqa: D403
    with EtcdCluster(tmp_path) as cluster:
        with_users(cluster.members[0])
        async with connected(cluster.urls, user="pilot", password=PASSWORD) as store:
            await store.commit([], [Put("/pilotfish/a", b"")])
            cluster.members[0].kill()
            cluster.members[0].restart()
            await keep_trying(lambda: store.commit([], [Put("/pilotfish/a", b"")]))


async def test_a_password_that_was_changed_is_refused(tmp_path):
    """Changing users makes old tokens void; with the old password the next call is AccessRefused."""
    with EtcdCluster(tmp_path) as cluster:
        with_users(cluster.members[0])
        async with connected(cluster.urls, user="pilot", password=PASSWORD) as store:
            await store.commit([], [Put("/pilotfish/a", b"")])
            cluster.members[0].kill()
            cluster.members[0].restart()
            change_password(cluster.members[0], "pilot", "another-one")
            with pytest.raises(AccessRefused, match="'pilot'") as caught:
                await store.commit([], [Put("/pilotfish/a", b"")])

    assert PASSWORD not in told(caught.value)


def change_password(member: EtcdMember, user: str, password: str) -> None:
    member.ctl(*ROOT, "user", "delete", user)
    member.ctl(*ROOT, "user", "add", f"{user}:{password}")
    member.ctl(*ROOT, "user", "grant-role", user, "ours")


async def test_a_user_where_authentication_is_off_is_let_in(tmp_path):
    """Users may be configured on our side before etcd's switch is turned on; then the next call logs in."""
    with EtcdCluster(tmp_path) as cluster:
        async with connected(cluster.urls, user="pilot", password=PASSWORD) as store:
            before = await store.commit([], [Put("/other", b"")])
            with_users(cluster.members[0])
            after = await store.commit([], [Put("/pilotfish/a", b"")])

    assert (before.succeeded, after.succeeded) == (True, True)


# --- TLS and addresses


class Certificates:
    """A CA, and files for a server and a client of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def tls(self) -> dict[str, str]:
        return {"ca": str(self.ca), "cert": str(self.cert), "key": str(self.key)}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Certificates]]:
    """A server that speaks TLS only, and asks for a certificate; on 127.0.0.1 and ::1."""
    folder = tmp_path_factory.mktemp("etcd")
    files = Certificates(folder / "pems")
    port = free_port()
    urls = f"https://127.0.0.1:{port},https://[::1]:{port}"
    options = (
        "--listen-client-urls", urls, "--cert-file", str(files.cert), "--key-file", str(files.key),
        "--trusted-ca-file", str(files.ca), "--client-cert-auth",
    )  # fmt: skip
    member = EtcdMember(folder, "tls", (port, free_port()), options, scheme="https")
    member.start()
    try:
        member.wait_ready()
        yield port, files
    finally:
        member.kill()


@pytest.mark.parametrize("host", ["https://127.0.0.1", "https://localhost", "https://[::1]", "localhost"])
async def test_tls_with_certificates_by_name_and_address(secured, host):
    """IPv4, IPv6 and a host name, with our certificate, also without a scheme."""
    port, files = secured
    async with connected((f"{host}:{port}",), **files.tls()) as store:
        done = await store.commit([], [Put("/a", b"")])
        async with aclosing(store.watch("/a", done.revision - 1)) as watch:
            assert (await next_change(watch)).revision == done.revision


async def test_tls_that_does_not_fit_is_unavailable(secured, tmp_path):
    """An unknown CA, no certificate of ours, or no TLS at all: an error with the address, not a hang."""
    port, files = secured
    other = Certificates(tmp_path / "other")
    for url, settings in (
        (f"https://localhost:{port}", {"ca": str(other.ca)}),
        (f"https://localhost:{port}", {"ca": str(files.ca)}),
        (f"http://localhost:{port}", {}),
    ):
        async with connected((url,), **settings) as store:
            with pytest.raises(StoreUnavailable, match=url):
                await store.read("/")


async def test_certificates_that_change_on_disk_are_read_again(secured, tmp_path):
    """A renewed certificate is used at the next connection attempt, without a restart of ours."""
    port, files = secured
    mine = Certificates(tmp_path / "mine")
    async with connected((f"https://localhost:{port}",), **mine.tls()) as store:
        with pytest.raises(StoreUnavailable):
            await store.read("/")
        for name in ("ca", "cert", "key"):
            shutil.copy(getattr(files, name), getattr(mine, name))
        await keep_trying(lambda: store.read("/"))


async def test_without_a_ca_the_system_is_believed(secured, monkeypatch):
    """Who names no CA gets those that the host's administrator trusts, not a list of the library."""
    port, files = secured
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
    async with connected((f"https://localhost:{port}",), **files.tls() | {"ca": ""}) as store:
        await store.read("/")
