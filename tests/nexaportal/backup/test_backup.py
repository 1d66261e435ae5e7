"""Backup, wipe, restore: jobs, balances, log and blobs as before, under another epoch; and what is refused."""

from __future__ import annotations

import json
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.utils import timezone
from psycopg import sql

from jobs.blobs import blob_open
from jobs.models import Blob, Job, Receipt
from ledger import coordinator_key
from ledger.checkpoints import checkpoint_latest, log_epoch
from ledger.epochs import epoch_documents
from ledger.models import Account, Checkpoint, LogLeaf
from ledger.publication import published_check
from ledger.verification import LedgerVerification
from nexaportal.backup.errors import (
    BackupBlobsLostError,
    BackupDamagedError,
    BackupError,
    BackupForeignError,
    BackupPlaceError,
    BackupToolError,
    RestoreTargetError,
)
from nexaportal.backup.making import backup_make
from nexaportal.backup.manifest import manifest_read
from nexaportal.backup.postgres import tools_check
from nexaportal.backup.restoring import backup_check, backup_restore
from tests.conftest import _admin_connection
from tests.factories.people import user_make
from tests.nexaportal.backup.places import caches_clear, job_paid, make
from workers.protocol.epochs import epochs_open


def state() -> dict[str, Any]:
    """What has to be as before."""
    return _state_but_blobs() | {"blobs": {blob.digest: _read(blob) for blob in Blob.objects.all()}}


def _state_but_blobs() -> dict[str, Any]:
    return {
        "jobs": list(Job.objects.order_by("pk").values_list("pk", "label", "state", "descriptor_digest")),
        "balances": list(Account.objects.order_by("pk").values_list("pk", "balance_micro")),
        "receipts": [(row[0], bytes(row[1])) for row in Receipt.objects.order_by("pk").values_list("digest", "envelope")],
        "log": [bytes(one) for one in LogLeaf.objects.order_by("index").values_list("hash", flat=True)],
    }


def _read(blob: Blob) -> bytes:
    with blob_open(blob) as file:
        return file.read()


@contextmanager
def wiped(tmp_path: Path, *, log_too: bool = True) -> Iterator[None]:
    """An empty database, no blobs, no keys; the published log too unless it is spared."""
    name, before = f"wiped_{uuid.uuid4().hex[:12]}", connection.settings_dict["NAME"]
    shutil.rmtree(tmp_path / "blobs", ignore_errors=True)
    if log_too:
        shutil.rmtree(tmp_path / "log", ignore_errors=True)
    (tmp_path / "coordinator.key").unlink()
    caches_clear()
    with _admin_connection() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    connections.close_all()
    settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connections.close_all()
        settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = before
        with _admin_connection() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_after_a_restore_all_is_as_before_and_the_log_goes_on_in_another_epoch(tmp_path: Path) -> None:
    job = job_paid()
    before = state()
    backup = make(tmp_path)

    with wiped(tmp_path):
        restored = backup_restore(folder=backup, reason="a test of 2026-11-27", replace=False, report=lambda _: None)

        assert restored.faults == []
        assert state() == before
        assert (log_epoch(), checkpoint_latest().epoch) == (2, 2)  # type: ignore[union-attr]
        (document,) = epoch_documents()
        (statement,) = epochs_open([document["envelope"]], keys=[coordinator_key.coordinator_public_key()], authority="testserver")
        assert statement.reason == "a test of 2026-11-27"
        assert statement.published is not None
        assert Job.objects.get().canonical_replica_id == job.canonical_replica_id
        job_paid()
        assert [str(fault) for fault in LedgerVerification().faults()] == []


def test_nobody_is_signed_in_after_a_restore(tmp_path: Path) -> None:
    client = Client()
    client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/account/").status_code == 200
    backup = make(tmp_path)
    with wiped(tmp_path):
        backup_restore(folder=backup, reason="r", replace=False, report=lambda _: None)
        assert client.get("/account/").status_code == 302


def test_what_is_left_is_restored_without_copies_that_have_rotted_if_so_told(tmp_path: Path) -> None:
    job_paid()
    (rotted,) = Blob.objects.filter(data=None).values_list("pk", flat=True)
    before = _state_but_blobs()
    backup = make(tmp_path)
    _blob_shortened(backup)
    said: list[str] = []
    with wiped(tmp_path):
        with pytest.raises(BackupDamagedError, match="--without-damaged-blobs"):
            backup_restore(folder=backup, reason="r", replace=False, report=said.append)
        restored = backup_restore(folder=backup, reason="r", replace=False, report=said.append, without_damaged_blobs=True)
        assert restored.faults == []
        assert _state_but_blobs() == before
    assert f"Not restored, as its copy is missing or damaged: {rotted}" in said


def test_an_older_backup_than_what_was_published_is_continued_under_another_name(tmp_path: Path) -> None:
    job_paid()
    backup = make(tmp_path)
    job_paid()
    published = Checkpoint.objects.order_by("-pk").values_list("size", flat=True)[0]

    with wiped(tmp_path, log_too=False):
        restored = backup_restore(folder=backup, reason="lost a day", replace=False, report=lambda _: None)
        assert restored.faults == []
        assert restored.manifest.log is not None
        assert restored.manifest.log.size < published
        assert log_epoch() == 2
        published_check(epoch=2)
        assert Job.objects.count() == 1


def test_keys_are_kept_as_they_are_and_nobody_else_reads_anything(tmp_path: Path) -> None:
    key = (tmp_path / "coordinator.key").read_bytes()
    backup = make(tmp_path)
    assert (backup / "keys" / "coordinator.key").read_bytes() == key
    for path in [backup, *backup.glob("keys/**"), backup / "manifest.json", backup / "database.dump"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    with wiped(tmp_path):
        backup_restore(folder=backup, reason="r", replace=False, report=lambda _: None)
    assert (tmp_path / "coordinator.key").read_bytes() == key
    assert stat.S_IMODE((tmp_path / "coordinator.key").stat().st_mode) == 0o600


def test_the_next_backup_copies_new_blobs_only_and_leaves_nothing_half(tmp_path: Path) -> None:
    job_paid()
    first = make(tmp_path)
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "backups" / "blobs").rglob("*") if path.is_file()}
    assert copies
    (tmp_path / "backups" / ".making-left").mkdir()
    second = make(tmp_path, seconds=2)
    assert {path: path.stat().st_mtime_ns for path in copies} == copies
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == sorted(["blobs", first.name, second.name])
    assert backup_check(folder=first).blobs == backup_check(folder=second).blobs == len(copies)


def test_a_backup_says_what_it_is(tmp_path: Path) -> None:
    job_paid()
    manifest = manifest_read(make(tmp_path), key=coordinator_key.coordinator_public_key())
    assert (manifest.origin, manifest.version) == ("http://testserver", 1)
    assert manifest.log is not None
    assert manifest.log.origin == "testserver/ledger"
    assert {file.name for file in manifest.files} >= {"database.dump", "blobs.txt", "keys/coordinator.key", "log/epoch-1/checkpoint"}


@pytest.mark.parametrize("how", ["damaged", "missing", "unreadable"])
def test_bytes_that_the_store_has_lost_are_named_and_all_else_is_backed_up(tmp_path: Path, how: str) -> None:
    job_paid()
    (lost,) = Blob.objects.filter(data=None).values_list("pk", flat=True)
    path = tmp_path / "blobs" / "sha256" / lost[7:9] / lost[7:]
    if how == "damaged":
        path.write_bytes(b"other bytes")
    else:
        path.unlink()
    if how == "unreadable":
        path.mkdir()  # an error of the disk's, as far as a reader can tell
    with pytest.raises(BackupBlobsLostError, match=lost):
        make(tmp_path)
    (made,) = [path for path in (tmp_path / "backups").iterdir() if path.name != "blobs"]
    assert backup_check(folder=made).blobs == 0
    assert (made / "blobs-lost.txt").read_text() == f"{lost}\n"
    assert "blobs-lost.txt" in {file.name for file in manifest_read(made, key=coordinator_key.coordinator_public_key()).files}


def test_a_copy_that_has_rotted_is_made_anew_on_the_day_on_which_it_is_read_again(tmp_path: Path) -> None:
    job_paid()
    make(tmp_path)
    (copy,) = (tmp_path / "backups" / "blobs").glob("*/*")
    whole = copy.read_bytes()
    copy.write_bytes(b"x" * len(whole))
    for day in range(1, 17):
        backup_make(root=tmp_path / "backups", now=timezone.now() + timedelta(days=day), report=lambda _: None)
    assert copy.read_bytes() == whole


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir(mode=0o755)
    with pytest.raises(BackupPlaceError, match="chmod 700"):
        make(tmp_path)


def test_two_backups_of_one_second_are_refused(tmp_path: Path) -> None:
    now = timezone.now()
    backup_make(root=tmp_path / "backups", now=now, report=lambda _: None)
    with pytest.raises(BackupPlaceError, match="already"):
        backup_make(root=tmp_path / "backups", now=now, report=lambda _: None)


def _shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _dump_shortened(folder: Path) -> None:
    _shortened(folder / "database.dump")


def _key_shortened(folder: Path) -> None:
    _shortened(folder / "keys" / "coordinator.key")


def _blob_shortened(folder: Path) -> None:
    _shortened(next((folder.parent / "blobs").glob("*/*")))


def _manifest_changed(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    document["payload"] = document["payload"][:-8] + "AAAAAAA="
    (folder / "manifest.json").write_text(json.dumps(document))


DAMAGES: dict[str, tuple[Callable[[Path], None], type[BackupError]]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), BackupDamagedError),
    "another manifest": (_manifest_changed, BackupDamagedError),
    "a shorter dump": (_dump_shortened, BackupDamagedError),
    "no list of blobs": (lambda folder: (folder / "blobs.txt").unlink(), BackupDamagedError),
    "another key": (_key_shortened, BackupDamagedError),
    "no blobs": (lambda folder: shutil.rmtree(folder.parent / "blobs"), BackupDamagedError),
    "another blob": (_blob_shortened, BackupDamagedError),
}


def test_whatever_is_damaged_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    job_paid()
    whole = make(tmp_path)
    before = state()
    for name, (damage, expected) in DAMAGES.items():
        copy = tmp_path / "copies" / name
        shutil.copytree(whole.parent, copy)
        damage(copy / whole.name)
        with pytest.raises(expected):
            backup_restore(folder=copy / whole.name, reason="r", replace=True, report=lambda _: None)
    assert state() == before
    assert log_epoch() == 1


def test_another_portals_backup_is_refused(tmp_path: Path, settings: Any) -> None:
    backup = make(tmp_path)
    secret, origin = settings.SECRET_KEY, settings.NEXA_ORIGIN
    settings.SECRET_KEY = "another"
    with pytest.raises(BackupForeignError, match="NEXA_SECRET_KEY is not the one"):
        backup_check(folder=backup)
    settings.SECRET_KEY, settings.NEXA_ORIGIN = secret, "https://elsewhere.example"
    with pytest.raises(BackupForeignError, match="under the same"):
        backup_check(folder=backup)
    settings.NEXA_ORIGIN = origin
    assert backup_check(folder=backup)


def test_a_later_releases_backup_is_refused(tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('jobs', '9999_of_the_future', now())")
    backup = make(tmp_path)
    with pytest.raises(BackupForeignError, match="9999_of_the_future"):
        backup_check(folder=backup)


def test_what_is_there_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    job_paid()
    backup = make(tmp_path)
    job_paid()
    with pytest.raises(RestoreTargetError, match="tables"):
        backup_restore(folder=backup, reason="r", replace=False, report=lambda _: None)
    assert Job.objects.count() == 2
    restored = backup_restore(folder=backup, reason="r", replace=True, report=lambda _: None)
    assert restored.faults == []
    assert Job.objects.count() == 1


def test_blobs_that_are_there_are_not_mixed_with_others_unless_told(tmp_path: Path) -> None:
    backup = make(tmp_path)
    with wiped(tmp_path):
        path = tmp_path / "blobs" / "sha256" / "ab" / ("ab" * 32)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"of another portal")
        with pytest.raises(RestoreTargetError, match="empty store"):
            backup_restore(folder=backup, reason="r", replace=False, report=lambda _: None)


def test_another_key_in_its_place_is_not_overwritten(tmp_path: Path) -> None:
    backup = make(tmp_path)
    (tmp_path / "coordinator.key").write_bytes(b"AAAA")
    with pytest.raises(RestoreTargetError, match="another key"):
        backup_restore(folder=backup, reason="r", replace=True, report=lambda _: None)


def test_nothing_is_restored_under_somebody_who_works(tmp_path: Path) -> None:
    backup = make(tmp_path)
    other = connection.copy()
    other.ensure_connection()
    try:
        with pytest.raises(RestoreTargetError, match="stop web, workers and beat"):
            backup_restore(folder=backup, reason="r", replace=True, report=lambda _: None)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("script", "found"), [("echo 'pg_dump (PostgreSQL) 9.6'", "or later"), ("exit 3", "ended with 3"), (None, "Expected the program")]
)
def test_programs_that_do_not_fit_the_server_are_named(tmp_path: Path, settings: Any, script: str | None, found: str) -> None:
    settings.NEXA_POSTGRES_BIN = str(tmp_path / "bin")
    (tmp_path / "bin").mkdir()
    if script is not None:
        for name in ("pg_dump", "pg_restore"):
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "bin" / name).chmod(0o755)
    with pytest.raises(BackupToolError, match=found):
        tools_check()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_paid()
    call_command("backup_make", str(tmp_path / "backups"))
    made = capsys.readouterr().out.splitlines()[-1].removeprefix("Backup: ")
    call_command("backup_restore", made, "--check")
    assert "is whole: 1 blobs" in capsys.readouterr().out
    with pytest.raises(CommandError, match="--reason"):
        call_command("backup_restore", made)
    with pytest.raises(CommandError, match="restore_target: The database has"):
        call_command("backup_restore", made, "--reason", "r")
    call_command("backup_restore", made, "--reason", "r", "--replace")
    assert "The log goes on as testserver/ledger/2." in capsys.readouterr().out
    (tmp_path / "backups").chmod(0o755)
    with pytest.raises(CommandError, match="backup_place"):
        call_command("backup_make", str(tmp_path / "backups"))
