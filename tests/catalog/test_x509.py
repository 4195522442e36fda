"""What a certificate says of itself, compared with what another reader says."""

from __future__ import annotations

import base64
import datetime as dt
import re

import pytest
import trustme
from cryptography import x509 as second_opinion
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.catalog import x509


def der_of(pem):
    found = re.search(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", pem, re.DOTALL)
    return base64.b64decode(found[1])


HOSTS = {
    "one": (["a.test"], ("a.test",)),
    "a wildcard beside it": (["a.test", "*.a.test"], ("*.a.test", "a.test")),
    "an address is no host": (["a.test", "10.0.0.1"], ("a.test",)),
    "an internationalized one": (["xn--bcher-kva.test"], ("xn--bcher-kva.test",)),
    "many, so that lengths take more octets": (
        [f"host-{number}.example.test" for number in range(300)],
        tuple(sorted(f"host-{number}.example.test" for number in range(300))),
    ),
}


@pytest.mark.parametrize(("hosts", "read"), HOSTS.values(), ids=HOSTS)
def test_a_certificate_says_what_another_reader_reads(hosts, read):
    pem = trustme.CA().issue_cert(*hosts).cert_chain_pems[0].bytes()
    said = x509.read(b"some words in front\n" + pem)
    other = second_opinion.load_pem_x509_certificate(pem)
    names = other.extensions.get_extension_for_class(second_opinion.SubjectAlternativeName).value
    assert said.hosts == read == tuple(sorted(names.get_values_for_type(second_opinion.DNSName)))
    assert said.not_before == other.not_valid_before_utc.timestamp()
    assert said.not_after == other.not_valid_after_utc.timestamp()


def test_times_beyond_2049_are_read():
    """RFC 5280 §4.1.2.5: they are written in another form."""
    end = dt.datetime(2061, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    leaf = trustme.CA().issue_cert("a.test", not_after=end)
    assert x509.read(leaf.cert_chain_pems[0].bytes()).not_after == end.timestamp()


PEM = trustme.CA().issue_cert("a.test", "*.b.test").cert_chain_pems[0].bytes()
DER = der_of(PEM)


@given(st.binary(max_size=400))
@example(b"")
@example(b"0\x84\xff\xff\xff\xff")
def test_whatever_octets_come_it_is_read_or_refused(octets):
    for read in (x509.read, x509.read_der):
        try:
            said = read(octets)
        except x509.BadCertificate:
            continue
        assert all(isinstance(host, str) for host in said.hosts)


@given(at=st.integers(0, len(DER) - 1), octet=st.integers(0, 255), cut=st.integers(0, len(DER)))
def test_a_certificate_with_a_wrong_octet_or_cut_is_read_or_refused(at, octet, cut):
    changed = bytearray(DER)
    changed[at] = octet
    for data in (bytes(changed), DER[:cut], bytes(changed[:cut])):
        try:
            x509.read_der(data)
        except x509.BadCertificate:
            continue
    if cut < len(DER) - 300:  # what is behind the extensions is the signature, which is OpenSSL's to check
        with pytest.raises(x509.BadCertificate):
            x509.read_der(DER[:cut])


OTHER = trustme.CA().issue_cert("c.test").cert_chain_pems[0].bytes()
FILES = {
    "a chain": (PEM + b"words between\n" + OTHER, [("*.b.test", "a.test"), ("c.test",)]),
    "no certificate": (b"-----BEGIN X-----", "no certificate is in it"),
    "one without its end": (PEM + OTHER[:-30], "its certificate is cut short"),
    "the first is damaged": (PEM.replace(b"MII", b"M*I", 1) + OTHER, "its certificate is no base64"),
}


@pytest.mark.parametrize(("pem", "read"), FILES.values(), ids=FILES)
def test_all_of_a_file_are_read_or_it_is_refused(pem, read):
    """A damaged one is never passed over for the next, which is another's."""
    try:
        found = [said.hosts for said in x509.read_all(pem)]
    except x509.BadCertificate as error:
        found = str(error)
    assert found == read
    if pem.startswith(PEM):
        assert x509.read(pem).hosts == ("*.b.test", "a.test")


def test_a_damaged_first_certificate_does_not_make_the_second_the_servers_own():
    with pytest.raises(x509.BadCertificate):
        x509.read(FILES["the first is damaged"][0])
