"""The serial: revisions of the store, and one more for what changes without it."""

import pytest

from dnsserver.transfers.serial import Serial
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry

KEPT = {"/pilotfish/v1/containers/h1/0a": frozenset[str]()}
ROWS = {
    "a put": ([Difference(5, (Entry("k", b"", 5, 5),))], 5),
    "a deletion": ([Difference(5, (), ("k",))], 5),
    "nothing": ([Difference(5, (), ("k",)), Difference(9)], 5),
    "an orphan that becomes one": ([Difference(5, (), ("k",), kept=KEPT)], 5),
    "an orphan that goes without a revision": ([Difference(5, (), ("k",)), Difference(5, (), ("o",))], 6),
    "an endpoint of one": ([Difference(5, (), ("k",)), Difference(5, kept=KEPT)], 6),
    "and the store goes on": ([Difference(5, (), ("k",)), Difference(5, kept=KEPT), Difference(8, (), ("k",))], 8),
    "a store that began anew": ([Difference(5, (), ("k",)), Difference(2, (), ("k",), started_over=True)], 2),
}


@pytest.mark.parametrize(("differences", "expected"), ROWS.values(), ids=ROWS)
def test_how_the_serial_moves(differences, expected):
    serial = Serial()
    for difference in differences:
        before = serial.now
        assert serial.move("own", difference) is (serial.now != before)
    assert serial.now == expected
