"""etcd is away for minutes, under load, and the DNS server is killed and started again in the middle.

One witness asks what stands all the time, at a high rate; another, with a clock of its own, asks for what is changed as
soon as etcd is back. Every answer is judged: right and fresh, right and marked as stale, wrong, failed, lost. Once the
store was silent for --stale-after, no answer may look fresh.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query

from bench.estate import DOMAIN, HOSTS, Estate, host_ip, service_name
from bench.figures import table
from bench.parts import LOCAL, Etcd, Folder, Part, fill, folder, wait_filled
from bench.watched import Sum, Watched, added
from bench.witness import WINDOW_S, Window
from lab.waiting import wait_until
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.store import Put
from tests.parts.ports import free_port

MINUTES = 10.0
RATE, SLOW_RATE = 5000, 50
KNOWN = Estate(services=1000, each=2, proxied=False)
NOTHING = 100  # names asked for that do not exist, and as many that have no such data
CHANGED = 20  # records that are changed when etcd is back
STALE_AFTER_S = 15.0  # the default
CALM_S = 5.0
BACK_WITHIN_S = 60.0
FOLDER = "/skydns/internal/svc"
OLD, NEW = "10.60.0.{}", "10.61.0.{}"


class Marks(NamedTuple):
    """What happened when, monotonic seconds.

    Attributes:
        begun: the load began.
        stopped: etcd was asked to end.
        killed: the DNS server was killed.
        restarted: it was started again.
        back: etcd served again.
        changed: the changes were written.
        fresh: /ready said that nothing is missing.
        answered: the last change was answered.
    """

    begun: float
    stopped: float
    killed: float
    restarted: float
    back: float
    changed: float
    fresh: float
    answered: float


def truth() -> Iterator[str]:
    """What the first witness asks, and what is right."""
    for service in KNOWN.numbers:
        ips = {host_ip((service * KNOWN.each + one) % HOSTS) for one in range(KNOWN.each)}
        yield f"{service_name(service)}.{DOMAIN} A NOERROR {','.join(sorted(ips))}"
    for number in range(NOTHING):
        yield f"{service_name(number)}.{DOMAIN} AAAA NOERROR -"
        yield f"nothing{number}.{DOMAIN} A NXDOMAIN -"


def changing() -> Iterator[str]:
    """What the second witness asks: old or new, never anything else."""
    return (f"c{number}.{DOMAIN} A NOERROR {OLD.format(number)}|{NEW.format(number)}" for number in range(CHANGED))


def run(minutes: float = MINUTES) -> None:
    """Measure, and print tables.

    Raises:
        RuntimeError: an answer was wrong, or looked fresh when it was not.
    """
    with folder("lab") as place:
        etcd = Etcd(place)
        wait_filled(fill(place, etcd.url, KNOWN))
        asyncio.run(_write(etcd.url, OLD))
        snapshot, port = place.path / "zone", free_port()
        start = _starter(place, etcd.url, port, snapshot)
        server = start()
        server.wait_ready()
        wait_until(snapshot.exists, within_s=BACK_WITHIN_S, what="the snapshot")
        load = Watched(place.path, (LOCAL, port), truth(), RATE)
        second = Watched(place.path, (LOCAL, port), changing(), SLOW_RATE, name="second", ports=4)
        with load, second:
            marks = _play(etcd, server, start, port, minutes * 60)
        print(_report(marks, load.windows(), second.windows(), minutes))


def _starter(place: Folder, url: str, port: int, snapshot: Path) -> Callable[[], Part]:
    options = ("--etcd", url, "--listen", f"{LOCAL}:{port}", "--snapshot", str(snapshot))
    return lambda: Part(place, "dns", *options)


def _play(etcd: Etcd, server: Part, start: Callable[[], Part], port: int, seconds: float) -> Marks:
    begun = time.monotonic()
    time.sleep(CALM_S)
    stopped = time.monotonic()
    etcd.stop()
    time.sleep(seconds / 2)
    killed = time.monotonic()
    server.process.kill()
    restarted = time.monotonic()
    server = start()
    time.sleep(max(0.0, stopped + seconds - time.monotonic()))
    etcd.start()
    back = time.monotonic()
    asyncio.run(_write(etcd.url, NEW))
    changed = time.monotonic()
    answered = _until_answered(port)
    server.wait_ready()
    fresh = time.monotonic()
    time.sleep(CALM_S)
    return Marks(begun, stopped, killed, restarted, back, changed, fresh, answered)


async def _write(url: str, address: str) -> None:
    store = EtcdStore(EtcdSettings(endpoints=(url,)))
    try:
        records = ((number, json.dumps({"host": address.format(number)}).encode()) for number in range(CHANGED))
        await store.commit([], [Put(f"{FOLDER}/c{number}", value) for number, value in records])
    finally:
        await store.close()


def _until_answered(port: int) -> float:
    question = dns.message.make_query(f"c{CHANGED - 1}.{DOMAIN}", "A")
    expected = NEW.format(CHANGED - 1)

    def seen() -> bool:
        try:
            reply = dns.query.udp(question, LOCAL, port=port, timeout=2)
        except dns.exception.Timeout:
            return False
        return [record.to_text() for rrset in reply.answer for record in rrset] == [expected]

    wait_until(seen, within_s=BACK_WITHIN_S, what="the changes to be answered")
    return time.monotonic()


def _phases(marks: Marks, windows: Sequence[Window]) -> dict[str, Sum]:
    """Seconds by what was the matter while they were asked; those in which it changed belong to the first that fits."""
    restart = (marks.killed - WINDOW_S, first_answer(marks, windows) + WINDOW_S)
    silent = marks.stopped + STALE_AFTER_S + WINDOW_S
    spans = {
        "around the restart": restart,
        "before": (0.0, marks.stopped - WINDOW_S),
        f"etcd away, up to {STALE_AFTER_S:g} s": (marks.stopped - WINDOW_S, silent),
        "etcd away, after that": (silent, marks.back - WINDOW_S),
        "etcd back": (marks.back - WINDOW_S, marks.fresh),
        "fresh again": (marks.fresh, float("inf")),
    }
    found: dict[str, list[Window]] = {title: [] for title in spans}
    for window in windows:
        title = next(title for title, (begin, end) in spans.items() if begin <= window.at < end)
        found[title].append(window)
    order = sorted(spans, key=lambda title: spans[title][0])
    return {title: added(found[title]) for title in order}


def first_answer(marks: Marks, windows: Iterable[Window]) -> float:
    """When the first right answer came after the restart."""
    return min(one.first for one in windows if one.first > marks.restarted)


def unmarked(marks: Marks, windows: Iterable[Window]) -> int:
    """Answers that looked fresh although the store had been silent for too long."""
    silent = marks.stopped + STALE_AFTER_S + WINDOW_S
    return sum(one.fresh for one in windows if silent <= one.at and one.at + WINDOW_S < marks.back)


def _report(marks: Marks, load: Sequence[Window], second: Sequence[Window], minutes: float) -> str:
    rows = [(title, *_cells(found)) for title, found in _phases(marks, load).items()]
    total, other = added(load), added(second)
    rows += [("**all**", *_cells(total)), ("the second witness", *_cells(other))]
    looked_fresh = unmarked(marks, load) + unmarked(marks, second)
    up_s, dark_s = (first_answer(marks, load) - since for since in (marks.restarted, marks.killed))
    said = [
        table(
            f"etcd away for {minutes:g} minutes under {RATE:,} questions a second, the DNS server killed in the middle",
            ("", "asked", "right", "right, marked stale", "wrong", "failed", "lost", "p99, ms", "longest gap, ms"),
            rows,
        ),
        "",
        f"Looked fresh after {STALE_AFTER_S:g} s of silence: {looked_fresh}.",
        f"Killed and started again: first right answer after {up_s:.2f} s, {dark_s:.2f} s without one.",
        f"Changes written as soon as etcd was back: answered {marks.answered - marks.changed:.2f} s later.",
        f"Ready again {marks.fresh - marks.back:.2f} s after etcd served.",
    ]
    if looked_fresh or total.wrong or other.wrong:
        shown = [text for one in (*load, *second) for text in one.shown][:10]
        raise RuntimeError("\n".join([*said, *shown, "wrong answers, or old ones that were not marked"]))
    return "\n".join(said)


def _cells(found: Sum) -> tuple[str, ...]:
    counts = (found.asked, found.fresh, found.marked, found.wrong, found.failed, found.lost)
    return (*(f"{count:,}" for count in counts), f"{found.p99:.1f}", f"{found.gap:.0f}")
