"""A fault proxy for datagrams, in front of a DNS server: delays (latency) and drops (loss; timeout drops all)."""

from __future__ import annotations

import asyncio
import collections
import random
from typing import Self, cast

from tests.parts.toxics import DOWNSTREAM, UPSTREAM, Stream, Toxic

MAX_CLIENTS = 1024  # that many are remembered; who was silent longest is forgotten first


class ToxicUdpProxy:
    """A proxy for UDP; the same use as ToxicProxy, with the toxics `latency`, `loss` and `timeout`.

    Args:
        target: "host:port".
        listen: where it listens.
        seed: decides what is dropped, and the jitter.

    Attributes:
        address: where it listens.
        passed: datagrams delivered, by direction.
    """

    def __init__(self, target: str, listen: str = "127.0.0.1:0", *, seed: int = 0) -> None:
        self.target = target
        self.address = listen
        self.passed: collections.Counter[str] = collections.Counter()
        self.toxics: list[Toxic] = []
        self._random = {stream: random.Random(f"{seed}/{stream}") for stream in (UPSTREAM, DOWNSTREAM)}
        self._clients: collections.OrderedDict[tuple[str, int], asyncio.DatagramTransport] = collections.OrderedDict()
        self._front: asyncio.DatagramTransport | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    async def __aenter__(self) -> Self:
        make = lambda: _Front(self)  # noqa: E731
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(make, local_addr=_split(self.address))
        host, port = self._front.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
        for transport in (self._front, *self._clients.values()):
            if transport is not None:
                transport.close()
        await asyncio.sleep(0)  # closing is finished by the loop

    def add(self, toxic: Toxic) -> Toxic:
        """Put a toxic in force."""
        self.toxics.append(toxic)
        return toxic

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic away; its counter stays."""
        self.toxics.remove(toxic)

    async def from_client(self, data: bytes, client: tuple[str, int]) -> None:
        """Pass a datagram to the target, over the client's own socket."""
        if client not in self._clients:
            make = lambda: _Back(self, client)  # noqa: E731
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(make, remote_addr=_split(self.target))
            self._clients[client] = transport
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)[1].close()
        self._clients.move_to_end(client)
        self._pass(UPSTREAM, self._clients[client], data, None)

    def from_target(self, data: bytes, client: tuple[str, int]) -> None:
        """Pass a datagram back to a client."""
        if self._front is not None:
            self._pass(DOWNSTREAM, self._front, data, client)

    def _pass(self, stream: Stream, to: asyncio.DatagramTransport, data: bytes, addr: tuple[str, int] | None) -> None:
        """Deliver a datagram, late or not at all as the toxics have it."""
        delay_s = 0.0
        for toxic in self.toxics:
            if toxic.stream != stream:
                continue
            if toxic.kind == "timeout" or self._random[stream].random() < toxic.how.get("part", 0.0):
                toxic.bitten += 1
                return
            if toxic.kind == "latency":
                jitter = self._random[stream].uniform(-1, 1) * toxic.how["jitter"]
                delay_s += max(0.0, toxic.how["ms"] + jitter) / 1000
                toxic.bitten += 1
        self._later(delay_s, stream, to, data, addr)

    def _later(
        self, delay_s: float, stream: Stream, to: asyncio.DatagramTransport, data: bytes, addr: tuple[str, int] | None
    ) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            if not to.is_closing():
                to.sendto(data, addr)
                self.passed[stream] += 1

        timer = asyncio.get_running_loop().call_later(delay_s, fire)
        self._timers.add(timer)


class _Front(asyncio.DatagramProtocol):
    """The socket that clients send to."""

    def __init__(self, proxy: ToxicUdpProxy) -> None:
        self.proxy = proxy
        self.tasks: set[asyncio.Task[None]] = set()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        task = asyncio.ensure_future(self.proxy.from_client(data, cast("tuple[str, int]", addr)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class _Back(asyncio.DatagramProtocol):
    """One client's socket towards the target."""

    def __init__(self, proxy: ToxicUdpProxy, client: tuple[str, int]) -> None:
        self.proxy = proxy
        self.client = client

    def datagram_received(self, data: bytes, _addr: tuple[str | int, ...]) -> None:
        self.proxy.from_target(data, self.client)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
