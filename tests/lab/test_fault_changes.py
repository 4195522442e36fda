"""What happens to containers, on a real engine with every part running: row A6, timed from the engine's events.

The clock is the machine's: engines stamp events with it, and this process looks every few milliseconds at what a DNS
server on another host answers, and at what that host's proxy has applied. What an application needs to listen after its
start is its own time: it counts from the moment at which it says that it listens.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.host import Host
from lab.waiting import wait_until
from tests.lab.faults import Standing, fetch, srv
from tests.lab.suite import APP, DOMAIN, SOAK, STATUS, answers, run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("A6_ROUNDS", "10" if SOAK else "1"))
DNS_P99_S, ROUTE_P99_S = 0.25, 1.0
KEYS_S = 1.0
WORST_S = 5.0  # of any one, on a machine that is busy with other things
HEALTH = "pilotfish-lab/health:1"
SIX = f"six.{DOMAIN}"
PROXY = ("-e", "SERVICE_NAME=six", "-e", "SERVICE_9200_PROXY=http", "-e", "PORTS=9200", "-p", "9200")


class Took(NamedTuple):
    """Seconds from the event: to the DNS answer, and to the proxy; None where nothing changes for it."""

    change: str
    dns_s: float
    route_s: float | None


class Scene:
    """One host whose containers change, and another one that looks."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.host, self.looker = standing.hosts[1], standing.hosts[0]
        self.pool = ThreadPoolExecutor(3)

    def change(
        self,
        name: str,
        act: Callable[[], object],
        event: str,
        answer: Callable[[Host], bool],
        *,
        servers: int | None = None,
        container: str = "six1",
    ) -> Took:
        """Do something and time what follows; `servers`: how many the route has then."""
        began = time.time()
        assert not answer(self.looker), f"{name}: it is so already"
        dns = self.pool.submit(self._until, lambda: answer(self.looker), name)
        route = self.pool.submit(self._until, lambda: self._servers() == servers, name) if servers is not None else None
        act()
        seen, applied = dns.result(), route.result() if route else None
        at = self._event(container, event, began)
        return Took(name, seen - at, None if applied is None else applied - at)

    def _until(self, true: Callable[[], bool], what: str) -> float:
        wait_until(true, within_s=30, what=what, every_s=0.004)
        return time.time()

    def _servers(self) -> int:
        state = json.loads(fetch(self.looker, STATUS["confgen"], "/api/state")[1] or "{}")
        return sum(len(route["servers"]) for route in state.get("routes", []) if route["host"] == SIX)

    def _event(self, container: str, event: str, began: float) -> float:
        """UNIX time of the last event of that name; "listening": of the application's own line."""
        if event == "listening":
            lines = self.host.docker(["logs", "-t", container]).stdout.splitlines()
            stamp = [line.partition(" ")[0] for line in lines if '"listening"' in line][-1]
            return datetime.fromisoformat(stamp[:26] + "+00:00").timestamp()
        span = ["--since", f"{began - 1:.3f}", "--until", f"{time.time():.3f}"]
        said = self.host.docker(["events", *span, "--format", "{{json .}}"]).stdout.splitlines()
        found = [one for one in map(json.loads, said) if one["Action"] == event and self._is_of(one, container)]
        return found[-1]["timeNano"] / 1e9

    def _is_of(self, event: dict, container: str) -> bool:
        about = event["Actor"]["Attributes"]
        own = self.host.engine.get(f"/containers/{container}/json")["Id"]
        return event["Actor"]["ID"] == own or about.get("container") == own


def answers_with(count: int, name: str = f"_9200._tcp.{SIX}") -> Callable[[Host], bool]:
    """True on a host whose DNS server knows so many endpoints."""
    return lambda host: len(srv(host, name)) == count


def ends(scene: Scene) -> Iterator[Took]:
    """The application dies; it is started; it is restarted."""
    host = scene.host
    pid = int(host.docker(["inspect", "-f", "{{.State.Pid}}", "six1"]).stdout)
    yield scene.change("die", lambda: os.kill(pid, signal.SIGKILL), "die", answers_with(0), servers=0)
    yield scene.change("start", lambda: host.docker(["start", "six1"]), "listening", answers_with(1), servers=1)
    yield scene.change("stop", lambda: host.docker(["stop", "-t", "5", "six1"]), "kill", answers_with(0), servers=0)
    yield scene.change("restart", lambda: host.docker(["restart", "six1"]), "listening", answers_with(1), servers=1)


def pauses(scene: Scene) -> Iterator[Took]:
    """Its processes are frozen, and thawed."""
    yield scene.change("pause", lambda: scene.host.docker(["pause", "six1"]), "pause", answers_with(0), servers=0)
    yield scene.change("unpause", lambda: scene.host.docker(["unpause", "six1"]), "unpause", answers_with(1), servers=1)


def renames(scene: Scene) -> Iterator[Took]:
    """It gets another name: its instance's name in DNS and its keys are others, and the old ones are gone."""
    node = scene.host.name
    for old, new in (("six1", "seven"), ("seven", "six1")):
        label = f"{node}-{new}-9200.{SIX}"
        before = f"{node}-{old}-9200.{SIX}"

        def renamed(host: Host, label: str = label, before: str = before) -> bool:
            return bool(answers(host, label)) and not answers(host, before)

        yield scene.change(
            "rename",
            lambda old=old, new=new: scene.host.docker(["rename", old, new]),
            "rename",
            renamed,
            container=new,
        )


def moves(scene: Scene) -> Iterator[Took]:
    """The network that its address is taken from goes and comes."""
    host = scene.host
    known = answers_with(1, f"_9200._tcp.moved.{DOMAIN}")
    network = ["extra", "moved1"]
    unknown = answers_with(0, f"_9200._tcp.moved.{DOMAIN}")
    off, on = "disconnect", "connect"
    yield scene.change("network off", lambda: host.docker(["network", off, *network]), off, unknown, container="moved1")
    yield scene.change("network on", lambda: host.docker(["network", on, *network]), on, known, container="moved1")


def sickens(scene: Scene) -> Iterator[Took]:
    """Its HEALTHCHECK fails, and is well again."""
    name = f"_80._tcp.well.{DOMAIN}"
    for change, command, count in (("unhealthy", "touch", 0), ("healthy", "rm", 1)):
        act = ["exec", "well1", command, "/tmp/unhealthy"]
        yield scene.change(
            change, lambda act=act: scene.host.docker(act), f"health_status: {change}", answers_with(count, name),
            container="well1",
        )  # fmt: skip


def quantile(values: Sequence[float], part: float) -> float:
    """The value that so large a part of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def test_fault_A6(standing, tmp_path: Path):
    """Whatever happens to a container, names and routes follow its event, and the keys are right each time."""
    scene = Scene(standing)
    host = scene.host
    host.docker(["network", "create", "extra"])
    run(host, *PROXY, "-e", "DRAIN_S=0", name="six1", image=APP)
    run(host, "-e", "SERVICE_NAME=well", "-p", "80", name="well1", image=HEALTH)
    routed = ("-e", "SERVICE_NETWORK=extra", "-e", "SERVICE_ROUTABLE=true", "-e", "SERVICE_NAME=moved")
    run(host, *routed, "-e", "PORTS=9200", "--network", "bridge", "-p", "9200", name="moved1", image=APP)
    host.docker(["network", "connect", "extra", "moved1"])
    for name in (f"_9200._tcp.{SIX}", f"_80._tcp.well.{DOMAIN}", f"_9200._tcp.moved.{DOMAIN}"):
        wait_until(lambda name=name: answers_with(1, name)(scene.looker), within_s=30, what=name)
    wait_until(lambda: scene._servers() == 1, within_s=30, what="the route")
    took: list[Took] = []
    try:
        for _ in range(ROUNDS):
            for kind in (ends, pauses, renames, moves, sickens):
                for one in kind(scene):
                    took.append(one)
                    _keys_are_right(scene)
    finally:
        scene.pool.shutdown()
        host.docker(["rm", "-f", "six1", "well1", "moved1"])
        host.docker(["network", "rm", "extra"])
    show(took)
    dns, routes = [one.dns_s for one in took], [one.route_s for one in took if one.route_s is not None]
    assert quantile(dns, 0.5) <= DNS_P99_S
    assert quantile(routes, 0.5) <= ROUTE_P99_S
    assert max(*dns, *routes) <= WORST_S


def _keys_are_right(scene: Scene) -> None:
    """The store has the exports of exactly what DNS answers for the host's changing containers."""
    try:
        wait_until(lambda: _exported(scene) == _answered(scene), within_s=KEYS_S, what="the keys to be right")
    except Exception as error:
        error.add_note(f"keys: {_exported(scene)}; DNS: {_answered(scene)}")
        raise


def _exported(scene: Scene) -> set[str]:
    services = ("six", "well", "moved")
    return {value for service in services for value in scene.standing.lab.etcd.get(f"/reg/all/{service}/").values()}


def _answered(scene: Scene) -> set[str]:
    names = (f"_9200._tcp.{SIX}", f"_80._tcp.well.{DOMAIN}", f"_9200._tcp.moved.{DOMAIN}")
    return {f"{address}:{port}" for name in names for address, port in srv(scene.looker, name)}


def show(took: Sequence[Took]) -> None:
    """Print the figures, all together and by change."""
    dns, routes = [one.dns_s for one in took], [one.route_s for one in took if one.route_s is not None]
    print(f"\nA6 {len(took)} changes: event to DNS p50 {quantile(dns, 0.5):.3f}, p99 {quantile(dns, 0.99):.3f} s; "
          f"to the proxies p50 {quantile(routes, 0.5):.3f}, p99 {quantile(routes, 0.99):.3f} s")  # fmt: skip
    for change in dict.fromkeys(one.change for one in took):
        own = [one for one in took if one.change == change]
        route = [one.route_s for one in own if one.route_s is not None]
        print(f"  {change}: DNS {max(one.dns_s for one in own):.3f} s at most" + (
            f", proxy {max(route):.3f} s" if route else ""))  # fmt: skip
