"""Row B9: certificates of etcd that expire, or are rotated, under a running registrator."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from tests.parts.etcd_server import EtcdMember
from tests.parts.etcd_stores import connected
from tests.parts.fake_docker import FakeDocker
from tests.parts.ports import free_port
from tests.registrator import harness
from tests.registrator.harness import World, records, web

EXPIRED = datetime.now(UTC) - timedelta(days=3)
NAMES = ("localhost", "127.0.0.1")
SAID_S, BACK_S = 15.0, 5.0


class Files:
    """ca.pem, cert.pem and key.pem in a folder; the server and we use the same."""

    def __init__(self, folder):
        folder.mkdir()
        self.ca, self.cert, self.key = (folder / f"{name}.pem" for name in ("ca", "cert", "key"))

    def write(self, authority, *, until=None):
        """A certificate of an authority, valid until then."""
        issued = authority.issue_cert(*NAMES, not_before=EXPIRED - timedelta(days=3), not_after=until)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        authority.cert_pem.write_to_path(self.ca)

    def tls(self):
        return {"ca": str(self.ca), "cert": str(self.cert), "key": str(self.key)}


def expired(ours, theirs, authority):
    """Our certificate is over."""
    ours.write(authority, until=EXPIRED)
    return f"{ours.cert} expired on {EXPIRED:%Y-%m-%d %H:%M}"


def server_expired(ours, theirs, authority):
    """The server's certificate is over."""
    theirs.write(authority, until=EXPIRED)
    return "certificate has expired"


def rotated(ours, theirs, authority):
    """The server has a certificate of another authority, and believes only that one."""
    theirs.write(trustme.CA())
    return "CERTIFICATE_VERIFY_FAILED"


WAYS = [expired, server_expired, rotated]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_fault_B9(tmp_path, way):
    """The error names the file and the date, or the server's fault; with new files all goes on without a restart."""
    authority = trustme.CA()
    ours, theirs = Files(tmp_path / "ours"), Files(tmp_path / "theirs")
    ours.write(authority)
    theirs.write(authority)
    port = free_port()
    member = EtcdMember(
        tmp_path, "tls", (port, free_port()), (
            "--cert-file", str(theirs.cert), "--key-file", str(theirs.key), "--trusted-ca-file", str(theirs.ca),
            "--client-cert-auth",
        ), scheme="https",
    )  # fmt: skip
    member.start()
    try:
        member.wait_ready()
        async with (
            connected((f"https://localhost:{port}",), **ours.tls()) as store,
            FakeDocker(tmp_path / "docker.sock") as engine,
        ):
            world = World(store, engine)
            one = world.start(lease_ttl_s=60)
            early = engine.add(web("early-1"))
            await world.see("the early one", lambda found: records(found) == {early})
            member.kill()
            said = way(ours, theirs, authority)
            member.restart()
            injected = time.monotonic()
            await harness.until(lambda: said in str(one.telemetry.ready.missing), f"it says {said}", SAID_S)
            said_s, text = time.monotonic() - injected, str(one.telemetry.ready.missing)
            assert str(port) in text  # the address
            late = engine.add(web("late-1", host_port=8081))
            fresh = trustme.CA()
            member.kill()
            ours.write(fresh)
            theirs.write(fresh)
            member.restart()
            healed = time.monotonic()
            await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
            await world.see("both", lambda found: records(found) == {early, late})
            back_s = time.monotonic() - healed
            await world.close()
    finally:
        member.kill()
    print(f"\nB9 {way.__name__}: said after {said_s:.2f} s ({said}); with new files back after {back_s:.2f} s")
    assert back_s <= BACK_S
