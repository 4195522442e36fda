"""One SkyDNS record written by others: its JSON, checked once, and what it gives to answers.

Pure. The fields are SkyDNS's, and two of our own for what its format has no word for: `caa` and `naptr`. A record with
a field that cannot be right is refused as a whole, since nobody knows what else in it is not meant so.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, NamedTuple

import msgspec

from dnsserver.message import dname, rr
from dnsserver.message.dname import BadName
from dnsserver.message.rr import Data, Type
from pilotfish.catalog.store import Entry

MARK = "pilotfish"  # our exports carry it
DEFAULT_PRIORITY = 10  # SkyDNS's
DEFAULT_WEIGHT = 100  # what SkyDNS counts for records that give none
LEASED_TTL = 30  # seconds at most for a record that may end with its lease
MAX_TEXT = 60_000  # octets; one record has to fit in one message
MAX_LISTED = 64  # CAA or NAPTR records in one value

Whole8 = Annotated[int, msgspec.Meta(ge=0, le=255)]
Whole16 = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
String = Annotated[str, msgspec.Meta(max_length=rr.MAX_STRING)]
Listed = msgspec.Meta(max_length=MAX_LISTED)


class Caa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may issue certificates (RFC 8659 §4)."""

    tag: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{1,255}$")]
    value: Annotated[str, msgspec.Meta(max_length=MAX_TEXT // 4)]
    flag: Whole8 = 0


class Naptr(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a name is rewritten (RFC 3403 §4.1)."""

    order: Whole16
    preference: Whole16
    flags: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{0,255}$")] = ""
    service: String = ""
    regexp: String = ""
    replacement: str = "."


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The JSON of a SkyDNS record; unknown fields are ignored, names of fields match in any case as in Go."""

    host: str = ""
    port: Whole16 = 0
    priority: Whole16 = 0
    weight: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    text: str = ""
    mail: bool = False
    ttl: Seconds = 0
    targetstrip: Annotated[int, msgspec.Meta(ge=0, le=127)] = 0
    group: str = ""
    caa: Annotated[tuple[Caa, ...], Listed] = ()
    naptr: Annotated[tuple[Naptr, ...], Listed] = ()


class Found(NamedTuple):
    """One SkyDNS record, ready to be answered.

    Attributes:
        key: where it stands.
        name: its wire name, spelled as in the key.
        said: its fields.
        priority: SkyDNS's default included, once `settled`.
        ttl: seconds, the default included once `settled`, capped when it hangs on a lease.
        leased: it may end with its lease.
        address: type and data when its host is an address.
        target: wire name when its host is a name.
        kept: CAA and NAPTR data as given.
    """

    key: str
    name: bytes
    said: Said
    priority: int
    ttl: int
    leased: bool
    address: tuple[Type, Data] | None
    target: bytes | None
    kept: tuple[tuple[Type, Data], ...] = ()

    @property
    def weight(self) -> int:
        """What it counts among records of one priority."""
        return self.said.weight or DEFAULT_WEIGHT

    @property
    def same(self) -> tuple[object, ...]:
        """What makes two records one in an answer."""
        said = self.said
        return said.host, said.port, said.priority, said.weight, said.text, self.kept

    @property
    def bare(self) -> bool:
        """True when it says nothing but a host: no service, text, mail or else."""
        said = self.said
        service = said.port or said.priority or said.weight
        return bool(said.host) and not (service or said.text or said.mail or self.kept)

    def service_target(self) -> bytes:
        """Target of its SRV or MX record: its host's name, or its own when that is an address; stripped as it asks."""
        return dname.without(self.target or self.name, self.said.targetstrip)

    def settled(self, ttl: int, priority: int) -> Found:
        """The same with the defaults where it gives nothing."""
        if self.ttl and self.priority:
            return self
        given_ttl = self.ttl or (min(ttl, LEASED_TTL) if self.leased else ttl)
        return self._replace(ttl=given_ttl, priority=self.priority or priority)


class BadForeign(ValueError):
    """A value under the SkyDNS prefix that is no record; the message says why."""


def parse(entry: Entry, labels: tuple[str, ...]) -> Found | None:
    """Read one record; None for one of our own exports. Its `ttl` and `priority` are 0 where it gives none.

    Raises:
        BadForeign: not JSON, a field of the wrong type or out of range, a text that no message can hold, or a key or
            host that is no domain name.
    """
    try:
        raw = msgspec.json.decode(entry.value)
        if not isinstance(raw, dict):
            raise BadForeign("no JSON object")
        if MARK in raw:
            return None
        said = msgspec.convert(_in_lower_case(raw), Said)
        name = dname.from_labels([label.encode() for label in labels])
        address, target = _host(said.host)
        kept = (*map(_caa, said.caa), *map(_naptr, said.naptr))
        size = len(said.text.encode())
    except (msgspec.MsgspecError, BadName, UnicodeError, RecursionError) as error:
        raise BadForeign(str(error)) from error
    if size > MAX_TEXT:
        raise BadForeign(f"a text of {size} octets: {MAX_TEXT} are allowed")
    ttl, leased = min(said.ttl, rr.MAX_TTL), bool(entry.lease)
    return Found(
        entry.key, name, said, said.priority, min(ttl, LEASED_TTL) if leased else ttl, leased, address, target, kept
    )


# As Go reads them: in any case, and null as if they were not there. Our own lists are read in the same way.
def _in_lower_case(raw: dict[object, object]) -> dict[str, object]:
    fields = {str(name).lower(): value for name, value in raw.items() if value is not None}
    for listed in ("caa", "naptr"):
        inner = fields.get(listed)
        if isinstance(inner, list):
            fields[listed] = [_in_lower_case(one) if isinstance(one, dict) else one for one in inner]
    return fields


def _host(host: str) -> tuple[tuple[Type, Data] | None, bytes | None]:
    if not host:
        return None, None
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None, dname.from_text(host)
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped  # as Go's To4
    return rr.address(str(ip).partition("%")[0]), None


def _caa(said: Caa) -> tuple[Type, Data]:
    return Type.CAA, rr.caa(said.flag, said.tag.encode(), said.value.encode())


def _naptr(said: Naptr) -> tuple[Type, Data]:
    strings = (said.flags.encode(), said.service.encode(), said.regexp.encode())
    if any(len(string) > rr.MAX_STRING for string in strings):
        raise BadForeign(f"a naptr string of more than {rr.MAX_STRING} octets")
    replacement = dname.from_text(said.replacement)
    if said.regexp and replacement != dname.ROOT:
        raise BadForeign("naptr has a regexp and a replacement: one of them is allowed (RFC 3403 §4.1)")
    return Type.NAPTR, rr.naptr(said.order, said.preference, strings, replacement)
