"""Requests a second through the configuration that confgen writes, beside two that are written by hand.

One by hand is lean: what somebody writes who knows nginx and these two servers. The other does as much as ours does:
headers, ids, log. All nginx have one worker and the same two servers behind, which are one more nginx; wrk asks them in
turn, so that all meet the same moods of the machine. What counts is the ratio, and the CPU of a request.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import wrk
from bench.estate import DOMAIN, container_here
from bench.figures import spread, table
from bench.machine import cpu_s, family
from bench.parts import LOCAL, Folder, folder
from confgen.applying.io_files import Folder as Generations
from confgen.nginx import io_machine
from confgen.nginx.render import Renderer, builtin_templates
from confgen.nginx.rights import ViewSettings
from confgen.nginx.view import Views
from lab.waiting import wait_until
from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.record import Claim, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry, Reading
from tests.parts.ports import free_port

ROUNDS = 7
SECONDS = 4
HOST = f"web.{DOMAIN}"
NODE = "here"
ANSWER = "x" * 128

KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
TEMP = "".join(f"    {kind}_temp_path {{folder}}/{{name}}-{kind};\n" for kind in KINDS)

SERVERS = """\
{user}
worker_processes 1;
pid {folder}/servers.pid;
error_log {folder}/servers-error.log;
events {{ worker_connections 4096; }}
http {{
{temp}    access_log off;
    keepalive_requests 1000000;
    server {{ listen {ip}:{first} backlog=4096; location / {{ return 200 "{answer}"; }} }}
    server {{ listen {ip}:{second} backlog=4096; location / {{ return 200 "{answer}"; }} }}
}}
"""

BY_HAND = """\
{user}
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}-error.log;
events {{ worker_connections 4096; }}
http {{
{temp}{log}    keepalive_requests 10000;
    tcp_nodelay on;
    upstream web {{
        server {ip}:{first}{fails};
        server {ip}:{second}{fails};
        keepalive 64;
    }}
    server {{
        listen {port} backlog=4096;
        server_name {host};
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
{headers}            proxy_buffering off;
        }}
    }}
}}
"""


class Hand(NamedTuple):
    """What one of those that are written by hand has of its own: its log, how servers fail, more headers."""

    title: str
    name: str
    log: str
    fails: str
    headers: str


# What somebody writes who knows nginx and these two servers.
LEAN = Hand(
    "by hand",
    "hand",
    """\
    access_log {folder}/hand-access.log combined buffer=32k flush=1s;
""",
    "",
    """\
            proxy_set_header Connection "";
            proxy_set_header Host $host;
""",
)
# The same duties as ours, by hand: a log of one JSON object a request, its id, all headers, WebSockets.
ALIKE = Hand(
    "by hand, as much",
    "alike",
    """\
    log_format json escape=json
        '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","uri":"$request_uri",'
        '"protocol":"$server_protocol","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,'
        '"upstream":"$proxy_host","server":"$upstream_addr","server_status":"$upstream_status",'
        '"server_seconds":"$upstream_response_time","request_id":"$request_id","traceparent":"$http_traceparent",'
        '"agent":"$http_user_agent"}}';
    access_log {folder}/alike-access.log json buffer=32k flush=1s;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
""",
    " max_fails=3 fail_timeout=5s",
    """\
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Ssl off;
            proxy_set_header X-Original-URI $request_uri;
            proxy_set_header X-Request-ID $request_id;
            proxy_set_header Forwarded "";
            proxy_set_header Proxy "";
""",
)


class Nginx(NamedTuple):
    """One that is measured: what it is called, its port, its master's process id."""

    title: str
    port: int
    pid: int


class Round(NamedTuple):
    """What one round found: answers a second, microseconds of CPU for each, and the 99th percentile in milliseconds."""

    rate: float
    cpu_us: float
    p99_ms: float


def run(rounds: int = ROUNDS, seconds: int = SECONDS) -> None:
    """Measure, and print a table."""
    with folder("lab", "load") as place:
        place.path.chmod(0o755)
        measured = _started(place)
        found: dict[str, list[Round]] = {one.title: [] for one in measured}
        for number in range(rounds + 1):
            for one in measured if number % 2 else tuple(reversed(measured)):
                row = _round(place, one, seconds)
                if number:  # the first one warms up
                    found[one.title].append(row)
    print(table(
        f"HTTP through one nginx worker to two servers, {wrk.CONNECTIONS} connections, {rounds} rounds of {seconds} s; "
        f"median (lowest to highest)",
        ("configuration", "requests/s", "of by hand", "CPU us a request", "p99 ms"), _rows(found),
    ), flush=True)  # fmt: skip


def _rows(found: dict[str, list[Round]]) -> Iterator[tuple[str, ...]]:
    by_hand = next(iter(found.values()))
    for title, rounds in found.items():
        ratio = spread(mine.rate / other.rate for mine, other in zip(rounds, by_hand, strict=True))
        rate, cpu, p99 = (spread(column) for column in zip(*rounds, strict=True))
        yield title, rate.shown(), ratio.shown(2), cpu.shown(1), p99.shown(2)


def _started(place: Folder) -> tuple[Nginx, ...]:
    first, second = free_port(), free_port()
    account = " ".join(io_machine.account(place.path)).strip()
    given = {"user": f"user {account};" if account else "", "folder": place.path, "ip": LOCAL}
    ports = {"first": first, "second": second}
    _start(place, "servers", SERVERS.format(**given, **ports, answer=ANSWER, temp=_temp(place, "servers")))
    by_hand = []
    for hand in (LEAN, ALIKE):
        port = free_port()
        own = {
            "name": hand.name,
            "log": hand.log.format(folder=place.path),
            "fails": hand.fails,
            "headers": hand.headers,
        }
        config = BY_HAND.format(**given, **ports, **own, port=port, host=HOST, temp=_temp(place, hand.name))
        by_hand.append(Nginx(hand.title, port, _start(place, hand.name, config)))
    return *by_hand, _ours(place, (first, second))


def _temp(place: Folder, name: str) -> str:
    """Folders that Debian's own configuration has elsewhere."""
    return TEMP.format(folder=place.path, name=name)


def _start(place: Folder, name: str, text: str) -> int:
    config = place.path / f"{name}.conf"
    config.write_text(text, encoding="utf-8")
    return _run(place, name, config, place.path)


def _run(place: Folder, name: str, config: Path, prefix: Path) -> int:
    command: list[str | Path] = [place.tools.find("nginx"), "-p", f"{prefix}/", "-c", config, "-e", "stderr"]
    return place.start(name, [*command, "-g", "daemon off;"]).pid


def _ours(place: Folder, servers: tuple[int, ...]) -> Nginx:
    """The configuration as confgen renders it for these servers."""
    port = free_port()
    generations = Generations(place.path / "ours", keep=1)
    generations.open()
    machine = msgspec.structs.replace(io_machine.machine(generations.path, port, ()), workers=1)
    registry, views = Registry(), Views(ViewSettings(NODE, (DOMAIN,)))
    views.update(registry, registry.apply(Mirror(keys.ROOT).start(_catalog(servers))))
    renderer = Renderer(machine, builtin_templates())
    tree = renderer.render(views.services, frozenset(views.services), views.host_count, views.longest_host)
    generations.stage(tree)
    generations.swap(tree.generation)
    generations.close()
    return Nginx("by confgen", port, _run(place, "ours", generations.config(tree.generation), generations.path))


def _catalog(servers: tuple[int, ...]) -> Reading:
    records: dict[str, bytes] = {keys.claim_key(Place(HOST, "/")): encode(Claim(service="web", since=1.0))}
    for number, port in enumerate(servers):
        made = container_here(NODE, "web", number, port)
        records[keys.container_key(NODE, made.id)] = encode(made)
    return Reading("made-up", 1, tuple(Entry(key, value, 1, 1) for key, value in sorted(records.items())))


def _round(place: Folder, one: Nginx, seconds: int) -> Round:
    url = f"http://{LOCAL}:{one.port}/"
    wait_until(lambda: _answers(place, url), within_s=10, what=f"{one.title} to answer")
    before = sum(map(cpu_s, family(one.pid)))
    heard = wrk.ask(place.tools.find("wrk"), url, HOST, seconds)
    spent = sum(map(cpu_s, family(one.pid))) - before
    return Round(heard.rate, spent / heard.answers * 1e6, heard.p99_ms)


def _answers(place: Folder, url: str) -> bool:
    command: list[str | Path] = [place.tools.find("curl"), "-sf", "-o", "/dev/null", "-H", f"Host: {HOST}", url]
    return subprocess.run(command, check=False, timeout=5).returncode == 0
