"""Reads the admin's folder of certificates, checks every pair, and keeps the last good one of each.

A pair counts only when both files were read whole and unchanged, are a second old, and OpenSSL takes the key for the
certificate. A renewal that is half written, a key that is not yet there, a folder that cannot be read: what was good
before stays, and what is wrong is said, without a word of a key. Blocking; call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from confgen.nginx import tls
from confgen.nginx.tls import Certificate, Pair
from pilotfish.catalog import x509

MAX_FILE = 256 * 1024  # octets of one file; a long chain has ten thousand
MAX_PAIRS = 5000
SETTLED_S = 1.0  # a file that changed within this time may still be being written
GONE_S = 60.0  # a pair whose files vanished is kept so long: some renewals remove before they write
STRENGTH = "DEFAULT:@SECLEVEL=2"  # what a key must be worth: nginx refuses whole configurations for one weak key

Stamp = tuple[int, int, int, int]  # device, inode, size, time of change in ns


class Loaded(NamedTuple):
    """A pair that is good: what it says of itself, and its two files as they were read."""

    certificate: Certificate
    chain: bytes
    key: bytes


class BadPair(Exception):
    """A pair that cannot be served; the message says why, and holds nothing of the key."""


class Scan(NamedTuple):
    """What a look at the folder found.

    Attributes:
        pairs: name -> what can be served.
        problems: name -> what is wrong with it, or with what was found instead, as a sentence.
    """

    pairs: Mapping[str, Loaded]
    problems: Mapping[str, str]


class Folder:
    """The admin's folder, looked at again and again.

    Args:
        path: `--certs`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._good: dict[str, Loaded] = {}
        self._stamps: dict[str, tuple[Stamp, Stamp]] = {}  # of the good ones, as their files were
        self._gone: dict[str, float] = {}  # since when, on the clock of `now`
        self._former: dict[str, Loaded] = {}  # what was good before the good ones
        self._refused: dict[str, str] = {}  # what nginx said of pairs as they lie there now

    def inherit(self, generation: Path) -> None:
        """Take what a former process served for the last good ones, until this folder says something better."""
        try:
            stems = [one.name.removesuffix(tls.CHAIN_SUFFIX) for one in (generation / tls.FOLDER).iterdir()]
        except OSError:
            return  # there is none, or it had no certificates
        try:
            names = {tls.file_stem(pair.name): pair.name for pair in self._listed()[0]}
        except OSError:  # the folder is away: what was served is served on, under the names that it has there
            names = {stem: stem for stem in stems}
        for stem in stems:
            if stem in names:
                pair = Pair(names[stem], f"{stem}{tls.CHAIN_SUFFIX}", f"{stem}{tls.KEY_SUFFIX}")
                with contextlib.suppress(BadPair, OSError):
                    self._good[pair.name] = _load(generation / tls.FOLDER, pair)[0]

    def refuse(self, name: str, said: str) -> None:
        """Go back to what was good before, until the files are others: nginx did not take this pair, and said so."""
        if name in self._good:
            self._refused[name] = f"nginx refuses it: {said}"
            self._good.pop(name)
            if name in self._former:
                self._good[name] = self._former.pop(name)

    def look(self, now: float, *, settled_s: float = SETTLED_S) -> Scan:
        """Look at every pair; only what changed is read.

        Args:
            now: UNIX time in seconds.
            settled_s: how old a change must be.
        """
        try:
            pairs, lonely, strange = self._listed()
        except OSError as error:
            return Scan(dict(self._good), {"": f"--certs {self._path}: {error.strerror}; what was read before is kept"})
        problems = dict.fromkeys(lonely, "no key lies beside it") | dict.fromkeys(strange, "its name cannot be printed")
        for pair in pairs[:MAX_PAIRS]:
            self._gone.pop(pair.name, None)
            problem = self._renew(pair, now, settled_s)
            if problem:
                kept = "; the last good pair is served" if pair.name in self._good else "; it is not served"
                problems[pair.name] = f"{problem}{kept}"
        if len(pairs) > MAX_PAIRS:
            problems[""] = f"--certs {self._path}: {len(pairs)} pairs, {MAX_PAIRS} at most; the others are left out"
        self._forget({pair.name for pair in pairs}, now, problems)
        for name, loaded in self._good.items():
            if not loaded.certificate.not_before <= now < loaded.certificate.not_after:
                when = "has expired" if now >= loaded.certificate.not_after else "is not valid yet"
                problems.setdefault(name, f"its certificate {when}")
        return Scan(dict(self._good), problems)

    def _listed(self) -> tuple[tuple[Pair, ...], tuple[str, ...], tuple[str, ...]]:
        """Pairs, certificates without a key, and names that no log or page could show, quoted."""
        names, strange = [], []
        for one in os.scandir(self._path):
            if one.name.startswith("."):
                continue
            if not one.name.isprintable():
                strange.append(ascii(one.name))
            elif _is_folder(one):
                names += [f"{one.name}/{file}" for file in (tls.NESTED_CHAIN, tls.NESTED_KEY) if _there(one.path, file)]
            else:
                names.append(one.name)
        return *tls.pairs(names), tuple(strange)

    def _renew(self, pair: Pair, now: float, settled_s: float) -> str:
        """Read a pair if it changed; returns what is wrong with it."""
        try:
            stamps = _stamp(self._path / pair.chain), _stamp(self._path / pair.key)
            if stamps == self._stamps.get(pair.name):
                return self._refused.get(pair.name, "")
            age_s = now - max(stamp[3] for stamp in stamps) / 1e9
            if pair.name in self._good and 0 <= age_s < settled_s:
                return ""  # it is looked at again soon
            loaded, read = _load(self._path, pair)
        except BadPair as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or pair.chain}: {error.strerror}"
        if pair.name in self._good:
            self._former[pair.name] = self._good[pair.name]
        self._good[pair.name], self._stamps[pair.name] = loaded, read
        self._refused.pop(pair.name, None)
        return ""

    def _forget(self, there: set[str], now: float, problems: dict[str, str]) -> None:
        for name in self._good.keys() - there:
            since = self._gone.setdefault(name, now)
            if 0 <= now - since < GONE_S:
                problems[name] = f"its files are gone; it is served for {GONE_S:.0f} s more"
            else:
                del self._good[name], self._gone[name]
                self._stamps.pop(name, None)
                self._former.pop(name, None)


# What cannot be looked at counts as there: who reads the pair says why, and all others are not kept from being read.
def _is_folder(one: os.DirEntry[str]) -> bool:
    try:
        return one.is_dir()
    except OSError:
        return not one.name.endswith((".crt", tls.CHAIN_SUFFIX, tls.KEY_SUFFIX))


def _there(folder: str, file: str) -> bool:
    try:
        return (Path(folder) / file).is_file()
    except OSError:
        return True


def _stamp(path: Path) -> Stamp:
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _load(folder: Path, pair: Pair) -> tuple[Loaded, tuple[Stamp, Stamp]]:
    """Read and check a pair.

    Raises:
        BadPair: it cannot be served.
        OSError: it cannot be read.
    """
    (chain, first), (key, second) = _read(folder / pair.chain), _read(folder / pair.key)
    try:
        said = x509.read(chain)
    except x509.BadCertificate as error:
        raise BadPair(f"{pair.chain}: {error}") from error
    _check(pair, chain, key)
    return Loaded(Certificate(pair.name, *said), chain, key), (first, second)


def _read(path: Path) -> tuple[bytes, Stamp]:
    before = _stamp(path)
    if before[2] > MAX_FILE:
        raise BadPair(f"{path.name}: {before[2]} octets, {MAX_FILE} at most")
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) != before[2] or _stamp(path) != before:
        raise BadPair(f"{path.name}: it changed while it was read")
    return content, before


def _check(pair: Pair, chain: bytes, key: bytes) -> None:
    """Let OpenSSL put the two together, from memory: what it reads is what will be served, and no key goes to disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(STRENGTH)
    with _in_memory(chain) as chain_file, _in_memory(key) as key_file:
        try:
            context.load_cert_chain(
                f"/proc/self/fd/{chain_file.fileno()}", f"/proc/self/fd/{key_file.fileno()}", password=_no_password
            )
        except _Encrypted:
            raise BadPair(f"{pair.key}: it is encrypted; nginx reads only keys without a password") from None
        except ssl.SSLError as error:
            raise BadPair(_reason(pair, key, error)) from None  # what OpenSSL says names no secret, its cause might


class _Encrypted(Exception):
    """OpenSSL asks for a password."""


def _no_password() -> str:
    raise _Encrypted


def _in_memory(content: bytes) -> BinaryIO:
    handle = os.memfd_create("pilotfish-pair", os.MFD_CLOEXEC)
    file = os.fdopen(handle, "w+b")
    file.write(content)
    file.flush()
    return file


REASONS = {
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short to be safe",
    "CA_MD_TOO_WEAK": "the certificate is signed with a hash that is not safe",
}


def _reason(pair: Pair, key: bytes, error: ssl.SSLError) -> str:
    if not re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", key):
        return f"{pair.key}: no key is in it"
    said = error.reason or "no pair"
    return f"{pair.chain}, {pair.key}: {REASONS.get(said, 'OpenSSL says ' + said.lower().replace('_', ' '))}"
