"""The fault proxies do what their toxics say, can prove it, and do nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.parts.toxic import (
    DOWNSTREAM,
    UPSTREAM,
    ToxicProxy,
    bandwidth,
    latency,
    limit_data,
    loss,
    reset_peer,
    slicer,
    slow_close,
    timeout,
)
from tests.parts.toxic_udp import ToxicUdpProxy


class Echo:
    """A server that sends back what it gets and remembers it."""

    def __init__(self):
        self.got = bytearray()
        self.tasks = set()

    async def serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.got += data
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture(params=["tcp", "unix"])
async def echo(request, tmp_path):
    found = Echo()
    if request.param == "tcp":
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
        found.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        found.address = str(tmp_path / "echo.sock")
        server = await asyncio.start_unix_server(found.serve, found.address)
    yield found
    server.close()
    await server.wait_closed()
    async with asyncio.timeout(10):
        await asyncio.gather(*found.tasks)


@pytest.fixture
async def proxy(echo):
    async with ToxicProxy(echo.address, seed=1) as running:
        yield running


class Client:
    """A connection through the proxy."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, count):
        async with asyncio.timeout(10):
            return await self.reader.readexactly(count)

    async def read_all(self):
        """Until the end; a reset is told as "reset"."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return "reset"


@contextlib.asynccontextmanager
async def connected(proxy):
    if "/" in proxy.address:
        reader, writer = await asyncio.open_unix_connection(proxy.address)
    else:
        host, _, port = proxy.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_without_toxics_it_is_not_there(proxy, echo):
    """Data of both directions arrives whole and in order, and so does the end of each."""
    data = bytes(range(256)) * 4096
    async with connected(proxy) as client:
        sending = asyncio.create_task(client.send(data))
        assert await client.read(len(data)) == data
        await sending
        client.writer.write_eof()
        assert await client.read_all() == b""
    assert echo.got == data
    await until(lambda: proxy.open_connections == 0)
    assert (proxy.accepted, proxy.octets) == (1, {UPSTREAM: len(data), DOWNSTREAM: len(data)})


@pytest.mark.parametrize("stream", [UPSTREAM, DOWNSTREAM])
async def test_latency(proxy, stream):
    """Each answer is late by at least what was asked for, and the order is kept under jitter."""
    toxic = proxy.add(latency(30, 20, stream))
    async with connected(proxy) as client:
        for number in range(5):
            begin = time.monotonic()
            await client.send(b"%d" % number)
            assert await client.read(1) == b"%d" % number
            assert time.monotonic() - begin >= 0.01
    assert toxic.bitten == 5


async def test_bandwidth(proxy):
    """A limited stream takes as long as its octets need."""
    toxic = proxy.add(bandwidth(100))
    begin = time.monotonic()
    async with connected(proxy) as client:
        await client.send(b"x" * 10_000)
        await client.read(10_000)
    assert time.monotonic() - begin >= 0.1
    assert toxic.bitten


async def test_slow_close(proxy):
    """The end comes late; the data does not."""
    toxic = proxy.add(slow_close(100))
    async with connected(proxy) as client:
        await client.send(b"x")
        assert await client.read(1) == b"x"
        begin = time.monotonic()
        client.writer.write_eof()
        assert await client.read_all() == b""
    assert time.monotonic() - begin >= 0.1
    assert toxic.bitten == 1


async def test_timeout_for_ever(proxy, echo):
    """A held direction is silent and open, the other goes on; when the toxic goes, everything arrives."""
    async with connected(proxy) as client:
        await client.send(b"1")
        assert await client.read(1) == b"1"
        toxic = proxy.add(timeout(0, DOWNSTREAM))
        await client.send(b"2")
        await until(lambda: echo.got == b"12" and toxic.bitten)
        assert not client.reader._buffer
        assert not client.reader.at_eof()
        proxy.remove(toxic)
        assert await client.read(1) == b"2"
    assert toxic.bitten == 1


async def test_timeout_closes(proxy, echo):
    """After its time the connection is closed, and nothing came through."""
    toxic = proxy.add(timeout(50, UPSTREAM))
    async with connected(proxy) as client:
        await client.send(b"x")
        assert await client.read_all() in {b"", "reset"}
    assert echo.got == b""
    assert toxic.bitten >= 1


async def test_reset_peer(proxy, echo):
    """Both sides are broken, also on a connection that was open before."""
    async with connected(proxy) as client:
        await client.send(b"1")
        await client.read(1)
        toxic = proxy.add(reset_peer(0))
        assert await client.read_all() == ("reset" if ":" in echo.address else b"")
    assert toxic.bitten == 1
    await until(lambda: proxy.open_connections == 0)
    assert proxy.reset_all() == 0


async def test_reset_all(proxy, echo):
    """What is open is broken once; the next connection is fine."""
    async with connected(proxy) as client:
        await client.send(b"1")
        await client.read(1)
        assert proxy.reset_all() == 1
        assert await client.read_all() == ("reset" if ":" in echo.address else b"")
    async with connected(proxy) as client:
        await client.send(b"2")
        assert await client.read(1) == b"2"


async def test_slicer(proxy):
    """Data comes in small pieces, and is the same."""
    toxic = proxy.add(slicer(10, 5, 100))
    data = bytes(range(200))
    async with connected(proxy) as client:
        await client.send(data)
        assert await client.read(200) == data
    assert 12 <= toxic.bitten <= 40


@pytest.mark.parametrize("stream", [UPSTREAM, DOWNSTREAM])
async def test_limit_data(proxy, echo, stream):
    """Exactly so many octets pass, then the connection ends; the other direction is not limited."""
    toxic = proxy.add(limit_data(5, stream))
    async with connected(proxy) as client:
        await client.send(b"abc")
        assert await client.read(3) == b"abc"
        with contextlib.suppress(OSError):
            await client.send(b"defgh")
        rest = await client.read_all()
    await until(lambda: proxy.open_connections == 0)
    assert (rest == b"de") if stream == DOWNSTREAM else (rest in {b"", b"de", "reset"})
    assert echo.got == (b"abcdefgh" if stream == DOWNSTREAM else b"abcde")
    assert toxic.bitten == 1


async def test_an_answer_lost_after_the_request_passed(proxy, echo):
    """The ambiguous write: the server has it, the client will never know."""
    proxy.add(limit_data(0, DOWNSTREAM))
    async with connected(proxy) as client:
        await client.send(b"put")
        assert await client.read_all() == b""
    assert echo.got == b"put"


async def test_down_and_up(proxy):
    """While it is down nobody connects; afterwards it is at the same address."""
    address = proxy.address
    async with connected(proxy) as client:
        await client.send(b"1")
        await client.read(1)
        await proxy.down()
        assert await client.read_all() in {b"", "reset"}
    with pytest.raises(OSError, match=r"refused|No such file|failed"):
        async with connected(proxy):
            pass
    await proxy.up()
    async with connected(proxy) as client:
        await client.send(b"2")
        assert await client.read(1) == b"2"
    assert (proxy.address, proxy.cut) == (address, 1)


async def test_target_is_gone(echo, tmp_path):
    """When the target does not answer, the client's connection is closed."""
    target = "127.0.0.1:1" if ":" in echo.address else tmp_path / "nobody.sock"
    async with ToxicProxy(target) as proxy, connected(proxy) as client:
        assert await client.read_all() in {b"", "reset"}


async def test_toxicity_is_decided_by_the_seed(echo):
    """The same connections are met each time; another seed meets others."""

    async def met(seed):
        cut = []
        async with ToxicProxy(
            echo.address, f"{echo.address}.{seed}" if "/" in echo.address else None, seed=seed
        ) as proxy:
            toxic = proxy.add(limit_data(0, toxicity=0.5))
            for _ in range(12):
                async with connected(proxy) as client:
                    await client.send(b"x")
                    with contextlib.suppress(asyncio.IncompleteReadError):
                        await client.read(1)
                    cut.append(toxic.bitten)
        return cut

    first, again, other = await met(1), await met(1), await met(2)
    assert first == again != other
    assert 0 < first[-1] < 12


async def test_a_full_window_holds_back_the_sender(proxy, echo):
    """What is held is bounded: the rest stays with the sender, and nothing is lost."""
    toxic = proxy.add(timeout(0, UPSTREAM))
    data = b"x" * 32 * 1024 * 1024
    async with connected(proxy) as client:
        sending = asyncio.create_task(client.send(data))
        await until(lambda: toxic.bitten)
        assert (sending.done(), echo.got) == (False, b"")
        reading = asyncio.create_task(client.read(len(data)))
        proxy.clear()
        assert len(await reading) == len(data)
        await sending
    assert len(echo.got) == len(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = []

    def datagram_received(self, data, _addr):
        self.got.append(data)


@pytest.fixture
async def udp():
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
    target = f"127.0.0.1:{server.get_extra_info('sockname')[1]}"
    async with ToxicUdpProxy(target, seed=3) as proxy:
        host, _, port = proxy.address.rpartition(":")
        client, found = await loop.create_datagram_endpoint(Datagrams, remote_addr=(host, int(port)))
        found.send = client.sendto
        yield proxy, found
        client.close()
    server.close()


async def test_udp_passes(udp):
    """Datagrams of two clients come back to whom they belong."""
    proxy, client = udp
    host, _, port = proxy.address.rpartition(":")
    make = asyncio.get_running_loop().create_datagram_endpoint(Datagrams, remote_addr=(host, int(port)))
    other, found = await make
    client.send(b"1")
    other.sendto(b"2")
    await until(lambda: client.got and found.got)
    other.close()
    assert (client.got, found.got) == ([b"1"], [b"2"])


async def test_udp_latency_and_loss(udp):
    """Datagrams come late, or not at all; what is dropped is counted."""
    proxy, client = udp
    late = proxy.add(latency(50))
    begin = time.monotonic()
    client.send(b"1")
    await until(lambda: client.got)
    assert time.monotonic() - begin >= 0.05
    proxy.remove(late)

    some, sent = proxy.add(loss(0.5, UPSTREAM)), 100
    for number in range(sent):
        client.send(b"%d" % number)
        await asyncio.sleep(0)
    await until(lambda: some.bitten + proxy.passed[DOWNSTREAM] == sent + 1)
    proxy.remove(some)
    assert 20 < some.bitten < 80
    assert late.bitten == 1

    everything = proxy.add(timeout(0))
    client.send(b"x")
    await until(lambda: everything.bitten == 1)
    assert b"x" not in client.got
