"""The DNS server on real sockets: followed from the store, kept through an outage, and shown to the outside."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time

import dns.message
import pytest
from prometheus_client.exposition import generate_latest

from dnsserver import assembly
from dnsserver.message.frames import framed
from dnsserver.responder import Data
from dnsserver.transport import io_addresses, io_edges, io_mmsg
from pilotfish.catalog import io_snapshot
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.store import StoreUnavailable
from tests.dnsserver.conftest import DEADLINE_S, until
from tests.dnsserver.kit import container, endpoint, lan, node, question, said
from tests.parts.dns_program import quiet_port

WEB = container(1, endpoint("web", 80, lan("192.168.0.1", 32768)))


async def test_a_record_is_answered_as_soon_as_it_is_applied(run):
    """A put in the store is an answer; a change is another one; a delete is NODATA."""
    server = await run()
    await server.put(WEB)
    assert (await server.ask("web.svc.internal.")).answer == ["web.svc.internal. 5 A 192.168.0.1"]
    await server.put(container(1, endpoint("web", 80, lan("192.168.0.9"))))
    assert (await server.ask("web.svc.internal.")).answer == ["web.svc.internal. 5 A 192.168.0.9"]
    await server.remove(WEB)
    gone = await server.ask("web.svc.internal.")
    assert (gone.rcode, gone.answer) == ("NOERROR", [])


async def test_foreign_records_are_followed_too(run):
    """What others write under the SkyDNS prefix is answered; our own exports there are not."""
    server = await run(skydns_prefix="/other/skydns")
    await server.put_raw("/other/skydns/internal/svc/db/1", b'{"host":"10.0.0.1","port":5432}')
    await server.put_raw("/other/skydns/internal/svc/ours/1", b'{"host":"10.0.0.2","pilotfish":"h1"}')
    assert (await server.ask("db.svc.internal.", "SRV")).answer == [
        "db.svc.internal. 30 SRV 10 100 5432 1.db.svc.internal."
    ]
    assert (await server.ask("ours.svc.internal.")).rcode == "NXDOMAIN"


async def test_a_bad_record_is_named_and_its_neighbours_answer(run, caplog):
    """Broken JSON under either prefix is left out, said in the log and in the state."""
    server = await run()
    await server.put(WEB)
    await server.put_raw("/pilotfish/v1/containers/h1/00000000000b", b'{"format":1,')
    await server.put_raw("/skydns/internal/svc/x/1", b'{"host":')
    assert (await server.ask("web.svc.internal.")).answer == ["web.svc.internal. 5 A 192.168.0.1"]
    refused = server.service.state()["refused_records"]
    assert list(refused) == ["/pilotfish/v1/containers/h1/00000000000b", "/skydns/internal/svc/x/1"]
    assert {record.key for record in caplog.records if hasattr(record, "key")} == set(refused)


class Away:
    """A store that cannot be reached."""

    async def read(self, *_prefixes):
        raise StoreUnavailable("it is away")

    async def survey(self, *_arguments, **_options):
        raise StoreUnavailable("it is away")


async def test_before_any_data_it_says_so(run):
    """Without store and snapshot: SERVFAIL and EDE 14 for our names, REFUSED for others; not ready."""
    server = await run(use=Away())
    ours = await server.ask("web.svc.internal.", use_edns=0)
    assert (ours.rcode, ours.ede) == ("SERVFAIL", 14)
    assert (await server.ask("example.com.")).rcode == "REFUSED"
    assert {"dns data", "store /pilotfish/v1/", "store /skydns/"} <= server.telemetry.ready.missing.keys()


async def test_a_snapshot_carries_over_a_restart_without_the_store(run, tmp_path):
    """Stopped and started again without the store: the same answers, marked as stale, for at most 30 seconds."""
    path = str(tmp_path / "zone")
    first = await run(snapshot=path)
    await first.put(WEB)
    await first.stop()
    second = await run(snapshot=path, use=Away())
    await until(lambda: second.service.responder.data is Data.STALE, "the snapshot is read")
    found = await second.ask("web.svc.internal.", use_edns=0)
    assert (found.answer, found.ede) == (["web.svc.internal. 30 A 192.168.0.1"], 3)
    assert (await second.ask("nope.svc.internal.", use_edns=0)).ede == 19


class SlowDisk:
    """Snapshots are written when `free` is set; keeps how many were begun, and how many at once at most."""

    def __init__(self, monkeypatch) -> None:
        self.free = threading.Event()
        self.begun = self.at_once = self.most = 0
        self._save = io_snapshot.save
        monkeypatch.setattr(io_snapshot, "save", self.save)

    def save(self, *what) -> None:
        self.begun, self.at_once = self.begun + 1, self.at_once + 1
        self.most = max(self.most, self.at_once)
        assert self.free.wait(DEADLINE_S)
        self._save(*what)
        self.at_once -= 1


@pytest.mark.parametrize("written", [True, False], ids=["at the end", "under way when the end comes"])
async def test_the_last_snapshot_holds_nobody_up(run, tmp_path, monkeypatch, written):
    """It is written when all sockets are closed, by nobody else at the time, and while the loop goes on."""
    path, disk = tmp_path / "zone", SlowDisk(monkeypatch)
    if written:
        disk.free.set()
    server = await run(snapshot=str(path))
    await until(lambda: path.exists() if written else disk.begun == 1, "the first snapshot")
    await until(lambda: disk.at_once == (0 if written else 1), "it is there, or under way")
    disk.free.clear()
    await server.put(WEB)
    begun = disk.begun
    stopping = asyncio.create_task(server.stop())
    await until(lambda: not server.service.listening, "the sockets are closed")
    if written:
        await until(lambda: disk.begun == begun + 1, "the last snapshot is begun")
    assert not stopping.done()
    disk.free.set()
    await stopping
    assert (disk.begun, disk.most) == (begun + 1, 1)
    assert b"192.168.0.1" in path.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"PFSNAP", b"\x00" * 200], ids=["empty", "cut", "zeros"])
async def test_a_damaged_snapshot_does_not_stop_it(run, tmp_path, damage):
    """A file that is no snapshot is named in the log, and the store is read."""
    path = tmp_path / "zone"
    path.write_bytes(damage)
    path.chmod(0o600)
    server = await run(snapshot=str(path))
    await server.put(WEB)
    assert (await server.ask("web.svc.internal.")).rcode == "NOERROR"


async def test_silence_of_the_store_makes_answers_stale_and_its_voice_fresh_again(run, store):
    """Older than the bound: TTL 30 and EDE 3; the next sign of life: as before."""
    server = await run(stale_after_s=2.0, etcd_stall_s=3.0)
    await server.put(WEB)
    quiet, store._quiet_s = store._quiet_s, 3600.0
    await until(lambda: server.service.responder.data is Data.STALE, "the store is silent")
    assert (await server.ask("web.svc.internal.", use_edns=0)).ede == 3
    assert "dns data" in server.telemetry.ready.missing
    store._quiet_s = quiet
    await server.put(container(2, endpoint("api", 80, lan("192.168.0.2"))))
    await server.put_raw("/skydns/internal/svc/y", b'{"host":"10.0.0.1"}')
    await until(lambda: server.service.responder.data is Data.FRESH, "the store is heard")
    assert (await server.ask("web.svc.internal.", use_edns=0)).ede is None


async def test_a_taken_address_is_named(run):
    """The reason says which address is taken and what to do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        server = await run(listen=(("127.0.0.1", port),))
        with pytest.raises(CannotStart, match=rf"cannot listen at 127\.0\.0\.1:{port}: .*in use.*--listen"):
            await server.task


async def test_an_address_of_another_host_is_named(run):
    """An address that this host does not have is no place to listen."""
    server = await run(listen=(("203.0.113.77", 53),))
    with pytest.raises(CannotStart, match=r"203\.0\.113\.77:53: .*no such address"):
        await server.task


async def test_any_address_means_each_one(run):
    """0.0.0.0 and :: are taken apart; an answer leaves from the address that was asked."""
    port = quiet_port()
    server = await run(listen=(("0.0.0.0", port),))
    assert ("127.0.0.1", port) in server.service.listening
    assert ("0.0.0.0", port) not in server.service.listening
    for at in server.service.listening:
        assert said(await server.udp(question("example.com."), at)).rcode == "REFUSED"


async def test_a_host_without_ipv6_has_no_address_of_that_kind(run, monkeypatch):
    """`[::]` alone is an error there, and not a server without a socket; beside 0.0.0.0 it does no harm."""
    monkeypatch.setattr(io_addresses, "_host_v6", list)
    server = await run(listen=(("::", 0),))
    with pytest.raises(CannotStart, match=r"--listen \[::\]:0: this host has no address of that kind"):
        await server.task
    assert "dns sockets" in server.telemetry.ready.missing
    both = await run(listen=(("0.0.0.0", 0), ("::", 0)))
    assert (await both.ask("example.com.")).rcode == "REFUSED"


async def test_without_an_address_it_is_not_ready(run, monkeypatch):
    """All addresses of the host go, and come back: `/ready` says so."""
    monkeypatch.setattr(io_edges, "REBIND_S", 0.05)
    port = quiet_port()
    here = ["127.0.0.1"]
    monkeypatch.setattr(io_addresses, "_host_v4", lambda: list(here))
    server = await run(listen=(("0.0.0.0", port),))
    assert "dns sockets" not in server.telemetry.ready.missing
    here.clear()
    await until(lambda: "dns sockets" in server.telemetry.ready.missing, "it has no socket, and says so")
    assert server.service.listening == ()
    here.append("127.0.0.1")
    await until(lambda: "dns sockets" not in server.telemetry.ready.missing, "it is ready again")
    assert (await server.ask("example.com.")).rcode == "REFUSED"


async def test_ipv6(run):
    """The same over IPv6."""
    try:
        server = await run(listen=(("::1", 0),))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            pytest.skip("no IPv6 here")
        raise
    assert (await server.ask("example.com.")).rcode == "REFUSED"


async def test_what_is_not_answered_leaves_the_socket_usable(run):
    """Junk gets no reply, and the next query does."""
    server = await run()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for junk in (b"", b"\x00" * 11, question("a.b.")[:2] + b"\x80" + b"\x00" * 9, b"\xff" * 4096):
            client.sendto(junk, server.at)
    assert (await server.ask("example.com.")).rcode == "REFUSED"
    await until(lambda: server.service.responder.dropped >= 3, "junk was read")


@pytest.mark.parametrize("way", ["UDP in batches", "UDP one by one", "TCP"])
async def test_a_fault_of_ours_costs_one_message(run, monkeypatch, caplog, way):
    """Whatever answering a message raises: those beside it are answered, it is said, and counted."""
    if way == "UDP one by one":
        monkeypatch.setattr(io_mmsg, "available", lambda: False)
    server = await run()
    responder = server.service.responder
    name = "tcp" if way == "TCP" else "udp"
    right = getattr(responder, name)
    wrong = lambda message, client: {}["no such thing"] if b"bad" in message else right(message, client)  # noqa: E731
    monkeypatch.setattr(responder, name, wrong)
    asked = [question(f"{one}.example.com.", id=number) for number, one in enumerate(("a", "bad", "c"))]
    if way == "TCP":
        reader, writer = await asyncio.open_connection(*server.at)
        writer.write(b"".join(framed(one) for one in asked))
        async with asyncio.timeout(DEADLINE_S):
            replies = [await reader.readexactly(int.from_bytes(await reader.readexactly(2))) for _ in range(2)]
        writer.close()
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            for one in asked:
                client.sendto(one, server.at)
            async with asyncio.timeout(DEADLINE_S):
                replies = [await asyncio.get_running_loop().sock_recv(client, 65535) for _ in range(2)]
    assert sorted(one[:2] for one in replies) == [asked[0][:2], asked[2][:2]]
    assert "a DNS message was not answered" in caplog.text
    assert "pilotfish_dns_faults_total 1.0" in generate_latest(server.telemetry.registry).decode()


async def test_metrics_and_state(run):
    """Queries are counted by transport, type and code; the change by how long it took."""
    server = await run()
    await server.put(container(1, endpoint("web", 80, lan("192.168.0.1")), observed=time.time()))
    await server.put(node("h1", "192.168.0.1"))
    for _ in range(3):
        await server.ask("web.svc.internal.")
    text = generate_latest(server.telemetry.registry).decode()
    assert 'pilotfish_dns_queries_total{rcode="NOERROR",transport="udp",type="A"} 3.0' in text
    assert "pilotfish_dns_cache_hits_total 2.0" in text
    assert 'pilotfish_convergence_seconds_count{stage="dns"} 1.0' in text
    state = server.service.state()
    assert (state["data"], state["names"], state["domains"]) == ("fresh", 1, ["svc.internal"])


async def test_the_id_is_given_back(run):
    """Each client gets its own id, from a finished answer too."""
    server = await run()
    await server.put(WEB)
    for number in (1, 2, 65535):
        query = dns.message.make_query("web.svc.internal.", "A", id=number)
        assert dns.message.from_wire(await server.udp(query.to_wire())).id == number


async def test_without_free_file_handles_it_goes_on(run, monkeypatch):
    """While the host's addresses cannot be looked up, the sockets that are open answer."""
    monkeypatch.setattr(io_edges, "REBIND_S", 0.01)
    port = quiet_port()
    server = await run(listen=(("0.0.0.0", port),))
    asked = 0

    def out_of_files(_):
        nonlocal asked
        asked += 1
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(io_addresses, "expanded", out_of_files)
    await until(lambda: asked >= 2 or server.ended, "addresses were looked for twice")
    assert said(await server.udp(question("example.com."), ("127.0.0.1", port))).rcode == "REFUSED"


SERVED_AT = {
    "all addresses": ([("0.0.0.0", 53), ("::", 53)], []),
    "a named one": ([("192.0.2.1", 53), ("127.0.0.1", 53)], ["192.0.2.1"]),
    "another port": ([("192.0.2.1", 1053)], []),
}


@pytest.mark.parametrize(("listen", "served"), SERVED_AT.values(), ids=SERVED_AT.keys())
def test_name_servers_are_no_bridges(listen, served):
    """What 0.0.0.0 stands for is no list for others: a bridge has the same address on every host."""
    assert list(assembly.served_at(listen)) == served
