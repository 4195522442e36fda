"""Which certificate serves which host, which files are pairs, and how nginx is told about them.

Pure: knows names and times of certificates, never a key. A host gets the certificate that its route names (PROXY_CERT)
if that covers it, else the best one that does: one that is valid now before one that is not, an exact name before a
wildcard, the longer validity, then the name of its file, so that equal folders give equal choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

from confgen.nginx import quote
from confgen.nginx.quote import Token
from pilotfish.catalog.route import Hsts
from pilotfish.catalog.values import quoted

FOLDER = "certs"  # in a generation
KEY_SUFFIX = ".key"
CHAIN_SUFFIX = ".pem"
# As certbot lays a certificate: NAME/fullchain.pem and NAME/privkey.pem.
NESTED_CHAIN, NESTED_KEY = "fullchain.pem", "privkey.pem"
# Mozilla's "intermediate" of 2024: every client since 2014 or so, forward secrecy for all of them.
PROTOCOLS = ("TLSv1.2", "TLSv1.3")
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
SESSIONS = 10 * 1024 * 1024  # octets of the shared cache: about 40,000 sessions
SESSION_S = 24 * 3600

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Files(msgspec.Struct, frozen=True, order=True):
    """Where a pair stands in a generation."""

    chain: Token
    key: Token


class Certificate(msgspec.Struct, frozen=True):
    """A certificate that can be served.

    Attributes:
        name: of its file, without the ending; what PROXY_CERT says.
        hosts: that it covers, `*.` for one label.
        not_before: UNIX time in seconds.
        not_after: UNIX time in seconds.
    """

    name: str
    hosts: tuple[str, ...]
    not_before: float
    not_after: float

    @property
    def files(self) -> Files:
        """Where it stands in a generation, under a name that nginx can read whatever the admin's was."""
        stem = file_stem(self.name)
        return Files(quote.file(f"{FOLDER}/{stem}{CHAIN_SUFFIX}"), quote.file(f"{FOLDER}/{stem}{KEY_SUFFIX}"))


class Pair(NamedTuple):
    """Two files that belong together, relative to the folder."""

    name: str
    chain: str
    key: str


def file_stem(name: str) -> str:
    """A file name for a certificate: the admin's where nginx can read it, else made unique by a hash.

    >>> file_stem("www.example.com"), file_stem("my cert")
    ('www.example.com', 'my_cert~34f1c6ff')
    """
    safe = _UNSAFE.sub("_", name)[:100]
    if safe == name and not name.startswith("."):
        return name
    return f"{safe.lstrip('.')}~{sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def pairs(files: Iterable[str]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Find the pairs among the files of a folder.

    Args:
        files: names in the folder, and `NAME/fullchain.pem`, `NAME/privkey.pem` of its folders.

    Returns:
        The pairs, sorted by name, and certificates without a key, sorted. A `.pem` beside others without a key is no
        mistake: chains and parameters lie there too.

    >>> pairs(["a.crt", "a.key", "b/fullchain.pem", "b/privkey.pem", "c.crt", "dhparam.pem"])[1]
    ('c.crt',)
    """
    there = set(files)
    found: dict[str, Pair] = {}
    lonely: set[str] = set()
    for nested in sorted(one for one in there if one.endswith(f"/{NESTED_CHAIN}")):
        name = nested.partition("/")[0]
        if f"{name}/{NESTED_KEY}" in there:
            found[name] = Pair(name, nested, f"{name}/{NESTED_KEY}")
        else:
            lonely.add(nested)
    for suffix in (".pem", ".crt"):  # the latter wins
        for file in sorted(one for one in there if one.endswith(suffix) and "/" not in one):
            name = file.removesuffix(suffix)
            if name and f"{name}.key" in there:
                found[name] = Pair(name, file, f"{name}.key")
    lonely |= {one for one in there if one.endswith(".crt") and "/" not in one and f"{one[:-4]}.key" not in there}
    return tuple(found[name] for name in sorted(found)), tuple(sorted(lonely))


class Certificates:
    """The certificates that can be served at a moment.

    Args:
        found: all of them.
        now: UNIX time in seconds, for what is valid.
        missing: why there are none, as the end of a sentence; empty when certificates can be served.
    """

    def __init__(self, found: Iterable[Certificate] = (), now: float = 0.0, missing: str = "") -> None:
        self.missing = missing
        self._named: dict[str, Certificate] = {} if missing else {one.name: one for one in found}
        self._best: dict[str, Certificate] = {}
        for one in sorted(self._named.values(), key=lambda one: _worth(one, now)):
            self._best.update(dict.fromkeys(one.hosts, one))
        self._valid = {name for name, one in self._named.items() if one.not_before <= now < one.not_after}

    def __eq__(self, other: object) -> bool:
        """True when every host gets the same from both."""
        if not isinstance(other, Certificates):
            return NotImplemented
        return (self.missing, self._named, self._best, self._valid) == (
            other.missing,
            other._named,
            other._best,
            other._valid,
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._named)

    def choose(self, host: str, named: str = "") -> Certificate | None:
        """The certificate of a host; None when there is none.

        Args:
            host: lower case; `*.` for a wildcard route, which only a wildcard covers.
            named: by PROXY_CERT; counts if there is one that covers the host, so that no tag takes https from a host.
        """
        if named and not self.why_not_named(host, named):
            return self._named[named]
        exact = self._best.get(host)
        wide = None if host.startswith("*.") else self._best.get(f"*.{host.partition('.')[2]}")
        both = [one for one in (exact, wide) if one is not None]
        return next((one for one in both if one.name in self._valid), both[0] if both else None)

    def why_not(self, host: str) -> str:
        """Why `choose` finds nothing, as the end of a sentence."""
        return self.missing or f"no certificate in --certs covers {host}"

    def why_not_named(self, host: str, named: str) -> str:
        """Why a host does not get the certificate of this name, as the end of a sentence; empty: it does."""
        one = self._named.get(named)
        if one is None:
            return f"--certs has no pair {quoted(named)}"
        covered = host in one.hosts or (not host.startswith("*.") and f"*.{host.partition('.')[2]}" in one.hosts)
        return "" if covered else f"{quoted(named)} does not cover {host}"

    def used(self, names: Iterable[str]) -> tuple[Certificate, ...]:
        """Those of these names that there are, sorted by name."""
        return tuple(self._named[name] for name in sorted(set(names)) if name in self._named)


# The best comes last, since it overwrites the others.
def _worth(one: Certificate, now: float) -> tuple[bool, float, str]:
    return one.not_before <= now < one.not_after, one.not_after, one.name


NOT_TOLD = Certificates(missing="no --certs is given")


def header(hsts: Hsts) -> Token:
    """The value of Strict-Transport-Security, RFC 6797 §6.1.

    >>> header(Hsts(31536000, subdomains=True)).text
    'max-age=31536000; includeSubDomains'
    """
    more = "; includeSubDomains" * hsts.subdomains + "; preload" * hsts.preload
    return Token("hsts", f"max-age={hsts.max_age}{more}")


class Secure(msgspec.Struct, frozen=True):
    """What the files of https print.

    Attributes:
        port: where clients come in.
        ipv6: listen there too.
        http2: how HTTP/2 is switched on.
        inner: the socket on which https is served when something else stands before it; None: nothing does.
        cache: name of the shared cache. A zone that changes its size keeps its name and fails the reload, so the name
            holds the size.
        cache_size: octets.
        session: how long one may be resumed.
    """

    port: Token
    ipv6: bool
    http2: Literal["directive", "parameter", "none"]
    inner: Token | None
    cache: Token
    cache_size: Token
    session: Token
    protocols: tuple[Token, ...]
    ciphers: Token

    @property
    def http2_directive(self) -> bool:
        """It is a directive of its own, 1.25.1 and later."""
        return self.http2 == "directive"

    @property
    def http2_parameter(self) -> bool:
        """It stands behind each `listen`."""
        return self.http2 == "parameter"


def secure(port: int, *, ipv6: bool, http2: Literal["directive", "parameter", "none"], inner: str = "") -> Secure:
    """The values of https on a port.

    Args:
        port: as clients know it.
        ipv6: listen there too.
        http2: from the program's features.
        inner: absolute path of the socket behind the streams' listener, if that has the port.
    """
    return Secure(
        port=quote.number(port),
        ipv6=ipv6,
        http2=http2,
        inner=quote.file(inner) if inner else None,
        cache=quote.upstream(f"pilotfish-tls-{SESSIONS}"),
        cache_size=quote.number(SESSIONS),
        session=quote.duration(SESSION_S),
        protocols=tuple(Token("tls", one) for one in PROTOCOLS),
        ciphers=Token("tls", ":".join(CIPHERS)),
    )


def is_secret(file: str) -> bool:
    """True for a file of a generation that nobody but nginx's master may read, and nothing may show.

    >>> is_secret("certs/web.key"), is_secret("services/web.conf")
    (True, False)
    """
    return file.startswith(f"{FOLDER}/") and file.endswith(KEY_SUFFIX)


_BLAMED = re.compile(rf'"[^"]*/{FOLDER}/([^"/]+)({re.escape(CHAIN_SUFFIX)}|{re.escape(KEY_SUFFIX)})"')


def blamed(message: str) -> str:
    """The stem of the certificate that nginx's line is about; empty when it is about none.

    >>> blamed('cannot load certificate "/n/generations/0a/certs/web.pem": PEM_read_bio_X509_AUX() failed')
    'web'
    """
    found = _BLAMED.search(message)
    return found[1] if found else ""


def files(loaded: Mapping[str, tuple[bytes, bytes]], used: Iterable[Certificate]) -> dict[str, bytes]:
    """The files of certificates in a generation: path -> content.

    Args:
        loaded: name -> chain and key, PEM.
        used: those that a site serves.
    """
    found: dict[str, bytes] = {}
    for one in used:
        chain, key = loaded[one.name]
        found[one.files.chain.text], found[one.files.key.text] = chain, key
    return found
