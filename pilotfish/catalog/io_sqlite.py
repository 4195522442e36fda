"""The embedded store's file: one SQLite database, and the lock that keeps it to one process.

Everything here blocks and is called from one thread at a time. It knows keys, leases and revisions as they lie on disk;
watches, deadlines and tasks are `io_embedded`'s. A commit is on disk when it returns (WAL, synchronous FULL).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotfish.catalog.commit import key_bytes, key_text, prefix_range
from pilotfish.catalog.store import (
    Absent,
    BadRequest,
    Change,
    Committed,
    Condition,
    CreatedAt,
    Delete,
    DeletePrefix,
    Entry,
    Lease,
    LeaseGone,
    ModifiedAt,
    Operation,
    Put,
    Reading,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Survey,
    ValueIs,
)

APPLICATION_ID = 0x50494C46  # "PILF", where SQLite keeps an application's mark
FORMAT = 1  # of the tables below; SQLite's user_version
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL);
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
                      lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX entries_by_lease ON entries (lease) WHERE lease != 0;
"""
PUT = """
INSERT INTO entries VALUES (:key, :value, :revision, :revision, :lease)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified, lease = excluded.lease
RETURNING created
"""
CHECKPOINT_PAGES = 1000  # SQLite's own default: the log is folded into the file after about 4 MiB

# What an error of SQLite means to a caller; anything else means that the store cannot be used now.
FAULTS: Mapping[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "no space left"),
    sqlite3.SQLITE_TOOBIG: (BadRequest, "value too large"),
}


class BrokenStore(StoreError):
    """The store's file cannot be read; only an operator can decide what becomes of it."""

    retry = False


class Database:
    """One open store file.

    Args:
        path: where it lies; made if absent, with mode 0600. None keeps everything in memory.
        quota_bytes: size at which writes are refused with StoreFull.

    Attributes:
        cluster: random identity, made with the file.

    Raises:
        StoreUnavailable: another process has it, or the place cannot be written.
        BrokenStore: it is not a store of ours, is damaged, or is of a newer format.
    """

    def __init__(self, path: Path | None, *, quota_bytes: int) -> None:
        self.where = f"the store {path}" if path else "the store in memory"
        self._lock = _lock(path) if path else None
        try:
            self._sql = _connect(path)
            self.cluster = self._prepare(quota_bytes)
        except (sqlite3.Error, StoreError) as error:
            self._release()
            raise _unusable(self.where, error) from error

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        with self._faults():
            self._release()

    def leases(self) -> list[Lease]:
        """All leases that have not ended."""
        with self._faults():
            return [Lease(id=row[0], ttl_s=row[1]) for row in self._sql.execute("SELECT id, ttl_s FROM leases")]

    def revision(self) -> int:
        """The revision of the last commit that changed something; 1 for a new store."""
        with self._faults():
            return self._revision()

    def read(self, prefixes: Sequence[str]) -> Reading:
        """Everything under the prefixes; one thread at a time makes it one revision."""
        with self._faults():
            found = {entry.key: entry for prefix in prefixes for entry in self._under(prefix)}
            return Reading(self.cluster, self._revision(), tuple(found[key] for key in sorted(found)))

    def survey(self, prefix: str, *, keys: bool) -> Survey:
        """How many keys there are under the prefix, or which, with their revisions."""
        bounds, values = _bounds(prefix)
        with self._faults():
            if not keys:
                count = self._sql.execute(f"SELECT count(*) FROM entries WHERE {bounds}", values).fetchone()[0]  # noqa: S608 - two constants
                return Survey(self.cluster, self._revision(), count)
            rows = self._sql.execute(f"SELECT key, modified FROM entries WHERE {bounds}", values)  # noqa: S608 - two constants
            found = {key_text(key): modified for key, modified in rows}
            return Survey(self.cluster, self._revision(), len(found), found)

    def commit(
        self, conditions: Sequence[Condition], operations: Sequence[Operation]
    ) -> tuple[Committed, Change | None]:
        """Apply all operations if all conditions hold.

        Returns:
            The outcome, and what changed: None when nothing did.

        Raises:
            LeaseGone: an operation names an unknown lease; nothing was changed.
        """
        with self._transaction():
            revision = self._revision()
            if not all(self._holds(condition) for condition in conditions):
                return Committed(succeeded=False, revision=revision), None
            change = self._apply(operations, revision + 1)
            return Committed(succeeded=True, revision=change.revision if change else revision), change

    def add_lease(self, lease: Lease) -> None:
        """Remember a lease, so that it outlives this process."""
        with self._transaction():
            self._sql.execute("INSERT INTO leases VALUES (?, ?)", (lease.id, lease.ttl_s))

    def end_lease(self, lease: int) -> tuple[None, Change | None]:
        """Forget a lease and remove its keys, in one revision; returns what changed beside an empty outcome."""
        with self._transaction():
            self._sql.execute("DELETE FROM leases WHERE id = ?", (lease,))
            rows = self._sql.execute("DELETE FROM entries WHERE lease = ? RETURNING key", (lease,)).fetchall()
            return None, self._record(self._revision() + 1, [], [key_text(row[0]) for row in rows])

    # Nothing is written before the file has proved to be ours and whole.
    def _prepare(self, quota_bytes: int) -> str:
        mark = self._pragma("application_id"), self._pragma("user_version")
        fresh = mark == (0, 0) and not self._sql.execute("SELECT 1 FROM sqlite_master").fetchone()
        if not fresh and mark != (APPLICATION_ID, FORMAT):
            raise BrokenStore(f"it is a database of another program or version (mark {mark[0]:#x}, format {mark[1]})")
        fault = str(self._pragma("quick_check(1)"))
        if fault != "ok":
            raise BrokenStore(f"it is damaged ({fault.splitlines()[-1]})")
        for setting in ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {CHECKPOINT_PAGES}"):
            self._sql.execute(f"PRAGMA {setting}")
        if fresh:
            self._create()
        self._sql.execute(f"PRAGMA max_page_count = {max(1, quota_bytes // int(self._pragma('page_size')))}")
        return str(self._meta("cluster"))

    def _create(self) -> None:
        with self._transaction():
            for statement in (*SCHEMA.split(";"), f"PRAGMA application_id = {APPLICATION_ID}"):
                self._sql.execute(statement)
            self._sql.execute(f"PRAGMA user_version = {FORMAT}")
            first = [("cluster", secrets.token_hex(8)), ("revision", 1)]
            self._sql.executemany("INSERT INTO meta VALUES (?, ?)", first)

    def _pragma(self, name: str) -> Any:  # noqa: ANN401 - SQLite decides the type
        return self._sql.execute(f"PRAGMA {name}").fetchone()[0]

    def _meta(self, name: str) -> Any:  # noqa: ANN401 - two rows, a text and a number
        return self._sql.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

    def _revision(self) -> int:
        return int(self._meta("revision"))

    def _under(self, prefix: str) -> Iterator[Entry]:
        bounds, values = _bounds(prefix)
        query = f"SELECT key, value, created, modified, lease FROM entries WHERE {bounds}"  # noqa: S608 - two constants
        for key, value, created, modified, lease in self._sql.execute(query, values):
            yield Entry(key_text(key), value, created, modified, lease)

    def _holds(self, condition: Condition) -> bool:
        query = "SELECT value, created, modified FROM entries WHERE key = ?"
        row = self._sql.execute(query, (key_bytes(condition.key),)).fetchone()
        match condition:
            case Absent():
                return row is None
            case CreatedAt(revision=revision):
                return row is not None and row[1] == revision
            case ModifiedAt(revision=revision):
                return row is not None and row[2] == revision
            case ValueIs(value=value):
                return row is not None and row[0] == value

    def _apply(self, operations: Sequence[Operation], revision: int) -> Change | None:
        puts: list[Entry] = []
        deletes: list[str] = []
        for operation in operations:
            match operation:
                case Put():
                    puts.append(self._put(operation, revision))
                case Delete(key=key):
                    deletes += self._delete("key = ?", (key_bytes(key),))
                case DeletePrefix(prefix=prefix):
                    start, end = prefix_range(prefix)
                    whole = end == b"\0"
                    deletes += self._delete("TRUE", ()) if whole else self._delete("key >= ? AND key < ?", (start, end))
        return self._record(revision, puts, deletes)

    def _put(self, put: Put, revision: int) -> Entry:
        if put.lease and not self._sql.execute("SELECT 1 FROM leases WHERE id = ?", (put.lease,)).fetchone():
            raise LeaseGone(f"lease {put.lease:x} has ended; {put.key!a} was not put")
        row = {"key": key_bytes(put.key), "value": put.value, "revision": revision, "lease": put.lease}
        created = self._sql.execute(PUT, row).fetchone()[0]
        return Entry(put.key, put.value, created, revision, put.lease)

    def _delete(self, where: str, values: tuple[bytes, ...]) -> list[str]:
        rows = self._sql.execute(f"DELETE FROM entries WHERE {where} RETURNING key", values)  # noqa: S608 - constants
        return [key_text(row[0]) for row in rows.fetchall()]

    def _record(self, revision: int, puts: list[Entry], deletes: list[str]) -> Change | None:
        if not puts and not deletes:
            return None
        self._sql.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))
        return Change(revision, tuple(sorted(puts, key=lambda entry: entry.key)), tuple(sorted(deletes)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._faults():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind, what = FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, (StoreUnavailable, str(error)))
            raise kind(f"{self.where}: {what}") from error

    def _release(self) -> None:
        if hasattr(self, "_sql"):
            self._sql.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _bounds(prefix: str) -> tuple[str, tuple[bytes, ...]]:
    """The keys under a prefix as a condition and its values."""
    start, end = prefix_range(prefix)
    return ("key >= ? AND key < ?", (start, end)) if end != b"\0" else ("TRUE", ())


def _connect(path: Path | None) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended by name. The thread is chosen by io_embedded, one at a time.
    return sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=1.0)


# A file of its own: SQLite's POSIX locks on the database go when any descriptor of it is closed, flock's do not.
def _lock(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the store {path} cannot be opened for writing: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 20, 0).decode(errors="replace")
        os.close(lock)
        raise StoreUnavailable(
            f"the store {path} is in use by process {holder}: stop it, or name another file"
        ) from None
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _unusable(where: str, error: Exception) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT} or isinstance(error, BrokenStore):
        advice = "move it away and start again: containers register anew, claims and operators' wishes in it are lost"
        return BrokenStore(f"{where} cannot be used: {error}; {advice}")
    return StoreUnavailable(f"{where}: {error}")
