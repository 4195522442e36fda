"""Every answer to plain data is that of a second implementation, which was told the same in another way.

Zones by chance: what the store would hold goes to our server, a zone file of the same facts to dnspython. Each question
is asked again and again, so that finished answers are compared too; then everything changes, and it begins anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import dns.message
import pytest

from dnsserver.aging import Clock
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.transport.later import Transfer
from tests.dnsserver import generated
from tests.dnsserver.generated import DOMAINS, INNER, REVERSE, Facts
from tests.dnsserver.kit import Said, World, container, endpoint, http, key_of, lan, node, proxy, said
from tests.dnsserver.kit import rows as rows_of
from tests.dnsserver.reference import Reference, Says
from tests.dnsserver.rows import edns, query
from tests.dnsserver.zone_files import zone_file

ZONES = (*DOMAINS, REVERSE)
TYPES = ("A", "AAAA", "SRV", "TXT", "CNAME", "PTR", "NS", "SOA", "MX", "HINFO", "CAA", "DS", "TYPE666", "HTTPS", "ANY")
QUESTIONS = 40  # for each set of facts
TIMES = (False, True, False, False)  # over TCP? What is asked again is answered from what was finished before
ROUNDS = 3  # sets of facts, one after the other, in one server


def in_zones(name: str) -> bool:
    return any(f".{name}".endswith(f".{zone}") for zone in ZONES)


class Compared:
    """Our server and the reference, with the same facts.

    Args:
        chance: of everything.
        forwarding: there is a forwarder, so that RFCs win where SkyDNS and CoreDNS agree on something else.
    """

    def __init__(self, chance: random.Random, *, forwarding: bool = False) -> None:
        clock = Clock(1000.0)
        recursion = Recursion(ForwardCache(10, 60.0), LoopProbes("0" * 32), clock, ndots=0, servers=True)
        self.world = World(ZONES, transfers=True, recursion=recursion if forwarding else None)
        self.chance, self.forwarding = chance, forwarding
        self.clients = [self.client(), self.client()]
        self.facts = Facts()
        self.asked = 0
        self.before: list[tuple[str, str, bytes]] = []  # what was asked while other things were so

    def become(self, made: Facts) -> None:
        """Change the facts: record by record for us, a new file for the reference."""
        before, after = (
            {key_of(record, place): (record, place) for record, place in generated.records(facts)}
            for facts in (self.facts, made)
        )
        for key in before.keys() - after.keys():
            self.world.remove(before[key][0], place=before[key][1])
        for key in after:
            if after[key] != before.get(key):
                self.world.put(after[key][0], place=after[key][1])
        old, new = generated.skydns(self.facts), generated.skydns(made)
        self.world.skydns_gone(*sorted(old.keys() - new.keys()))
        self.world.skydns({key: value for key, value in new.items() if old.get(key) != value})
        self.facts = made
        serial = self.world.responder.serial
        self.reference = Reference({zone: zone_file(made, zone, serial) for zone in ZONES})

    def differences(self) -> Iterator[str]:
        """Ask, and say what is not as the reference has it."""
        fresh = [(name, rtype, self.chance.choice(self.clients)(name, rtype)) for name, rtype in self.questions()]
        again = [one for one in self.before if self.is_plain(one[0].lower().rstrip("."), one[1])]
        self.before += fresh
        for at, (name, rtype, message) in enumerate((*again, *fresh)):
            expected, checked = self.expected(name, rtype), set()
            for tcp in TIMES[: 2 if at < len(again) else None]:
                reply = self.world.send(message, tcp=tcp)
                self.asked += 1
                if (tcp, reply) in checked:
                    continue
                checked.add((tcp, reply))
                if wrong := self.wrong(said(reply), expected, whole=tcp):
                    how = "TCP" if tcp else "UDP"
                    yield f"{name} {rtype}, {how}: {wrong}\n  ours: {said(reply)}\n  reference: {expected}"
                    break

    def transferred(self) -> Iterator[str]:
        """Ask for whole zones (RFC 5936), and say what is not as the reference has it, where names are plain."""
        for zone in DOMAINS:
            told = self.world.responder.tcp(query(zone, "AXFR"), b"\x7f\0\0\1")
            assert isinstance(told, Transfer)
            messages = [dns.message.from_wire(body, one_rr_per_rrset=True) for body in told.messages if body]
            soa, *rows, last = [row for message in messages for row in rows_of(message.answer)]
            if soa != last or soa.split(" ")[2] != "SOA":
                yield f"{zone}: its SOA is not first and last"
            split = [row.split(" ", 3) for row in rows]
            ours = {(owner.lower(), rtype, int(ttl), data.lower()) for owner, ttl, rtype, data in split}
            if len(ours) != len(rows):
                yield f"{zone}: a record twice"
            theirs = {row for row in self.reference.rows(zone) if row[1] not in {"SOA", "TYPE65280"}}
            for row in sorted(ours ^ theirs):
                name = row[0].rstrip(".")
                stored = name.startswith("*") and name in self.facts.foreign and row[1] in {"SRV", "MX"}
                if self.alias_of(name) is None and not self.is_inner(name) and not stored:
                    yield f"{zone}, transferred: {row} is {'too much' if row in ours else 'missing'}"

    def client(self) -> Callable[[str, str], bytes]:
        """One of many, who puts all questions in the same way."""
        bits = self.chance.choice([0, 0x0100, 0x0120, 0x0110])
        if self.chance.random() < 0.3:
            return lambda name, rtype: query(name, rtype, flags=bits)
        size, flags = self.chance.choice([0, 512, 1232, 4096]), self.chance.choice([0, 0x8000])
        return lambda name, rtype: edns(text=name, rtype=rtype, bits=bits, size=size, flags=flags)

    def questions(self) -> Iterator[tuple[str, str]]:
        """Names that exist, those beside, above and below them, spelled anyhow; any type that is plain there."""
        names = [name for name in self.reference.names if "*" not in name]
        yield from ((zone, "SOA") for zone in ZONES)
        held = [one for one in self.reference.held if "*" not in one[0] and one[1] != "TYPE65280"]
        for _ in range(QUESTIONS):
            name, rtype = self.chance.choice(names), self.chance.choice(TYPES)
            if self.chance.random() < 0.4:  # what there is data for
                name, rtype = self.chance.choice(held)
            else:
                label, dot, above = name.partition(".")
                like = (
                    "".join(self.chance.choices("qvz", k=self.chance.choice([len(label), 1 + len(label) % 25 * 2])))
                    + dot
                    + above
                )  # what is said of it is held for all
                name = self.chance.choice([name, name, "nope." + name, "x.y." + name, "x" + name, like])
                rtype = self.chance.choice([rtype, "A"])
            if self.is_plain(name.rstrip("."), rtype):
                anyhow = "".join(self.chance.choice([char, char.upper()]) for char in name)
                yield self.chance.choice([name, name, anyhow]), rtype

    def is_plain(self, name: str, rtype: str) -> bool:
        """True when SkyDNS and the RFCs mean the same by a question."""
        if not in_zones(name) or (name, rtype) == (REVERSE, "NS"):
            return False
        chain = [name]
        while (target := self.alias_of(chain[-1])) and target not in chain:
            chain.append(target)
        if rtype in {"SRV", "MX"} and any(self.is_stored(one) for one in chain):
            return False  # the target is the name that was asked for, which no zone can say
        inner, followed = any(self.is_inner(one) for one in chain), rtype not in {"CNAME", "ANY"}
        if self.forwarding:  # what is found below a name may be an alias too, and is one for every type
            astray = target is not None or not in_zones(chain[-1])  # in a circle; or elsewhere, whom nobody asks here
            return not inner and target != name and not (followed and astray)
        if self.alias_of(name):  # SkyDNS has other records beside aliases, and follows these for addresses only
            return not followed or (rtype in {"A", "AAAA"} and not inner)
        return rtype not in INNER or not inner

    def is_stored(self, name: str) -> bool:
        """True for a name that a wildcard of others makes."""
        owner = self.reference.owner(name)
        return "*" in owner and owner in self.facts.foreign

    def alias_of(self, name: str) -> str | None:
        return generated.alias_of(self.facts, self.reference.owner(name))

    def is_inner(self, name: str) -> bool:
        says_something = any(self.reference.says(name, rtype).answer for rtype in ("A", "AAAA", "SRV"))
        ours = says_something and name not in self.facts.foreign
        return generated.is_inner(self.facts, name) and not ours

    def expected(self, name: str, rtype: str) -> Says:
        """What the reference says, where we do not differ on purpose."""
        if rtype == "ANY":  # RFC 8482 §4.2
            row = (name.lower(), "HINFO", '"rfc8482" ""')
            exists = self.reference.exists(name)
            return Says("NOERROR", frozenset({row}), generated.NEGATIVE_TTL) if exists else Says("NXDOMAIN")
        says = self.reference.says(name, rtype)
        return Says("NOERROR") if says.leads_nowhere and not self.forwarding else says  # decision 0010

    def wrong(self, found: Said, expected: Says, *, whole: bool) -> str:
        """What of an answer is not as expected; "" when all is."""
        answer, extra = [row.split(" ", 3) for row in found.answer], [row.split(" ", 3) for row in found.additional]
        rows = [(owner.lower(), rtype, data.lower()) for owner, _, rtype, data in answer]
        glue = {(owner.lower(), rtype, data.lower()) for owner, _, rtype, data in extra}
        cut = not whole and "TC" in found.flags
        aliases = [at for at, (_, rtype, _) in enumerate(rows) if rtype == "CNAME"]
        checks = {
            "rcode": found.rcode == expected.rcode,
            "AA": "AA" in found.flags,
            "answer": set(rows) < expected.answer if cut else set(rows) == expected.answer,
            "a record twice": len(rows) == len(set(rows)),
            "TTL": all(int(ttl) == expected.ttl for _, ttl, _, _ in answer),
            "aliases first": aliases == list(range(len(aliases))),
            "SOA": [row.split()[2] for row in found.authority]
            == ([] if expected.answer and not expected.leads_nowhere else ["SOA"]),
            "additional records missing": not whole or expected.glue <= glue,
            "additional records that are not so": all(self.reference.holds(*row) for row in glue),
        }
        return ", ".join(what for what, right in checks.items() if not right)


def compare(seed: int) -> tuple[int, list[str]]:
    """Questions asked in one world, and the differences."""
    chance = random.Random(seed)
    compared, found = Compared(chance, forwarding=chance.random() < 0.3), []
    facts = None
    for _ in range(ROUNDS):
        facts = generated.facts(chance, facts)
        compared.become(facts)
        found += compared.differences()
    found += compared.transferred()
    return compared.asked, found


# Names that exist though no record stands at them alone: found by a comparison, answered by a wildcard above them once.
ENCLOSERS = ["h1-c-80.web", "_80._tcp.web", "_tcp.web", "proxy", "ns.dns", "dns", "h1.node", "node"]


@pytest.mark.parametrize("encloser", ENCLOSERS)
def test_no_wildcard_below_a_name_that_exists(encloser):
    """A wildcard makes no name below the closest one that exists (RFC 4592 §3.3.1), whatever makes it exist."""
    world = World()
    world.put(
        container(1, endpoint("web", 80, lan("192.168.0.1"))),
        container(2, endpoint("site", 80, lan("192.168.0.1"), route=http("*.svc.internal", "*.web.svc.internal"))),
        node("h1", "192.168.0.1"),
        proxy("h1", "192.168.0.1"),
    )
    world.claim("site", "*.svc.internal")
    world.claim("site", "*.web.svc.internal")
    assert world.ask("any-other.svc.internal").answer == ["any-other.svc.internal. 10 A 192.168.0.1"]
    assert world.ask(f"{encloser}.svc.internal", "CAA").rcode == "NOERROR"
    assert world.ask(f"x.{encloser}.svc.internal").rcode == "NXDOMAIN"
    assert world.ask(f"x.y.{encloser}.svc.internal").rcode == "NXDOMAIN"


def test_what_is_said_below_an_instance_is_not_said_beside_it():
    """That `x.<instance>.web` does not exist says nothing of names of its length that a stored wildcard makes."""
    world = World()
    world.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    world.skydns({"internal/svc/web/*": {"host": "10.0.0.9"}})
    below, beside = "x.h1-c-80.web.svc.internal", "abcdefghi.web.svc.internal"
    assert len(below) == len(beside)
    for _ in range(3):
        assert world.ask(below).rcode == "NXDOMAIN"
    assert world.ask(beside).answer == [f"{beside}. 3600 A 10.0.0.9"]


BELOW_THE_DOMAIN = ["x._tcp", "x.y._tcp", "_http._tcp", "_tcp"]


@pytest.mark.parametrize("label", BELOW_THE_DOMAIN)
@pytest.mark.parametrize("rtype", ["A", "SRV"])
def test_what_a_domain_brings_comes_and_goes(label, rtype):
    """A service that claims the domain itself brings `_http._tcp.<domain>`: it ends a wildcard, and only meanwhile."""
    world = World()
    site = container(1, endpoint("site", 80, lan("192.168.0.1"), route=http("*.svc.internal")))
    world.put(site, proxy("h1", "192.168.0.1"), node("h1", "192.168.0.1"))
    world.claim("site", "*.svc.internal")
    whole = container(2, endpoint("whole", 80, lan("192.168.0.1"), route=http("svc.internal")))
    name = f"{label}.svc.internal"
    before = [world.ask(name, rtype) for _ in range(4)][-1]
    world.put(whole)
    world.claim("whole", "svc.internal")
    fresh = World()
    fresh.put(site, proxy("h1", "192.168.0.1"), node("h1", "192.168.0.1"), whole)
    fresh.claim("site", "*.svc.internal")
    fresh.claim("whole", "svc.internal")
    between = [world.ask(name, rtype) for _ in range(4)][-1]
    there = fresh.ask(name, rtype)
    assert (between.rcode, between.sorted) == (there.rcode, there.sorted)
    world.remove(whole)
    after = [world.ask(name, rtype) for _ in range(4)][-1]
    assert (after.rcode, after.sorted) == (before.rcode, before.sorted)


def test_zones_by_chance():
    """The same worlds with each run."""
    worlds(3_990_095_825, 16)


@pytest.mark.soak
def test_thousands_of_zones():
    """Worlds that are new with each run, for minutes; the seed is in what fails."""
    worlds(random.SystemRandom().randrange(2**32), 1000)


def worlds(first: int, count: int) -> None:
    asked, wrong = 0, []
    for seed in range(first, first + count):
        questions, differences = compare(seed)
        asked += questions
        wrong += [f"seed {seed}: {difference}" for difference in differences]
        if len(wrong) > 5:
            break
    print(f"{count * ROUNDS * len(ZONES)} zones, {asked} questions, first seed {first}")
    assert wrong == []
