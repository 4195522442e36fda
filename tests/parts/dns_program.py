"""`pilotfish dns` as a process of its own: started, killed, asked, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import dns.asyncquery
import dns.edns
import dns.exception
import dns.message
import dns.rcode

from tests.parts.aside import ROOT

WAIT_S = 30.0
LOCAL = "127.0.0.1"
DOMAIN = "svc.internal"


def quiet_port() -> int:
    """A port of 127.0.0.1 that nobody has for UDP or TCP, and that the kernel gives nobody who asks for any."""
    for _ in range(100):
        port = random.randrange(10_000, 32_000)  # below net.ipv4.ip_local_port_range
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp, suppress(OSError):
            udp.bind((LOCAL, port))
            tcp.bind((LOCAL, port))
            return port
    raise AssertionError("no port is free")


class Heard(NamedTuple):
    """One reply: its code, its data sorted, the least of its TTLs, and the extended error."""

    rcode: str
    values: tuple[str, ...]
    ttl: int
    ede: int | None


class Program:
    """One DNS server process.

    Args:
        folder: for its log.
        etcd: URL of the store.
        flags: more arguments.
        port: to answer at, by default a free one.
        ip: of this host, to answer at.
        name: of the log.
        prefix: a command that runs the rest of its arguments, such as ("ip", "netns", "exec", "x").
    """

    def __init__(
        self, folder: Path, etcd: str, *flags: str, port: int = 0, ip: str = LOCAL, name: str = "dns",
        prefix: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.ip, self.port, self.status = ip, port or quiet_port(), quiet_port()
        self.log = folder / f"{name}.log"
        self.command = [
            *prefix, sys.executable, "-m", "pilotfish", "dns", "--etcd", etcd, "--listen", f"{ip}:{self.port}",
            "--status", f"{LOCAL}:{self.status}", "--log-level", "debug", *flags,
        ]  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await self.ended()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    async def start(self) -> None:
        """Start it, also again after it ended; its log goes on."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self.command, stdout=log, stderr=log, cwd=ROOT)

    async def kill(self) -> None:
        """SIGKILL, and its end."""
        self.process.kill()
        assert await self.ended() == -signal.SIGKILL

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, within_s: float = WAIT_S) -> int:
        """Wait for its end; returns the exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    # --- questions

    async def heard(self, name: str, kind: str = "A", timeout_s: float = 1.0) -> Heard:
        """Ask once over UDP with EDNS, a name under svc.internal or, with a dot at its end, any.

        Raises:
            OSError: nobody listens.
            dns.exception.DNSException: no answer in time, or none that can be read.
        """
        full = name if name.endswith(".") else f"{name}.{DOMAIN}".lstrip(".")
        question = dns.message.make_query(full, kind, use_edns=0, payload=1232)
        reply = await dns.asyncquery.udp(question, self.ip, port=self.port, timeout=timeout_s)
        ttls = [rrset.ttl for rrset in (*reply.answer, *reply.authority)]
        codes = [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]
        values = sorted(record.to_text() for rrset in reply.answer for record in rrset)
        return Heard(dns.rcode.to_text(reply.rcode()), tuple(values), min(ttls, default=0), codes[0] if codes else None)

    async def first(self, name: str, kind: str = "A", within_s: float = WAIT_S) -> Heard:
        """The first reply of all; what is not answered is asked again, every few milliseconds while nobody listens."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await self.heard(name, kind)
                except (dns.exception.DNSException, OSError):
                    self._check_alive()
                    await asyncio.sleep(0.005)

    async def until_open(self, within_s: float = WAIT_S) -> int:
        """Wait until something listens; returns how often the kernel said that nothing does."""
        question, refused = dns.message.make_query(DOMAIN, "SOA").to_wire(), 0
        family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((self.ip, self.port))
            client.setblocking(False)
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        client.send(question)
                        client.recv(512)
                        return refused
                    except ConnectionRefusedError:
                        refused += 1
                    except BlockingIOError:
                        pass
                    self._check_alive()
                    await asyncio.sleep(0.002)

    def _check_alive(self) -> None:
        code = self.process.returncode
        assert code is None, f"it ended with {code}:\n{self.said_last()}"

    async def answers(self, name: str, kind: str = "A") -> list[str]:
        """The data of a name under svc.internal; what is not answered is asked again."""
        return list((await self.first(name, kind)).values)

    async def until(self, name: str, expected: Sequence[str], within_s: float = WAIT_S) -> None:
        """Wait until a name has these addresses."""
        async with asyncio.timeout(within_s):
            while await self.answers(name) != list(expected):
                await asyncio.sleep(0.02)

    # --- what it says of itself

    async def said(self, path: str) -> str:
        """What the status server says, good or bad; "" while nobody listens there."""
        return await asyncio.to_thread(self._said, path)

    def _said(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{LOCAL}:{self.status}{path}", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except OSError:
            return ""

    async def until_said(self, path: str, text: str, within_s: float = WAIT_S) -> str:
        """Wait until a page has a text; returns the page."""
        async with asyncio.timeout(within_s):
            while text not in (page := await self.said(path)):
                await asyncio.sleep(0.02)
        return page

    async def until_ready(self, within_s: float = WAIT_S) -> None:
        """Wait until nothing is missing."""
        async with asyncio.timeout(within_s):
            while not json.loads(await self.said("/ready") or '{"ready": false}')["ready"]:
                await asyncio.sleep(0.02)

    async def state(self) -> dict[str, Any]:
        """Its /api/state."""
        return dict(json.loads(await self.said("/api/state")))

    async def contents(self) -> tuple[Any, ...]:
        """What it knows, in its own words: equal for two that know the same."""
        state = await self.state()
        return tuple(state[name] for name in ("data", "serial", "names", "foreign_records", "refused_records"))

    async def metric(self, name: str, *having: str) -> float:
        """The sum of a metric over all its lines that have these texts in them, such as 'prefix="/skydns/"'."""
        lines = [line for line in (await self.said("/metrics")).splitlines() if re.match(rf"{name}[{{ ]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(text in line for text in having))

    async def repaired(self) -> float:
        """How many records under /skydns were found wrong and mended."""
        return await self.metric("pilotfish_mirror_repaired_total", 'prefix="/skydns/"')

    def said_last(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    async def until_logged(self, text: str, within_s: float = WAIT_S) -> None:
        """Wait until its log has a text."""
        async with asyncio.timeout(within_s):
            while text not in self.log.read_text():
                await asyncio.sleep(0.02)

    # --- what the kernel says

    def rss_mib(self) -> float:
        """Memory that it holds, MiB (proc(5), VmRSS)."""
        found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{self.process.pid}/status").read_text(), re.M)
        assert found
        return int(found[1]) / 1024

    def cpu_s(self) -> float:
        """CPU time that it used so far (proc(5), stat)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until(true: Any, what: str, within_s: float = WAIT_S) -> None:
    """Wait for a condition, a callable that may be a coroutine function; the error names it."""
    deadline = time.monotonic() + within_s
    while True:
        found = true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.02)
