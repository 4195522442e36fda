"""Who is in quarantine, for how long, and how a culprit is found that nginx does not name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.applying.blame import Blame
from confgen.applying.culprit import guilty, part, search
from confgen.applying.listeners import Listener, listener, listens, new_listeners
from confgen.applying.quarantine import FIRST_RETRY_S, LAST_RETRY_S, Quarantine, told
from confgen.nginx.render import Tree
from confgen.nginx.shapes import Level

WEB = Blame("web", "services/web.conf", 3, "no port in services/web.conf:3")


def with_web(**more):
    found = Quarantine()
    assert found.add(WEB, "d1", **{"now": 1000.0, "clock": 50.0, **more})
    return found


def test_a_refused_service_is_silent_then_left_out_then_nothing_more_can_be_done():
    found = with_web()
    assert found.levels == {"web": Level.SILENT}
    assert found.add(WEB._replace(message="its 503 too"), "d1", now=1001.0, clock=51.0)
    assert found.levels == {"web": Level.ABSENT}
    (entry,) = found.entries
    assert (entry.reason, entry.since, entry.tries) == (WEB.message, 1000.0, 1)
    assert not found.add(WEB, "d1", now=1002.0, clock=52.0)


def test_the_same_files_are_tried_again_with_growing_waits_that_end():
    found, clock, waits = with_web(), 50.0, []
    for _ in range(10):
        waits.append(found.next_due() - clock)
        assert found.try_again(found.next_due() - 0.01) == frozenset()
        clock = found.next_due()
        assert found.try_again(clock) == {"web"}
        assert found.levels == {}
        found.add(WEB, "d1", now=2000.0, clock=clock)
    assert waits[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert waits[-1] == LAST_RETRY_S
    (entry,) = found.entries
    assert (entry.since, entry.tries) == (1000.0, 11)


def test_one_whose_503_is_refused_too_waits_as_long():
    found, clock, waits = with_web(), 50.0, []
    found.add(WEB, "d1", now=2000.0, clock=clock)
    for _ in range(4):
        waits.append(found.next_due() - clock)
        clock = found.next_due()
        found.try_again(clock)
        for _ in range(2):
            found.add(WEB, "d1", now=2000.0, clock=clock)
        assert found.levels == {"web": Level.ABSENT}
    assert waits == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S, 8 * FIRST_RETRY_S]
    assert found.entries[0].tries == 5


def test_who_was_left_out_of_what_is_accepted_is_not_mended_by_it():
    found = with_web()
    found.try_again(found.next_due())
    assert found.accepted({"web"}) == ()
    found.add(WEB, "d1", now=2000.0, clock=100.0)
    assert found.entries[0].tries == 2


CHANGES = {
    "the same files": ("d1", False, 51.0, False),
    "other files": ("d2", False, 51.0, True),
    "none any more": ("", False, 51.0, True),
    "other files, right after a reload refused it": ("d2", True, 51.0, False),
    "other files, some time after": ("d2", True, 50.0 + FIRST_RETRY_S, True),
    "none any more, right after": ("", True, 51.0, True),
}


@pytest.mark.parametrize(("digest", "costly", "clock", "back"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_back_unless_trying_costs_reloads(digest, costly, clock, back):
    found = with_web(costly=costly)
    assert found.changed("web", digest, clock) is back
    assert found.levels == ({} if back else {"web": Level.SILENT})
    assert found.next_due() == (float("inf") if back else 50.0 + FIRST_RETRY_S)


def test_other_files_that_are_refused_are_a_first_refusal():
    found = with_web()
    found.try_again(found.next_due())
    found.add(WEB, "d2", now=2000.0, clock=100.0)
    (entry,) = found.entries
    assert (entry.since, entry.tries, entry.digest) == (2000.0, 1, "d2")


def test_who_is_accepted_on_trial_is_mended_once():
    found = with_web()
    found.try_again(found.next_due())
    assert [entry.service for entry in found.accepted(())] == ["web"]
    assert found.accepted(()) == ()
    assert found.next_due() == float("inf")


def test_it_is_as_it_was_after_a_restart():
    found, again = with_web(), Quarantine()
    again.restore(found.saved(), 7.0)
    assert (again.entries, again.next_due()) == (found.entries, 7.0 + FIRST_RETRY_S)


@pytest.mark.parametrize("saved", [b"", b"{", b"[]", b'{"format": 2, "services": []}', b'{"format": 1}', b"\xff"])
def test_what_cannot_be_read_counts_as_nothing(saved):
    again = Quarantine()
    again.restore(saved, 0.0)
    assert again.entries == ()


def test_many_are_told_shortly():
    found = Quarantine()
    for number in range(7):
        found.add(WEB._replace(service=f"s{number}"), "d", now=1.0, clock=1.0)
    assert told(found.entries).endswith("s4: no port in services/web.conf:3; and 2 more: see /api/state")


FILES = {
    "nginx.conf": b"    listen 80 default_server;\n",
    "services/web.conf": b"server {\n    listen 80;\n}\n",
    "services/db.conf": b"server {\n    listen 10.0.0.1:5432;\n    listen [::]:5432;\n}\n",
    "services/a.conf": b"listen 9000;",
    "services/b.conf": b"listen 9000 udp;",
}
OWNERS = {"services/web.conf": "web", "services/db.conf": "db", "services/a.conf": "a", "services/b.conf": "b"}
LISTENERS = {
    "its own port": ("bind() to 10.0.0.1:5432 failed (98: Address already in use)", "db"),
    "its own port, IPv6": ("bind() to [::]:5432 failed (98: Address already in use)", "db"),
    "everybody's port": ("bind() to 0.0.0.0:80 failed (98: Address already in use)", ""),
    "a port that begins alike": ("bind() to 0.0.0.0:543 failed (98: Address already in use)", ""),
    "of two": ("bind() to 0.0.0.0:9000 failed (98: Address already in use)", ""),
    "no port at all": ("could not build server_names_hash", ""),
}


@pytest.mark.parametrize(("message", "expected"), LISTENERS.values(), ids=LISTENERS)
def test_a_port_that_cannot_be_had_is_its_listeners_fault(message, expected):
    assert listener(Blame("", "", 0, message), FILES, OWNERS) == expected


def answered(suspects, guilty, *, others=False):
    """Let a search ask; what it found and how often it asked."""
    asking, asked = search(suspects), 0
    try:
        out = next(asking)
        while True:
            asked += 1
            out = asking.send(not others and guilty <= out)
    except StopIteration as end:
        return end.value, asked


@given(st.integers(1, 300), st.data())
def test_a_search_finds_a_culprit_in_few_questions(count, data):
    suspects = [f"s{number}" for number in range(count)]
    guilty = data.draw(st.sets(st.sampled_from(suspects), min_size=1, max_size=3))
    found, asked = answered(suspects, guilty)
    assert found in guilty
    assert asked <= 2 + count.bit_length()


@given(st.integers(0, 50))
def test_nobody_is_found_when_it_is_nobodys_fault(count):
    assert answered([f"s{number}" for number in range(count)], set(), others=True)[0] == ""


def led(asking, answer):
    """What a search finds, and about how many services it asked altogether."""
    asked = 0
    try:
        question = next(asking)
        while True:
            asked += len(question)
            question = asking.send(answer(question))
    except StopIteration as end:
        return end.value, asked


def refusing(bad, *, names=frozenset()):
    """An nginx that refuses each of these services; some by their name."""

    def answer(members):
        seen = sorted(bad & members)
        return Blame(seen[0] if seen[0] in names else "", "", 0, f"no to {seen[0]}") if seen else None

    return answer


@given(st.integers(1, 300), st.data())
def test_all_culprits_are_found_and_nobody_else(count, data):
    suspects = [f"s{number:03}" for number in range(count)]
    bad = data.draw(st.sets(st.sampled_from(suspects), max_size=8))
    named = data.draw(st.sets(st.sampled_from(sorted(bad)), max_size=8)) if bad else set()
    answer = refusing(frozenset(bad), names=named)
    found = []
    _, asked = led(guilty(suspects, answer(frozenset(suspects)), found), answer)
    assert sorted(one.service for one in found) == sorted(bad)
    if len(bad) == 1:
        assert asked <= 3 * count


@given(st.integers(2, 100), st.data())
def test_of_two_that_are_refused_together_alone_one_is_found(count, data):
    suspects = [f"s{number:03}" for number in range(count)]
    pair = set(data.draw(st.permutations(suspects))[:2])

    def answer(members):
        return Blame("", "", 0, "both") if pair <= members else None

    found = []
    led(guilty(suspects, answer(frozenset(suspects)), found), answer)
    (one,) = found
    assert one.service in pair


@given(st.integers(2, 100), st.data())
def test_a_search_that_is_cut_short_keeps_who_was_found(count, data):
    suspects = [f"s{number:03}" for number in range(count)]
    bad = data.draw(st.sets(st.sampled_from(suspects), min_size=1, max_size=8))
    answer, found, seen = refusing(frozenset(bad), names=bad), [], []

    def counting(members):
        seen.append(len(found))
        return answer(members)

    led(guilty(suspects, answer(frozenset(suspects)), found), counting)
    assert seen == list(range(1, len(seen) + 1))  # one more with each question: whenever it ends, these are known
    assert sorted(one.service for one in found) == sorted(bad)


@given(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3), st.data())
def test_a_search_ends_whatever_it_is_told(suspects, data):
    whatever = st.sampled_from([None, Blame("", "", 0, "no"), Blame("a", "", 0, "no"), Blame("other", "", 0, "no")])
    found = []
    led(guilty(sorted(suspects), data.draw(whatever), found), lambda _: data.draw(whatever))
    assert {one.service for one in found} <= suspects


def test_a_part_holds_some_services_and_what_belongs_to_nobody():
    files = {
        "nginx.conf": b"include services/*.conf;",
        "generation.conf": b"return 200 0a;",
        "services/web.conf": b"server {\n    include parts/api@web.conf;\n    include parts/db@web.conf;\n}\n",
        "services/api.conf": b"upstream api--1 { }",
        "parts/api@web.conf": b"location /api/ { }",
        "services/db.conf": b"upstream db--1 { }",
        "parts/db@web.conf": b"location /db/ { }",
        "parts/db@api.conf": b"location /db/ { }",
        "streams/db.conf": b"upstream s { }",
        "snippets/web~0.conf": b"add_header A b;",
    }
    owners = {name: name.partition("/")[2].removesuffix(".conf").partition("@")[0].partition("~")[0] for name in files}
    services = {name: owner for name, owner in owners.items() if owner}
    tree = Tree(files, "0" * 32, services)
    found = part(tree, {"web", "api"})
    gone = {"services/db.conf", "parts/db@api.conf"}
    assert found.files == {name: text for name, text in files.items() if name not in gone} | {"parts/db@web.conf": b""}
    assert (found.services, found.generation != tree.generation) == (services, True)
    nobody = {"nginx.conf", "generation.conf", "streams/db.conf", "snippets/web~0.conf"}
    assert part(tree, ()).files.keys() == nobody


LISTENS = {
    "a port": (b"listen 8080;", {"0.0.0.0:8080"}),
    "with options": (b"server { listen 8443 ssl backlog=4096; }", {"0.0.0.0:8443"}),
    "an address": (b"listen 127.0.0.1:81;", {"127.0.0.1:81"}),
    "everywhere, in words": (b"listen *:81;", {"0.0.0.0:81"}),
    "IPv6": (b"listen [::]:81 ipv6only=on;listen [2001:db8::1]:82;", {"[::]:81", "[2001:db8::1]:82"}),
    "datagrams": (b"listen 53 udp reuseport;", set()),
    "QUIC": (b"listen 443 quic;", set()),
    "a socket's file": (b"listen unix:/run/81;", set()),
    "a name": (b"listen localhost:81;", set()),
    "another directive": (b"no_listen 81; $listen 82;", set()),
    "no port at all": (b"listen 127.0.0.1;", set()),
}


@pytest.mark.parametrize(("text", "expected"), LISTENS.values(), ids=LISTENS)
def test_where_a_file_listens(text, expected):
    assert {str(one) for one in listens([text])} == expected


MORE = b"listen 127.0.0.1:9000;"
NEW = {
    "as the main file": (b"listen 80;", {}, ()),
    "one address of the main file's port": (b"listen 127.0.0.1:80;", {}, ()),
    "its own": (MORE, {}, (Listener("127.0.0.1", 9000),)),
    "its own, IPv6 beside the main file's IPv4": (b"listen [::]:80;", {}, (Listener("::", 80),)),
    "its own, as before": (MORE, {"services/web.conf": MORE}, ()),
    "another service's until now": (MORE, {"services/db.conf": MORE}, ()),
    "the whole port, of which it had one address": (
        b"listen 9000;",
        {"services/web.conf": MORE},
        (Listener("0.0.0.0", 9000),),
    ),
    "one address, of the whole port": (MORE, {"services/web.conf": b"listen 9000;"}, ()),
}


@pytest.mark.parametrize(("text", "before", "expected"), NEW.values(), ids=NEW)
def test_what_a_service_is_the_first_to_listen_at(text, before, expected):
    files = {"nginx.conf": b"listen 80 default_server;", "services/web.conf": text}
    assert new_listeners(Tree(files, "", {"services/web.conf": "web"}), before) == expected
