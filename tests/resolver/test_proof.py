"""The proof after a change: a host that lost other names by it gets back what it had."""

from __future__ import annotations

import pytest

from pilotfish.resolver import service
from pilotfish.resolver.facts import Facts, Server
from pilotfish.resolver.io_apply import Failed
from pilotfish.resolver.plan import Proof, Proposal
from pilotfish.resolver.service import Options
from tests.parts.small_dns import SmallDns
from tests.resolver.kit import resolver

# What our server and the host's resolver do with other names after the change; who is named when that is bad.
AFTER = {
    "both resolve them": ("forwards", "forwards", ""),
    "a circle, our server fails": ("upstream-away", "forwards", "ours"),
    "a circle, the resolver fails": ("forwards", "upstream-away", "theirs"),
    "they are refused": ("forwards", "upstream-refuses", "theirs"),
    "nobody says anything": ("silent", "forwards", "ours"),
}


def proposal(ours: SmallDns, theirs: SmallDns, *, needs_outside: bool = True) -> Proposal:
    return Proposal(
        "systemd-resolved", (Server(*ours.address),), (), proofs=(Proof(*theirs.address),), needs_outside=needs_outside
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(service, "PROOF_S", 0.3)


@pytest.mark.parametrize(("ours", "theirs", "named"), AFTER.values(), ids=AFTER)
def test_other_names_are_proved(place, ours, theirs, named):
    """Our server and the resolver that was told still resolve what is in no cache, or it failed."""
    with SmallDns(outside=ours) as our, SmallDns(outside=theirs) as their:
        at = {"ours": our, "theirs": their}
        prove = lambda: resolver(place)._prove(Facts({}), [proposal(our, their)], Options())  # noqa: E731
        if named:
            with pytest.raises(Failed, match=rf"127.0.0.1:{at[named].address[1]} does not resolve other names"):
                prove()
        else:
            prove()
            asked = [line.split()[0] for server in (our, their) for line in server.asked if line.endswith(" A")]
            assert len(set(asked)) == 2  # a new name each time
            assert {name.count(".") for name in asked} == {2}


def test_only_where_they_come_to_us(place):
    """A resolver that asks others for other names need not have our server forward."""
    with SmallDns(outside="refused") as our, SmallDns(outside="refused") as their:
        resolver(place)._prove(Facts({}), [proposal(our, their, needs_outside=False)], Options())
        assert all("svc.internal." in line for line in our.asked + their.asked)


def test_below_the_name_that_was_given(place):
    """--outside says where names of others are to be found."""
    with SmallDns(outside="forwards") as our, SmallDns(outside="forwards") as their:
        resolver(place)._prove(Facts({}), [proposal(our, their)], Options(outside="corp.example."))
        assert [line for line in our.asked if line.endswith(".corp.example. A")]
