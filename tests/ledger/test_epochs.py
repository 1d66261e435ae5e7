"""After a restore: the log goes on under another name, says what it continues, and nobody is told another history under the old one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from client.verification import bundle_verify
from jobs.models import Job
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_latest, checkpoint_publish, log_epoch, log_origin
from ledger.coordinator_key import coordinator_public_key
from ledger.epochs import epoch_begin
from ledger.models import Checkpoint, LogLeaf
from ledger.publication import PublishedAheadError
from ledger.verification import LedgerVerification
from tests.factories.bundles import bundle_bytes
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.ledger import entries_make
from tests.factories.receipts import replica_report
from workers.protocol import signed_note
from workers.protocol.epochs import Epoch, epochs_open
from workers.protocol.merkle import EMPTY_ROOT, leaf_hash, tree_root
from workers.protocol.strict_base64 import base64_decode


def publish(count: int) -> Checkpoint:
    entries_make(count)
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    return checkpoint


def hashes() -> list[bytes]:
    return [leaf_hash(bytes(data)) for data in LogLeaf.objects.order_by("index").values_list("item__data", flat=True)]


def restored(size: int) -> None:
    """As a backup from when the log had `size` leaves would leave the database; files stay as they are."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM ledger_checkpoint WHERE size > %s", [size])
        cursor.execute("DELETE FROM ledger_logleaf WHERE index >= %s RETURNING item_id", [size])
        lost = [item for (item,) in cursor.fetchall()]
        for statement in (
            "UPDATE ledger_account SET balance_micro = balance_micro - coalesce("
            "(SELECT sum(amount_micro) FROM ledger_posting WHERE account_id = ledger_account.id AND entry_id = ANY(%s)), 0)",
            "UPDATE ledger_entrytotal SET entries = ledger_entrytotal.entries - lost.entries,"
            " credited_micro = credited_micro - lost.credited FROM ("
            "SELECT kind, count(DISTINCT item_id) AS entries, coalesce(sum(amount_micro) FILTER (WHERE amount_micro > 0), 0) AS credited"
            " FROM ledger_entry e LEFT JOIN ledger_posting p ON p.entry_id = e.item_id WHERE e.item_id = ANY(%s) GROUP BY kind) lost"
            " WHERE lost.kind = ledger_entrytotal.kind",
            "DELETE FROM ledger_posting WHERE entry_id = ANY(%s)",
            "DELETE FROM ledger_entry WHERE item_id = ANY(%s)",
            "DELETE FROM ledger_logitem WHERE id = ANY(%s)",
        ):
            cursor.execute(statement, [lost])
        cursor.execute("SET session_replication_role = origin")


def statements() -> tuple[str, tuple[Epoch, ...]]:
    """As anybody reads them."""
    document = Client().get("/api/v1/ledger/epochs").json()
    envelopes = [epoch["envelope"] for epoch in document["epochs"]]
    found = epochs_open(envelopes, keys=[coordinator_public_key()], authority="testserver")
    assert [(epoch["number"], epoch["origin"]) for epoch in document["epochs"]] == [(one.number, one.origin) for one in found]
    return document["origin"], found


def begin(reason: str = "disk failure") -> str:
    out = io.StringIO()
    call_command("ledger_epoch_begin", "--reason", reason, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_without_a_restore_there_is_one_epoch() -> None:
    publish(1)
    assert log_epoch() == 1
    assert statements() == ("testserver/ledger", ())


def test_after_a_restore_the_log_goes_on_under_another_name(own_database: str) -> None:
    publish(3)
    lost = publish(4)
    restored(3)
    kept = hashes()
    with pytest.raises(PublishedAheadError):
        checkpoint_publish()
    said = begin()
    assert "testserver/ledger/2" in said
    assert "covers 3 leaves" in said
    first = checkpoint_latest()
    assert first is not None
    assert (first.epoch, first.size) == (2, 3)
    latest = publish(2)
    text = signed_note.note_open(latest.note.encode(), name="testserver/ledger/2", key=coordinator_public_key())
    assert signed_note.Checkpoint.from_text(text) == signed_note.Checkpoint("testserver/ledger/2", 5, tree_root(hashes()))
    assert hashes()[:3] == kept
    origin, [epoch] = statements()
    assert origin == epoch.origin == log_origin() == "testserver/ledger/2"
    assert (epoch.continues.origin, epoch.continues.size) == ("testserver/ledger", 3)
    assert base64_decode(epoch.continues.root) == tree_root(kept)
    assert (epoch.reason, epoch.published) == ("disk failure", lost.note)
    root = Path(settings.NEXA_LOG_ROOT)
    assert (root / "epoch-1" / "checkpoint").read_text() == lost.note  # what was published stays to be seen
    assert (root / "current" / "checkpoint").read_text() == latest.note
    assert Client().get("/api/v1/ledger/checkpoint").content.decode() == latest.note
    assert list(LedgerVerification().faults()) == []


def test_a_second_restore_to_before_the_first_one_takes_a_number_that_was_never_used(own_database: str) -> None:
    publish(3)
    publish(4)
    restored(3)
    begin()
    publish(2)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM ledger_epoch")
        cursor.execute("DELETE FROM ledger_checkpoint WHERE epoch = 2")
        cursor.execute("SET session_replication_role = origin")
    restored(3)
    with pytest.raises(PublishedAheadError, match="epoch 2 was published"):
        checkpoint_publish()
    begin("again")
    _, [epoch] = statements()
    assert (epoch.number, epoch.origin, epoch.continues.origin) == (3, "testserver/ledger/3", "testserver/ledger")
    assert epoch.published is not None
    assert epoch.published.startswith("testserver/ledger/2\n5\n")
    assert list(LedgerVerification().faults()) == []


@pytest.mark.django_db
def test_an_epoch_may_begin_with_nothing_in_the_log_and_nothing_published() -> None:
    begin()
    _, [epoch] = statements()
    assert (epoch.continues.size, base64_decode(epoch.continues.root), epoch.published) == (0, EMPTY_ROOT, None)
    assert publish(1).note.startswith("testserver/ledger/2\n1\n")


@pytest.mark.django_db
@pytest.mark.parametrize("reason", ["", "x" * 1001])
def test_a_reason_is_needed_and_short(reason: str) -> None:
    with pytest.raises(CommandError, match="Expected a reason of 1 to 1000 characters"):
        begin(reason)
    with pytest.raises(ValueError, match="Expected a reason"):
        epoch_begin(reason=reason)
    assert log_epoch() == 1


@pytest.mark.django_db
def test_results_verify_offline_in_a_later_epoch(tmp_path: Path) -> None:
    job = job_make(verification={"copies": 1, "quorum": 1})
    replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    checkpoint_publish()
    begin()
    path = tmp_path / "b.zip"
    path.write_bytes(bundle_bytes(Job.objects.get(pk=job.pk)))
    report = bundle_verify(path, coordinator_key_id=coordinator_public_key().key_id)
    assert report.replicas[0].paid_micro is not None
