"""Whose is a node's key: what a registrator does with what it finds under its own name.

Pure. The key hangs on the node's lease, and every write of the node stands on the revision at which its registrator
last put it: whoever puts it anew shuts all others out, in the same transaction.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pilotfish.catalog.record import BadRecord, Node, decode
from pilotfish.catalog.store import Entry
from registrator.engines.swarm import ENGINE_PREFIX


class Fresh(NamedTuple):
    """Nobody has the key: take it, under a new lease."""


class Ours(NamedTuple):
    """The key is as this process put it."""


class Adopt(NamedTuple):
    """The key was put by an earlier run for the same engine, or by one that has left: take it over, with its lease."""

    entry: Entry


class StandBy(NamedTuple):
    """A later registrator of the same engine has taken over: leave the writing to it."""

    why: str


class Refuse(NamedTuple):
    """The name is another engine's for as long as its lease lives."""

    why: str


Judgement: TypeAlias = Fresh | Ours | Adopt | StandBy | Refuse


def judge_node(entry: Entry | None, me: Node, fence: int) -> Judgement:
    """Decide what to do with the node's key.

    Args:
        entry: the key as it stands; None: absent.
        me: this process's record.
        fence: revision at which this process last put the key; 0: never.
    """
    if entry is None:
        return Fresh()
    try:
        there = decode(Node, entry.value)
    except BadRecord:
        return Adopt(entry)  # nobody can use it; a lease on it may hold our records
    if there.leaving:
        return Adopt(entry)
    if there.engine != me.engine and there.instance != me.instance:
        return Refuse(_refusal(there))
    if fence and entry.mod_revision == fence:
        return Ours()
    # A key newer than ours was put by a process that started later; an older one comes from a restored store.
    if fence and entry.mod_revision > fence and there.instance != me.instance:
        return StandBy(_stood_by(me))
    return Adopt(entry)


def _stood_by(me: Node) -> str:
    if me.engine.startswith(ENGINE_PREFIX):  # it ends by itself, as soon as its manager says that another one leads
        return f"another manager's registrator writes for {me.node} now"
    return f"another registrator for the same engine has taken over {me.node}; end one of the two"


def _refusal(there: Node) -> str:
    where = ", ".join(there.addresses) or "no address"
    return (
        f"the node name {there.node} belongs to another Docker engine ({there.engine[:12]} at {where}): "
        "give this host its own --node-name, or wait until that one's lease ends"
    )
