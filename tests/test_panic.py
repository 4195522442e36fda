"""When most of a service fails at once: every reader keeps the same endpoints, and says so."""

from __future__ import annotations

import logging
import time

import msgspec
import pytest

from pilotfish.catalog import panic
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.console.state import catalog_state
from tests.test_five_cases import CASES, Estate

DOMAINS = ("svc.internal",)
WHY = "GET /health: 500"


class Failing(Estate):
    """The scaled and proxied service, each container as its letter says: P passes, F fails, f never passed.

    Three containers: two on h1, one on h2.
    """

    def __init__(self, letters: str) -> None:
        super().__init__(CASES["a compose-scaled service, proxied"])
        self.records = [_as(record, letter) for record, letter in zip(self.records, letters, strict=True)]

    def registry(self) -> Registry:
        found = Registry()
        found.apply(Difference(1, tuple(self.entries())))
        return found


def _as(record, letter):
    state, why = ("passing", "") if letter == "P" else ("failing", WHY)
    changed = tuple(
        msgspec.structs.replace(one, state=state, why=why, passed=letter.isupper()) for one in record.endpoints
    )
    return msgspec.structs.replace(record, endpoints=changed)


# Which of the three are served.
SERVED = {
    "all pass": ("PPP", {1, 2, 3}),
    "one fails": ("FPP", {2, 3}),
    "most fail": ("FFP", {1, 2, 3}),
    "all fail": ("FFF", {1, 2, 3}),
    "all fail, and one never passed": ("FFf", set()),
}


@pytest.mark.parametrize(("letters", "served"), SERVED.values(), ids=SERVED)
def test_dns_nginx_and_console_agree(letters, served):
    """One verdict: a name, a URL and the console never differ about the same container."""
    estate = Failing(letters)
    rows = estate.dns().ask("_80._tcp.web.shop.svc.internal", "SRV", tcp=True).answer
    assert {int(row.split()[-2]) - 32000 for row in rows} == served
    at_h2 = {"172.18.0.4:80": 3, "192.168.0.1:32001": 1, "192.168.0.1:32002": 2}
    routes = estate.routes("h2").get("web.shop", [])
    assert {at_h2[server] for server in routes} == served
    state = catalog_state(estate.registry(), DOMAINS)
    assert {number for number, one in enumerate(state["services"]["web.shop"], 1) if one["weight"]} == served
    assert state["panic"] == (["web.shop"] if letters in {"FFP", "FFF"} else [])


def test_it_is_logged_once_and_counted(caplog):
    """Once when it begins and once when it ends, however often it is looked at."""
    caplog.set_level(logging.INFO)
    telemetry = Telemetry("console", time.time)
    registry = Failing("FFF").registry()
    panic.show(telemetry, registry.panics)
    said = panic.Panics(telemetry.log)
    for _ in range(3):
        said.look(registry.panics())
    assert telemetry.registry.get_sample_value("pilotfish_services_in_panic", {"part": "console"}) == 1
    registry.apply(Difference(2, tuple(Failing("PPP").entries())))
    for _ in range(3):
        said.look(registry.panics())
    assert telemetry.registry.get_sample_value("pilotfish_services_in_panic", {"part": "console"}) == 0
    assert [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records] == [
        ("WARNING", "service web.shop"),
        ("INFO", "service web.shop"),
    ]
