"""Certificates and TLS clients that the tests of confgen share."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.confgen.kit import Answer

NOW = dt.datetime.now(dt.UTC)


class Authority:
    """Signs certificates for tests through an intermediate, and makes the client's side of TLS that believes it."""

    def __init__(self):
        self.ca = trustme.CA()
        self._signing = self.ca.create_child_ca()

    def pair(self, *hosts, days=90, since=-1):
        """Chain and key, PEM."""
        leaf = self._signing.issue_cert(
            *hosts, not_before=NOW + dt.timedelta(days=since), not_after=NOW + dt.timedelta(days=days)
        )
        return b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes()

    def write(self, folder, name, *hosts, **more):
        """Write NAME.crt and NAME.key; returns the chain."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = self.pair(*hosts or (name,), **more)
        (folder / f"{name}.crt").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(key)
        return chain

    def context(self, *alpn, verify=True):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def weak(*hosts):
    """A pair of 1024 bits: nginx's OpenSSL refuses it, and with it a whole configuration."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(days=9))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, form, plain)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), pem


@contextlib.asynccontextmanager
async def dial(port, name, context):
    """A TLS connection: reader, writer and its ssl object."""
    async with asyncio.timeout(10.0):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield reader, writer, writer.get_extra_info("ssl_object")
    finally:
        writer.close()


async def get_tls(port, host, path="/", *, authority, name="", method="GET", body="", headers=()):
    """One HTTP/1.1 request over TLS: the server's certificate is verified for `host`, or for `name` if given."""
    extra = "".join(f"{key}: {value}\r\n" for key, value in headers)
    length = f"Content-Length: {len(body)}\r\n" if body or method != "GET" else ""
    async with dial(port, name or host, authority.context()) as (reader, writer, _), asyncio.timeout(10.0):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{extra}\r\n"
        writer.write((head + body).encode())
        raw = await reader.read()
    top, _, rest = raw.decode(errors="replace").partition("\r\n\r\n")
    first, *lines = top.split("\r\n")
    return Answer(int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), rest)


async def served_certificate(port, name, authority):
    """The certificate that is shown for a name, DER."""
    async with dial(port, name, authority.context(verify=False)) as (_, _, tls):
        return tls.getpeercert(binary_form=True)
