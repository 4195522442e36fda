"""What is fuzzed: for each target some good inputs to begin with, and a function that must stand any octets.

A function returns for every input, or raises: then the input is a finding. What the code promises about its inputs and
outputs is asserted here, with dnspython as the second opinion on every message that leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.fuzz import messages, stored

Run = Callable[[bytes], None]


class Target(NamedTuple):
    """One thing to fuzz.

    Attributes:
        seeds: good inputs to begin with.
        make: gives the function that takes inputs; what it builds once is kept in it.
    """

    seeds: Callable[[], Iterator[bytes]]
    make: Callable[[], Run]


TARGETS: dict[str, Target] = {
    "udp": Target(messages.odd, lambda: messages.responder(tcp=False)),
    "tcp": Target(messages.odd, lambda: messages.responder(tcp=True)),
    "elsewhere": Target(messages.abroad, messages.elsewhere),
    "edns": Target(messages.options, messages.edns_options),
    "frames": Target(messages.streams, messages.frames),
    "foreign": Target(stored.skydns_values, stored.foreign),
    "key": Target(stored.store_keys, stored.key),
    "record": Target(stored.records, stored.stored_record),
    "config": Target(stored.configs, stored.config),
    "snapshot": Target(stored.snapshots, stored.stored_snapshot),
    "upstream": Target(messages.replies, messages.upstream_reader),
}
