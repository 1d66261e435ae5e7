"""The journal: what it keeps across a restart, and how it fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from workers.journal import Fact, Journal, JournalError, JournalVersionError, UploadRow
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.receipt import FailureCode


def add(journal: Journal, lease_id: UUID) -> bool:
    return journal.lease_add(
        lease_id=lease_id, replica_id=uuid4(), envelope=b"{}", order_digest="sha256:" + "0" * 64, job_type="fold", image="i"
    )


def test_lease_survives_reopening_with_its_receipt_and_uploads(tmp_path: Path) -> None:
    path, lease_id = tmp_path / "journal.sqlite", uuid4()
    journal = Journal.open(path)
    assert add(journal, lease_id)
    assert not add(journal, lease_id)
    journal.lease_started(lease_id)
    journal.lease_progress(lease_id, stage=Stage.RUNNING, progress=0.5, message="halfway")
    upload = UploadRow(lease_id, "sha256:" + "1" * 64, 10, tmp_path / "log.jsonl", None, 0)
    journal.lease_finished(lease_id, receipt=b"signed", failure=FailureCode.EXIT_NONZERO, uploads=[upload])
    journal.upload_progress(lease_id, upload.digest, url="https://p/u", offset_bytes=4)
    journal.fact_note(Fact.CHECKPOINT, "note")
    journal.close()

    journal = Journal.open(path)
    (row,) = journal.leases_open()
    assert (row.lease_id, row.receipt, row.failure, row.stage, row.started) == (
        lease_id,
        b"signed",
        FailureCode.EXIT_NONZERO,
        Stage.UPLOADING,
        True,
    )
    (found,) = journal.uploads(lease_id)
    assert (found.url, found.offset_bytes, found.path) == ("https://p/u", 4, tmp_path / "log.jsonl")
    assert journal.fact(Fact.CHECKPOINT) == "note"
    assert journal.fact_noted_at(Fact.CHECKPOINT) is not None
    assert journal.fact(Fact.NO_WORK) is None
    assert journal.fact_noted_at(Fact.NO_WORK) is None
    journal.lease_ended(lease_id, "recorded")
    assert journal.leases_open() == []
    assert journal.uploads(lease_id) == []
    assert [ended.ending for ended in journal.leases_ended()] == ["recorded"]
    journal.close()


def test_prune_keeps_what_is_open_and_the_newest(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    leases = [uuid4() for _ in range(5)]
    for lease_id in leases:
        add(journal, lease_id)
    for lease_id in leases[:4]:
        journal.lease_ended(lease_id, "recorded")
    journal.prune(keep=2)
    assert [row.lease_id for row in journal.leases_open()] == leases[4:]
    assert [row.lease_id for row in journal.leases_ended()] == [leases[3], leases[2]]
    assert journal.lease(leases[0]) is None
    journal.close()


def test_status_reads_while_the_worker_writes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal.open(path)
    reader = Journal.read_only(path)
    add(journal, uuid4())
    assert len(reader.leases_open()) == 1
    with pytest.raises(JournalError):
        add(reader, uuid4())
    reader.close()
    journal.close()


def test_unusable_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with pytest.raises(JournalError, match="Has a worker run here"):
        Journal.read_only(path)
    path.mkdir()
    with pytest.raises(JournalError, match="can't be used"):
        Journal.open(path)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalVersionError, match="version 99"):
        Journal.open(newer)


def damaged_header(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def damaged_pages(path: Path) -> None:
    journal = Journal.open(path)
    for _ in range(50):
        add(journal, uuid4())
    journal.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [damaged_header, damaged_pages])
def test_damaged_journal_is_set_aside_and_another_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "journal.sqlite"
    damage(path)
    (tmp_path / "journal.sqlite-wal").write_bytes(b"")
    before = path.read_bytes()
    journal = Journal.open(path)
    assert add(journal, uuid4())
    journal.close()
    kept = [found for found in tmp_path.glob("journal.damaged-*") if not found.name.endswith(("-wal", "-shm"))]
    assert [found.read_bytes() for found in kept] == [before]
    assert kept[0].name in caplog.text
    Journal.open(path).close()
    assert len(list(tmp_path.glob("journal.damaged-*Z"))) == 1


def test_journal_that_another_process_keeps_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    Journal.open(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **named: connect(*arguments, **(named | {"timeout": 0})))
    with pytest.raises(JournalError, match="locked"):
        Journal.open(path)
    holder.close()
    assert list(tmp_path.glob("journal.damaged-*")) == []


def test_full_disk_is_an_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    lease_id = uuid4()
    add(journal, lease_id)
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="could not be written"):
        journal.fact_note(Fact.CHECKPOINT, "x" * 100_000)
    assert journal.lease(lease_id) is not None
    journal.close()
    with pytest.raises(JournalError):
        journal.leases_open()
    with pytest.raises(JournalError):
        journal.lease_started(lease_id)


def test_value_that_sqlite_cannot_take_breaks_nothing_that_follows(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite")
    with pytest.raises(JournalError):
        journal.fact_note(Fact.NO_WORK, "\ud800")
    journal.fact_note(Fact.NO_WORK, "none")
    assert journal.fact(Fact.NO_WORK) == "none"
    journal.close()
