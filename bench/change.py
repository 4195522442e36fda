"""What one changed endpoint costs the config generator and the DNS server, in this process, without any waiting.

The config generator: from the store's change to the staged files on disk, then nginx's own check and reload until the
workers serve it; beside it the whole file rendered by one plain template, and by confd. The DNS server: from the change
to the first answer that shows it.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2

from bench import confd
from bench.estate import DOMAIN, Estate, container, service_name
from bench.figures import percentile, table
from bench.parts import Folder, folder
from confgen.applying.excerpt import excerpt
from confgen.applying.io_apply import checked_aside
from confgen.applying.io_files import Folder as Generations
from confgen.applying.io_nginx import Nginx
from confgen.nginx import io_machine
from confgen.nginx.render import Renderer, Tree, builtin_templates
from confgen.nginx.rights import ViewSettings
from confgen.nginx.view import Views
from dnsserver import zone
from dnsserver.finished import Data
from dnsserver.own.index import OwnNames
from dnsserver.responder import Responder
from dnsserver.skydns.foreign import Foreign
from dnsserver.zone import Zone
from lab.tools import ToolMissing, Tools
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.record import encode
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.store import Change, Entry

CONFGEN_ESTATES = tuple(Estate(services, each=10, proxied=True) for services in (10, 100, 1000))
DNS_ESTATES = (Estate(services=100, each=10, proxied=False), Estate(services=10_000, each=10, proxied=False))
CHANGES, PEER_CHANGES = 50, 10
TIMES = ("p50", "p99", "most")
# The same servers and hosts as one would write them in one file, and nothing else of what we write.
WHOLE = """\
{% for name, endpoints in services|dictsort %}
upstream {{ name }} {
{% for endpoint in endpoints %}
    server {{ endpoint.addresses[0].ip }}:{{ endpoint.addresses[0].port }} weight={{ endpoint.weight }};
{% endfor %}
}
server {
    listen 80;
    server_name {{ name }}.{{ domain }};
    location / {
        proxy_pass http://{{ name }};
    }
}
{% endfor %}
"""
DNS_CHANGES = 2000

Step = Callable[[], None]


class Feed:
    """A mirror that holds an estate, and the changes of it that a store would send: another weight for an endpoint."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.mirror = Mirror(keys.ROOT)
        self.first = self.mirror.start(estate.reading())
        self._made = 0

    def next(self) -> tuple[str, Change]:
        """The name of a service, and a change of one of its endpoints."""
        self._made += 1
        service = self._made * 7 % self.estate.services
        changed = container(self.estate, service, self._made % self.estate.each, weight=1 + self._made % 99)
        revision = self.mirror.revision + 1
        entry = Entry(keys.container_key(changed.node, changed.id), encode(changed), 2, revision)
        return service_name(service), Change(revision, (entry,))


class Staging:
    """What the config generator does with a change, up to the staged files."""

    def __init__(self, folder: Generations) -> None:
        self._registry = Registry(by_name=False)
        self._views = Views(ViewSettings("here", (DOMAIN,)))
        self._renderer = Renderer(io_machine.machine(folder.path, 8080, ()), builtin_templates())
        self._folder = folder

    def take(self, difference: Difference) -> tuple[Tree, dict[str, float]]:
        """Take in a difference; returns the staged tree, and the seconds of each step."""
        marks = [time.perf_counter()]
        touched: Touched = self._registry.apply(difference)
        changed = self._views.update(self._registry, touched)
        marks.append(time.perf_counter())
        tree = self._renderer.render(self._views.services, changed, self._views.host_count, self._views.longest_host)
        marks.append(time.perf_counter())
        self._folder.stage(tree)
        marks.append(time.perf_counter())
        steps = zip(("catalog and view", "render", "stage on disk"), marks, marks[1:], strict=False)
        return tree, {name: end - begin for name, begin, end in steps}


def run(changes: int = CHANGES, dns_changes: int = DNS_CHANGES) -> None:
    """Measure, and print two tables."""
    with folder("lab") as place:
        place.path.chmod(0o755)
        print(table(
            f"Config generator: one endpoint changes; {changes} changes, milliseconds", ("endpoints", "", *TIMES),
            (row for estate in CONFGEN_ESTATES for row in _confgen(place, estate, changes)),
        ))  # fmt: skip
    print(table(
        f"DNS server: one endpoint changes, and its name is asked for; {dns_changes:,} changes, microseconds",
        ("endpoints", "step", *TIMES), (row for one in DNS_ESTATES for row in _dns(one, dns_changes)),
    ))  # fmt: skip


def _confgen(place: Folder, estate: Estate, changes: int) -> Iterator[tuple[str, ...]]:
    found: dict[str, list[float]] = {}
    for steps in (*_ours(place, estate, changes), *_peers(place, estate, changes)):
        for name, took in steps.items():
            found.setdefault(name, []).append(took * 1000)
    for name, all_ in found.items():
        yield (f"{estate.endpoints:,}", name, *(f"{one:.1f}" for one in _times(all_)))


def _ours(place: Folder, estate: Estate, changes: int) -> Iterator[dict[str, float]]:
    generations = Generations(place.path / f"nginx-{estate.endpoints}", keep=5)
    generations.open()
    feed, staging = Feed(estate), Staging(generations)
    nginx = Nginx(str(place.tools.find("nginx")), generations.path, ours=True, check_timeout_s=30.0)
    tree, _ = staging.take(feed.first)
    generations.swap(tree.generation)
    asyncio.run(_served(nginx, tree.generation))
    generations.accept(tree.generation)
    try:
        for _ in range(changes):
            _, change = feed.next()
            begun = time.perf_counter()
            tree, steps = staging.take(feed.mirror.apply(change))
            steps["received to staged"] = time.perf_counter() - begun
            steps["then nginx -t of what is new"] = _excerpt_check(nginx, generations, tree)
            steps["beside it: nginx -t of all"] = _nginx_check(generations.config(tree.generation))
            begun = time.perf_counter()
            generations.swap(tree.generation)
            steps["then swapped"] = time.perf_counter() - begun
            steps["then told and proved to serve"] = asyncio.run(_served(nginx, tree.generation))
            generations.accept(tree.generation)
            yield steps
    finally:
        asyncio.run(nginx.stop())
        generations.close()


async def _served(nginx: Nginx, generation: str) -> float:
    begun = time.perf_counter()
    await nginx.reload()
    await nginx.prove(generation, timeout_s=30.0)
    return time.perf_counter() - begun


def _peers(place: Folder, estate: Estate, changes: int) -> Iterator[dict[str, float]]:
    """What others take for the same: the whole file rendered by one Jinja2 template, and confd."""
    whole = jinja2.Environment(autoescape=False, trim_blocks=True).from_string(WHOLE)  # noqa: S701  no HTML
    services = {
        service_name(service): [container(estate, service, one).endpoints[0] for one in range(estate.each)]
        for service in estate.numbers
    }
    dest = place.path / "whole.conf"
    for _ in range(min(changes, PEER_CHANGES)):
        begun = time.perf_counter()
        dest.write_text(whole.render(services=services, domain=DOMAIN), encoding="utf-8")
        yield {"beside it: all rendered by one plain Jinja2 template": time.perf_counter() - begun}
    if confd.program() is None:
        print("bench: confd is not on PATH, so no comparison with it", flush=True)
        return
    peer = confd.Confd(place, estate)
    for number in range(min(changes, PEER_CHANGES)):
        yield {"beside it: confd, from a file of keys": peer.change(number)}


def _times(values: list[float]) -> tuple[float, float, float]:
    return percentile(values, 50), percentile(values, 99), max(values)


def _excerpt_check(nginx: Nginx, generations: Generations, tree: Tree) -> float:
    """With its excerpt made, written and removed."""
    begun = time.perf_counter()
    part = excerpt(tree, generations.proved_files)
    if part is None:
        return 0.0  # of few services all are read; the next line is for those
    outcome = asyncio.run(checked_aside(part, generations, nginx))
    if outcome.code != 0:
        raise RuntimeError(outcome.output)
    return time.perf_counter() - begun


def _nginx_check(config: Path) -> float:
    try:
        command: list[str | Path] = [Tools(["lab"]).find("nginx"), "-t", "-q", "-c", config, "-e", "stderr"]
    except ToolMissing:
        return 0.0
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - begun


def _dns(estate: Estate, changes: int) -> Iterator[tuple[str, ...]]:
    feed = Feed(estate)
    responder = Responder(
        Zone([zone.domain(DOMAIN)], OwnNames([zone.domain(DOMAIN)], "proxy"), Foreign("/skydns", 30)), 2
    )
    responder.apply_own(feed.first)
    responder.set_data(Data.FRESH)
    questions = [_question(service_name(number)) for number in range(estate.services)]
    for question in questions:
        responder.udp(question)
    applied, answered = [], []
    for _ in range(changes):
        name, change = feed.next()
        question = _question(name)
        begun = time.perf_counter()
        responder.apply_own(feed.mirror.apply(change))
        between = time.perf_counter()
        responder.udp(question)
        answered.append((time.perf_counter() - between) * 1e6)
        applied.append((between - begun) * 1e6)
    for step, took in (("change taken in", applied), ("first answer", answered)):
        yield (
            f"{estate.endpoints:,}",
            step,
            *(f"{one:.0f}" for one in _times(took)),
        )


def _question(name: str) -> bytes:
    labels = b"".join(bytes((len(one),)) + one for one in f"{name}.{DOMAIN}".encode().split(b"."))
    return bytes.fromhex("0001 0100 0001 0000 0000 0000") + labels + bytes.fromhex("00 0001 0001")
