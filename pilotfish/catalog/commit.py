"""What may be asked of a store in one commit, checked before it leaves the process.

Knows the limits that both stores keep to, so that a plan which the embedded store takes is not refused by etcd later.
Knows nothing of what is in the store. The same text comes back for the same mistake, whichever store is behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pilotfish.catalog.store import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    BadRequest,
    Condition,
    CreatedAt,
    Delete,
    DeletePrefix,
    ModifiedAt,
    Operation,
    Put,
)

MAX_COMMIT_BYTES = 1_400_000  # keys and values together; etcd refuses requests over 1.5 MiB, its framing included
MAX_KEY_BYTES = 4096  # ours are under 700 octets; a longer one is a mistake of the caller


def check_commit(conditions: Sequence[Condition], operations: Sequence[Operation]) -> None:
    """Refuse what no store takes.

    Raises:
        BadRequest: too many operations or conditions, a key twice, an empty or unwritable key, a value or the whole
            too large. The message names the key and the limit.
    """
    _check_counts(conditions, operations)
    for condition in conditions:
        _check_condition(condition)
    puts = [operation for operation in operations if isinstance(operation, Put)]
    for put in puts:
        _check_value(put)
    keys = [operation.key for operation in operations if isinstance(operation, Put | Delete)]
    for key in keys:
        key_bytes(key)
    prefixes = [operation.prefix for operation in operations if isinstance(operation, DeletePrefix)]
    for prefix in prefixes:
        prefix_range(prefix)
    _check_overlap(keys, puts, prefixes)
    size = sum(len(put.value) for put in puts) + sum(map(len, keys))
    if size > MAX_COMMIT_BYTES:
        raise BadRequest(f"a commit of {size} octets is over the limit of {MAX_COMMIT_BYTES}: make it several")


def key_bytes(key: str) -> bytes:
    r"""The key as it stands in the store: UTF-8, 1 to 4096 octets.

    >>> key_bytes("/reg/ä")
    b'/reg/\xc3\xa4'

    Raises:
        BadRequest: empty, too long, or not to be written in UTF-8 (a lone surrogate).
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"the key {key!a} cannot be written in UTF-8") from None
    if not raw:
        raise BadRequest("an empty key cannot be stored")
    if len(raw) > MAX_KEY_BYTES:
        raise BadRequest(f"the key {key[:80]!a}... has {len(raw)} octets, over the limit of {MAX_KEY_BYTES}")
    return raw


def key_text(raw: bytes) -> str:
    r"""A key of the store as text; octets that are not UTF-8 (others may have written them) are shown as \xNN.

    >>> key_text(b"/skydns/\xff")
    '/skydns/\\xff'
    """
    return raw.decode(errors="backslashreplace")


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    r"""First key of a prefix and the first key after it, as etcd writes ranges.

    >>> prefix_range("/a")
    (b'/a', b'/b')

    Returns:
        (start, end), end not included; for the empty prefix (b"\0", b"\0"), etcd's way to say all keys.
    """
    start = key_bytes(prefix) if prefix else b""
    for last in range(len(start) - 1, -1, -1):
        if start[last] < 0xFF:
            return start, start[:last] + bytes([start[last] + 1])
    return b"\0", b"\0"


def _check_counts(conditions: Sequence[Condition], operations: Sequence[Operation]) -> None:
    for what, number in (("operations", len(operations)), ("conditions", len(conditions))):
        if number > MAX_OPERATIONS:
            raise BadRequest(f"a commit of {number} {what} is over the limit of {MAX_OPERATIONS}: make it several")


# Revision 0 would mean "absent" to etcd, and never hold here; whoever asks it has forgotten to read first.
def _check_condition(condition: Condition) -> None:
    key_bytes(condition.key)
    if isinstance(condition, CreatedAt | ModifiedAt) and condition.revision < 1:
        raise BadRequest(f"no key has revision {condition.revision}, as the condition on {condition.key!a} asks")


def _check_value(put: Put) -> None:
    if len(put.value) > MAX_VALUE_BYTES:
        raise BadRequest(f"the value of {put.key!a} has {len(put.value)} octets, over the limit of {MAX_VALUE_BYTES}")


# etcd refuses a put whose key another operation of the same transaction touches: the order would be undefined.
def _check_overlap(keys: list[str], puts: list[Put], prefixes: Iterable[str]) -> None:
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRequest(f"the key {twice!a} is there twice in one commit")
    starts = tuple(prefixes)
    for put in puts:
        if put.key.startswith(starts):
            raise BadRequest(f"the key {put.key!a} is put and deleted in one commit")
