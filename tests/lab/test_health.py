"""Health on a real engine, with every part running: HEALTHCHECK and CHECK_HTTP decide in DNS and nginx together."""

from __future__ import annotations

import time

import pytest

from lab.waiting import wait_until
from tests.lab.suite import APP, DOMAIN, answers, page, run, running
from tests.lab.test_lab import HEALTH

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

DNS_S, ROUTE_S = 0.25, 1.0  # row A6: from the engine's event to the answer, and to the route
PORT = f"_9200._tcp.web.{DOMAIN}"
NAME = f"web.{DOMAIN}"
TAGS = ("-e", "SERVICE_NAME=web", "-e", "SERVICE_9200_PROXY=http", "-p", "9200")
ASKED = ("-e", "SERVICE_9200_CHECK_HTTP=/health", "-e", "SERVICE_9200_CHECK_INTERVAL=200ms")


def sick(host, name, *, well=False):
    host.docker(["exec", name, *(("rm", "-f") if well else ("touch",)), "/tmp/unhealthy"])


def told_at(host, container, since, status):
    """UNIX time at which the engine told of a health_status."""
    filters = ["--filter", f"container={container}", "--filter", "event=health_status"]
    listed = host.docker(["events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", *filters,
                          "--format", "{{.TimeNano}} {{.Action}}"]).stdout  # fmt: skip
    return next(int(line.split()[0]) / 1e9 for line in listed.splitlines() if line.endswith(f" {status}"))


def test_fault_A6_a_healthcheck_turns(fresh1):
    """Unhealthy: out of DNS and nginx together, in time after the engine's event; healthy again: back in both."""
    host = fresh1.hosts[0]
    with running(fresh1):
        container = run(host, *TAGS, "-e", "PORTS=9200", name="web1", image=HEALTH)
        wait_until(lambda: isinstance(page(host, host.address, NAME), dict), within_s=30, what="it to be served")
        assert answers(host, PORT, "SRV")
        began = time.time()
        sick(host, "web1")
        wait_until(lambda: not answers(host, PORT, "SRV"), within_s=30, what="it to leave DNS", every_s=0.005)
        dns_at = time.time()
        wait_until(lambda: page(host, host.address, NAME) == 503, within_s=30, what="it to leave nginx", every_s=0.005)
        route_at = time.time()
        event_at = told_at(host, container, began, "unhealthy")
        print(f"event -> DNS {dns_at - event_at:.3f} s, -> route {route_at - event_at:.3f} s")
        assert 0 < dns_at - event_at <= DNS_S
        assert route_at - event_at <= ROUTE_S
        sick(host, "web1", well=True)
        wait_until(lambda: answers(host, PORT, "SRV"), within_s=30, what="it to be back in DNS")
        wait_until(lambda: isinstance(page(host, host.address, NAME), dict), within_s=30, what="it to be served again")


def test_when_all_fail_both_keep_them(fresh1):
    """One of three that fails its CHECK_HTTP leaves; when most do, DNS and nginx keep all, and it is said."""
    host = fresh1.hosts[0]
    names = [f"web{number}" for number in (1, 2, 3)]
    with running(fresh1) as suite:
        for name in names:
            run(host, *TAGS, *ASKED, name=name, image=APP)
        wait_until(lambda: len(answers(host, PORT, "SRV")) == 3, within_s=30, what="all three")
        sick(host, "web1")
        wait_until(lambda: len(answers(host, PORT, "SRV")) == 2, within_s=30, what="the one to leave")
        sick(host, "web2")
        sick(host, "web3")
        wait_until(lambda: suite.state(host, "registrator")["panic"] == ["web"], within_s=30, what="panic to be said")
        wait_until(lambda: len(answers(host, PORT, "SRV")) == 3, within_s=30, what="all three to be kept")
        served = {found["container"] for found in _pages(host) if isinstance(found, dict)}
        assert served == set(names)
        for part in ("dns", "confgen", "registrator"):
            metrics = suite.status(host, part, "/metrics")
            assert f'pilotfish_services_in_panic{{part="{part}"}} 1.0' in metrics, part
        for name in names:
            sick(host, name, well=True)
        wait_until(lambda: not suite.state(host, "registrator")["panic"], within_s=30, what="the panic to end")
        # They get well one after the other: the last of them is out for a moment when the panic is over.
        wait_until(lambda: len(answers(host, PORT, "SRV")) == 3, within_s=30, what="all three to be well")


def _pages(host):
    """What nginx serves until all three have been seen, or for 100 requests."""
    found = []
    while len(found) < 100 and len({one["container"] for one in found if isinstance(one, dict)}) < 3:
        found.append(page(host, host.address, NAME))
    return found
