"""When orphans are dialled: a host without life is known quickly, and many cost no more than a few hundred."""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog.dialling import AGAIN_S, DIAL_S, PERIOD_S, PROBES, RATE, WITNESSES, Answer, Dial, Dialling

WHERE = (("192.0.2.1", 80),)
BOUND_S = 3.0


class World:
    """Hosts with endpoints, each of which behaves in one way, on a clock that jumps from one event to the next."""

    def __init__(self, hosts, jitter=lambda: 0.5):
        self.now = 0.0
        self.hosts = hosts
        self.dialling = Dialling(jitter)
        self.dials = []
        self.gone = {}
        self.dialling.add(
            [(host, Dial(host, endpoint, WHERE)) for host, each in hosts.items() for endpoint in each], self.now
        )

    def run(self, until, at_once=512):
        flights = []
        while self.now < until:
            for one in self.dialling.due(self.now, at_once - len(flights)):
                self.dials.append(self.now)
                answer = self.hosts[one.key][one.endpoint]
                took = DIAL_S if answer is Answer.SILENT else 0.001
                heapq.heappush(flights, (self.now + took, one, answer.value))
            next_due = max(self.now, self.dialling.next_at) if len(flights) < at_once else float("inf")
            self.now = min(next_due, flights[0][0] if flights else float("inf"), until)
            while flights and flights[0][0] <= self.now:
                _, one, answer = heapq.heappop(flights)
                judged = self.dialling.judge(one, Answer(answer), self.now)
                lost = self.hosts[judged.host] if judged.host else [one.endpoint] if judged.gone else []
                for endpoint in lost:
                    self.gone.setdefault((one.key, endpoint), self.now)
                    self.dialling.drop(one.key, endpoint)
            if not len(self.dialling) and not flights:
                return self
        return self


def host(count, answer):
    return {f"e{number:05}": answer for number in range(count)}


FATES = {
    "one that answers": (host(1, Answer.TAKEN), 0),
    "one that refuses": (host(1, Answer.REFUSED), 1),
    "one that is silent": (host(1, Answer.SILENT), 1),
    "one that cannot be dialled for a reason of ours": (host(1, Answer.UNKNOWN), 0),
    "a dead host with many": (host(1000, Answer.SILENT), 1000),
    "a live host with some that are silent": (host(20, Answer.TAKEN) | {f"s{n}": Answer.SILENT for n in range(5)}, 5),
    "a live host with nothing but refusals and silence": (
        {"r": Answer.REFUSED} | {f"s{n}": Answer.SILENT for n in range(2)},
        3,
    ),
    "a host whose ports all refuse": (host(300, Answer.REFUSED), 300),
}


@pytest.mark.parametrize(("endpoints", "lost"), FATES.values(), ids=FATES)
def test_who_is_given_up_is_so_within_the_bound(endpoints, lost):
    world = World({"h1": endpoints}).run(30.0)
    assert len(world.gone) == lost
    assert all(at <= BOUND_S for at in world.gone.values())


def test_a_hundred_dead_hosts_with_ten_thousand_are_known_within_the_bound():
    world = World({f"h{number}": host(100, Answer.SILENT) for number in range(100)}).run(60.0)
    assert len(world.gone) == 10_000
    assert max(world.gone.values()) <= BOUND_S
    assert len(world.dials) < 2500


def test_dead_hosts_among_live_ones_are_known_within_the_bound():
    hosts = {f"h{number}": host(100, Answer.SILENT if number < 5 else Answer.TAKEN) for number in range(100)}
    world = World(hosts).run(10.0)
    assert {key for key, _ in world.gone} == {f"h{number}" for number in range(5)}
    assert max(world.gone.values()) <= BOUND_S


def test_a_host_that_dies_later_is_known_within_a_period_and_the_bound():
    world = World({"h1": host(50, Answer.TAKEN), "h2": host(50, Answer.TAKEN)}).run(20.0)
    died = world.now
    world.hosts["h2"] = host(50, Answer.SILENT)
    world.run(died + 10)
    assert {key for key, _ in world.gone} == {"h2"}
    assert len(world.gone) == 50
    assert max(world.gone.values()) - died <= PERIOD_S + BOUND_S


def test_one_failed_dial_is_none():
    """A packet can be lost; it is asked again soon."""
    dialling = Dialling(lambda: 0.0)
    dialling.add([("h1", Dial("k", "e", WHERE))], 0.0)
    for turn, answer in enumerate([Answer.SILENT, Answer.TAKEN] * 3):
        [one] = dialling.due(100.0 * turn + 50, 9)
        judged = dialling.judge(one, answer, 100.0 * turn + 50)
        assert not judged.gone
        soon = 100.0 * turn + 50 + AGAIN_S
        assert dialling.next_at == soon if answer is Answer.SILENT else dialling.next_at > soon


def test_many_cost_no_more_a_second_than_the_rate():
    world = World({f"h{number}": host(100, Answer.TAKEN) for number in range(100)}).run(60.0)
    later = [at for at in world.dials if at > 1.0]
    most = max(sum(second <= at < second + 1 for at in later) for second in range(1, 59))
    assert most <= RATE * 1.5
    assert len(world.dials) >= 2 * 10_000  # everybody was asked again
    assert not world.gone


def test_few_are_asked_every_period():
    world = World({"h1": host(3, Answer.TAKEN)}).run(60.0)
    assert 3 * 60 / PERIOD_S * 0.9 <= len(world.dials) <= 3 * 60 / PERIOD_S * 1.1 + 3


@pytest.mark.parametrize("jitter", [number / 10 for number in range(11)])
def test_one_that_lives_speaks_for_a_host_whose_probes_are_silent(jitter):
    """Whenever it would have looked for a sign of life."""
    silent_ones = {f"e{number}": Answer.SILENT for number in range(PROBES)}
    world = World({"a": {**silent_ones, "living": Answer.TAKEN}}, lambda: jitter).run(20.0)
    assert {endpoint for _, endpoint in world.gone} == set(silent_ones)


answers = st.sampled_from(list(Answer))


@given(st.dictionaries(st.sampled_from("abc"), st.lists(answers, min_size=1, max_size=8), min_size=1), st.floats(0, 1))
@settings(max_examples=100)
def test_exactly_who_does_not_answer_is_given_up(hosts, jitter):
    """Whatever mixture: those that answer, or cannot be asked, stay, unless all that are asked first are silent."""
    named = {name: {f"e{n}": answer for n, answer in enumerate(each)} for name, each in hosts.items()}
    world = World(named, lambda: jitter).run(20.0)
    for name, each in named.items():
        given_up = {endpoint for key, endpoint in world.gone if key == name}
        failing = {one for one, answer in each.items() if answer in {Answer.SILENT, Answer.REFUSED}}
        unknown = {one for one, answer in each.items() if answer is Answer.UNKNOWN}
        silent = sum(answer is Answer.SILENT for answer in each.values())
        with_it = set(each) if silent >= PROBES + WITNESSES else unknown
        assert failing <= given_up <= failing | with_it
