"""The worker's memory on disk: which leases it has taken, how far each has come, and what it still owes the portal.

SQLite in WAL mode, one connection behind a lock; `nexa status` reads it from another process. A lease is a row from the moment its order
was received until its receipt was answered; whatever is open in here after a restart is work to finish. Nothing is deleted but by `prune`,
which ending leases call now and then. A file that SQLite can't read as a database is set aside, and another one begun: what was open in
it is lost to this host, and its leases expire.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self
from uuid import UUID

from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.receipt import FailureCode

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
LEASES_KEPT = 1000
"""How many ended leases are remembered, for `nexa status`."""
PRUNE_ENDINGS = 100

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    lease_id TEXT PRIMARY KEY,
    replica_id TEXT NOT NULL,
    envelope BLOB NOT NULL,
    order_digest TEXT NOT NULL,
    job_type TEXT NOT NULL,
    image TEXT NOT NULL,
    stage TEXT NOT NULL,
    progress REAL,
    message TEXT NOT NULL DEFAULT '',
    started INTEGER NOT NULL DEFAULT 0,
    launches INTEGER NOT NULL DEFAULT 0,
    launch TEXT,
    result TEXT,
    accepted_at TEXT NOT NULL,
    receipt BLOB,
    failure TEXT,
    ended_at TEXT,
    ending TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS upload (
    lease_id TEXT NOT NULL REFERENCES lease (lease_id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    path TEXT NOT NULL,
    url TEXT,
    offset_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lease_id, digest)
) STRICT;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL, noted_at TEXT NOT NULL) STRICT;
"""


class JournalError(Exception):
    """The journal cannot be used; the message says why."""


class JournalVersionError(JournalError):
    """The journal is of other host software: trying again will not help."""


class Fact(StrEnum):
    """Single values that outlive the process."""

    REQUEST_ID = "request_id"
    CHECKPOINT = "checkpoint"
    NO_WORK = "no_work"
    PORTAL = "portal"
    """What the last exchange came to: `ok`, or an error's text."""
    STATE = "state"
    """`working`, `paused`, `draining` or `stopped`."""
    DISMISSED = "dismissed"
    """Why the coordinator sent the last worker away for good; empty while it did not."""
    HOLD = "hold"
    """Why the host itself wants no work, as `code: message`; empty while it does."""
    UPGRADE = "upgrade"
    """Why other host software is wanted, as it was last told in the log; empty while none is."""
    WRITE_CHECK = "write_check"
    """Nothing: its writing is what counts."""


@dataclass(frozen=True)
class LeaseRow:
    """One lease. `receipt`: the signed envelope, once the run has ended. `ending`: what the portal made of it, once answered.

    `launch` and `result` are JSON of workers/order_run.py: what a container was last started with, of `launches` starts in all, and what
    the container came to, once that is known.
    """

    lease_id: UUID
    replica_id: UUID
    envelope: bytes
    order_digest: str
    job_type: str
    image: str
    stage: Stage
    progress: float | None
    message: str
    started: bool
    launches: int
    launch: str | None
    result: str | None
    accepted_at: datetime
    receipt: bytes | None
    failure: FailureCode | None
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True)
class UploadRow:
    """One blob that belongs to a lease's receipt. `url`: where the portal takes it, once known."""

    lease_id: UUID
    digest: str
    size_bytes: int
    path: Path
    url: str | None
    offset_bytes: int


class Journal:
    """Open with `open` (the worker) or `read_only` (anyone else). Thread-safe. Raises JournalError, also for a full disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._mutex = threading.RLock()
        self._endings = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """The journal in `path`, made if it isn't there, and in place of one that is damaged. One process at a time may.

        Raises JournalVersionError for one of other software, JournalError where the disk is full or another process keeps it.
        """
        try:
            return cls._open(path)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise JournalError(f"{path} can't be used as a journal: {error}.") from error
            _set_aside(path, error)
        try:
            return cls._open(path)
        except sqlite3.Error as error:
            raise JournalError(f"{path} can't be used as a journal: {error}.") from error

    @classmethod
    def _open(cls, path: Path) -> Self:
        connection = sqlite3.connect(path, check_same_thread=False, timeout=10, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a lease that we have accepted, and a receipt that we have signed, must survive a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _check(connection, path)
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """The journal of a worker that may be running. Raises JournalError where there is none."""
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False, timeout=5, isolation_level=None)
            connection.execute("SELECT count(*) FROM lease").fetchone()
        except sqlite3.Error as error:
            raise JournalError(f"{path} can't be read: {error}. Has a worker run here yet?") from error
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    # --- leases -------------------------------------------------------------------------------------------------------

    def lease_add(self, *, lease_id: UUID, replica_id: UUID, envelope: bytes, order_digest: str, job_type: str, image: str) -> bool:
        """Take a lease on; False if it is known already."""
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO lease (lease_id, replica_id, envelope, order_digest, job_type, image, stage, accepted_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (str(lease_id), str(replica_id), envelope, order_digest, job_type, image, Stage.ACCEPTED, _now()),
            )
            return cursor.rowcount == 1

    def lease(self, lease_id: UUID) -> LeaseRow | None:
        """The lease, or None if it is unknown."""
        rows = self._query("SELECT * FROM lease WHERE lease_id = ?", str(lease_id))
        return _lease_row(rows[0]) if rows else None

    def leases_open(self) -> list[LeaseRow]:
        """Leases whose receipt has not been answered, oldest first."""
        return [_lease_row(row) for row in self._query("SELECT * FROM lease WHERE ending IS NULL ORDER BY accepted_at, lease_id")]

    def leases_ended(self, limit: int = 10) -> list[LeaseRow]:
        """The newest leases that are over, newest first."""
        return [
            _lease_row(row) for row in self._query("SELECT * FROM lease WHERE ending IS NOT NULL ORDER BY ended_at DESC LIMIT ?", limit)
        ]

    def lease_started(self, lease_id: UUID) -> None:
        """Note that the order is being carried out, and that its compute log has begun."""
        self._execute("UPDATE lease SET started = 1 WHERE lease_id = ?", str(lease_id))

    def lease_launched(self, lease_id: UUID, launch: str) -> None:
        """Note what a container is about to be started with: whoever finds it after a crash can follow it."""
        self._execute("UPDATE lease SET launch = ?, launches = launches + 1, result = NULL WHERE lease_id = ?", launch, str(lease_id))

    def lease_ran(self, lease_id: UUID, result: str) -> None:
        """Note what the container came to, before it is removed."""
        self._execute("UPDATE lease SET result = ? WHERE lease_id = ?", result, str(lease_id))

    def lease_progress(self, lease_id: UUID, *, stage: Stage, progress: float | None, message: str) -> None:
        """Note how far a lease has come."""
        self._execute("UPDATE lease SET stage = ?, progress = ?, message = ? WHERE lease_id = ?", stage, progress, message, str(lease_id))

    def leases_progress(self, shown: Mapping[UUID, tuple[Stage, float | None, str]]) -> None:
        """The same for several, in one step: by lease its stage, progress and message."""
        if shown:
            with self._transaction() as connection:
                connection.executemany(
                    "UPDATE lease SET stage = ?, progress = ?, message = ? WHERE lease_id = ?",
                    [(*values, str(lease_id)) for lease_id, values in shown.items()],
                )

    def lease_finished(self, lease_id: UUID, *, receipt: bytes, failure: FailureCode | None, uploads: list[UploadRow]) -> None:
        """Note the signed receipt and the blobs that it names, in one step: from here on only reporting is left."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE lease SET receipt = ?, failure = ?, stage = ?, started = 1 WHERE lease_id = ?",
                (receipt, failure, Stage.UPLOADING, str(lease_id)),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO upload (lease_id, digest, size_bytes, path) VALUES (?, ?, ?, ?)",
                [(str(lease_id), upload.digest, upload.size_bytes, str(upload.path)) for upload in uploads],
            )

    def lease_ended(self, lease_id: UUID, ending: str) -> None:
        """Note that nothing is owed for this lease any more, and what the portal made of it."""
        with self._transaction() as connection:
            connection.execute("UPDATE lease SET ending = ?, ended_at = ? WHERE lease_id = ?", (ending, _now(), str(lease_id)))
            connection.execute("DELETE FROM upload WHERE lease_id = ?", (str(lease_id),))
        self._endings += 1
        if self._endings % PRUNE_ENDINGS == 0:
            self.prune(keep=LEASES_KEPT)

    def prune(self, *, keep: int) -> None:
        """Forget all but the newest `keep` leases that are over."""
        self._execute(
            "DELETE FROM lease WHERE ending IS NOT NULL AND lease_id NOT IN"
            " (SELECT lease_id FROM lease WHERE ending IS NOT NULL ORDER BY ended_at DESC LIMIT ?)",
            keep,
        )

    # --- uploads ------------------------------------------------------------------------------------------------------

    def uploads(self, lease_id: UUID) -> list[UploadRow]:
        """The blobs that a lease's receipt names, whether sent or not."""
        rows = self._query("SELECT * FROM upload WHERE lease_id = ? ORDER BY size_bytes, digest", str(lease_id))
        return [UploadRow(lease_id, row["digest"], row["size_bytes"], Path(row["path"]), row["url"], row["offset_bytes"]) for row in rows]

    def upload_progress(self, lease_id: UUID, digest: str, *, url: str | None, offset_bytes: int) -> None:
        """Note where an upload goes and how far it has come."""
        self._execute(
            "UPDATE upload SET url = ?, offset_bytes = ? WHERE lease_id = ? AND digest = ?", url, offset_bytes, str(lease_id), digest
        )

    # --- facts --------------------------------------------------------------------------------------------------------

    def fact(self, name: Fact) -> str | None:
        """The value last noted, or None."""
        rows = self._query("SELECT value FROM fact WHERE name = ?", name)
        return str(rows[0]["value"]) if rows else None

    def fact_noted_at(self, name: Fact) -> datetime | None:
        """When the value was last noted."""
        rows = self._query("SELECT noted_at FROM fact WHERE name = ?", name)
        return datetime.fromisoformat(rows[0]["noted_at"]) if rows else None

    def fact_note(self, name: Fact, value: str) -> None:
        """Keep a value, instead of the one before."""
        self.facts_note({name: value})

    def facts_note(self, values: Mapping[Fact, str]) -> None:
        """The same for several, in one step."""
        now = _now()
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO fact VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value, noted_at = excluded.noted_at",
                [(name, value, now) for name, value in values.items()],
            )

    def write_check(self) -> None:
        """Write something and sync it. Raises JournalError where that can't be done now."""
        self.fact_note(Fact.WRITE_CHECK, "")

    # --- SQL ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                # Whatever it was: a transaction left open would refuse every one that follows.
                if self._connection_open() and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error | UnicodeError):
                    raise JournalError(f"The journal could not be written: {error}.") from error
                raise

    def _connection_open(self) -> bool:
        try:
            return self._connection.total_changes >= 0
        except sqlite3.ProgrammingError:
            return False

    def _execute(self, sql: str, *values: object) -> None:
        with self._transaction() as connection:
            connection.execute(sql, values)

    def _query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._mutex:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise JournalError(f"The journal could not be read: {error}.") from error


class _DamageFoundError(sqlite3.DatabaseError):
    """By SQLite's own check of the whole file."""


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Before anything is written. Raises _DamageFoundError, JournalVersionError."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _DamageFoundError(" ".join(str(found).split()))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        message = (
            f"{path} has version {version}; this software writes version {SCHEMA_VERSION}. Run the software that wrote it, or "
            "move the file away: what is open in it is then not reported."
        )
        raise JournalVersionError(message)


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is what is wrong, not the disk, and nobody who holds it."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # extended: the kind is in the lowest byte
    return isinstance(error, _DamageFoundError) or (code is not None and code & 0xFF in _DAMAGED)


def _set_aside(path: Path, error: sqlite3.Error) -> None:
    """Move a damaged journal away, for somebody to look at. Raises JournalError."""
    aside = path.with_name(f"journal.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        for suffix in ("-wal", "-shm", ""):  # the database last: without its WAL it is begun anew only when it is gone as well
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    except OSError as failure:
        raise JournalError(f"{path} is damaged ({error}), and can't be moved away: {failure}.") from failure
    log.error("the journal is damaged (%s): it is now %s, and another one is begun. Work that was open in it is lost.", error, aside.name)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _lease_row(row: sqlite3.Row) -> LeaseRow:
    return LeaseRow(
        lease_id=UUID(row["lease_id"]),
        replica_id=UUID(row["replica_id"]),
        envelope=row["envelope"],
        order_digest=row["order_digest"],
        job_type=row["job_type"],
        image=row["image"],
        stage=Stage(row["stage"]),
        progress=row["progress"],
        message=row["message"],
        started=bool(row["started"]),
        launches=row["launches"],
        launch=row["launch"],
        result=row["result"],
        accepted_at=datetime.fromisoformat(row["accepted_at"]),
        receipt=row["receipt"],
        failure=FailureCode(row["failure"]) if row["failure"] else None,
        ended_at=datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else None,
        ending=row["ending"],
    )
