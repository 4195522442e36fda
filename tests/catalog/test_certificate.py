"""Until when a certificate is valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from pilotfish.catalog.etcd.certificate import complaint

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def pem(begin, end):
    issued = trustme.CA().issue_cert("localhost", not_before=begin, not_after=end)
    return issued.cert_chain_pems[0].bytes()


GOOD, OLD, NEW = pem(NOW - DAY, NOW + DAY), pem(NOW - 2 * DAY, NOW - DAY), pem(NOW + DAY, NOW + 2 * DAY)
COMPLAINTS = {
    "valid": (GOOD, False, ""),
    "expired": (OLD, False, "/x.pem expired on 2030-05-05 07:08 UTC"),
    "not yet": (NEW, False, "/x.pem is not valid before 2030-05-07 07:08 UTC"),
    "a chain with an expired one": (GOOD + OLD, False, "expired on 2030-05-05"),
    "a list of CAs, one of which is valid": (OLD + GOOD, True, ""),
    "a list of CAs, all expired": (OLD + OLD, True, "expired on 2030-05-05"),
    "nothing": (b"", False, "/x.pem: no certificate is in it"),
    "damaged": (GOOD.replace(b"MII", b"AAA", 1), False, "/x.pem: its certificate is"),
}


@pytest.mark.parametrize(("text", "one_is_enough", "said"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_complaint(text, one_is_enough, said):
    """The sentence names the file and the date; nothing is said of what is right."""
    found = complaint("/x.pem", text, NOW, one_is_enough=one_is_enough)
    assert (said in found) if said else (found == "")
