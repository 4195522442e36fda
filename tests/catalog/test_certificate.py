"""Until when a certificate is valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.etcd.certificate import BadCertificate, Span, complaint, validity

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
DAY = timedelta(days=1)
LONG_AGO, FAR = datetime(1999, 1, 2, tzinfo=UTC), datetime(2051, 1, 2, 3, 4, 5, tzinfo=UTC)


def pem(begin, end):
    issued = trustme.CA().issue_cert("localhost", not_before=begin, not_after=end)
    return issued.cert_chain_pems[0].bytes().decode()


SPANS = {
    "this century": (NOW - DAY, NOW + DAY),
    "the last one, and dates with four digits": (LONG_AGO, FAR),
}


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_the_dates_are_those_that_were_asked_for(span):
    """UTCTime until 2049, GeneralizedTime from then on."""
    assert validity(pem(*span)) == [Span(*span)]


GOOD, OLD, NEW = pem(NOW - DAY, NOW + DAY), pem(NOW - 2 * DAY, NOW - DAY), pem(NOW + DAY, NOW + 2 * DAY)
COMPLAINTS = {
    "valid": (GOOD, False, ""),
    "expired": (OLD, False, "/x.pem expired on 2030-05-05 07:08 UTC"),
    "not yet": (NEW, False, "/x.pem is not valid before 2030-05-07 07:08 UTC"),
    "a chain with an expired one": (GOOD + OLD, False, "expired on 2030-05-05"),
    "a list of CAs, one of which is valid": (OLD + GOOD, True, ""),
    "a list of CAs, all expired": (OLD + OLD, True, "expired on 2030-05-05"),
    "nothing": ("", False, "/x.pem holds no certificate"),
    "damaged": (GOOD.replace("MII", "AAA", 1), False, "/x.pem holds a certificate that cannot be read"),
}


@pytest.mark.parametrize(("text", "one_is_enough", "said"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_complaint(text, one_is_enough, said):
    """The sentence names the file and the date; nothing is said of what is right."""
    found = complaint("/x.pem", text, NOW, one_is_enough=one_is_enough)
    assert (said in found) if said else (found == "")


@given(st.integers(0, len(GOOD) - 1), st.characters(min_codepoint=32, max_codepoint=126))
def test_damage_is_an_error_or_harmless(at, sign):
    """Whatever one character becomes: dates, or the one error."""
    try:
        validity(GOOD[:at] + sign + GOOD[at + 1 :])
    except BadCertificate:
        return
