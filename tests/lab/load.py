"""HTTP, DNS and store traffic around a fault, and what became of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from lab.host import Host
from tests.lab.faults import LASTING, NAME, PLAIN, Standing
from tests.lab.suite import answers
from tests.parts import checker, prober, writer
from tests.parts.aside import Aside
from tests.parts.checker import Sent, Serving
from tests.parts.prober import Asked, Fact
from tests.parts.writer import BEAT, Written


class Load:
    """HTTP, DNS and store traffic of processes outside the hosts; use as `async with`.

    Args:
        standing: what it goes to.
        folder: for logs.
        writes: whether numbered records are written; they show how far each DNS server is behind the store.
        at: the hosts whose DNS servers and proxies are used; default: all.
        place: from where; default: the switch, outside every host.
        web: whether there is HTTP.
    """

    def __init__(
        self,
        standing: Standing,
        folder: Path,
        *,
        writes: bool = False,
        at: Sequence[Host] = (),
        place: Host | None = None,
        web: bool = True,
    ) -> None:
        self.standing = standing
        self.hosts = list(at or standing.hosts)
        holder = place.place.holder if place else standing.lab.switch.holder
        inside = ("nsenter", f"--net=/proc/{holder}/ns/net")
        outside = ("nsenter", f"--net=/proc/{standing.lab.switch.holder}/ns/net")
        asked = [f"{NAME}:A", f"{PLAIN}:SRV", f"{LASTING}:A", *([f"{BEAT}:A"] if writes else [])]
        servers = [part for host in self.hosts for part in ("--server", f"{host.address}:53")]
        self.dns_load = Aside(
            prober.__name__,
            [*servers, *(part for one in asked for part in ("--ask", one)), "--rate", "60", "--timeout", "1"],
            folder / "dns.log", prefix=inside,
        )  # fmt: skip
        through = [part for host in self.hosts for part in ("--proxy", f"{host.address}:80")]
        methods = ("--method", "GET", "--method", "POST")
        self.web_load = Aside(
            checker.__name__,
            [*through, *methods, "--host", NAME, "--workers", "8", "--rate", "100", "--run", folder.name],
            folder / "web.log", prefix=inside,
        ) if web else None  # fmt: skip
        self.write_load = Aside(
            writer.__name__, ["--etcd", standing.lab.etcd.urls, "--rate", "20"], folder / "writes.log", prefix=outside
        ) if writes else None  # fmt: skip
        self._stack = contextlib.AsyncExitStack()

    @property
    def _all(self) -> list[Aside]:
        return [load for load in (self.write_load, self.dns_load, self.web_load) if load is not None]

    async def __aenter__(self) -> Self:
        for load in self._all:
            await self._stack.enter_async_context(load)
        await self.flow()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def flow(self, within_s: float = 30) -> None:
        """Wait until more of everything was answered, good or bad."""
        for load, more in ((self.dns_load, 60), (self.web_load, 40), (self.write_load, 8)):
            if load is not None:
                await load.until_answered(more, within_s)

    def requests(
        self, allowed: Sequence[str | Serving] = (), *, besides: Collection[Sent] = (), **how: object
    ) -> checker.Verdict:
        """What became of the requests but some, joined with the containers' own logs."""
        assert self.web_load is not None
        served = [row for host in self.standing.hosts for row in self._served(host)]
        left_out = {row.seq for row in besides}
        rows = [row for row in self.web_load.rows(Sent) if row.seq not in left_out]
        names = [f"estest{host.number}" for host in self.standing.hosts]
        return checker.judge(rows, allowed or names, served=served, **how)

    def _served(self, host: Host) -> Iterator[checker.Served]:
        for name in host.docker(["ps", "-a", "--format", "{{.Names}}"]).stdout.split():
            yield from checker.served_by(name, host.docker(["logs", "--since", "15m", name]).stdout)

    def asked(self, *, beat: bool = False) -> list[Asked]:
        """The prober's rows, without those of the numbered records unless these are wanted."""
        return [row for row in self.dns_load.rows(Asked) if (row.name == BEAT) == beat]

    def questions(
        self,
        facts: Mapping[str, Sequence[Fact]] | None = None,
        *,
        besides: Collection[Asked] = (),
        bound_s: float = 1.0,
    ) -> prober.Verdict:
        """What became of the questions but some, if nothing was to change but what `facts` say."""
        steady = {NAME: [Fact(0.0, address) for address in self.standing.proxies], LASTING: [Fact(0.0, "10.250.255.1")]}
        left_out = {(row.server, row.seq) for row in besides}
        rows = [row for row in self.asked() if (row.server, row.seq) not in left_out]
        held = {text for row in rows if row.name == PLAIN for text in row.answers}
        history = {**steady, PLAIN: [Fact(0.0, text) for text in held], **(facts or {})}
        return prober.judge(rows, history, bound_s)

    def after(self, since: float) -> list[Asked]:
        """Questions after a moment whose answers depend on leases that may have run out; each was answered."""
        rows = [row for row in self.asked() if row.name in {NAME, PLAIN} and row.until >= since]
        assert all(row.rcode == "NOERROR" for row in rows)
        return rows

    def writes(self) -> list[Written]:
        """The writer's rows."""
        assert self.write_load is not None
        return self.write_load.rows(Written)

    def lost_writes(self, host: Host) -> list[int]:
        """Acknowledged writes of which a host's DNS server knows nothing."""
        done = writer.acknowledged(self.writes())
        return [one.number for one in done if answers(host, writer.name_of(one.number)) != [writer.address(one.number)]]
