"""Readiness, health and draining: every state under every event."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog.record import Address, Container, Endpoint
from registrator.health import checks
from registrator.health.checks import Condition, Gate, Happening, Target
from registrator.rules.container import Binding, Facts, Network, PortSpec
from registrator.rules.probe import Choice, How, Probe

DRAIN = 50.0

# Name -> condition; the names are states, and what they were before where it matters.
CONDITIONS = {
    "starting, dialled": Condition(Gate.DIAL),
    "starting, checked": Condition(Gate.HEALTH),
    "passing, dialled": Condition(Gate.DIAL, opened=True),
    "passing, checked": Condition(Gate.HEALTH, opened=True),
    "passing, udp": Condition(Gate.NONE, opened=True),
    "failing, unwell": Condition(Gate.HEALTH, opened=True, unwell=True),
    "failing, paused": Condition(Gate.DIAL, opened=True, paused=True),
    "draining": Condition(Gate.DIAL, opened=True, deadline=DRAIN),
    "draining, unwell": Condition(Gate.HEALTH, opened=True, unwell=True, deadline=DRAIN),
    "draining, never ready": Condition(Gate.DIAL, deadline=DRAIN),
}
COLUMNS = tuple(Happening)
# What each becomes, in the order of Happening:
#   answered, healthy, unhealthy, checking, paused, resumed, stopping, expired, started
TABLE = {
    "starting, dialled": "P S S S F S D S S",
    "starting, checked": "S P F S F S D S S",
    "passing, dialled": "P P P P F P D P S",
    "passing, checked": "P P F S F P D P S",
    "passing, udp": "P P P P F P D P P",
    "failing, unwell": "F P F S F F D F S",
    "failing, paused": "F F F F F P D F S",
    "draining": "D D D D D D D S S",
    "draining, unwell": "D D D D D D D F S",
    "draining, never ready": "D D D D D D D S S",
}
LETTERS = {"S": "starting", "P": "passing", "F": "failing", "D": "draining"}
CELLS = {
    f"{name} + {happening.value}": (CONDITIONS[name], happening, LETTERS[letter])
    for name, row in TABLE.items()
    for happening, letter in zip(COLUMNS, row.split(), strict=True)
}


@pytest.mark.parametrize(("condition", "happening", "expected"), CELLS.values(), ids=CELLS)
def test_every_state_under_every_event(condition, happening, expected):
    """The table above, cell by cell."""
    assert checks.state(checks.happen(condition, happening, DRAIN)) == expected


@pytest.mark.parametrize("name", CONDITIONS)
def test_names_of_the_table_are_their_states(name):
    """The table says what it means."""
    assert checks.state(CONDITIONS[name]) == name.partition(",")[0]


@settings(deadline=None)
@given(st.lists(st.sampled_from(COLUMNS)), st.sampled_from(list(Gate)))
def test_draining_hides_nothing(happenings, gate):
    """When the draining expires, it is what it would be without it, but that its port has to answer anew."""
    plain = checks.begin(gate)
    drained = checks.happen(plain, Happening.STOPPING, DRAIN)
    for happening in happenings:
        if happening in {Happening.STOPPING, Happening.EXPIRED, Happening.STARTED}:
            continue
        plain, drained = checks.happen(plain, happening), checks.happen(drained, happening)
        assert checks.state(drained) == "draining"
    unasked = msgspec.structs.replace(plain, opened=False) if gate is Gate.DIAL else plain
    assert checks.happen(drained, Happening.EXPIRED) == unasked


def facts(**changes: object) -> Facts:
    return msgspec.structs.replace(Facts(id="a" * 64, name="web", running=True, started=100.0), **changes)


def endpoint(**changes: object) -> Endpoint:
    return msgspec.structs.replace(Endpoint(service="web", id="h:web:80", label="h-web-80", port=80), **changes)


ASKED = Choice(Probe(How.HTTP, "/"))
IGNORING = Choice(ignores_health=True)
UNASKED = Choice(unasked=True)
GATES = {
    "a HEALTHCHECK": (facts(health="starting"), endpoint(), Choice(), Gate.HEALTH),
    "a HEALTHCHECK, for udp too": (facts(health="healthy"), endpoint(protocol="udp"), Choice(), Gate.HEALTH),
    "none": (facts(), endpoint(), Choice(), Gate.DIAL),
    "none, udp": (facts(), endpoint(protocol="udp"), Choice(), Gate.NONE),
    "one that a tag ignores": (facts(health="unhealthy"), endpoint(), IGNORING, Gate.DIAL),
    "one that a tag ignores, udp": (facts(health="healthy"), endpoint(protocol="udp"), IGNORING, Gate.NONE),
    "a CHECK_*": (facts(), endpoint(), ASKED, Gate.NONE),
    "a CHECK_* and a HEALTHCHECK": (facts(health="healthy"), endpoint(), ASKED, Gate.HEALTH),
    "CHECK=none": (facts(), endpoint(), UNASKED, Gate.NONE),
    "CHECK=none and a HEALTHCHECK": (facts(health="starting"), endpoint(), UNASKED, Gate.HEALTH),
}


@pytest.mark.parametrize(("seen", "port", "choice", "gate"), GATES.values(), ids=GATES)
def test_what_opens_an_endpoint(seen, port, choice, gate):
    """HEALTHCHECK where there is one, else what its CHECK_* finds, else a dial; nothing can be asked of UDP."""
    assert checks.gate_of(seen, port, choice) is gate
    assert (checks.begin(gate, choice.probe).progress is None) == (choice.probe is None)


SIGNALS = {
    "the default stop signal": (facts(), 15, 200.0, 215.0),
    "the image's own": (facts(stop_signal=3, stop_timeout_s=60.0), 3, 200.0, 265.0),
    "another than the image's": (facts(stop_signal=3), 15, 200.0, 0.0),
    "a reload": (facts(), 1, 200.0, 0.0),
    "a kill": (facts(stop_signal=3), 9, 200.0, 215.0),
    "one of an earlier run": (facts(), 15, 99.0, 0.0),
    "one of the moment in which it started": (facts(), 15, 100.0, 115.0),
    "a kill of an earlier run": (facts(), 9, 99.0, 0.0),
    "an interrupt": (facts(), 2, 200.0, 0.0),
    "one for the application's own use": (facts(), 10, 200.0, 0.0),
    "a reload, where it is the image's stop signal": (facts(stop_signal=1), 1, 200.0, 215.0),
    "a window that changes its size": (facts(), 28, 200.0, 0.0),
    "a window that changes its size, which stops httpd": (facts(stop_signal=28), 28, 200.0, 215.0),
    "of a system's first process": (facts(stop_signal=37), 37, 200.0, 215.0),
    "a stop that does not wait": (facts(stop_timeout_s=0.0), 15, 200.0, 205.0),
    "a stop that waits for ever": (facts(stop_timeout_s=86400.0), 15, 200.0, 86605.0),
    "a freeze": (facts(), 19, 200.0, 0.0),
}


@pytest.mark.parametrize(("seen", "signal", "at", "deadline"), SIGNALS.values(), ids=SIGNALS)
def test_which_signals_begin_a_stop(seen, signal, at, deadline):
    """Stop timeout and five seconds after the signal that stops it; no other signal takes anything out."""
    assert checks.stop_deadline(seen, signal, at, now=200.0) == deadline


APART = {
    "behind: a stop now": (facts(started=100.0), 140.0, 200.0, 60.0, 215.0),
    "behind: told late": (facts(started=100.0), 130.0, 200.0, 60.0, 205.0),
    "ahead: a stop now": (facts(started=100.0), 260.0, 200.0, -60.0, 215.0),
    "ahead: of an earlier run": (facts(started=260.5), 260.0, 201.0, -60.0, 0.0),
    "ahead: started anew since, while we looked": (facts(started=261.0), 260.0, 200.9, -60.0, 0.0),
    "behind: of an earlier run": (facts(started=140.5), 140.0, 201.0, 60.0, 0.0),
    "behind: set back since it started": (facts(started=3700.0), 140.0, 200.0, 60.0, 215.0),
    "nobody knows how far ahead": (facts(started=100.0), 260.0, 200.0, 0.0, 215.0),
}


@pytest.mark.parametrize(("seen", "at", "now", "behind_s", "deadline"), APART.values(), ids=APART)
def test_a_signal_by_the_clock_of_another_host(seen, at, now, behind_s, deadline):
    """Its deadline is by our clock; whether it belongs to an earlier run, by the engine's alone."""
    assert checks.stop_deadline(seen, 15, at, now, behind_s) == deadline


def test_a_start_that_lies_ahead_says_nothing_of_a_signal():
    """The clock was set back by an hour since: the signal is not one of an earlier run."""
    assert checks.stop_deadline(facts(started=3700.0), 15, 200.0, now=200.1) == 215.0


RESUMED = {
    "nothing recorded": (facts(), None, "starting"),
    "starting": (facts(), endpoint(state="starting"), "starting"),
    "passing: not dialled again": (facts(), endpoint(state="passing"), "passing"),
    "passing, now paused": (facts(paused=True), endpoint(state="passing"), "failing"),
    "failing, now unpaused: dialled": (facts(), endpoint(state="failing"), "starting"),
    "failing after it had passed": (facts(), endpoint(state="failing", passed=True), "passing"),
    "draining": (facts(), endpoint(state="draining", deadline=DRAIN), "draining"),
    "draining, whose HEALTHCHECK is well": (
        facts(health="healthy"),
        endpoint(state="draining", deadline=DRAIN),
        "draining",
    ),
    "passing, now unhealthy": (facts(health="unhealthy"), endpoint(state="passing"), "failing"),
    "nothing recorded, healthy": (facts(health="healthy"), None, "passing"),
    "passing, the check begins anew": (facts(health="starting"), endpoint(state="passing"), "starting"),
}


@pytest.mark.parametrize(("seen", "recorded", "expected"), RESUMED.values(), ids=RESUMED)
def test_what_a_new_process_makes_of_what_is_recorded(seen, recorded, expected):
    """Readiness and draining survive us; health and pause are what the engine says now."""
    assert checks.state(checks.resume(seen, endpoint(), recorded)) == expected


def test_a_record_of_an_earlier_run_says_nothing():
    """A container that was started again begins anew."""
    record = Container(
        node="h", id="a" * 64, name="web", image="", started=100.0, observed=1.0, endpoints=(endpoint(),)
    )
    assert checks.recorded_endpoints(facts(), record) == {(80, "tcp"): endpoint()}
    assert checks.recorded_endpoints(facts(started=101.0), record) == {}
    assert checks.recorded_endpoints(facts(), None) == {}


OWN = Network("bridge", "172.17.0.2", "")
LAN = Address("10.0.0.1", 8080, "lan")
TARGETS = {
    "its own address first, then where it is published": (
        facts(networks=(OWN,), bindings={PortSpec(80, "tcp"): (Binding("0.0.0.0", 8080),)}),
        endpoint(addresses=(LAN,)),
        (Target("172.17.0.2", 80), Target("10.0.0.1", 8080)),
    ),
    "IPv6 too": (
        facts(networks=(Network("n", "10.1.0.2", "fd00::2"),)),
        endpoint(),
        (Target("10.1.0.2", 80), Target("fd00::2", 80)),
    ),
    "host network: any address of the host": (
        facts(network_mode="host"),
        endpoint(addresses=(Address("10.9.9.9", 80, "lan"),)),
        (Target("10.0.0.1", 80, decides=False), Target("127.0.0.1", 80, decides=False)),
    ),
    "bound to loopback": (
        facts(bindings={PortSpec(80, "tcp"): (Binding("127.0.0.1", 8080),)}),
        endpoint(addresses=(Address("127.0.0.1", 8080, "node"),)),
        (Target("127.0.0.1", 8080),),
    ),
    "an address that a tag names is never dialled": (
        facts(networks=(OWN,)),
        endpoint(addresses=(Address("169.254.169.254", 80, "lan"), Address("10.9.9.9", 8080, "lan"))),
        (Target("172.17.0.2", 80),),
    ),
    "nor another port of the host": (
        facts(networks=(OWN,)),
        endpoint(addresses=(Address("10.0.0.1", 22, "lan"),)),
        (Target("172.17.0.2", 80),),
    ),
    "nothing at all": (facts(), endpoint(), ()),
}


@pytest.mark.parametrize(("seen", "port", "expected"), TARGETS.values(), ids=TARGETS)
def test_where_a_port_is_dialled(seen, port, expected):
    """The container's own address and port, or where they are published on this host; no tag leads elsewhere."""
    assert checks.targets(seen, port, ("10.0.0.1",)) == expected
